"""The report of a simulation: everything that was found is on the page, whatever was swept, repeated or failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdls_cosim.dataset import Failure
from mdls_cosim.network.experiment import SimulationResult
from mdls_cosim.report import render_simulation, simulation_tables
from mdls_cosim.report.experiment import draw_layers, draw_sweep, field_words
from mdls_cosim.store import Array

SHARES = ("dac_saturation", "adc_saturation")
CLIPPED = ("clipped_weights", "clipped_conductances")


def arrays(axes: dict[str, int], runs: int = 2, level: float = 0.9) -> dict[str, Array]:
    """What a sweep with these axes has, accuracies falling along it."""
    names, shape = tuple(axes), tuple(axes.values())
    mean = level - 0.05 * np.arange(np.prod(shape, dtype=int)).reshape(shape)
    std = np.full(shape, 0.012) if runs > 1 else np.full(shape, np.nan)
    found = {
        "accuracy": Array(np.repeat(mean[..., None], runs, -1), "1", (*names, "run")),
        "accuracy_mean": Array(mean, "1", names),
        "accuracy_std": Array(std, "1", names),
        "outside_total": Array(np.full(shape, 1234.0), "1", names),
        "outside_by_layer": Array(np.full((*shape, 2, 1), 617.0), "1", (*names, "layer", "limit")),
    }
    for name in SHARES:
        found[name] = Array(np.full(shape, 0.0123), "1", names)
        found[f"{name}_by_layer"] = Array(np.full((*shape, 2), 0.0045), "1", (*names, "layer"))
    for name in CLIPPED:
        found[name] = Array(np.full((*shape, runs, 2), 21.0), "1", (*names, "run", "layer"))
        found[f"{name}_per_chip"] = Array(np.full(shape, 42.0), "1", names)
        found[f"{name}_per_chip_by_layer"] = Array(np.full((*shape, 2), 21.0), "1", (*names, "layer"))
    return found


def axis(name: str, values: Any, unit: str = "1", numeric: bool = True) -> tuple[dict[str, Any], Array]:
    told = {"name": name, "texts": [str(value) for value in values], "numeric": numeric}
    return told, Array(np.array(values if numeric else range(len(values)), dtype=float), unit, (name,))


def result(*sweeps: list[tuple[dict[str, Any], Array]], runs: int = 2, **changes: Any) -> SimulationResult:
    parts, told = {}, {}
    for axes in sweeps:
        name = " x ".join(each["name"] for each, _ in axes)
        told[name] = [each for each, _ in axes]
        values = {each["name"]: array for each, array in axes}
        parts[name] = values | arrays({each["name"]: len(array.values) for each, array in axes}, runs)
    base = arrays({}, runs, 0.93) | {
        "float_accuracy": Array(np.array(0.975), "1", ()),
        "layer_error": Array(np.array([0.0321, np.nan]), "1", ("layer",)),
        "layer_error_in_network": Array(np.array([0.0321, 0.0654]), "1", ("layer",)),
    }
    spec = {
        "rows": 64,
        "cols": 32,
        "cell": {"model": "sinh"},
        "row_line_resistance": 1.5,
        "column_line_resistance": 2.0,
    }
    config = {
        "simulation": {"runs": runs, "seed": 0, "rules": {}, "model": {"name": "vgg8", "factory": None}},
        "hardware": {"read_voltage": 0.2, "tile": spec},
        "subject": {
            "model": "vgg8",
            "parameters": 12345,
            "data": "digits",
            "model_hash": "sha256:mm",
            "data_hash": "d",
        },
        "images": 500,
        "layers": ["conv1", "head"],
        "limits": ["cell voltage"],
        "skipped": [["norm", "BatchNorm2d", "no analog layer <for> it"]],
        "sweeps": told,
        "surrogates": [
            {"spec": spec, "content_hash": "sha256:0123456789abcdef", "error": {"rms": 1e-4, "classes": {}}}
        ],
    }
    given = {"base": base, "sweeps": parts, "config": config, "seed": 0, **changes}
    return SimulationResult.create(**given)


WIRES = axis("tile.row_line_resistance, tile.column_line_resistance", [0, 1, 10], "ohm")
BITS = axis("adc.bits", [3, 4, 8])
STATES = axis("states", [2, 8, 64])
RUNGS = axis("rung", ["ideal", "nodal"], numeric=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    tmp_path = tmp_path_factory.mktemp("page")
    found = result(
        [WIRES], [BITS], [STATES], [RUNGS], failures=[Failure("simulate", "base, run 1", "x < y", "", "", 1)]
    )
    render_simulation(found, tmp_path / "page.html", "results.h5", tmp_path / "figures")
    assert len(list((tmp_path / "figures").iterdir())) == 5
    return (tmp_path / "page.html").read_text(encoding="utf-8").replace("\u00a0", " ")


def test_page_needs_nothing_beside_it(page: str) -> None:
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert "<script" not in page


def test_fewer_images_than_asked_for_are_told(page: str, tmp_path: Path) -> None:
    assert "were asked for" not in page
    asked = result([BITS])
    asked.config["simulation"]["images"] = 99999
    render_simulation(asked, tmp_path / "page.html", "results.h5")
    lead = "500 test images of\ndigits, all that there are (99999 were asked for)."
    assert lead in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_page_says_everything(page: str) -> None:
    for said in ("vgg8", "12\u202f345 parameters", "97.5 %", "93.0 ± 1.2 %", "500 test images", "conv1", "sha256:mm"):
        assert said in page
    for heading in ("ADC bits", "States", "Rung", "Tile row line resistance and column line resistance"):
        assert f"<h2>{heading}</h2>" in page
    assert "1.23 %" in page  # saturated
    assert "1\u202f234" in page  # outside the domain
    assert "6.54 %" in page  # error of a layer
    assert "1 run failed" in page
    assert "base, run 1: x &lt; y" in page
    assert "no analog layer &lt;for&gt; it" in page
    assert "64x32, sinh cells" in page
    assert "0123456789ab" in page


def test_tables_hold_each_point() -> None:
    tables = simulation_tables(result([BITS]))
    table = tables["Swept: adc.bits"]
    assert table is not None
    assert [row[0] for row in table.rows] == ["3", "4", "8"]
    assert [row[1].replace("\u00a0", " ") for row in table.rows] == ["90.0 ± 1.2 %", "85.0 ± 1.2 %", "80.0 ± 1.2 %"]
    layers = tables["Layers at the base hardware"]
    assert layers is not None
    assert layers.rows[1][1] == "–"  # a layer that has no float counterpart


def test_single_run_has_no_spread() -> None:
    found = result([BITS], runs=1)
    table = simulation_tables(found)["Swept: adc.bits"]
    assert table is not None
    assert table.rows[0][1].replace("\u00a0", " ") == "90.0 %"
    (line,) = [line for line in draw_sweep(found, "adc.bits").axes[0].lines if len(line.get_xdata()) == 3]  # pyright: ignore[reportArgumentType]
    assert np.allclose(line.get_ydata(), [0.9, 0.85, 0.8])


def test_error_bars_and_lines_across() -> None:
    axes = draw_sweep(result([BITS]), "adc.bits").axes[0]
    (bars,) = axes.containers
    low, high = bars[2][0].get_segments()[0][:, 1]  # pyright: ignore[reportIndexIssue]
    assert (low, high) == (pytest.approx(0.888), pytest.approx(0.912))
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert "float network, 97.5 %" in labels
    assert "base hardware, 93.0 %" in labels
    assert axes.get_ylim()[0] <= 0.788


def test_failed_point_leaves_a_gap() -> None:
    found = result([BITS])
    found.sweeps["adc.bits"]["accuracy_mean"].values[1] = np.nan
    table = simulation_tables(found)["Swept: adc.bits"]
    assert table is not None
    assert table.rows[1][1] == "–"
    draw_sweep(found, "adc.bits")


def test_wide_spans_are_logarithmic_and_zero_is_not() -> None:
    assert draw_sweep(result([STATES]), "states").axes[0].get_xscale() == "log"
    wires = draw_sweep(result([WIRES]), WIRES[0]["name"]).axes[0]
    assert wires.get_xscale() == "linear"
    assert wires.get_xlabel() == "Tile row line resistance and column line resistance (ohm)"


def test_times_keep_their_words() -> None:
    told, array = axis("time", [0, 3600, 86400, 31536000], "s")
    told["texts"] = ["0 s", "1 hour", "1 day", "1 year"]
    axes = draw_sweep(result([(told, array)]), "time").axes[0]
    assert axes.get_xscale() == "symlog"
    assert [text.get_text() for text in axes.get_xticklabels()] == told["texts"]
    assert axes.get_xlabel() == "Time"


def test_values_out_of_order_are_drawn_in_order() -> None:
    axes = draw_sweep(result([axis("adc.bits", [8, 3, 4])]), "adc.bits").axes[0]
    line = next(line for line in axes.lines if len(line.get_xdata()) == 3)  # pyright: ignore[reportArgumentType]
    assert list(line.get_xdata()) == [3, 4, 8]  # pyright: ignore[reportArgumentType]
    assert np.allclose(line.get_ydata(), [0.85, 0.8, 0.9])


def test_units_get_a_prefix() -> None:
    axes = draw_sweep(result([axis("read_voltage", [0.05, 0.1], "V")]), "read_voltage").axes[0]
    assert axes.get_xlabel() == "Read voltage (mV)"


def test_grid_of_two_has_a_line_for_each_of_the_second(tmp_path: Path) -> None:
    found = result([BITS, RUNGS])
    axes = draw_sweep(found, "adc.bits x rung").axes[0]
    assert len(axes.containers) == 2
    table = simulation_tables(found)["Swept: adc.bits x rung"]
    assert table is not None
    assert [row[:2] for row in table.rows] == [(bits, rung) for bits in "348" for rung in ("ideal", "nodal")]


def test_grid_of_three_is_a_table(tmp_path: Path) -> None:
    found = result([BITS, RUNGS, STATES])
    render_simulation(found, tmp_path / "page.html", "results.h5")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1  # of the layers
    assert "<h2>ADC bits and rung and states</h2>" in page


def test_layers() -> None:
    axes = draw_layers(result()).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["conv1", "head"]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.0321, 0.0321]  # pyright: ignore[reportIndexIssue]


def test_words_of_fields() -> None:
    assert field_words("dac.bits, adc.bits") == "DAC bits and ADC bits"
    assert field_words("tile.rows, tile.cols") == "tile rows and cols"
    assert field_words("variability.effects.programming_error.absolute") == "programming error absolute"
