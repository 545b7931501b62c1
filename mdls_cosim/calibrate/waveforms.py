"""The times of a loop that was written down without them, from the shape of its drive; and where its cycles begin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from mdls_cosim.calibrate.switching import current_noise
from mdls_cosim.errors import InputError

_LEAST_SAMPLES = 6
"""In a period of a sine: fewer do not tell it from its aliases."""
_LARGEST_MISFIT = 0.02
"""Of the amplitude: what may remain of a drive besides the sine and white noise."""
_LARGEST_RESIDUAL = 0.1
"""The same with the noise."""
_BAND = 0.1
"""Of the amplitude: how far a drive must go below its middle before another rise counts. Of the period: the shortest
last cycle."""


@dataclass(frozen=True, eq=False)
class Sine:
    """A sine through evenly spaced samples: offset + amplitude sin(2 pi k/N + phase), k the sample's number."""

    offset: float
    """[V]."""
    amplitude: float
    """[V]."""
    phase: float
    """Of the first sample [rad]."""
    samples: float
    """N: samples in a period; any real number."""
    residual: float
    """RMS of the samples less the sine, over the amplitude."""

    def times(self, frequency: float, count: int) -> np.ndarray:
        """Times [s] of `count` samples of a sine of `frequency` [Hz], 0 where it rises through its middle."""
        return (np.arange(count) / self.samples + self.phase / (2 * math.pi)) / frequency


def fit_sine(voltages: np.ndarray, where: str = "voltages") -> Sine:
    """The least-squares sine through evenly spaced `voltages` (points,) [V].

    For any number of samples in a period N, the other three are a linear fit; N is searched for over all that the
    samples can tell, from six a period to two thirds of a period in all, then refined.

    Raises:
        InputError: the samples are not a sine. What remains exceeds 2 % of the amplitude beyond its white noise, or
            10 % with it: a distorted drive gives wrong times.
    """
    count = len(voltages)
    index = np.arange(count)

    def linear(periods: float) -> tuple[np.ndarray, float]:
        angle = 2 * math.pi * periods / count * index
        basis = np.stack([np.ones(count), np.sin(angle), np.cos(angle)], axis=1)
        found = np.linalg.lstsq(basis, voltages, rcond=None)[0]
        return found, float(np.mean((basis @ found - voltages) ** 2))

    most = max(count / _LEAST_SAMPLES, 1.0)
    grid = np.arange(0.65, most, 0.1)  # a tenth of a period is well within the basin of the best fit
    best = min(grid, key=lambda periods: linear(periods)[1])
    refined = minimize_scalar(
        lambda periods: linear(periods)[1], bounds=(best - 0.1, best + 0.1), method="bounded", options={"xatol": 1e-10}
    )
    periods = float(refined.x)  # pyright: ignore[reportAttributeAccessIssue]
    (offset, sine, cosine), square = linear(periods)
    amplitude = math.hypot(sine, cosine)
    residual = math.sqrt(square) / amplitude if amplitude else math.inf
    angle = 2 * math.pi * periods / count * index
    left = voltages - offset - sine * np.sin(angle) - cosine * np.cos(angle)
    systematic = math.sqrt(max(square - current_noise(left) ** 2, 0.0)) / amplitude if amplitude else math.inf
    if systematic > _LARGEST_MISFIT or residual > _LARGEST_RESIDUAL:
        raise InputError(
            "the drive is not a sine", where=where, value=f"{residual:.1%} of the amplitude remain",
            limit=f"{_LARGEST_MISFIT:.0%}, {_LARGEST_RESIDUAL:.0%} with noise",
            hint="A voltage over the device behind a resistor is distorted: give a column of times or the applied "
            "voltage (--ramp-rate for triangular sweeps)",
        )  # fmt: skip
    return Sine(float(offset), amplitude, math.atan2(cosine, sine), count / periods, residual)


def ramp_times(voltages: np.ndarray, rate: float) -> np.ndarray:
    """Times [s] of a drive that moves at `rate` [V/s] between its points; steps of 0 V last as long as the median."""
    steps = np.abs(np.diff(voltages))
    moving = steps[steps > 0]
    if not moving.size:
        raise InputError("a sweep that does not move", where="voltages", value=f"{voltages[0]:g} V")
    return np.concatenate([[0.0], np.cumsum(np.where(steps > 0, steps, np.median(moving)))]) / rate


def cycles_of(times: np.ndarray, voltages: np.ndarray) -> tuple[np.ndarray, float | None]:
    """The number of the cycle of every point, 0 first, and the period [s] of a drive that repeats; else zeros and None.

    The period is the time between rises of the drive through the middle of its range; a rise counts once the drive
    has been a tenth of its amplitude below. A drive repeats where those times differ by less than a twentieth.
    Cycles are counted from the first point on, a period each; the last may be cut off.
    """
    middle = (voltages.max() + voltages.min()) / 2
    band = _BAND * np.ptp(voltages) / 2
    armed = voltages[0] < middle - band
    rises = []
    for place, voltage in enumerate(voltages - middle):
        if armed and voltage >= 0:
            rises.append(place)
            armed = False
        elif voltage < -band:
            armed = True
    one = np.zeros(len(times), dtype=np.int64)
    if len(rises) < 2:
        return one, None
    gaps = np.diff(times[rises])
    if np.ptp(gaps) > 0.05 * gaps.mean():
        return one, None
    period = float(gaps.mean())
    # Counted from the first point on: the first rise may lie anywhere within the first cycle.
    cycle = np.floor((times - times[0]) / period + 1e-3).astype(np.int64)
    last = cycle == cycle[-1]
    if cycle[-1] and np.ptp(times[last]) < _BAND * period:
        cycle[last] -= 1  # the point or two that close the cycle before
    return cycle, period
