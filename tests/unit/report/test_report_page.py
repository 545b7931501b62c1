"""The page of a demo: complete, self-contained, and tolerant of what is absent."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdls_cosim.report import render_demo

SECTIONS = {
    "What the hardware costs": ("accuracy", "wire_sweep"),
    "Why the surrogate can be trusted": ("audit", "paired", "validation"),
    "From the cell to the tile": ("fit",),
    "How it was run": ("hardware", "tool", "seconds"),
}


def runs(mean: float, std: float) -> dict[str, Any]:
    return {"mean": mean, "std": std, "runs": [mean - std, mean, mean + std]}


RESULTS: dict[str, Any] = {
    "accuracy": {
        "surrogate": runs(0.846, 0.021),
        "float": {"mean": 0.978, "std": 0.0, "runs": [0.978]},
        "ideal": runs(0.951, 0.008),
    },
    "paired": {"surrogate": 0.865, "nodal": 0.87, "images": 100, "seeds": 2},
    "wire_sweep": {"5 ohm": runs(0.4, 0.06), "0 ohm": runs(0.95, 0.01), "0.5 ohm": 0.93},
    "audit": {
        "vectors": 50,
        "layers": [
            {"name": "features.0", "vectors": 50, "rms": 0.003, "p99": 0.009},
            {"name": "classifier", "vectors": 50, "rms": 0.0041, "p99": 0.0123},
        ],
        "rms": 0.0035,
        "p99": 0.0111,
    },
    "tool": {"ngspice": "46", "solver": "klu"},
    "fit": {
        "row_line_resistance": {"true": 1.0, "fitted": 1.00002},
        "nonlinearity": {"true": 3.0, "fitted": 3.0},
    },
    "validation": {"classes": {"uniform / dense": 0.002, "uniform / sparse": 0.004}, "bound": 0.012},
    "hardware": {"tile": {"rows": 32, "row_line_resistance": "1 ohm"}, "states": 6, "adc": {"bits": 6}},
    "seconds": {"characterize": 5.4, "evaluate": 71.2},
}


def curves() -> dict[str, dict[str, Any]]:
    generator = np.random.default_rng(0)
    conductances = np.linspace(1e-6, 100e-6, 7)
    voltages = np.tile(np.linspace(-0.3, 0.3, 41), (7, 1))
    currents = conductances[:, None] * np.sinh(3 * voltages) / 3
    spice = generator.gamma(3, 20e-6, 300)
    return {
        "iv": {"conductances": conductances, "voltages": voltages, "spice": currents, "fitted": currents},
        "ir_drop": {"cell_voltages": 0.3 - 0.01 * np.arange(12.0).reshape(3, 4) / 12, "applied": 0.3},
        "scatter": {
            "spice": spice,
            "surrogate": spice * (1 + 0.002 * generator.standard_normal(300)),
            "layer": np.repeat(["features.0", "classifier"], 150),
        },
    }


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("complete")
    results = copy.deepcopy(RESULTS)
    render_demo(results, curves(), folder / "report.html", figures=folder / "figures")
    assert results == RESULTS  # read, not changed
    return (folder / "report.html").read_text(encoding="utf-8"), folder / "figures"


def test_first_screen_says_the_three_accuracies(complete: tuple[str, Path]) -> None:
    head = complete[0].partition("</header>")[0]
    text = re.sub(r"<[^>]*>", "", head)
    for number in (
        "97.8 %",
        "95.1 % ± 0.8",
        "84.6 % ± 2.1",
        "10.5 points",
        "over 3 seeded runs",
        "ngspice 46 (KLU solver)",
    ):
        assert number in text
    places = [head.index(f'class="card {name}"') for name in ("float", "ideal", "surrogate")]
    assert places == sorted(places)


def test_page_needs_nothing_outside_itself(complete: tuple[str, Path]) -> None:
    page = complete[0]
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(re.findall(r"<img ", page)) == 5
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r'"data:[^"]*"', "", page)
    assert "url(" not in page
    assert "<script" not in page


def test_page_works_on_paper_and_phone(complete: tuple[str, Path]) -> None:
    assert "@media print" in complete[0]
    assert 'name="viewport"' in complete[0]
    assert all("alt=" in picture for picture in re.findall(r"<img [^>]*>", complete[0]))


def test_figures_are_written_as_png(complete: tuple[str, Path]) -> None:
    names = {path.name for path in complete[1].iterdir()}
    assert names == {"accuracy.png", "wire_sweep.png", "iv.png", "ir_drop.png", "scatter.png"}
    for path in complete[1].iterdir():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(content[16:20]) == 1280  # two pixels for each of the page's 640


def test_tables_show_numbers_with_units(complete: tuple[str, Path]) -> None:
    text = complete[0].replace("\u00a0", " ")
    for cell in ("1.0000 ohm", "3 1/V", "3.0000 1/V", "0.200 %", "0.410 %", "1.11 %", "1 min 11 s", "KLU", "ADC bits"):
        assert f">{cell}<" in text
    assert "86.5 % on the surrogate and 87.0 % on the exact solution of every tile, a difference of 0.5 points" in text
    assert "Bound recorded with the surrogate: 1.20 %." in text


@pytest.mark.parametrize("absent", [*RESULTS, "everything"])
def test_absent_results_are_left_out(absent: str, tmp_path: Path) -> None:
    results = {} if absent == "everything" else {key: value for key, value in RESULTS.items() if key != absent}
    render_demo(results, {}, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for title, keys in SECTIONS.items():
        assert (f"<h2>{title}</h2>" in page) == any(key in results for key in keys)
    assert "None" not in page


def test_thin_results_do_not_crash(tmp_path: Path) -> None:
    results = {
        "accuracy": {"float": 0.97, "ideal": {"mean": None}},
        "wire_sweep": {"nominal": 0.9, "1 ohm": {"mean": 0.8}},
        "audit": {"vectors": 50, "layers": 3, "by_layer": [{"name": "0", "rms": 0.01}]},
        "validation": {"classes": {"signed": 1e-9}},
        "paired": {"surrogate": 0.9},
        "fit": {"sense_resistance": {"fitted": 10.0}, "note": "text"},
    }
    empty = {name: {key: np.zeros(0) for key in arrays} for name, arrays in curves().items()}
    render_demo(results, empty, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "97.0 %" in text
    assert "1.00 %" in text
    assert "1.0e-07 %" in text


def test_text_from_results_is_escaped(tmp_path: Path) -> None:
    render_demo({"hardware": {"note": "<script>alert(1)</script>"}}, {}, tmp_path / "report.html")
    assert "<script>" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_same_results_give_the_same_page(complete: tuple[str, Path], tmp_path: Path) -> None:
    render_demo(RESULTS, curves(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == complete[0]
