"""Cells: what they are made of, and what they refuse. A user's files have tests/physics/test_users_cells.py."""

import numpy as np
import pytest

from mdls_cosim.devices import ExponentialSelector, Nmos, Ohmic, Sinh, ThresholdSelector, Vteam
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.tiles import (
    SelectorCell,
    StateDeclaration,
    SubcircuitCell,
    TileSpec,
    TransimpedanceAmplifier,
    TransistorCell,
)
from mdls_cosim.tiles.cells import hysteretic, memristor, selector_of

OWN = ".subckt own p n g=1e-6\nGown p n p n {g}\n.ends own\n"
USERS = SubcircuitCell(subcircuit="own", text=OWN, state=StateDeclaration(parameter="g", quantity="conductance"))


@pytest.mark.parametrize(
    ("cell", "device", "selector", "branches"),
    [
        (Sinh(), Sinh(), None, False),
        (SelectorCell(device=Vteam()), Vteam(), ExponentialSelector(), False),
        (SelectorCell(selector=ThresholdSelector()), Ohmic(), ThresholdSelector(), True),
        (TransistorCell(device=Sinh()), Sinh(), None, False),
        (USERS, None, None, False),
    ],
    ids=lambda value: getattr(value, "model", None),
)
def test_what_a_cell_is_made_of(cell, device, selector, branches):
    assert memristor(cell) == device
    assert selector_of(cell) == selector
    assert hysteretic(cell) is branches
    assert TileSpec(rows=1, cols=1, cell=cell).device == device


@pytest.mark.parametrize("cell", [Ohmic(), Vteam(), SelectorCell(), TransistorCell(), USERS], ids=lambda c: c.model)
def test_a_cell_is_a_value(cell):
    spec = TileSpec(rows=1, cols=1, cell=cell)
    assert TileSpec(**spec.as_dict()) == spec
    assert type(TileSpec(**spec.as_dict()).cell) is type(cell)


@pytest.mark.parametrize(
    "changes",
    [
        {"cell": {"model": "selector", "selector": {"model": "magic"}}},
        {"cell": {"model": "selector", "device": {"model": "selector"}}},
        {"cell": {"model": "transistor", "transistor": {"width": 0.0}}},
        {"cell": {"model": "selector", "selector": {"model": "threshold", "hold_voltage": 2.0}}},
        {"drive": "triple"},
        {"amplifier": {"gain": 0.0}},
        {"amplifier": {"gain": float("inf")}},
        {"cell_capacitance": -1e-15},
        {"temperature": 0.0},
        {"rows": 0},
    ],
    ids=str,
)
def test_impossible_tiles_are_refused(changes):
    with pytest.raises(ConfigError):
        TileSpec(**{"rows": 1, "cols": 1, **changes})


def test_a_bare_tile_keeps_its_cells_and_nothing_else():
    spec = TileSpec(
        rows=3,
        cols=3,
        cell=Sinh(),
        row_line_resistance=1.0,
        column_line_resistance=1.0,
        driver_resistance=1.0,
        sense_resistance=1.0,
        drive="double",
        amplifier=TransimpedanceAmplifier(),
        row_line_capacitance=1e-15,
        column_line_capacitance=1e-15,
        cell_capacitance=1e-15,
        reference_voltage=0.2,
        temperature=350.0,
    )
    expected = TileSpec(rows=2, cols=5, cell=Sinh(), reference_voltage=0.2, temperature=350.0)
    assert spec.bare(2, 5) == expected


def test_the_conductance_of_a_vteam_has_its_ends():
    """Below 1/R_off, above 1/R_on there is no state; one beyond the ends would move the wrong way."""
    from mdls_cosim.tiles import tile_deck

    spec = TileSpec(rows=1, cols=2, cell=Vteam(on_resistance=1e3, off_resistance=1e5))
    tile_deck(spec, [[1e-5, 1e-3]])
    for outside in (9e-6, 1.1e-3, 0.0):
        with pytest.raises(InputError, match="no state"):
            tile_deck(spec, [[1e-4, outside]])


def test_numbers_of_a_transistor_reach_the_deck():
    from mdls_cosim.tiles import tile_deck

    cell = TransistorCell(transistor=Nmos(threshold_voltage=0.4, body_effect=0.3), gate_voltage=1.1)
    lines = tile_deck(TileSpec(rows=2, cols=1, cell=cell), np.full((2, 1), 1e-5), gates=[1.1, 0.0]).elements
    assert {"Vgate0 gate0 0 1.1000000000000001", "Vgate1 gate1 0 0", "Vbulk bulk 0 0"} <= set(lines)
    (fet,) = [line for line in lines if line.startswith("Xfet1_0 ")]
    assert fet.split()[:6] == ["Xfet1_0", "mid1_0", "gate1", "col0", "bulk", "nmos1"]
    assert {"vto=0.40000000000000002", "gamma=0.29999999999999999"} <= set(fet.split())
