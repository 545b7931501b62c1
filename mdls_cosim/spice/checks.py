"""What a result must pass before anyone sees it: whole, finite, sane, and true to Kirchhoff's current law."""

import sys

import numpy as np

from mdls_cosim.errors import KirchhoffError, SpiceError
from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.elements import spice_number
from mdls_cosim.spice.transient import Waves

__all__ = ["check_result", "checked_waveforms", "rounding_floor"]

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
    places = [f"vector {first + vector}" for vector in range(len(values))]
    _check_possible(deck, names, result, places)
    if deck.balance:
        _check_kirchhoff(deck, names, result, rounding_floor(deck, values), places)


def checked_waveforms(
    deck: Deck, waves: Waves, names: tuple[str, ...], times: np.ndarray, result: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The times and values of a transient result, with a point at 0 and each knot of the waves exactly among the times.

    Raises a SpiceError unless `result`, (points, names), is finite, sane and balanced at every point.
    """
    if not (times[0] >= 0 and (np.diff(times) > 0).all()):
        raise SpiceError("the times of a transient analysis do not rise", where=deck.title)
    if deck.balance:
        steps = np.diff(times, prepend=0.0)
        steps[0] = waves.first_step
        places = [f"the point at {time:.6g} s" for time in times]
        _check_kirchhoff(deck, names, result, rounding_floor(deck, waves.values, steps), places)
    times, result = times.copy(), result.copy()
    if times[0] > 0 and len(times) > 1:
        result[0] -= (result[1] - result[0]) * times[0] / (times[1] - times[0])
    reach = np.full(len(waves.times), 1e-3 * np.diff(waves.times).min())
    reach[0] = 2 * waves.first_step
    after = np.clip(np.searchsorted(times, waves.times), 1, len(times) - 1)
    nearest = np.where(waves.times - times[after - 1] < times[after] - waves.times, after - 1, after)
    missed = np.abs(times[nearest] - waves.times) > reach
    if missed.any():
        knot = int(np.argmax(missed))
        raise SpiceError(
            f"the transient analysis has no point at knot {knot}",
            where=deck.title,
            value=f"{times[nearest[knot]]} s",
            limit=f"{waves.times[knot]} s",
        )
    times[nearest] = waves.times
    places = [f"the point at {time:.6g} s" for time in times]
    _check_possible(deck, names, result, places)
    return times, result


def rounding_floor(deck: Deck, values: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
    """The current that rounding alone may leave unbalanced [A]: the rounding of a voltage across the best conductor.

    It matters where the true currents are nearly zero: all inputs 0, or all cells open. Over a time step [s] a
    capacitor is a conductor too, of twice its value divided by the step.
    """
    words = [line.split() for line in deck.elements if line[0] in "rRvV"]
    ohms = {word[3] for word in words if word[0][0] in "rR"}
    fixed = {word[-1] for word in words if word[0][0] in "vV"}
    volts = [abs(number) for word in fixed if (number := spice_number(word))]
    volts.append(float(np.abs(values).max(initial=0.0)))
    conductance = np.array(1 / min((number for word in ohms if (number := spice_number(word))), default=1.0))
    if steps is not None:
        conductance = conductance + 2 * deck.capacitors[deck.capacitors[:, 1] == 0, 0].max(initial=0.0) / steps
    return sys.float_info.epsilon * max(volts) * conductance * len(deck.elements)


def _check_possible(deck: Deck, names: tuple[str, ...], result: np.ndarray, places: list[str]) -> None:
    bad = ~(np.abs(result) < ABSURD)
    if bad.any():
        row, column = (int(index[0]) for index in np.nonzero(bad))
        raise SpiceError(
            f"{names[column]} of {places[row]} is no possible value",
            where=deck.title,
            value=float(result[row, column]),
            limit=f"finite, below {ABSURD:g} V or A",
            hint="A division by zero in a B source, or a source without a load, does this.",
        )


def _check_kirchhoff(
    deck: Deck, names: tuple[str, ...], result: np.ndarray, floor: np.ndarray, places: list[str]
) -> None:
    position = {name: index for index, name in enumerate(names)}
    currents = result[:, [position[name] for name in deck.balance]]
    signs = np.array([deck.ground_sign(name) for name in deck.balance])
    left = np.abs(currents @ signs)
    # 1e-15 A: far above the abstol of a deck, far below any current that is read.
    allowed = KIRCHHOFF_RELATIVE * np.abs(currents).sum(axis=1) + floor + 1e-15
    if (left > allowed).any():
        row = int(np.argmax(left / allowed))
        raise KirchhoffError(
            f"Kirchhoff's current law does not close in {places[row]}",
            where=deck.title,
            value=float(f"{left[row]:.3g}"),
            limit=f"{allowed[row]:.3g} A left over",
            hint='A path to ground that Deck.balance does not list? In a cell, lead it to a pin "ground"',
        )
