"""Tables and plots of a calibration: what was found, how well it is known, and the model over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.figures import ramp, scaled
from mdls_cosim.report.loop_panels import HEIGHTS, branch_words, draw_loop
from mdls_cosim.report.style import BLACK, BLUE, GREY, STYLE, VERMILLION
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import capital, error_percent, words

if TYPE_CHECKING:
    from mdls_cosim.calibrate import (
        Calibration,
        DriftTrace,
        EnduranceTable,
        LevelTable,
        Loop,
        Measurement,
        PulseTrain,
        Value,
    )

_MOST_PANELS = 12
_MOST_RAMPS = 12


def value_table(calibration: Calibration) -> Table | None:
    """Parameters with their 95 % intervals."""
    rows = [
        (capital(words(name)), _number(value, value.value), *_interval(value))
        for name, value in calibration.values.items()
    ]
    return Table(("Parameter", "Value", "95 % from", "to"), tuple(rows)) if rows else None


def error_table(calibration: Calibration) -> Table | None:
    """Error by measurement, fitted ones first."""
    rows = [(name, "fitted", error_percent(error)) for name, error in calibration.errors.items()]
    rows += [(name, "held out", error_percent(error)) for name, error in calibration.held_out.items()]
    return Table(("Measurement", "Use", "Error"), tuple(rows), names=2) if rows else None


def ranking_table(calibration: Calibration) -> Table | None:
    """Models in their order, with the errors over the range and those of branches relative to their RMS current."""
    rows = tuple(
        (each.model, *map(error_percent, (each.error, each.branches, each.held_out, each.held_out_branches)))
        for each in calibration.ranking
    )
    heads = ("Model", "Fitted", "Its branches", "Held out", "Its branches")
    return Table(heads, rows) if rows else None


@rc_context(STYLE)
def draw_calibration(calibration: Calibration) -> Figure:
    """Model over data: loops or pulse trains in panels of their own, levels, or drift."""
    panels = calibration.measurements
    shown = panels[:_MOST_PANELS]
    columns = min(len(shown), 3 if len(shown) != 4 else 2) or 1
    rows = -(-len(shown) // columns) or 1
    heights = HEIGHTS if calibration.kind == "loop" else (4.0,)
    width = 5.2 * columns if columns > 1 else 6.4
    figure = Figure(figsize=(width, sum(heights) * rows + 0.5), layout="constrained")
    places = figure.subplots(rows * len(heights), columns, squeeze=False, height_ratios=heights * rows)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        own: list[Axes] = list(places[row * len(heights) : (row + 1) * len(heights), column])
        if place < len(shown):
            measurement, held_out = shown[place]
            _draw(own, calibration, measurement, held_out)
        else:
            for axes in own:
                axes.set_axis_off()
    title = calibration.title
    if len(panels) > len(shown):
        title += f" ({len(shown)} of {len(panels)} shown)"
    figure.suptitle(title, fontsize=12)
    return figure


def _draw(places: Sequence[Axes], calibration: Calibration, measurement: Measurement, held_out: bool) -> None:
    if calibration.kind == "loop":
        loop: Loop = measurement  # pyright: ignore[reportAssignmentType]
        error = (calibration.held_out if held_out else calibration.errors).get(loop.name)
        title = f"{loop.name}\n{'held out' if held_out else 'fitted'}"
        if error is not None:
            title += f", error {error_percent(error)} of the range"
        if branches := calibration.branches.get(loop.name):
            title += f"\n{branch_words(branches)}"
        draw_loop(places, loop, calibration.modelled[loop.name], title, held_out)
        return
    draw: Callable[[Axes, Calibration, Measurement, bool], None]
    draw = {"pulses": _pulses, "levels": _levels, "drift": _drift, "endurance": _endurance}[calibration.kind]
    draw(places[0], calibration, measurement, held_out)
    places[0].grid()


def _title(axes: Axes, name: str, error: float | None, spared: bool) -> None:
    said = f"{name}\n{'held out' if spared else 'fitted'}"
    axes.set_title(said if error is None else f"{said}, error {error_percent(error)}", loc="left", fontsize=10)


def _pulses(axes: Axes, calibration: Calibration, train: PulseTrain, spared: bool) -> None:
    values = train.conductances
    scale, prefix = scaled(values) if train.unit else (1.0, "")
    chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), _MOST_RAMPS)).round().astype(int))
    pulses = np.arange(1, values.shape[1] + 1)
    for place, number in enumerate(chosen):
        named = place == 0
        axes.plot(
            pulses, values[number] / scale, ".", color=GREY, markersize=3.5, alpha=0.8, zorder=4,
            label="measured" if named else None,
        )  # fmt: skip
        axes.plot(
            pulses, calibration.modelled[train.name][number] / scale, color=VERMILLION if spared else BLUE,
            linewidth=3.0, alpha=0.6, label="model" if named else None, zorder=3,
        )  # fmt: skip
    axes.set_xlabel("Pulse")
    axes.set_ylabel(f"Conductance ({prefix}S)" if train.unit else "Conductance (as in the file)")
    error = calibration.held_out.get(train.name) if spared else calibration.errors.get(train.name)
    name = train.name if len(chosen) == len(values) else f"{train.name}: {len(chosen)} of {len(values)} ramps"
    _title(axes, name, error, spared)
    axes.legend(loc="best", markerscale=3)


def _levels(axes: Axes, calibration: Calibration, table: LevelTable, spared: bool) -> None:
    levels, spreads, fitted = (calibration.modelled[name] for name in ("levels", "spreads", "fitted"))
    scale, prefix = scaled(levels)
    small, small_prefix = scaled(spreads)
    axes.plot(levels / scale, spreads / small, "o", color=BLACK, fillstyle="none", label="measured spread of a level")
    axes.plot(levels / scale, fitted / small, color=BLUE, label="model, a polynomial of the conductance")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"Conductance of the level ({prefix}S)")
    axes.set_ylabel(f"Standard deviation ({small_prefix}S)")
    _title(axes, table.name, calibration.errors.get(table.name), spared)
    axes.legend(loc="best")


def _drift(axes: Axes, calibration: Calibration, trace: DriftTrace, spared: bool) -> None:
    scale, prefix = scaled(trace.conductances)
    devices = np.unique(trace.device)
    shown = devices[np.unique(np.linspace(0, len(devices) - 1, min(len(devices), _MOST_RAMPS)).round().astype(int))]
    for number, colour in zip(shown, ramp(len(shown)), strict=True):
        mine = trace.device == number
        order = np.argsort(trace.times[mine])
        times = trace.times[mine][order]
        first = number == shown[0]
        axes.plot(
            times, trace.conductances[mine][order] / scale, ".", color=colour, markersize=5, zorder=4,
            label="measured" if first else None,
        )  # fmt: skip
        axes.plot(
            times, calibration.modelled[str(number)][mine][order] / scale, color=BLUE, linewidth=2.5, alpha=0.4,
            label="model" if first else None,
        )  # fmt: skip
    axes.set_xscale("log")
    if np.ptp(np.log(trace.conductances)) > 1:  # over less, a linear axis has the better numbers
        axes.set_yscale("log")
    axes.set_xlabel("Time since programming (s)")
    axes.set_ylabel(f"Conductance ({prefix}S)")
    name = trace.name if len(shown) == len(devices) else f"{trace.name}: {len(shown)} of {len(devices)} devices"
    _title(axes, name, calibration.errors.get(trace.name), spared)
    axes.legend(loc="best")


def _endurance(axes: Axes, calibration: Calibration, table: EnduranceTable, spared: bool) -> None:
    scale, prefix = scaled(np.concatenate([table.on, table.off]))
    order = np.argsort(table.cycles)
    cycles = np.maximum(table.cycles[order], 1.0)  # a logarithmic axis has no zero
    for name, color in (("on", VERMILLION), ("off", BLUE)):
        measured, modelled = getattr(table, name)[order], calibration.modelled[name][order]
        axes.plot(cycles, measured / scale, ".", color=color, markersize=4, alpha=0.6, label=f"measured, {name}")
        axes.plot(cycles, modelled / scale, color=color, linewidth=2, alpha=0.6, label=f"model, {name}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("Switching cycles")
    axes.set_ylabel(f"Conductance ({prefix}S)")
    _title(axes, table.name, calibration.errors.get(table.name), spared)
    axes.legend(loc="best")


def _number(value: Value, number: float | None) -> str:
    if number is None:
        return "–"
    return format_quantity(number, value.unit, 4) if value.unit else f"{number:.4g}"


def _interval(value: Value) -> tuple[str, str]:
    if not value.determined:
        return "not determined", "by these data"
    return _number(value, value.low), _number(value, value.high)
