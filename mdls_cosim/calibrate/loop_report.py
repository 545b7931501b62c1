"""From the optimum of a fit to its report: errors on fitted and held-out loops, intervals, notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mdls_cosim.calibrate.agreement import agreement
from mdls_cosim.calibrate.confidence import Confidence
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.loop_problem import Candidates, LoopProblem, Prepared
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.set_up import SetUp
from mdls_cosim.calibrate.spaces import Free
from mdls_cosim.calibrate.spread import cycle_spread

_COARSE = 5e-3
"""Of the current range: a change of the fit at half the time step that is worth a note."""
_STARTS = 101
"""First states that are tried for a held-out loop whose first state is not known."""
_AT_BOUND = 1e-3
"""Share of the searched range within which a value counts as at its bound."""


def report_fit(
    problem: LoopProblem,
    shares: np.ndarray,
    confidence: Confidence,
    extra: SetUp,
    loops: Sequence[Loop],
    held_out: Sequence[Loop],
    hysteresis: Sequence[Any],
    sign: int,
) -> LoopFit:
    """The fit at `shares`: device, intervals, errors of the fitted and the held-out loops, spread between cycles.

    Args:
        hysteresis: of each of `loops`.
        sign: of the voltage that raises the conductance in the measurement.
    """
    parameters = problem.parameters
    own = {each.name: float(each.value(shares[place])) for place, each in enumerate(parameters)}
    bounds = {
        each.name: tuple(sorted(float(each.value(end[place])) for end in (confidence.low, confidence.high)))
        for place, each in enumerate(parameters)
    }
    named = [each.name for each in parameters if not each.name.startswith("start of ")]
    best = problem.candidates(shares[None])
    model = problem.space.chosen(shares)
    raising = model.raising_sign
    turned = sign * raising
    device = model.replace(reversed=True) if turned < 0 else model
    notes = [problem.space.remark] if problem.space.remark else []
    if device.reversed:
        notes.append("reversed = true: the model's second pin is the one where the measured voltage is positive")
    notes += _at_bounds(parameters, shares)
    notes += [f"{loop.name} does not switch" for loop, each in zip(loops, hysteresis, strict=True) if not each.present]

    responses = problem.respond(best, finer=2, until_closed=True)
    coarser = problem.respond(best, until_closed=True)
    errors, modelled, starts, ends, over_device, visited = {}, {}, {}, {}, {}, {}
    for loop, response, other in zip(problem.loops, responses, coarser, strict=True):
        currents = response.currents[0, 0]
        errors[loop.name] = float(np.sqrt(np.mean((currents - loop.currents) ** 2))) / loop.span
        change = float(np.sqrt(np.mean((currents - other.currents[0, 0]) ** 2))) / loop.span
        if change > _COARSE:
            notes.append(f"{loop.name}: half the time step changes the model by {change:.1%} of the current range")
        modelled[loop.name] = turned * loop.measured_order(currents)
        states = loop.measured_order(response.states[0, 0])
        starts[loop.name], ends[loop.name] = float(states[0]), float(states[-1])
        over_device[loop.name], visited[loop.name] = turned * loop.measured_order(response.voltages[0, 0]), states

    spared = {}
    for loop in held_out:
        prepared = extra.prepare(loop, turned, raising)
        before = next((each for each in problem.loops if each.name == loop.follows), None)
        currents, start, guessed = predict(problem, best, prepared, before, ends)
        spared[loop.name] = float(np.sqrt(np.mean((currents - prepared.currents) ** 2))) / prepared.span
        modelled[loop.name] = turned * prepared.measured_order(currents)
        starts[loop.name] = start
        if guessed:
            notes.append(f"{loop.name}: its first state is fitted, the rest is predicted")

    series = own.get("series_resistance", extra.series_resistance)
    branches = {loop.name: agreement(loop, modelled[loop.name], series) for loop in (*loops, *held_out)}
    effects, more = cycle_spread(loops, problem.loops, best)
    capacitance = own.get("parallel_capacitance", problem.capacitor if not isinstance(problem.capacitor, Free) else 0.0)
    return LoopFit(
        device=device,
        values={name: own[name] for name in named},
        intervals={name: bounds[name] for name in named},  # pyright: ignore[reportArgumentType]
        determined={
            each.name: bool(confidence.determined[place]) for place, each in enumerate(parameters) if each.name in named
        },
        method=confidence.method,
        errors=errors,
        held_out=spared,
        modelled=modelled,
        starts=starts,
        voltages=over_device,
        states=visited,
        series_resistance=series,
        parallel_capacitance=float(capacitance),
        branches=branches,
        misfit=float(np.sqrt(np.mean(problem.residuals(shares[None]) ** 2))),
        covariance=confidence.covariance,
        points=sum(len(loop.times) for loop in problem.loops),
        variability=effects,
        notes=(*notes, *more),
    )


def _at_bounds(parameters: Sequence[Free], shares: np.ndarray) -> list[str]:
    """Of fitted values at the bounds of the search: the best may lie outside, or the data tell nothing."""
    ends = {
        each.name: "least" if share < 0.5 else "largest"
        for each, share in zip(parameters, shares, strict=True)
        if min(share, 1 - share) < _AT_BOUND and not each.name.startswith("start of ")
    }
    return [f"{name} is at the {end} value that was searched" for name, end in ends.items()]


def predict(
    problem: LoopProblem, best: Candidates, loop: Prepared, before: Prepared | None, ends: dict[str, float]
) -> tuple[np.ndarray, float, bool]:
    """Currents of a held-out loop (points,), its first state, and whether that had to be fitted."""
    if loop.period is not None:
        alone = dataclasses.replace(problem, loops=[loop])
        response = alone.respond(best, finer=2, until_closed=True)[0]
        return response.currents[0, 0], float(loop.measured_order(response.states[0, 0])[0]), False
    if before is not None and before.period is None and before.times[-1] < loop.times[0]:
        # From the last fitted point on.
        joined = dataclasses.replace(
            loop,
            times=np.append(before.times[-1], loop.times),
            drive=np.append(before.drive[-1], loop.drive),
            currents=np.append(before.currents[-1], loop.currents),
        )  # its parts and scales are not read
        alone = dataclasses.replace(problem, loops=[joined])
        given = dataclasses.replace(best, starts=np.array([[ends[before.name]]]))
        response = alone.respond(given, finer=2)[0]
        return response.currents[0, 0, 1:], float(response.states[0, 0, 1]), False
    alone = dataclasses.replace(problem, loops=[loop])
    tried = dataclasses.replace(best, starts=np.linspace(0.0, 1.0, _STARTS)[:, None])
    response = alone.respond(tried, finer=2)[0]
    chosen = int(np.argmin(np.mean((response.currents[:, 0] - loop.currents) ** 2, axis=1)))
    return response.currents[chosen, 0], float(response.states[chosen, 0, 0]), True
