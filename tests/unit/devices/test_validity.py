"""Parameter sets as the origin of devices, and uses beyond their measurements."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdls_cosim.analog import Dac, Hardware
from mdls_cosim.characterize import Characterization, PulsePlan
from mdls_cosim.characterize.validity import outside_measurements
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import Vteam
from mdls_cosim.devices.validity import Validity, forget_warnings, warn_outside
from mdls_cosim.errors import ConfigError, DomainWarning
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.network import at, convert
from mdls_cosim.tiles import SelectorCell, TileSpec

SET = """
title = "A device"
source = "a bench"
validity = "small"
[device]
model = "vteam"
on_resistance = "2 kohm"
off_resistance = "50 kohm"
[calibration]
error = 0.02
error_meaning = "RMS"
[calibration.validity]
voltage = ["-600 mV", "300 mV"]
"applied voltage" = ["-800 mV", "800 mV"]
current = ["-200 uA", "100 uA"]
time = ["1 us", "1 s"]
temperature = ["300 K", "300 K"]
conductance = ["25 uS", "400 uS"]
"""


@pytest.fixture
def parameters(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(SET)
    return str(path)


def tile(parameters: str, **changes: float) -> TileSpec:
    return TileSpec(rows=4, cols=3, cell=Vteam(parameters=parameters, **changes))


def test_a_device_keeps_the_set_that_it_was_made_of(parameters: str):
    spec = tile(parameters)
    origin = spec.device.origin  # pyright: ignore[reportOptionalMemberAccess]
    assert origin is not None
    assert (origin.name, origin.title, origin.error, origin.held_out_error) == ("mine.toml", "A device", 0.02, None)
    assert origin.validity.voltage == (-0.6, 0.3)
    assert spec.device == Vteam(on_resistance=2e3, off_resistance=50e3)
    for other in (TileSpec(**spec.as_dict()), pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec), spec.bare(2, 2)):
        assert other.device is not None
        assert other.device.origin == origin
    stored = TileSpec(rows=2, cols=2, cell=SelectorCell(device=Vteam(parameters=parameters))).as_dict()
    assert stored["cell"]["device"]["origin"]["file_hash"] == origin.file_hash
    assert "origin" not in Vteam().as_dict()


def test_changed_parameters_are_named(parameters: str):
    for device in (
        Vteam(parameters=parameters, on_resistance=1e3),
        Vteam(parameters=parameters).replace(on_resistance=1e3, off_resistance=50e3),
    ):
        assert device.origin is not None
        assert device.origin.changed == ("on_resistance",)


def test_the_conductance_range_is_what_was_measured(parameters: str):
    assert tile(parameters).conductance_range == pytest.approx((25e-6, 400e-6))
    assert Hardware(tile=tile(parameters), rung="nodal").conductance_range == pytest.approx((25e-6, 400e-6))
    # Of another device the measured range says nothing.
    assert tile(parameters, on_resistance=1e3).conductance_range == pytest.approx((20e-6, 1e-3))


@pytest.mark.parametrize("line", ['voltage = ["1 V", "0 V"]', 'current = ["1 V", "2 V"]', 'time = "1 s"'])
def test_impossible_ranges_are_one_error(tmp_path: Path, line: str):
    path = tmp_path / "mine.toml"
    path.write_text(SET.partition("[calibration.validity]")[0] + f"[calibration.validity]\n{line}\n")
    with pytest.raises(ConfigError, match=line.split(" ")[0]):
        Vteam(parameters=str(path))


@given(st.floats(-2.0, 2.0))
def test_outside_is_beyond_the_range(voltage: float):
    found = bool(Validity(voltage=(-0.6, 0.3)).outside("voltage", voltage))
    assert found == (voltage < -0.6 - 6e-4 or voltage > 0.3 + 6e-4)
    assert not Validity().outside("voltage", voltage)


def test_each_kind_of_use_is_warned_of_once(parameters: str):
    origin = Vteam(parameters=parameters).origin
    assert origin is not None
    with pytest.warns(DomainWarning, match=r"a test goes beyond.*mine\.toml: voltage 400 mV to 1 V, 2 times.*-600 mV"):
        assert warn_outside(origin, {"voltage": np.array([0.0, 0.4, 1.0])}, "a test") == {"voltage": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_outside(origin, {"voltage": 1.0, "time": 0.5}, "a test") == {"voltage": 1}
    forget_warnings()
    with pytest.warns(DomainWarning):
        warn_outside(origin, {"voltage": 1.0}, "a test")


def test_tiles_count_what_lies_beyond(parameters: str):
    spec = tile(parameters)
    cells = torch.full((4, 3), 100e-6, dtype=torch.float64)
    programmed = NodalTile(spec).program(cells)
    programmed(torch.full((5, 4), 0.3, dtype=torch.float64))
    assert programmed.beyond_measured == {}
    with pytest.warns(DomainWarning, match="voltage 310 mV, 20 times"):
        programmed(torch.full((5, 4), 0.31, dtype=torch.float64))
    assert programmed.beyond_measured == {"voltage": 20}
    cells[0, 0] = 450e-6
    with pytest.warns(DomainWarning, match=r"temperature 350 K, 12 times.*conductance 450 µS, 1 times"):
        hot = NodalTile(spec.replace(temperature=350.0)).program(cells)
    assert hot.beyond_measured == {"temperature": 12, "conductance": 1}


def test_networks_count_what_lies_beyond(parameters: str):
    hardware = Hardware(tile=tile(parameters), rung="nodal", read_voltage=0.2, dac=Dac(bits=4))
    layer = torch.nn.Linear(4, 3)
    inputs = torch.rand(6, 4) * 2 - 1
    model, _ = convert(layer, hardware, calibration=inputs)
    model(inputs)
    assert not any(name.startswith("measured") for name in model.outside)  # pyright: ignore[reportArgumentType]
    later = at(model, "1 hour")
    with pytest.warns(DomainWarning, match="time 3.6 ks"):
        later(inputs)
    assert later.outside["measured time"] == later.conductances.numel()  # pyright: ignore
    with pytest.warns(DomainWarning) as told:  # once, in the calibration
        strong, _ = convert(layer, hardware.replace(read_voltage=0.4), calibration=torch.ones(1, 4))
    said = " ".join(str(each.message) for each in told)
    assert "voltage 400 mV, 4 times" in said
    assert "current" in said
    before = strong.outside["measured voltage"]  # pyright: ignore
    strong(torch.ones(2, 4))
    assert strong.outside["measured voltage"] - before == 8  # pyright: ignore
    # +-0.4 V over 400 uS is beyond 100 uA and within -200 uA.
    assert strong.outside["measured current"] > 0  # pyright: ignore


def test_experiments_count_what_lies_beyond(parameters: str, tmp_path: Path):
    plan = PulsePlan(potentiation=(0.5,), depression=(0.2,), widths=(1e-7, 1e-5), pulses=2)
    spec = Characterization(tile=tile(parameters), pulse=plan)
    # Negative voltages raise this device: potentiation is at -0.5 V, depression at 0.2 V.
    with pytest.warns(DomainWarning, match=r"the experiment pulse.*time 100 ns, 1 times \(measured: 1 µs to 1 s\)"):
        found = outside_measurements("pulse", spec.tile, plan, spec.conductance_range, {})
    assert found == {"time": 1}
    with pytest.warns(DomainWarning):
        found = outside_measurements("pulse", spec.tile, plan.replace(depression=(0.7,)), (25e-6, 400e-6), {})
    assert found == {"voltage": 1, "current": 1, "time": 1}
    dataset = Dataset.create({}, spec.as_dict(), seed=0, outside={"pulse": found})
    dataset.save(tmp_path / "data.h5")
    loaded = Dataset.load(tmp_path / "data.h5")
    assert loaded.outside == {"pulse": found}
    assert loaded.content_hash == Dataset.create({}, spec.as_dict(), seed=0).content_hash
