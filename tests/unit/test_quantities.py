"""Quantities: text with units becomes the nearest SI float, or an error that says what is allowed."""

import math
import subprocess
import sys
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import (
    Conductance,
    InverseVoltage,
    Quantity,
    Resistance,
    Temperature,
    Voltage,
    format_quantity,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("25 uS", "siemens", 2.5e-05),
        ("25 µS", "S", 2.5e-05),
        ("25 μS", "S", 2.5e-05),
        ("25uS", "S", 2.5e-05),
        ("2 ohm", "ohm", 2.0),
        ("2 Ω", "ohm", 2.0),
        ("2 \u2126", "Ω", 2.0),
        ("2.5 kΩ", "ohm", 2500.0),
        ("5 V/A", "ohm", 5.0),
        ("0.3 V", "volt", 0.3),
        ("-300 mV", "V", -0.3),
        ("−0.3 V", "V", -0.3),
        (" +.3e0 V\n", "V", 0.3),
        ("3 / V", "1/volt", 3.0),
        ("3 /V", "1/V", 3.0),
        ("3/V", "1/V", 3.0),
        ("3 1/V", "1/V", 3.0),
        ("3 V^-1", "1/V", 3.0),
        ("3 V**-1", "1/V", 3.0),
        ("3 / mV", "1/V", 3000.0),
        ("300 K", "kelvin", 300.0),
        ("27 degC", "K", 300.15),
        ("10 nA", "ampere", 1e-08),
        ("1e3 ns", "second", 1e-06),
        ("1.5 GHz", "hertz", 1.5e9),
        ("1e-400 V", "V", 0.0),
    ],
)
def test_text_becomes_the_nearest_float(text, unit, value):
    assert parse_quantity(text, unit) == value  # exactly: the conversion is decimal


@pytest.mark.parametrize(
    ("text", "unit", "what"),
    [
        ("25", "siemens", "a number without its unit"),
        ("1e-6", "siemens", "a number without its unit"),
        ("25 V", "ohm", "a unit of the wrong dimension"),
        ("25 us", "siemens", "a unit of the wrong dimension"),
        ("3 V", "1/volt", "a unit of the wrong dimension"),
        ("25 blorps", "ohm", "an unknown unit"),
        ("25 ohm)", "ohm", "an unknown unit"),
        ("25 dBm", "watt", "an unknown unit"),
        ("1 V**9999999", "volt", "an unknown unit"),
        ("1 " + "V*" * 500 + "V", "volt", "an unknown unit"),
        ("2 ohm + 3 ohm", "ohm", "an unknown unit"),
        ("2 3 ohm", "ohm", "an unknown unit"),
        ("1_0 ohm", "ohm", "an unknown unit"),
        ("2,5 ohm", "ohm", "an unknown unit"),
        ("ohm", "ohm", "not a quantity"),
        ("9**9 ohm", "ohm", "not a quantity"),
        ("1e3 ** 2 ohm", "ohm", "not a quantity"),
        ("2^3 ohm", "ohm", "not a quantity"),
        ("nan ohm", "ohm", "not a quantity"),
        ("inf ohm", "ohm", "not a quantity"),
        ("", "ohm", "not a quantity"),
        ("1e999 ohm", "ohm", "a value too large"),
        ("1e99999999999999999999 ohm", "ohm", "a value too large"),
    ],
)
def test_what_is_no_such_quantity_is_refused_by_name(text, unit, what):
    with pytest.raises(ConfigError, match="with its unit, such as") as caught:
        parse_quantity(text, unit)
    assert caught.value.what == what
    assert caught.value.value == text


