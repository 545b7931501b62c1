"""Figures: what they show, read back from their artists."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mdls_cosim.report.figures import (
    draw_accuracy,
    draw_current_voltage,
    draw_ir_drop,
    draw_scatter,
    draw_wire_sweep,
    to_png,
)
from mdls_cosim.report.wording import Level


def cut_off(figure: Figure) -> list[str]:
    """Texts of the figure that are cut off at its edges."""
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches() * figure.dpi
    cut = []
    for axes in figure.axes:
        for artist in (axes.xaxis.label, axes.yaxis.label, axes.get_legend(), *axes.texts):
            if artist is not None:
                box = artist.get_window_extent()
                if box.width and (box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1):
                    cut.append(str(artist))
    return cut


def test_bars_carry_their_values_above_their_error_bars() -> None:
    figure = draw_accuracy({"float": Level(0.978), "ideal": Level(0.951, 0.008), "surrogate": Level(0.846, 0.021)})
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [0.978, 0.951, 0.846]
    assert axes.get_ylim()[0] == 0  # bars are compared by their lengths
    said = [note.get_text().replace("\u00a0", " ") for note in axes.texts]
    assert said == ["97.8 %", "95.1 ± 0.8 %", "84.6 ± 2.1 %"]
    assert axes.get_ylabel() == "Test accuracy"
    assert not cut_off(figure)


def test_wire_sweep_shows_every_resistance_with_both_levels() -> None:
    points = [(ohm, f"{ohm:g} ohm", Level(mean, 0.02)) for ohm, mean in ((0.0, 0.95), (1.0, 0.85), (5.0, 0.4))]
    figure = draw_wire_sweep(points, {"float": Level(0.978), "ideal": Level(0.951, 0.008)})
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {
        "Float (no hardware), 97.8 %",
        "Ideal tiles, 95.1 %",
        "Surrogate tiles",
    }
    assert "ohm per segment" in axes.get_xlabel()
    low, high = axes.get_ylim()
    assert low <= 0.38
    assert high >= 0.98
    assert not cut_off(figure)


@pytest.mark.parametrize("cells", [1, 7, 100])
def test_current_voltage_names_few_curves_in_fitting_units(cells: int) -> None:
    conductances = np.linspace(1e-6, 100e-6, cells) if cells > 1 else np.array([100e-6])
    voltages = np.tile(np.linspace(-0.3, 0.3, 41), (cells, 1))
    currents = conductances[:, None] * voltages
    figure = draw_current_voltage(
        {"conductances": conductances, "voltages": voltages, "spice": currents, "fitted": currents}
    )
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0] == "fitted, 100 µS"
    assert names[-1] == "ngspice"
    assert len(names) == min(cells, 8) + 1
    assert axes.get_ylabel() == "Current through the cell (µA)"
    assert axes.get_lines()[0].get_ydata()[-1] == pytest.approx(30.0)
    assert not cut_off(figure)


def test_ir_drop_keeps_rows_down_and_columns_right() -> None:
    cells = np.array([[0.3, 0.27, 0.24], [0.3, 0.285, 0.27]])
    figure = draw_ir_drop({"cell_voltages": cells, "applied": 0.3})
    axes = figure.axes[0]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), cells / 0.3 * 100)
    assert axes.get_ylim() == (1.5, -0.5)
    assert axes.get_title(loc="left") == "Ring: the lowest, row 0, column 2: 80.0 %"
    assert "driven" in axes.get_ylabel()
    assert "sensed" in axes.get_xlabel()
    assert figure.axes[1].get_ylabel() == "Voltage across the cell (% of the 0.3 V applied)"
    assert not cut_off(figure)


def test_scatter_draws_every_current_and_its_difference() -> None:
    spice = np.array([1e-6, 2e-6, -3e-6, 4e-6])
    curves = {"spice": spice, "surrogate": spice + 5e-9, "layer": ["0", "0", "3", "3"]}
    figure = draw_scatter(curves, {"rms": 0.0018, "p99": 0.002})
    upper, lower = figure.axes
    points = np.concatenate([np.asarray(each.get_offsets()) for each in upper.collections])
    np.testing.assert_allclose(points, np.stack([spice, spice + 5e-9], axis=1) * 1e6)
    below = np.concatenate([np.asarray(each.get_offsets()) for each in lower.collections])
    np.testing.assert_allclose(below[:, 1], 5.0, rtol=1e-9)
    assert lower.get_ylabel() == "Surrogate − ngspice\n(nA)"
    assert "0.180" in upper.texts[0].get_text()
    assert not cut_off(figure)


def test_scatter_needs_neither_layers_nor_errors() -> None:
    spice = np.linspace(0, 1e-3, 2000)
    figure = draw_scatter({"spice": spice, "surrogate": spice})
    assert figure.axes[0].get_legend() is None
    assert not figure.axes[0].texts


def test_drawing_leaves_global_settings_alone() -> None:
    before = dict(rcParams)
    to_png(draw_accuracy({"ideal": Level(0.9, 0.01)}))
    assert dict(rcParams) == before


def test_report_loads_neither_matplotlib_nor_torch() -> None:
    program = "import sys, mdls_cosim.report; print([name for name in ('matplotlib', 'torch') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
