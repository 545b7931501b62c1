"""How long a device keeps its state at a constant voltage, by its own rate equation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Device, DynamicDevice
from mdls_cosim.quantities import format_quantity

MOVED = 0.1
"""Share of the state range that the state moves within the lifetime."""
YEAR = 365.25 * 86400.0
"""[s]"""
KEEPS = 10 * YEAR
"""Lifetime at 0 V [s] below which a device counts as forgetful: ten years, the usual requirement of retention."""
WITHSTANDS = 1.0
"""Lifetime at the read voltage [s] below which reads count as disturbing: ten million reads of 100 ns."""

_POINTS = 2001


@dataclass(frozen=True)
class Lifetime:
    """Time in which the state moves by a tenth of its range, from the state where that is fastest."""

    voltage: float
    """Constant voltage over the device [V]."""
    temperature: float
    """[K]"""
    seconds: float
    """[s]; infinite where no state moves that far."""
    start: float
    """State (0 - 1) that it moves from; NaN where none moves that far."""
    end: float
    """State that it moves to."""

    @property
    def short(self) -> bool:
        """Whether it is below `KEEPS` at 0 V, or below `WITHSTANDS` at another voltage."""
        return self.seconds < (WITHSTANDS if self.voltage else KEEPS)

    def __str__(self) -> str:
        at = f"at {format_quantity(self.voltage, 'volt')}"
        if math.isinf(self.seconds):
            return f"{at} no state moves by {100 * MOVED:.0f} % of the range"
        return f"{at} the state moves from {self.start:.3g} to {self.end:.3g} in {duration_text(self.seconds)}"


def lifetime(device: Device, voltage: float, temperature: float = ROOM_TEMPERATURE) -> Lifetime | None:
    """The lifetime of a device at a constant voltage.

        T = min over x of the integral of dx/|rate(V, x)| from x over a tenth of the range, in the direction of the rate

    from one call of `state_rate` on a grid of 2001 states, by the trapezoidal rule. A state that comes to rest before
    it has moved so far has no lifetime (infinite).

    Args:
        device: any; without a rate equation (no DynamicDevice) there is no lifetime: None.
        voltage: over the device [V].
        temperature: [K].
    """
    if not isinstance(device, DynamicDevice):
        return None
    states = np.linspace(0.0, 1.0, _POINTS)
    rates = np.asarray(device.state_rate(np.full(_POINTS, float(voltage)), states, temperature), dtype=np.float64)
    rates = np.broadcast_to(rates, states.shape)
    steps = round(MOVED * (_POINTS - 1))
    best = (math.inf, math.nan, math.nan)
    for sign in (1, -1):
        # Forwards along the direction of motion: of falling states the grid is turned round.
        along, there = (sign * rates)[::sign], states[::sign]
        with np.errstate(divide="ignore", over="ignore"):
            slowness = np.where(along > 0, 1 / np.where(along > 0, along, 1.0), math.inf)
            spent = (slowness[1:] + slowness[:-1]) / (2 * (_POINTS - 1))
        windows = np.lib.stride_tricks.sliding_window_view(spent, steps).sum(-1)
        first = int(np.argmin(windows))
        if windows[first] < best[0]:
            best = (float(windows[first]), float(there[first]), float(there[first + steps]))
    return Lifetime(float(voltage), float(temperature), *best)


def lifetimes(device: Device | None, read_voltage: float, temperature: float = ROOM_TEMPERATURE) -> list[Lifetime]:
    """At 0 V and at plus and minus the read voltage [V]; empty for a device without a rate equation."""
    if device is None:
        return []
    found = [lifetime(device, voltage, temperature) for voltage in (0.0, abs(read_voltage), -abs(read_voltage))]
    return [each for each in found if each is not None]


def lifetime_warnings(found: list[Lifetime]) -> list[str]:
    """One sentence for each kind of lifetime that is short: what is lost, and which effect computes it."""
    warnings = [
        f"the device forgets: {forgets}; a network computes this with the effect own_retention"
        for forgets in found
        if forgets.short and not forgets.voltage
    ]
    disturbed = [each for each in found if each.short and each.voltage]
    if disturbed:
        worst = min(disturbed, key=lambda each: each.seconds)
        warnings.append(f"reads disturb the state: {worst}; a network computes this with the effect read_disturb")
    return warnings


def duration_text(seconds: float) -> str:
    """A time in a unit that suits it: "640 ns", "74 ms", "3.2 days", "12 years"."""
    for unit, size in (("years", YEAR), ("days", 86400.0), ("hours", 3600.0)):
        if seconds >= size:
            number = f"{seconds / size:.3g}"
            return f"{number} {unit.removesuffix('s') if number == '1' else unit}"
    return format_quantity(seconds, "second", 3)
