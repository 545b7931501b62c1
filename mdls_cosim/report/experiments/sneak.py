"""Chapter `sneak`: the margin of the worst cell, by bias scheme and array size."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from mdls_cosim.characterize.sneak import SCHEMES
from mdls_cosim.report.experiments.study import (
    LINES,
    Case,
    Chapter,
    Drawing,
    Study,
    mean,
    note_missing,
    panels,
    said,
    spread,
)
from mdls_cosim.report.style import BLACK, MARKERS, SERIES
from mdls_cosim.report.tables import Table

LIMIT = 0.1


def _draw(study: Study) -> list[Drawing]:
    drawings = [_against_size(study) if study.several_sizes else _by_scheme(study)]
    if any("largest_lines" in case for case in study.cases):
        drawings.append(_largest(study))
    return drawings


def schemes(case: Case) -> list[str]:
    """Names of the schemes, in the order of the arrays."""
    return [SCHEMES[int(code)] for code in case["scheme"][0]]


NAMES = {"floating": "Floating", "grounded": "Grounded", "half": "V/2", "third": "V/3"}
"""Of the schemes, in figures and tables."""


def _limit(study: Study) -> float:
    return float(study.plan.get("limit", LIMIT))


def _against_size(study: Study) -> Drawing:
    corners = study.corners
    figure, found = panels(len(corners), height=3.7, sharey=True)
    for axes, (corner, cases) in zip(found, corners.items(), strict=True):
        sizes = np.array([case.lines for case in cases])
        for index, scheme in enumerate(schemes(cases[0])):
            margins = np.array([mean(case["margin"][:, index]) for case in cases])
            shown = np.isfinite(margins)
            look: dict[str, Any] = {
                "color": SERIES[index],
                "marker": MARKERS[index],
                "linestyle": LINES[index % len(LINES)],
            }
            axes.plot(sizes[shown], margins[shown], label=NAMES[scheme], **look)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{size:.3g}" for size in sizes])
        axes.set_xlabel("Lines N of an N x N array")
        axes.set_title(corner or "", loc="left", fontsize=11)
    for axes in found:
        _margin_axis(study, axes)
    found[0].set_ylabel("Read margin")
    _legend(figure, found[0])
    note_missing(figure, study.missing("margin"), "reads")
    return Drawing(
        "sneak_margin",
        figure,
        "Read margin (I_on − I_off)/I_on of the worst cell against the size of the array, by what unselected lines "
        f"are tied to. Below the line, {_limit(study):g}, it counts as unreadable.",
    )


def _by_scheme(study: Study) -> Drawing:
    figure, (axes,) = panels(1, height=3.6)
    names = schemes(study.cases[0])
    width = 0.8 / len(study.cases)
    for index, case in enumerate(study.cases):
        places = np.arange(len(names)) + (index - (len(study.cases) - 1) / 2) * width
        heights, errors = mean(case["margin"], 0), spread(case["margin"], 0)
        bars = axes.bar(
            places, heights, 0.9 * width, yerr=errors if errors.any() else None, capsize=3,
            color=SERIES[index % len(SERIES)], label=case.label or None,
        )  # fmt: skip
        labels = [f"{height:.3g}" if np.isfinite(height) else "failed" for height in heights]
        axes.bar_label(bars, labels, padding=2, fontsize=9)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.margins(y=0.15)
    axes.set_xticks(range(len(names)), [NAMES[name] for name in names])
    axes.set_xlabel("Unselected lines")
    axes.set_ylabel("Read margin")
    _margin_axis(study, axes)
    _legend(figure, axes)
    note_missing(figure, study.missing("margin"), "reads")
    return Drawing(
        "sneak_margin",
        figure,
        "Read margin (I_on − I_off)/I_on of the worst cell, by what unselected lines are tied to. Below the line, "
        f"{_limit(study):g}, it counts as unreadable.",
    )


def _margin_axis(study: Study, axes: Axes) -> None:
    lowest = min(float(np.nanmin(case["margin"], initial=0.0)) for case in study.cases)
    if lowest < -1:
        # Linear where reads succeed, logarithmic where they are lost.
        axes.set_yscale("symlog", linthresh=1.0)
        powers = range(int(np.ceil(np.log10(-lowest))) + 1)
        axes.set_yticks([*(-(10.0**power) for power in reversed(powers)), -0.5, 0.0, 0.5, 1.0])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(top=1.1)
    axes.axhline(_limit(study), color=BLACK, linestyle=(0, (2, 2)), linewidth=1.2, label="Limit", zorder=1)


def _largest(study: Study) -> Drawing:
    figure, (axes,) = panels(1, height=3.2)
    names = schemes(study.cases[0])
    most = study.plan.get("largest")
    # The search is over sizes of its own: one case a corner tells it.
    cases = [case for case in study.sizeless if "largest_lines" in case]
    width = 0.8 / len(cases)
    for index, case in enumerate(cases):
        places = np.arange(len(names)) + (index - (len(cases) - 1) / 2) * width
        lines = mean(case["largest_lines"], 0)
        bars = axes.bar(
            places, lines, 0.9 * width, color=SERIES[index % len(SERIES)], label=case.corner if len(cases) > 1 else None
        )
        axes.bar_label(bars, [lines_said(value, most) for value in lines], padding=2, fontsize=9)
    axes.set_xticks(range(len(names)), [NAMES[name] for name in names])
    axes.margins(y=0.12)
    axes.set_xlabel("Unselected lines")
    axes.set_ylabel("Largest readable N")
    if len(cases) > 1:
        _legend(figure, axes)
    note_missing(figure, study.missing("largest_lines"), "searches")
    end = f" The search ended at {most}." if most else ""
    return Drawing(
        "sneak_largest", figure, f"Largest N x N array with a margin of {_limit(study):g} or more (bisection).{end}"
    )


def lines_said(value: float, most: int | None) -> str:
    """Lines of the largest array; where the search ended there, "at least"."""
    if not np.isfinite(value):
        return "failed"
    return f"≥ {value:.0f}" if most and value >= most else f"{value:.0f}"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=6)


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    tables = [_reads(study.cases[0])] if len(study.cases) == 1 else [_grid(study, "margin"), _grid(study, "power")]
    if study.several_sizes or any("largest_lines" in case for case in study.cases):
        tables.append(_largest_table(study))
    return tables


def _reads(case: Case) -> tuple[str, Table]:
    rows = []
    for index, scheme in enumerate(schemes(case)):
        on, off, margin, power = (
            mean(case[name][:, index]) for name in ("on_current", "off_current", "margin", "power")
        )
        rows.append((NAMES[scheme], said(on, "A"), said(off, "A"), _fraction(margin), said(power, "W", 3)))
    headings = ("Unselected lines", "Cell on", "Cell off", "Margin", "Power")
    return "Worst reads of the farthest cell; power: of all drivers, cell off", Table(headings, tuple(rows))


def _grid(study: Study, name: str) -> tuple[str, Table]:
    """Margin or power, a row an array, a column a scheme."""
    rows = []
    for case in study.cases:
        values = (mean(case[name][:, index]) for index in range(len(schemes(case))))
        rows.append((case.label, *(_fraction(each) if name == "margin" else said(each, "W", 3) for each in values)))
    headings = ("Array", *(NAMES[scheme] for scheme in schemes(study.cases[0])))
    caption = {
        "margin": "Read margin, by what unselected lines are tied to",
        "power": "Power of all drivers, cell off",
    }
    return caption[name], Table(headings, tuple(rows))


def _fraction(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"


def _largest_table(study: Study) -> tuple[str, Table]:
    """Largest readable array of those simulated, and of the search where there was one."""
    most, searched = study.plan.get("largest"), any("largest_lines" in case for case in study.cases)
    rows = []
    for corner, cases in study.corners.items():
        for index, scheme in enumerate(schemes(cases[0])):
            readable = [case for case in cases if mean(case["margin"][:, index]) >= _limit(study)]
            found = f"{readable[-1].rows}x{readable[-1].cols}" if readable else "none"
            sought = ()
            if searched:
                lines = mean(cases[0]["largest_lines"][:, index]) if "largest_lines" in cases[0] else np.nan
                sought = (lines_said(lines, most),)
            rows.append((*((corner or "nominal",) if len(study.corners) > 1 else ()), NAMES[scheme], found, *sought))
    names = (*(("Corner",) if len(study.corners) > 1 else ()), "Unselected lines")
    headings = (*names, "Of the sizes run", *(("Largest N found",) if searched else ()))
    return f"Largest array with a margin of {_limit(study):g} or more", Table(headings, tuple(rows), len(names))


CHAPTER = Chapter(
    "Sneak paths",
    "Whether the worst cell of a passive array can be told on from off, by what unselected lines are tied to.",
    _draw,
    _tabulate,
)
