"""`mdls-cosim info` and `mdls-cosim report` of a parameter set."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.devices.parameter_files import parameter_set_names
from mdls_cosim.errors import ConfigError
from mdls_cosim.report.device_card import device_card
from mdls_cosim.resources import resource_folder


def run(*arguments: object) -> str:
    found = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert found.exit_code == 0, found.output
    return " ".join(found.stdout.split())


def test_info_prints_a_calibrated_set():
    said = run("info", resource_folder("calibration") / "parameters" / "knowm_sdc_m1_47k.toml")
    assert "dx/dt = [P_on (1 - x) - P_off x] / t_c" in said
    assert "On voltage 455.5 mV 334.9 mV 576.1 mV" in said
    assert "On resistance 57.06 ohm not determined" in said
    assert "47k_0.8V_1Hz_M1 fitted 3.34 %" in said
    assert "Voltage -678 mV to 282 mV" in said
    assert "warning: the device forgets" in said


def test_a_set_of_the_package_goes_by_its_name(tmp_path: Path):
    said = run("info", "phase_change_nandakumar")
    assert "10.1109/ICECS46596.2019.8964852" in said
    assert "Drift start time 20 s" in said
    page = tmp_path / "card.html"
    run("report", "phase_change_nandakumar", "--out", page, "--figures", tmp_path / "figures")
    assert "data:image/png" in page.read_text()
    assert (tmp_path / "figures" / "iv.png").is_file()


@pytest.mark.parametrize("name", parameter_set_names())
def test_every_set_has_a_card(name: str):
    card = device_card(name)
    assert card.title
    assert card.equation
    assert "Parameters" in card.tables


BRANCHES = """
[calibration]
notes = ["%s", "on_rate is at the largest value that was searched"]
[calibration.errors]
"loop.csv" = 0.01
[calibration.branches."loop.csv".negative]
sign = "negative"
points = 100
rms_current = "7.25 uA"
error = 0.151
error_out = 0.125
error_back = 0.234
reference_voltage = "-100 mV"
measured = { high_resistive = "1.02 uS", low_resistive = "285 uS", switching_voltage = "-308 mV" }
modelled = { high_resistive = "8.11 uS", low_resistive = "336 uS", switching_voltage = "-191 mV" }
"""


def test_a_card_has_the_branches_of_the_fitted_loops(tmp_path: Path):
    """Errors over the range alone flatter asymmetric devices; notes that repeat a warning are left out."""
    path = tmp_path / "mine.toml"
    device = '[device]\nmodel = "metastable_switch"\n'
    path.write_text(device)
    warned = next(note for note in device_card(str(path)).notes if note.startswith("warning: "))
    path.write_text(device + BRANCHES % warned.removeprefix("warning: "))
    said = run("info", path)
    assert "loop.csv negative fitted 7.25 µA 15.1 % 12.5 % 23.4 %" in said
    assert "loop.csv -100 mV 1.02 µS / 8.11 µS 279 / 41.4 -308 mV / -191 mV" in said
    assert said.count(warned.removeprefix("warning: ")) == 1
    assert "note: on_rate is at the largest value" in said


@pytest.mark.parametrize(
    "wrong",
    [
        "[calibration]\nbranches = 3\n",
        "[calibration.branches]\nx = 3\n",
        "[calibration.branches.x]\nnegative = 3\n",
        "[calibration.spread.on_resistance]\nsigma = 3\n",
        '[calibration.errors]\nx = "y"\n',
        '[calibration.values.x]\nunit = "[s"\nvalue = "3 V"\n',
        '[calibration.values.x]\nunit = "1/0"\nvalue = "3 V"\n',
    ],
)
def test_what_no_calibration_writes_is_at_most_one_line(tmp_path: Path, wrong: str):
    path = tmp_path / "mine.toml"
    path.write_text('[device]\nmodel = "vteam"\n' + wrong)
    found = CliRunner().invoke(cli.app, ["info", str(path)])
    assert found.exit_code in (0, 2)
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert len(found.stderr.splitlines()) <= 1


def test_another_toml_is_one_error(tmp_path: Path):
    path = tmp_path / "tile.toml"
    path.write_text("[tile]\nrows = 2\n")
    with pytest.raises(ConfigError, match=r"without a table \[device\]"):
        device_card(str(path))
    path.write_text('[device]\nmodel = "no_such"\n')
    with pytest.raises(ConfigError, match="no_such"):
        device_card(str(path))


def test_texts_of_a_file_do_not_control_the_terminal(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "\\u001b[31mred\\u001b]0;x\\u0007"\n[device]\nmodel = "vteam"\n')
    said = run("info", path)
    assert said.isprintable()
    assert "red?]0;x?" in said
