"""Solving tiles in ngspice: what every experiment does between a tile and its numbers.

Programming a user's subcircuit to a conductance, finding the branches of selectors with hysteresis, and reading
voltages of lines and cells out of a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdls_cosim.devices import ROOM_TEMPERATURE, ThresholdSelector
from mdls_cosim.errors import InputError, SpiceNoConvergence
from mdls_cosim.spice import Engine, OperatingPoints, Waveforms
from mdls_cosim.tiles import (
    Ends,
    LineFaults,
    SelectorCell,
    SubcircuitCell,
    TileSpec,
    column_nets,
    measured_currents,
    row_nets,
    tile_deck,
)

Floats = NDArray[np.float64]

SMALL_VOLTAGE = 1e-4
"""Where the small-signal limit of a user's subcircuit is measured [V]."""
_MOST_BRANCH_STEPS = 50


def programmed(engine: Engine, tile: TileSpec, conductances: ArrayLike) -> dict[str, Any]:
    """How `tile_deck` is told these conductances (rows, cols) [S]: `conductances=` itself, or `states=` found for them.

    The state of a user's subcircuit is found in ngspice, at the tile's reference voltage and 300 K.

    Raises:
        InputError: a conductance that the declared range of the state does not reach, or jumps over.
    """
    given = np.asarray(conductances, dtype=np.float64)
    cell = tile.cell
    if not isinstance(cell, SubcircuitCell) or cell.state.quantity != "state":
        return {"conductances": given}
    engine = preliminary(engine)
    wanted, places = np.unique(given, return_inverse=True)
    low, high = (np.full(len(wanted), end) for end in (cell.state.lowest, cell.state.highest))
    ends = cell_conductances(engine, tile, np.array([cell.state.lowest, cell.state.highest]))
    out = (wanted < ends.min() * (1 - 1e-9)) | (wanted > ends.max() * (1 + 1e-9))
    if out.any():
        raise InputError(
            f"{np.count_nonzero(out)} conductances that no state of {cell.subcircuit} has",
            value=f"{wanted[out][0]:.6g} S",
            limit=f"{ends.min():.6g} to {ends.max():.6g} S",
            hint="Change conductance_range, or state.lowest and state.highest in the declaration of the cell.",
        )

    def miss(states: Floats, targets: Floats) -> Floats:
        return cell_conductances(engine, tile, states.ravel()).reshape(states.shape) / targets - 1

    targets = np.clip(wanted, ends.min(), ends.max())
    # At G = 0 the ratio has no meaning; what conducts nothing is then an end of the range itself.
    searched = targets > 0
    states = np.where(ends[0] <= ends[1], low, high)
    if searched.any():
        from scipy.optimize import elementwise  # slow to import, and needed for these cells alone

        bracket = (low[searched], high[searched])
        tolerances = {"xatol": 0.0, "xrtol": 1e-13, "fatol": 1e-10, "frtol": 0.0}
        found = elementwise.find_root(miss, bracket, args=(targets[searched],), tolerances=tolerances, maxiter=80)
        states[searched] = found.x
        missed = np.abs(np.asarray(found.f_x))
        if not (missed < 1e-6).all():
            raise InputError(
                f"the conductance of {cell.subcircuit} jumps over its state",
                value=f"{targets[searched][missed.argmax()]:.6g} S, missed by {missed.max():.2g}",
                limit="a conductance that follows the state without gaps",
                hint="Check the cell's I-V against its state, or keep conductance_range off the gap.",
            )
    return {"states": states[places].reshape(given.shape)}


def preliminary(engine: Engine) -> Engine:
    """The engine for simulations that only prepare a deck: `engine.preliminary` where it has one, else itself."""
    return getattr(engine, "preliminary", engine)


def cell_conductances(engine: Engine, tile: TileSpec, states: Floats, second_states: Floats | None = None) -> Floats:
    """I/V of single cells in these states (cells,) at the reference voltage and 300 K [S]: one row, a column a cell."""
    row = tile.bare(1, len(states)).replace(temperature=ROOM_TEMPERATURE)
    voltages = [tile.reference_voltage] if tile.reference_voltage else [SMALL_VOLTAGE, -SMALL_VOLTAGE]
    second = None if second_states is None else second_states[None]
    deck = tile_deck(row, states=states[None], second_states=second)
    currents = engine.run(deck, np.array(voltages)[:, None]).values
    return (currents / np.array(voltages)[:, None]).mean(axis=0)


