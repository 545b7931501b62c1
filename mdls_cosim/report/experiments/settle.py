"""Chapter `settle`: how outputs approach their final values, and how long that takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from mdls_cosim.characterize import INPUT_CLASSES
from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.experiments.study import (
    LINES,
    MOST_PANELS,
    Case,
    Chapter,
    Drawing,
    Floats,
    Study,
    ends,
    known,
    median,
    note_missing,
    panels,
    said,
    selected,
)
from mdls_cosim.report.figures import scaled
from mdls_cosim.report.style import BLUE, GREEN, MARKERS, SERIES, VERMILLION
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import capital, words

BITS = 6


def _draw(study: Study) -> list[Drawing]:
    drawings = [_waveforms(study)]
    if study.several_sizes:
        drawings.append(_against_size(study))
    return drawings


def _waveforms(study: Study) -> Drawing:
    shown = [case for case in study.cases if known(case["settling_time"]).size]
    if len(shown) > MOST_PANELS:  # the ends of every corner
        shown = [case for cases in study.corners.values() for case in selected(cases, 2) if case in shown]
    shown = selected(shown) or list(study.cases[:1])
    figure, found = panels(len(shown), height=3.3 if len(shown) < 3 else 2.7)
    bits = int(study.plan.get("bits", BITS))
    for axes, case in zip(found, shown, strict=True):
        axes.set_xlabel("Time (s)")
        place = _slowest(case)
        if place is None:
            continue
        tile, vector, column = place
        final = case.pooled("final_currents")
        band = np.nanmax(np.abs(final[tile])) / 2 ** (bits + 1)
        times, currents = (case.pooled(name)[tile, vector] for name in ("waveform_times", "waveforms"))
        settled = float(case.pooled("settling_time")[tile, vector, column])
        end = float(final[tile, vector, column])
        scale, prefix = scaled(np.append(currents, end))
        unit, short = scaled(times)
        axes.axhspan((end - band) / scale, (end + band) / scale, color=GREEN, alpha=0.3, linewidth=0, label="Half LSB")
        axes.plot(times / unit, currents / scale, color=BLUE, label="Output")
        axes.axvline(settled / unit, color=VERMILLION, linestyle="--", linewidth=1.4, label="Settled")
        title = " ".join(filter(None, (case.label, format_quantity(settled, "s", 3))))
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(f"Time ({short}s)")
        axes.set_ylabel(f"Current ({prefix}A)")
    handles, labels = found[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    note_missing(figure, study.missing("settling_time"), "tiles")
    part = f" {len(shown)} of {len(study.cases)} tiles are shown." if len(shown) < len(study.cases) else ""
    caption = (
        "The slowest output of each tile after its inputs stepped; it has settled when it stays within half a step of "
        f"a {bits}-bit converter.{part}"
    )
    return Drawing("settle_waveforms", figure, caption)


def _slowest(case: Case) -> tuple[int, int, int] | None:
    """Tile, vector and column of the slowest output."""
    times = case.pooled("settling_time")
    if not known(times).size:
        return None
    tile, vector, column = np.unravel_index(np.nanargmax(times), times.shape)
    return int(tile), int(vector), int(column)


def _against_size(study: Study) -> Drawing:
    figure, (axes,) = panels(1, height=3.6)
    everything = np.concatenate([case["settling_time"].ravel() for case in study.cases])
    unit, short = scaled(everything)
    sizes: set[float] = set()
    for index, (corner, cases) in enumerate(study.corners.items()):
        lines = np.array([case.lines for case in cases])
        slowest = np.array([ends(case["settling_time"])[1] for case in cases]) / unit
        middle = np.array([median(case["settling_time"].ravel()) for case in cases]) / unit
        fine = np.isfinite(slowest)
        name = f"{corner}, " if len(study.corners) > 1 else ""
        look: dict[str, Any] = {"color": SERIES[index % len(SERIES)], "marker": MARKERS[index % len(MARKERS)]}
        axes.plot(lines[fine], slowest[fine], linestyle=LINES[0], label=f"{name}slowest output".capitalize(), **look)
        axes.plot(lines[fine], middle[fine], linestyle=LINES[2], label=f"{name}median output".capitalize(), **look)
        sizes |= set(lines.tolist())
    axes.set_xscale("log", base=2)
    if (known(everything) > 0).all() and known(everything).size:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{size:.3g}" for size in sorted(sizes)])
    axes.set_xlabel("Lines N of an N x N tile")
    axes.set_ylabel(f"Settling time ({short}s)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    note_missing(figure, study.missing("settling_time"), "tiles")
    return Drawing("settle_sizes", figure, "Settling time against the size of the tile.")


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    named = len(study.cases) > 1
    rows = []
    for case in study.cases:
        codes, times = case["input_class"][0], case["settling_time"]
        for vector, code in enumerate(codes):
            mine: Floats = times[:, :, vector]
            name = capital(words(INPUT_CLASSES[int(code)]))
            numbers = (said(median(mine.ravel()), "s", 3), said(ends(mine)[1], "s", 3))
            rows.append((*((case.label,) if named else ()), name, *numbers))
    headings = (*(("Tile",) if named else ()), "Inputs", "Median output", "Slowest output")
    return [("Settling time", Table(headings, tuple(rows), 1 + named))]


CHAPTER = Chapter(
    "Settling of the outputs",
    "How long a read takes: line and cell capacitances charge, and the amplifier follows.",
    _draw,
    _tabulate,
)
