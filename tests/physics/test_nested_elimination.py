"""The nested elimination: odd sizes, unequal lines, extreme wires, two drivers, float32, transposed reads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kirchhoff import Tile
from network import Network, column_currents, crossbar

from mdls_cosim.devices import Ohmic
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.fidelity import NodalTile, SpiceTile, nested
from mdls_cosim.fidelity.elimination import Wires, factorise
from mdls_cosim.fidelity.nested import transfer
from mdls_cosim.tiles import TileSpec

NAMES = ("row_line", "column_line", "driver", "sense")
WIRES = dict(zip(NAMES, (1.0, 2.5, 12.0, 7.0), strict=True))
TOLERANCE = 1e-12  # of every single effective conductance
NOTHING = 1e-24  # [S], rounding in the reference where no path exists


def nested_conductances(conductances: np.ndarray, **wires) -> np.ndarray:
    return nested.effective_conductances(torch.as_tensor(conductances), Wires(**wires)).numpy()


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), cols=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_any_number_of_lines(rows, cols, seed):
    generator = np.random.default_rng(seed)
    conductances = np.exp(generator.uniform(np.log(1e-7), np.log(1e-3), (rows, cols)))
    conductances[generator.random((rows, cols)) < 0.2] = 0.0
    expected = Tile(rows, cols, **WIRES).effective_conductances(conductances)
    np.testing.assert_allclose(nested_conductances(conductances, **WIRES), expected, rtol=TOLERANCE, atol=NOTHING)


# Below 1e-6 ohm the reference's own rounding, in wire conductances beside those of cells, is seen.
@pytest.mark.parametrize("wire", [0.0, 1e-6, 100.0])
@pytest.mark.parametrize(("rows", "cols"), [(100, 130), (256, 256)], ids=str)
def test_tiny_and_huge_wires(rows, cols, wire, draw_tile):
    wires = {"row_line": wire, "column_line": wire, "driver": 10.0, "sense": wire}
    conductances, some = draw_tile((rows, cols), 1), [0, rows // 2, rows - 1]
    expected = Tile(rows, cols, **wires).solve(conductances, np.eye(rows)[some]).currents
    found = nested_conductances(conductances, **wires)[some]
    # At 100 ohm the far corner's own current is 1e-12 of the near one's, far below the reference's own residual.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-17 * expected.max())


def test_wires_next_to_nothing_are_next_to_none(draw_tile):
    conductances = draw_tile((64, 70), 11)
    wires = {"row_line": 1e-14, "column_line": 1e-14, "driver": 10.0, "sense": 1e-14}
    expected = nested_conductances(conductances, **dict.fromkeys(NAMES, 0.0) | {"driver": 10.0})
    np.testing.assert_allclose(nested_conductances(conductances, **wires), expected, rtol=1e-12, atol=1e-18)


def unequal(rows: int, cols: int) -> dict[str, np.ndarray]:
    """Every segment and end its own resistance, some of them zero."""
    generator = np.random.default_rng([rows, cols])

    def draw(*shape: int) -> np.ndarray:
        return np.where(generator.random(shape) < 0.2, 0.0, generator.uniform(0.1, 50.0, shape))

    return {
        "row_line": draw(rows, cols - 1),
        "column_line": draw(rows - 1, cols),
        "driver": draw(rows),
        "sense": draw(cols),
    }


def reference(conductances: np.ndarray, wires: dict[str, np.ndarray], held_rows, held_cols) -> Network:
    """A network of such wires under given voltages of drivers and sense nodes."""
    network = Network()
    rows, cols = conductances.shape
    for i in range(rows):
        network.hold(("row", i), float(held_rows[i]))
        network.resistor(("row", i), ("u", i, 0), float(wires["driver"][i]))
        for j in range(cols - 1):
            network.resistor(("u", i, j), ("u", i, j + 1), float(wires["row_line"][i, j]))
    for j in range(cols):
        network.hold(("col", j), float(held_cols[j]))
        network.resistor(("col", j), ("v", rows - 1, j), float(wires["sense"][j]))
        for i in range(rows - 1):
            network.resistor(("v", i, j), ("v", i + 1, j), float(wires["column_line"][i, j]))
        for i in range(rows):
            network.conductor(("u", i, j), ("v", i, j), float(conductances[i, j]))
    return network


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (9, 7), (7, 13)], ids=str)
def test_lines_with_different_segment_resistances(shape, draw_tile):
    conductances, wires = draw_tile(shape, 2, 1e-5, 1e-3), unequal(*shape)
    expected = []
    for row in np.eye(shape[0]):
        solved = reference(conductances, wires, row, np.zeros(shape[1])).solve()
        expected.append([-solved.delivered(("col", j)) for j in range(shape[1])])
    tensors = {name: torch.as_tensor(each) for name, each in wires.items()}
    np.testing.assert_allclose(
        nested_conductances(conductances, **tensors), expected, rtol=1e-10, atol=1e-12 * np.max(expected)
    )


def test_one_resistance_a_line_is_that_of_all_its_segments(draw_tile):
    conductances = draw_tile((5, 6), 3)
    rows, cols = torch.arange(1.0, 6.0).double(), torch.arange(2.0, 8.0).double()
    lines = nested_conductances(conductances, row_line=rows, column_line=cols, driver=0.0, sense=0.0)
    segments = nested_conductances(
        conductances,
        row_line=rows[:, None].expand(5, 5),
        column_line=cols.expand(4, 6),
        driver=0.0,
        sense=0.0,
    )
    np.testing.assert_array_equal(lines, segments)


def test_the_sweep_refuses_what_only_the_nested_elimination_knows(tile_spec, draw_tile):
    with pytest.raises(NotAvailable, match="one end"):
        factorise(torch.as_tensor(draw_tile((4, 3), 1)), Wires.of(tile_spec(4, 3, drive="double")))


# --- rows driven at both ends -----------------------------------------------------------------------------------

ZEROS = pytest.mark.parametrize(
    "zero", [(), ("driver",), ("row_line",), ("row_line", "driver"), ("sense", "column_line"), NAMES], ids=str
)
SHAPES = pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 4), (4, 5), (11, 7)], ids=str)


def double_spec(shape: tuple[int, int], wires: dict[str, float]) -> TileSpec:
    return TileSpec(
        rows=shape[0],
        cols=shape[1],
        cell=Ohmic(),
        drive="double",
        row_line_resistance=wires["row_line"],
        column_line_resistance=wires["column_line"],
        driver_resistance=wires["driver"],
        sense_resistance=wires["sense"],
    )


@ZEROS
@SHAPES
def test_rows_driven_at_both_ends(shape, zero, draw_tile, draw_voltages):
    wires = {name: 0.0 if name in zero else value for name, value in WIRES.items()}
    conductances, voltages = draw_tile(shape, 3, 1e-5, 1e-3), draw_voltages((2, shape[0]), 3)
    programmed = NodalTile(double_spec(shape, wires)).program(torch.as_tensor(conductances))
    expected = column_currents(conductances, voltages, **wires, double=True)
    found = programmed(torch.as_tensor(voltages)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    power = []
    for vector in voltages:
        network = Network()
        for i, volts in enumerate(vector):
            network.hold(("row", i), float(volts))
        for j in range(shape[1]):
            network.hold(("col", j), 0.0)

        def cell(i, j, u, v, network=network):
            network.conductor(u, v, float(conductances[i, j]))

        crossbar(network, *shape, cell, **wires, double=True)
        solved = network.solve()
        power.append(sum(volts * solved.delivered(("row", i)) for i, volts in enumerate(vector)))
    np.testing.assert_allclose(programmed.power(torch.as_tensor(voltages)), power, rtol=1e-10)


@pytest.mark.ngspice
@pytest.mark.parametrize("zero", [(), ("driver_resistance",), ("row_line_resistance",)], ids=str)
def test_spice_agrees_on_rows_driven_at_both_ends(zero, engine, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(12, 17, zero, drive="double")
    conductances, voltages = torch.as_tensor(draw_tile((12, 17), 4)), torch.as_tensor(draw_voltages((3, 12), 4))
    spice = SpiceTile(spec, engine).program(conductances)(voltages)
    nodal = NodalTile(spec).program(conductances)(voltages)
    np.testing.assert_allclose(spice, nodal, rtol=0, atol=1e-9 * float(nodal.abs().max()))
    single = NodalTile(spec.replace(drive="single")).program(conductances)(voltages)
    if "row_line_resistance" not in zero:  # guards the test: one driver alone is seen
        assert (single - nodal).abs().max() > 1e-4 * nodal.abs().max()


# --- power, transposed reads, precision -------------------------------------------------------------------------


@pytest.mark.parametrize("drive", ["single", "double"])
def test_what_the_drivers_see_is_symmetric_and_passive(drive, tile_spec, draw_tile):
    spec = tile_spec(13, 9, drive=drive)
    drawn = nested.drawn_conductances(torch.as_tensor(draw_tile((2, 13, 9), 5)), Wires.of(spec))
    np.testing.assert_allclose(drawn, drawn.mT, rtol=0, atol=1e-14 * float(drawn.max()))
    assert (torch.linalg.eigvalsh(drawn) >= 0).all()


@pytest.mark.parametrize("shape", [(5, 5), (6, 11)], ids=str)
def test_a_transposed_read_leaves_every_end_where_it_is(shape, tile_spec, draw_tile, draw_voltages):
    rows, cols = shape
    conductances, voltages = draw_tile(shape, 6, 1e-5, 1e-3), draw_voltages((2, cols), 6)
    wires = {
        "row_line": np.full((rows, cols - 1), 1.0),
        "column_line": np.full((rows - 1, cols), 2.5),
        "driver": np.full(rows, 12.0),
        "sense": np.full(cols, 7.0),
    }
    expected = []
    for vector in voltages:
        solved = reference(conductances, wires, np.zeros(rows), vector).solve()
        expected.append([-solved.delivered(("row", i)) for i in range(rows)])
    programmed = NodalTile(tile_spec(*shape)).program(torch.as_tensor(conductances))
    found = programmed.transposed_currents(torch.as_tensor(voltages))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    with pytest.raises(InputError, match="shape"):
        programmed.transposed_currents(torch.as_tensor(voltages)[:, :-1])


def test_cells_that_are_not_ohmic_have_no_transposed_read(tile_spec, draw_tile, draw_voltages):
    programmed = NodalTile(tile_spec(3, 2, nonlinearity=3.0)).program(torch.as_tensor(draw_tile((3, 2), 7)))
    with pytest.raises(NotAvailable, match="sinh"):
        programmed.transposed_currents(torch.as_tensor(draw_voltages((2, 2), 7)))


@pytest.mark.parametrize(("shape", "wire"), [((64, 64), 1.0), ((64, 64), 100.0), ((128, 96), 0.01)], ids=str)
def test_single_precision(shape, wire, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(*shape, row_line_resistance=wire, column_line_resistance=wire)
    conductances, voltages = torch.as_tensor(draw_tile(shape, 8)), torch.as_tensor(draw_voltages((16, shape[0]), 8))
    exact = NodalTile(spec).program(conductances)(voltages)
    single = NodalTile(spec, precision="float32").program(conductances)
    assert single.effective_conductances.dtype == torch.float32
    error = (single(voltages) - exact).abs().max() / exact.square().mean().sqrt()
    assert 1e-9 < error <= 1e-5


def test_precisions_that_make_no_sense_are_refused(tile_spec):
    with pytest.raises(InputError, match="ohmic"):
        NodalTile(tile_spec(2, 2, nonlinearity=1.0), precision="float32")
    with pytest.raises(InputError, match="precision"):
        NodalTile(tile_spec(2, 2), precision="float16")  # pyright: ignore[reportArgumentType]


# --- memory and derivatives -------------------------------------------------------------------------------------


def test_chunks_of_tiles_change_nothing(tile_spec, draw_tile, monkeypatch):
    spec, conductances = tile_spec(9, 6), torch.as_tensor(draw_tile((5, 9, 6), 9)).requires_grad_()
    results = []
    for held in (10**9, 1):
        monkeypatch.setattr(transfer, "_NUMBERS_PER_CHUNK", held)
        effective = NodalTile(spec).program(conductances).effective_conductances
        (gradient,) = torch.autograd.grad(effective.square().sum(), conductances)
        results.append((effective.detach(), gradient))
    (one, other) = results
    torch.testing.assert_close(one, other, rtol=1e-13, atol=0)
    assert (one[1] != 0).all()


# Parts of a leaf each, and three parts of two joined leaves each.
@pytest.mark.parametrize(("shape", "fast"), [((6, 7), False), ((19, 43), True)], ids=str)
@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
def test_derivatives_in_resistances_and_conductances(double, shape, fast, draw_tile):
    # In ohm and 1e-5 S, gradcheck's numbers are of the order of one.
    conductances = torch.as_tensor(draw_tile(shape, 10, 1e-3, 1e-2) / 1e-5).requires_grad_()
    wires = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.0, 2.5, 12.0, 7.0)]

    def both(cells, row_line, column_line, driver, sense):
        every = Wires(row_line, column_line, driver, sense, driver if double else None)
        return (
            nested.effective_conductances(cells * 1e-5, every) / 1e-5,
            nested.drawn_conductances(cells * 1e-5, every) / 1e-5,
        )

    assert (conductances == 0).any()
    assert torch.autograd.gradcheck(both, (conductances, *wires), eps=1e-4, atol=1e-6, rtol=1e-5, fast_mode=fast)


def test_derivatives_are_products_of_cell_voltages(draw_tile):
    """Tellegen: dW_ij/dG_kl is cell kl's voltage driven from row i times that driven from column j."""
    shape = (21, 34)
    conductances, worth = draw_tile(shape, 12), np.random.default_rng(12).standard_normal(shape)
    from_rows = Tile(*shape, **WIRES).solve(conductances, np.eye(shape[0])).cell_voltages
    # The tile seen from the sense side, rows as columns.
    back = Tile(
        *shape[::-1],
        row_line=WIRES["column_line"],
        column_line=WIRES["row_line"],
        driver=WIRES["sense"],
        sense=WIRES["driver"],
    )
    from_columns = back.solve(conductances[::-1, ::-1].T, np.eye(shape[1])).cell_voltages
    from_columns = from_columns.transpose(0, 2, 1)[::-1, ::-1, ::-1]
    expected = np.einsum("ij,ikl,jkl->kl", worth, from_rows, from_columns, optimize=True)
    given = torch.as_tensor(conductances).requires_grad_()
    (torch.as_tensor(worth) * nested.effective_conductances(given, Wires(**WIRES))).sum().backward()
    assert given.grad is not None
    np.testing.assert_allclose(given.grad, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_second_derivatives_are_refused(draw_tile):
    conductances = torch.as_tensor(draw_tile((4, 5), 13)).requires_grad_()
    total = nested.effective_conductances(conductances, Wires(**WIRES)).sum()
    (gradient,) = torch.autograd.grad(total, conductances, create_graph=True)
    with pytest.raises(NotAvailable, match="second derivatives"):
        gradient.sum().backward()
