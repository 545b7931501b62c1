"""The parameter file of a calibration: what is written reads back to the same numbers, and tiles take it."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdls_cosim.calibrate import Branch, Calibration, PulseLaw, PulseResponse, Ranked, States, Value
from mdls_cosim.calibrate.parameter_text import config_table, quantity_text, toml_text
from mdls_cosim.config import Config, load_toml
from mdls_cosim.devices import AnyDevice, Vteam
from mdls_cosim.devices.variability import Drift, FiniteStates, LogExponent, ProgrammingError, Variability
from mdls_cosim.errors import ConfigError, StoreError
from mdls_cosim.quantities import parse_quantity

DEVICE = Vteam(on_resistance=1234.5678901234567, off_resistance=1e5 / 3, off_rate=1.7e13, conduction="exponential")

BRANCH = Branch(
    sign="positive", points=50, rms_current=1e-5, error=0.3, error_out=1 / 3, reference_voltage=0.1,
    measured=States(high_resistive=12e-6, low_resistive=60e-6, switching_voltage=0.25),
    modelled=States(high_resistive=-1e-6, low_resistive=55e-6),
)  # fmt: skip
NEGATIVE = BRANCH.replace(sign="negative", error=0.4, modelled=States())


def calibration(**changes) -> Calibration:
    values = {
        "on_resistance": Value(DEVICE.on_resistance, "ohm", 1200.0, 1300.0),
        "off_exponent": Value(4.0, "", 1.0, 20.0, determined=False),
    }
    found = Calibration(
        title='a "title"', kind="loop", device=DEVICE, values=values, method="hessian", errors={"1 Hz.csv": 0.03},
        held_out={"2.csv": 0.05, "3.csv": 0.07},
        ranking=(Ranked("vteam", 0.03, 0.06, 0.1, 0.2), Ranked("yakopcic", 0.05, None)),
        branches={"1 Hz.csv": (BRANCH, NEGATIVE), "2.csv": (BRANCH,)},
        notes=("one", "two: µ"), validity={"voltage": (-0.8, 0.8, "volt"), "time": (1e-6, 1.0, "second")},
        files={"1 Hz.csv": "sha256:00"}, seed=7,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


@settings(deadline=None)  # the first call builds the registry of units
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["S", "ohm", "V", "A", "s", "1/s", "1/V", "K", "joule", "farad"]),
)
def test_quantities_read_back_exactly(value: float, unit: str) -> None:
    assert parse_quantity(quantity_text(value, unit), unit) == value


def test_quantities_read_well() -> None:
    assert quantity_text(25e-6, "siemens") == "25 uS"
    assert quantity_text(-0.3, "volt") == "-300 mV"
    assert quantity_text(0.0, "ohm") == "0 ohm"


@given(
    st.recursive(
        st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text()),
        lambda inner: st.one_of(st.dictionaries(st.text(), inner), st.lists(st.integers(0, 9), min_size=1)),
        max_leaves=12,
    )
)
def test_toml_reads_back(value: object) -> None:
    table = {"before": 1, "value": value, "after": {"list": [{"a": 1}, {"b": 2.5}], "text": "x"}}

    def without_empty(item: object) -> object:
        """What the writer keeps: of an empty table there is no line."""
        if isinstance(item, dict):
            return {key: without_empty(each) for key, each in item.items() if each != {} and each != []}
        return item

    def heads(item: object) -> object:
        """A table that holds empty tables only keeps its heading."""
        return {k: heads(v) for k, v in item.items()} if isinstance(item, dict) else item

    assert tomllib.loads(toml_text(table)) == heads(without_empty(table))


def test_every_number_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    whole = calibration(
        variability=Variability(
            effects=(
                FiniteStates(levels=(1e-6 / 3, 2e-6)),
                ProgrammingError(polynomial=(1e-7 / 3, 1e-8), polynomial_scale=3e-6),
                Drift(exponent=LogExponent(slope=0.1, offset=0.2, lowest=0, highest=1, scale=1e-6), start_time=20.0),
            )
        ),
        pulses=PulseResponse(lowest=1e-6 / 3, highest=1e-5, raising=PulseLaw(coefficients=(0.1, -1 / 3))),
    )
    whole.save(path)
    back = Calibration.load(path)
    for field in dataclasses.fields(Calibration):
        assert getattr(back, field.name) == getattr(whole, field.name), field.name
    assert back.text() == whole.text()
    assert [each.name for each in tmp_path.iterdir()] == ["device.toml"]  # nothing temporary is left


def test_tiles_take_the_file(tmp_path: Path) -> None:
    calibration().save(tmp_path / "mine.toml")
    (tmp_path / "user.toml").write_text('cell = {model = "vteam", parameters = "mine.toml", on_exponent = 2.0}')

    class Holder(Config):
        cell: AnyDevice

    assert load_toml(tmp_path / "user.toml", Holder).cell == DEVICE.replace(on_exponent=2.0)


def test_errors_are_root_mean_squares() -> None:
    assert calibration().error == 0.03
    assert calibration().held_out_error == pytest.approx(np.sqrt((0.05**2 + 0.07**2) / 2))
    assert calibration(held_out={}).held_out_error is None


def test_absent_values_are_left_out() -> None:
    assert "levels" not in config_table(FiniteStates(states=4))
    assert "held_out_error" not in tomllib.loads(calibration(held_out={}).text())["calibration"]


def test_what_is_no_calibration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such parameter set"):
        Calibration.load(tmp_path / "absent.toml")
    (tmp_path / "plain.toml").write_text('[device]\nmodel = "vteam"\n')
    with pytest.raises(ConfigError, match="not a parameter file of a calibration"):
        Calibration.load(tmp_path / "plain.toml")
    with pytest.raises(StoreError, match="cannot be written"):
        calibration().save(tmp_path / "no" / "folder.toml")


def test_errors_of_branches_are_told_apart_from_those_of_the_range() -> None:
    found = calibration()
    assert found.branch_error == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 2))
    assert found.held_out_branch_error == pytest.approx(0.3)
    assert calibration(branches={}).branch_error is None
    content = tomllib.loads(found.text())["calibration"]
    assert content["branch_error"] == pytest.approx(found.branch_error)
    assert content["branches"]["1 Hz.csv"]["negative"]["error"] == 0.4
