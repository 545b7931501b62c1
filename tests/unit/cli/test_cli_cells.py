"""What commands say of the lifetime of a cell's state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.dataset import Array, Dataset
from mdls_cosim.devices import MetastableSwitch, Sinh
from mdls_cosim.surrogates import SeriesSurrogate
from mdls_cosim.surrogates.series import START
from mdls_cosim.tiles import TileSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*beyond the measurements:mdls_cosim.errors.DomainWarning")
FORGETFUL = TileSpec(rows=4, cols=4, cell=MetastableSwitch(parameters="knowm_sdc_m1_5k"))
FORGETS = "warning: the device forgets: at 0 V the state moves from 1 to 0.9 in 4.14 ms"
EXPERIMENT = """
images = 20
runs = 1
layer_images = 4
{time}
[model]
name = "mlp"
options = {{ hidden = [8] }}
[train]
epochs = 1
[hardware]
rung = "ideal"
tile = {{ rows = 16, cols = 16, cell = {{ model = "metastable_switch", parameters = "knowm_sdc_m1_5k" }} }}
variability = {{ effects = [{effects}] }}
"""


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.stdout.replace("\u00a0", " ")


def test_info_of_a_dataset_and_of_a_surrogate(tmp_path: Path):
    config = {"tile": FORGETFUL.as_dict(), "read": {"voltage": 0.1}}
    arrays = {"iv": {"conductances": Array(np.array([1e-4, 2e-4]), "S", ("cell",))}}
    Dataset.create(arrays, config, seed=1).save(tmp_path / "data.h5")
    SeriesSurrogate(FORGETFUL, coefficients={**START, "amplitude": (0.1,)}).save(tmp_path / "surrogate.h5")
    for name, voltage in (("data.h5", "100 mV"), ("surrogate.h5", "200 mV")):
        said = run("info", tmp_path / name)
        assert FORGETS in said
        assert f"at {voltage} the state moves" in said
        assert f"at -{voltage} the state moves" in said


def test_info_of_cells_without_a_rate_says_nothing(tmp_path: Path):
    spec = TileSpec(rows=4, cols=4, cell=Sinh())
    SeriesSurrogate(spec, coefficients={**START, "amplitude": (0.1,)}).save(tmp_path / "surrogate.h5")
    assert "Lifetime" not in run("info", tmp_path / "surrogate.h5")


@pytest.mark.parametrize("effects", ["", '{ effect = "own_retention" }'], ids=["plain", "own retention"])
def test_a_simulation_says_and_warns(tmp_path: Path, effects: str):
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT.format(time='time = "1 day"', effects=effects))
    planned = run("simulate", path, "--plan")
    said = run("simulate", path, "--out", tmp_path / "out", "--workers", "1")
    for text in (planned, said):
        assert "at 0 V the state moves from 1 to 0.9 in 4.14 ms" in text
        assert (FORGETS in text) != bool(effects)
        assert ("1 day after the programming nothing has changed" in text) != bool(effects)
        assert "warning: reads disturb the state" in text
    again = run("info", tmp_path / "out" / "results.h5")
    assert (FORGETS in again) != bool(effects)
    assert "4.14 ms" in (tmp_path / "out" / "report.html").read_text()
