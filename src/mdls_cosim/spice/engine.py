"""The engine interface: a deck and the values of its sources in, checked operating points out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from mdls_cosim.errors import InputError
from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.elements import normal_vector

__all__ = ["Engine", "EngineInfo", "OperatingPoints"]


@dataclass(frozen=True)
class EngineInfo:
    """What simulates: the version of ngspice, its matrix solver ("klu" or "sparse"), the binding and the library."""

    version: str
    solver: str
    pyspice: str
    library: str


@dataclass(frozen=True)
class OperatingPoints:
    """Direct-current solutions of one deck, checked.

    probes:  the vectors that the deck reads, in its order
    values:  (vectors, probes) [V] or [A], one row for each row of source values
    seconds: the time that the simulator took, loading included
    """

    probes: tuple[str, ...]
    values: np.ndarray
    seconds: float

    def column(self, probe: str) -> np.ndarray:
        """The values of one probe, (vectors,)."""
        return self.columns([probe])[:, 0]

    def columns(self, probes: Iterable[str]) -> np.ndarray:
        """The values of several probes, (vectors, len(probes)). Raises InputError for one that was not read."""
        position = {probe: index for index, probe in enumerate(self.probes)}
        wanted = [normal_vector(probe) for probe in probes]
        missing = [probe for probe in wanted if probe not in position]
        if missing:
            raise InputError(
                "not a probe of this deck",
                value=", ".join(missing),
                limit=_shortened(self.probes),
                hint="Name it in Deck.probes before the run.",
            )
        return self.values[:, [position[probe] for probe in wanted]]


class Engine(Protocol):
    """Runs decks. One job at a time: an engine belongs to one task (a thread, a process)."""

    def run(self, deck: Deck, values: np.ndarray) -> OperatingPoints:
        """Solve the deck for every row of `values`, (vectors, sources) [V], or raise a SpiceError.

        The result has been checked: it belongs to this deck, it is complete and finite, and the currents of
        `deck.balance` sum to zero. After an error the next good deck on the same engine gives its right result.
        """
        ...

    def info(self) -> EngineInfo: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def _shortened(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
