"""Chapter `pulse`: conductance against the number of pulses."""

from __future__ import annotations

import numpy as np

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.experiments.study import (
    LINES,
    Chapter,
    Drawing,
    Study,
    ends,
    mean,
    note_missing,
    panels,
    said,
    selected,
    spread,
)
from mdls_cosim.report.figures import scaled
from mdls_cosim.report.style import SERIES
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import error_percent


def _draw(study: Study) -> list[Drawing]:
    cases = study.sizeless
    first = cases[0]
    widths, raising, lowering = (first[name][0] for name in ("widths", "potentiation", "depression"))
    shown = selected(range(len(widths)))
    figure, found = panels(len(shown), height=3.4, sharey=True)
    scale, prefix = scaled(np.concatenate([case["conductances"].ravel() for case in cases]))
    spreading = False
    for axes, width in zip(found, shown, strict=True):
        for case, style in zip(cases, LINES * len(cases), strict=False):
            for index in range(len(raising)):
                trains = case["conductances"][:, index, width] / scale
                trains = trains.reshape(-1, trains.shape[-1])  # cycles of all seeds
                spreading |= len(trains) > 1
                pulses, colour = np.arange(trains.shape[1]), SERIES[index % len(SERIES)]
                corner = f", {case.corner}" if len(cases) > 1 and case.corner else ""
                name = f"+{raising[index]:g} / −{lowering[index]:g} V{corner}"
                axes.plot(pulses, mean(trains, 0), color=colour, linestyle=style, linewidth=1.5, label=name)
                axes.fill_between(pulses, *ends(trains, 0), color=colour, alpha=0.2, linewidth=0)
        axes.axvline((first["conductances"].shape[-1] - 1) / 2, color="#999999", linewidth=0.8)
        axes.set_title(f"{format_quantity(float(widths[width]), 's', 3)} wide", loc="left", fontsize=11)
        axes.set_xlabel("Pulse number")
    found[0].set_ylim(bottom=0)
    found[0].set_ylabel(f"Conductance ({prefix}S)")
    handles, labels = found[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=3, title="Raising / lowering pulses", alignment="left"
    )
    note_missing(figure, study.missing("conductances", 2), "trains")
    band = " Lines: mean over cycles, bands: lowest to highest." if spreading else ""
    caption = f"Conductance after each pulse: those left of the grey line raise it, those right of it lower it.{band}"
    return [Drawing("pulse_trains", figure, caption)]


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    named = len(study.sizeless) > 1
    rows = []
    for case in study.sizeless:
        for index, raising in enumerate(case["potentiation"][0]):
            for width, seconds in enumerate(case["widths"][0]):
                trains = case["conductances"][:, index, width]
                trains = trains.reshape(-1, trains.shape[-1])
                half = (trains.shape[1] - 1) // 2
                start, middle, top, end = (mean(trains[:, place]) for place in (0, half // 2, half, -1))
                linear = (middle - start) / (top - start) if top > start else np.nan
                scatter = spread(trains[:, half], 0) / top if len(trains) > 1 else np.nan
                rows.append((
                    *((case.corner or "nominal",) if named else ()),
                    f"{raising:g} / {case['depression'][0][index]:g} V", format_quantity(float(seconds), "s", 3),
                    said(start, "S"), said(top, "S"), said(end, "S"), error_percent(linear), error_percent(scatter),
                ))  # fmt: skip
    headings = (*(("Corner",) if named else ()), "Raising / lowering", "Width", "Start", "Highest", "End")
    table = Table((*headings, "Half-way rise", "Spread"), tuple(rows), 1 + named)
    caption = (
        "Means over cycles. Half-way rise: share of the rise after half of the raising pulses, 50 % where each pulse "
        "adds the same. Spread: standard deviation over cycles of the highest conductance, of its mean."
    )
    return [(caption, table)]


CHAPTER = Chapter(
    "Trains of pulses",
    "How the conductance of a single device moves, pulse by pulse: up by potentiation, down by depression.",
    _draw,
    _tabulate,
)
