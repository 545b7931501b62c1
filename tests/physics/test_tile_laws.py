"""Laws that every tile obeys whatever its numbers: superposition, reciprocity, passivity, Kirchhoff, Rayleigh."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kirchhoff import Tile

from mdls_cosim.fidelity import NodalTile

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
CELLS = pytest.mark.parametrize("nonlinearity", [None, 5.0], ids=["ohmic", "sinh"])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), one=st.floats(-3, 3), other=st.floats(-3, 3))
def test_superposition_of_ohmic_tiles(seed, one, other, tile_spec, draw_tile, draw_voltages):
    programmed = NodalTile(tile_spec(5, 4)).program(torch.as_tensor(draw_tile((5, 4), seed)))
    first, second = torch.as_tensor(draw_voltages((2, 3, 5), seed))
    together = programmed(one * first + other * second)
    np.testing.assert_allclose(together, one * programmed(first) + other * programmed(second), rtol=0, atol=1e-16)


def test_sinh_tiles_do_not_superpose(tile_spec, draw_tile, draw_voltages):
    # Guards the test above: it would see a tile that is not linear.
    programmed = NodalTile(tile_spec(5, 4, nonlinearity=5.0)).program(torch.as_tensor(draw_tile((5, 4), 1)))
    first, second = torch.as_tensor(draw_voltages((2, 3, 5), 1))
    assert (programmed(first + second) - programmed(first) - programmed(second)).abs().max() > 1e-7


@pytest.mark.parametrize("zero", [(), *((name,) for name in FOUR)], ids=str)
@pytest.mark.parametrize("size", [3, 12])
def test_reciprocity(size, zero, tile_spec, draw_tile):
    """Driving the sense nodes and sensing at the drivers gives the transposed matrix.

    That read is the one of a tile whose rows are these columns, each beginning at its sensed end: both axes reversed
    and swapped, row and column wires swapped, drivers and sense resistances swapped. Square tiles only: of others
    NodalTile itself may compute the mirror image.
    """
    spec, conductances = tile_spec(size, size, zero), draw_tile((size, size), 2)
    backwards = spec.replace(
        row_line_resistance=spec.column_line_resistance,
        column_line_resistance=spec.row_line_resistance,
        driver_resistance=spec.sense_resistance,
        sense_resistance=spec.driver_resistance,
    )
    forth = NodalTile(spec).program(torch.as_tensor(conductances)).effective_conductances.numpy()
    mirrored = torch.as_tensor(conductances[::-1, ::-1].T.copy())
    back = NodalTile(backwards).program(mirrored).effective_conductances.numpy()
    np.testing.assert_allclose(back[::-1, ::-1].T, forth, rtol=0, atol=1e-13 * forth.max())
    # And it is not the same circuit: reversing or swapping alone gives other numbers.
    if not zero:
        assert np.abs(back.T - forth).max() > 1e-4 * forth.max()


@CELLS
@pytest.mark.parametrize("zero", [(), *((name,) for name in FOUR), FOUR], ids=str)
def test_the_power_drawn_is_the_power_dissipated(nonlinearity, zero, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(6, 5, zero, nonlinearity)
    conductances, voltages = draw_tile((6, 5), 3) * 10, draw_voltages((8, 6), 3)
    power = NodalTile(spec, tolerance=1e-12).program(torch.as_tensor(conductances)).power(torch.as_tensor(voltages))
    expected = Tile.of(spec).solve(conductances, voltages)
    np.testing.assert_allclose(power, expected.cell_power + expected.wire_power, rtol=1e-9)
    assert (expected.wire_power > 0).all() == (zero != FOUR)


@CELLS
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), wire=st.floats(0, 1e3))
def test_passivity(nonlinearity, seed, wire, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(4, 5, nonlinearity=nonlinearity, row_line_resistance=wire)
    programmed = NodalTile(spec).program(torch.as_tensor(draw_tile((4, 5), seed)))
    assert (programmed.power(torch.as_tensor(draw_voltages((6, 4), seed))) >= 0).all()


@CELLS
def test_what_the_drivers_deliver_arrives_at_the_sense_nodes(nonlinearity, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(7, 5, nonlinearity=nonlinearity)
    conductances, voltages = torch.as_tensor(draw_tile((7, 5), 4)), torch.as_tensor(draw_voltages((6, 7), 4))
    programmed = NodalTile(spec, tolerance=1e-12).program(conductances)
    over_cells = programmed.cell_voltages(voltages)
    passed = conductances * (over_cells if nonlinearity is None else (nonlinearity * over_cells).sinh() / nonlinearity)
    currents = programmed(voltages)
    scale = float(passed.abs().max())
    # Every column's cells end in its sense node, and the rows' cells in the drivers: the two sums are one.
    np.testing.assert_allclose(passed.sum(1), currents, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(passed.sum((1, 2)), currents.sum(-1), rtol=0, atol=1e-10 * scale)
    # Around the loop source - driver - row line - cell (0, 0) - column line - sense, voltages sum to zero.
    rows, columns = passed.sum(2), passed.sum(1)
    down = sum(passed[:, : above + 1, 0].sum(1) for above in range(6))  # current of each segment of column line 0
    loop = 12.0 * rows[:, 0] + over_cells[:, 0, 0] + 2.5 * down + 7.0 * columns[:, 0]
    np.testing.assert_allclose(loop, voltages[:, 0], rtol=0, atol=1e-10)
    # And to the far end of row 0, cell (0, 4), with its four segments of row line.
    along = sum(passed[:, 0, left + 1 :].sum(1) for left in range(4))
    down = sum(passed[:, : above + 1, 4].sum(1) for above in range(6))
    loop = 12.0 * rows[:, 0] + 1.0 * along + over_cells[:, 0, 4] + 2.5 * down + 7.0 * columns[:, 4]
    np.testing.assert_allclose(loop, voltages[:, 0], rtol=0, atol=1e-10)


@CELLS
def test_odd_cells_make_odd_tiles(nonlinearity, tile_spec, draw_tile, draw_voltages):
    programmed = NodalTile(tile_spec(5, 4, nonlinearity=nonlinearity)).program(torch.as_tensor(draw_tile((5, 4), 5)))
    voltages = torch.as_tensor(draw_voltages((6, 5), 5))
    np.testing.assert_allclose(programmed(-voltages), -programmed(voltages), rtol=0, atol=1e-14)
    assert (programmed(torch.zeros_like(voltages)) == 0).all()


@pytest.mark.parametrize("name", FOUR)
def test_more_resistance_never_draws_more(name, tile_spec, draw_tile, draw_voltages):
    """Rayleigh's monotonicity law: raising any resistance of an ohmic network lowers the power drawn from its sources.

    With all rows at one voltage that is the total current, too. (For other inputs the total current may rise: a
    longer wire can keep current from leaking into an undriven row.)
    """
    conductances = torch.as_tensor(draw_tile((6, 5), 6))
    voltages = torch.as_tensor(draw_voltages((6, 6), 6))
    equal = torch.full((1, 6), 0.2, dtype=torch.float64)
    powers, totals = [], []
    for value in (0.0, 0.01, 1.0, 3.0, 30.0, 1e3, 1e5):
        programmed = NodalTile(tile_spec(6, 5, **{name: value})).program(conductances)
        powers.append(programmed.power(voltages))
        totals.append(programmed(equal).sum())
    assert (torch.stack(powers).diff(dim=0) < 0).all()
    assert (torch.stack(totals).diff() < 0).all()


def test_far_corners_lose_most(tile_spec):
    # Equal cells, all rows on: the column nearest the drivers and the row nearest the sense side lose least.
    programmed = NodalTile(tile_spec(16, 16)).program(torch.full((16, 16), 5e-5, dtype=torch.float64))
    currents = programmed(torch.full((1, 16), 0.2, dtype=torch.float64))[0]
    assert (currents.diff() < 0).all()
    over_cells = programmed.cell_voltages(torch.full((1, 16), 0.2, dtype=torch.float64))[0]
    assert (over_cells.diff(dim=1) < 0).all()  # along a row line, away from its driver
    assert (over_cells.diff(dim=0) > 0).all()  # down a column line, towards the sense node
