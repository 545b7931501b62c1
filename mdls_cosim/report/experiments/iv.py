"""Chapter `iv`: curves of single cells at rest, and their loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.experiments.study import (
    LINES,
    Case,
    Chapter,
    Drawing,
    Floats,
    Study,
    known,
    mean,
    note_missing,
    panels,
    said,
    selected,
)
from mdls_cosim.report.figures import ramp, scaled
from mdls_cosim.report.style import SERIES
from mdls_cosim.report.tables import Table


def _draw(study: Study) -> list[Drawing]:
    drawings = [_static(study)]
    if any("loop_currents" in case for case in study.sizeless):
        drawings.append(_loops(study))
    return drawings


def _static(study: Study) -> Drawing:
    cases = study.sizeless
    figure, (linear, logarithmic) = panels(2, height=3.9)
    scale, prefix = scaled(np.concatenate([case["currents"].ravel() for case in cases]))
    conductances = mean(cases[0]["conductances"], 0)
    shown = selected(range(len(conductances))[::-1], 6 if len(cases) == 1 else 4)
    for case, style in zip(cases, LINES * len(cases), strict=False):
        voltages, currents = mean(case["voltages"], 0), mean(case["currents"], 0)
        for cell, colour in zip(shown, ramp(len(shown)), strict=True):
            look: dict[str, Any] = {"color": colour, "linestyle": style}
            name = format_quantity(float(conductances[cell]), "S", 3) if case is cases[0] else None
            linear.plot(voltages[cell], currents[cell] / scale, label=name, **look)
            logarithmic.plot(voltages[cell], _sizes(voltages[cell], currents[cell]) / scale, **look)
    linear.set_ylabel(f"Current ({prefix}A)")
    logarithmic.set_ylabel(f"Size of the current ({prefix}A)")
    logarithmic.set_yscale("log")
    for axes in (linear, logarithmic):
        axes.set_xlabel("Voltage across the cell (V)")
    linear.legend(loc="upper left", title="Programmed to", alignment="left")
    _name_corners(logarithmic, cases)
    note_missing(figure, study.missing("currents"), "cells")
    return Drawing(
        "iv_static",
        figure,
        "Single cells at rest, programmed to conductances over the range, on a linear and a logarithmic axis.",
    )


def _loops(study: Study) -> Drawing:
    cases = [case for case in study.sizeless if "loop_currents" in case]
    amplitudes, frequencies = mean(cases[0]["amplitudes"], 0), mean(cases[0]["frequencies"], 0)
    shown = selected(range(len(amplitudes)), 3)
    figure, found = panels(2 * len(shown), height=2.9, most=len(shown), sharex="col", sharey="row")
    scale, prefix = scaled(np.concatenate([case["loop_currents"].ravel() for case in cases]))
    cycles = int(study.plan.get("loop_cycles", 1))
    for column, amplitude in enumerate(shown):
        upper, lower = found[column], found[column + len(shown)]
        for case, style in zip(cases, LINES * len(cases), strict=False):
            voltages, currents = mean(case["loop_voltages"], 0), mean(case["loop_currents"], 0)
            for index, frequency in enumerate(frequencies):
                # Of several periods the last is the loop; those before lead to it.
                start = (voltages.shape[-1] - 1) // cycles * (cycles - 1)
                colour = SERIES[index % len(SERIES)]
                across, through = voltages[index, amplitude], currents[index, amplitude] / scale
                upper.plot(across[: start + 1], through[: start + 1], color=colour, linewidth=0.8, alpha=0.5)
                name = format_quantity(float(frequency), "Hz", 3) if case is cases[0] else None
                upper.plot(across[start:], through[start:], color=colour, linestyle=style, label=name)
                lower.plot(across[start:], _sizes(across, through)[start:], color=colour, linestyle=style)
        upper.set_title(f"{amplitudes[amplitude]:g} V", loc="left", fontsize=11)
        lower.set_yscale("log")
        lower.set_xlabel("Voltage (V)")
    found[0].set_ylabel(f"Current ({prefix}A)")
    found[len(shown)].set_ylabel(f"Size of the current ({prefix}A)")
    found[0].legend(loc="best", title="Frequency", alignment="left")
    _name_corners(found[-1], cases)
    note_missing(figure, study.missing("loop_currents", 2), "loops")
    part = f", {len(shown)} of {len(amplitudes)} amplitudes" if len(shown) < len(amplitudes) else ""
    before = " Pale: the periods before." if cycles > 1 else ""
    return Drawing(
        "iv_loops",
        figure,
        f"Loops under a sine of the amplitude above each panel{part}, on a linear and a logarithmic axis: pinched "
        f"at 0 V, and closing towards high frequency.{before}",
    )


def _sizes(voltages: Floats, currents: Floats) -> Floats:
    """Sizes of the currents; NaN around 0 V, where a logarithm shows rounding only."""
    return np.where(np.abs(voltages) > 0.02 * np.abs(voltages).max(), np.abs(currents), np.nan)


def _name_corners(axes: Axes, cases: list[Case]) -> None:
    if len(cases) > 1:
        handles = [
            Line2D([], [], color="#222222", linestyle=style, label=case.corner or "nominal")
            for case, style in zip(cases, LINES * len(cases), strict=False)
        ]
        axes.legend(handles=handles, loc="lower left", title="Corner", alignment="left")


def _tabulate(study: Study) -> list[tuple[str, Table]]:
    several = len(study.sizeless) > 1
    rows, loops = [], []
    for case in study.sizeless:
        corner = (case.corner or "nominal",) if several else ()
        voltages, currents = mean(case["voltages"], 0), mean(case["currents"], 0)
        for cell, conductance in enumerate(mean(case["conductances"], 0)):
            at = voltages[cell]
            top, bottom, middle = at.argmax(), at.argmin(), np.abs(at - at.max() / 2).argmin()
            curvature = currents[cell, top] / currents[cell, middle] * at[middle] / at[top]
            rows.append((
                *corner, format_quantity(float(conductance), "S", 4), said(currents[cell, bottom], "A"),
                said(currents[cell, top], "A"), f"{curvature:.3f}" if np.isfinite(curvature) else "–",
            ))  # fmt: skip
        if "loop_currents" not in case:
            continue
        currents, states = mean(case["loop_currents"], 0), mean(case["loop_states"], 0)
        for f, frequency in enumerate(mean(case["frequencies"], 0)):
            for a, amplitude in enumerate(mean(case["amplitudes"], 0)):
                found, moved = known(currents[f, a]), known(states[f, a])
                largest = (said(found.min(), "A"), said(found.max(), "A")) if found.size else ("–", "–")
                states_said = f"{moved.min():.3f} to {moved.max():.3f}" if moved.size else "–"
                name = format_quantity(float(frequency), "Hz", 3)
                loops.append((*corner, name, f"{amplitude:g} V", *largest, states_said))
    names = ("Corner",) if several else ()
    low, high = (mean(study.sizeless[0]["voltages"], 0)[0][[0, -1]]).tolist()
    tables = [
        (
            "At rest. Curvature: conductance at the highest voltage over that at half of it; 1 is Ohm's law.",
            Table(
                (*names, "Programmed to", f"At {low:g} V", f"At {high:g} V", "Curvature"), tuple(rows), len(names) + 1
            ),
        )
    ]
    if loops:
        headings = (*names, "Frequency", "Amplitude", "Lowest current", "Highest current", "State")
        tables.append(("Loops", Table(headings, tuple(loops), len(names) + 1)))
    return tables


CHAPTER = Chapter(
    "Current and voltage of single cells",
    "How a cell conducts at rest at each programmed conductance and, where its state moves, how it switches under a "
    "sine.",
    _draw,
    _tabulate,
)
