"""The committed experiments can be planned as they are, and run from end to end where they are made small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.config import read_toml
from mdls_cosim.network.experiment import Simulation, Subject, Work

FOLDER = Path(__file__).parents[3] / "examples"
EXAMPLES = sorted(each for each in FOLDER.glob("*.toml") if "model" in read_toml(each))
SMALL = {"vgg8": {"width": 2, "hidden": 8}, "resnet20": {"width": 2, "depth": 8}, "lenet5": {}}


def test_examples_are_found() -> None:
    assert {each.stem for each in EXAMPLES} >= {"experiment", "vgg8_digits", "resnet20_digits"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_can_be_planned_and_say_their_command(path: Path) -> None:
    plan = Simulation.load(path).plan(str(path))
    assert f"mdls-cosim simulate examples/{path.name}" in path.read_text()
    swept = [axis for sweep in plan.sweeps for axis in sweep.axes]
    ranges = {axis.name: (axis.values.min(), axis.values.max()) for axis in swept if axis.numeric}
    assert ranges["tile.row_line_resistance, tile.column_line_resistance"] == (0, 10)
    assert ranges["adc.bits"] == (3, 8)
    assert ranges["states"] == (2, 64)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_small_version_runs(path: Path, tmp_path: Path) -> None:
    given = read_toml(path)
    given |= {"runs": 1, "images": 10, "layer_images": 4, "calibration": {"images": 20}}
    given["model"]["options"] = SMALL[given["model"]["name"]]
    given["data"]["options"] = {"size": 8, "test_share": 0.9}
    given["train"]["epochs"] = 1
    given["hardware"]["tile"] |= {"rows": 16, "cols": 16}
    # The first and the last value of all that is swept.
    given["sweep"] = {
        name: [[each[0], each[-1]] for each in values] if " x " in name else [values[0], values[-1]]
        for name, values in given["sweep"].items()
    }
    asked = Simulation.from_text_dict(given, path.name)
    found = Work(asked, Subject.load(asked, tmp_path)).run(tmp_path, workers=1)
    assert found.failed == 0
    assert set(found.result.sweeps) == set(given["sweep"])
    assert all(np.isfinite(arrays["accuracy"].values).all() for arrays in found.result.sweeps.values())
    assert (found.result.base["layer_error"].values > 0).all()
