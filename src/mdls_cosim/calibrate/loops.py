"""Fit a dynamic device to measured current-voltage loops: a global search, a refinement, and the confidence in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mdls_cosim.calibrate.confidence import Confidence, from_bootstrap, from_hessian
from mdls_cosim.calibrate.loop_problem import Candidates, LoopProblem, Prepared, prepare
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.search import explore, refine
from mdls_cosim.calibrate.spaces import Free, Scales, Space, search_spaces
from mdls_cosim.calibrate.spread import cycle_spread
from mdls_cosim.calibrate.switching import switching
from mdls_cosim.devices import DynamicDevice
from mdls_cosim.errors import InputError

CANDIDATES = 1024
"""Of the global search, a power of two."""
_REFINED = 16
"""Best candidates that are refined in a first round..."""
_FINISHED = 4
"""...and of these, those that are refined to the end."""
_SEARCH_POINTS = 500
"""Points of a loop that the search looks at; later rounds and all errors take every point."""
_POLISHED = 4
"""A last round takes steps so many times as fine, where those of the search change the model by more than..."""
_STEPS_MATTER = 0.03
"""...this share of the residual: an error of the steps that is not small against the noise moves the parameters out of
their intervals."""
_COARSE = 5e-3
"""Of the current range: a change of the fit at half the time step that is worth a note."""
_STARTS = 101
"""First states that are tried for a held-out loop whose first state nothing tells."""
_AT_BOUND = 1e-3
"""Share of the searched range within which a value counts as at its bound."""
_GUESSES = 41
"""Points of the sine or loop that the largest conductance is the second largest of: one bad point does not count."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class LoopFit:
    """A device fitted to loops, with its errors: RMS of modelled less measured current over the measured range."""

    device: DynamicDevice
    values: dict[str, float]
    """Of the fitted parameters, SI."""
    intervals: dict[str, tuple[float, float]]
    """95 %."""
    determined: dict[str, bool]
    """False: the data do not tell the parameter."""
    method: str
    """Where the intervals come from: "hessian" or "bootstrap"."""
    errors: dict[str, float]
    """By name of the loop."""
    held_out: dict[str, float]
    """The same of loops that were not fitted."""
    modelled: dict[str, np.ndarray]
    """Currents of the model at the points of each loop [A]."""
    starts: dict[str, float]
    """State at the first point of each loop."""
    series_resistance: float | None = None
    """Fitted or given in place of the loops' own [ohm]."""
    parallel_capacitance: float = 0.0
    """Across the device [F], of the set-up."""
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """Of all fitted parameters, in shares of their bounds."""
    points: int = 0
    """Fitted currents."""
    variability: tuple[Any, ...] = ()
    """Effects of `devices.variability` that repeated cycles show."""
    notes: tuple[str, ...] = ()
    """Sentences for the reader."""

    @property
    def error(self) -> float:
        """RMS of `errors`."""
        return _rms(self.errors)

    @property
    def held_out_error(self) -> float | None:
        """RMS of `held_out`; None where nothing was held out."""
        return _rms(self.held_out) if self.held_out else None


def fit_loops(
    loops: Sequence[Loop],
    device: str,
    *,
    held_out: Sequence[Loop] = (),
    series_resistance: float | Literal["fit"] | None = None,
    parallel_capacitance: float | Literal["fit"] = 0.0,
    seed: int = 0,
    bootstrap: int = 0,
    candidates: int = CANDIDATES,
    progress: Progress | None = None,
) -> LoopFit:
    """The device of a model that comes nearest to all `loops` at once; each loop counts the same.

    No first guess is needed: bounds follow from the sizes of what was measured (`spaces`). The first state of a loop
    is fitted with the rest; that of a single settled cycle follows by repeating its drive, from a device that is off.
    Where the applied voltage and the series resistance are known, the whole circuit is simulated under it.

    Args:
        device: key of the model, e.g. "vteam".
        held_out: loops whose errors are reported and that are not fitted.
        series_resistance: of loops measured over device and resistor [ohm], in place of the loops' own; "fit".
        parallel_capacitance: across the device, of cables and probes [F]; "fit".
        bootstrap: number of resampled data sets for the intervals; 0: from the Hessian.
        candidates: of the global search, a power of two.
        progress: called with (done, planned).

    Raises:
        ConfigError: no such model, or none that loops are fitted with.
        InputError: no loop, none that switches, or a resistor in series whose resistance is not known.
    """
    _check(loops, held_out, series_resistance)
    hysteresis = [switching(loop) for loop in loops]
    if not any(each.present for each in hysteresis):
        raise InputError(
            "a loop that does not switch", where=", ".join(loop.name for loop in loops),
            value=f"hysteresis of {max(abs(each.opening) for each in hysteresis):.2%} of current range x voltage range",
            limit="0.3 %, and six times what noise makes",
            hint="Measure with a larger amplitude, or longer",
        )  # fmt: skip
    sign = 1 if sum(each.opening for each in hysteresis) > 0 else -1
    scales = _scales(loops, None if series_resistance == "fit" else series_resistance)
    spaces = search_spaces(device, scales)
    meter = _Meter(progress, len(spaces), candidates, bootstrap)
    extra = _Extra.of(scales, series_resistance, parallel_capacitance)

    fits = []
    for space in spaces:
        raising = space.device(**space.fixed).raising_sign
        prepared = [extra.prepare(loop, sign * raising, raising) for loop in loops]
        fits.append(_search(space, prepared, extra, candidates, seed, meter))
    problem, shares = min(fits, key=lambda fit: float(np.mean(fit[0].residuals(fit[1][None]) ** 2)))
    sizes = [len(loop.times) for loop in problem.loops]
    if bootstrap:
        confidence = from_bootstrap(problem.residuals, shares, sizes, bootstrap, seed, meter.step)
    else:
        confidence = from_hessian(problem.residuals, shares, sizes)
    found = _report(problem, shares, confidence, extra, loops, held_out, hysteresis, sign)
    meter.finish()
    return found


