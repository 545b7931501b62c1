import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdls_cosim.spice.elements import format_number, natural_key, spice_number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself(value: float):
    assert spice_number(format_number(value)) == value


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1k", 1e3),
        ("10meg", 1e7),
        ("2.5u", 2.5e-6),
        ("5ohm", 5.0),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("3m", 3e-3),
        ("100kohm", 1e5),
        ("{x}", None),
        ("r=5", None),
        ("a1", None),
    ],
)
def test_spice_numbers(word: str, value: float | None):
    assert spice_number(word) == (None if value is None else pytest.approx(value, rel=1e-15))


def test_names_sort_as_one_counts():
    names = ["rrow10_2", "rrow2_10", "rrow2_9", "vcol1", "rrow2"]
    assert sorted(names, key=natural_key) == ["rrow2", "rrow2_9", "rrow2_10", "rrow10_2", "vcol1"]
