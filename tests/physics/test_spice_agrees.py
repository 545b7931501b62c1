"""ngspice and the exact nodal solve agree: two programs that share nothing but the circuit's definition."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import column_nets, row_nets, tile_deck

pytestmark = pytest.mark.ngspice

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
# Relative to the largest current. ngspice's tolerances for non-linear elements are looser.
AGREEMENT = {None: 1e-9, 3.0: 1e-7, 10.0: 1e-7}
ZEROS = pytest.mark.parametrize(
    "zero", [(), *((name,) for name in FOUR), FOUR], ids=lambda names: "+".join(names) or "none"
)
CELLS = pytest.mark.parametrize("nonlinearity", [None, 3.0], ids=["ohmic", "sinh"])


def assert_agree(spec, conductances, voltages, engine) -> None:
    conductances, voltages = torch.as_tensor(conductances), torch.as_tensor(voltages)
    spice = SpiceTile(spec, engine).program(conductances)(voltages)
    nodal = NodalTile(spec).program(conductances)(voltages)
    assert spice.shape == nodal.shape
    tolerance = AGREEMENT[getattr(spec.cell, "nonlinearity", None)]
    np.testing.assert_allclose(spice, nodal, rtol=0, atol=tolerance * float(nodal.abs().max()))


@ZEROS
@CELLS
@pytest.mark.parametrize("shape", [(2, 3), (8, 8), (3, 1)], ids=str)
def test_small_tiles(shape, nonlinearity, zero, engine, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(*shape, zero, nonlinearity)
    assert_agree(spec, draw_tile(shape, 1), draw_voltages((5, shape[0]), 1), engine)


@ZEROS
@CELLS
@pytest.mark.parametrize("shape", [(20, 48), (32, 32)], ids=str)
def test_larger_tiles(shape, nonlinearity, zero, engine, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(*shape, zero, nonlinearity)
    assert_agree(spec, draw_tile(shape, 2), draw_voltages((2, shape[0]), 2), engine)


@CELLS
def test_leading_dimensions(nonlinearity, engine, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(4, 5, nonlinearity=nonlinearity)
    assert_agree(spec, draw_tile((2, 3, 4, 5), 3), draw_voltages((2, 3, 4, 4), 3), engine)
    assert_agree(spec, draw_tile((2, 1, 4, 5), 3), draw_voltages((3, 4, 4), 3), engine)


def test_strong_nonlinearity_and_weak_wires(engine, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(8, 8, nonlinearity=10.0, row_line_resistance=50.0, column_line_resistance=50.0)
    assert_agree(spec, draw_tile((8, 8), 4), draw_voltages((5, 8), 4, 0.2), engine)


def test_conductances_are_those_at_the_reference_voltage(engine, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(4, 5, nonlinearity=10.0, reference_voltage=0.2)
    assert_agree(spec, draw_tile((4, 5), 5), draw_voltages((5, 4), 5), engine)


@CELLS
def test_cell_voltages_are_those_of_the_simulated_nodes(nonlinearity, engine, tile_spec, draw_tile, draw_voltages):

    spec = tile_spec(4, 5, nonlinearity=nonlinearity)
    conductances, voltages = draw_tile((4, 5), 6), draw_voltages((3, 4), 6)
    deck = tile_deck(spec, conductances)
    cells = list(np.ndindex(4, 5))
    rows, columns = row_nets(spec), column_nets(spec)
    probes = [f"v({rows[row][col]})" for row, col in cells] + [f"v({columns[col][row]})" for row, col in cells]
    nodes = engine.run(replace(deck, probes=tuple(probes)), voltages).values
    simulated = (nodes[:, :20] - nodes[:, 20:]).reshape(3, 4, 5)
    found = NodalTile(spec).program(torch.as_tensor(conductances)).cell_voltages(torch.as_tensor(voltages))
    np.testing.assert_allclose(found, simulated, rtol=0, atol=1e-8)


@ZEROS
@CELLS
def test_the_deck_runs_alone(nonlinearity, zero, tmp_path, tile_spec, draw_tile, draw_voltages):
    """Plain `ngspice -b` on the deck's text, read as a user would, against the independent reference."""
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("the ngspice library is here, the ngspice program is not")
    spec = tile_spec(3, 4, zero, nonlinearity)
    conductances, voltages = draw_tile((3, 4), 7), draw_voltages((3, 3), 7)
    file = tmp_path / "tile.cir"
    file.write_text(SpiceTile(spec).deck(conductances, voltages))
    done = subprocess.run([program, "-b", str(file)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = re.findall(r"i\(vcol(\d+)\) = (\S+)", done.stdout)
    assert [int(column) for column, _ in printed] == 3 * list(range(4))
    currents = np.array([float(value) for _, value in printed]).reshape(3, 4)
    expected = Tile.of(spec).solve(conductances, voltages).currents
    np.testing.assert_allclose(currents, expected, rtol=0, atol=AGREEMENT[nonlinearity] * np.abs(expected).max())


@CELLS
def test_an_engine_answers_the_same_however_long_it_has_run(nonlinearity, engine, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(2, 3, ("row_line_resistance",), nonlinearity)
    deck, voltages = tile_deck(spec, draw_tile((2, 3), 1)), draw_voltages((5, 2), 1)
    first = engine.run(deck, voltages).values
    for _ in range(130):
        np.testing.assert_array_equal(engine.run(deck, voltages).values, first)
