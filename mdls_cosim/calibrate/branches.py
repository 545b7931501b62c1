"""The branches of a loop: the sign of its drive, and whether the drive moves away from zero or back to it."""

from __future__ import annotations

import numpy as np

from mdls_cosim.calibrate.switching import current_noise

NAMES = ("positive out", "positive back", "negative out", "negative back")
"""Of the four quarters of a loop, by number. Out: the drive moves away from 0 V; back: towards it."""
_SMOOTHED = 25
"""The drive's direction is that of its mean over one in so many points of a cycle."""
_NOISE = 10.0
"""Standard deviations of noise that count as much as a branch's own current in its scale."""


def quarters(drive: np.ndarray, cycle_points: int) -> np.ndarray:
    """The number in `NAMES` of every point of `drive` (points,) [V], of which a cycle has `cycle_points`."""
    width = max(min(cycle_points // _SMOOTHED, len(drive) // 4), 1)
    kernel = np.ones(2 * width + 1)
    smooth = np.convolve(drive, kernel, "same") / np.convolve(np.ones(len(drive)), kernel, "same")
    slope = np.gradient(smooth)
    if not slope.any():
        slope = np.gradient(drive)
    # Where the drive rests, the direction is that of the last point at which it moved.
    moved = np.flatnonzero(slope)
    slope = slope[moved[np.clip(np.searchsorted(moved, np.arange(len(drive)), "right") - 1, 0, None)]]
    sign = np.where(drive == 0, np.sign(slope), np.sign(drive))
    return np.where(sign < 0, 2, 0) + (slope * sign < 0)


def scales(currents: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """What the residual of every point is divided by [A] (points,), so that all `parts` of a loop count the same.

        scale = sqrt(rms(I of the part)^2 + (10 s)^2) sqrt(n of the part * parts/points)

    s is the standard deviation of the noise: a part whose current is lost in noise counts less. The mean over all
    points of (residual/scale)^2 is the mean over the parts of their mean square errors relative to their current.

    Args:
        currents: (points,) [A].
        parts: (points,) a number that names the part of each point.
    """
    noise = current_noise(currents)
    found = np.empty(len(currents))
    numbers = np.unique(parts)
    for number in numbers:
        own = parts == number
        size = np.sqrt(np.mean(currents[own] ** 2) + (_NOISE * noise) ** 2)
        found[own] = size * np.sqrt(own.sum() * len(numbers) / len(currents))
    return found
