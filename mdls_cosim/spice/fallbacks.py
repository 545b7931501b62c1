"""What is tried, in this order, when ngspice does not converge. No other error has a fall-back, a bad deck least.

Operating points. The first way is that of strategy.py, within which ngspice itself steps gmin and the sources. A job
that fails is halved until each vector that fails is alone; the others keep the result of the first way, so that no
result depends on the vectors beside it. For one that fails:

    afresh            where the first way was a sweep: `op`, from 0 V
    source stepping   one sweep of all sources from 0 V to their values in 10 steps; the last is kept
    loose then tight  solved to reltol 1e-3, then at the tight tolerances from all the voltages found (.nodeset)

Transients, where a time step fell below ngspice's least, or the first point was not found:

    shorter steps     the longest step a tenth, and with it the first and the least

(Gear's formula, and tolerances 1e3 to 1e4 times as loose in volts and amperes, never helped where that did not.)

The result of a fall-back has the tight tolerances and passes all the checks, as any other.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mdls_cosim.errors import SpiceNoConvergence
from mdls_cosim.spice import strategy
from mdls_cosim.spice.checks import check_result
from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.transient import Waves

__all__ = [
    "FALLBACKS",
    "TRANSIENT_FALLBACKS",
    "Simulator",
    "given_up",
    "last_needed",
    "rescued_points",
    "transient_ways",
]

FALLBACKS = ("afresh", "source stepping", "loose then tight")
TRANSIENT_FALLBACKS = ("shorter steps",)

_STEPS = 10
_LOOSE = "reltol=1e-3 vntol=1e-6 abstol=1e-12 gmin=1e-12"

Accept = Callable[[dict[str, Any], np.ndarray], Any]
"""Makes a result of a worker's answer (header, flat values), or raises a SpiceError."""


@dataclass(frozen=True)
class Simulator:
    """What a fall-back needs of an engine.

    exchange: sends a job (deck, header, values); returns what the accept function makes of the answer
    klu:      whether to ask for that matrix solver
    numbers:  the number of each new job
    """

    exchange: Callable[[Deck, dict[str, Any], np.ndarray, Accept], Any]
    klu: bool
    numbers: Iterator[int]

    def points(self, deck: Deck, header: dict[str, Any], values: np.ndarray) -> np.ndarray:
        """The checked results of a job that solves a deck for these rows of values: (vectors, vectors read)."""
        names = strategy.vectors(deck)

        def accept(_answer: dict[str, Any], flat: np.ndarray) -> np.ndarray:
            whole = flat.size == len(values) * len(names)
            result = flat.reshape(len(values), len(names)) if whole else flat
            check_result(deck, values, names, result, header["first"])
            return result

        sent = values if header["kind"] == "operating_points" else values[:0]
        return self.exchange(deck, header, sent, accept)


def rescued_points(
    simulator: Simulator, deck: Deck, job: strategy.Job, values: np.ndarray, cause: SpiceNoConvergence
) -> tuple[np.ndarray, str | None]:
    """The results of a job whose first way failed, (vectors, vectors read), and the last fall-back that was needed.

    None for the fall-back: every vector has a result of the first way. Raises the first cause, naming the fall-backs,
    if a vector defies all of them.
    """
    if len(values) == 1:
        return _rescued(simulator, deck, job, values, cause)
    middle = len(values) // 2
    results, needed = [], []
    for start, stop in ((0, middle), (middle, len(values))):
        rows, first = values[start:stop], job.start + start
        (part,) = strategy.jobs(deck, rows, job.strategy, simulator.klu, next(simulator.numbers), len(rows))
        part = strategy.Job(first, first + len(rows), part.header | {"first": first}, job.strategy)
        try:
            results.append(simulator.points(deck, part.header, rows))
        except SpiceNoConvergence as error:
            result, name = rescued_points(simulator, deck, part, rows, error)
            results.append(result)
            needed.append(name)
    return np.concatenate(results), last_needed(needed)


def last_needed(names: Iterable[str | None]) -> str | None:
    """The last in FALLBACKS of these fall-backs; None if none was needed."""
    return max(filter(None, names), key=FALLBACKS.index, default=None)


def _rescued(
    simulator: Simulator, deck: Deck, job: strategy.Job, values: np.ndarray, cause: SpiceNoConvergence
) -> tuple[np.ndarray, str]:
    """The result of one vector by the first fall-back that finds it, and the name of that."""
    for name, rescue in zip(FALLBACKS, (_afresh, _stepped, _relaxed), strict=True):
        if name == "afresh" and job.strategy == "alter":
            continue  # that was the first way
        try:
            return rescue(simulator, deck, values, job.start), name
        except SpiceNoConvergence:
            continue
    raise given_up(cause, FALLBACKS)


def transient_ways(waves: Waves) -> list[tuple[str | None, Waves]]:
    """The first way to run a transient analysis, and its fall-backs by name."""
    shorter = replace(waves, longest_step=max(waves.longest_step / 10, waves.least_step))
    return [(None, waves), (TRANSIENT_FALLBACKS[0], shorter)]


def given_up(cause: SpiceNoConvergence, tried: tuple[str, ...]) -> SpiceNoConvergence:
    """The error of the first way, saying what else was tried."""
    parts = {name: getattr(cause, name) for name in ("where", "value", "limit", "hint", "deck", "log")}
    return SpiceNoConvergence(f"{cause.what}, nor with the fall-backs {', '.join(tried)}", **parts)


def _afresh(simulator: Simulator, deck: Deck, values: np.ndarray, first: int) -> np.ndarray:
    (job,) = strategy.jobs(deck, values, "alter", simulator.klu, next(simulator.numbers))
    return simulator.points(deck, job.header | {"first": first}, values)


def _stepped(simulator: Simulator, deck: Deck, values: np.ndarray, first: int) -> np.ndarray:
    """One vector, approached from 0 V."""
    ramp = values * np.linspace(0.0, 1.0, _STEPS + 1)[:, None]
    (job,) = strategy.jobs(deck, ramp, "sweep", simulator.klu, next(simulator.numbers), together=len(ramp))
    names = strategy.vectors(deck)

    def accept(_answer: dict[str, Any], flat: np.ndarray) -> np.ndarray:
        result = flat.reshape(-1, len(names))[-1:]
        check_result(deck, values, names, result, first)
        return result

    return simulator.exchange(deck, job.header | {"first": first}, values[:0], accept)


def _relaxed(simulator: Simulator, deck: Deck, values: np.ndarray, first: int) -> np.ndarray:
    """One vector, from the solution at loose tolerances."""
    loose = strategy.relaxed(deck, values, simulator.klu, next(simulator.numbers), _LOOSE)
    voltages = simulator.exchange(
        deck, loose, values, lambda answer, flat: dict(zip(answer["names"], flat, strict=True))
    )
    tight = strategy.started(deck, values, simulator.klu, next(simulator.numbers), voltages)
    return simulator.points(deck, tight | {"first": first}, values)
