"""Chapter `read`: the error of every column, and how the errors are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from mdls_cosim.characterize import CONDUCTANCE_CLASSES
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
from mdls_cosim.report.figures import scaled
from mdls_cosim.report.style import MARKERS, SERIES
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import capital, error_percent, words


def _draw(study: Study) -> list[Drawing]:
    if not any("column_error" in case for case in study.cases):
        return [_currents(study)]
    return [_columns(study), _histogram(study)]


def classes(study: Study) -> Sequence[str]:
    """Names of the conductance classes, in the order of their codes."""
    return study.plan.get("conductance_classes") or CONDUCTANCE_CLASSES


def by_class(study: Study, case: Case, name: str) -> dict[str, Floats]:
    """Array `name` (tile, …), tiles of all seeds, class by class of conductances."""
    codes, values = case.pooled("conductance_class"), case.pooled(name)
    return {str(classes(study)[code]): values[codes == code] for code in dict.fromkeys(codes.tolist())}


def _columns(study: Study) -> Drawing:
    shown = [case for case in selected(study.cases) if "column_error" in case]
    figure, found = panels(len(shown), height=3.6 if len(shown) == 1 else 3.0, sharey=True)
    drawn: list[str] = []
    for axes, case in zip(found, shown, strict=True):
        for index, (name, errors) in enumerate(by_class(study, case, "column_error").items()):
            colour, columns = SERIES[index % len(SERIES)], np.arange(errors.shape[1])
            axes.plot(columns, mean(errors, 0), color=colour, label=capital(words(name)))
            axes.fill_between(columns, *ends(errors, 0), color=colour, alpha=0.15, linewidth=0)
            drawn.append(name)
        axes.set_title(case.label, loc="left", fontsize=11)
        axes.set_xlabel("Column")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    found[0].set_ylim(bottom=0)
    found[0].set_ylabel("Column error\n(of RMS current)")
    count = len(dict.fromkeys(drawn))
    handles, labels = found[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=min(count, 5), title="Conductances", alignment="left"
    )
    note_missing(figure, study.missing("column_error"), "tiles")
    part = f" {len(shown)} of {len(study.cases)} tiles are shown." if len(shown) < len(study.cases) else ""
    return Drawing(
        "read_columns",
        figure,
        "RMS distance of each column's current from that of bare cells at the full row voltages, over the RMS current "
        f"of the tile; column 0 is at the drivers. Lines: mean, bands: lowest to highest over tiles.{part}",
    )


def _histogram(study: Study) -> Drawing:
    figure, (axes,) = panels(1, height=3.4)
    if len(study.cases) == 1:
        found = {capital(words(name)): each for name, each in by_class(study, study.cases[0], "column_error").items()}
    else:
        found = {case.label: case.pooled("column_error") for case in study.cases if "column_error" in case}
    sizes = known(np.concatenate([each.ravel() for each in found.values()]))
    sizes = sizes[sizes > 0]
    if sizes.size:
        edges = np.geomspace(sizes.min() * 0.999, sizes.max() * 1.001, 31)
        for index, (name, errors) in enumerate(found.items()):
            colour, style = SERIES[index % len(SERIES)], ("-", "--", ":")[index // len(SERIES) % 3]
            inside = known(errors)
            counts = np.histogram(inside, edges)[0] / max(1, inside.size)
            axes.stairs(counts, edges, color=colour, linestyle=style, linewidth=1.6, label=name)
        axes.set_xscale("log")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_xlabel("Column error (of RMS current)")
    axes.set_ylabel("Share of columns")
    axes.xaxis.set_major_formatter(FuncFormatter(percent_label))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    note_missing(figure, study.missing("column_error"), "tiles")
    return Drawing("read_errors", figure, "How the errors of all columns are distributed.")


def _currents(study: Study) -> Drawing:
    """For cells whose bare currents are not known: the currents themselves."""
    shown = selected(study.cases)
    figure, found = panels(len(shown), height=3.4, sharey=True)
    scale, prefix = scaled(np.concatenate([case["currents"].ravel() for case in shown]))
    for axes, case in zip(found, shown, strict=True):
        for index, (name, currents) in enumerate(by_class(study, case, "currents").items()):
            sizes = np.sqrt(mean(currents**2, (0, 1))) / scale
            look: dict[str, Any] = {"color": SERIES[index % len(SERIES)], "marker": MARKERS[index % len(MARKERS)]}
            axes.plot(np.arange(len(sizes)), sizes, label=capital(words(name)), **look)
        axes.set_title(case.label, loc="left", fontsize=11)
        axes.set_xlabel("Column")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    found[0].set_ylim(bottom=0)
    found[0].set_ylabel(f"RMS current ({prefix}A)")
    handles, labels = found[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=5, title="Conductances", alignment="left")
    note_missing(figure, study.missing("currents"), "tiles")
    return Drawing(
        "read_currents",
        figure,
        "RMS current of every column over inputs and tiles; the bare currents of a user's subcircuit are its own.",
    )


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    named = len(study.cases) > 1
    rows = []
    for case in study.cases:
        if "column_error" not in case:
            continue
        for name, errors in by_class(study, case, "column_error").items():
            numbers = (np.sqrt(mean(errors**2)), median(errors.ravel()), ends(errors)[1])
            place = (case.label,) if named else ()
            rows.append((*place, capital(words(name)), str(len(errors)), *(error_percent(each) for each in numbers)))
    if not rows:
        return []
    headings = (*(("Tile",) if named else ()), "Conductances", "Tiles", "RMS", "Median column", "Worst column")
    return [("Error of columns, of the RMS current of each tile", Table(headings, tuple(rows), 1 + named))]


CHAPTER = Chapter(
    "Reads of whole tiles",
    "What wires, drivers, the sense side and other cells do to the column currents, against bare cells at the full "
    "row voltages.",
    _draw,
    _tabulate,
)
