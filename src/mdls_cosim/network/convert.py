"""A torch model onto memristor hardware."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.analog import (
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv3d,
    AnalogConvTranspose1d,
    AnalogConvTranspose2d,
    AnalogConvTranspose3d,
    AnalogLayer,
    AnalogLinear,
    AnalogProduct,
    Composite,
    Hardware,
    MatrixProduct,
)
from mdls_cosim.analog.composite import has_hooks, layer_seed, open_composites, reparametrised, replace_modules
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.network.calibrate import calibrate
from mdls_cosim.network.chips import copied
from mdls_cosim.network.conversion import ConversionReport, ConvertedLayer, SkippedLayer
from mdls_cosim.network.digital_products import DigitalProducts
from mdls_cosim.network.moments import give_method

Rules = Mapping[str, Hardware | Mapping[str, Any] | None]

CONVERTERS: dict[type[nn.Module], Callable[[Any, Hardware, int], AnalogLayer]] = {
    nn.Linear: AnalogLinear.from_linear,
    nn.Conv1d: AnalogConv1d.from_conv,
    nn.Conv2d: AnalogConv2d.from_conv,
    nn.Conv3d: AnalogConv3d.from_conv,
    nn.ConvTranspose1d: AnalogConvTranspose1d.from_conv,
    nn.ConvTranspose2d: AnalogConvTranspose2d.from_conv,
    nn.ConvTranspose3d: AnalogConvTranspose3d.from_conv,
    MatrixProduct: AnalogProduct.from_digital,
}
"""What becomes what, beside the kinds of `Composite`. Subclasses are left out: they may compute something else."""

DIGITAL = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag)
"""What has weights and no matrix product: digital in any hardware."""


def convert(
    model: nn.Module, hardware: Hardware, rules: Rules | None = None, seed: int = 0, calibration: Any = None
) -> tuple[nn.Module, ConversionReport]:
    """A copy of a model with its matrices and convolutions on tiles, and the report of what happened.

    Recurrent layers, attention and transformer encoder layers are opened: each of their matrices is a layer with a name
    of its own (`lstm.ih_l0`, `attention.q_proj`), and a rule for the whole holds for all of them.

    Args:
        model: stays as it is.
        hardware: under every layer that no rule matches.
        rules: layer-name pattern (as of `fnmatch`) to a Hardware, to a dict of changes to `hardware`, or to None, which
            keeps the layer digital. The first pattern that matches counts.
        seed: draws the programming error.
        calibration: inputs, (inputs, labels) or an iterable of batches on which DACs and ADCs find their ranges;
            None: each layer takes the first input that it is given.

    Raises:
        ConfigError: a pattern that matches no layer; hardware that its rung cannot compute.
        InputError: no hardware but a tile; nothing to calibrate on.
        NotAvailable: layers with matrices that cannot be put on tiles, and that no rule keeps digital.
    """
    hardware = Hardware.checked(hardware)
    rules = dict(rules or {})
    # In a container, so that the model itself may be replaced as any other layer.
    whole = nn.Sequential(copied(model))
    originals = open_composites(whole)
    layers = _layers(whole[0])
    _check_patterns(rules, layers)
    choices = {pattern: _choice(choice, hardware, pattern) for pattern, choice in rules.items()}

    chosen: dict[nn.Module, Hardware] = {}
    kept: dict[nn.Module, str] = {}
    refused: list[str] = []
    for module, aliases in layers.items():
        pattern = next((pattern for pattern in rules if any(fnmatchcase(alias, pattern) for alias in aliases)), None)
        under = hardware if pattern is None else choices[pattern]
        if (reason := _digital_reason(module)) is not None:
            kept[module] = reason
        elif under is None:
            kept[module] = f"by rule {pattern!r}"
        elif isinstance(module, MatrixProduct) and under.attention == "digital":
            kept[module] = "attention='digital'"
        elif (reason := _refusal(module)) is not None:
            refused.append(f"{aliases[0] or '(model)'} ({type(module).__name__}): {reason}")
        else:
            under.tile_model()  # fails before any work is done
            chosen[module] = under
    if refused:
        raise NotAvailable(
            f"no form on tiles for {'; '.join(refused)}",
            hint='Keep a layer digital with the rule "name": None, or replace it before the conversion.',
        )

    replacements = {
        module: CONVERTERS[type(module)](module, under, layer_seed(seed, layers[module][0]))
        for module, under in chosen.items()
    }
    _share_scale({layer: layer_seed(seed, layers[module][0]) for module, layer in replacements.items()})
    replace_modules(whole, replacements)
    closed = {opened: original for opened, original in originals.items() if not opened.on_tiles}
    skipped = _skipped(whole[0], layers, kept, closed)
    replace_modules(whole, closed)
    for module in whole.modules():
        # Its fast path would take the weights of its layers, and hand them nested tensors.
        if isinstance(module, nn.TransformerEncoder) and any(isinstance(part, Composite) for part in module.modules()):
            module.enable_nested_tensor = module.use_nested_tensor = False
    converted = {layers[module][0]: layer for module, layer in replacements.items()}
    products = DigitalProducts(
        _watched(converted, {layers[module][0]: module for module in kept if _digital_reason(module)})
    )
    if calibration is not None:
        with products:
            calibrate(whole[0], calibration)
    give_method(whole[0])
    report = ConversionReport(
        tuple(ConvertedLayer.of(name, layer) for name, layer in converted.items()),
        skipped,
        seed,
        calibrated=calibration is not None,
        unread=tuple(name for name, layer in converted.items() if calibration is not None and not layer.counters.reads),
        digital_products=tuple(products.found),
    )
    return whole[0], report


def _watched(converted: Mapping[str, AnalogLayer], digital: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weights that nothing should be multiplied by in the running model, but through their layers."""
    found = {f"{name}.weight": layer.weight for name, layer in converted.items()}
    for name, module in digital.items():
        if not isinstance(module, AnalogLayer):
            found |= {f"{name}.{part}": each for part, each in module.named_parameters(recurse=False)}
            found |= {f"{name}.{part}": each for part, each in module.named_buffers(recurse=False)}
    return {name.removeprefix("."): each.detach() for name, each in found.items()}


