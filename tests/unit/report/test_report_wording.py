"""Numbers and names in words."""

from __future__ import annotations

import math

import pytest

from mdls_cosim.report import Table, class_table, fit_table, fitted_parameters, settings_table
from mdls_cosim.report.wording import Level, error_percent, finite, flat, level, seconds, wire_levels, words


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.0123456, "1.23 %"), (0.003, "0.300 %"), (0.9996, "100 %"), (2.5, "250 %"), (0, "0 %"), (3e-9, "3.0e-07 %")],
)
def test_error_has_three_digits(fraction: float, text: str) -> None:
    assert error_percent(fraction).replace("\u00a0", " ") == text


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, "text", True, [1.0, 2.0]])
def test_what_is_no_number_is_absent(nothing: object) -> None:
    assert finite(nothing) is None
    assert error_percent(nothing) == "–"


def test_fitted_parameter_shows_its_digits_and_its_unit() -> None:
    fit = {
        "row_line_resistance": {"true": 1.0, "fitted": 1.00001234},
        "sense_resistance": {"true": None, "fitted": 5e-6},
        "nonlinearity": {"true": 3.0, "fitted": 3.0001},
    }
    table = fit_table(fit)
    assert table is not None
    assert [tuple(each.replace("\u00a0", " ") for each in row) for row in table.rows] == [
        ("Row line resistance", "1 ohm", "1.0000 ohm"),
        ("Sense resistance", "–", "5 µohm"),
        ("Nonlinearity", "3 1/V", "3.0001 1/V"),
    ]


@pytest.mark.parametrize(("value", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 0 s")])
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_words_keep_acronyms() -> None:
    assert words("adc_bits") == "ADC bits"
    settings = {"dac": {"full_scale_voltage": "0.3 V"}, "ideal": False, "images": 60, "read": None}
    assert list(flat(settings)) == [
        ("DAC full scale voltage", "0.3 V"),
        ("ideal", "no"),
        ("images", "60"),
        ("read", "–"),
    ]


def test_a_number_gets_no_unit_by_its_name() -> None:
    assert list(flat({"thermal_resistance": 2100.0})) == [("thermal resistance", "2100")]


def test_level_of_dictionary_and_of_number() -> None:
    assert level({"mean": 0.9, "std": 0.01, "runs": [0.89, 0.91]}) == Level(0.9, 0.01, 2)
    assert level(0.5) == Level(0.5)
    assert level({"std": 0.1}) is None


def test_wire_levels_are_sorted_by_resistance_not_by_text() -> None:
    found = wire_levels({"10 ohm": 0.2, "0 ohm": 0.9, "500 mohm": 0.8, "2 ohm": 0.5, "3 V": 0.1})
    assert [resistance for resistance, _, _ in found] == [0.0, 0.5, 2.0, 10.0]


def test_class_names_of_two_parts_make_a_grid() -> None:
    table = class_table({"classes": {"uniform / dense": 0.01, "log_uniform / half_on": 0.02}})
    assert table == Table(
        ("Conductances", "Dense inputs", "Half on inputs"),
        (("Uniform", "1.00\u00a0%", "–"), ("Log uniform", "–", "2.00\u00a0%")),
    )


def test_errors_are_shown_with_their_intervals() -> None:
    table = class_table({"classes": {"a / b": 0.01, "a / c": 0.02}, "intervals": {"a / b": (0.005, 0.0125)}})
    assert table is not None
    assert table.rows == (("A", "1.00\u00a0% (0.500 – 1.25)", "2.00\u00a0%"),)


def test_fitted_parameters_pair_the_tile_with_its_reference() -> None:
    fitted = {
        "rows": 4,
        "sense_resistance": 9.9,
        "row_line_resistance": 1.1,
        "cell": {"model": "sinh", "nonlinearity": 3.1},
    }
    reference = {"row_line_resistance": 1.0, "cell": {"model": "sinh", "nonlinearity": 3.0}}
    found = fitted_parameters(fitted, reference)
    assert list(found) == ["row_line_resistance", "sense_resistance", "nonlinearity"]
    assert found["nonlinearity"] == {"true": 3.0, "fitted": 3.1}
    assert found["sense_resistance"] == {"true": None, "fitted": 9.9}
    assert fitted_parameters(fitted, None)["nonlinearity"] == {"true": None, "fitted": 3.1}


def test_only_parameters_that_reads_determine_are_listed_as_fitted() -> None:
    cell = {"model": "vteam", "on_resistance": 1e3, "activation_energy": 0.0, "nonlinearity": 2.0}
    assert list(fitted_parameters({"sense_resistance": 9.9, "cell": cell}, None)) == ["sense_resistance"]


def test_classes_that_were_not_fitted_are_marked() -> None:
    table = class_table({"classes": {"a / b": 0.01, "a / c": 0.02}, "unfitted": {"a / c"}})
    assert table is not None
    assert table.rows == (("A", "1.00\u00a0%", "2.00\u00a0% *"),)


def test_empty_settings_are_no_table() -> None:
    assert settings_table({}) is None
