"""`mdls-cosim audit`: a network's own tiles in ngspice, in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mdls_cosim import cli

EXPERIMENT = """
seed = 1
images = 60
[model]
name = "mlp"
options = { hidden = [8] }
[train]
epochs = 3
[hardware]
states = 8
conductance_range = ["1 uS", "100 uS"]
adc = { kind = "uniform", bits = 6 }
[hardware.tile]
rows = 16
cols = 8
row_line_resistance = "5 ohm"
column_line_resistance = "5 ohm"
"""
RICHER = """
[tile]
rows = 4
cols = 4
row_line_resistance = "5 ohm"
column_line_resistance = "5 ohm"
amplifier = { gain = 99.0, feedback_resistance = "1 mohm" }
"""


def run(*arguments: Any) -> tuple[int, str, str]:
    found = CliRunner().invoke(cli.app, ["audit", *map(str, arguments)])
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "experiment.toml"
    path.write_text(EXPERIMENT)
    path.with_name("richer.toml").write_text(RICHER)
    return path


@pytest.fixture(scope="module")
def done(experiment: Path) -> tuple[Path, str]:
    """The folder of an audit against a richer tile, and what the command printed."""
    richer = experiment.with_name("richer.toml")
    code, said, trouble = run(
        experiment, "--samples", 3, "--tiles", 1, "--injections", 2, "--workers", 1, "--reference-tile", richer
    )
    assert code == 0, trouble
    return experiment.with_name("experiment-out"), said


@pytest.mark.ngspice
def test_the_errors_of_fit_and_model_are_told_apart(done: tuple[Path, str]) -> None:
    folder, said = done
    found = json.loads((folder / "audit.json").read_text())
    assert found["reference"] == "SpiceTile"
    assert found["reference_tile"]["amplifier"]["gain"] == 99.0
    for layer in found["by_layer"]:
        # Ohmic tiles have an exact surrogate; an amplifier of gain A takes 1/(1 + A) of every current.
        assert layer["fit"]["rms"] < 1e-5
        assert layer["model"]["rms"] == pytest.approx(1 / 99, rel=1e-3)
        assert layer["tiles"] == 1
        low, high = layer["rms_interval"]
        assert low == pytest.approx(1 / 99, rel=1e-3)
        assert high == pytest.approx(1 / 99, rel=1e-3)
    assert len(found["accuracy"]["runs"]) == 2
    assert found["accuracy"]["images"] == 60
    assert "1.01 % (1.01 – 1.01)" in said.replace("\u00a0", " ")
    assert "With the errors injected" in said


@pytest.mark.ngspice
def test_the_page_shows_everything(done: tuple[Path, str]) -> None:
    page = (done[0] / "audit.html").read_text()
    assert page.count("<img") == 2
    for text in ("mlp, audited", "Fit, RMS error", "Another answer", "in ngspice", "Amplifier gain"):
        assert text in page
    assert "Tiles that were not\naudited" in page


@pytest.mark.ngspice
def test_what_is_there_is_not_replaced(experiment: Path, done: tuple[Path, str]) -> None:
    code, _, trouble = run(experiment)
    assert code == 2
    assert "the results exist" in trouble


def test_a_tile_that_is_none_is_told_before_any_work(experiment: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[tile]\nrows = 4\ncols = 4\nwires = "1 ohm"\n')
    code, _, trouble = run(experiment, "--reference-tile", wrong, "--out", tmp_path / "out")
    assert code == 2
    assert "wires" in trouble
    assert not (tmp_path / "out").exists()
