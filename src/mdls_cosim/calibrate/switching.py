"""Whether a loop switches at all, and which sign of the voltage raises its conductance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdls_cosim.calibrate.measurement import Loop

_LEAST_OPENING = 3e-3
"""Of the loop's current range times voltage range: below it there is no hysteresis worth the name."""
_ABOVE_NOISE = 6.0
"""Standard deviations of the area that noise alone encloses."""


@dataclass(frozen=True)
class Switching:
    """The hysteresis of a loop."""

    opening: float
    """Area enclosed for V < 0 less that for V > 0, in one cycle, over current range times voltage range: above zero
    where a positive voltage raises the conductance. A capacitor encloses the same on both sides and cancels."""
    noise: float
    """Standard deviation of `opening` from the noise of the current."""

    @property
    def sign(self) -> int:
        """Of the voltage that raises the conductance."""
        return 1 if self.opening > 0 else -1

    @property
    def present(self) -> bool:
        """The loop switches."""
        return abs(self.opening) > max(_LEAST_OPENING, _ABOVE_NOISE * self.noise)


def switching(loop: Loop) -> Switching:
    """The hysteresis of `loop`, its last point joined to its first."""
    voltage, current = np.append(loop.voltages, loop.voltages[0]), np.append(loop.currents, loop.currents[0])
    step, middle = np.diff(voltage), (voltage[1:] + voltage[:-1]) / 2
    area = (current[1:] + current[:-1]) / 2 * step
    scale = np.ptp(loop.currents) * np.ptp(loop.voltages) * len(loop.cycles)
    noise = current_noise(loop.currents) * float(np.sqrt(np.sum(step**2)))
    return Switching(float((area[middle < 0].sum() - area[middle > 0].sum()) / scale), float(noise / scale))


def current_noise(currents: np.ndarray) -> float:
    """Standard deviation of white noise on a smooth current [A], from its second differences.

    Their median size, for normal noise 0.6745 sqrt(6) of the deviation: jumps of the device do not count.
    """
    return float(np.median(np.abs(np.diff(currents, 2))) / (0.6745 * np.sqrt(6)))
