"""How figures look: one palette that colour-blind readers can tell apart, and readable sizes."""

from __future__ import annotations

from typing import Any

BLUE, VERMILLION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
SKY, PURPLE, BLACK, GREY = "#56b4e9", "#cc79a7", "#222222", "#6b6b6b"
"""The palette of Okabe and Ito (yellow left out: too pale on white)."""

SERIES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Series differ in shape as well as in colour."""

LABELS = {"float": "Float\n(no hardware)", "ideal": "Ideal tiles", "surrogate": "Surrogate tiles"}
"""Names of the accuracies, in the order of the bars."""

COLOURS = {"float": GREY, "ideal": BLUE, "surrogate": VERMILLION}
"""Of the accuracies, in every figure and in the page."""

MAP = "cividis"
"""Of heat maps: even in lightness, and the same to every kind of colour vision."""

STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
"""Set while a figure is drawn or written, never globally."""
