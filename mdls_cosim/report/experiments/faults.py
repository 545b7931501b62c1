"""Chapter `faults`: column errors by kind of fault."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from mdls_cosim.characterize.faults import FAULT_KINDS
from mdls_cosim.report.experiments.study import (
    WIDTH,
    Case,
    Chapter,
    Drawing,
    Study,
    ends,
    known,
    mean,
    median,
    note_missing,
    percent_label,
)
from mdls_cosim.report.style import MARKERS, SERIES
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import capital, error_percent, words

FLOOR = 1e-5
"""Changes below are drawn here."""


def _kinds(case: Case) -> list[str]:
    return [FAULT_KINDS[int(code)] for code in case["kind"][0]]


def _draw(study: Study) -> list[Drawing]:
    kinds = _kinds(study.cases[0])
    height = 1.5 + len(kinds) * (0.3 + 0.22 * len(study.cases))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    thickness = 0.76 / len(study.cases)
    generator = np.random.default_rng(0)
    for index, case in enumerate(study.cases):
        colour = SERIES[index % len(SERIES)]
        places = np.arange(len(kinds)) + (index - (len(study.cases) - 1) / 2) * thickness
        found = [np.maximum(known(case["error"][:, kind]), FLOOR) for kind in range(len(kinds))]
        for place, errors in zip(places, found, strict=True):
            look: dict[str, Any] = {"color": colour, "markersize": 2.6, "alpha": 0.35, "markeredgewidth": 0}
            spots = place + generator.uniform(-0.32, 0.32, errors.size) * thickness
            axes.plot(errors, spots, MARKERS[index % len(MARKERS)], **look)
        filled = [(place, errors) for place, errors in zip(places, found, strict=True) if errors.size]
        if filled:
            axes.boxplot(
                [errors for _, errors in filled], positions=[place for place, _ in filled], widths=0.8 * thickness,
                orientation="horizontal", showfliers=False, manage_ticks=False, whis=(5, 95),
                boxprops={"color": colour}, whiskerprops={"color": colour}, capprops={"color": colour},
                medianprops={"color": "#222222", "linewidth": 2},
            )  # fmt: skip
        if len(study.cases) > 1:
            axes.plot([], [], color=colour, marker=MARKERS[index % len(MARKERS)], label=case.label)
    axes.set_xscale("log")
    axes.set_xlim(left=FLOOR / 1.5)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(percent_label))
    axes.set_yticks(range(len(kinds)), [capital(words(kind)) for kind in kinds])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Change of a column's current (RMS, of the healthy tile's RMS current)")
    axes.grid(axis="x")
    if len(study.cases) > 1:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4)
    note_missing(figure, study.missing("error", 2), "tiles with a fault")
    caption = (
        "A dot a column; boxes from the 25th to the 75th percentile with the median, whiskers from the 5th to the "
        "95th. Dots at the left edge: 0.001 % or less."
    )
    return [Drawing("faults_errors", figure, caption)]


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    named = len(study.cases) > 1
    rows = []
    for case in study.cases:
        for kind, name in enumerate(_kinds(case)):
            errors = case["error"][:, kind]
            hit = known(errors)
            touched = float((hit > 0.01).mean()) if hit.size else np.nan
            numbers = (np.sqrt(mean(errors**2)), median(errors.ravel()), ends(errors)[1], touched)
            place = (case.label,) if named else ()
            rows.append((*place, capital(words(name)), *(error_percent(value) for value in numbers)))
    headings = (*(("Tile",) if named else ()), "Fault", "RMS", "Median column", "Worst column", "Columns off by 1 %")
    return [
        ("Change of the column currents, of the healthy tile's RMS current", Table(headings, tuple(rows), 1 + named))
    ]


CHAPTER = Chapter(
    "Broken cells and lines",
    "What each kind of fault, alone in a tile, does to the column currents.",
    _draw,
    _tabulate,
)
