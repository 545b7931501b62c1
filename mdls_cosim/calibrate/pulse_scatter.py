"""The scatter of pulse ramps about their law, parted into random steps and noise of the reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import nnls

from mdls_cosim.calibrate.pulse_runs import run_law, run_with_slopes

_LAGS = 20
"""Pulses over which the growth of the scatter is followed."""
_FACTOR = 1e-3
"""Change of a law by which its slope is taken."""


@dataclass(frozen=True, eq=False)
class Scatter:
    """How residuals of ramps spread, seen through the fit that took a start and a speed out of every ramp.

    The mean square difference of the residuals m pulses apart is spread^2 a_m + read_noise^2 b_m. Without a fit,
    a_m = m and b_m = 2; a fit follows the random walk in part, so residuals less their share in the directions of start
    and speed are looked at, and a_m and b_m are those of the same projection of a walk and of white noise.
    """

    directions: np.ndarray
    """(ramps, pulses, 2) orthonormal in a ramp: its start and its speed; 0 where there is no reading."""
    pairs: np.ndarray
    """(ramps, lags) pairs of readings that far apart."""
    walk: np.ndarray
    """(ramps, lags) sum over the pairs for random steps of standard deviation 1."""
    white: np.ndarray
    """(ramps, lags) sum over the pairs for readings of standard deviation 1."""

    @classmethod
    def about(cls, coefficients: np.ndarray, starts: np.ndarray, ramps: np.ndarray) -> Self:
        """For residuals of `ramps` (ramps, pulses) [share] about runs of the law from `starts` (ramps,)."""
        count, pulses = ramps.shape
        runs, _, by_start = run_with_slopes(coefficients, starts, pulses)
        by_speed = (run_law(coefficients * (1 + _FACTOR), starts, pulses) - runs) / _FACTOR
        lags = min(_LAGS, pulses // 4)
        directions = np.zeros((count, pulses, 2))
        pairs, walk, white = np.zeros((3, count, lags))
        for ramp in range(count):
            known = np.flatnonzero(np.isfinite(ramps[ramp]))
            basis = np.linalg.qr(np.stack([by_start[ramp, known], by_speed[ramp, known]], axis=1))[0]
            directions[ramp, known] = basis
            growth = np.maximum(np.abs(by_start[ramp, known]), 1e-12)
            # A random step before a reading moves this one and those after it, by the growth of the run since.
            steps = np.tril(growth[:, None] / growth[None, :])[:, 1:]
            steps = steps - basis @ (basis.T @ steps)
            readings = np.eye(len(known)) - basis @ basis.T
            for lag in range(1, min(lags, len(known) - 1) + 1):
                pairs[ramp, lag - 1] = len(known) - lag
                walk[ramp, lag - 1] = np.sum((steps[lag:] - steps[:-lag]) ** 2)
                white[ramp, lag - 1] = np.sum((readings[lag:] - readings[:-lag]) ** 2)
        return cls(directions, pairs, walk, white)

    def parted(self, residuals: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
        """Standard deviations of one step and of one reading [share].

        Args:
            residuals: (ramps, pulses), NaN where there is no reading.
            weights: (ramps,) how often each ramp counts.
        """
        known = np.isfinite(residuals)
        filled = np.where(known, residuals, 0.0)
        shares = np.einsum("rpd,rp->rd", self.directions, filled)
        left = np.where(known, filled - np.einsum("rpd,rd->rp", self.directions, shares), np.nan)
        lags = self.pairs.shape[1]
        squares = np.stack(
            [np.nansum((left[:, lag:] - left[:, :-lag]) ** 2, axis=1) for lag in range(1, lags + 1)], axis=1
        )
        count = np.ones(len(residuals)) if weights is None else weights
        pairs, walk, white, found = (count @ each for each in (self.pairs, self.walk, self.white, squares))
        # Sums over more pulses are fewer and overlap: their weight falls with the lag.
        weight = 1 / (np.arange(1, lags + 1) * pairs)
        squared, _ = nnls(np.stack([walk, white], axis=1) * weight[:, None], found * weight)
        return float(np.sqrt(squared[0])), float(np.sqrt(squared[1]))
