"""Pulse trains: how far one pulse moves a conductance, how that depends on the conductance, and how it scatters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mdls_cosim.calibrate.measurement import PulseTrain, names_of
from mdls_cosim.calibrate.pulse_response import PulseLaw, PulseResponse
from mdls_cosim.calibrate.pulse_runs import fit_degrees, fit_law, fit_starts, run_law, run_with_slopes
from mdls_cosim.calibrate.pulse_scatter import Scatter
from mdls_cosim.calibrate.result import Calibration, Ranked, Value
from mdls_cosim.devices import Device
from mdls_cosim.errors import InputError

DEGREES = (0, 1, 2, 3, 4, 5, 6)
"""Of the step's polynomial, tried where ramps are held out."""
_WORDS = {1: "raising", -1: "lowering"}
"""Names of the directions."""
_UNEVEN = 0.03
"""Spread of the ramps' speeds that is worth a note."""
_LEAST_RAMPS = 3
"""For a spread between them."""
_EVERY = 4
"""One ramp in so many is held out."""
_NEAR = 1.05
"""A polynomial of lower degree is preferred where its held-out error is within this factor of the best."""


@dataclass(frozen=True, eq=False)
class PulseFit:
    """A PulseResponse with its evidence."""

    response: PulseResponse
    intervals: dict[str, tuple[float, float]]
    """95 % of every coefficient and of the noises, by its path: "raising.c0"."""
    method: str
    """How the intervals came about."""
    errors: dict[str, float]
    """Train's name -> RMS of the fitted ramps less the model's run from a fitted start, over the range."""
    held_out: dict[str, float]
    """The same of ramps not fitted, the model's run beginning at their first reading."""
    degrees: dict[str, dict[int, float]]
    """"raising" or "lowering" -> held-out error by degree of the polynomial; absent where no ramp is held out."""
    modelled: dict[str, np.ndarray]
    """Train's name -> (ramps, pulses) conductances of the model [S] or shares, from each ramp's start."""
    notes: tuple[str, ...] = ()


def split_ramps(trains: Sequence[PulseTrain]) -> tuple[list[PulseTrain], list[PulseTrain]]:
    """Trains to fit and trains to hold out: every fourth ramp of those that have four or more."""
    fitted, spared = [], []
    for train in trains:
        count = len(train.conductances)
        out = np.arange(count) % _EVERY == _EVERY - 1
        fitted.append(dataclasses.replace(train, conductances=train.conductances[~out]))
        if out.any():
            name = f"{train.name}, {int(out.sum())} of {count} ramps"
            spared.append(dataclasses.replace(train, name=name, conductances=train.conductances[out]))
    return fitted, spared


