"""How a model agrees with a measured loop, branch by branch: errors, on/off ratio, switching voltage."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mdls_cosim.calibrate.branches import quarters
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.config import Config
from mdls_cosim.quantities import SHARE, Current, Quantity, Voltage

SignedConductance = Annotated[float, Quantity("siemens")]
"""Below zero where a capacitor across the device carries more than the device."""
Share = Annotated[float, Field(ge=0)]

_REFERENCE = 0.1
"""Voltage over the device at which states are compared [V]; half of the largest measured one where that is less."""
_WINDOW = (0.5, 1.2)
"""Of that voltage: the points whose median I/V is the conductance of a state."""
_AWAY = 0.2
"""Of the largest voltage: below it I/V is not searched for switching."""
_LEAST_RATIO = 1.1
"""Of the two conductances of a branch: below it there is no switching voltage."""


class States(Config):
    """The two states that a branch of a loop shows, measured or modelled; None where the branch does not show it."""

    high_resistive: SignedConductance | None = None
    """I/V [S] near the reference voltage, of the sweep (out or back) with the lower one."""
    low_resistive: SignedConductance | None = None
    """I/V [S] of the other sweep."""
    switching_voltage: Voltage | None = None
    """Voltage over the device [V], on the way out, after which I/V passes the geometric mean of the two."""

    @property
    def ratio(self) -> float | None:
        """The on/off ratio: I/V of the low-resistive over that of the high-resistive state; None where unknown."""
        if self.high_resistive is None or self.low_resistive is None or self.high_resistive <= 0:
            return None
        return self.low_resistive / self.high_resistive


class Branch(Config):
    """Agreement of a model with the points of one sign of the drive."""

    sign: Literal["positive", "negative"]
    points: int
    rms_current: Current
    """Of the measured current [A]."""
    error: Annotated[Share, SHARE]
    """RMS of modelled less measured current over `rms_current`."""
    error_out: Annotated[Share, SHARE] | None = None
    """The same of the sweep away from 0 V, relative to its own RMS current."""
    error_back: Annotated[Share, SHARE] | None = None
    """The same of the sweep back to 0 V."""
    reference_voltage: Voltage
    """Voltage over the device at which the states are compared [V]."""
    measured: States = States()
    modelled: States = States()


def agreement(loop: Loop, modelled: np.ndarray, series_resistance: float | None = None) -> tuple[Branch, ...]:
    """The branches of `loop` that have points, each with its errors and its states.

    Args:
        modelled: (points,) currents of the model [A].
        series_resistance: of the loop's resistor [ohm], where its voltages are the applied ones: the voltage over the
            device is that of the drive less R I, with the measured or the modelled current.
    """
    drive = loop.voltages if loop.applied_voltages is None else loop.applied_voltages
    cycle = np.asarray(loop.cycle)
    parts = quarters(drive, int(np.bincount(cycle - cycle.min()).max()))
    across = [loop.voltages, loop.voltages]
    resistance = loop.series_resistance if series_resistance is None else series_resistance
    if resistance is not None and (loop.applied or loop.applied_voltages is not None):
        across = [drive - resistance * currents for currents in (loop.currents, modelled)]
        if not loop.applied:
            across[0] = loop.voltages
    found = []
    for number, sign in enumerate(("positive", "negative")):
        own = parts // 2 == number
        if not own.any() or not loop.currents[own].any():
            continue
        turn = 1 - 2 * number
        largest = max(float((turn * across[0][own]).max()), 0.0)
        reference = min(_REFERENCE, largest / 2)
        sweeps = [[own & (cycle == each) & (parts % 2 == back) for each in loop.cycles] for back in (0, 1)]
        measured, model = (
            _states(sweeps, drive, voltages, currents, turn, reference)
            for voltages, currents in zip(across, (loop.currents, modelled), strict=True)
        )
        found.append(
            Branch(
                sign=sign,  # pyright: ignore[reportArgumentType]
                points=int(own.sum()),
                rms_current=float(np.sqrt(np.mean(loop.currents[own] ** 2))),
                error=relative_error(modelled[own], loop.currents[own]) or 0.0,
                error_out=relative_error(modelled[parts == 2 * number], loop.currents[parts == 2 * number]),
                error_back=relative_error(modelled[parts == 2 * number + 1], loop.currents[parts == 2 * number + 1]),
                reference_voltage=turn * reference,
                measured=measured,
                modelled=model,
            )
        )
    return tuple(found)


def relative_error(modelled: np.ndarray, measured: np.ndarray) -> float | None:
    """RMS of `modelled` less `measured` over that of `measured`; None where that is zero or there are no points."""
    size = float(np.mean(measured**2)) if len(measured) else 0.0
    return math.sqrt(float(np.mean((modelled - measured) ** 2)) / size) if size > 0 else None


def _states(
    sweeps: list[list[np.ndarray]],
    drive: np.ndarray,
    voltages: np.ndarray,
    currents: np.ndarray,
    turn: int,
    reference: float,
) -> States:
    """The states of the sweeps out and back (points,) of each cycle."""
    ends: list[float | None] = []
    for sweep in sweeps:
        values = [_conductance(*_ordered(part, drive, voltages, currents, turn), reference) for part in sweep]
        known = [value for value in values if value is not None]
        ends.append(float(np.median(known)) if known else None)
    out, back = ends
    if out is None or back is None:
        return States()
    switched = [_crossing(*_ordered(part, drive, voltages, currents, turn), out, back) for part in sweeps[0]]
    known = [value for value in switched if value is not None]
    return States(
        high_resistive=min(out, back),
        low_resistive=max(out, back),
        switching_voltage=turn * float(np.median(known)) if known else None,
    )


def _ordered(
    part: np.ndarray, drive: np.ndarray, voltages: np.ndarray, currents: np.ndarray, turn: int
) -> tuple[np.ndarray, np.ndarray]:
    """Voltages and currents of a sweep, turned to be positive, in the order of the rising drive."""
    order = np.flatnonzero(part)[np.argsort(np.abs(drive[part]), kind="stable")]
    return turn * voltages[order], turn * currents[order]


def _conductance(voltages: np.ndarray, currents: np.ndarray, reference: float) -> float | None:
    """Median I/V [S] within the window about `reference` [V], before the voltage leaves it for the first time."""
    beyond = np.flatnonzero(voltages > _WINDOW[1] * reference)
    end = beyond[0] if beyond.size else len(voltages)
    window = np.flatnonzero(voltages[:end] >= _WINDOW[0] * reference)
    if window.size:
        return float(np.median(currents[window] / voltages[window])) if reference > 0 else None
    if 0 < end < len(voltages) and reference > 0:  # a step over the whole window: on a straight line between its ends
        low, high = voltages[end - 1], voltages[end]
        share = (reference - low) / (high - low)
        return float(currents[end - 1] + share * (currents[end] - currents[end - 1])) / reference
    return None


def _crossing(voltages: np.ndarray, currents: np.ndarray, out: float, back: float) -> float | None:
    """Voltage [V] on the way out after which I/V passes sqrt(out back) for the last time; None: it does not."""
    if min(out, back) <= 0 or max(out, back) < _LEAST_RATIO * min(out, back) or not len(voltages):
        return None
    away = voltages > _AWAY * voltages.max()
    volts = voltages[away]
    share = np.log(np.maximum(currents[away] / volts, 1e-30) / math.sqrt(out * back)) * (1 if back > out else -1)
    before = np.flatnonzero(share < 0)
    if not before.size or before[-1] + 1 == len(share):
        return None
    # Behind a resistor the voltage over the device jumps as it switches: the one before is that of the switching.
    return float(volts[before[-1]])
