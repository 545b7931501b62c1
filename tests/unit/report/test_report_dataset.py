"""The report of a Dataset: a figure for every experiment, whatever is absent, repeated or failed; and the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from typer.testing import CliRunner

from mdls_cosim.cli import app
from mdls_cosim.dataset import Array, Dataset, Failure
from mdls_cosim.report import render_dataset
from mdls_cosim.report.configurations import AS_STORED, described_dataset
from mdls_cosim.report.experiments import CHAPTERS, Study

GENERATOR = np.random.default_rng(0)
TILE = {"rows": 8, "cols": 8, "cell": {"model": "sinh", "nonlinearity": 3.0}}
PLANS: dict[str, dict[str, Any]] = {
    "iv": {"loop_cycles": 2},
    "read": {"conductance_classes": ["uniform", "clustered"]},
    "sneak": {"limit": 0.1, "largest": 64},
    "pulse": {},
    "write": {"tolerance": 0.02, "pulses": 6},
    "settle": {"bits": 6},
    "energy": {},
    "faults": {},
    "temperature": {},
}
POINTS = {  # the array that counts points, and how many of its leading axes do
    "iv": ("currents", 1),
    "read": ("column_error", 1),
    "sneak": ("margin", 1),
    "pulse": ("conductances", 3),
    "write": ("pulses", 1),
    "settle": ("settling_time", 1),
    "energy": ("read_energy", 2),
    "faults": ("error", 2),
    "temperature": ("currents", 2),
}


def draws(*shape: int) -> np.ndarray:
    return GENERATOR.uniform(0.1, 1.0, shape)


def arrays(experiment: str) -> dict[str, Array]:
    """Arrays of the names, units and axes that `collect` of the experiment gives, on an 8x8 tile."""
    cells, phase = ("cell", "point"), np.linspace(0, 4 * np.pi, 41)
    sine = np.broadcast_to(np.sin(phase), (2, 2, 41))
    loops = ("frequency", "amplitude", "sample")
    histories = [[5e-5, *[np.nan] * 6], np.linspace(1e-5, 4e-5, 7), [2e-5, 3e-5, 4e-5, 5e-5, 6e-5, *[np.nan] * 2]]
    found: dict[str, dict[str, tuple[Any, str, tuple[str, ...]]]] = {
        "iv": {
            "conductances": (np.linspace(1e-6, 1e-4, 3), "S", ("cell",)),
            "voltages": (np.tile(np.linspace(-0.3, 0.3, 11), (3, 1)), "V", cells),
            "currents": (np.outer([1e-6, 5e-5, 1e-4], np.linspace(-0.3, 0.3, 11)), "A", cells),
            "frequencies": (np.array([1e3, 1e6]), "Hz", ("frequency",)),
            "amplitudes": (np.array([1.0, 1.5]), "V", ("amplitude",)),
            "loop_voltages": (sine, "V", loops),
            "loop_currents": (sine * 1e-6, "A", loops),
            "loop_states": (sine**2, "1", loops),
        },
        "read": {
            "column_error": (draws(4, 8) / 10, "1", ("tile", "col")),
            "currents": (draws(4, 6, 8) * 1e-6, "A", ("tile", "vector", "col")),
            "conductance_class": (np.array([0, 0, 1, 1]), "1", ("tile",)),
        },
        "sneak": {
            "on_current": (draws(4) * 1e-5, "A", ("scheme",)),
            "off_current": (draws(4) * 1e-5, "A", ("scheme",)),
            "margin": (np.array([-3.0, 0.9, 0.2, 0.05]), "1", ("scheme",)),
            "power": (draws(4) * 1e-3, "W", ("scheme",)),
            "scheme": (np.arange(4), "1", ("scheme",)),
            "largest_lines": (np.array([0.0, 64.0, 12.0, 7.0]), "1", ("scheme",)),
        },
        "pulse": {
            "conductances": (draws(2, 2, 3, 21) * 1e-5, "S", ("amplitude", "width", "cycle", "pulse")),
            "potentiation": (np.array([1.0, 1.2]), "V", ("amplitude",)),
            "depression": (np.array([1.1, 1.3]), "V", ("amplitude",)),
            "widths": (np.array([1e-8, 1e-7]), "s", ("width",)),
            "speeds": (draws(3), "1", ("cycle",)),
        },
        "write": {
            "pulses": (np.array([0.0, 6.0, 4.0]), "1", ("target",)),
            "reached": (np.array([1.0, 0.0, 1.0]), "1", ("target",)),
            "overshoot": (np.array([0.0, 1e-6, 0.0]), "S", ("target",)),
            "delivered": (np.array([np.nan, 0.95, 0.97]), "1", ("target",)),
            "disturb": (np.array([[0.0, 1e-3, 1e-9]] * 3), "1", ("target", "neighbour")),
            "history": (np.array(histories), "S", ("target", "pulse")),
            "targets": (np.array([5e-5, 8e-5, 6e-5]), "S", ("target",)),
            "cells": (np.zeros((3, 2)), "1", ("target", "axis")),
        },
        "settle": {
            "settling_time": (draws(2, 2, 8) * 1e-9, "s", ("tile", "vector", "col")),
            "final_currents": (draws(2, 2, 8) * 1e-6, "A", ("tile", "vector", "col")),
            "waveform_times": (np.tile(np.linspace(0, 2e-9, 9), (2, 2, 1)), "s", ("tile", "vector", "sample")),
            "waveforms": (draws(2, 2, 9) * 1e-6, "A", ("tile", "vector", "sample")),
            "input_class": (np.array([0, 3]), "1", ("vector",)),
        },
        "energy": {
            "input_class": (np.array([0, 1]), "1", ("vector",)),
            "read_energy": (draws(2, 2) * 1e-12, "J", ("tile", "vector")),
            "read_parts": (draws(2, 2, 4) * 1e-12, "J", ("tile", "vector", "part")),
            "read_residual": (draws(2, 2) * 1e-9, "1", ("tile", "vector")),
            "write_energy": (draws(2) * 1e-11, "J", ("tile",)),
            "write_parts": (draws(2, 4) * 1e-11, "J", ("tile", "part")),
            "write_residual": (-draws(2) * 1e-9, "1", ("tile",)),
            "write_selected": (draws(2) * 1e-12, "J", ("tile",)),
        },
        "faults": {
            "error": (draws(2, 3, 8) * [1, 1e-2, 1e-3, 1e-6, 1e-9, 0, 1, 1], "1", ("kind", "tile", "col")),
            "kind": (np.array([0, 5]), "1", ("kind",)),
        },
        "temperature": {
            "temperatures": (np.array([250.0, 300.0, 400.0]), "K", ("temperature",)),
            "currents": (draws(3, 2, 4, 8) * 1e-6, "A", ("temperature", "tile", "vector", "col")),
            "cell_conductances": (np.array([1e-6, 1e-4]), "S", ("cell",)),
            "cell_currents": (draws(3, 2) * 1e-6, "A", ("temperature", "cell")),
        },
    }  # fmt: skip
    return {name: Array(np.array(values), unit, dims) for name, (values, unit, dims) in found[experiment].items()}


def with_failure(experiment: str, whole: bool = False) -> dict[str, Array]:
    """The same with a failed point: its numbers are NaN; or with nothing but failed points."""
    codes = ("class", "kind", "scheme", "targets", "cells", "cell_conductances", "conductances", "temperatures")
    given = ("voltages", "frequencies", "amplitudes", "potentiation", "depression", "widths", "speeds", "loop_voltages")
    _, axes = POINTS[experiment]
    found = {}
    for name, array in arrays(experiment).items():
        values = array.values.astype(float) if array.values.dtype.kind == "f" else array.values
        applied = name in (*codes, *given) and not (experiment == "pulse" and name == "conductances")
        if not applied and values.dtype.kind == "f":
            values = values.copy()
            depth = min(axes, values.ndim)
            values[(slice(None),) * depth if whole else (0,) * depth] = np.nan
        found[name] = Array(values, array.units, array.dims)
    return found


def seeded(given: dict[str, Array]) -> dict[str, Array]:
    """The same for two seeds, the second a tenth larger."""
    found = {}
    for name, array in given.items():
        factor = 1.1 if array.values.dtype.kind == "f" else 1
        found[name] = Array(np.stack([array.values, array.values * factor]), array.units, ("seed", *array.dims))
    return found


def dataset(experiments: dict[str, dict[str, Array]], **config: Any) -> Dataset:
    return Dataset.create(experiments, {"tile": TILE, "conductance_range": [1e-6, 1e-4], **PLANS, **config}, seed=0)


def one(experiment: str) -> Dataset:
    return dataset({experiment: arrays(experiment)})


def several(experiment: str) -> Dataset:
    names = [f"{experiment} {size} {corner}" for size in ("4x4", "16x16", "8x8") for corner in ("hot", "cold")]
    corners = {"hot": {**TILE, "temperature": 400.0}, "cold": {**TILE, "temperature": 250.0}}
    return dataset({name: arrays(experiment) for name in names}, corners=corners, sizes=[4, 8, 16])


KINDS: dict[str, Any] = {
    "one tile": one,
    "several tiles": several,
    "several seeds": lambda name: dataset({name: seeded(arrays(name))}),
    "a failed point": lambda name: dataset({name: with_failure(name)}),
    "all points failed": lambda name: dataset({name: with_failure(name, whole=True)}),
}


def texts(figure: Figure) -> str:
    """Everything that is written outside of the axes' ticks."""
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return " ".join([*found, figure.get_supxlabel()])