def _check(loops: Sequence[Loop], held_out: Sequence[Loop], series_resistance: float | str | None) -> None:
    if not loops:
        raise InputError("no loop to fit")
    names = [loop.name for loop in (*loops, *held_out)]
    if double := {name for name in names if names.count(name) > 1}:
        raise InputError(
            "two loops of one name", value=", ".join(sorted(double)),
            hint="A loop is fitted or held out, not both; of two files of one name, rename one",
        )  # fmt: skip
    for loop in (*loops, *held_out):
        if loop.applied and loop.series_resistance is None and series_resistance is None:
            raise InputError(
                "the applied voltage without the series resistance", where=loop.name,
                hint="Give the series resistance of the set-up, or have it fitted",
            )  # fmt: skip


@dataclass(frozen=True)
class _Extra:
    """What is fitted besides the device."""

    series_resistance: float | None
    resistor: Free | None
    capacitor: Free | float

    @classmethod
    def of(cls, scales: Scales, series_resistance: float | str | None, capacitance: float | str) -> _Extra:
        resistor = Free("series_resistance", 1e-3 / scales.conductance, 10 / scales.conductance)
        # From a charging current of a ten-thousandth to one of ten times the largest at the highest frequency.
        most = scales.current * scales.shortest / (2 * math.pi * scales.voltage)
        capacitor = Free("parallel_capacitance", 1e-4 * most, 10 * most)
        return cls(
            None if isinstance(series_resistance, str) else series_resistance,
            resistor if series_resistance == "fit" else None,
            capacitor if isinstance(capacitance, str) else capacitance,
        )

    def prepare(self, loop: Loop, sign: int, raising: int) -> Prepared:
        fitted = self.resistor is not None and loop.applied
        return prepare(loop, sign, self.series_resistance, fitted=fitted, raising=raising)


def _scales(loops: Sequence[Loop], series_resistance: float | None) -> Scales:
    voltages, conductances = [], []
    for loop in loops:
        voltage = loop.voltages
        resistance = series_resistance if series_resistance is not None else loop.series_resistance
        if loop.applied and resistance is not None:
            voltage = voltage - resistance * loop.currents
        largest = float(np.abs(voltage).max())
        away = np.abs(voltage) > 0.2 * largest
        ratios = np.sort((loop.currents / np.where(away, voltage, math.inf))[away])
        voltages.append(largest)
        conductances.append(float(ratios[-min(2, len(ratios))]))
    periods = [loop.period or float(np.ptp(loop.times)) / len(loop.cycles) for loop in loops]
    current = max(float(np.abs(loop.currents).max()) for loop in loops)
    conductance = max(conductances)
    if conductance <= 0:
        raise InputError("currents against the voltage", value=f"largest I/V {conductance:g} S", limit="above zero")
    return Scales(max(voltages), current, conductance, min(periods), max(periods))


