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

from mdls_cosim.devices import ThresholdSelector
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

# Where the small-signal limit of a user's subcircuit is measured [V].
_SMALL = 1e-4
_MOST_BRANCH_STEPS = 50


def programmed(engine: Engine, tile: TileSpec, conductances: ArrayLike) -> dict[str, Any]:
    """How `tile_deck` is told these conductances (rows, cols) [S]: `conductances=` itself, or `states=` found for them.

    The state of a user's subcircuit is found in ngspice, at the tile's reference voltage, by regula falsi.

    Raises:
        InputError: a conductance that the declared range of the state does not reach.
    """
    given = np.asarray(conductances, dtype=np.float64)
    cell = tile.cell
    if not isinstance(cell, SubcircuitCell) or cell.state.quantity != "state":
        return {"conductances": given}
    wanted, places = np.unique(given, return_inverse=True)
    low, high = (np.full(len(wanted), end) for end in (cell.state.lowest, cell.state.highest))
    at_low, at_high = (cell_conductances(engine, tile, ends) for ends in (low, high))
    reached = np.minimum(at_low, at_high), np.maximum(at_low, at_high)
    out = (wanted < reached[0] * (1 - 1e-9)) | (wanted > reached[1] * (1 + 1e-9))
    if out.any():
        raise InputError(
            f"{np.count_nonzero(out)} conductances that no state of {cell.subcircuit} has",
            value=f"{wanted[out][0]:.6g} S",
            limit=f"{reached[0].min():.6g} to {reached[1].max():.6g} S",
            hint="Change conductance_range, or state.lowest and state.highest in the declaration of the cell.",
        )
    state = low
    miss_low, miss_high = np.log(at_low / wanted), np.log(at_high / wanted)
    for _ in range(100):
        span = miss_high - miss_low
        state = np.where(span == 0, low, (low * miss_high - high * miss_low) / np.where(span == 0, 1, span))
        miss = np.log(cell_conductances(engine, tile, state) / wanted)
        if np.abs(miss).max() < 1e-12 or np.abs(high - low).max() < 1e-15:
            break
        left = np.sign(miss) == np.sign(miss_low)
        # Illinois: an end that stays gives half its weight, else one end would never move.
        low, miss_low = np.where(left, state, low), np.where(left, miss, miss_low / 2)
        high, miss_high = np.where(left, high, state), np.where(left, miss_high / 2, miss)
    return {"states": state[places].reshape(given.shape)}


def cell_conductances(engine: Engine, tile: TileSpec, states: Floats) -> Floats:
    """I/V of single cells in these states (cells,) at the reference voltage [S]: one row, a column a cell."""
    row = tile.bare(1, len(states))
    voltages = [tile.reference_voltage] if tile.reference_voltage else [_SMALL, -_SMALL]
    deck = tile_deck(row, states=states[None])
    currents = engine.run(deck, np.array(voltages)[:, None]).values
    return (currents / np.array(voltages)[:, None]).mean(axis=0)


@dataclass(frozen=True)
class Solution:
    """Operating points of a tile under given voltages of its driven ends.

    result: what the deck's probes are
    on:     (vectors, rows, cols), the branches of selectors with hysteresis; all False without
    """

    tile: TileSpec
    result: OperatingPoints
    on: NDArray[np.bool_]

    def measured(self, columns: Sequence[int]) -> Floats:
        """What the sense side says of the column currents (vectors, len(columns)) [A]."""
        return measured_currents(self.tile, self.result, columns)

    def line_voltages(self) -> tuple[Floats, Floats]:
        """Row and column line voltages at every cell, each (vectors, rows, cols) [V]; needs `nodes=True`."""
        return line_voltages(self.tile, self.result)


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
        return Solution(tile, result, np.zeros(shape, dtype=bool))
    deck = tile_deck(tile, **state, **options, nodes=True)
    branch = np.zeros(shape)
    for _ in range(_MOST_BRANCH_STEPS):
        result = engine.run(deck, np.concatenate([given, branch.reshape(len(given), -1)], axis=1))
        middle = [f"v(mid{row}_{col})" for row in range(tile.rows) for col in range(tile.cols)]
        columns = line_voltages(tile, result)[1]
        settled = tile.cell.selector.consistent_branch(result.columns(middle).reshape(shape) - columns, branch)
        if np.array_equal(settled, branch):
            return Solution(tile, result, branch > 0)
        branch = settled
    raise SpiceNoConvergence(
        "the selectors find no branches that fit their voltages",
        where=deck.title,
        value=f"{len(given)} vectors",
        limit=f"{_MOST_BRANCH_STEPS} rounds",
        hint="A selector whose load line has no stable point oscillates; run it as a transient.",
    )


def line_voltages(tile: TileSpec, result: OperatingPoints | Waveforms) -> tuple[Floats, Floats]:
    """Row and column line voltages at every cell, each (points, rows, cols) [V], of a deck made with `nodes=True`."""
    row_wires, column_wires = row_nets(tile), column_nets(tile)
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
    return device.thermal_factor(tile.temperature) * device.current(voltages[:, :, None], states).sum(axis=1)