def fit_pulses(
    trains: Sequence[PulseTrain],
    *,
    held_out: Sequence[PulseTrain] = (),
    bootstrap: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PulseFit:
    """The PulseResponse of measured `trains`, of one device or of equal ones.

    Each direction: least squares between the measured conductances and runs of the law from a start of each ramp's
    own. The degree of the law is the least whose error on held-out ramps is within 5 % of the best; 1 where none are
    held out. Random steps and the noise of the reading are told apart by how the scatter grows with the distance
    between pulses (`Scatter`).

    What it leaves out: speeds that differ from ramp to ramp are measured (`ramp_spread`) after the fit and not in it;
    the starts take up a part of them, which bends the law. A spread of 5 % moves c1 by about an eighth; a note says so.

    Intervals: quantiles over `bootstrap` fits to ramps drawn with replacement, eight ramps or more; else to ramps
    simulated with the fitted spreads.

    Args:
        held_out: trains that are compared and not fitted.
        progress: called with (done, planned) fits.

    Raises:
        InputError: no train; trains with a unit and without one; a held-out train of a direction that is not fitted.
    """
    if not trains:
        raise InputError("no pulse train to fit")
    if len(units := {train.unit for train in (*trains, *held_out)}) > 1:
        raise InputError("conductances with a unit and without one", value=sorted(units))
    every = np.concatenate([train.conductances[np.isfinite(train.conductances)] for train in trains])
    low, high = (float(each) for each in np.quantile(every, (0.01, 0.99)))
    directions = [direction for direction in _WORDS if any(train.direction == direction for train in trains)]
    if missing := [train.name for train in held_out if train.direction not in directions]:
        raise InputError("a held-out train of a direction that is not fitted", value=missing)
    found: dict[str, _Direction] = {}
    for place, direction in enumerate(directions):

        def advance(done: int, before: int = place * bootstrap) -> None:
            if progress is not None:
                progress(before + done, bootstrap * len(directions))

        mine, spared = ([train for train in each if train.direction == direction] for each in (trains, held_out))
        found[_WORDS[direction]] = _fit_direction(mine, spared, low, high, bootstrap, seed, advance)
    scaled = trains[0].unit == "S"
    intervals = {f"{word}.{name}": each for word, one in found.items() for name, each in one.intervals.items()}
    noises = np.sqrt(np.mean([each.read_noises**2 for each in found.values()], axis=0))
    response = PulseResponse(
        lowest=low if scaled else None,
        highest=high if scaled else None,
        raising=found["raising"].law if "raising" in found else None,
        lowering=found["lowering"].law if "lowering" in found else None,
        read_noise=float(noises[0]),
    )
    if bootstrap:
        intervals["read_noise"] = _interval(noises[1:])
    notes = [f"{word}: {note}" for word, each in found.items() for note in each.notes]
    if not scaled:
        notes.append(f"conductances without a unit: u = 0 at {low:.4g} and u = 1 at {high:.4g} of the file")
    return PulseFit(
        response,
        intervals,
        "; ".join(dict.fromkeys(each.method for each in found.values())),
        {name: error for each in found.values() for name, error in each.errors.items()},
        {name: error for each in found.values() for name, error in each.held_out.items()},
        {word: each.degrees for word, each in found.items() if each.degrees},
        {name: low + (high - low) * runs for each in found.values() for name, runs in each.modelled.items()},
        tuple(notes),
    )


def calibrate_pulses(
    trains: Sequence[PulseTrain],
    held_out: Sequence[PulseTrain],
    device: Device,
    bootstrap: int | None,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """A Calibration of pulse trains: `fit_pulses`, told beside `device`; every fourth ramp held out, or `held_out`."""
    fitted, spared = (list(trains), list(held_out)) if held_out else split_ramps(trains)
    fit = fit_pulses(
        fitted, held_out=spared, bootstrap=200 if bootstrap is None else bootstrap, seed=seed, progress=progress
    )
    values = {}
    for word in _WORDS.values():
        law = getattr(fit.response, word)
        if law is None:
            continue
        numbers = {f"c{power}": value for power, value in enumerate(law.coefficients)} | {"spread": law.spread}
        if law.ramp_spread:
            numbers["ramp_spread"] = law.ramp_spread
        for name, value in numbers.items():
            values[f"{word}.{name}"] = Value.within(value, "", fit.intervals.get(f"{word}.{name}"))
    values["read_noise"] = Value.within(fit.response.read_noise, "", fit.intervals.get("read_noise"))
    ranking = tuple(
        Ranked(f"{word}: polynomial of degree {degree}", None, error)
        for word, degrees in fit.degrees.items()
        for degree, error in degrees.items()
    )
    every = np.concatenate([train.conductances.ravel() for train in (*trains, *held_out)])
    spans = {}
    if trains[0].unit:
        spans["conductance"] = (float(np.nanmin(every)), float(np.nanmax(every)), "siemens")
    return Calibration(
        title=f"Pulse response calibrated on {names_of(trains)}",
        kind="pulses",
        device=device,
        values=values,
        method=fit.method,
        errors=fit.errors,
        held_out=fit.held_out,
        error_meaning="RMS of measured less modelled conductance, over the calibrated range",
        ranking=ranking,
        pulses=fit.response,
        notes=fit.notes,
        validity=spans,
        seed=seed,
        modelled=fit.modelled,
        measurements=(*((train, False) for train in fitted), *((train, True) for train in spared)),
    )


@dataclass(frozen=True, eq=False)
class _Direction:
    law: PulseLaw
    read_noises: np.ndarray
    """Of the fit, then of every fit to resampled data."""
    intervals: dict[str, tuple[float, float]]
    method: str
    errors: dict[str, float]
    held_out: dict[str, float]
    degrees: dict[int, float]
    modelled: dict[str, np.ndarray]
    notes: list[str]


def _fit_direction(
    trains: Sequence[PulseTrain],
    held_out: Sequence[PulseTrain],
    low: float,
    high: float,
    bootstrap: int,
    seed: int,
    progress: Callable[[int], None],
) -> _Direction:
    longest = max(train.conductances.shape[1] for train in (*trains, *held_out))
    rows = {
        train.name: np.pad(
            (train.conductances - low) / (high - low),
            ((0, 0), (0, longest - train.conductances.shape[1])),
            constant_values=np.nan,
        )
        for train in (*trains, *held_out)
    }
    ramps = np.concatenate([rows[train.name] for train in trains])
    notes: list[str] = []
    degrees: dict[int, float] = {}
    if held_out:
        unseen = np.concatenate([rows[train.name] for train in held_out])
        fits = fit_degrees(ramps, DEGREES)
        misses = [unseen - run_law(fit, unseen[:, 0], longest) for fit in fits]
        degrees = dict(zip(DEGREES, map(_rms, misses), strict=True))
        degree = next(one for one, error in degrees.items() if error <= _NEAR * min(degrees.values()))
        coefficients = fits[DEGREES.index(degree)]
        notes.append(f"degree {degree} is the least within 5 % of the best held-out error")
    else:
        degree = 1
        coefficients = fit_degrees(ramps, (0, 1))[1]
        notes.append("no ramp is held out (that takes four): the law is the saturating exponential")
    starts = fit_starts(coefficients, ramps)
    scatter = Scatter.about(coefficients, starts, ramps)
    spread, read_noise = scatter.parted(ramps - run_law(coefficients, starts, longest))
    ramp_spread = _ramp_spread(coefficients, ramps, starts, spread, read_noise)
    law = PulseLaw(coefficients=tuple(map(float, coefficients)), spread=spread, ramp_spread=ramp_spread)
    if len(ramps) < _LEAST_RAMPS:
        notes.append(f"no spread from ramp to ramp, which takes {_LEAST_RAMPS} ramps")
    if ramp_spread > _UNEVEN:
        notes.append(f"the speed of the ramps differs by {ramp_spread:.1%}, which bends a law fitted to all of them")
    samples, method = _resampled(law, ramps, starts, read_noise, scatter, bootstrap, seed, progress)
    names = [*(f"c{power}" for power in range(degree + 1)), "spread"]
    intervals = {name: _interval(samples[:, place]) for place, name in enumerate(names)} if bootstrap else {}
    errors, held, modelled = {}, {}, {}
    own = dict(zip((train.name for train in trains), _parts(starts, [len(rows[t.name]) for t in trains]), strict=True))
    for train in (*trains, *held_out):
        mine = rows[train.name]
        fitted = train.name in own
        runs = run_law(coefficients, own[train.name] if fitted else mine[:, 0], longest)
        modelled[train.name] = np.where(np.isnan(mine), np.nan, runs)[:, : train.conductances.shape[1]]
        (errors if fitted else held)[train.name] = _rms(mine - runs)
    noises = np.concatenate([[read_noise], samples[:, -1]])
    return _Direction(law, noises, intervals, method, errors, held, degrees, modelled, notes)


def _parts(values: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum(lengths)[:-1])


def _interval(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


def _rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(difference**2)))


def _ramp_spread(
    coefficients: np.ndarray, ramps: np.ndarray, starts: np.ndarray, spread: float, read_noise: float
) -> float:
    """Standard deviation over ramps of a factor on the steps, less what random steps and readings alone bring about.

    For each ramp, start and factor are estimated together, linearly about the run; the variance that the two noises
    give to that estimate is known from its weights.
    """
    if len(ramps) < _LEAST_RAMPS:
        return 0.0
    small = 1e-3
    runs, _, by_start = run_with_slopes(coefficients, starts, ramps.shape[1])
    by_factor = (run_law(coefficients * (1 + small), starts, ramps.shape[1]) - runs) / small
    factors, known = [], []
    for ramp, run, start_slope, factor_slope in zip(ramps, runs, by_start, by_factor, strict=True):
        here = np.isfinite(ramp)
        weights = np.linalg.pinv(np.stack([start_slope[here], factor_slope[here]], axis=1))[1]
        factors.append(weights @ (ramp - run)[here])
        # A random step before reading k moves all readings from k on, by the growth of the run since.
        growth = np.maximum(np.abs(start_slope[here]), 1e-12)
        moved = np.cumsum((weights * growth)[::-1])[::-1][1:] / growth[1:]
        known.append(spread**2 * np.sum(moved**2) + read_noise**2 * np.sum(weights**2))
    return float(np.sqrt(max(np.var(factors, ddof=1) - np.mean(known), 0.0)))


def _resampled(
    law: PulseLaw,
    ramps: np.ndarray,
    starts: np.ndarray,
    read_noise: float,
    scatter: Scatter,
    count: int,
    seed: int,
    progress: Callable[[int], None],
) -> tuple[np.ndarray, str]:
    """(count, values) coefficients, spread and read noise of repeated fits; and how they were made."""
    generator = np.random.default_rng(seed)
    coefficients = np.asarray(law.coefficients)
    found = []
    resample = len(ramps) >= 8
    done = 0
    while done < count:
        batch = min(25, count - done)
        if resample:
            drawn = generator.integers(0, len(ramps), (batch, len(ramps)))
            weights = np.stack([np.bincount(each, minlength=len(ramps)) for each in drawn]).astype(np.float64)
            trial = np.broadcast_to(ramps, (batch, *ramps.shape))
        else:
            weights = np.ones((batch, len(ramps)))
            trial = _simulated(law, starts, ramps, read_noise, batch, generator)
        fits, begins = fit_law(
            trial, weights, np.tile(coefficients, (batch, 1)), np.tile(starts, (batch, 1)), rounds=12
        )
        runs = run_law(fits, begins, ramps.shape[1])
        parted = (scatter.parted(*each) for each in zip(trial - runs, weights, strict=True))
        found += [[*fit, *noises] for fit, noises in zip(fits, parted, strict=True)]
        done += batch
        progress(done)
    method = f"{count} fits to ramps drawn with replacement" if resample else f"{count} fits to simulated ramps"
    return np.asarray(found).reshape(count, len(coefficients) + 2), method


def _simulated(
    law: PulseLaw, starts: np.ndarray, ramps: np.ndarray, read_noise: float, batch: int, generator: np.random.Generator
) -> np.ndarray:
    """(batch, ramps, pulses) readings with the law's spreads, as long as the measured ones."""
    shape = (batch, *ramps.shape)
    share = np.broadcast_to(starts, shape[:2]).copy()
    factor = 1 + law.ramp_spread * generator.standard_normal(shape[:2])
    values = np.empty(shape)
    for pulse in range(shape[2]):
        values[..., pulse] = share
        share = np.clip(share + factor * law.step(share) + law.spread * generator.standard_normal(shape[:2]), -1.0, 2.0)
    values += read_noise * generator.standard_normal(shape)
    return np.where(np.isnan(ramps), np.nan, values)
