"""Tables of levels: which conductances programming reaches, and how far it misses them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from mdls_cosim.calibrate.measurement import LevelTable
from mdls_cosim.calibrate.result import Calibration, Value
from mdls_cosim.devices import Device
from mdls_cosim.devices.variability import FiniteStates, ProgrammingError, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.quantities import format_quantity

LEAST_REPEATS = 3
"""Measurements of a level: fewer give no spread."""
_DEGREES = (0, 1, 2, 3)
_POSITIVE = 7
"""Degree of the polynomial that is non-negative by construction: the most that `ProgrammingError` holds."""


@dataclass(frozen=True, eq=False)
class LevelFit:
    """The levels of a table, their spreads, and the spread as a polynomial of the conductance."""

    levels: np.ndarray
    """(levels,) mean conductance, rising [S]."""
    spreads: np.ndarray
    """(levels,) standard deviation of what programming to the level gave [S]."""
    counts: np.ndarray
    """(levels,) measurements."""
    scale: float
    """Of the polynomial: the highest level [S]."""
    coefficients: np.ndarray
    """p0, p1, ...: spread/scale = p0 + p1 (G/scale) + p2 (G/scale)^2 + ..."""
    intervals: dict[str, tuple[float, float]]
    """95 % of each coefficient, by name "p0"."""
    bias: np.ndarray | None
    """(levels,) mean less target [S]; None without targets."""
    error: float
    """RMS of the levels' spreads less the polynomial, over the mean spread."""
    held_out: float | None
    """RMS of errors in the half that was not fitted, each over the spread fitted to the other half: 1 is right."""
    method: str
    notes: tuple[str, ...]

    def spread(self, conductances: np.ndarray) -> np.ndarray:
        """The polynomial at `conductances` [S], any shape: standard deviation [S], zero or more."""
        return _spread(self.coefficients, conductances, self.scale)


def fit_levels(table: LevelTable, *, bootstrap: int = 500, seed: int = 0) -> LevelFit:
    """Levels and spreads of `table`, and a polynomial sigma(G) through the spreads.

    Weighted least squares: the spread of n measurements is known to 1/sqrt(2 (n - 1)) of itself. The degree, at most
    3, is the one of the least Akaike criterion. Intervals: quantiles over `bootstrap`
    tables drawn from the measurements of each level with replacement.

    Raises:
        InputError: a level with too few measurements, or one level only.
    """
    numbers = np.unique(table.levels)
    groups = [table.conductances[table.levels == number] for number in numbers]
    order = np.argsort([group.mean() for group in groups])
    groups = [groups[place] for place in order]
    counts = np.array([len(group) for group in groups])
    if len(groups) < 2:
        raise InputError("one level only", where=table.name, limit="2 or more")
    if counts.min() < LEAST_REPEATS:
        raise InputError(
            "too few measurements of a level", where=f"{table.name}, level {numbers[order[counts.argmin()]]}",
            value=int(counts.min()), limit=f"{LEAST_REPEATS} or more",
            hint="A spread needs the level programmed several times, or on several devices",
        )  # fmt: skip
    means, spreads = _moments(groups)
    if (spreads <= 1e-9 * means).all():  # rounding is no spread
        raise InputError("measurements of every level that are all the same", where=table.name)
    scale = float(means.max())
    degree = _degree(means / scale, spreads / scale, counts)
    coefficients = _polynomial(means / scale, spreads / scale, counts, degree)
    generator = np.random.default_rng(seed)
    samples = []
    for _ in range(bootstrap):
        drawn = [generator.choice(group, len(group)) for group in groups]
        drawn_means, drawn_spreads = _moments(drawn)
        samples.append(_polynomial(drawn_means / scale, drawn_spreads / scale, counts, degree))
    bounds = np.quantile(samples, (0.025, 0.975), axis=0) if samples else np.full((2, degree + 1), np.nan)
    notes = []
    bias = None
    if table.targets is not None:
        targets = np.array([table.targets[table.levels == number].mean() for number in numbers])[order]
        bias = means - targets
        worst = int(np.argmax(np.abs(bias)))
        notes.append(f"the means miss their targets by up to {bias[worst] / targets[worst]:+.2%} of the target")
    overlap = means[1:] - means[:-1] < spreads[1:] + spreads[:-1]
    if overlap.any():
        notes.append(f"{int(overlap.sum())} of {len(overlap)} neighbouring levels lie within one spread of each other")
    fitted = _spread(coefficients, means, scale)
    notes += _missed(spreads, fitted, counts, means)
    return LevelFit(
        means, spreads, counts, scale, coefficients,
        {f"p{power}": (float(low), float(high)) for power, (low, high) in enumerate(bounds.T)},
        bias, float(np.sqrt(np.mean((spreads - fitted) ** 2)) / spreads.mean()), _held_out(groups, degree, scale),
        f"{bootstrap} tables drawn with replacement", tuple(notes),
    )  # fmt: skip


