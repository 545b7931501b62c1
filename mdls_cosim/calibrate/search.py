"""The global search of a fit: many candidates as one population, the best of them refined side by side.

All parameters are shares of their bounds, 0 - 1 (see `spaces`). The problem is a function of a whole batch of
candidates; so are the columns of all Jacobians of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

Residuals = Callable[[np.ndarray], np.ndarray]
"""Shares (candidates, parameters) -> residuals (candidates, values)."""
Progress = Callable[[], None]
"""Called after each batch."""

BATCH = 256
"""Candidates at a time: what a model computes for them stays in the processor's cache."""
_HOPELESS = 1e6
"""Stands for a residual that is not finite."""
_STEP = 1e-4
"""Difference in a share for the Jacobian."""
_TRIALS = ((0.01, 2.0), (0.01, 1.0), (0.1, 1.0), (1.0, 1.0), (10.0, 1.0), (100.0, 1.0))
"""Of the next steps: factors of the damping and of the length. Twice the step gains where a valley is curved."""
_LEAST_DAMPING, _LARGEST_DAMPING = 1e-7, 1e6


@dataclass(frozen=True, eq=False)
class Refined:
    """Where the refinement of several starts came to rest, best first."""

    shares: np.ndarray
    """(starts, parameters)."""
    costs: np.ndarray
    """(starts,) mean square residual."""


def explore(residuals: Residuals, parameters: int, candidates: int, seed: int, done: Progress) -> Refined:
    """Candidates of a scrambled Sobol sequence, which covers the cube of shares evenly, best first.

    Args:
        candidates: a power of two.
    """
    shares = qmc.Sobol(parameters, rng=np.random.default_rng(seed)).random(candidates)
    costs = np.concatenate([_costs(residuals, part, done) for part in np.split(shares, _parts(candidates))])
    order = np.argsort(costs, kind="stable")
    return Refined(shares[order], costs[order])


def refine(
    residuals: Residuals,
    starts: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    iterations: int = 40,
    tolerance: float = 1e-4,
    done: Progress = lambda: None,
) -> Refined:
    """Levenberg-Marquardt within the cube from all `starts` (starts, parameters) at once.

    Each iteration tries several dampings a start in one batch and keeps the best. A parameter at a bound that would
    leave is held there for the step. A start rests when an iteration gains less than `tolerance` of its cost, or
    nothing at the largest damping.

    Args:
        targets: (starts, values), subtracted from the residuals of each start; None: zero.
    """
    shares = np.clip(starts, 0.0, 1.0)
    count, size = shares.shape
    target = np.zeros((count, 1)) if targets is None else targets
    costs = _mean_square(_batched(residuals, shares, done) - target)
    damping = np.full(count, 1e-2)
    busy = np.ones(count, dtype=bool)
    for _ in range(iterations):
        moving = np.flatnonzero(busy)
        if not moving.size:
            break
        value, jacobian = linearised(residuals, shares[moving], done)
        value = value - target[moving]
        trials = np.empty((len(moving), len(_TRIALS), size))
        for row, start in enumerate(moving):
            for column, (factor, length) in enumerate(_TRIALS):
                step = _step(shares[start], value[row], jacobian[row], factor * damping[start])
                trials[row, column] = np.clip(shares[start] + length * step, 0.0, 1.0)
        found = _batched(residuals, trials.reshape(-1, size), done).reshape(len(moving), len(_TRIALS), -1)
        tried = _mean_square(found - target[moving][:, None])
        best = np.argmin(tried, axis=1)
        for row, start in enumerate(moving):
            new, choice = tried[row, best[row]], best[row]
            if new < costs[start]:
                busy[start] = costs[start] - new > tolerance * costs[start]
                shares[start], costs[start] = trials[row, choice], new
                damping[start] = np.clip(_TRIALS[choice][0] * damping[start], _LEAST_DAMPING, _LARGEST_DAMPING)
            else:
                busy[start] = damping[start] < _LARGEST_DAMPING
                damping[start] = min(damping[start] * 1e3, _LARGEST_DAMPING)
    order = np.argsort(costs, kind="stable") if targets is None else np.arange(count)
    return Refined(shares[order], costs[order])


def linearised(
    residuals: Residuals, shares: np.ndarray, done: Progress = lambda: None
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (starts, values) and their derivatives by the shares (starts, values, parameters)."""
    count, size = shares.shape
    steps = np.where(shares + _STEP > 1, -_STEP, _STEP)
    probes = shares[:, None, :] + np.concatenate([np.zeros((1, size)), np.eye(size)])[None] * steps[:, None, :]
    found = _batched(residuals, probes.reshape(-1, size), done).reshape(count, size + 1, -1)
    return found[:, 0], np.swapaxes((found[:, 1:] - found[:, :1]) / steps[:, :, None], 1, 2)


def _step(shares: np.ndarray, value: np.ndarray, jacobian: np.ndarray, damping: float) -> np.ndarray:
    """The damped Gauss-Newton step, zero for parameters at a face of the cube that would leave it."""
    normal, slope = jacobian.T @ jacobian, jacobian.T @ value
    # A parameter that changes nothing keeps its place: its damping is that of a small share of the others'.
    scale = np.diag(normal) + 1e-6 * np.trace(normal) / len(shares) + np.finfo(float).tiny
    free = ~((shares <= 0) & (slope > 0) | (shares >= 1) & (slope < 0))
    step = np.zeros(len(shares))
    if free.any():
        matrix = (normal + damping * np.diag(scale))[np.ix_(free, free)]
        step[free] = -np.linalg.lstsq(matrix, slope[free], rcond=None)[0]
    return step


def _batched(residuals: Residuals, shares: np.ndarray, done: Progress) -> np.ndarray:
    return np.concatenate([_finite(residuals(part), done) for part in np.array_split(shares, _parts(len(shares)))])


def _costs(residuals: Residuals, shares: np.ndarray, done: Progress) -> np.ndarray:
    return _mean_square(_finite(residuals(shares), done))


def _finite(found: np.ndarray, done: Progress) -> np.ndarray:
    done()
    return np.where(np.isfinite(found), np.clip(found, -_HOPELESS, _HOPELESS), _HOPELESS)


def _mean_square(residuals: np.ndarray) -> np.ndarray:
    return np.mean(residuals**2, axis=-1)


def _parts(count: int) -> int:
    return max(-(-count // BATCH), 1)
