"""Panels and tables of a fit of loops: model over data, linear and logarithmic, residuals, and branches in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from mdls_cosim.report.figures import scaled
from mdls_cosim.report.style import BLUE, GREY, VERMILLION
from mdls_cosim.report.wording import error_percent

if TYPE_CHECKING:
    from mdls_cosim.calibrate import Branch, Loop

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
