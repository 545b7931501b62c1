"""What a conversion would do: which layers go on which hardware, which stay digital, which are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mdls_cosim.analog import AnalogLayer, Composite, Hardware, MatrixProduct
from mdls_cosim.analog.composite import open_composites
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.network.chips import copied
from mdls_cosim.network.converters import registered
from mdls_cosim.network.convertibility import WHOLE, digital_reason, matches, matrix_layers, refusal, unregistered
from mdls_cosim.network.written_products import open_products

Rules = Mapping[str, Hardware | Mapping[str, Any] | None]

_NAMED = 3
"""Most refused layers that a message names."""


@dataclass(frozen=True)
class ConversionPlan:
    """A copy of a model, opened up, and what becomes of each of its layers. Nothing is programmed."""

    whole: nn.Sequential
    """Holds the copy, so that the model itself may be replaced as any other layer."""
    originals: dict[Composite, nn.Module]
    """What every opened module was."""
    layers: dict[nn.Module, list[str]]
    """Every layer with the names that rules may use, its own first."""
    chosen: dict[nn.Module, Hardware]
    """Layers that go on tiles."""
    kept: dict[nn.Module, str]
    """Layers that stay digital, and why."""
    uncounted: frozenset[nn.Module]
    """Those of `kept` that no rule chose."""
    attention_on_tiles: bool
    """Products of attention are asked for on tiles, for all layers or for some."""
    untraced: dict[str, str]
    """With these, the modules whose own products torch.fx cannot see, and why."""

    @property
    def has_no_matrix(self) -> bool:
        """No layer can be on tiles, or is already, whatever the rules."""
        digital = len(self.kept) == len(self.uncounted) and not self.chosen
        return digital and not any(isinstance(layer, AnalogLayer) for layer in self.layers)

    @classmethod
    def of(cls, model: nn.Module, hardware: Hardware, rules: Rules | None = None) -> ConversionPlan:
        """The plan of `convert(model, hardware, rules)`, with the same arguments and errors."""
        if not isinstance(model, nn.Module):
            raise InputError("expected a torch.nn.Module", where="model", value=type(model).__name__)
        hardware = Hardware.checked(hardware)
        choices = _choices(rules, hardware)
        whole = nn.Sequential(copied(model))
        originals = open_composites(whole, registered)
        wanted = any(each is not None and each.attention == "tiles" for each in (hardware, *choices.values()))
        untraced = open_products(whole[0], registered) if wanted else {}
        layers = matrix_layers(whole[0])
        _check_patterns(choices, layers)
        known = {id(each) for each in (*whole.modules(), *whole.parameters(), *whole.buffers())}
        chosen: dict[nn.Module, Hardware] = {}
        kept: dict[nn.Module, str] = {}
        uncounted: set[nn.Module] = set()
        refused: dict[str, str] = {}
        for module, names in layers.items():
            pattern = next((pattern for pattern in choices if matches(pattern, names)), None)
            under = hardware if pattern is None else choices[pattern]
            if (reason := digital_reason(module, unregistered(module, known))) is not None:
                kept[module] = reason
                uncounted.add(module)
            elif under is None:
                kept[module] = f"by rule {pattern!r}"
            elif isinstance(module, MatrixProduct) and under.attention == "digital":
                kept[module] = "attention='digital'"
            elif (reason := refusal(module)) is not None:
                refused[names[0] or WHOLE] = f"({type(module).__name__}): {reason}"
            else:
                chosen[module] = under
        if refused:
            raise _refusals(refused)
        for under in chosen.values():
            under.tile_model()
        opened = {
            names[0] or WHOLE: each
            for each, names in layers.items()
            if isinstance(each, Composite) and not chosen.keys().isdisjoint(each.modules())
        }
        _check_finite(opened | {layers[module][0] or WHOLE: module for module in chosen})
        return cls(whole, originals, layers, chosen, kept, frozenset(uncounted), wanted, untraced)


def check(model: nn.Module, hardware: Hardware, rules: Rules | None = None) -> None:
    """Raise what `convert(model, hardware, rules)` would raise, without programming anything.

    Raises:
        ConfigError: a pattern that matches no layer; hardware that its rung cannot compute.
        InputError: `hardware` is not a Hardware, a rule is none, weights or biases are not finite.
        NotAvailable: layers with matrices that cannot be put on tiles, and that no rule keeps digital.
    """
    ConversionPlan.of(model, hardware, rules)


def check_rules(model: nn.Module, patterns: Iterable[str]) -> None:
    """ConfigError if a pattern matches no layer of `model`, under the names that `convert` uses."""
    whole = nn.Sequential(copied(model))
    open_composites(whole, registered)
    _check_patterns(patterns, matrix_layers(whole[0]))


def _choices(rules: Rules | None, hardware: Hardware) -> dict[str, Hardware | None]:
    """The hardware of every rule; None: digital."""
    if rules is not None and not isinstance(rules, Mapping):
        raise InputError(
            "expected a dict of layer-name patterns", where="rules", value=type(rules).__name__,
            hint='For example rules={"head": None}',
        )  # fmt: skip
    return {pattern: _choice(choice, hardware, pattern) for pattern, choice in (rules or {}).items()}


def _choice(choice: Any, hardware: Hardware, pattern: Any) -> Hardware | None:
    where = f"rules[{pattern!r}]"
    if not isinstance(pattern, str):
        raise InputError("expected a pattern of layer names, a string", where=where, value=type(pattern).__name__)
    if choice is None or isinstance(choice, Hardware):
        return choice
    if isinstance(choice, Mapping):
        return hardware.replace(**{str(name): value for name, value in choice.items()})
    raise InputError("a rule gives a Hardware, a dict of changes, or None", where=where, value=type(choice).__name__)


def _check_patterns(rules: Iterable[str], layers: Mapping[nn.Module, list[str]]) -> None:
    for pattern in rules:
        if not any(matches(pattern, names) for names in layers.values()):
            shown = list(dict.fromkeys(alias or WHOLE for names in layers.values() for alias in names))
            close = difflib.get_close_matches(pattern.replace("*", ""), shown, n=3, cutoff=0.3) or shown[:5]
            raise ConfigError(
                "a rule matches no layer",
                where="rules",
                value=pattern,
                limit="a pattern of layer names, as of fnmatch",
                hint=f"layers with such names: {', '.join(close)}" if close else "the model has no layers",
            )


def _refusals(refused: Mapping[str, str]) -> NotAvailable:
    shown = [f"{name} {reason}" for name, reason in list(refused.items())[:_NAMED]]
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    first = next(iter(refused))
    return NotAvailable(
        f"no form on tiles for {'; '.join(shown)}{more}",
        hint=f'Keep it digital with the rule "{first}": None (TOML: "{first}" = "digital"), or replace it before the '
        "conversion.",
    )


def _check_finite(layers: Mapping[str, nn.Module]) -> None:
    """InputError naming the layers whose weights or biases are not finite."""
    wrong = []
    for name, layer in layers.items():
        for part, values in layer.named_parameters():
            if count := int((~torch.isfinite(values.detach())).sum()):
                wrong.append(f"{name}.{part} ({count} of {values.numel()})")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise InputError(
            "weights or biases that are not finite cannot be programmed", where=f"{', '.join(wrong[:_NAMED])}{more}"
        )
