"""One-way random effects: how much a parameter differs between devices, and between the cycles of a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from scipy.stats import chi2, f

from mdls_cosim.config import Config
from mdls_cosim.quantities import RATIO, UNIT_OF_ITS_OWN, Unit, number_text

LEVEL = 0.95
"""Of the intervals, and of the test whether there is a spread."""
_ADVANTAGE = 2.0
"""Difference of log-likelihoods from which the data choose the family."""
_LARGEST_NORMAL = 0.24
"""Relative standard deviation above which a normal factor, truncated at four of them, would reach zero."""

Share = Annotated[float, Field(ge=0)]


class Spread(Config):
    """A standard deviation: of the factor (normal) or of its logarithm (lognormal)."""

    sigma: Annotated[Share, RATIO]
    low: Annotated[Share, RATIO]
    """End of the 95 % interval."""
    high: Annotated[Share, RATIO]
    """End of the 95 % interval."""
    count: Annotated[int, Field(ge=2)]
    """Devices, or cycles of all devices."""
    significant: bool
    """Whether it exceeds what the uncertainty of the fits (or the spread between cycles) explains, at 95 %."""


class ParameterSpread(Config):
    """The distribution of a parameter over devices and cycles."""

    family: Literal["normal", "lognormal"]
    center: Annotated[float, UNIT_OF_ITS_OWN]
    """Mean (normal) or median (lognormal), SI."""
    unit: str = ""
    device_to_device: Spread | None = None
    """None: one device."""
    cycle_to_cycle: Spread | None = None
    """None: no device with several cycles."""

    def extra_description(self) -> dict[str, Any]:
        """The center with the unit of the parameter."""
        return {"center": number_text(self.center, Unit(self.unit)), "unit": ""}


def family_of(means: Sequence[float], usual: Literal["normal", "lognormal"]) -> Literal["normal", "lognormal"] | None:
    """The family of positive or negative `means`; None where they have both signs, which no factor makes.

    The log-likelihoods differ by n (ln s_normal - ln s_lognormal) - sum ln |p|; below a difference of 2 the data do not
    choose, and the family is `usual`. A normal spread above 24 % would reach zero and is taken as lognormal.
    """
    own = np.abs(np.asarray(means, dtype=float))
    if np.any(np.sign(means) != np.sign(means[0])) or not own.all():
        return None
    relative = float(own.std() / own.mean())
    if relative > _LARGEST_NORMAL:
        return "lognormal"
    logs = np.log(own)
    if len(own) < 3 or not own.std() or not logs.std():
        return usual
    advantage = len(own) * (np.log(own.std()) - np.log(logs.std())) - float(logs.sum())  # of the lognormal
    if abs(advantage) < _ADVANTAGE:
        return usual
    return "lognormal" if advantage > 0 else "normal"


def between_and_within(
    values: Sequence[np.ndarray], variances: Sequence[np.ndarray]
) -> tuple[float, Spread | None, Spread | None]:
    """The center, and the spreads between groups (devices) and within them (cycles).

        y_dc = center + between_d + within_dc + error_dc

    by the analysis of variance: s_w^2 = E(within^2 + error^2), MSB = E(s_w^2 + n_0 between^2). The variance of the
    errors is known from the fits. Intervals from chi-square and the test from F, the error's variance as exact.

    Args:
        values: of each device, of each cycle.
        variances: of the errors, likewise.
    """
    error = float(np.mean(np.concatenate(variances)))
    means = np.array([each.mean() for each in values])
    sizes = np.array([len(each) for each in values], dtype=float)
    center = float(means.mean())
    freedom = int((sizes - 1).sum())
    inner = sum(float(((each - each.mean()) ** 2).sum()) for each in values) / freedom if freedom else error
    within = None
    if freedom:
        within = _spread(inner, error, freedom, 1.0, int(sizes[sizes > 1].sum()), None)
    between = None
    if len(values) > 1:
        size = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(values) - 1)
        grand = float((sizes * means).sum() / sizes.sum())
        outer = float((sizes * (means - grand) ** 2).sum()) / (len(values) - 1)
        between = _spread(outer, max(inner, error / 4), len(values) - 1, float(size), len(values), freedom or None)
    return center, between, within


def _spread(square: float, known: float, freedom: int, size: float, count: int, other: int | None) -> Spread:
    """The part of a mean square beyond a known one, over `size`, with its interval."""
    ends = [freedom * square / chi2.ppf(level, freedom) for level in ((1 + LEVEL) / 2, (1 - LEVEL) / 2)]
    sigma, low, high = (float(np.sqrt(max(each - known, 0.0) / size)) for each in (square, *ends))
    limit = f.ppf(LEVEL, freedom, other) if other else chi2.ppf(LEVEL, freedom) / freedom
    return Spread(sigma=sigma, low=low, high=high, count=count, significant=bool(square > limit * known))
