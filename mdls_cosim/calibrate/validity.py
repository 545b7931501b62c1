"""The ranges that measurements cover, which a parameter set states as its validity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mdls_cosim.calibrate.measurement import Loop, Measurement
from mdls_cosim.devices import Device

Ranges = dict[str, tuple[float, float, str]]
"""Least and largest of each quantity, with its unit."""


def loop_validity(
    device: Device, loops: Sequence[Loop], voltages: Iterable[np.ndarray], states: Iterable[np.ndarray]
) -> Ranges:
    """Ranges of the fitted loops; those that were held out say nothing of where the values hold.

    Voltage over the device and conductance of its states are those of the fitted circuit: behind a series resistor the
    applied voltage is another one. Times reach from the median step to the longest loop or period.

    Args:
        loops: that were fitted.
        voltages: over the device in the model's circuit [V], of the measured sign.
        states: of the model.
    """
    found: Ranges = {}
    if over_device := list(voltages):
        found["voltage"] = (*_span(over_device), "volt")
    if any(loop.applied for loop in loops):
        found["applied voltage"] = (*_span([loop.voltages for loop in loops if loop.applied]), "volt")
    found["current"] = (*_span([loop.currents for loop in loops]), "ampere")
    steps = [float(np.median(np.diff(loop.times))) for loop in loops]
    found["time"] = (min(steps), max(loop.period or float(np.ptp(loop.times)) for loop in loops), "second")
    found["temperature"] = (*_span([np.array([loop.temperature]) for loop in loops]), "kelvin")
    if visited := [np.asarray(device.conductance(each)) for each in states]:
        found["conductance"] = (*_span(visited), "siemens")
    return found


def reading_ranges(measurements: Sequence[Measurement]) -> Ranges:
    """Temperature and read voltage of conductances that were measured, where they are known.

    Pulse trains do not say by what voltages they were written, so theirs is no range of voltages over the device.
    """
    found: Ranges = {}
    temperatures = [each.temperature for each in measurements]
    found["temperature"] = (min(temperatures), max(temperatures), "kelvin")
    reads = [each.read_voltage for each in measurements if not isinstance(each, Loop) and each.read_voltage is not None]
    if reads:
        pulses = any(hasattr(each, "direction") for each in measurements)
        found["read voltage" if pulses else "voltage"] = (min(0.0, *reads), max(0.0, *reads), "volt")
    return found


def _span(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    return float(min(each.min() for each in arrays)), float(max(each.max() for each in arrays))
