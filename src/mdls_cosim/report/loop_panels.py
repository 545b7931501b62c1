"""Panels and tables of a fit of loops: model over data, linear and logarithmic, residuals, and branches in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.figures import scaled
from mdls_cosim.report.style import BLUE, GREY, VERMILLION
from mdls_cosim.report.tables import Table
from mdls_cosim.report.wording import error_percent

if TYPE_CHECKING:
    from mdls_cosim.calibrate import Branch, Calibration, Loop
    from mdls_cosim.calibrate.random_effects import Spread

HEIGHTS = (4.0, 2.6, 1.5)
"""Of the three panels of a loop [inch]: current, logarithm of its size, residual."""
_DECADES = 6
"""Below the largest current that the logarithmic axis shows."""


def draw_loop(places: Sequence[Axes], loop: Loop, modelled: np.ndarray, title: str, held_out: bool) -> None:
    """A loop and its model (points,) [A] on three axes: I, |I| on a logarithmic axis, and model less data."""
    linear, logarithmic, residual = places
    scale, prefix = scaled(loop.currents)
    color = VERMILLION if held_out else BLUE
    for axes, form in ((linear, np.asarray), (logarithmic, np.abs)):
        axes.plot(
            loop.voltages, form(loop.currents) / scale, ".", color=GREY, markersize=4, alpha=0.7, label="measured",
            zorder=2,
        )  # fmt: skip
        axes.plot(loop.voltages, form(modelled) / scale, color=color, linewidth=1.5, label="model", zorder=3)
    residual.plot(loop.voltages, (modelled - loop.currents) / scale, ".", color=color, markersize=3)
    for axes in (linear, residual):
        axes.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    for axes in places:
        axes.axvline(0, color="#999999", linewidth=0.8, zorder=0)
        axes.grid()
    largest = float(np.abs(loop.currents).max()) / scale
    least = np.abs(loop.currents[loop.currents != 0]).min() / scale
    logarithmic.set_yscale("log")
    logarithmic.set_ylim(max(least / 2, largest * 10.0**-_DECADES), 2 * largest)
    linear.set_ylabel(f"Current ({prefix}A)")
    logarithmic.set_ylabel(f"|Current| ({prefix}A)")
    residual.set_ylabel(f"Model – data\n({prefix}A)")
    over = "device and resistor" if loop.applied else "the device"
    residual.set_xlabel(f"Voltage over {over} (V)")
    linear.set_title(title, loc="left", fontsize=10)
    linear.legend(loc="upper left")


def branch_words(branches: Sequence[Branch]) -> str:
    """The relative errors of the branches of a loop, for a title: "positive 5.00 %, negative 30.0 % of its RMS"."""
    parts = [f"{branch.sign} {error_percent(branch.error)}" for branch in branches]
    return f"{', '.join(parts)} of the branch's RMS" if parts else ""


def branch_table(calibration: Calibration) -> Table | None:
    """Errors of each branch, relative to its RMS current, and of its sweeps out and back, relative to theirs."""
    rows = [
        (
            name, branch.sign, use, format_quantity(branch.rms_current, "A", 3), error_percent(branch.error),
            error_percent(branch.error_out), error_percent(branch.error_back),
        )
        for name, use, branch in _rows(calibration)
    ]  # fmt: skip
    return (
        Table(("Measurement", "Branch", "Use", "RMS current", "Error", "Out", "Back"), tuple(rows), 3) if rows else None
    )


def state_table(calibration: Calibration) -> Table | None:
    """High-resistive state, on/off ratio and switching voltage of each branch: measured / model."""
    rows = []
    for name, _, branch in _rows(calibration):
        pair = (branch.measured, branch.modelled)
        rows.append(
            (
                name, format_quantity(branch.reference_voltage, "V", 3),
                _both([_quantity(each.high_resistive, "S") for each in pair]),
                _both(["–" if each.ratio is None else f"{each.ratio:.3g}" for each in pair]),
                _both([_quantity(each.switching_voltage, "V") for each in pair]),
            )
        )  # fmt: skip
    heads = ("Measurement", "At", "High-resistive state", "On/off ratio", "Switching voltage")
    return Table(heads, tuple(rows), 1) if rows else None


def spread_table(calibration: Calibration) -> Table | None:
    """Distributions of the parameters: center, and standard deviations of the factor with 95 % intervals."""
    rows = [
        (
            name, format_quantity(each.center, each.unit, 4) if each.unit else f"{each.center:.4g}", each.family,
            _spread(each.device_to_device), _spread(each.cycle_to_cycle),
        )
        for name, each in calibration.spread.items()
    ]  # fmt: skip
    heads = ("Parameter", "Center", "Family", "Device to device", "Cycle to cycle")
    return Table(heads, tuple(rows)) if rows else None


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    said = (
        f"{error_percent(spread.sigma)} ({error_percent(spread.low)} to {error_percent(spread.high)}), {spread.count}"
    )
    return said if spread.significant else f"{said}, none beyond the fits'"


def _rows(calibration: Calibration) -> list[tuple[str, str, Branch]]:
    return [
        (name, use, branch)
        for use, names in (("fitted", calibration.errors), ("held out", calibration.held_out))
        for name in names
        for branch in calibration.branches.get(name, ())
    ]


def _quantity(value: float | None, unit: str) -> str:
    return "–" if value is None else format_quantity(value, unit, 3)


def _both(texts: Sequence[str]) -> str:
    return " / ".join(texts)