def calibrate_levels(table: LevelTable, device: Device, bootstrap: int | None, seed: int) -> Calibration:
    """A Calibration of a table of levels: `fit_levels`, told beside `device`."""
    fit = fit_levels(table, bootstrap=500 if bootstrap is None else bootstrap, seed=seed)
    values = {
        f"level_{number}": Value(
            float(mean),
            "S",
            float(mean - 1.96 * spread / np.sqrt(count)),
            float(mean + 1.96 * spread / np.sqrt(count)),
        )
        for number, (mean, spread, count) in enumerate(zip(fit.levels, fit.spreads, fit.counts, strict=True))
    }
    for power, coefficient in enumerate(fit.coefficients):
        low, high = fit.intervals[f"p{power}"]
        # As in [variability]: standard deviations at the highest level, of each power of G over it.
        values[f"p{power}"] = Value.within(fit.scale * coefficient, "S", (fit.scale * low, fit.scale * high))
    effects = (
        FiniteStates(levels=tuple(fit.levels.tolist())),
        ProgrammingError(polynomial=tuple((fit.scale * fit.coefficients).tolist()), polynomial_scale=fit.scale),
    )
    notes = list(fit.notes)
    if fit.held_out is not None:
        notes.append(
            f"every second measurement of a level misses the mean of the others by {fit.held_out:.3g} times the spread "
            "fitted to those (1 is right)"
        )
    return Calibration(
        title=f"Levels calibrated on {table.name}",
        kind="levels",
        device=device,
        values=values,
        method=f"{fit.method}; levels: standard errors",
        errors={table.name: fit.error},
        error_meaning="RMS of the levels' spreads less the fitted sigma(G), over the mean spread",
        variability=Variability(effects=effects),
        notes=tuple(notes),
        validity={"conductance": (float(table.conductances.min()), float(table.conductances.max()), "siemens")},
        seed=seed,
        modelled={"levels": fit.levels, "spreads": fit.spreads, "fitted": fit.spread(fit.levels)},
        measurements=((table, False),),
    )