@pytest.mark.parametrize("experiment", CHAPTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_and_table_is_made(experiment: str, kind: str) -> None:
    study = Study.of(KINDS[kind](experiment), experiment)
    chapter = CHAPTERS[experiment]
    drawings = chapter.drawings(study)
    assert drawings
    for drawing in drawings:
        FigureCanvasAgg(drawing.figure).draw()
        assert drawing.caption.endswith(".")
        for axes in drawing.figure.axes:
            # Every axis has a unit or says what it counts; panels share the label of the first.
            assert axes.get_xlabel() or axes.get_subplotspec().rowspan.stop < axes.get_gridspec().nrows
    tables = chapter.tabulate(study)
    assert tables
    for caption, table in tables:
        assert caption
        assert all(len(row) == len(table.headings) for row in table.rows)
        assert "nan" not in " ".join(cell for row in table.rows for cell in row).lower()


@pytest.mark.parametrize("experiment", CHAPTERS)
def test_failed_points_are_counted_in_the_figure(experiment: str) -> None:
    chapter = CHAPTERS[experiment]
    whole = chapter.drawings(Study.of(one(experiment), experiment))
    assert not any("failed" in texts(drawing.figure) for drawing in whole)
    name, axes = POINTS[experiment]
    planned = int(np.prod(arrays(experiment)[name].values.shape[:axes]))
    lost = Study.of(dataset({experiment: with_failure(experiment)}), experiment)
    said = [texts(drawing.figure) for drawing in chapter.drawings(lost)]
    if experiment == "temperature":
        planned += arrays(experiment)["cell_currents"].values.size
        assert "2 of 12 tiles and cells failed" in said[0]
    elif experiment == "pulse":  # a train is lost when all of its cycles are
        everything = Study.of(dataset({experiment: with_failure(experiment, whole=True)}), experiment)
        assert "4 of 4 trains failed" in texts(chapter.drawings(everything)[0].figure)
    else:
        assert any(f"1 of {planned} " in each and "failed and is not shown" in each for each in said), said


def test_cases_go_from_cold_to_hot_and_from_small_to_large() -> None:
    labels = [case.label for case in Study.of(several("sneak"), "sneak").cases]
    assert labels == ["4x4 cold", "8x8 cold", "16x16 cold", "4x4 hot", "8x8 hot", "16x16 hot"]


def test_seeds_give_their_mean() -> None:
    study = Study.of(dataset({"sneak": seeded(arrays("sneak"))}), "sneak")
    (axes,) = CHAPTERS["sneak"].drawings(study)[0].figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, np.array([-3.0, 0.9, 0.2, 0.05]) * 1.05)


