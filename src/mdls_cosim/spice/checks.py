"""What a result must pass before anyone sees it: whole, finite, sane, and true to Kirchhoff's current law."""

import sys

import numpy as np

from mdls_cosim.errors import KirchhoffError, SpiceError
from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.elements import spice_number

__all__ = ["check_result", "rounding_floor"]

# ngspice answers 1/0 with 1e32; no circuit here has a voltage or current near this limit [V], [A].
ABSURD = 1e9

# The currents of all sources at ground, summed, against the sum of their sizes. Tiles of ohmic and sinh cells leave
# 1e-14 to 1e-9 beyond rounding; the steepest one tried (20 /V at 1 V) 2e-8, as Newton's method stops at reltol.
KIRCHHOFF_RELATIVE = 1e-7


def check_result(deck: Deck, values: np.ndarray, names: tuple[str, ...], result: np.ndarray, first: int = 0) -> None:
    """Raise a SpiceError unless `result`, (vectors, names), is whole, finite, sane and balanced.

    `first` is the number of its first vector, for the messages.
    """
    if result.shape != (len(values), len(names)):
        raise SpiceError(
            "wrong length of a result", where=deck.title, value=result.shape, limit=(len(values), len(names))
        )
    bad = ~(np.abs(result) < ABSURD)
    if bad.any():
        vector, column = (int(index[0]) for index in np.nonzero(bad))
        raise SpiceError(
            f"{names[column]} of vector {first + vector} is no possible value",
            where=deck.title,
            value=float(result[vector, column]),
            limit=f"finite, below {ABSURD:g} V or A",
            hint="A division by zero in a B source, or a source without a load, does this.",
        )
    if deck.balance:
        _check_kirchhoff(deck, values, result[:, [names.index(name) for name in deck.balance]], first)


def rounding_floor(deck: Deck, values: np.ndarray) -> float:
    """The current that rounding alone may leave unbalanced [A]: the rounding of a voltage across the best conductor.

    It matters where the true currents are nearly zero: all inputs 0, or all cells open.
    """
    words = [line.split() for line in deck.elements]
    ohms = [number for word in words if word[0][0] in "rR" and (number := spice_number(word[3]))]
    volts = [abs(number) for word in words if word[0][0] in "vV" and (number := spice_number(word[-1]))]
    volts.append(float(np.abs(values).max(initial=0.0)))
    conductance = 1 / min(ohms, default=1.0)
    return sys.float_info.epsilon * max(volts) * conductance * len(words)


def _check_kirchhoff(deck: Deck, values: np.ndarray, currents: np.ndarray, first: int) -> None:
    signs = np.array([deck.ground_sign(name) for name in deck.balance])
    left = np.abs(currents @ signs)
    # 1e-15 A: far above the abstol of a deck, far below any current that is read.
    allowed = KIRCHHOFF_RELATIVE * np.abs(currents).sum(axis=1) + rounding_floor(deck, values) + 1e-15
    if (left > allowed).any():
        vector = int(np.argmax(left / allowed))
        raise KirchhoffError(
            f"Kirchhoff's current law does not close in vector {first + vector}",
            where=deck.title,
            value=float(f"{left[vector]:.3g}"),
            limit=f"{allowed[vector]:.3g} A left over",
            hint="Is there a path to ground that Deck.balance does not list?",
        )