def _moments(groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every level."""
    return np.array([group.mean() for group in groups]), np.array([group.std(ddof=1) for group in groups])


def _weights(spreads: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One over the standard error of each spread; of a spread of zero, that of a tenth of the mean."""
    return np.sqrt(2 * (counts - 1)) / np.maximum(spreads, 0.1 * spreads.mean())


def _polynomial(shares: np.ndarray, spreads: np.ndarray, counts: np.ndarray, degree: int) -> np.ndarray:
    """Weighted least-squares coefficients, lowest power first; of degree `_POSITIVE` with no negative spread between
    the levels: the coefficients of its Bernstein form are held at zero or above."""
    if degree < _POSITIVE:
        return np.polynomial.polynomial.polyfit(shares, spreads, degree, w=_weights(spreads, counts))
    low, high = float(shares.min()), float(shares.max())
    powers = np.arange(degree + 1)
    binomials = np.array([math.comb(degree, power) for power in powers])
    part = ((shares - low) / (high - low))[:, None]
    weights = _weights(spreads, counts)
    basis = binomials * part**powers * (1 - part) ** (degree - powers)
    found, _ = nnls(basis * weights[:, None], spreads * weights)
    up, down = np.polynomial.Polynomial([-low, 1]), np.polynomial.Polynomial([high, -1])
    terms = (
        float(value * binomial) * up ** int(power) * down ** int(degree - power)
        for value, binomial, power in zip(found, binomials, powers, strict=True)
        if value
    )
    total = sum(terms, np.polynomial.Polynomial([0.0])) / (high - low) ** degree
    return np.pad(total.coef, (0, degree + 1 - len(total.coef)))


def _degree(shares: np.ndarray, spreads: np.ndarray, counts: np.ndarray) -> int:
    """Degree of the polynomial with the least Akaike criterion, at most the number of levels less one.

    The likelihood is that of standard deviations of normal draws, sum of (n - 1) (ln sigma + spread^2/(2 sigma^2)):
    its only unknowns are the coefficients, so two levels are enough for a straight line. A polynomial that falls
    below half of the least spread between the lowest and the highest level is left out; the non-negative one of
    degree `_POSITIVE` then competes in its place.
    """
    between = np.linspace(shares.min(), shares.max(), 201)
    floor = max(spreads.min(), 1e-3 * spreads.mean())
    criteria = {}
    degrees: list[int] = list(_DEGREES[: len(shares)])
    for degree in degrees:
        coefficients = _polynomial(shares, spreads, counts, degree)
        dips = np.polynomial.polynomial.polyval(between, coefficients).min() < 0.5 * floor
        if 0 < degree < _POSITIVE and dips:
            if _POSITIVE not in degrees:
                degrees.append(_POSITIVE)
            continue
        sigma = np.maximum(np.polynomial.polynomial.polyval(shares, coefficients), 0.1 * floor)
        minus_log = np.sum((counts - 1) * (np.log(sigma) + (np.maximum(spreads, floor) / sigma) ** 2 / 2))
        terms = min(degree + 1, len(shares))
        criteria[degree] = 2 * minus_log + 2 * terms
    return min(criteria, key=lambda degree: criteria[degree])


def _missed(spreads: np.ndarray, fitted: np.ndarray, counts: np.ndarray, means: np.ndarray) -> list[str]:
    """A note where the polynomial misses the spread of a level by more than a fifth and four standard errors."""
    ratio = np.maximum(fitted, 1e-300) / np.maximum(spreads, 1e-300)
    missed = (np.abs(ratio - 1) > 0.2) & (np.abs(ratio - 1) * np.sqrt(2 * (counts - 1)) > 4)
    if not missed.any():
        return []
    worst = int(np.argmax(np.where(missed, np.abs(np.log(ratio)), 0.0)))
    return [
        f"sigma(G) misses the spread of {int(missed.sum())} of {len(spreads)} levels by more than 20 %; worst: "
        f"{format_quantity(fitted[worst], 'S', 3)} for {format_quantity(spreads[worst], 'S', 3)} at "
        f"{format_quantity(means[worst], 'S', 3)}"
    ]


def _spread(coefficients: np.ndarray, conductances: np.ndarray, scale: float) -> np.ndarray:
    shares = np.asarray(conductances) / scale
    return scale * np.maximum(np.polynomial.polynomial.polyval(shares, coefficients), 0.0)


def _held_out(groups: list[np.ndarray], degree: int, scale: float) -> float | None:
    """RMS of standardised errors of every second measurement, means and spreads from the others."""
    fitted, spared = [group[::2] for group in groups], [group[1::2] for group in groups]
    if min(len(group) for group in fitted) < LEAST_REPEATS:
        return None
    means, spreads = _moments(fitted)
    counts = np.array([len(group) for group in fitted])
    sigma = _spread(_polynomial(means / scale, spreads / scale, counts, degree), means, scale)
    if (sigma <= 0).any():
        return None
    # The mean is itself known to sigma/sqrt(n) only.
    each = [
        (group - mean) / (width * np.sqrt(1 + 1 / count))
        for group, mean, width, count in zip(spared, means, sigma, counts, strict=True)
    ]
    return float(np.sqrt(np.mean(np.concatenate(each) ** 2)))
