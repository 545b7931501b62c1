"""A torch model onto memristor hardware."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from mdls_cosim.analog import AnalogConv2d, AnalogLayer, AnalogLinear, Hardware
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.network.calibrate import calibrate
from mdls_cosim.network.chips import layer_seed
from mdls_cosim.network.conversion import ConversionReport, ConvertedLayer, SkippedLayer

Rules = Mapping[str, Hardware | Mapping[str, Any] | None]

CONVERTERS: dict[type[nn.Module], Callable[[Any, Hardware, int], AnalogLayer]] = {
    nn.Linear: AnalogLinear.from_linear,
    nn.Conv2d: AnalogConv2d.from_conv,
}
"""What becomes what. Subclasses are left out: they may compute something else with the same weights."""

READS_ITS_CHILDREN = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules that take the weights of their children and never call them: an analog child would be passed over."""


def convert(
    model: nn.Module, hardware: Hardware, rules: Rules | None = None, seed: int = 0, calibration: Any = None
) -> tuple[nn.Module, ConversionReport]:
    """A copy of a model with its linear layers and convolutions on tiles, and the report of what happened.

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
    """
    rules = dict(rules or {})
    converted_model = copy.deepcopy(model)
    names = _names(converted_model)
    layers = {
        module: aliases
        for module, aliases in names.items()
        if isinstance(module, AnalogLayer) or type(module) in CONVERTERS or _has_parameters(module)
    }
    _check_patterns(rules, layers)
    choices = {pattern: _choice(choice, hardware, pattern) for pattern, choice in rules.items()}
    opaque = {child for module in names if isinstance(module, READS_ITS_CHILDREN) for child in module.modules()}

    replacements: dict[nn.Module, AnalogLayer] = {}
    converted, skipped = [], []
    for module, aliases in layers.items():
        name, kind = aliases[0], type(module).__name__
        pattern = next((pattern for pattern in rules if any(fnmatchcase(alias, pattern) for alias in aliases)), None)
        chosen = hardware if pattern is None else choices[pattern]
        reason = _reason_to_skip(module, module in opaque)
        if reason is None and chosen is None:
            reason = f"by rule {pattern!r}"
        if reason is not None or chosen is None:
            skipped.append(SkippedLayer(name, kind, reason or ""))
            continue
        chosen.tile_model()  # fails before any work is done
        layer = CONVERTERS[type(module)](module, chosen, layer_seed(seed, name))
        replacements[module] = layer
        converted.append(ConvertedLayer.of(name, layer))

    for parent in names:
        for child_name, child in list(parent._modules.items()):
            if child in replacements:
                parent._modules[child_name] = replacements[child]
    converted_model = replacements.get(converted_model, converted_model)
    if calibration is not None:
        calibrate(converted_model, calibration)
    return converted_model, ConversionReport(tuple(converted), tuple(skipped), seed, calibration is not None)


def _names(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module once, with all names it goes by."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def _has_parameters(module: nn.Module) -> bool:
    return any(parameter is not None for parameter in module._parameters.values())


def _reason_to_skip(module: nn.Module, opaque: bool) -> str | None:
    kind = type(module).__name__
    if isinstance(module, AnalogLayer):
        return "already analog"
    if type(module) not in CONVERTERS:
        if isinstance(module, tuple(CONVERTERS)):
            return f"{kind} is a subclass that may compute something else: stays digital"
        return f"no analog layer for {kind}: stays digital"
    if opaque:
        return "its parent takes the weights without calling the layer: stays digital"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "carries hooks, which an analog layer would lose: stays digital"
    return None


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
