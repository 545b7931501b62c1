"""A torch model onto memristor hardware."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mdls_cosim.analog import AnalogLayer, Composite, Hardware
from mdls_cosim.analog.cell_lines import cell_lines
from mdls_cosim.analog.composite import layer_seed, replace_modules
from mdls_cosim.analog.plain_attributes import plain_attributes
from mdls_cosim.errors import ConversionWarning
from mdls_cosim.network.calibrate import calibrate
from mdls_cosim.network.chips import share_scale
from mdls_cosim.network.conversion import ConversionReport, ConvertedLayer, SkippedLayer
from mdls_cosim.network.conversion_plan import ConversionPlan, Rules
from mdls_cosim.network.converters import analog_parts, kinds, on_tiles
from mdls_cosim.network.convertibility import WHOLE
from mdls_cosim.network.digital_products import DigitalProducts, plain_tensors
from mdls_cosim.network.moments import give_method
from mdls_cosim.network.written_products import product_parts


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
            keeps the layer digital. The first pattern that matches counts. The model itself is "(model)".
        seed: draws the programming error.
        calibration: inputs, (inputs, labels) or an iterable of batches on which DACs and ADCs find their ranges;
            None: each layer takes the first input that it is given.

    Raises:
        ConfigError: a pattern that matches no layer; hardware that its rung cannot compute.
        InputError: `hardware` is not a Hardware; weights or biases are not finite; nothing to calibrate on; a
            registered converter that returns no layer on tiles.
        NotAvailable: layers with matrices that cannot be put on tiles, and that no rule keeps digital; a model that
            cannot be copied.

    Warns:
        ConversionWarning: the model has no layer with a weight matrix.
    """
    plan = ConversionPlan.of(model, hardware, rules)
    whole, layers, kept = plan.whole, plan.layers, plan.kept
    replacements = {module: on_tiles(module, under, seed, layers[module][0]) for module, under in plan.chosen.items()}
    converted: dict[str, AnalogLayer] = {}
    for module, layer in replacements.items():
        _keep_attributes(module, layer)
        converted |= analog_parts(layer, layers[module][0])
    for name, layer in converted.items():
        layer.label = name or WHOLE
    seeds = {layer: layer_seed(seed, name) for name, layer in converted.items()}
    for layer in share_scale(seeds):
        layer.program(seeds[layer])
    replace_modules(whole, replacements)
    for opened, original in plan.originals.items():
        _keep_attributes(original, opened)
    closed = {opened: original for opened, original in plan.originals.items() if not opened.on_tiles}
    skipped = (*_skipped(whole[0], layers, kept, closed), *_opened_forwards(whole[0], kept))
    replace_modules(whole, closed)
    for name, module in whole[0].named_modules():
        if isinstance(module, Composite):
            module.label = name or WHOLE
        # Its fast path would take the weights of its layers, and hand them nested tensors.
        if isinstance(module, nn.TransformerEncoder) and any(isinstance(part, Composite) for part in module.modules()):
            module.enable_nested_tensor = module.use_nested_tensor = False
    if plan.has_no_matrix:
        warnings.warn(
            f"{type(model).__name__} has no layer with a weight matrix: nothing is on tiles; str(report) says why",
            ConversionWarning,
            stacklevel=2,
        )
    products = DigitalProducts(whole[0], *_watched(model, whole[0], converted, plan))
    if calibration is not None:
        with products:
            calibrate(whole[0], calibration)
    give_method(whole[0])
    report = ConversionReport(
        tuple(ConvertedLayer.of(name, layer) for name, layer in converted.items()),
        skipped,
        seed,
        calibrated=calibration is not None and all(layer.calibrated for layer in converted.values()),
        unread=tuple(name for name, layer in converted.items() if calibration is not None and not layer.counters.reads),
        unranged=tuple(name for name, layer in converted.items() if calibration is not None and not layer.calibrated),
        cells=tuple(dict.fromkeys(line for layer in converted.values() for line in cell_lines(layer.hardware))),
        untraced={name or WHOLE: why for name, why in plan.untraced.items()},
        digital_products=(*products.weights, *(products.activations if plan.attention_on_tiles else ())),
    )
    return whole[0], report


def _keep_attributes(digital: nn.Module, new: nn.Module) -> None:
    """Gives a new layer the attributes that a user's code may have put on the old one, and reads of it."""
    for name, value in plain_attributes(digital).items():
        if not name.startswith("_") and not hasattr(new, name):
            object.__setattr__(new, name, value)


def _opened_forwards(model: nn.Module, kept: Mapping[nn.Module, str]) -> list[SkippedLayer]:
    """Users' modules of whose `forward` the products of activations alone are on tiles."""
    found = []
    for name, module in model.named_modules():
        parts = product_parts(module)
        on_tiles = [part for part in parts if isinstance(module.get_submodule(part), AnalogLayer)]
        if on_tiles and module not in kept:
            reason = f"its forward is digital but for {', '.join(on_tiles)}"
            found.append(SkippedLayer(name, type(module).__name__, reason))
    return found


def _watched(
    original: nn.Module, model: nn.Module, converted: Mapping[str, AnalogLayer], plan: ConversionPlan
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors that a model should multiply by only through layers on tiles; and those that rules keep digital."""
    found = {f"{name} of the float model": each for name, each in original.named_parameters()}
    found |= plain_tensors(model)
    digital = {plan.layers[module][0]: module for module in plan.uncounted}
    for name, module in digital.items():
        if not isinstance(module, AnalogLayer):
            found |= {f"{name}.{part}": each for part, each in module.named_parameters(recurse=False)}
            found |= {f"{name}.{part}": each for part, each in module.named_buffers(recurse=False)}
    found |= {f"{name}.weight": layer.weight for name, layer in converted.items()}
    named = {name.removeprefix("."): each for name, each in found.items()}
    silent = {name: each for name, each in (*model.named_parameters(), *model.named_buffers()) if name not in named}
    return named, silent


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
        if module in closed or isinstance(module, kinds()):
            inside.update(module.modules())
        original = closed.get(module) if isinstance(module, Composite) else None
        # Every matrix of what is closed again was kept by a rule.
        told = module if original is None else next(part for part in module.modules() if type(part) is nn.Linear)
        skipped.append(SkippedLayer(name, type(original or module).__name__, kept[told]))
    return tuple(skipped)
