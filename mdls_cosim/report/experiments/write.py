"""Chapter `write`: ways to the target, pulses needed, and what writing does to the neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from mdls_cosim.characterize.write import NEIGHBOURS
from mdls_cosim.report.experiments.study import (
    Case,
    Chapter,
    Drawing,
    Floats,
    Study,
    ends,
    known,
    mean,
    median,
    note_missing,
    panels,
    percent_label,
    selected,
)
from mdls_cosim.report.style import BLUE, GREEN, MARKERS, SERIES, VERMILLION
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import error_percent

TOLERANCE = 0.02
FLOOR = 1e-6
"""Changes below are rounding."""


def _draw(study: Study) -> list[Drawing]:
    return [_histories(study), _pulses(study), _disturb(study)]


def _range(study: Study, case: Case) -> float:
    """Width of the conductance range [S]."""
    if study.span is not None:
        return study.span[1] - study.span[0]
    low, high = ends(case["targets"])
    return high - low or high


def _histories(study: Study) -> Drawing:
    shown = selected(study.cases)
    figure, found = panels(len(shown), height=3.5, sharey=True)
    tolerance = float(study.plan.get("tolerance", TOLERANCE))
    for axes, case in zip(found, shown, strict=True):
        distances = (case.pooled("history") - case.pooled("targets")[:, None]) / _range(study, case)
        axes.axhspan(-tolerance, tolerance, color=GREEN, alpha=0.25, linewidth=0, label="Accepted")
        named: set[str] = set()
        for distance, reached in zip(distances, case.pooled("reached"), strict=True):
            way = known(distance)
            if not way.size:
                continue
            name, colour, style = ("Reached", BLUE, "-") if reached else ("Not reached", VERMILLION, "--")
            axes.plot(way, color=colour, linestyle=style, linewidth=1.1, label=None if name in named else name)
            axes.plot(len(way) - 1, way[-1], "o", color=colour, markersize=3.5)
            named.add(name)
        axes.set_title(case.label, loc="left", fontsize=11)
        axes.set_xlabel("Pulses applied")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    found[0].set_ylabel("Distance from the target\n(of the conductance range)")
    handles = {label: handle for axes in found for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=3)
    note_missing(figure, study.missing("pulses"), "targets")
    caption = "The way of each written cell towards its target, verified after every pulse; dots: where it ended."
    return Drawing("write_histories", figure, caption)


def _pulses(study: Study) -> Drawing:
    figure, (axes,) = panels(1, height=2.8)
    most = max((int(found.max()) for case in study.cases if (found := known(case["pulses"])).size), default=1)
    edges = np.arange(-0.5, most + 1.5, max(1, round(most / 40)))
    edges = edges if edges[-1] > most else np.append(edges, edges[-1] + edges[1] - edges[0])
    for index, case in enumerate(study.cases):
        counts = np.histogram(known(case["pulses"]), edges)[0]
        look: dict[str, Any] = {"color": SERIES[index % len(SERIES)], "label": case.label or None}
        axes.stairs(counts, edges, fill=len(study.cases) == 1, linewidth=1.6, **look)
    axes.set_xlabel("Pulses needed")
    axes.set_ylabel("Cells written")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    if len(study.cases) > 1:
        axes.legend(loc="upper right")
    note_missing(figure, study.missing("pulses"), "targets")
    limit = study.plan.get("pulses")
    end = f" A cell that is not there after {limit} is given up." if limit else ""
    return Drawing("write_pulses", figure, f"Pulses until a cell was within tolerance of its target.{end}")


def _disturb(study: Study) -> Drawing:
    figure, (axes,) = panels(1, height=3.0)
    changes = {case.label: np.maximum(case.pooled("disturb"), FLOOR) for case in study.cases}
    for index, (label, values) in enumerate(changes.items()):
        shift = (index - (len(changes) - 1) / 2) * 0.7 / len(changes)
        for kind in range(len(NEIGHBOURS)):
            found = known(values[:, kind])
            spots = kind + shift + _spread_out(len(found), 0.25 / len(changes))
            axes.plot(
                spots, found, MARKERS[index % len(MARKERS)], color=SERIES[index % len(SERIES)], markersize=4,
                alpha=0.7, markeredgewidth=0, label=(label or None) if kind == 0 else None,
            )  # fmt: skip
    axes.set_yscale("log")
    highest = max((found.max() for values in changes.values() if (found := known(values)).size), default=FLOOR)
    axes.set_ylim(FLOOR / 1.6, max(highest * 2, FLOOR * 100))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(percent_label))
    axes.set_xticks(range(len(NEIGHBOURS)), ["Same row", "Same column", "Neither"])
    axes.set_xlim(-0.5, len(NEIGHBOURS) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Cells that share with the written one")
    axes.set_ylabel("Largest change\nof conductance")
    if len(changes) > 1:
        axes.legend(loc="upper right")
    note_missing(figure, study.missing("pulses"), "targets")
    caption = (
        "Largest relative change of any other cell's conductance while one was written, a dot a written cell. "
        "Dots on the lowest line: 0.0001 % or less."
    )
    return Drawing("write_disturb", figure, caption)


def _spread_out(count: int, width: float) -> Floats:
    """Places side by side, in the order of the points."""
    return np.linspace(-width, width, count) if count > 1 else np.zeros(count)


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    named = len(study.cases) > 1
    rows = []
    for case in study.cases:
        pulses, reached = known(case["pulses"]), known(case["reached"])
        worst = ends(case.pooled("disturb"), 0)[1]
        delivered = ends(case["delivered"])[0]
        overshoot = ends(case["overshoot"])[1] / _range(study, case)
        rows.append((
            *((case.label,) if named else ()), f"{int(reached.sum())} of {reached.size}",
            f"{median(pulses):.3g}" if pulses.size else "–", f"{pulses.max():.0f}" if pulses.size else "–",
            error_percent(mean(overshoot)), error_percent(delivered), *(_change(value) for value in worst),
        ))  # fmt: skip
    headings = (*(("Tile",) if named else ()), "Reached", "Pulses, median", "Most", "Overshoot", "Delivered")
    table = Table((*headings, "Row", "Column", "Neither"), tuple(rows))
    caption = (
        "Overshoot: the largest, of the conductance range. Delivered: the least share of the write voltage at the "
        "cell. Last three: largest disturb of cells in the same row, column, neither."
    )
    return [(caption, table)]


def _change(value: float) -> str:
    return "< 0.0001 %" if value < FLOOR else error_percent(value)


CHAPTER = Chapter(
    "Writing cells in an array",
    "Write-verify of single cells: how many pulses the target takes, and what the others suffer on the way.",
    _draw,
    _tabulate,
)
