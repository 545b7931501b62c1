"""How well data determine what was fitted to them: from the Hessian, or by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from mdls_cosim.calibrate.search import Residuals, linearised, refine

LEVEL = 0.95
"""Of the intervals."""
_PRIOR = 12.0
"""1/variance of a share that may lie anywhere between 0 and 1: what the bounds alone say of a parameter."""
_NARROWED = 0.5
"""Standard deviation over that of the bounds alone, below which the data determine a parameter."""
_AT_BOUND = 1e-3
"""Share within which a parameter lies at its bound."""


@dataclass(frozen=True, eq=False)
class Confidence:
    """Of each parameter, in shares of its bounds."""

    low: np.ndarray
    high: np.ndarray
    determined: np.ndarray
    """False: the data narrow it to no less than half of what the bounds say, or it lies at a bound."""
    covariance: np.ndarray
    """(parameters, parameters)."""
    method: str


def from_hessian(
    residuals: Residuals, shares: np.ndarray, sizes: Sequence[int], parts: np.ndarray | None = None
) -> Confidence:
    """Intervals from the curvature of the cost at its least, with residuals that may be correlated in time.

        covariance = (A B^-1 A + 12 I)^-1,    A = J^T J,    B = tau sum_p s_p^2 J_p^T J_p

    s_p^2 is the residual variance of part p of the data, whose scale need not be that of its noise, and tau the time,
    in samples, over which residuals are correlated (1 for white noise; a systematic misfit makes it large). With one
    part A B^-1 A is J^T J/(s^2 tau). The last term is the variance 1/12 of a share that may be anywhere: it bounds the
    interval of a parameter that the data do not determine.

    Args:
        shares: (parameters,) the optimum.
        sizes: points of each loop, in the order of the residuals.
        parts: (points,) number of the part of each residual; None: one part.
    """
    value, jacobian = linearised(residuals, shares[None])
    value, jacobian = value[0], jacobian[0]
    count, size = jacobian.shape
    tau = correlation_time(value, sizes)
    labels = np.zeros(count, dtype=np.int64) if parts is None else parts
    scatter = np.finfo(float).tiny * np.eye(size)
    for label in np.unique(labels):
        own = labels == label
        variance = float(value[own] @ value[own]) / max(own.sum() * (1 - size / count), 1.0)
        scatter += tau * variance * jacobian[own].T @ jacobian[own]
    curvature = jacobian.T @ jacobian
    information = curvature @ np.linalg.pinv(scatter, hermitian=True) @ curvature
    covariance = np.linalg.inv(information + _PRIOR * np.eye(size))
    deviation = np.sqrt(np.diag(covariance))
    half = float(student.ppf((1 + LEVEL) / 2, max(count / tau - size, 1.0))) * deviation
    # Where few independent values are left, Student's factor may exceed what the bounds allow.
    low, high = np.clip(shares - half, 0.0, 1.0), np.clip(shares + half, 0.0, 1.0)
    return Confidence(low, high, _determined(shares, deviation), covariance, "hessian")


def from_bootstrap(
    residuals: Residuals,
    shares: np.ndarray,
    sizes: Sequence[int],
    repetitions: int,
    seed: int,
    done: Callable[[], None] = lambda: None,
) -> Confidence:
    """Intervals from fits to `repetitions` data sets: the model with blocks of its own residuals, drawn anew.

    Blocks are twice as long as residuals are correlated, within each loop (moving blocks, closed to a ring).
    Kuensch, 10.1214/aos/1176347265.
    """
    value = residuals(shares[None])[0]
    rng = np.random.default_rng(seed)
    tau = correlation_time(value, sizes)
    ends = np.cumsum(sizes)[:-1]
    drawn = [
        np.concatenate([_drawn(rng, part - part.mean(), tau) + part.mean() for part in np.split(value, ends)])
        for _ in range(repetitions)
    ]
    # The optimum is the truth of these data sets, so its neighbourhood is where their optima lie.
    starts = np.repeat(shares[None], repetitions, axis=0)
    found = refine(residuals, starts, value - np.stack(drawn), iterations=12, tolerance=1e-4, done=done).shares
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    covariance = np.atleast_2d(np.cov(found, rowvar=False))
    return Confidence(low, high, _determined(shares, np.sqrt(np.diag(covariance))), covariance, "bootstrap")


def correlation_time(values: np.ndarray, sizes: Sequence[int]) -> float:
    """tau = 1 + 2 sum of the autocorrelation up to where it first falls below zero, over all loops; 1 at least."""
    parts = np.split(values, np.cumsum(sizes)[:-1])
    power = sum(float(part @ part) for part in parts)
    if not power:
        return 1.0
    most = max(min(sizes) // 2, 1)
    tau = 1.0
    for lag in range(1, most):
        correlation = sum(float(part[lag:] @ part[:-lag]) for part in parts) / power
        if correlation <= 0:
            break
        tau += 2 * correlation
    return tau


def _determined(shares: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    inside = (shares > _AT_BOUND) & (shares < 1 - _AT_BOUND)
    return inside & (deviation < _NARROWED / math.sqrt(_PRIOR))


def _drawn(rng: np.random.Generator, values: np.ndarray, tau: float) -> np.ndarray:
    length = max(min(math.ceil(2 * tau), len(values) // 4), 1)
    begins = rng.integers(0, len(values), -(-len(values) // length))
    places = (begins[:, None] + np.arange(length)) % len(values)
    return values[places.ravel()[: len(values)]]
