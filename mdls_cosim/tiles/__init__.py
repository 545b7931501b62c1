"""Tiles: the crossbar as a circuit, and as a SPICE deck."""

from mdls_cosim.tiles.cells import (
    AnyCell,
    SecondState,
    SelectorCell,
    StateDeclaration,
    SubcircuitCell,
    TransistorCell,
    gate_voltage,
    hysteretic,
)
from mdls_cosim.tiles.deck import (
    ColumnEnd,
    Ends,
    LineFaults,
    RowEnd,
    column_nets,
    driver_resistance,
    measured_currents,
    row_nets,
    tile_deck,
)
from mdls_cosim.tiles.spec import RESISTANCES, TileSpec, TransimpedanceAmplifier, per_line

__all__ = [
    "RESISTANCES",
    "AnyCell",
    "ColumnEnd",
    "Ends",
    "LineFaults",
    "RowEnd",
    "SecondState",
    "SelectorCell",
    "StateDeclaration",
    "SubcircuitCell",
    "TileSpec",
    "TransimpedanceAmplifier",
    "TransistorCell",
    "column_nets",
    "driver_resistance",
    "gate_voltage",
    "hysteretic",
    "measured_currents",
    "per_line",
    "row_nets",
    "tile_deck",
]
