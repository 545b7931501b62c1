"""How several operating points are read from one deck: altered one by one, or as one sweep of an index.

`alter`: the sources are set by `alter`, then `op`; any circuit, and each point starts afresh.
`sweep`: every source becomes a piecewise linear function of the voltage of an index net, exact at integers, and one
`.dc` sweep over the index reads all vectors: the matrix is ordered once, and each point starts from the last.
The two agree to 1e-9 of the largest current (tests/unit/spice/test_strategy.py).

Milliseconds a vector, loading included, sinh tiles of 1 - 100 uS with 1 ohm wires, signed inputs, 2-core x86-64:

    tile (vectors)   8x8 (256)  16x16 (256)  32x32 (64)  64x64 (16)  128x128 (4)
    alter, KLU            1.5          4.9          35         204         1950
    sweep, KLU           0.23          1.0          12         110         1200
    alter, Sparse         1.1                      140
    sweep, Sparse        0.32                       31

From two vectors on the sweep wins at every size: `op` builds and orders its matrix afresh each time, a sweep does so
once. The `alter` commands themselves are 1 % of the time at 32x32, 9 % at 8x8, in whichever of their spellings.

Where the time of one deck goes, milliseconds of a quiet processor, 32x32 sinh tile, 16 vectors, KLU, 65 iterations:

    loading 38       24 with the cells written out by us (flatten.py), of which half is ngspice's parser
    sweep   124      107 so: factors 45, B sources 40 (memory-bound: 1024 trees of 30 nodes), convergence test and rest
    parent  30       15: making the deck and checking its text as a whole 9, writing the cells out 6

Tried without gain: two opposite diodes for a sinh cell, exact for |a V| <= 3 (side by side 168 ms a sweep as B sources
and 165 as diodes: the entries of the matrix are the cost, not the exponential); other spellings of the sinh (one
voltage or a difference of two, the factor inside or outside); reltol 1e-6 (as many iterations), 1e-5 and more (fewer,
but errors of 1e-6); huge pages, a larger heap and no thread cache in malloc; eight orders of the elements (by name is
near the best, and some do not converge). Linear cells of the same tile take 23 + 47 ms and 33 iterations.
A B source's expression cannot be altered, so that new conductances need a new circuit.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mdls_cosim.spice.deck import TOLERANCES, Deck
from mdls_cosim.spice.elements import RESERVED, format_number
from mdls_cosim.spice.flatten import flattened
from mdls_cosim.spice.transient import Waves, wave_text

__all__ = ["Job", "Strategy", "chosen", "jobs", "relaxed", "started", "transient", "vectors"]

Strategy = Literal["alter", "sweep"]

# One job takes at most so many vectors, and fewer of a large circuit (elements times vectors), so that the deadline
# of a job stays meaningful: 64 vectors of a 64x64 tile take some 6 s, their loading 0.2 s.
MOST_VECTORS = 256
MOST_WORK = 800_000

_INDEX = f"{RESERVED}index"


@dataclass(frozen=True)
class Job:
    """What a worker does at one go: the rows from `start` to `stop` of the values."""

    start: int
    stop: int
    header: dict[str, Any]


def chosen(deck: Deck, count: int) -> Strategy:
    """The faster strategy for this deck and number of vectors."""
    return "sweep" if count > 1 and deck.sources else "alter"


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
        result.append(Job(start, stop, header))
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
        "circuit": deck.assembled(elements, _save(deck, {}, marker), klu, deck.transient_options(waves)),
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
        declared, plus, minus, _ = deck.by_name[name.lower()].split()
        if (column == column[0]).all():
            lines[name.lower()] = f"{declared} {plus} {minus} {format_number(column[0])}"
        else:
            replaced[name.lower()] = f"b{RESERVED}{name.lower()}"
            points = ",".join(f"{k},{format_number(value)}" for k, value in enumerate(column))
            lines[name.lower()] = f"B{RESERVED}{declared} {plus} {minus} v=pwl(v({marker}),{points})"
    elements = flattened((lines.get(name, line) for name, line in deck.by_name.items()), deck.models)
    extra = f"V{marker} {marker} 0 0"
    return {
        "kind": "sweep",
        "circuit": deck.assembled((*elements, extra), _save(deck, replaced, marker), klu),
        "command": f"dc v{marker} 0 {len(values) - 1} 1",
        "vectors": [_output_name(name, replaced) for name in vectors(deck)],
        "marker": {"name": marker, "values": list(range(len(values)))},
    }


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
