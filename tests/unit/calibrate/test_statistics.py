"""Distributions over devices and cycles: known spreads come back within their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.calibrate import Calibration, Loop, read_measurement
from mdls_cosim.calibrate.random_effects import between_and_within, family_of
from mdls_cosim.calibrate.statistics import spread_of_devices
from mdls_cosim.devices import LinearIonDrift, evolve
from mdls_cosim.devices.variability import DeviceToDevice, Variability
from mdls_cosim.errors import InputError


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


def table_of_devices(between: float, within: float, devices: int, cycles: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of device, time, cycle, voltage and current of devices whose mobility spreads.

    And the logarithms of the factors of the mobility, (devices, cycles).
    """
    rng = np.random.default_rng(3)
    own = between * rng.normal(size=devices)
    factors = own[:, None] + within * rng.normal(size=(devices, cycles))
    times = np.arange(51) / 250
    volts = 1.6 * np.sin(10 * np.pi * times)
    rows = []
    for number in range(devices):
        state, currents = 0.1, []
        for factor in factors[number]:
            device = LinearIonDrift(on_resistance=1e3, off_resistance=16e3, mobility=1e-14 * np.exp(factor))
            states = evolve(device, np.asarray(state), times, volts)
            currents.append(np.asarray(device.current(volts, states))[:50])
            state = float(states[-1])
        amperes = np.concatenate(currents)
        amperes += 0.003 * np.ptp(amperes) * rng.normal(size=len(amperes))
        place = np.arange(50 * cycles)
        table = (np.full(len(place), number), place / 250, place // 50, np.tile(volts[:50], cycles), 1e6 * amperes)
        rows.append(np.stack(table, axis=1))
    return np.concatenate(rows), factors


HEADER = "device,time [s],cycle,voltage [V],current [uA]"


def loops_of_devices(
    between: float, within: float, devices: int, cycles: int
) -> tuple[dict[str, list[Loop]], np.ndarray]:
    table, factors = table_of_devices(between, within, devices, cycles)
    found = {}
    for number in range(devices):
        _, times, cycle, volts, amperes = table[table[:, 0] == number].T
        found[str(number)] = [Loop(f"device {number}", times, volts, 1e-6 * amperes, cycle=cycle.astype(int))]
    return found, factors


def test_a_folder_gives_the_spread_between_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdls_cosim.calibrate.statistics.CANDIDATES", 64)
    table, factors = table_of_devices(0.3, 0.0, 6, 3)
    folder = tmp_path / "loops"
    folder.mkdir()
    (folder / "notes.md").write_text("not a table")
    for number in range(6):
        own = table[table[:, 0] == number][:, 1:]
        np.savetxt(folder / f"d{number}.csv", own, delimiter=",", header=HEADER.partition(",")[2], comments="")
    out = tmp_path / "mine.toml"
    arguments = ["calibrate", str(folder), "--device", "linear_ion_drift", "--out", str(out)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "6 files of 6 devices (1 other" in result.output
    assert "left out; --compliance" not in result.output  # nothing limited the current
    found = Calibration.load(out)
    spread = found.spread["mobility"]
    assert spread.family == "lognormal"
    true = np.std(factors[:, 0], ddof=1)
    assert spread.device_to_device is not None
    assert spread.device_to_device.count == 6
    assert spread.device_to_device.low <= true <= spread.device_to_device.high
    assert spread.device_to_device.sigma == pytest.approx(true, rel=0.05)
    assert spread.device_to_device.significant
    assert spread.cycle_to_cycle is not None
    assert spread.cycle_to_cycle.count == 18
    # No spread was put in between cycles, nor between the resistances of devices.
    assert not any(each.cycle_to_cycle.significant for each in found.spread.values() if each.cycle_to_cycle)
    others = [each.device_to_device for name, each in found.spread.items() if name != "mobility"]
    assert not any(each.significant for each in others if each is not None)
    # A network takes the table [variability] by the set's name.
    effects = {each.parameter: each for each in Variability.from_parameters(str(out)).effects
               if isinstance(each, DeviceToDevice)}  # fmt: skip
    assert effects["mobility"].distribution.sigma == spread.device_to_device.sigma  # pyright: ignore[reportAttributeAccessIssue]


def test_a_spread_between_cycles_is_none_between_devices() -> None:
    devices, factors = loops_of_devices(0.0, 0.2, 4, 3)
    found = spread_of_devices(devices, "linear_ion_drift", candidates=64).spread["mobility"]
    assert found.cycle_to_cycle is not None
    assert found.cycle_to_cycle.significant
    true = np.sqrt(np.mean(np.var(factors, axis=1, ddof=1)))
    assert found.cycle_to_cycle.low <= true <= found.cycle_to_cycle.high
    assert found.cycle_to_cycle.low > 0.05
    assert found.device_to_device is not None
    assert not found.device_to_device.significant


def test_devices_of_one_file_are_loops_of_their_own(tmp_path: Path) -> None:
    table, _ = table_of_devices(0.3, 0.0, 3, 2)
    path = tmp_path / "all.csv"
    np.savetxt(path, table, delimiter=",", header=HEADER, comments="")
    loops, _ = read_measurement(path)
    assert [(each.name, each.device, len(each.times)) for each in loops if isinstance(each, Loop)] == [
        (f"all.csv, device {number}", str(number), 100) for number in range(3)
    ]
    seen: dict[str, list[str]] = {}

    def stands_in(devices: dict[str, list[Loop]], model: str, **_: object) -> None:
        seen.update({name: [loop.name for loop in loops] for name, loops in devices.items()})
        raise InputError("seen", where=model)

    listed = tmp_path / "list.toml"
    rows = table[table[:, 0] == 0][:, 1:]
    for name in ("a", "b", "c"):
        header = f"{HEADER.partition(',')[2]}\n# {name}"  # copies would be refused
        np.savetxt(tmp_path / f"{name}.csv", rows, delimiter=",", header=header, comments="")
    listed.write_text(
        "".join(f'[[measured]]\nfile = "{name}.csv"\ndevice = "{device}"\n' for name, device in
                (("a", "left"), ("b", "right"), ("c", "left")))
    )  # fmt: skip
    expected = {
        path: {str(number): [f"all.csv, device {number}"] for number in range(3)},
        listed: {"left": ["a.csv", "c.csv"], "right": ["b.csv"]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mdls_cosim.calibrate.statistics.calibrate_devices", stands_in)
        for measured, devices in expected.items():
            seen.clear()
            arguments = ["calibrate", str(measured), "--device", "vteam", "--out", str(tmp_path / "mine.toml")]
            assert "seen" in CliRunner().invoke(cli.app, arguments).output
            assert seen == devices


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
