"""How the operating points of one deck are solved: one by one from rest, or in one sweep where the circuit is linear.

`alter`: the sources are set by `alter`, then `op`. Any circuit. `op` sets up the circuit anew, so every point starts
         from rest: all voltages at 0 V, switches and other elements with memory in their initial condition.
`sweep`: every source becomes a staircase function of the voltage of an index net, and one `.dc` sweep over the index
         solves all vectors. Each point starts from the solution of the last. Linear circuits only.

The result of a vector does not depend on the vectors before it, on their order, on their number, or on the jobs that
they are divided into: not one bit of it (tests/physics/test_independent_reads.py). A `.dc` sweep carries the state of
elements with memory from point to point (a switch, self-heating, any bistable cell), and where a circuit is not linear,
the last digits of Newton's solution depend on where it started. In a linear circuit neither exists: the last iteration
factors the same matrix whatever came before. The staircase has flat steps, so that the index has no entry in the matrix
that depends on neighboring vectors, and a source has exactly the value of its vector.

Milliseconds of processor time a vector, loading included, 1 - 100 uS, 1 ohm wires, KLU (x86-64, ngspice 46):

    tile (vectors)        8x8 (64)  16x16 (64)  32x32 (16)  64x64 (16)  128x128 (16)
    alter, sinh cells         0.76         3.3          19         118           750
    sweep, sinh cells         0.23        0.93         9.1          65           476   not used: depends on the order
    alter, ohmic cells        0.60         2.1          11          64           468
    sweep, ohmic cells        0.13        0.42         4.2          30           261

`op` takes 5 iterations from rest where a point of a sweep takes 4 from the last solution; the other half of the
difference is the matrix, which `op` builds and orders for every point. Solving for 0 V between the vectors of a sweep
costs 4 - 5 iterations more a vector, as much as `op`, and would still not be exact for elements with memory.

Tried without gain: two opposite diodes for a sinh cell, exact for |a V| <= 3; other spellings of the sinh; reltol 1e-6
(as many iterations), 1e-5 and more (fewer, but errors of 1e-6); huge pages, a larger heap and no thread cache in
malloc; eight orders of the elements (by name is near the best, and some do not converge); fewer vectors to save. A B
source's expression cannot be altered, so that new conductances need a new circuit.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mdls_cosim.spice.deck import TOLERANCES, Deck
from mdls_cosim.spice.elements import RESERVED, format_number, spice_number
from mdls_cosim.spice.flatten import flattened
from mdls_cosim.spice.library import model_text
from mdls_cosim.spice.transient import Waves, wave_text

__all__ = ["Job", "Strategy", "chosen", "jobs", "relaxed", "started", "transient", "vectors"]

Strategy = Literal["alter", "sweep"]

# One job takes at most so many vectors, and fewer of a large circuit (elements times vectors), so that the deadline
# of a job stays meaningful: 64 vectors of a 64x64 tile take some 6 s, their loading 0.2 s.
MOST_VECTORS = 256
MOST_WORK = 800_000

_INDEX = f"{RESERVED}index"

# Words on the line of an element whose value is one number; a capacitor is open at rest, whatever its line says.
_CONSTANT_WORDS = {"r": 4, "v": 4, "i": 4, "g": 6, "e": 6, "h": 5, "f": 5}

# Half the width of a step of the staircase that a swept source follows.
_HALF_STEP = 0.25


@dataclass(frozen=True)
class Job:
    """What a worker does at one go: the rows from `start` to `stop` of the values."""

    start: int
    stop: int
    header: dict[str, Any]
    strategy: Strategy


def chosen(deck: Deck) -> Strategy:
    """The strategy for a deck, whatever the number of vectors: a sweep if the circuit is linear and has sources."""
    return "sweep" if deck.sources and _linear(deck) else "alter"


def _linear(deck: Deck) -> bool:
    """Whether a circuit is known to be linear at rest: constant elements, and library models made of such elements."""
    if deck.osdi or not all("\n" not in model and _linear_model(model) for model in deck.models):
        return False
    return all(line[0] in "xX" or _constant(line) for line in deck.elements)


@lru_cache(maxsize=64)
def _linear_model(name: str) -> bool:
    """Whether each subcircuit of a library model holds constant elements only; `{...}` of parameters are constants."""
    lines = [line for line in model_text(name).lower().splitlines() if line.strip() and line[0] != "*"]
    inside = [line for line in lines if not line.startswith((".subckt", ".ends"))]
    return all(_constant(re.sub(r"\{[^{}]*\}", "1", line)) for line in inside)


def _constant(line: str) -> bool:
    """Whether an element line is of a resistor, source or capacitor with a plain number for its value."""
    words = line.split()
    size = _CONSTANT_WORDS.get(line[0].lower())
    if size is None:
        return line[0] in "cC"
    return len(words) == size and spice_number(words[-1]) is not None


def vectors(deck: Deck) -> tuple[str, ...]:
    """The vectors that are read back: the probes, then the balance."""
    return deck.probes + tuple(name for name in deck.balance if name not in deck.probes)


def jobs(
    deck: Deck, values: np.ndarray, strategy: Strategy, klu: bool, number: int, together: int | None = None
) -> list[Job]:
    """The jobs that solve a deck for all rows of `values`, (vectors, sources); `number` marks them as theirs.

    together: vectors of a job at most; None: what keeps the deadline of a job meaningful
    """
    together = together or min(MOST_VECTORS, max(16, MOST_WORK // len(deck.elements)))
    result = []
    for start in range(0, len(values), together):
        stop = min(start + together, len(values))
        prepare = _alter if strategy == "alter" else _sweep
        header = prepare(deck, values[start:stop], klu, number) | _common(deck, start)
        result.append(Job(start, stop, header, strategy))
    return result


def relaxed(deck: Deck, values: np.ndarray, klu: bool, number: int, options: str) -> dict[str, Any]:
    """The job that solves a deck for one row of values at other tolerances and reads all voltages."""
    header = _alter(deck, values, klu, number, (".save all",), options) | _common(deck, 0)
    return header | {"vectors": []}


def started(deck: Deck, values: np.ndarray, klu: bool, number: int, voltages: dict[str, float]) -> dict[str, Any]:
    """The job that solves a deck for one row of values, starting from these voltages [V] of its nets."""
    extra = tuple(f".nodeset v({net})={format_number(value)}" for net, value in voltages.items())
    return _alter(deck, values, klu, number, extra) | _common(deck, 0)


def transient(deck: Deck, waves: Waves, klu: bool, number: int) -> dict[str, Any]:
    """The job that solves a deck over time."""
    marker = f"{RESERVED}job{number}"
    times = [format_number(time) for time in waves.times]
    extra = f"V{marker} {marker} 0 {wave_text(times, np.arange(len(times), dtype=np.float64))}"
    elements = (*flattened(deck.with_sources(waves.sources(len(deck.sources))), deck.models), extra)
    return {
        "kind": "transient",
        "circuit": deck.assembled(
            elements, (*_save(deck, {}, marker), *deck.initial_voltages(waves)), klu, deck.transient_options(waves)
        ),
        "command": waves.command,
        "vectors": [_output_name(name, {}) for name in vectors(deck)],
        "marker": {"name": marker},
    } | _common(deck, 0)


def _common(deck: Deck, first: int) -> dict[str, Any]:
    return {"first": first, "whole": _whole(deck), "osdi": [str(Path(path).resolve()) for path in deck.osdi]}


def _alter(
    deck: Deck, values: np.ndarray, klu: bool, number: int, control: tuple[str, ...] = (), options: str = TOLERANCES
) -> dict[str, Any]:
    # The number of the job is in the marker's name alone: no value in the circuit may depend on an engine's past.
    marker = f"{RESERVED}job{number}"
    extra = f"V{marker} {marker} 0 1"
    names = [_output_name(name, {}) for name in vectors(deck)]
    return {
        "kind": "operating_points",
        "circuit": deck.assembled(
            (*flattened(deck.elements, deck.models), extra), (*_save(deck, {}, marker), *control), klu, options
        ),
        "sources": [name.lower() for name in deck.sources],
        "vectors": names,
        "marker": {"name": marker, "values": [1]},
        "count": len(values),
    }


def _sweep(deck: Deck, values: np.ndarray, klu: bool, number: int) -> dict[str, Any]:
    marker = f"{_INDEX}{number}"
    replaced: dict[str, str] = {}
    lines: dict[str, str] = {}
    for name, column in zip(deck.sources, values.T, strict=True):
        # Also a source that does not change: the circuit is the same whatever the vectors are.
        declared, plus, minus, _ = deck.by_name[name.lower()].split()
        replaced[name.lower()] = f"b{RESERVED}{name.lower()}"
        lines[name.lower()] = f"B{RESERVED}{declared} {plus} {minus} v=pwl(v({marker}),{_staircase(column)})"
    elements = flattened((lines.get(name, line) for name, line in deck.by_name.items()), deck.models)
    extra = f"V{marker} {marker} 0 0"
    return {
        "kind": "sweep",
        "circuit": deck.assembled((*elements, extra), _save(deck, replaced, marker), klu),
        "command": f"dc v{marker} 0 {len(values) - 1} 1",
        "vectors": [_output_name(name, replaced) for name in vectors(deck)],
        "marker": {"name": marker, "values": list(range(len(values)))},
    }


def _staircase(values: np.ndarray) -> str:
    """Points of a piecewise linear function whose value around each index is that of the vector, with slope 0."""
    texts = [format_number(value) for value in values.tolist()]
    return ",".join(f"{k - _HALF_STEP},{text},{k + _HALF_STEP},{text}" for k, text in enumerate(texts))


def _save(deck: Deck, replaced: dict[str, str], marker: str) -> tuple[str, ...]:
    """Keep only what is read: writing thousands of node voltages costs a tenth of the solution."""
    if _whole(deck):
        return (".save all",)
    kept = [re.sub(r"^i\((.*)\)$", lambda m: f"i({replaced.get(m[1], m[1])})", name) for name in vectors(deck)]
    return tuple(f".save {name}" for name in [*kept, f"v({marker})"])


def _whole(deck: Deck) -> bool:
    """Whether all of the solution is kept, to be checked: a current source can drive a floating net to infinity."""
    return any(name[0] == "i" for name in deck.by_name)


def _output_name(vector: str, replaced: dict[str, str]) -> str:
    """The name of a vector inside a plot: "i(vcol0)" is "vcol0#branch", "v(row0)" is "row0"."""
    target = vector[2:-1]
    return f"{replaced.get(target, target)}#branch" if vector[0] == "i" else target
