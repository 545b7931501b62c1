"""Sizes that no device shows: the wrong unit is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import Setup, read_measurement
from mdls_cosim.calibrate.plausible import check_size
from mdls_cosim.errors import InputError

ANGLE = np.linspace(0, 2 * np.pi, 60, endpoint=False)


def loop_file(path: Path, header: str, volts: float, amperes: float) -> Path:
    table = np.stack([ANGLE * 1e-2, volts * np.sin(ANGLE), amperes * np.sin(ANGLE)], axis=1)
    np.savetxt(path, table, delimiter=",", header=header, comments="")
    return path


@pytest.mark.parametrize(
    ("unit", "largest", "looks"),
    [
        ("A", 1e3, "uA"),
        ("A", 50.0, "mA"),
        ("uA", 1e-9, "A"),
        ("nA", 1e-6, "mA"),
        ("pA", 1e-3, "uA"),
        ("mA", 5e4, "uA"),
    ],
)
def test_a_wrong_unit_of_the_current_is_named(tmp_path: Path, unit: str, largest: float, looks: str) -> None:
    path = loop_file(tmp_path / "loop.csv", f"time [s],voltage [V],current [{unit}]", 1.0, largest)
    with pytest.raises(InputError, match=f"current of a size.*look like {looks}, not {unit}") as caught:
        read_measurement(path)
    assert len(str(caught.value)) < 320
    assert "loop.csv" in str(caught.value)


def test_a_wrong_unit_of_the_voltage_is_named(tmp_path: Path) -> None:
    path = loop_file(tmp_path / "loop.csv", "time [s],voltage [V],current [uA]", 800.0, 20.0)
    with pytest.raises(InputError, match=r"voltage of a size.*look like mV, not V"):
        read_measurement(path)


def test_a_wrong_unit_of_a_conductance_is_named(tmp_path: Path) -> None:
    path = tmp_path / "levels.csv"
    path.write_text("level,conductance [S]\n" + "".join(f"{level},{200 + level}\n" for level in range(9)))
    with pytest.raises(InputError, match=r"conductance of a size.*look like"):
        read_measurement(path)


@pytest.mark.parametrize(("unit", "largest"), [("A", 1e-3), ("A", 1e-12), ("mA", 500.0), ("uA", 20.0), ("pA", 0.5)])
def test_sizes_that_devices_have_pass(tmp_path: Path, unit: str, largest: float) -> None:
    path = loop_file(tmp_path / "loop.csv", f"time [s],voltage [V],current [{unit}]", 1.0, largest)
    assert read_measurement(path)[0]


def test_nothing_but_zeros_is_left_to_other_checks() -> None:
    check_size(np.zeros(3), "ampere", "current", "here")
    with pytest.raises(InputError, match=r"No usual unit|look like"):
        check_size(np.array([np.nan, 1e9]), "ampere", "current", "here")


def sine_file(path: Path, column: str, distortion: float, noise: float = 0.0) -> Path:
    sine = np.sin(2 * np.pi * np.arange(200) / 200)
    volts = 0.5 * (sine - distortion * np.maximum(sine, 0.0)) + noise * np.random.default_rng(0).normal(size=200)
    np.savetxt(path, np.stack([volts, 20 * sine], axis=1), delimiter=",", header=f"{column} [V],current [uA]",
               comments="")  # fmt: skip
    return path


@pytest.mark.parametrize("distortion", [0.2, 0.4, 0.7])
def test_a_voltage_that_the_resistor_distorts_is_not_read_as_a_sine(tmp_path: Path, distortion: float) -> None:
    path = sine_file(tmp_path / "device.csv", "voltage", distortion)
    with pytest.raises(InputError, match=r"not a sine.*applied voltage"):
        read_measurement(path, Setup(frequency=10.0))


def test_noise_is_no_distortion(tmp_path: Path) -> None:
    path = sine_file(tmp_path / "noisy.csv", "applied voltage", 0.0, noise=0.02)
    (loop,), _ = read_measurement(path, Setup(frequency=10.0, series_resistance=5e3))
    assert 0.02 < loop.time_residual < 0.06  # pyright: ignore[reportAttributeAccessIssue, reportOptionalOperand]
