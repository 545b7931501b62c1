"""What an engine returns for operating points, and how the columns of a result are found by the names of probes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mdls_cosim.errors import InputError
from mdls_cosim.spice.elements import normal_vector

__all__ = ["OperatingPoints", "columns_of"]


@dataclass(frozen=True)
class OperatingPoints:
    """Direct-current solutions of one deck, checked.

    probes:   the vectors that the deck reads, in its order
    values:   (vectors, probes) [V] or [A], one row for each row of source values
    seconds:  the time that the simulator took, loading included
    fallback: the name of the fall-back that succeeded (fallbacks.py); None for the first way
    """

    probes: tuple[str, ...]
    values: np.ndarray
    seconds: float
    fallback: str | None = None

    def column(self, probe: str) -> np.ndarray:
        """The values of one probe, (vectors,)."""
        return self.columns([probe])[:, 0]

    def columns(self, probes: Iterable[str]) -> np.ndarray:
        """The values of several probes, (vectors, len(probes)). Raises InputError for one that was not read."""
        return columns_of(self.probes, self.values, probes)


def columns_of(names: tuple[str, ...], values: np.ndarray, probes: Iterable[str]) -> np.ndarray:
    """The columns of `values`, (rows, names), that belong to the probes; InputError for one that was not read."""
    position = {probe: index for index, probe in enumerate(names)}
    wanted = [normal_vector(probe) for probe in probes]
    missing = [probe for probe in wanted if probe not in position]
    if missing:
        raise InputError(
            "not a probe of this deck",
            value=", ".join(missing),
            limit=_shortened(names),
            hint="Name it in Deck.probes before the run.",
        )
    return values[:, [position[probe] for probe in wanted]]


def _shortened(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
