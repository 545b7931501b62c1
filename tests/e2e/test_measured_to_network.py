"""From a measured table to a network, without one range given by hand: every command takes what the one before it left.

calibrate -> characterize -> fit -> validate -> Hardware of the surrogate file -> simulate -> audit
"""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.calibrate import Calibration, loop_problem, loops
from mdls_cosim.characterize import Characterization
from mdls_cosim.config import load_toml
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import Vteam
from mdls_cosim.network import convert, evaluate
from mdls_cosim.network.experiment import SimulationResult
from mdls_cosim.surrogates import load

FOLDER = Path(os.environ.get("MDLS_COSIM_DATA", ""))

TILE = """
[tile]
rows = 8
cols = 8
row_line_resistance = "2 ohm"
column_line_resistance = "2 ohm"
[tile.cell]
model = "{model}"
parameters = "mine.toml"
[read]
tiles = 3
vectors = 4
voltage = "0.1 V"
"""
EXPERIMENT = """
images = 40
[model]
name = "mlp"
options = {{ hidden = [6] }}
[train]
epochs = 8
[hardware]
read_voltage = "0.1 V"
surrogate = "surrogate.h5"
dac = {{ kind = "uniform", bits = 6 }}
adc = {{ kind = "uniform", bits = 8 }}
"""


def run(*arguments: Any) -> str:
    """The output of a command that must succeed."""
    found = CliRunner().invoke(cli.app, list(map(str, arguments)))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


def walk(folder: Path, model: str, calibration: list[Any]) -> dict[str, Any]:
    """Runs every command in `folder`; what is left there by name."""
    run("calibrate", *calibration, "--device", model, "--out", folder / "mine.toml", "--force")
    (folder / "tile.toml").write_text(TILE.format(model=model))
    run("characterize", folder / "tile.toml", "--out", folder / "tile.h5", "--workers", 1)
    run("fit", folder / "tile.h5", "--out", folder / "surrogate.h5")
    run("validate", folder / "surrogate.h5", "--cases", 2)
    (folder / "experiment.toml").write_text(EXPERIMENT.format())
    simulated = run("simulate", folder / "experiment.toml", "--out", folder / "out", "--workers", 1)
    run("audit", folder / "experiment.toml", "--out", folder / "audit", "--samples", 4)
    card = run("info", folder / "mine.toml")
    page = folder / "card.html"
    run("report", folder / "mine.toml", "--out", page)
    return {"simulated": simulated, "card": card, "page": page.read_text()}


def check(folder: Path, said: dict[str, Any]) -> None:
    """The ranges that follow from each other, and the parameter set in every file."""
    found = Calibration.load(folder / "mine.toml")
    plan = load_toml(folder / "tile.toml", Characterization)
    low, high, _ = found.validity["conductance"]
    assert plan.conductance_range == pytest.approx((low, high), rel=1e-6)
    surrogate = load(folder / "surrogate.h5")
    hardware = Hardware(tile=surrogate, dac=Dac(bits=6), adc=Adc(bits=8), read_voltage=0.1)
    assert hardware.conductance_range == pytest.approx((low, high), rel=1e-6)
    torch.manual_seed(0)
    analog, report = convert(nn.Linear(12, 4), hardware, calibration=torch.rand(16, 12))
    assert len(report.converted) == 1
    labels = torch.arange(16) % 4
    assert math.isfinite(evaluate(analog, (torch.rand(16, 12), labels), runs=1).mean)
    dataset, result = Dataset.load(folder / "tile.h5"), SimulationResult.load(folder / "out" / "results.h5")
    audited = json.loads((folder / "audit" / "audit.json").read_text())
    assert audited["rms"] < 0.05
    origin = dataset.config["tile"]["cell"]["origin"]
    assert origin["name"] == "mine.toml"
    assert origin["error"] == pytest.approx(found.error)
    assert origin["validity"]["conductance"] == pytest.approx([low, high], rel=1e-6)
    device = surrogate.spec.device
    assert device is not None
    assert device.origin is not None
    assert device.origin.file_hash == origin["file_hash"]
    assert origin["file_hash"] in json.dumps(result.config)
    page = (folder / "out" / "report.html").read_text()
    assert "mine.toml" in page
    assert found.title in said["card"]
    assert "Validity" in said["page"]
    assert "data:image/png" in said["page"]


def test_a_synthetic_loop_becomes_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A VTEAM device behind 1 kohm, recovered from where the search would arrive, so that the rest takes the time."""
    truth = Vteam(on_resistance=2e3, off_resistance=20e3, on_rate=2e4, off_rate=2e4, on_voltage=-0.3, off_voltage=0.3)
    truth = truth.replace(on_exponent=3.0, off_exponent=3.0)
    write_loop(tmp_path / "loop.csv", truth, 1e3)
    few_candidates(monkeypatch)
    said = walk(tmp_path, "vteam", [tmp_path / "loop.csv", "--series-resistance", "1 kohm"])
    check(tmp_path, said)
    # The set keeps its state at 0.1 V and was measured beyond it: nothing is outside.
    assert "measured" not in said["simulated"]


@pytest.mark.filterwarnings("ignore:.*beyond the measurements:mdls_cosim.errors.DomainWarning")
@pytest.mark.skipif(not (FOLDER / "knowm_sdc").is_dir(), reason="MDLS_COSIM_DATA names no folder of measurements")
def test_a_measured_device_becomes_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    few_candidates(monkeypatch)
    source = FOLDER / "knowm_sdc" / "5k_0.8V_10Hz_M1_series.csv"
    rows = source.read_text().splitlines()
    (tmp_path / "loop.csv").write_text("\n".join(rows[::4]))
    options = [
        "--columns",
        "applied voltage [V], current [uA]",
        "--frequency",
        "10 Hz",
        "--series-resistance",
        "5 kohm",
    ]
    said = walk(tmp_path, "metastable_switch", [tmp_path / "loop.csv", *options])
    check(tmp_path, said)
    voltage, current = (Calibration.load(tmp_path / "mine.toml").validity[name] for name in ("voltage", "current"))
    # Over the device: the applied 0.8 V less the drop over 5 kohm, of the measured points.
    assert -0.8 < voltage[0] < -0.4
    assert 0.15 < voltage[1] < 0.45
    assert current[1] == pytest.approx(110e-6, rel=0.2)
    assert "the device forgets" in said["card"]


def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short search."""
    monkeypatch.setattr(loops, "fit_loops", functools.partial(loops.fit_loops, candidates=64))
    monkeypatch.setattr(loops, "_REFINED", 4)
    monkeypatch.setattr(loops, "_FINISHED", 1)
    monkeypatch.setattr(loop_problem, "STEPS_IN_CYCLE", 50)


def write_loop(path: Path, device: Vteam, resistance: float) -> None:
    """One settled period of 1.2 V at 10 Hz over device and resistor, integrated in steps of 1e-4 of it."""
    count, period = 20_000, 0.1
    times = np.arange(2 * count) * (period / count)
    drive = 1.2 * np.sin(2 * np.pi * times / period)
    state, kept = np.asarray(0.5), []
    for volts in drive:
        conductance = float(device.conductance(state))
        over = volts / (1 + resistance * conductance)
        kept.append((volts, over * conductance))
        state = np.clip(state + float(device.state_rate(np.asarray(over), state)) * (period / count), 0.0, 1.0)
    rows = [f"{t:.9g},{v:.9g},{i:.9g}" for t, (v, i) in zip(times[count:], kept[count:], strict=True)][::250]
    path.write_text("time [s], applied voltage [V], current [A]\n" + "\n".join(rows) + "\n")
