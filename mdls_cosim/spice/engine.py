"""The engine interface: a deck and what drives its sources in, checked results out."""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.points import OperatingPoints
from mdls_cosim.spice.transient import Waveforms, Waves

__all__ = ["Engine", "EngineInfo"]


@dataclass(frozen=True)
class EngineInfo:
    """What simulates: the version of ngspice, its matrix solver ("klu" or "sparse"), the binding and the library."""

    version: str
    solver: str
    pyspice: str
    library: str


class Engine(Protocol):
    """Runs decks. One job at a time: an engine belongs to one task (a thread, a process)."""

    def run(self, deck: Deck, values: np.ndarray) -> OperatingPoints:
        """Solve the deck for every row of `values`, (vectors, sources) [V], or raise a SpiceError.

        The result has been checked: it belongs to this deck, it is complete and finite, and the currents of
        `deck.balance` sum to zero. After an error the next good deck on the same engine gives its right result.
        """
        ...

    def transient(self, deck: Deck, waves: Waves) -> Waveforms:
        """Solve the deck over time while its sources follow `waves`, or raise a SpiceError.

        The result has passed the checks of `run` at every time point, has reached the last time, and has a point at
        every knot.
        """
        ...

    def info(self) -> EngineInfo: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...
