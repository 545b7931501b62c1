"""The hysteresis of a loop: whether the device switches, of which kind, and which sign of voltage raises it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdls_cosim.calibrate.measurement import Loop

_LEAST_OPENING = 3e-3
"""Of the loop's current range times voltage range: a smaller area is no hysteresis."""
_ABOVE_NOISE = 6.0
"""Standard deviations of the area that noise alone encloses."""


@dataclass(frozen=True)
class Switching:
    """The hysteresis of a loop."""

    below: float
    """Integral of I dV over V < 0 in one cycle, over current range times voltage range."""
    above: float
    """The same over V > 0."""
    noise: float
    """Standard deviation of either area from the noise of the current."""

    @property
    def opening(self) -> float:
        """`below` less `above`: above zero where a positive voltage raises the conductance and a negative one lowers
        it. A capacitor encloses the same on both sides and cancels; so does a volatile device."""
        return self.below - self.above

    @property
    def sign(self) -> int:
        """Sign of the voltage that raises the conductance."""
        return 1 if self.opening > 0 else -1

    @property
    def present(self) -> bool:
        """Whether the loop switches as a non-volatile, bipolar device does."""
        return abs(self.opening) > self._least

    @property
    def volatile(self) -> bool:
        """Whether the device turns on in both polarities, and off again on the way back to 0 V."""
        return max(self.below, self.above) < -self._least / 2 and not self._lopsided

    @property
    def capacitive(self) -> bool:
        """Whether both sides are enclosed in the sense of a capacitor's charging current."""
        return min(self.below, self.above) > self._least / 2 and not self._lopsided

    @property
    def _least(self) -> float:
        return max(_LEAST_OPENING, _ABOVE_NOISE * self.noise)

    @property
    def _lopsided(self) -> bool:
        """Whether one side encloses more than three times the other: the smaller is then a by-product."""
        sides = sorted((abs(self.below), abs(self.above)))
        return sides[1] > 3 * sides[0]

    def refusal(self) -> tuple[str, str, str]:
        """Why the loop is not fitted: a name, the measured areas, and what to try."""
        both = (
            f"{abs(self.above):.1%} of current range x voltage range enclosed at V > 0, {abs(self.below):.1%} at V < 0"
        )
        if self.volatile:
            return (
                "volatile (threshold) switching", both,
                "The device turns on in either polarity and off near 0 V; the models fitted here keep their state",
            )  # fmt: skip
        if self.capacitive:
            return (
                "a loop of a charging current", f"{both}, in the sense of a capacitor",
                "Sweep more slowly, or subtract the current of the set-up's capacitance",
            )  # fmt: skip
        return (
            "a loop that does not switch",
            f"hysteresis of {abs(self.opening):.2%} of current range x voltage range",
            "Measure with a larger amplitude, or longer",
        )


def switching(loop: Loop) -> Switching:
    """The hysteresis of `loop`, points at a compliance limit included, its last point joined to its first."""
    times, voltages, currents = loop.times, loop.voltages, loop.currents
    if loop.limited is not None:
        within = (loop.limited[0] >= times[0]) & (loop.limited[0] <= times[-1])
        everything = np.concatenate([np.stack([times, voltages, currents]), loop.limited[:, within]], axis=1)
        times, voltages, currents = everything[:, np.argsort(everything[0], kind="stable")]
    voltage, current = np.append(voltages, voltages[0]), np.append(currents, currents[0])
    step, middle = np.diff(voltage), (voltage[1:] + voltage[:-1]) / 2
    area = (current[1:] + current[:-1]) / 2 * step
    scale = np.ptp(currents) * np.ptp(voltages) * len(loop.cycles)
    noise = current_noise(currents) * float(np.sqrt(np.sum(step**2)))
    return Switching(float(area[middle < 0].sum() / scale), float(area[middle > 0].sum() / scale), float(noise / scale))


def current_noise(currents: np.ndarray) -> float:
    """Standard deviation of white noise on a smooth current [A], from its second differences.

    Their median size, for normal noise 0.6745 sqrt(6) of the deviation: jumps of the device do not count.
    """
    if len(currents) < 3:
        return 0.0
    return float(np.median(np.abs(np.diff(currents, 2))) / (0.6745 * np.sqrt(6)))
