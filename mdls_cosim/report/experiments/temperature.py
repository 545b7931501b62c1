"""Chapter `temperature`: currents of cells and tiles from cold to hot."""

from __future__ import annotations

from typing import Any

import numpy as np

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.experiments.study import (
    LINES,
    Case,
    Chapter,
    Drawing,
    Floats,
    Study,
    ends,
    mean,
    note_missing,
    panels,
    selected,
)
from mdls_cosim.report.figures import ramp
from mdls_cosim.report.style import MARKERS, SERIES
from mdls_cosim.report.tables import Table

ROOM = 300.0  # K


def _reference(case: Case) -> int:
    """The temperature that others are compared with: 300 K, or the nearest to it."""
    return int(np.abs(case["temperatures"][0] - ROOM).argmin())


def _tile_ratios(case: Case) -> Floats:
    """Currents of each tile over those at the reference (temperature, tile), by least squares over all outputs."""
    currents = np.moveaxis(case["currents"], 1, 0)  # temperature before seed
    currents = currents.reshape(len(currents), -1, currents.shape[-2] * currents.shape[-1])
    base = currents[_reference(case)]
    power = (base**2).sum(axis=-1)
    return (currents * base).sum(axis=-1) / np.where(power > 0, power, np.nan)


def _cell_ratios(case: Case) -> Floats:
    """Currents of each single cell over those at the reference (temperature, cell)."""
    currents = mean(case["cell_currents"], 0)
    return currents / currents[_reference(case)]


def _draw(study: Study) -> list[Drawing]:
    figure, (tiles, cells) = panels(2, height=3.7, sharey=True)
    base = study.cases[0]["temperatures"][0][_reference(study.cases[0])]
    for index, case in enumerate(study.cases):
        kelvins, ratios = case["temperatures"][0], _tile_ratios(case)
        colour = SERIES[index % len(SERIES)]
        look: dict[str, Any] = {
            "color": colour,
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": LINES[index % len(LINES)],
        }
        tiles.plot(kelvins, mean(ratios, 1), label=case.label or None, **look)
        tiles.fill_between(kelvins, *ends(ratios, 1), color=colour, alpha=0.15, linewidth=0)
    for case, style in zip(study.sizeless, LINES * len(study.cases), strict=False):
        ratios, conductances = _cell_ratios(case), case["cell_conductances"][0]
        shown = selected(range(len(conductances))[::-1])
        for cell, colour in zip(shown, ramp(len(shown)), strict=True):
            name = format_quantity(float(conductances[cell]), "S", 3) if case is study.cases[0] else None
            look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3.5, "linestyle": style}
            cells.plot(case["temperatures"][0], ratios[:, cell], label=name, **look)
    for axes, title in ((tiles, "Tiles"), (cells, "Single cells")):
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("Temperature (K)")
        axes.axhline(1, color="#999999", linewidth=0.8, zorder=0)
    tiles.set_ylabel(f"Current over that at {base:g} K")
    if len(study.cases) > 1:
        tiles.legend(loc="best")
    cells.legend(loc="best", title="Programmed to", alignment="left")
    (lost, planned), (cells_lost, cells_planned) = study.missing("currents", 2), study.missing("cell_currents", 2)
    note_missing(figure, (lost + cells_lost, planned + cells_planned), "tiles and cells")
    caption = (
        f"The same cells, programmed at 300 K, at other temperatures: currents over those at {base:g} K. Tiles: of all "
        "columns and inputs together, with the lowest and highest tile."
    )
    return [Drawing("temperature_currents", figure, caption)]


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    named = len(study.cases) > 1
    rows = []
    for case in study.cases:
        tiles, cells = mean(_tile_ratios(case), 1), _cell_ratios(case)
        for kelvin, tile, (low, high) in zip(case["temperatures"][0], tiles, cells[:, [0, -1]], strict=True):
            numbers = (f"{value:.4f}" if np.isfinite(value) else "–" for value in (tile, low, high))
            rows.append((*((case.label,) if named else ()), f"{kelvin:g} K", *numbers))
    lowest, highest = (
        format_quantity(float(value), "S", 3) for value in study.cases[0]["cell_conductances"][0][[0, -1]]
    )
    headings = (*(("Tile",) if named else ()), "Temperature", "Tiles", f"Cell of {lowest}", f"Cell of {highest}")
    base = study.cases[0]["temperatures"][0][_reference(study.cases[0])]
    return [(f"Currents over those at {base:g} K", Table(headings, tuple(rows), 1 + named))]


CHAPTER = Chapter(
    "From cold to hot",
    "How the currents of the same cells and tiles change with temperature.",
    _draw,
    _tabulate,
)