@dataclass(frozen=True)
class Solution:
    """Operating points of a tile under given voltages of its driven ends.

    result: what the deck's probes are
    on:     (vectors, rows, cols), the branches of selectors with hysteresis; all False without
    faults: those of the deck
    """

    tile: TileSpec
    result: OperatingPoints
    on: NDArray[np.bool_]
    faults: LineFaults | None = None

    def measured(self, columns: Sequence[int]) -> Floats:
        """What the sense side says of the column currents (vectors, len(columns)) [A]."""
        return measured_currents(self.tile, self.result, columns)

    def line_voltages(self) -> tuple[Floats, Floats]:
        """Row and column line voltages at every cell, each (vectors, rows, cols) [V]; needs `nodes=True`."""
        return line_voltages(self.tile, self.result, self.faults)


def solve(
    engine: Engine,
    tile: TileSpec,
    conductances: ArrayLike,
    voltages: ArrayLike,
    *,
    ends: Ends | None = None,
    faults: LineFaults | None = None,
    gates: Sequence[float] | None = None,
    nodes: bool = False,
) -> Solution:
    """Operating points of a tile programmed to `conductances` (rows, cols) [S].

    Selectors with hysteresis start off; those beyond their threshold switch on, those below the hold voltage off,
    until every branch fits its voltage: the quasi-static power-up.

    Args:
        voltages: (vectors, driven rows then driven columns) [V].
        ends, faults, gates, nodes: see `tile_deck`.

    Raises:
        SpiceNoConvergence: ngspice found no operating point, or the branches found none.
    """
    given = np.atleast_2d(np.asarray(voltages, dtype=np.float64))
    options: dict[str, Any] = {"ends": ends, "faults": faults, "gates": gates}
    state = programmed(engine, tile, conductances)
    shape = (len(given), tile.rows, tile.cols)
    if not (isinstance(tile.cell, SelectorCell) and isinstance(tile.cell.selector, ThresholdSelector)):
        result = engine.run(tile_deck(tile, **state, **options, nodes=nodes), given)
        return Solution(tile, result, np.zeros(shape, dtype=bool), faults)
    deck = tile_deck(tile, **state, **options, nodes=True)
    branch = np.zeros(shape)
    searching = preliminary(engine)
    for _ in range(_MOST_BRANCH_STEPS):
        driven = np.concatenate([given, branch.reshape(len(given), -1)], axis=1)
        result = searching.run(deck, driven)
        middle = [f"v(mid{row}_{col})" for row in range(tile.rows) for col in range(tile.cols)]
        columns = line_voltages(tile, result, faults)[1]
        settled = tile.cell.selector.consistent_branch(result.columns(middle).reshape(shape) - columns, branch)
        if np.array_equal(settled, branch):
            if searching is not engine:
                result = engine.run(deck, driven)
            return Solution(tile, result, branch > 0, faults)
        branch = settled
    raise SpiceNoConvergence(
        "the selectors find no branches that fit their voltages",
        where=deck.title,
        value=f"{len(given)} vectors",
        limit=f"{_MOST_BRANCH_STEPS} rounds",
        hint="A selector whose load line has no stable point oscillates; run it as a transient.",
    )


def line_voltages(
    tile: TileSpec, result: OperatingPoints | Waveforms, faults: LineFaults | None = None
) -> tuple[Floats, Floats]:
    """Row and column line voltages at every cell, each (points, rows, cols) [V], of a deck made with `nodes=True`."""
    row_wires, column_wires = row_nets(tile, faults), column_nets(tile, faults)
    cells = [(row, col) for row in range(tile.rows) for col in range(tile.cols)]
    rows = result.columns([f"v({row_wires[row][col]})" for row, col in cells])
    columns = result.columns([f"v({column_wires[col][row]})" for row, col in cells])
    shape = (-1, tile.rows, tile.cols)
    return rows.reshape(shape), columns.reshape(shape)


def ideal_currents(tile: TileSpec, conductances: Floats, voltages: Floats) -> Floats:
    """Column currents (vectors, cols) [A] of the bare devices at the full row voltages (vectors, rows) [V].

    What a tile without wires, ends, selectors and transistors would give. Not for a user's subcircuit.
    """
    device = tile.device
    assert device is not None
    states = np.asarray(device.state_for(conductances, tile.reference_voltage))
    return device.current(voltages[:, :, None], states, tile.temperature).sum(axis=1)