def _layers(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Everything with weights of its own once, under all names that a rule may call it by, its own name first.

    Parts of what was opened go by the names of the whole too; other layers with parts stand for all that is in them.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    hidden = {
        part for module in names if isinstance(module, _kinds()) for part in module.modules() if part is not module
    }
    layers = {
        module: list(aliases)
        for module, aliases in names.items()
        if module not in hidden
        and (isinstance(module, (AnalogLayer, *_kinds())) or _weights(module) or _matrix_buffers(module))
    }
    for module, aliases in names.items():
        for part in module.modules() if isinstance(module, Composite) else ():
            if part is not module and part in layers:
                layers[part] += aliases
    return layers


def _kinds() -> tuple[type[nn.Module], ...]:
    """What can be put on tiles."""
    return (*CONVERTERS, *Composite.kinds)


def _weights(module: nn.Module) -> list[Any]:
    """What a module itself computes with; None for what is packed out of sight."""
    if "quantized" in type(module).__module__.split("."):
        return [None]
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def _matrix_buffers(module: nn.Module) -> list[str]:
    """Names of a module's own buffers that may be weights: masks, tables of positions and caches look the same."""
    return [
        name
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.is_floating_point() and not _vector(buffer)
    ]


def _digital_reason(module: nn.Module) -> str | None:
    """Why a module has no place on tiles, if it has none."""
    kind = type(module).__name__
    if isinstance(module, AnalogLayer):
        return "already analog"
    if isinstance(module, DIGITAL):
        return f"{kind} has no matrix product: digital"
    if isinstance(module, _kinds()) or not all(map(_vector, _weights(module))):
        return None
    if matrices := _matrix_buffers(module):
        return f"{kind} holds {', '.join(matrices)} as buffers: what it multiplies by them is digital"
    return f"{kind} has no matrix of its own: digital"


def _vector(weights: Any) -> bool:
    """One number, or one row of them."""
    if weights is None or isinstance(weights, nn.parameter.UninitializedParameter):
        return False
    return sum(size > 1 for size in weights.shape) < 2


def _refusal(module: nn.Module) -> str | None:
    """Why a module that has a matrix cannot be put on tiles, if so."""
    if any(each is None for each in _weights(module)):
        return "its weights are packed"
    if any(isinstance(each, nn.parameter.UninitializedParameter) for each in _weights(module)):
        return "its weights are not initialised yet; run one batch"
    if (reason := reparametrised(module)) is not None:
        return reason
    if type(module) not in _kinds():
        subclass = isinstance(module, _kinds())
        return "a subclass that may compute something else" if subclass else "its matrix is in no layer that is known"
    if has_hooks(module):
        return "carries hooks, which would be lost"
    if type(module) not in CONVERTERS or not _weights(module):
        return None
    weight: Any = module.weight
    if type(weight.data) is not torch.Tensor or not weight.is_floating_point() or weight.is_meta:
        return f"its weights are no plain numbers but {type(weight.data).__name__} of {weight.dtype} on {weight.device}"
    if not weight.numel():
        return f"it has no weights: {tuple(weight.shape)}"
    return None


def _share_scale(seeds: Mapping[AnalogLayer, int]) -> None:
    """Programs the layers with scaling "network" anew, to the largest scale among them."""
    sharing = [layer for layer in seeds if layer.hardware.scaling == "network"]
    scales = [float(layer.weight_scale.max()) for layer in sharing if bool(layer.weight.any())]
    for layer in sharing:
        layer.network_scale = max(scales, default=None)
        layer.program(seeds[layer])


def _skipped(
    model: nn.Module,
    layers: Mapping[nn.Module, list[str]],
    kept: Mapping[nn.Module, str],
    closed: Mapping[Composite, nn.Module],
) -> tuple[SkippedLayer, ...]:
    """What stays digital; what was opened and is `closed` again, as a whole."""
    skipped: list[SkippedLayer] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside or (module not in closed and module not in kept):
            continue
        if module in closed or isinstance(module, _kinds()):
            inside.update(module.modules())
        original = closed.get(module) if isinstance(module, Composite) else None
        # Every matrix of what is closed again was kept by a rule.
        told = module if original is None else next(part for part in module.modules() if type(part) is nn.Linear)
        skipped.append(SkippedLayer(name, type(original or module).__name__, kept[told]))
    return tuple(skipped)


def _choice(choice: Hardware | Mapping[str, Any] | None, hardware: Hardware, pattern: str) -> Hardware | None:
    if choice is None or isinstance(choice, Hardware):
        return choice
    if isinstance(choice, Mapping):
        return hardware.replace(**choice)
    raise InputError(
        "a rule gives a Hardware, a dict of changes, or None", where=f"rules[{pattern!r}]", value=type(choice).__name__
    )


def _check_patterns(rules: Mapping[str, Any], layers: Mapping[nn.Module, list[str]]) -> None:
    names = [alias for aliases in layers.values() for alias in aliases]
    for pattern in rules:
        if not any(fnmatchcase(name, pattern) for name in names):
            close = difflib.get_close_matches(pattern.replace("*", ""), names, n=3, cutoff=0.3) or names[:5]
            raise ConfigError(
                "a rule matches no layer",
                where="rules",
                value=pattern,
                limit="a pattern of layer names, as of fnmatch",
                hint=f"layers with such names: {', '.join(close)}" if close else "the model has no layers",
            )
