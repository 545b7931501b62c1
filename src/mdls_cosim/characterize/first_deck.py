"""The first circuit that a point simulates, as a file that runs alone, without a simulator."""

from __future__ import annotations

from typing import Any, NoReturn, Self

import numpy as np

from mdls_cosim.characterize.point import Point
from mdls_cosim.errors import NotAvailable
from mdls_cosim.spice import Deck, EngineInfo


def first_deck(point: Point) -> str:
    """The text of the first deck of `point`; later ones depend on what a simulator answers.

    Raises:
        NotAvailable: the point simulates nothing.
        DeckError: its circuit cannot be.
    """
    try:
        point.solve(_Stopping())
    except _Found as found:
        return found.text
    raise NotAvailable("this point simulates no circuit", where=point.label)


class _Found(BaseException):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class _Stopping:
    """An engine that ends the point at its first deck."""

    def run(self, deck: Deck, values: np.ndarray, *_options: Any, **_named: Any) -> NoReturn:
        raise _Found(deck.standalone(np.asarray(values)))

    def transient(self, deck: Deck, waves: Any, *_options: Any, **_named: Any) -> NoReturn:
        raise _Found(deck.standalone_transient(waves))

    def info(self) -> EngineInfo:
        return EngineInfo(version="none", solver="none", pyspice="none", library="none")

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass
