"""The set-up that loops were measured in: the sizes of its signals, and what of it is fitted besides the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdls_cosim.calibrate.loop_problem import Prepared, prepare
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.spaces import Free, Scales
from mdls_cosim.errors import InputError


@dataclass(frozen=True)
class SetUp:
    """Parameters that are fitted besides those of the device."""

    series_resistance: float | None
    resistor: Free | None
    capacitor: Free | float

    @classmethod
    def of(cls, scales: Scales, series_resistance: float | str | None, capacitance: float | str) -> SetUp:
        resistor = Free("series_resistance", 1e-3 / scales.conductance, 10 / scales.conductance)
        # From a charging current of a ten-thousandth to one of ten times the largest at the highest frequency.
        most = scales.current * scales.shortest / (2 * math.pi * scales.voltage)
        capacitor = Free("parallel_capacitance", 1e-4 * most, 10 * most)
        return cls(
            None if isinstance(series_resistance, str) else series_resistance,
            resistor if series_resistance == "fit" else None,
            capacitor if isinstance(capacitance, str) else capacitance,
        )

    def prepare(self, loop: Loop, sign: int, raising: int) -> Prepared:
        fitted = self.resistor is not None and loop.applied
        return prepare(loop, sign, self.series_resistance, fitted=fitted, raising=raising)


def scales_of(loops: Sequence[Loop], series_resistance: float | None) -> Scales:
    """The sizes of what was measured in `loops`, with a resistance [ohm] in place of the loops' own.

    Raises:
        InputError: all currents are against their voltages.
    """
    voltages, conductances = [], []
    for loop in loops:
        voltage = loop.voltages
        resistance = series_resistance if series_resistance is not None else loop.series_resistance
        if loop.applied and resistance is not None:
            voltage = voltage - resistance * loop.currents
        largest = float(np.abs(voltage).max())
        away = np.abs(voltage) > 0.2 * largest
        ratios = np.sort((loop.currents / np.where(away, voltage, math.inf))[away])
        voltages.append(largest)
        conductances.append(float(ratios[-min(2, len(ratios))]))
    periods = [loop.period or float(np.ptp(loop.times)) / len(loop.cycles) for loop in loops]
    current = max(float(np.abs(loop.currents).max()) for loop in loops)
    conductance = max(conductances)
    if conductance <= 0:
        raise InputError("currents against the voltage", value=f"largest I/V {conductance:g} S", limit="above zero")
    return Scales(max(voltages), current, conductance, min(periods), max(periods))