def _search(
    space: Space, loops: Sequence[Prepared], extra: _Extra, candidates: int, seed: int, meter: _Meter
) -> tuple[LoopProblem, np.ndarray]:
    """The best shares of one form of a model."""
    coarse = LoopProblem(space, [loop.thinned(_SEARCH_POINTS) for loop in loops], extra.resistor, extra.capacitor)
    fine = LoopProblem(space, loops, extra.resistor, extra.capacitor, periods=2)
    meter.stage(0)
    found = explore(coarse.residuals, len(coarse.parameters), candidates, seed, meter.step)
    meter.stage(1)
    found = refine(
        coarse.residuals, found.shares[:_REFINED], iterations=8, tolerance=1e-2, done=meter.step
    )  # fmt: skip
    meter.stage(2)
    found = refine(fine.residuals, found.shares[:_FINISHED], iterations=60, tolerance=1e-4, done=meter.step)
    # Along a curved valley each iteration gains little, and its end may be far in some parameters.
    best = refine(fine.residuals, found.shares[:1], iterations=40, tolerance=1e-6, done=meter.step).shares
    polished = dataclasses.replace(fine, refined=_POLISHED)
    before, after = fine.residuals(best), polished.residuals(best)
    if np.sum((after - before) ** 2) > _STEPS_MATTER**2 * np.sum(after**2):
        fine = polished
        best = refine(fine.residuals, best, iterations=12, tolerance=1e-6, done=meter.step).shares
    meter.stage(3)
    return fine, best[0]


def _report(
    problem: LoopProblem,
    shares: np.ndarray,
    confidence: Confidence,
    extra: _Extra,
    loops: Sequence[Loop],
    held_out: Sequence[Loop],
    hysteresis: Sequence[Any],
    sign: int,
) -> LoopFit:
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
    errors, modelled, starts, ends = {}, {}, {}, {}
    for loop, response, other in zip(problem.loops, responses, coarser, strict=True):
        currents = response.currents[0, 0]
        errors[loop.name] = float(np.sqrt(np.mean((currents - loop.currents) ** 2))) / loop.span
        change = float(np.sqrt(np.mean((currents - other.currents[0, 0]) ** 2))) / loop.span
        if change > _COARSE:
            notes.append(f"{loop.name}: half the time step changes the model by {change:.1%} of the current range")
        modelled[loop.name] = turned * loop.measured_order(currents)
        states = loop.measured_order(response.states[0, 0])
        starts[loop.name], ends[loop.name] = float(states[0]), float(states[-1])

    spared = {}
    for loop in held_out:
        prepared = extra.prepare(loop, turned, raising)
        before = next((each for each in problem.loops if each.name == loop.follows), None)
        currents, start, guessed = _predict(problem, best, prepared, before, ends)
        spared[loop.name] = float(np.sqrt(np.mean((currents - prepared.currents) ** 2))) / prepared.span
        modelled[loop.name] = turned * prepared.measured_order(currents)
        starts[loop.name] = start
        if guessed:
            notes.append(f"{loop.name}: its first state is fitted, the rest is predicted")

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
        series_resistance=own.get("series_resistance", extra.series_resistance),
        parallel_capacitance=float(capacitance),
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


def _predict(
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
        )
        alone = dataclasses.replace(problem, loops=[joined])
        given = dataclasses.replace(best, starts=np.array([[ends[before.name]]]))
        response = alone.respond(given, finer=2)[0]
        return response.currents[0, 0, 1:], float(response.states[0, 0, 1]), False
    alone = dataclasses.replace(problem, loops=[loop])
    tried = dataclasses.replace(best, starts=np.linspace(0.0, 1.0, _STARTS)[:, None])
    response = alone.respond(tried, finer=2)[0]
    chosen = int(np.argmin(np.mean((response.currents[:, 0] - loop.currents) ** 2, axis=1)))
    return response.currents[chosen, 0], float(response.states[chosen, 0, 0]), True


class _Meter:
    """Progress of a fit whose length is only known roughly: a share is set aside for each stage."""

    _SHARES = (0.0, 0.25, 0.6, 1.0)

    def __init__(self, progress: Progress | None, spaces: int, candidates: int, bootstrap: int) -> None:
        self._progress, self._spaces = progress, spaces
        self._per_space = 1000
        self._total = spaces * self._per_space + (self._per_space if bootstrap else 0)
        self._done, self._end, self._finished = 0.0, 0.0, 0

    def stage(self, number: int) -> None:
        """Stage `number` of the next form of the model begins; after the last, that form is done."""
        base = self._finished * self._per_space
        self._done = base + self._SHARES[number] * self._per_space
        if number == len(self._SHARES) - 1:
            self._finished += 1
            self._end = self._total if self._finished == self._spaces else self._done
        else:
            self._end = base + self._SHARES[number + 1] * self._per_space
        self._tell()

    def step(self) -> None:
        """A batch is done: nearer to the end of the stage, never past it."""
        self._done += 0.04 * (self._end - self._done)
        self._tell()

    def finish(self) -> None:
        self._done = self._total
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(int(self._done), self._total)


def _rms(errors: dict[str, float]) -> float:
    return math.sqrt(sum(error**2 for error in errors.values()) / len(errors)) if errors else 0.0