def test_a_unit_without_a_name_of_its_own_is_parsed_too():
    assert parse_quantity("2 mm", "meter") == 0.002
    assert parse_quantity("2 cm**2/s", "meter**2/second") == 2e-4
    with pytest.raises(ConfigError, match=r"meter\*\*2/second"):
        parse_quantity("2 m", "meter**2/second")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.5e-05, "S", "25 µS"),
        (2.5e-05, "siemens", "25 µS"),
        (0.0, "S", "0 S"),
        (1e-06, "S", "1 µS"),
        (0.001, "V", "1 mV"),
        (0.9999999999, "V", "1 V"),
        (-3e-09, "A", "-3 nA"),
        (2.0, "ohm", "2 ohm"),
        (4700.0, "Ω", "4.7 kΩ"),
        (1500.0, "K", "1500 K"),
        (3.0, "1/volt", "3 1/V"),
        (1000.0, "Hz", "1 kHz"),
        (math.nan, "V", "nan V"),
        (math.inf, "V", "inf V"),
        (1e-20, "A", "0.01 aA"),
    ],
)
def test_formatting_chooses_the_prefix(value, unit, text):
    assert format_quantity(value, unit) == text


def test_formatting_takes_the_number_of_digits():
    assert format_quantity(1 / 3, "V", digits=3) == "333 mV"


@given(st.floats(min_value=1e-15, max_value=1e12), st.sampled_from(["S", "ohm", "V", "A", "1/V", "s"]))
def test_what_is_formatted_is_parsed_back(value, unit):
    # six significant digits are shown: half a unit of the sixth
    assert parse_quantity(format_quantity(value, unit), unit) == pytest.approx(value, rel=5.1e-6)


class Sample(Config):
    resistance: Resistance = 0.0
    conductance: Conductance | None = None
    voltages: tuple[Voltage, ...] = ()
    temperature: Temperature = 300.0
    nonlinearity: InverseVoltage = 3.0
    narrow: Annotated[float, Quantity("volt", gt=0, lt=1)] = 0.5


@pytest.mark.parametrize("value", [2, 2.0, np.float64(2), np.float32(2), np.int64(2), "2 ohm", "2000 mohm"])
def test_python_takes_si_numbers_and_text(value):
    resistance = Sample(resistance=value).resistance
    assert resistance == 2.0
    assert type(resistance) is float


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("resistance", -1.0, "at least 0 ohm"),
        ("resistance", "-1 ohm", "at least 0 ohm"),
        ("resistance", math.nan, "at least 0 ohm"),
        ("resistance", math.inf, "at least 0 ohm"),
        ("resistance", None, "a resistance with its unit"),
        ("resistance", True, "a resistance with its unit"),
        ("resistance", [1.0], "a resistance with its unit"),
        ("conductance", -1e-6, "at least 0 S"),
        ("temperature", 0.0, "more than 0 K"),
        ("nonlinearity", 0.0, "more than 0 1/V"),
        ("narrow", "1000 mV", "more than 0 V and less than 1 V"),
    ],
)
def test_impossible_values_are_refused_with_the_field_and_the_bounds(field, value, allowed):
    with pytest.raises(ConfigError) as caught:
        Sample(**{field: value})
    assert caught.value.where == f"Sample.{field}"
    assert allowed in str(caught.value)


def test_a_voltage_must_be_finite():
    with pytest.raises(ConfigError, match=r"Sample.voltages\[1\]: got nan, allowed a finite number \[V\]"):
        Sample(voltages=(0.1, math.nan))


def test_text_only_sources_refuse_bare_numbers():
    assert Sample.from_text_dict({"resistance": "2 ohm", "voltages": ["0.3 V"]}).voltages == (0.3,)
    with pytest.raises(ConfigError, match=r'a number without its unit at resistance: got 2, allowed .* "2 ohm"'):
        Sample.from_text_dict({"resistance": 2})
    with pytest.raises(ConfigError, match=r'a number without its unit at conductance: got 2e-05, allowed .* "25 uS"'):
        Sample.from_text_dict({"conductance": 2e-5})


def test_importing_costs_neither_pint_nor_the_heavy_libraries():
    program = (
        "import sys, mdls_cosim, mdls_cosim.dataset, mdls_cosim.quantities\n"
        "sys.exit(','.join(name for name in ('torch', 'PySpice', 'h5py', 'pint') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
