"""A point: the smallest part of a campaign that is run, kept and repeated as a whole."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mdls_cosim.config import Config
from mdls_cosim.errors import InputError
from mdls_cosim.provenance import canonical_json, little_endian
from mdls_cosim.spice import Deck, Engine

Results = dict[str, NDArray[np.float64]]
"""What a point gives: arrays by name."""


@dataclass(frozen=True, eq=False)
class Point(ABC):
    """One task of a campaign.

    Subclasses are frozen dataclasses (`eq=False`) of configurations, decks, arrays and plain values. A point travels to
    wherever it is solved, so it holds no engine; it is kept by its `key`, so whatever decides its numbers is a field.
    """

    experiment: ClassVar[str]
    """Name of the experiment: the group in the Dataset."""

    label: str
    """What errors and `mdls-cosim info` name: "read 32x32 hot, seed 3, tile 5". Outside the key."""

    @abstractmethod
    def solve(self, engine: Engine) -> Results:
        """The arrays of this point. May run several decks, each made from the results of the last."""

    @abstractmethod
    def blank(self) -> Results:
        """The names and shapes that `solve` gives, full of NaN: what stands for a failed point."""

    @property
    @abstractmethod
    def operating_points(self) -> int:
        """How much it counts for in the progress."""

    @cached_property
    def key(self) -> str:
        """Hash ("sha256:…") of the kind of point and all its fields but the label."""
        digest = hashlib.sha256(f"{type(self).__qualname__}\n".encode())
        for each in fields(self):
            if each.name != "label":
                for part in _parts(getattr(self, each.name), each.name):
                    digest.update(len(part).to_bytes(8, "little"))
                    digest.update(part)
        return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True, eq=False)
class DeckPoint(Point):
    """One circuit at given values of its sources; gives its probes as `values`, (vectors, probes)."""

    experiment: ClassVar[str] = "deck"

    deck: Deck
    values: NDArray[np.float64]
    """(vectors, sources) [V]."""

    def solve(self, engine: Engine) -> Results:
        return {"values": engine.run(self.deck, self.values).values}

    def blank(self) -> Results:
        return {"values": np.full((len(self.values), len(self.deck.probes)), np.nan)}

    @property
    def operating_points(self) -> int:
        return len(self.values)


def _parts(value: Any, where: str) -> Iterator[bytes]:
    """The bytes of one field, each part behind its kind: nothing runs into what follows."""
    if isinstance(value, np.ndarray):
        stored = np.asarray(value, dtype=little_endian(value.dtype))
        yield f"{where} array {stored.dtype.str} {stored.shape}".encode()
        yield stored.tobytes()
    elif isinstance(value, Config):
        yield f"{where} {type(value).__name__} {canonical_json(value)}".encode()
    elif isinstance(value, Deck):
        yield f"{where} deck {value.hash}".encode()
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"{where} {type(value).__name__}".encode()
        for each in fields(value):
            yield from _parts(getattr(value, each.name), f"{where}.{each.name}")
    elif isinstance(value, Mapping):
        yield f"{where} mapping {len(value)}".encode()
        for key in sorted(value):
            yield from _parts(value[key], f"{where}.{key}")
    elif isinstance(value, list | tuple):
        yield f"{where} sequence {len(value)}".encode()
        for position, item in enumerate(value):
            yield from _parts(item, f"{where}[{position}]")
    else:
        try:
            yield f"{where} {canonical_json(value)}".encode()
        except InputError as error:
            raise InputError(
                "a field of a point that has no hash",
                where=where,
                value=error.value,
                limit="configurations, decks, arrays, plain values, and tuples and mappings of them",
            ) from None
