"""`mdls-cosim audit`: a network's own tiles in ngspice, in one command."""

from __future__ import annotations

import json
import math
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
        experiment, "--samples", 3, "--tiles", 2, "--injections", 2, "--workers", 1, "--reference-tile", richer
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
        assert layer["tiles"] == 2
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
def test_the_results_are_shown_again(done: tuple[Path, str], tmp_path: Path) -> None:
    folder, said = done
    found = json.loads((folder / "audit.json").read_text())
    assert len(found["pairs"]["own"]) == len(found["pairs"]["layer"]) > 20
    assert found["settling_left_out"]
    assert "was read at rest" in said  # the amplifier has a pole
    page = tmp_path / "again.html"
    shown = CliRunner().invoke(cli.app, ["report", str(folder / "audit.json"), "--out", str(page)])
    assert shown.exit_code == 0, shown.stderr
    assert page.read_text() == (folder / "audit.html").read_text()
    told = CliRunner().invoke(cli.app, ["info", str(folder / "audit.json")])
    assert told.exit_code == 0, told.stderr
    for text in ("an audit", "mlp", "Fit, RMS error", "With the errors injected", "at rest", "Amplifier gain"):
        assert text.lower() in told.stdout.lower()
    for text in ("{}", "[1, 2", '{"by_layer": []}'):
        (tmp_path / "other.json").write_text(text)
        refused = CliRunner().invoke(cli.app, ["info", str(tmp_path / "other.json")])
        assert refused.exit_code == 2
        assert "other.json" in refused.stderr


@pytest.mark.ngspice
def test_a_read_time_is_a_transient(experiment: Path, tmp_path: Path) -> None:
    richer = tmp_path / "richer.toml"
    richer.write_text(RICHER + 'row_line_capacitance = "1 fF"\n')
    arguments = (experiment, "--samples", 1, "--tiles", 1, "--injections", 0, "--workers", 1, "--out", tmp_path / "out")
    code, said, trouble = run(*arguments, "--reference-tile", richer, "--read-time", "1 ns")
    assert code == 0, trouble
    found = json.loads((tmp_path / "out/audit.json").read_text())
    assert found["read_time"] == pytest.approx(1e-9)
    assert "at rest" not in said
    assert {layer["rms_interval"] for layer in found["by_layer"]} == {None}
    assert said.count("(no interval)") == 2 * 3 + 2 * 2 + 2 * 2  # size, percentile and steps; fit and model twice
    assert "measured 1 ns after" in (tmp_path / "out/audit.html").read_text()
    # The amplifier of 1 Mohm and 100 MHz has not settled after 50 ns: more than its gain is missing.
    # One pole, tau = A/(2 pi GBW (1 + A)) where the feedback is less than any cell; gain A/(1 + A).
    missing = math.exp(-1e-9 * 2 * math.pi * 100e6 * 100 / 99)
    sensed = 0.99 * (1 - missing)
    assert [layer["model"]["rms"] for layer in found["by_layer"]] == pytest.approx([1 / sensed - 1] * 2, rel=0.03)
    code, _, trouble = run(*arguments, "--read-time", "50 mV", "--force")
    assert code == 2
    assert "50 mV" in trouble


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
