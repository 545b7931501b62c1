"""Where a fit looks for the parameters of a model: bounds that follow from what was measured, no first guess."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mdls_cosim.devices import (
    DataDriven,
    DynamicDevice,
    LinearIonDrift,
    MetastableSwitch,
    StanfordPku,
    Vteam,
    Yakopcic,
)
from mdls_cosim.errors import ConfigError


@dataclass(frozen=True)
class Scales:
    """The sizes of what was measured, over all loops of a fit."""

    voltage: float
    """Largest over the device [V]; over device and resistor where only that is known."""
    current: float
    """Largest [A]."""
    conductance: float
    """Largest I/V, away from 0 V [S]."""
    shortest: float
    """Of the periods [s]; of a loop that does not repeat, its duration."""
    longest: float
    """[s]"""


@dataclass(frozen=True)
class Free:
    """A parameter that is fitted, and between which bounds (SI)."""

    name: str
    low: float
    high: float
    scale: Literal["log", "linear"] = "log"

    def value(self, share: Any) -> Any:
        """The parameter at a share of the way from low to high, 0 - 1."""
        if self.scale == "log":
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share

    def share(self, value: Any) -> Any:
        """The inverse of `value`."""
        if self.scale == "log":
            return np.log(value / self.low) / np.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Space:
    """One form of a model: the choices made, and the parameters that are free."""

    device: type[DynamicDevice]
    free: tuple[Free, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Choices, and parameters that the data cannot tell from others."""
    remark: str = ""
    """What was fixed, and why, for the reader."""

    def population(self, shares: np.ndarray) -> DynamicDevice:
        """The devices at `shares` (candidates, free) of the bounds, their parameters (candidates, 1)."""
        own = {each.name: each.value(shares[:, [place]]) for place, each in enumerate(self.free)}
        return self.device(**self.fixed).varied(own)

    def chosen(self, shares: np.ndarray) -> DynamicDevice:
        """The one device at `shares` (free,), checked as any configuration."""
        own: dict[str, Any] = {
            each.name: float(each.value(share)) for each, share in zip(self.free, shares, strict=False)
        }
        return self.device(**self.fixed, **own)


def _rates(scales: Scales) -> tuple[float, float]:
    """From hardly seen in the longest period to over in a hundred-thousandth of the shortest."""
    return 1e-2 / scales.longest, 1e5 / scales.shortest


def _metastable_switch(scales: Scales) -> list[Space]:
    volt, g = scales.voltage, scales.conductance
    share = 0.5
    free = (
        # Noise makes the largest I/V too large, so the least resistance may lie above its inverse.
        Free("on_resistance", 0.01 * share / g, 1.5 * share / g),
        Free("off_resistance", 2 * share / g, 1e4 * share / g),
        Free("on_voltage", 0.01 * volt, volt, "linear"),
        Free("off_voltage", 0.01 * volt, volt, "linear"),
        Free("slope_voltage", 0.01 * volt, 0.15 * volt),
        Free("time_constant", 1e-5 * scales.shortest, 10 * scales.longest),
        Free("forward_current", 1e-5 * scales.current, scales.current),
        Free("reverse_current", 1e-5 * scales.current, scales.current),
        Free("forward_slope", 0.3 / volt, 20 / volt),
        Free("reverse_slope", 0.3 / volt, 20 / volt),
    )
    remark = "memory_share is fixed at 0.5: it only scales resistances and diode currents"
    return [Space(MetastableSwitch, free, {"memory_share": share}, remark)]


def _vteam(scales: Scales) -> list[Space]:
    volt, g = scales.voltage, scales.conductance
    low, high = _rates(scales)
    free = (
        Free("on_resistance", 0.05 / g, 1.5 / g),
        Free("off_resistance", 2 / g, 5e3 / g),
        Free("on_voltage", -0.01 * volt, -volt),
        Free("off_voltage", 0.01 * volt, volt),
        Free("on_rate", low, high),
        Free("off_rate", low, high),
        Free("on_exponent", 1.0, 10.0, "linear"),
        Free("off_exponent", 1.0, 10.0, "linear"),
    )
    return [Space(Vteam, free, {"conduction": kind}) for kind in ("linear", "exponential")]