def test_margin_against_size_has_its_limit() -> None:
    drawing = CHAPTERS["sneak"].drawings(Study.of(several("sneak"), "sneak"))[0]
    cold, _hot = drawing.figure.axes
    limit = next(line for line in cold.get_lines() if line.get_label() == "Limit")
    assert set(limit.get_ydata()) == {0.1}
    grounded = next(line for line in cold.get_lines() if line.get_label() == "Grounded")
    np.testing.assert_allclose(grounded.get_xdata(), [4, 8, 16])
    tables = dict(CHAPTERS["sneak"].tabulate(Study.of(several("sneak"), "sneak")))
    largest = tables["Largest array with a margin of 0.1 or more"]
    assert largest.rows[:4] == (
        ("cold", "Floating", "none", "0"),
        ("cold", "Grounded", "16x16", "≥ 64"),
        ("cold", "V/2", "16x16", "12"),
        ("cold", "V/3", "none", "7"),
    )


def test_settling_band_is_half_a_step_of_the_tile_s_largest_output() -> None:
    study = Study.of(one("settle"), "settle")
    case = study.cases[0]
    times = case.pooled("settling_time")
    tile, vector, column = np.unravel_index(times.argmax(), times.shape)
    final = case.pooled("final_currents")
    (axes,) = CHAPTERS["settle"].drawings(study)[0].figure.axes
    band = axes.patches[0].get_bbox()
    scale = 1e-6 if "µA" in axes.get_ylabel() else 1e-9
    assert band.height * scale == pytest.approx(2 * final[tile].max() / 2**7)
    assert (band.y0 + band.y1) / 2 * scale == pytest.approx(final[tile, vector, column])


