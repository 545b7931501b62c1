"""Chapter `energy`: what reads and writes cost, and where the energy goes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdls_cosim.characterize import INPUT_CLASSES
from mdls_cosim.characterize.energy import PARTS
from mdls_cosim.report.experiments.study import (
    WIDTH,
    Case,
    Chapter,
    Drawing,
    Floats,
    Study,
    ends,
    known,
    mean,
    note_missing,
    said,
    spread,
)
from mdls_cosim.report.figures import scaled
from mdls_cosim.report.style import BLACK, BLUE, GREEN, ORANGE, SKY
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import capital, error_percent, words

COLOURS = dict(zip(PARTS, (BLUE, ORANGE, SKY, GREEN), strict=True))
HATCHES = dict(zip(PARTS, ("", "///", "", "..."), strict=True))


def _draw(study: Study) -> list[Drawing]:
    drawings = [_bars(study, "read")]
    if any("write_parts" in case for case in study.cases):
        drawings.append(_bars(study, "write"))
    return drawings


def _groups(study: Study, kind: str) -> dict[str, Floats]:
    """Energies by part (tile, part) [J] of every case and input class, by name."""
    found = {}
    for case in study.cases:
        if f"{kind}_parts" not in case:
            continue
        parts = case.pooled(f"{kind}_parts")
        if kind == "write":
            found[case.label] = parts
            continue
        for vector, name in enumerate(_inputs(case)):
            found[" ".join(filter(None, (case.label, name)))] = parts[:, vector]
    return found


def _inputs(case: Case) -> list[str]:
    return [words(INPUT_CLASSES[int(code)]) for code in case["input_class"][0]]


def _bars(study: Study, kind: str) -> Drawing:
    groups = _groups(study, kind)
    figure = Figure(figsize=(WIDTH, 1.6 + 0.34 * len(groups)), layout="constrained")
    axes: Axes = figure.subplots()
    totals = np.array([mean(parts.sum(axis=1)) for parts in groups.values()])
    scale, prefix = scaled(totals)
    highest = 0.0
    for place, parts in enumerate(groups.values()):
        means = mean(parts, 0)
        if not np.isfinite(means).all():
            continue
        left = 0.0
        for name, value in zip(PARTS, means / scale, strict=True):
            axes.barh(
                place, value, 0.66, left=left, color=COLOURS[name], hatch=HATCHES[name], edgecolor="white",
                linewidth=0.5, label=capital(name) if place == 0 else None,
            )  # fmt: skip
            left += value
        if (scatter := spread(parts.sum(axis=1), 0) / scale) > 0:
            axes.errorbar(left, place, xerr=scatter, color=BLACK, capsize=3, linewidth=1.1)
            left += scatter
        highest = max(highest, left)
        axes.annotate(
            said(totals[place], "J", 3),
            (left, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
        )
    axes.set_yticks(range(len(groups)), [name or capital(kind) for name in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.16 * highest if highest else 1.0)
    axes.set_xlabel(f"Energy of a {kind} ({prefix}J)")
    axes.grid(axis="x")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    residual = error_percent(_residual(study, kind))
    axes.set_title(f"Largest residual: {residual} of the energy", loc="left", fontsize=10)
    missing = study.missing(f"{kind}_energy", 2 if kind == "read" else 1)
    note_missing(figure, missing, "pulses")
    several = any(len(parts) > 1 for parts in groups.values())
    bars = " Bars: mean over tiles, with one standard deviation." if several else ""
    caption = (
        f"Energy of a {kind} pulse, from all drivers, by where it becomes heat.{bars} The parts add up to what the "
        f"drivers give within {residual}, the largest residual of a pulse."
    )
    return Drawing(f"energy_{kind}", figure, caption)


def _residual(study: Study, kind: str) -> float:
    """The largest of any pulse."""
    found = [known(np.abs(case[f"{kind}_residual"])) for case in study.cases if f"{kind}_residual" in case]
    return ends(np.concatenate(found))[1]


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    rows = []
    for kind in ("read", "write"):
        for name, parts in _groups(study, kind).items():
            total = mean(parts.sum(axis=1))
            shares = mean(parts, 0) / total
            place = f"{capital(kind)}, {name}" if name else capital(kind)
            rows.append((place, said(total, "J", 3), *(error_percent(each) for each in shares)))
    headings = ("Pulse", "Energy", *(capital(name) for name in PARTS))
    tables = [("Energy and its parts, mean over tiles", Table(headings, tuple(rows)))]
    written = [
        (case.label or "Write", said(mean(case["write_selected"]), "J", 3), error_percent(
            mean(case["write_selected"]) / mean(case["write_energy"])
        ))
        for case in study.cases if "write_selected" in case
    ]  # fmt: skip
    if written:
        tables.append((
            "Of a write, what reaches the selected cell", Table(("Tile", "In the cell", "Of all"), tuple(written))
        ))  # fmt: skip
    return tables


CHAPTER = Chapter(
    "Energy of reads and writes",
    "What one pulse costs and where it becomes heat; the supply of amplifiers is not counted.",
    _draw,
    _tabulate,
)