def _yakopcic(scales: Scales) -> list[Space]:
    volt = scales.voltage
    low, high = _rates(scales)
    free = (
        Free("positive_amplitude", 0.01 * scales.current, 1e2 * scales.current),
        Free("negative_amplitude", 0.01 * scales.current, 1e2 * scales.current),
        Free("nonlinearity", 0.05 / volt, 10 / volt),
        Free("positive_voltage", 0.01 * volt, volt, "linear"),
        Free("negative_voltage", 0.01 * volt, volt, "linear"),
        Free("positive_rate", low, high),
        Free("negative_rate", low, high),
        Free("positive_onset", 0.0, 0.98, "linear"),
        Free("negative_onset", 0.0, 0.98, "linear"),
        Free("positive_decay", 0.0, 15.0, "linear"),
        Free("negative_decay", 0.0, 15.0, "linear"),
    )
    return [Space(Yakopcic, free, {"polarity": 1})]


def _linear_ion_drift(scales: Scales) -> list[Space]:
    g = scales.conductance
    # mu R_on I/D^2: crosses the device in a hundredth of the shortest to a hundred of the longest periods.
    drive = (10e-9) ** 2 * g / scales.current
    free = (
        Free("on_resistance", 0.05 / g, 1.5 / g),
        Free("off_resistance", 2 / g, 5e3 / g),
        Free("mobility", 1e-2 * drive / scales.longest, 1e3 * drive / scales.shortest),
    )
    remark = "thickness is fixed at 10 nm: only mobility/thickness^2 counts"
    return [Space(LinearIonDrift, free, {"window": "biolek"}, remark)]


def _data_driven(scales: Scales) -> list[Space]:
    volt, g = scales.voltage, scales.conductance
    low, high = _rates(scales)
    # With both targets at the ends the quadratic form is k s (R - R_end)^2: steepness and rate are one factor.
    free = (
        Free("on_resistance", 0.05 / g, 1.5 / g),
        Free("off_resistance", 2 / g, 5e3 / g),
        Free("positive_amplitude", 0.05 * volt, 5 * volt),
        Free("negative_amplitude", 0.05 * volt, 5 * volt),
        Free("positive_nonlinearity", 0.1 / volt, 5 / volt),
        Free("negative_nonlinearity", 0.1 / volt, 5 / volt),
        Free("on_rate", low / g, high / g),
        Free("off_rate", low / g, high / g),
        Free("on_growth", 0.1 / volt, 40 / volt),
        Free("off_growth", 0.1 / volt, 40 / volt),
        Free("on_target_slope", -20 / (g * volt), 0.0, "linear"),
        Free("off_target_slope", -1e3 / (g * volt), 0.0, "linear"),
        Free("on_target", 0.0, 20 / g, "linear"),
        Free("off_target", 0.0, 1e3 / g, "linear"),
    )
    fixed = {"form": "quadratic", "polarity": 1, "on_steepness": g, "off_steepness": g}
    return [Space(DataDriven, free, fixed, "on_steepness and off_steepness are fixed: each only scales its rate")]


def _stanford_pku(scales: Scales) -> list[Space]:
    volt = scales.voltage
    free = (
        Free("current_scale", scales.current, 1e3 * scales.current),
        Free("gap_scale", 0.1e-9, 1e-9),
        Free("voltage_scale", 0.1 * volt, 3 * volt),
        Free("velocity", 1e-6, 1e8),
        Free("set_enhancement", 2.0, 300.0),
        Free("reset_enhancement", 2.0, 300.0),
        Free("gap_coefficient", 0.01, 10.0),
        Free("thermal_resistance", 0.01 * 100 / (volt * scales.current), 1e3 / (volt * scales.current)),
    )
    fixed = {"least_field": 0.0}
    remark = "gaps, oxide and migration energy are fixed at those of 12 nm HfOx, and there is no least field"
    return [Space(StanfordPku, free, fixed, remark)]


_SPACES: dict[str, Callable[[Scales], list[Space]]] = {
    "metastable_switch": _metastable_switch,
    "yakopcic": _yakopcic,
    "vteam": _vteam,
    "linear_ion_drift": _linear_ion_drift,
    "data_driven": _data_driven,
    "stanford_pku": _stanford_pku,
}

FITTED_MODELS = tuple(_SPACES)
"""Keys of the models that a fit knows where to look for."""


def search_spaces(model: str, scales: Scales) -> list[Space]:
    """The forms of a model to fit, each with bounds from `scales`.

    Raises:
        ConfigError: no search space is written down for that model.
    """
    if model not in _SPACES:
        near = difflib.get_close_matches(model, FITTED_MODELS, n=1)
        raise ConfigError(
            "no model whose loops can be fitted",
            where="device",
            value=model,
            limit=", ".join(FITTED_MODELS),
            hint=f"Did you mean {near[0]}?" if near else None,
        )
    return _SPACES[model](scales)
