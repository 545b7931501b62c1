"""Every figure of a report: arrays in, a matplotlib Figure out. No pyplot: nothing global, no window."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.style import COLOURS, GREY, LABELS, MAP, MARKERS, SERIES, STYLE
from mdls_cosim.report.wording import Level, error_percent, finite

_PREFIXES = (
    (1e9, "G"), (1e6, "M"), (1e3, "k"),
    (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"), (1e-18, "a"),
)  # fmt: skip
_MOST_CURVES = 8


def to_png(figure: Figure, pixel_ratio: float = 2.0) -> bytes:
    """The figure as PNG, by default with two pixels for each of the page's."""
    stream = io.BytesIO()
    with rc_context(STYLE):
        # No software name or date inside: the same results give the same file.
        figure.savefig(stream, format="png", dpi=100 * pixel_ratio, metadata={"Software": None})
    return stream.getvalue()


@rc_context(STYLE)
def draw_accuracy(accuracies: Mapping[str, Level]) -> Figure:
    """Bars of accuracy (fractions) with one standard deviation; every bar carries its value."""
    figure, axes = _figure(6.4, 3.9)
    for place, (name, value) in enumerate(accuracies.items()):
        axes.bar(place, value.mean, width=0.58, color=COLOURS.get(name, SERIES[place % len(SERIES)]))
        if value.std:
            axes.errorbar(place, value.mean, yerr=value.std, color="#222222", capsize=5, linewidth=1.4)
        # Above the whole error bar, so that neither hides the other.
        top = value.mean + (value.std or 0.0)
        axes.annotate(
            value.text, (place, top), xytext=(0, 5), textcoords="offset points", ha="center", va="bottom",
            weight="bold", bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    axes.set_xticks(range(len(accuracies)), [LABELS.get(name, name) for name in accuracies])
    axes.tick_params(axis="x", length=0, labelsize=11)
    axes.set_xlim(-0.6, len(accuracies) - 0.4)
    accuracy_axis(axes, 0.0, 1.12)
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.grid(axis="y")
    return figure


@rc_context(STYLE)
def draw_wire_sweep(points: list[tuple[float, str, Level]], levels: Mapping[str, Level]) -> Figure:
    """Accuracy against wire resistance [ohm a segment]; `levels` (float, ideal) are lines across."""
    figure, axes = _figure(6.4, 3.9)
    resistances = [resistance for resistance, _, _ in points]
    means = [value.mean for _, _, value in points]
    spreads = [value.std or 0.0 for _, _, value in points]
    axes.errorbar(
        resistances,
        means,
        yerr=spreads,
        color=COLOURS["surrogate"],
        marker="o",
        capsize=4,
        elinewidth=1.2,
        label=LABELS["surrogate"],
    )
    for name, dashes in (("float", (2, 2)), ("ideal", (6, 2))):
        if name in levels:
            label = f"{LABELS[name].replace(chr(10), ' ')}, {levels[name].mean * 100:.1f} %"
            axes.axhline(levels[name].mean, color=COLOURS[name], dashes=dashes, linewidth=1.4, label=label)
    lowest = min([low - spread for low, spread in zip(means, spreads, strict=True)])
    # Lines are read against their axis, which need not begin at zero; a tenth of the span stays free below.
    bottom = max(0.0, np.floor((lowest - 0.03) * 20) / 20)
    accuracy_axis(axes, float(bottom), 1.0 + 0.03 * (1 - float(bottom)))
    axes.set_xlabel("Wire resistance (ohm per segment, rows and columns)")
    axes.set_xlim(left=-0.03 * (max(resistances) or 1.0))
    axes.grid()
    axes.legend(loc="lower left")
    return figure


@rc_context(STYLE)
def draw_current_voltage(curves: Mapping[str, Any]) -> Figure:
    """Single cells: fitted I-V as lines on ngspice's as rings.

    `conductances` (cell,) [S], `voltages`, `spice` and `fitted` (cell, point) [V], [A].
    """
    conductances = np.asarray(curves["conductances"], dtype=float)
    voltages, spice, fitted = (np.asarray(curves[name], dtype=float) for name in ("voltages", "spice", "fitted"))
    figure, axes = _figure(6.4, 4.6)
    scale, prefix = scaled(spice)
    # Few enough curves to name, and few enough rings to see the line between them.
    shown = np.argsort(-conductances)
    if len(shown) > _MOST_CURVES:
        shown = shown[np.linspace(0, len(shown) - 1, _MOST_CURVES).round().astype(int)]
    step = max(1, voltages.shape[1] // 20)
    for cell, colour in zip(shown, ramp(len(shown)), strict=True):
        name = format_quantity(float(conductances[cell]), "S", 3)
        axes.plot(voltages[cell], fitted[cell] / scale, color=colour, label=f"fitted, {name}")
        axes.plot(
            voltages[cell, ::step], spice[cell, ::step] / scale, "o", color="#222222", fillstyle="none", markersize=4.5,
            markeredgewidth=0.9, zorder=3, label="ngspice" if cell == shown[-1] else None,
        )  # fmt: skip
    axes.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#999999", linewidth=0.8, zorder=0)
    axes.set_xlabel("Voltage across the cell (V)")
    axes.set_ylabel(f"Current through the cell ({prefix}A)")
    axes.grid()
    # The current has the sign of the voltage: this corner is always free.
    axes.legend(loc="upper left", title="Single cells", alignment="left")
    return figure


@rc_context(STYLE)
def draw_ir_drop(curves: Mapping[str, Any]) -> Figure:
    """Map of the voltage left across every cell of a tile, in percent of what its driver applies.

    `cell_voltages` (rows, cols) [V], `applied` [V].
    """
    cells = np.asarray(curves["cell_voltages"], dtype=float)
    applied = float(curves["applied"])
    rows, cols = cells.shape
    figure, axes = _figure(6.4, 5.5)
    picture = axes.imshow(
        cells / applied * 100,
        cmap=MAP,
        vmax=max(100.0, float(cells.max() / applied * 100)),
        interpolation="nearest",
        aspect="equal",
    )
    bar = figure.colorbar(picture, ax=axes, shrink=0.9, pad=0.03)
    bar.set_label(f"Voltage across the cell (% of the {applied:.3g} V applied)")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Column\n↓  sensed at this side  ↓")
    # Turned with the text, the arrows point to the right, into the rows.
    axes.set_ylabel("↓  driven at this side  ↓\nRow")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_xlim(-0.5, cols - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    row, col = np.unravel_index(np.argmin(cells), cells.shape)
    worst = cells[row, col] / applied * 100
    # White and black rings together show on any colour of the map.
    axes.plot(col, row, "o", color="black", fillstyle="none", clip_on=False, markersize=10, markeredgewidth=3.2)
    axes.plot(col, row, "o", color="white", fillstyle="none", clip_on=False, markersize=10, markeredgewidth=1.4)
    axes.set_title(
        f"Ring: the lowest, row {row}, column {col}: {worst:.1f} %", loc="left", fontsize=10.5, color="#333333"
    )
    return figure


@rc_context(STYLE)
def draw_scatter(curves: Mapping[str, Any], audit: Mapping[str, Any] | None = None) -> Figure:
    """Column currents of the surrogate against ngspice's, and their difference below.

    `spice`, `surrogate` (n,) [A], `layer` (n,) names; `audit` may give "rms" and "p99" to be written in.
    """
    spice, surrogate = (np.asarray(curves[name], dtype=float) for name in ("spice", "surrogate"))
    named = curves.get("layer")
    layers = np.full(len(spice), "", dtype=object) if named is None else np.asarray(named, dtype=object)
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    scale, prefix = scaled(np.concatenate([spice, surrogate]))
    difference = surrogate - spice
    small, small_prefix = scaled(difference)
    low, high = min(spice.min(), surrogate.min()) / scale, max(spice.max(), surrogate.max()) / scale
    upper.plot([low, high], [low, high], color=GREY, linewidth=1.2, zorder=1)
    lower.axhline(0, color=GREY, linewidth=1.2, zorder=1)
    for index, layer in enumerate(dict.fromkeys(layers)):
        mine = layers == layer
        look: dict[str, Any] = {
            "color": SERIES[index % len(SERIES)],
            "marker": MARKERS[index % len(MARKERS)],
            "s": 16 if len(spice) < 1000 else 9,
            "alpha": 0.75 if len(spice) < 1000 else 0.45,
            "linewidths": 0,
        }
        upper.scatter(spice[mine] / scale, surrogate[mine] / scale, zorder=2, label=str(layer), **look)
        lower.scatter(spice[mine] / scale, difference[mine] / small, zorder=2, **look)
    upper.set_ylabel(f"Surrogate ({prefix}A)")
    lower.set_ylabel(f"Surrogate − ngspice\n({small_prefix}A)")
    lower.set_xlabel(f"Column current in ngspice ({prefix}A)")
    for axes in (upper, lower):
        axes.grid()
    if any(layers):
        legend = upper.legend(title="Layer", loc="upper left", markerscale=1.8)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
    if said := _error_words(audit or {}):
        upper.text(
            0.97, 0.06, said, transform=upper.transAxes, ha="right", va="bottom", fontsize=10.5, linespacing=1.5,
            bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "#cccccc"},
        )  # fmt: skip
    figure.align_ylabels()
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def accuracy_axis(axes: Axes, bottom: float, top: float) -> None:
    """Vertical, in percent of the images."""
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_ylabel("Test accuracy")


def scaled(values: np.ndarray) -> tuple[float, str]:
    """The SI prefix that suits the largest value; NaN is passed over."""
    known = values[np.isfinite(values)]
    largest = float(np.max(np.abs(known))) if known.size else 0.0
    return next(((scale, prefix) for scale, prefix in _PREFIXES if largest >= scale), (1.0, ""))


def ramp(count: int) -> list[Any]:
    """Colours from light to dark of the map, its pale end left out; a single one is dark."""
    return [colormaps[MAP](place) for place in np.linspace(0.88 if count > 1 else 0.0, 0.0, count)]


def _error_words(audit: Mapping[str, Any]) -> str:
    lines = [
        f"{label} {error_percent(audit[key])}"
        for key, label in (("rms", "RMS error"), ("p99", "99th percentile"))
        if finite(audit.get(key)) is not None
    ]
    return "\n".join([*lines, "of the RMS current"]) if lines else ""