def test_temperature_is_relative_to_300_k() -> None:
    given = arrays("temperature")
    rising = np.array([0.5, 1.0, 2.0])[:, None, None, None] * draws(1, 2, 4, 8)
    given["currents"] = Array(rising, "A", given["currents"].dims)
    figure = CHAPTERS["temperature"].drawings(Study.of(dataset({"temperature": given}), "temperature"))[0].figure
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata(), [0.5, 1.0, 2.0])


def test_page_has_a_section_for_every_experiment(tmp_path: Path) -> None:
    failure = Failure("read", "read, tile <0>", "no solution", "deck", "log", 2)
    everything = {name: arrays(name) for name in CHAPTERS} | {"own": {"numbers": Array(np.ones(3), "V", ("point",))}}
    made = Dataset.create(everything, {"tile": TILE, **PLANS}, seed=7, tools={"ngspice": "46"}, failures=[failure])
    render_dataset(made, tmp_path / "report.html", "data.h5", tmp_path / "figures")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name, chapter in CHAPTERS.items():
        assert f'<section id="{name}">' in page
        assert f"<h2>{chapter.title}</h2>" in page
    assert "own/numbers" in page  # of an experiment that has no chapter
    assert "read, tile &lt;0&gt; (2 attempts): no solution" in page
    assert "1 simulation of this experiment failed" in page
    assert made.content_hash in page
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:", "#")) for source in sources)
    pictures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert len(pictures) == page.count("<img ") == 15
    assert {name.partition("_")[0] for name in pictures} == set(CHAPTERS)


def test_page_of_a_subcircuit_shows_its_file(tmp_path: Path) -> None:
    cell = {
        "model": "subcircuit",
        "subcircuit": "mine",
        "text": ".subckt mine p n g=1\nR1 p n {1/g} ; <own>\n.ends",
        "state": {"parameter": "g", "quantity": "conductance"},
    }
    config = {"tile": {**TILE, "cell": cell}, "iv": {}}
    render_dataset(Dataset.create({"iv": arrays("iv")}, config, seed=0), tmp_path / "report.html", "data.h5")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "R1 p n {1/g} ; &lt;own&gt;" in page
    assert page.count("R1 p n") == 1


def test_specification_carries_units_and_what_corners_change() -> None:
    config = {
        "tile": {**TILE, "row_line_resistance": 2.0, "row_line_capacitance": 1e-15},
        "corners": {"hot": {**TILE, "row_line_resistance": 2.0, "row_line_capacitance": 1e-15, "temperature": 400.0}},
        "settle": {"rise": 2e-11},
    }
    found = described_dataset(config)
    assert found["tile"]["row_line_capacitance"] == "1 fF"
    assert found["settle"]["rise"] == "20 ps"
    assert found["corners"] == {"hot": {"temperature": "400 K"}}
    assert "read" not in found
    other = described_dataset({"tile": {"of": "another version"}, "read": None})
    assert other == {"units": AS_STORED, "tile": {"of": "another version"}}


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        one("sneak").save(tmp_path / "data.h5")
        return tmp_path / "data.h5"

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["report", *(str(each) for each in arguments)])
        return result.exit_code, result.output

    def test_writes_the_page_and_replaces_it_when_told(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "report.html"
        assert self.run(data, "--out", out)[0] == 0
        assert "Sneak paths" in out.read_text(encoding="utf-8")
        code, said = self.run(data, "--out", out)
        assert code == 2
        assert "exists" in said
        assert self.run(data, "--out", out, "--force")[0] == 0

    def test_refuses_what_is_no_dataset(self, data: Path, tmp_path: Path) -> None:
        assert "no such file" in self.run(tmp_path / "none.h5", "--out", tmp_path / "a.html")[1]
        (tmp_path / "text.h5").write_text("text")
        code, _ = self.run(tmp_path / "text.h5", "--out", tmp_path / "a.html")
        assert code == 2
        assert not (tmp_path / "a.html").exists()
        code, said = self.run(data, "--out", data, "--force")
        assert code == 2
        assert "replace the input" in said
