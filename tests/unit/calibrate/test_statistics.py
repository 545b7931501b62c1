"""Distributions over devices and cycles: known spreads come back within their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.calibrate import Calibration
from mdls_cosim.calibrate.random_effects import between_and_within, family_of
from mdls_cosim.devices import LinearIonDrift, evolve
from mdls_cosim.devices.variability import DeviceToDevice, Variability


@pytest.mark.parametrize(("devices", "cycles"), [(30, 1), (12, 6)])
def test_known_variances_lie_in_their_intervals_as_often_as_they_say(devices: int, cycles: int) -> None:
    rng = np.random.default_rng(0)
    between, within, error = 0.2, 0.1, 0.05
    inside = []
    for _ in range(200):
        values = between * rng.normal(size=(devices, 1)) + np.hypot(within, error) * rng.normal(size=(devices, cycles))
        _, outer, inner = between_and_within(list(values), list(np.full(values.shape, error**2)))
        assert outer is not None
        assert outer.count == devices
        true = between if cycles > 1 else np.hypot(between, within)  # one cycle each: both are between devices
        inside.append(outer.low <= true <= outer.high)
        if inner is not None:
            assert inner.count == devices * cycles
            inside.append(inner.low <= within <= inner.high)
    assert 0.9 < np.mean(inside) <= 0.99


def test_the_uncertainty_of_the_fits_is_no_spread() -> None:
    rng = np.random.default_rng(1)
    told = []
    for _ in range(300):
        values = 0.05 * rng.normal(size=(10, 4))
        _, outer, inner = between_and_within(list(values), list(np.full((10, 4), 0.05**2)))
        assert outer is not None
        assert inner is not None
        told += [outer.significant, inner.significant]
    assert 0.02 < np.mean(told) < 0.09  # at 95 %


def test_families() -> None:
    rng = np.random.default_rng(2)
    assert family_of(np.exp(0.6 * rng.normal(size=200)).tolist(), "normal") == "lognormal"
    assert family_of((1 + 0.2 * rng.normal(size=2000)).tolist(), "lognormal") == "normal"
    assert family_of((1 + 0.01 * rng.normal(size=5)).tolist(), "lognormal") == "lognormal"
    assert family_of([1.0, -1.0, 2.0], "normal") is None
    assert family_of([-1.0, -1.01], "normal") == "normal"


def folder_of_devices(folder: Path, spread: float, devices: int, cycles: int) -> np.ndarray:
    """Loops of devices whose mobility spreads; the logarithms of their factors."""
    rng = np.random.default_rng(3)
    factors = spread * rng.normal(size=devices)
    folder.mkdir()
    (folder / "notes.md").write_text("not a table")
    for number, factor in enumerate(factors):
        device = LinearIonDrift(on_resistance=1e3, off_resistance=16e3, mobility=1e-14 * np.exp(factor))
        times = np.arange(cycles * 50) / 250
        volts = 1.6 * np.sin(10 * np.pi * times)
        amperes = device.current(volts, evolve(device, np.asarray(0.1), times, volts))
        amperes = amperes + 0.003 * np.ptp(amperes) * rng.normal(size=len(times))
        table = np.stack([times, np.arange(len(times)) // 50, volts, 1e6 * amperes], axis=1)
        np.savetxt(folder / f"d{number}.csv", table, delimiter=",",
                   header="time [s],cycle,voltage [V],current [uA]", comments="")  # fmt: skip
    return factors


def test_a_folder_gives_the_spread_between_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdls_cosim.calibrate.statistics.CANDIDATES", 64)
    factors = folder_of_devices(tmp_path / "loops", 0.3, 6, 3)
    out = tmp_path / "mine.toml"
    arguments = [
        "calibrate",
        str(tmp_path / "loops"),
        "--device",
        "linear_ion_drift",
        "--out",
        str(out),
        "--compliance",
        "none",
    ]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "6 files of 6 devices (1 other" in result.output
    found = Calibration.load(out)
    spread = found.spread["mobility"]
    assert spread.family == "lognormal"
    assert spread.device_to_device is not None
    assert spread.device_to_device.count == 6
    assert spread.device_to_device.low <= np.std(factors, ddof=1) <= spread.device_to_device.high
    assert spread.device_to_device.significant
    assert spread.cycle_to_cycle is not None
    assert spread.cycle_to_cycle.count == 18
    # A network takes the table [variability] by the set's name.
    effects = {each.parameter: each for each in Variability.from_parameters(str(out)).effects
               if isinstance(each, DeviceToDevice)}  # fmt: skip
    assert effects["mobility"].distribution.sigma == spread.device_to_device.sigma  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_no_folder_of_loops_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    (tmp_path / "empty").mkdir()
    for extra, message in (
        (("empty",), "--device"),
        (("empty", "--device", "vteam"), "a folder without tables"),
        (("empty", "empty", "--device", "vteam"), "a folder stands alone"),
    ):
        arguments = [str(tmp_path / each) if each == "empty" else each for each in extra]
        result = CliRunner().invoke(cli.app, ["calibrate", *arguments, "--out", str(out)])
        assert result.exit_code == 2
        assert message in result.output
        assert not out.exists()
