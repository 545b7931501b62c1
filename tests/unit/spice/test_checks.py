import numpy as np
import pytest

from mdls_cosim.errors import KirchhoffError, SpiceError
from mdls_cosim.spice import Deck
from mdls_cosim.spice.checks import check_result, rounding_floor

DECK = Deck(
    "two ends",
    ("Vin in 0 0", "Rwire in out 0.5", "Vout 0 out 0"),
    sources=("Vin",),
    probes=("i(vin)", "i(vout)"),
    balance=("vin", "vout"),
)
VALUES = np.array([[0.1], [0.0]])


def test_a_balanced_result_passes_whichever_way_round_a_source_lies():
    check_result(DECK, VALUES, DECK.probes, np.array([[-0.2, -0.2], [0.0, 0.0]]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e32])
def test_impossible_values_are_named_with_their_place(value: float):
    with pytest.raises(SpiceError, match=r"i\(vout\) of vector 1"):
        check_result(DECK, VALUES, DECK.probes, np.array([[-0.2, -0.2], [0.0, value]]))


def test_a_part_in_a_million_is_missed():
    with pytest.raises(KirchhoffError, match="vector 0"):
        check_result(DECK, VALUES, DECK.probes, np.array([[-0.2, -0.2 * (1 + 1e-6)], [0.0, 0.0]]))


def test_rounding_alone_breaks_no_law():
    floor = rounding_floor(DECK, VALUES)
    assert 0 < floor < 1e-15
    check_result(DECK, VALUES, DECK.probes, np.array([[-0.2, -0.2], [0.0, floor]]))


def test_a_result_of_another_shape_is_refused():
    with pytest.raises(SpiceError, match="length"):
        check_result(DECK, VALUES, DECK.probes, np.zeros((1, 2)))
