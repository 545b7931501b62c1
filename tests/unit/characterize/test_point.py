"""Keys of points: they change with whatever decides the numbers, and with nothing else."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from mdls_cosim.characterize import DeckPoint, Point
from mdls_cosim.devices import Sinh
from mdls_cosim.errors import InputError
from mdls_cosim.spice import Deck


@dataclass(frozen=True, eq=False)
class Plain(Point):
    experiment: ClassVar[str] = "plain"

    value: Any = 1.0
    other: Any = None

    def solve(self, engine):
        return {}

    def blank(self):
        return {}

    @property
    def operating_points(self) -> int:
        return 1


class Twin(Plain):
    pass


BASE = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1.0, 1.0 + 1e-15),
        (1, 1.0),
        (1, "1"),
        (None, 0),
        (0.0, -0.0),
        (BASE, BASE.T),
        (BASE, BASE.ravel()),
        (BASE, BASE.astype(np.float32)),
        (BASE, BASE.tolist()),
        (np.zeros(2), -np.zeros(2)),
        (Sinh(nonlinearity=3.0), Sinh(nonlinearity=3.5)),
        ((1, (2, 3)), ((1, 2), 3)),
        (("ab", "c"), ("a", "bc")),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (Plain("x", 1.0), Plain("x", 2.0)),
    ],
    ids=str,
)
def test_different_fields_have_different_keys(one, other):
    assert Plain("point", one).key != Plain("point", other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BASE, np.asfortranarray(BASE)),
        (BASE, BASE.astype(">f8")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.float64(0.5), 0.5),
        (Sinh(nonlinearity=3.0), Sinh(nonlinearity="3 / V")),
    ],
    ids=str,
)
def test_the_same_content_has_the_same_key(one, other):
    assert Plain("point", one).key == Plain("point", other).key


def test_label_is_outside_and_kind_and_place_are_inside():
    point = Plain("point", 1.0)
    assert dataclasses.replace(point, label="another").key == point.key
    assert Twin("point", 1.0).key != point.key
    assert Plain("point", 1.0, 2.0).key != Plain("point", 2.0, 1.0).key
    assert pickle.loads(pickle.dumps(point)).key == point.key


def test_a_deck_counts_with_all_it_is():
    deck = Deck("r", ("Vin in 0 0", "Rin in 0 1000"), sources=("Vin",), probes=("i(vin)",))
    values = np.ones((1, 1))
    key = DeckPoint("point", deck, values).key
    assert DeckPoint("point", dataclasses.replace(deck, temperature=301.0), values).key != key
    assert DeckPoint("point", deck, 2 * values).key != key


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), lambda: 1], ids=["object", "set", "nan", "function"])
def test_a_field_without_a_hash_is_named(value):
    with pytest.raises(InputError, match=r"no hash at value\.deep"):
        _ = Plain("point", {"deep": value}).key
