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
    said = run("info", resource_folder("calibration") / "knowm_sdc_m1_47k.toml")
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


def test_another_toml_is_one_error(tmp_path: Path):
    path = tmp_path / "tile.toml"
    path.write_text("[tile]\nrows = 2\n")
    with pytest.raises(ConfigError, match=r"without a table \[device\]"):
        device_card(str(path))
    path.write_text('[device]\nmodel = "no_such"\n')
    with pytest.raises(ConfigError, match="no_such"):
        device_card(str(path))
