"""Fit a dynamic device to measured current-voltage loops: a global search, a refinement, and the confidence in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mdls_cosim.calibrate.confidence import from_bootstrap, from_hessian
from mdls_cosim.calibrate.fit_progress import Meter, Progress
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.loop_problem import LoopProblem, Prepared
from mdls_cosim.calibrate.loop_report import report_fit
from mdls_cosim.calibrate.measurement import Loop, names_of
from mdls_cosim.calibrate.search import explore, refine
from mdls_cosim.calibrate.set_up import SetUp, scales_of
from mdls_cosim.calibrate.spaces import Space, search_spaces
from mdls_cosim.calibrate.switching import switching
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
    """The device of a model that comes nearest to all `loops` at once.

    The error that is minimized is relative: of each quarter of a loop (positive or negative drive, moving away from
    0 V or back) to the RMS current of that quarter. Loops count the same, and so do the quarters of a loop, so that a
    branch of small currents and the high-resistive state are fitted as well as the largest current.

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
        what, value, hint = max(hysteresis, key=lambda each: abs(each.opening)).refusal()
        raise InputError(
            what, where=names_of(loops), value=value, limit="a loop that opens on one side and closes on the other",
            hint=hint,
        )  # fmt: skip
    sign = 1 if sum(each.opening for each in hysteresis) > 0 else -1
    scales = scales_of(loops, None if series_resistance == "fit" else series_resistance)
    spaces = search_spaces(device, scales)
    meter = Meter(progress, len(spaces), candidates, bootstrap)
    extra = SetUp.of(scales, series_resistance, parallel_capacitance)

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
        parts = np.concatenate([10 * place + loop.parts for place, loop in enumerate(problem.loops)])
        confidence = from_hessian(problem.residuals, shares, sizes, parts)
    found = report_fit(problem, shares, confidence, extra, loops, held_out, hysteresis, sign)
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


def _search(
    space: Space, loops: Sequence[Prepared], extra: SetUp, candidates: int, seed: int, meter: Meter
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
