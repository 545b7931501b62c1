"""The circuit behind the results of a point, as a file that runs alone."""

from __future__ import annotations

from typing import Any, NoReturn, Self

import numpy as np

from mdls_cosim.characterize.point import Point
from mdls_cosim.errors import NotAvailable
from mdls_cosim.spice import Deck, Engine, EngineInfo, NgspiceEngine


def first_deck(point: Point, engine: Engine | None = None) -> str:
    """The text of the first deck whose solution is part of the results of `point`.

    Most points need no simulator for it. Where the deck itself depends on simulations (the states of a user's cell that
    have the wanted conductances; the branches of selectors with hysteresis), these run before.

    Args:
        engine: runs those simulations; absent: an ngspice that is started if it is needed.

    Raises:
        NotAvailable: the point simulates nothing.
        DeckError: its circuit cannot be.
        SpiceError: a simulation before the deck failed.
    """
    with _Stopping(engine) as stopping:
        try:
            point.solve(stopping)
        except _Found as found:
            return found.text
    raise NotAvailable("this point simulates no circuit", where=point.label)


class _Found(BaseException):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class _Stopping:
    """An engine that ends the point at its first deck. `preliminary` is the engine for what is simulated before."""

    def __init__(self, engine: Engine | None) -> None:
        self._given, self._own = engine, None

    @property
    def preliminary(self) -> Engine:
        if self._given is None:
            self._given = self._own = NgspiceEngine()
        return self._given

    def run(self, deck: Deck, values: np.ndarray, *_options: Any, **_named: Any) -> NoReturn:
        raise _Found(deck.standalone(np.asarray(values)))

    def transient(self, deck: Deck, waves: Any, *_options: Any, **_named: Any) -> NoReturn:
        raise _Found(deck.standalone_transient(waves))

    def info(self) -> EngineInfo:
        return EngineInfo(version="none", solver="none", pyspice="none", library="none")

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
