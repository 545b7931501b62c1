"""Ohmic tiles: the block elimination against an independent sparse solve of all nodes."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kirchhoff import Tile

from mdls_cosim.devices import Ohmic
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.tiles import TileSpec

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
SUBSETS = [subset for count in range(5) for subset in combinations(FOUR, count)]
ONE_ZERO = [(), *((name,) for name in FOUR), FOUR]

# Of every single effective conductance: the elimination adds and multiplies positive numbers only, so nothing cancels.
TOLERANCE = 1e-12
NOTHING = 1e-24  # [S], rounding in the reference where no path exists


def effective(spec: TileSpec, conductances: np.ndarray) -> np.ndarray:
    return NodalTile(spec).program(torch.as_tensor(conductances)).effective_conductances.numpy()


def assert_exact(spec: TileSpec, conductances: np.ndarray) -> None:
    expected = Tile.of(spec).effective_conductances(conductances)
    np.testing.assert_allclose(effective(spec, conductances), expected, rtol=TOLERANCE, atol=NOTHING)


@pytest.mark.parametrize("zero", SUBSETS, ids=lambda names: "+".join(name[:3] for name in names) or "none")
@pytest.mark.parametrize("shape", [(2, 3), (8, 8), (5, 2), (1, 4), (4, 1), (1, 1)], ids=str)
def test_any_of_the_four_resistances_may_be_zero(shape, zero, tile_spec, draw_tile):
    assert_exact(tile_spec(*shape, zero), draw_tile(shape, 1))


@pytest.mark.parametrize("zero", ONE_ZERO, ids=lambda names: "+".join(name[:3] for name in names) or "none")
@pytest.mark.parametrize("shape", [(20, 48), (48, 20), (64, 64)], ids=str)
def test_larger_tiles(shape, zero, tile_spec, draw_tile):
    assert_exact(tile_spec(*shape, zero), draw_tile(shape, 2))


@pytest.mark.parametrize("zero", [(), ("column_line_resistance",)], ids=["none", "column"])
def test_128_rows_and_columns(zero, tile_spec, draw_tile):
    spec, conductances = tile_spec(128, 128, zero), draw_tile((128, 128), 3)
    some = [0, 1, 40, 63, 64, 100, 126, 127]
    expected = Tile.of(spec).solve(conductances, np.eye(128)[some]).currents
    found = effective(spec, conductances)[some]
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=NOTHING)


def test_four_decades_of_conductance(tile_spec, draw_tile):
    conductances = draw_tile((24, 17), 4, low=1e-8, high=1e-4, open_share=0.2)
    assert_exact(tile_spec(24, 17), conductances)


def test_strong_wires_beside_weak_ones(tile_spec, draw_tile):
    # From a hundredth of an ohm to cells that are no match for their wires.
    spec = tile_spec(
        16, 12, row_line_resistance=0.01, column_line_resistance=500.0, driver_resistance=1e4, sense_resistance=0.1
    )
    assert_exact(spec, draw_tile((16, 12), 5))


@pytest.mark.parametrize("zero", [(), FOUR], ids=["wires", "ideal"])
def test_a_tile_of_open_cells_conducts_nothing(zero, tile_spec):
    assert np.all(effective(tile_spec(6, 4, zero), np.zeros((6, 4))) == 0)


def test_one_closed_cell_is_a_series_circuit(tile_spec):
    # Everything else open: driver, 3 row segments, the cell, 4 column segments below row 1, sense.
    conductances = np.zeros((6, 5))
    conductances[1, 3] = 2e-3
    series = 12.0 + 3 * 1.0 + 1 / 2e-3 + 4 * 2.5 + 7.0
    expected = np.zeros((6, 5))
    expected[1, 3] = 1 / series
    np.testing.assert_allclose(effective(tile_spec(6, 5), conductances), expected, rtol=1e-13, atol=1e-18)


def test_without_wires_the_effective_conductances_are_the_conductances(tile_spec, draw_tile):
    conductances = draw_tile((7, 9), 6)
    np.testing.assert_allclose(effective(tile_spec(7, 9, FOUR), conductances), conductances, rtol=1e-14)


def test_ideal_wires_leave_each_ladder_end(tile_spec, draw_tile):
    # Ideal wires and drivers: column j is one node, I_j = sum_i V_i g_ij / (1 + r_s sum_i g_ij).
    conductances = draw_tile((7, 9), 7) * 100
    spec = tile_spec(7, 9, ("row_line_resistance", "column_line_resistance", "driver_resistance"))
    expected = conductances / (1 + 7.0 * conductances.sum(0))
    np.testing.assert_allclose(effective(spec, conductances), expected, rtol=1e-13)


def test_leading_dimensions_are_independent_tiles(tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(5, 4)
    conductances, voltages = draw_tile((2, 3, 5, 4), 8), draw_voltages((2, 3, 6, 5), 8)
    currents = NodalTile(spec).program(torch.as_tensor(conductances))(torch.as_tensor(voltages)).numpy()
    for tile in np.ndindex(2, 3):
        expected = Tile.of(spec).solve(conductances[tile], voltages[tile]).currents
        np.testing.assert_allclose(currents[tile], expected, rtol=0, atol=1e-12 * np.abs(expected).max())


resistance = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 6),
    cols=st.integers(1, 6),
    resistances=st.tuples(resistance, resistance, resistance, resistance),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_small_tile(rows, cols, resistances, seed):
    spec = TileSpec(rows=rows, cols=cols, cell=Ohmic(), **dict(zip(FOUR, resistances, strict=True)))
    generator = np.random.default_rng(seed)
    conductances = np.exp(generator.uniform(np.log(1e-8), np.log(1e-2), (rows, cols)))
    conductances[generator.random((rows, cols)) < 0.2] = 0.0
    voltages = generator.uniform(-1, 1, (3, rows))
    expected = Tile.of(spec).solve(conductances, voltages)
    programmed = NodalTile(spec).program(torch.as_tensor(conductances))
    inputs = torch.as_tensor(voltages)
    # Inputs of both signs cancel in sums over cells.
    scale = np.abs(expected.cell_currents).max()
    np.testing.assert_allclose(programmed(inputs), expected.currents, rtol=0, atol=1e-12 * scale + NOTHING)
    np.testing.assert_allclose(programmed.cell_voltages(inputs), expected.cell_voltages, rtol=0, atol=1e-12)
    power = expected.cell_power + expected.wire_power
    np.testing.assert_allclose(programmed.power(inputs), power, rtol=0, atol=1e-11 * power.max() + NOTHING)
