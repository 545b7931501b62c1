"""From experiment `pulse` to a PulseSurrogate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mdls_cosim.dataset import Dataset
from mdls_cosim.errors import InputError
from mdls_cosim.provenance import tool_versions
from mdls_cosim.surrogates.pulse_rates import Clock, Floats, Rates, flow
from mdls_cosim.surrogates.pulses import PulseDomain, PulseError, PulseSurrogate

_KNOTS = 24
_ROUNDS = 40  # of Gauss-Newton
_ROUGHNESS = 1e-2  # weight of what keeps rates smooth where data are few
_LEAST_STEP = 0.01  # of the range: trains of larger steps count by their error relative to those
_STRIDES = (1, 4, 16)  # pulses from where one prediction begins to where it is compared
_MOST_PAIRS = 8000
_NUDGE = 1e-6


@dataclass(frozen=True, eq=False)
class _Trains:
    """Runs of equal pulses of one direction."""

    amplitudes: Floats
    """(trains,) [V]."""
    widths: Floats
    """(trains,) [s]."""
    along: Floats
    """(trains, pulses + 1): p, the start first."""
    speeds: Floats
    """(trains,)."""

    def some(self, mask: NDArray[np.bool_]) -> _Trains:
        return _Trains(self.amplitudes[mask], self.widths[mask], self.along[mask], self.speeds[mask])


def fit_pulses(dataset: Dataset) -> PulseSurrogate:
    """Fits a PulseSurrogate to experiment `pulse`.

    The stated error is that of a fit without every third inner amplitude (of four or more) and without every third
    width (of two or more) on those left out; where neither can be spared, of one without every other train. A single
    train gives none. The surrogate itself is fitted to all. `spread` is that of the speeds that the experiment drew.

    Raises:
        InputError: no trains of one device, fewer than two pulses in them, or none that moves the conductance.
    """
    variants = dataset.variants("pulse")
    if len(variants) != 1:
        raise InputError(
            "a pulse surrogate stands for one device",
            where="pulse",
            value=", ".join(each.label for each in variants) or "no trains of pulses",
            limit="one tile, one corner",
            hint="characterize with a table [pulse], and without sizes and corners",
        )
    arrays = variants[0].arrays
    values = {name: np.asarray(array.values, dtype=np.float64) for name, array in arrays.items()}
    conductances, speeds = values["conductances"], values["speeds"]
    if arrays["conductances"].dims[0] == "seed":  # more cycles
        conductances = np.concatenate(list(conductances), axis=2)
        speeds = np.concatenate(list(speeds))
        values |= {name: values[name][0] for name in ("potentiation", "depression", "widths")}
    known = conductances[np.isfinite(conductances)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    pulses = conductances.shape[-1] // 2
    if pulses < 2 or not high > low * (1 + 1e-9):
        raise InputError(
            "nothing to learn from trains that do not move",
            where="pulse",
            value=f"{pulses} pulses, {low:.4g} to {high:.4g} S",
            limit="2 pulses or more, of a conductance that they change",
            hint="raise the amplitudes, the widths or the number of pulses",
        )
    along = (conductances - low) / (high - low)
    trains = {
        "raising": _flat(along[..., : pulses + 1], values["potentiation"], values["widths"], speeds),
        "lowering": _flat(1 - along[..., pulses:], values["depression"], values["widths"], speeds),
    }
    rates = {name: fit_rates(each) for name, each in trains.items()}
    reach = {name: (float(each.along.min()), float(each.along.max())) for name, each in trains.items()}
    span = high - low
    domain = PulseDomain(
        conductances=(low, high),
        raising=(low + span * reach["raising"][0], low + span * reach["raising"][1]),
        lowering=(high - span * reach["lowering"][1], high - span * reach["lowering"][0]),
        potentiation=(float(values["potentiation"].min()), float(values["potentiation"].max())),
        depression=(float(values["depression"].min()), float(values["depression"].max())),
        widths=(float(values["widths"].min()), float(values["widths"].max())),
    )
    recorded = dataset.provenance.tools
    return PulseSurrogate(
        rates["raising"],
        rates["lowering"],
        domain,
        spread=float(np.sqrt(np.mean(np.log(speeds) ** 2))),
        error=_held_out_error(trains),
        parents=(dataset.content_hash,),
        tools={**tool_versions(), **{name: recorded[name] for name in ("ngspice", "solver") if name in recorded}},
        seed=dataset.provenance.seed,
    )


def _held_out_error(trains: dict[str, _Trains]) -> PulseError | None:
    held = {name: _held_out(each) for name, each in trains.items()}
    if not all(mask.any() for mask in held.values()):
        return None
    errors = [train_errors(fit_rates(each.some(~held[name])), each.some(held[name])) for name, each in trains.items()]
    runs, steps = (np.concatenate([pair[index] for pair in errors]) for index in (0, 1))
    return PulseError(
        train=float(np.sqrt(np.mean(runs**2))),
        worst=float(np.abs(runs).max()),
        step=float(np.sqrt(np.mean(steps**2))),
        held_out=_told(trains["raising"], held["raising"]),
    )


def fit_rates(trains: _Trains) -> Rates:
    """The rates whose flow takes trains from where they are to where they are 1, 4 and 16 pulses later.

    Over several pulses the noise of single readings counts less. Gauss-Newton on ln f at amplitudes and knots. Beside
    the data stands a preference for smooth rates whose shape is
    the same at all amplitudes, ln f = a(A) + b(p), which decides where weak pulses do not reach.
    """
    amplitudes, train_of = np.unique(trains.amplitudes, return_inverse=True)
    before, after, advance, which, scale = _pairs(trains, train_of)
    knots = _knots(np.concatenate([before, after]))
    logs = _first_guess(knots, len(amplitudes), before, after, advance, which)
    smooth = _ROUGHNESS * _roughness(len(amplitudes), knots)
    starts, spans, grid = (torch.as_tensor(each) for each in (before, advance, knots))
    groups = [torch.as_tensor(np.flatnonzero(which == index)) for index in range(len(amplitudes))]

    def miss(logs: Floats) -> Floats:
        gains = np.empty_like(before)
        for own, group in zip(torch.as_tensor(logs), groups, strict=True):
            gains[group] = flow(own, grid, starts[group], spans[group]).numpy()
        return (before + gains - after) * scale

    def cost(logs: Floats) -> float:
        return float(np.sum(miss(logs) ** 2) + np.sum((smooth @ logs.ravel()) ** 2))

    count, damping, best = len(knots), 1e-3, cost(logs)
    for _ in range(_ROUNDS):
        # A pulse knows its own amplitude only, so one knot of all amplitudes is moved at a time.
        jacobian, missed = np.zeros((len(before), logs.size)), miss(logs)
        for knot in range(count):
            moved = logs.copy()
            moved[:, knot] += _NUDGE
            jacobian[np.arange(len(before)), which * count + knot] = (miss(moved) - missed) / _NUDGE
        normal = jacobian.T @ jacobian + smooth.T @ smooth
        slope = jacobian.T @ missed + smooth.T @ (smooth @ logs.ravel())
        gained = 0.0
        while damping < 1e6:
            step = np.linalg.solve(normal + damping * (np.diag(np.diag(normal)) + 1e-12 * np.eye(len(normal))), -slope)
            trial = logs + np.clip(step, -3, 3).reshape(logs.shape)
            found = cost(trial)
            if found < best:
                gained, logs, best, damping = 1 - found / best, trial, found, damping / 5
                break
            damping *= 4
        if gained < 1e-5:
            break
    return Rates(amplitudes, knots, logs)


def train_errors(rates: Rates, trains: _Trains) -> tuple[Floats, Floats]:
    """Differences of p after every pulse: of whole trains from their starts, and of single pulses."""
    clock = Clock(rates)
    amplitudes = torch.as_tensor(trains.amplitudes)
    advance = torch.as_tensor(trains.widths * trains.speeds)
    runs, steps = [], []
    reached = torch.as_tensor(trains.along[:, 0])
    for pulse in range(1, trains.along.shape[1]):
        reached = reached + clock.flow(reached, amplitudes, advance)
        begun = torch.as_tensor(trains.along[:, pulse - 1])
        runs.append(reached.numpy() - trains.along[:, pulse])
        steps.append((begun + clock.flow(begun, amplitudes, advance)).numpy() - trains.along[:, pulse])
    return np.concatenate(runs), np.concatenate(steps)


def _pairs(trains: _Trains, train_of: NDArray[np.intp]) -> tuple[Floats, Floats, Floats, NDArray[np.intp], Floats]:
    """p before and after, time between, which amplitude, and weight, for every stride (pairs,)."""
    found = []
    for stride in _STRIDES:
        if stride < trains.along.shape[1]:
            before, after = trains.along[:, :-stride], trains.along[:, stride:]
            advance = np.broadcast_to((stride * trains.widths * trains.speeds)[:, None], before.shape)
            which = np.broadcast_to(train_of[:, None], before.shape)
            # One weight a train: that of a single pulse would favour those that noise made small.
            sizes = np.sqrt(np.mean((after - before) ** 2, axis=1, keepdims=True))
            weights = np.broadcast_to(1 / np.maximum(sizes, _LEAST_STEP), before.shape)
            found.append([each.ravel() for each in (before, after, advance, which, weights)])
    before, after, advance, which, weights = (np.concatenate(each) for each in zip(*found, strict=True))
    if len(before) > _MOST_PAIRS:
        kept = np.random.default_rng(0).choice(len(before), _MOST_PAIRS, replace=False)
        before, after, advance, which, weights = (each[kept] for each in (before, after, advance, which, weights))
    return before, after, advance, which, weights / np.sqrt(len(before))


def _flat(along: Floats, amplitudes: Floats, widths: Floats, speeds: Floats) -> _Trains:
    """From (amplitude, width, cycle, pulse)."""
    shape = along.shape[:3]
    volts, seconds, factors = (
        np.broadcast_to(each, shape).ravel() for each in (amplitudes[:, None, None], widths[:, None], speeds)
    )
    whole = np.isfinite(along).all(-1).ravel()  # a simulation that failed left NaN
    return _Trains(volts, seconds, along.reshape(-1, along.shape[-1]), factors).some(whole)


def _held_out(trains: _Trains) -> NDArray[np.bool_]:
    """Every third inner amplitude and every third width but the longest; where that is none, every other train."""
    volts, seconds = np.unique(trains.amplitudes), np.unique(trains.widths)
    held = np.isin(trains.amplitudes, volts[1:-1:3] if len(volts) > 3 else [])
    held |= np.isin(trains.widths, seconds[1:-1:3] if len(seconds) > 2 else seconds[:-1])
    if not held.any() and len(held) > 1:
        held[1::2] = True
    return held


def _told(trains: _Trains, held: NDArray[np.bool_]) -> str:
    kept = trains.some(~held)
    volts = sorted(set(trains.amplitudes) - set(kept.amplitudes))
    seconds = sorted(set(trains.widths) - set(kept.widths))
    said = [f"amplitudes {', '.join(f'{volt:g} V' for volt in volts)}"] if volts else []
    said += [f"widths {', '.join(f'{second:g} s' for second in seconds)}"] if seconds else []
    return "; ".join(said) or "every other train"


def _knots(along: Floats) -> Floats:
    """Half of them even, half where the data are: rates vary most where trains saturate."""
    even = np.linspace(0, 1, _KNOTS // 2)
    dense = np.quantile(along, np.linspace(0, 1, _KNOTS // 2 + 2)[1:-1]).clip(0, 1)
    knots = np.unique(np.concatenate([even, dense]))
    kept = [0.0]
    for knot in knots[1:]:
        if knot - kept[-1] >= 2e-3 and 1 - knot >= 2e-3:
            kept.append(float(knot))
    return np.array([*kept, 1.0])


def _first_guess(
    knots: Floats, amplitudes: int, before: Floats, after: Floats, advance: Floats, which: NDArray[np.intp]
) -> Floats:
    """Logarithms of the mean rates nearby, (amplitudes, knots)."""
    rate = (after - before) / advance
    near = np.exp(-np.abs(knots[:, None] - (before + after) / 2) / 0.05) + 1e-9
    guess = np.empty((amplitudes, len(knots)))
    for index in range(amplitudes):
        weights = near * (which == index)
        guess[index] = np.log(np.maximum(weights @ rate / weights.sum(-1), 1e-3 / advance.max()))
    return guess


def _roughness(amplitudes: int, knots: Floats) -> Floats:
    """Rows that are 0 for straight ln f of one shape at all amplitudes, (rows, amplitudes * knots)."""
    count, rows = len(knots), []
    slopes = np.zeros((count - 1, count))
    slopes[np.arange(count - 1), np.arange(count - 1)] = -1 / np.diff(knots)
    slopes[np.arange(count - 1), np.arange(1, count)] = 1 / np.diff(knots)
    bends = np.diff(slopes, axis=0) * np.sqrt(np.diff(knots)[1:, None]) * 0.1
    shape = slopes * np.sqrt(np.diff(knots))[:, None]
    for index in range(amplitudes):
        row = np.zeros((len(bends), amplitudes, count))
        row[:, index] = bends
        rows.append(row)
        if index:
            row = np.zeros((len(shape), amplitudes, count))
            row[:, index], row[:, index - 1] = shape, -shape
            rows.append(row)
    return np.concatenate(rows).reshape(-1, amplitudes * count)
