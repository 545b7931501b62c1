"""Tables of levels: which conductances programming reaches, and how far it misses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdls_cosim.calibrate.measurement import LevelTable
from mdls_cosim.calibrate.result import Calibration, Value
from mdls_cosim.devices import Device
from mdls_cosim.devices.variability import FiniteStates, ProgrammingError, Variability
from mdls_cosim.errors import InputError

LEAST_REPEATS = 3
"""Measurements of a level: fewer give no spread."""
_DEGREES = (0, 1, 2, 3)


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
    3, is the one of the least Akaike criterion, corrected for small numbers. Intervals: quantiles over `bootstrap`
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
    return np.polynomial.polynomial.polyfit(shares, spreads, degree, w=_weights(spreads, counts))


def _degree(shares: np.ndarray, spreads: np.ndarray, counts: np.ndarray) -> int:
    """Of the polynomial with the least corrected Akaike criterion; its chi square is known, as the weights are."""
    number = len(shares)
    criteria = {}
    for degree in _DEGREES:
        terms = degree + 1
        if number - terms - 1 < 1:
            break
        fitted = np.polynomial.polynomial.polyval(shares, _polynomial(shares, spreads, counts, degree))
        chi = np.sum((_weights(spreads, counts) * (spreads - fitted)) ** 2)
        criteria[degree] = chi + 2 * terms + 2 * terms * (terms + 1) / (number - terms - 1)
    return min(criteria, key=lambda degree: criteria[degree]) if criteria else 0


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
