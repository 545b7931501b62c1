"""Which model: all of them fitted to the same loops, ranked by the error on loops that none has seen."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Literal

from mdls_cosim.calibrate.fit_progress import Progress
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.loops import CANDIDATES, fit_loops
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.ranking_file import RankingFile, ranking_key
from mdls_cosim.calibrate.spaces import FITTED_MODELS


def rank(
    loops: Sequence[Loop],
    held_out: Sequence[Loop] = (),
    *,
    devices: Sequence[str] | None = None,
    series_resistance: float | Literal["fit"] | None = None,
    parallel_capacitance: float | Literal["fit"] = 0.0,
    seed: int = 0,
    bootstrap: int = 0,
    candidates: int = CANDIDATES,
    progress: Progress | None = None,
    keep: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> list[LoopFit]:
    """Fits of `devices` (all that have a search space) to `loops`, best first.

    The order is that of the error on `held_out`, relative to the current of each branch. Where nothing was held out it
    is that of the Bayesian information criterion n ln(mean square misfit) + p ln n, n points and p parameters. It
    counts points as independent, which systematic misfits are not.

    Args:
        bootstrap: see `fit_loops`; of the best model only.
        keep: a file into which every fit goes once it is done (`RankingFile`).
        resume: take fits from that file, where it exists, instead of repeating them.

    Raises:
        ConfigError, InputError: as `fit_loops`.
        StoreError: the file cannot be written, or holds no fits of these loops and settings.
    """
    models = tuple(devices) if devices is not None else FITTED_MODELS
    settings = {
        "series_resistance": series_resistance, "parallel_capacitance": parallel_capacitance, "seed": seed,
        "candidates": candidates,
    }  # fmt: skip
    kept = None if keep is None else RankingFile.open(keep, ranking_key(loops, held_out, settings), resume=resume)
    fits = []
    for place, model in enumerate(models):

        def tell(done: int, planned: int, place: int = place) -> None:
            if progress is not None:
                progress(place * planned + done, len(models) * planned)

        if kept is not None and model in kept.fits:
            fits.append(kept.fits[model])
            continue
        fits.append(
            fit_loops(
                loops, model, held_out=held_out, series_resistance=series_resistance,
                parallel_capacitance=parallel_capacitance, seed=seed, candidates=candidates, progress=tell,
            )
        )  # fmt: skip
        if kept is not None:
            kept.add(model, fits[-1])
    order = sorted(fits, key=_held_out_error if held_out else information_criterion)
    basis = (
        "the relative error of the branches of held-out loops"
        if held_out
        else "BIC of the fitted loops, as none was held out"
    )
    best = dataclasses.replace(order[0], notes=(*order[0].notes, f"Models ranked by {basis}"))
    if bootstrap:
        again = fit_loops(
            loops, str(getattr(best.device, "model", "")), held_out=held_out, series_resistance=series_resistance,
            parallel_capacitance=parallel_capacitance, seed=seed, bootstrap=bootstrap, candidates=candidates,
        )  # fmt: skip
        best = dataclasses.replace(again, notes=best.notes)
    return [best, *order[1:]]


def information_criterion(fit: LoopFit) -> float:
    """BIC of a fit: n ln(mean square misfit) + p ln n."""
    return 2 * fit.points * math.log(max(fit.misfit, 1e-12)) + len(fit.values) * math.log(fit.points)


def _held_out_error(fit: LoopFit) -> float:
    error = fit.held_out_branch_error
    return math.inf if error is None else error
