"""The text of a tile's circuit: elements, sources and probes by name, and every refusal."""

import numpy as np
import pytest

from mdls_cosim.devices import Sinh, ThresholdSelector, Vteam
from mdls_cosim.errors import InputError, MdlsError, NotAvailable
from mdls_cosim.tiles import (
    Ends,
    LineFaults,
    SelectorCell,
    StateDeclaration,
    SubcircuitCell,
    TileSpec,
    TransimpedanceAmplifier,
    TransistorCell,
    column_nets,
    row_nets,
    tile_deck,
)

WIRES = {
    "row_line_resistance": 1.0,
    "column_line_resistance": 2.0,
    "driver_resistance": 3.0,
    "sense_resistance": 4.0,
}
G = np.full((2, 3), 1e-5)


def spec(**changes) -> TileSpec:
    return TileSpec(**{"rows": 2, "cols": 3, **WIRES, **changes})


def names(deck) -> set[str]:
    return {line.split()[0] for line in deck.elements}


def nets(deck) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:3] for line in deck.elements}


def test_a_read_by_name():
    deck = tile_deck(spec(), G)
    assert deck.sources == ("Vrow0", "Vrow1")
    assert deck.probes == ("i(vcol0)", "i(vcol1)", "i(vcol2)")
    assert set(deck.balance) == {"i(vrow0)", "i(vrow1)", "i(vcol0)", "i(vcol1)", "i(vcol2)"}
    found = nets(deck)
    assert found["Rrow1_0"] == ["row1_col0", "row1_col1"]
    assert found["Rcol2_0"] == ["col2_row0", "col2_row1"]
    assert found["Xcell1_2"] == ["row1_col2", "col2_row1"]
    assert found["Rsense1"] == ["col1_row1", "col1_sense"]
    assert len(deck.elements) == 6 + 4 + 3 + 2 + 3 + 5


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (1, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("drive", ["single", "double"])
def test_the_number_of_resistors(shape, drive):
    rows, cols = shape
    deck = tile_deck(spec(rows=rows, cols=cols, drive=drive), np.full(shape, 1e-5))
    drivers = rows * (2 if drive == "double" else 1)
    resistors = sum(name[0] == "R" for name in names(deck))
    assert resistors == rows * (cols - 1) + cols * (rows - 1) + drivers + cols


def test_ideal_wires_are_one_net():
    ideal = spec(row_line_resistance=0.0, column_line_resistance=0.0, driver_resistance=0.0, sense_resistance=0.0)
    assert row_nets(ideal) == [["row0"] * 3, ["row1"] * 3]
    assert column_nets(ideal) == [["col0"] * 2, ["col1"] * 2, ["col2"] * 2]
    assert not any(name[0] == "R" for name in names(tile_deck(ideal, G)))
    broken = LineFaults(open_rows=((1, 2), (1, 1)), open_columns=((0, 1), (0, 2)))
    assert row_nets(ideal, broken)[1] == ["row1", "row1_from1", "row1_from2"]
    assert column_nets(ideal, broken)[0] == ["col0", "col0_from1"]


def test_ends_that_float_and_drive():
    ends = Ends(("drive", "float"), ("sense", "drive", "float"))
    deck = tile_deck(spec(), G, ends=ends)
    assert deck.sources == ("Vrow0", "Vcol1")
    assert deck.probes == ("i(vcol0)", "i(vcol1)")
    assert {"Rsense1", "Rsense2", "Vrow1", "Vcol2"}.isdisjoint(names(deck))
    assert {"Rdrivercol1_0", "Rsense0", "Rdriverrow0_0"} <= names(deck)


def test_branches_of_selectors_are_sources_of_a_read_and_states_of_a_transient():
    hysteretic = spec(cell=SelectorCell(selector=ThresholdSelector()))
    read = tile_deck(hysteretic, G)
    assert read.sources[2:] == tuple(f"Vbranch{i}_{j}" for i in range(2) for j in range(3))
    moving = tile_deck(hysteretic, G, transient=True, nodes=True)
    assert moving.sources == ("Vrow0", "Vrow1")
    assert "Cbranch1_2 branch1_2 0 1n ic=0" in moving.elements
    assert "v(branch1_2)" in moving.probes


def test_states_are_held_in_a_read_and_move_in_a_transient():
    cell = Vteam(on_resistance=1e3, off_resistance=1e5)
    states = np.linspace(0.1, 0.6, 6).reshape(2, 3)
    read = tile_deck(spec(cell=cell), states=states)
    assert any(line.startswith("Vstate1_2 state1_2 0 0.59999999999999998") for line in read.elements)
    moving = tile_deck(spec(cell=cell), states=states, transient=True, nodes=True, speeds=np.full((2, 3), 1.5))
    (line,) = [line for line in moving.elements if line.startswith("Cstate0_0 ")]
    assert line == "Cstate0_0 state0_0 0 1n ic=0.10000000000000001"
    assert "v(state1_2)" in moving.probes
    assert all("speed=1.5" in line for line in moving.elements if line.startswith("Xcell"))


def test_capacitances_are_there_in_a_transient_alone():
    filled = spec(row_line_capacitance=1e-15, column_line_capacitance=2e-15, cell_capacitance=3e-15)
    assert not any(name[0] == "C" for name in names(tile_deck(filled, G)))
    deck = tile_deck(filled, G, transient=True)
    values = [float(line.split()[3]) for line in deck.elements if line[0] == "C"]
    assert sorted(values) == [1e-15] * 6 + [2e-15] * 6 + [3e-15] * 6
    assert "i(vsubstrate)" in deck.balance


def test_an_amplifier_is_probed_at_its_output():
    deck = tile_deck(spec(amplifier=TransimpedanceAmplifier()), G)
    assert deck.probes == tuple(probe for j in range(3) for probe in (f"i(vcol{j})", f"v(col{j}_out)"))
    assert "transimpedance" in tile_deck(spec(amplifier=TransimpedanceAmplifier()), G, transient=True).models


def test_temperature_scales_wires_and_not_ends():
    deck = tile_deck(spec(temperature=400.0, wire_temperature_coefficient=0.004), G)
    values = {line.split()[0]: float(line.split()[3]) for line in deck.elements if line[0] == "R"}
    assert values["Rrow0_0"] == pytest.approx(1.4)
    assert values["Rcol0_0"] == pytest.approx(2.8)
    assert values["Rdriverrow0_0"] == 3.0
    assert values["Rsense0"] == 4.0
    assert deck.temperature == 400.0


OWN = ".subckt own p n g=1\nRown p n {g}\n.ends own\n"
STATE = SubcircuitCell(subcircuit="own", text=OWN, state=StateDeclaration(parameter="g"))
RESISTIVE = SubcircuitCell(subcircuit="own", text=OWN, state=StateDeclaration(parameter="g", quantity="resistance"))


@pytest.mark.parametrize(
    ("changes", "arguments", "error", "message"),
    [
        ({}, {}, InputError, "conductances or of states"),
        ({}, {"conductances": G, "states": G}, InputError, "conductances or of states"),
        ({}, {"conductances": G.T}, InputError, "wrong shape"),
        ({}, {"conductances": G[None]}, InputError, "wrong shape"),
        ({}, {"states": G[:1]}, InputError, "states have the wrong shape"),
        ({}, {"conductances": -G}, InputError, "row 0, column 0"),
        ({}, {"conductances": G * np.array([1, 1, np.nan])}, InputError, "row 0, column 2"),
        ({}, {"conductances": G * np.inf}, InputError, "finite"),
        ({"cell": Vteam()}, {"states": G * np.nan}, InputError, "states are not finite"),
        ({"cell": Vteam()}, {"conductances": 0 * G}, InputError, "no state of vteam"),
        ({"cell": RESISTIVE}, {"conductances": 0 * G}, InputError, "no resistance of .*above 0 S"),
        ({"cell": STATE}, {"conductances": G}, NotAvailable, "measuring"),
        ({}, {"conductances": G, "gates": [1.0, 1.0]}, InputError, "cells without a gate"),
        ({"cell": TransistorCell()}, {"conductances": G, "gates": [1.0]}, InputError, "one a row"),
        ({}, {"conductances": G, "speeds": G}, InputError, "does not move"),
        ({}, {"conductances": G, "ends": Ends(("drive",), ("sense",) * 3)}, InputError, "ends of another tile"),
        ({}, {"conductances": G, "ends": Ends(("float",) * 2, ("sense",) * 3)}, InputError, "nothing drives"),
        ({}, {"conductances": G, "faults": LineFaults(open_rows=((2, 0),))}, InputError, "open_rows"),
        ({}, {"conductances": G, "faults": LineFaults(open_rows=((0, 3),))}, InputError, "open_rows"),
        ({}, {"conductances": G, "faults": LineFaults(open_rows=((0, -1),))}, InputError, "open_rows"),
        ({"drive": "double"}, {"conductances": G, "faults": LineFaults(open_rows=((0, 4),))}, InputError, "open_rows"),
        ({}, {"conductances": G, "faults": LineFaults(open_columns=((0, 0),))}, InputError, "open_columns"),
        ({}, {"conductances": G, "faults": LineFaults(open_columns=((0, 3),))}, InputError, "open_columns"),
        ({}, {"conductances": G, "faults": LineFaults(open_columns=((3, 1),))}, InputError, "open_columns"),
        ({}, {"conductances": G, "faults": LineFaults(shorted_rows=((1, 0),))}, InputError, "shorted_rows"),
        ({}, {"conductances": G, "faults": LineFaults(shorted_columns=((2, 0),))}, InputError, "shorted_columns"),
        ({}, {"conductances": G, "faults": LineFaults(short_resistance=0.0)}, InputError, "short_resistance"),
        ({}, {"conductances": G, "faults": LineFaults(short_resistance=np.inf)}, InputError, "short_resistance"),
        (
            {"drive": "double", "driver_resistance": 0.0, "row_line_resistance": 0.0},
            {"conductances": G, "faults": LineFaults(open_rows=((0, 1),))},
            NotAvailable,
            "driver_resistance",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, arguments, error, message):
    with pytest.raises(error, match=message):
        tile_deck(spec(**changes), **arguments)


@pytest.mark.parametrize(
    "ends",
    [
        Ends(("drive", "sense"), ("sense",) * 3),  # pyright: ignore[reportArgumentType]
        Ends(("drive", "drive"), ("sense", "sense", "grounded")),  # pyright: ignore[reportArgumentType]
    ],
    ids=["row sensed", "column grounded"],
)
def test_an_end_that_does_not_exist_is_refused(ends):
    """Not left floating without a word."""
    with pytest.raises(MdlsError):
        tile_deck(spec(), G, ends=ends)


@pytest.mark.parametrize("speeds", [np.ones(2), np.full((2, 3), -1.0), np.full((2, 3), np.nan), np.zeros((2, 2, 3))])
def test_speeds_that_cannot_be_are_refused(speeds):
    with pytest.raises(MdlsError):
        tile_deck(spec(cell=Vteam()), np.full((2, 3), 1e-4), speeds=speeds)


def test_speeds_of_a_users_cell_are_not_lost():
    cell = SubcircuitCell(
        subcircuit="own",
        text=OWN.replace("p n g=1", "p n x"),
        pins=("row", "column", "state"),
        state=StateDeclaration(),
    )
    with pytest.raises(MdlsError):
        tile_deck(spec(cell=cell), states=G, speeds=np.full((2, 3), 2.0), transient=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gates_that_are_no_numbers_are_refused(value):
    with pytest.raises(MdlsError):
        tile_deck(spec(cell=TransistorCell()), G, gates=[1.0, value])


def test_every_fault_at_its_limits_is_taken():
    faults = LineFaults(((0, 0), (1, 3)), ((2, 1), (0, 2)), ((0, 0), (0, 2)), ((1, 1), (0, 0)))
    deck = tile_deck(spec(drive="double", cell=Sinh()), G, faults=faults)
    assert {"Rbridgerow0_0", "Rbridgerow0_2", "Rbridgecol1_1", "Rbridgecol0_0"} <= names(deck)
    assert "Rdriverrow0_0" in names(deck)
    assert "Rcol2_0" not in names(deck)
