"""The series of a non-linear tile against Kirchhoff's laws: its terms one by one, its limits, its reach."""

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, draw_conductances, draw_inputs
from mdls_cosim.devices import PassiveTio2, PolynomialRead, Sinh
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.surrogates import SeriesSurrogate
from mdls_cosim.surrogates.parameters import Reads
from mdls_cosim.surrogates.series import START, Terms
from mdls_cosim.surrogates.series_fit import fit_coefficients
from mdls_cosim.tiles import TileSpec

SPAN = (1e-6, 1e-4)
INPUTS = ("dense", "sparse", "half_on", "signed")
WIRES = {
    "row_line_resistance": 1.0,
    "column_line_resistance": 2.0,
    "driver_resistance": 12.0,
    "sense_resistance": 8.0,
}


def tile(rows: int, cols: int, cell) -> TileSpec:
    return TileSpec(rows=rows, cols=cols, cell=cell, **WIRES)


def reads_of(spec: TileSpec, span, amplitude: float, seed: int, vectors: int = 6) -> tuple[Reads, torch.Tensor]:
    """One tile of every class, exact currents, and the class of every read."""
    generator = np.random.default_rng([seed, spec.rows])
    tiles = [draw_conductances(kind, spec.rows, spec.cols, span, generator) for kind in CONDUCTANCE_CLASSES]
    voltages = [
        np.concatenate([draw_inputs(kind, vectors, spec.rows, amplitude, generator) for kind in INPUTS]) for _ in tiles
    ]
    conductances, inputs = torch.as_tensor(np.stack(tiles)), torch.as_tensor(np.stack(voltages))
    currents = NodalTile(spec, 1e-10).program(conductances)(inputs)
    codes = torch.arange(len(tiles))[:, None] * len(INPUTS) + torch.arange(inputs.shape[1]) // vectors
    return Reads(conductances, inputs, currents), codes


def fitted(spec: TileSpec, span, amplitude: float) -> SeriesSurrogate:
    reads, codes = reads_of(spec, span, amplitude, seed=1)
    return SeriesSurrogate(spec, coefficients=fit_coefficients(spec, reads, codes))


def worst(surrogate: SeriesSurrogate, spec: TileSpec, span, amplitude: float) -> float:
    """RMS error of the worst class over its RMS current, on another draw, for tiles of any shape."""
    reads, codes = reads_of(spec, span, amplitude, seed=2)
    other = SeriesSurrogate(spec, coefficients=surrogate.coefficients)
    missed = other.program(reads.conductances)(reads.voltages) - reads.currents
    return max(
        float((missed[codes == code].square().mean() / reads.currents[codes == code].square().mean()).sqrt())
        for code in range(int(codes.max()) + 1)
    )


def series(spec: TileSpec, amplitude: float = 0.3, **changed: tuple[float, ...]) -> SeriesSurrogate:
    """Unfitted, as perturbation theory has it."""
    return SeriesSurrogate(spec, coefficients={**START, "amplitude": (amplitude,), **changed})


@pytest.fixture(scope="module")
def sinh3() -> SeriesSurrogate:
    return fitted(tile(32, 32, Sinh(nonlinearity=3.0)), SPAN, 0.3)


@pytest.mark.parametrize(("rows", "cols"), [(32, 32), (16, 48), (48, 20)])
def test_other_tiles_inputs_and_shapes_need_no_fit(sinh3, rows, cols):
    assert worst(sinh3, tile(rows, cols, Sinh(nonlinearity=3.0)), SPAN, 0.3) < 1e-3


@pytest.mark.parametrize(
    ("cell", "span", "amplitude", "bound"),
    [
        (Sinh(nonlinearity=6.0), SPAN, 0.3, 4e-3),
        (Sinh(nonlinearity=10.0), SPAN, 0.2, 5e-3),
        (PassiveTio2(), (2e-6, 95e-6), 0.3, 1e-3),  # A3 depends on the state
        (PolynomialRead(), (50e-6, 225e-6), 0.4, 2e-3),  # asymmetric
    ],
    ids=["sinh 6 /V", "sinh 10 /V", "passive TiO2", "polynomial"],
)
def test_other_cells(cell, span, amplitude, bound):
    spec = tile(32, 32, cell)
    surrogate = fitted(spec, span, amplitude)
    assert worst(surrogate, spec, span, amplitude) < bound
    # Every part pays: neither of them alone is within the bound.
    rows_alone = SeriesSurrogate(
        spec, coefficients={**surrogate.coefficients, "slope": (0.0, 0.0, 0.0), "square": (0.0, 0.0)}
    )
    assert worst(rows_alone, spec, span, amplitude) > 2 * bound


@pytest.mark.parametrize("cell", [Sinh(nonlinearity=4.0), PolynomialRead(lowest_conductance=1e-6)])
def test_ideal_wires_leave_the_cells_alone(cell, draw_tile, draw_voltages):
    spec = TileSpec(rows=7, cols=5, cell=cell)
    conductances = torch.as_tensor(draw_tile((2, 7, 5), 0, low=5e-5, high=2e-4, open_share=0.0))
    voltages = torch.as_tensor(draw_voltages((2, 9, 7), 1))
    found = series(spec).program(conductances)(voltages)
    exact = spec.cell.current(voltages[..., None], conductances[:, None]).sum(-2)
    # What is left is the fifth-order polynomial of the law.
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-4 * float(exact.abs().max()))


def test_the_third_order_of_one_row_alone(draw_tile):
    """Without other rows' inputs the currents are V W + V^3 W3 + ...; by the reference, at a small amplitude."""
    spec = tile(6, 5, Sinh(nonlinearity=8.0)).replace(row_line_resistance=40.0, column_line_resistance=30.0)
    conductances = draw_tile((6, 5), 3, low=1e-5)
    terms = Terms(spec, torch.as_tensor(conductances), 0.02)
    voltage = 0.02
    solved = Tile.of(spec).solve(conductances, voltage * np.eye(6)).currents
    third = (solved - voltage * terms.effective.numpy()) / voltage**3
    found = terms.direct[3].numpy()
    # Cells of other rows see a small share of the voltage, and its cube is left out.
    np.testing.assert_allclose(found, third, rtol=0, atol=0.01 * np.abs(third).max())
    # And not by chance: what each cell's own column senses is not all.
    alone = (conductances * 8.0**2 / 6) * terms.alpha.numpy() ** 3
    assert np.abs(alone - third).max() > 0.03 * np.abs(third).max()


def test_the_linear_part_is_exact(draw_tile):
    spec = tile(5, 8, Sinh(nonlinearity=3.0)).replace(row_line_resistance=300.0, column_line_resistance=900.0)
    conductances = draw_tile((5, 8), 1, low=1e-5)
    terms = Terms(spec, torch.as_tensor(conductances), 0.3)
    solved = Tile.of(spec.replace(cell={"model": "ohmic"})).solve(conductances, np.eye(5))
    np.testing.assert_allclose(terms.effective, solved.currents, rtol=1e-10, atol=1e-22)
    alpha = np.stack([solved.cell_voltages[row, row] for row in range(5)])
    np.testing.assert_allclose(terms.alpha, alpha, rtol=1e-10)


def test_one_row_has_no_other_rows(draw_tile):
    spec = tile(1, 6, Sinh(nonlinearity=5.0))
    conductances = draw_tile((1, 6), 4, low=1e-5)
    voltages = np.linspace(-0.1, 0.1, 9)[:, None]
    programmed = series(spec, 0.1).program(torch.as_tensor(conductances))
    assert programmed.products.rise is not None
    assert not programmed.products.rise.matrices.any()
    exact = Tile.of(spec).solve(conductances, voltages).currents
    np.testing.assert_allclose(programmed(torch.as_tensor(voltages)), exact, rtol=0, atol=1e-5 * exact.max())


def test_open_cells_and_lines(sinh3, draw_tile, draw_voltages):
    spec = tile(32, 32, Sinh(nonlinearity=3.0))
    conductances = draw_tile((32, 32), 5, open_share=0.5)
    conductances[:, 7] = 0.0
    conductances[4] = 0.0
    voltages = draw_voltages((12, 32), 6)
    found = sinh3.program(torch.as_tensor(conductances))(torch.as_tensor(voltages)).numpy()
    exact = Tile.of(spec).solve(conductances, voltages).currents
    assert np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < 1e-3
    assert np.abs(found[:, 7]).max() < 1e-9 * np.abs(found).max()
    assert not series(spec).program(torch.zeros(32, 32, dtype=torch.float64))(torch.as_tensor(voltages)).any()


def test_tiles_are_programmed_as_if_alone(sinh3, draw_tile, draw_voltages, monkeypatch):
    conductances, voltages = torch.as_tensor(draw_tile((5, 32, 32), 7)), torch.as_tensor(draw_voltages((4, 32), 8))
    together = sinh3.program(conductances)(voltages)
    monkeypatch.setattr("mdls_cosim.surrogates.series._CHUNK", 2 * 32**3)
    in_pieces = sinh3.program(conductances.reshape(5, 1, 32, 32))(voltages)
    alone = torch.stack([sinh3.program(each)(voltages) for each in conductances])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=0)
    torch.testing.assert_close(in_pieces[:, 0], alone, rtol=1e-10, atol=0)


@pytest.mark.parametrize("cell", [Sinh(nonlinearity=6.0), PolynomialRead(lowest_conductance=1e-6)])
def test_gradients(cell, draw_tile, draw_voltages):
    """In voltages and conductances, against differences."""
    spec = tile(4, 3, cell).replace(row_line_resistance=200.0, column_line_resistance=300.0)
    scaled = torch.as_tensor(draw_tile((4, 3), 9, low=5e-5, high=2e-4, open_share=0.0) * 1e5).requires_grad_()
    voltages = torch.as_tensor(draw_voltages((3, 4), 10)).requires_grad_()
    surrogate = series(spec)
    assert torch.autograd.gradcheck(
        lambda cells, inputs: surrogate.program(cells * 1e-5)(inputs) * 1e5, (scaled, voltages), atol=1e-6
    )


def test_single_precision_reads(sinh3, draw_tile, draw_voltages):
    programmed = sinh3.program(torch.as_tensor(draw_tile((32, 32), 11)))
    voltages = torch.as_tensor(draw_voltages((16, 32), 12))
    exact, single = programmed(voltages), programmed(voltages.float())
    assert single.dtype == torch.float32
    assert float((single - exact).square().mean() / exact.square().mean()) ** 0.5 < 2e-6
    torch.testing.assert_close(programmed(voltages), exact, rtol=0, atol=0)


def test_coefficients_of_another_form_are_refused():
    with pytest.raises(InputError, match=r"another form of surrogate.*fit the surrogate again"):
        SeriesSurrogate(tile(4, 4, Sinh()), coefficients={"third": (0.0, 0.0, 0.0)})


@pytest.mark.parametrize(
    ("cell", "order"), [(Sinh(nonlinearity=4.0), 5), (PolynomialRead(lowest_conductance=1e-6), 4)], ids=["odd", "even"]
)
def test_a_row_does_not_meet_its_own_rise(cell, order, draw_tile):
    """With one row driven the products with the rise cancel what they were made up for, below this order."""
    spec = tile(8, 6, cell).replace(row_line_resistance=30.0, column_line_resistance=40.0)
    conductances = torch.as_tensor(draw_tile((8, 6), 13, low=5e-5, high=2e-4, open_share=0.0))
    whole = series(spec).program(conductances)
    alone = series(spec, slope=(0.0, 0.0, 0.0), square=(0.0, 0.0)).program(conductances)
    one_each = torch.eye(8, dtype=torch.float64)
    differences = [float((whole(v * one_each) - alone(v * one_each)).abs().max()) for v in (0.04, 0.02, 0.01)]
    least = 0.8 * 2**order
    assert differences[0] > least * differences[1] > least * least * differences[2]


@pytest.mark.parametrize(
    ("cell", "span", "left_out"),
    [
        (Sinh(nonlinearity=3.0), SPAN, {"square": (1.0, 0.0)}),
        (Sinh(nonlinearity=3.0), SPAN, {"rise": (1.0, 0.0)}),
        (Sinh(nonlinearity=3.0), SPAN, {"slope": (1.0, 1.0, 0.0)}),
        (Sinh(nonlinearity=3.0), SPAN, {"feedback": (1.0, 1.0, 0.0)}),
        (PolynomialRead(), (50e-6, 225e-6), {"square": (0.0, 1.0)}),
        (PolynomialRead(), (50e-6, 225e-6), {"rise": (0.0, 1.0)}),
        (PolynomialRead(), (50e-6, 225e-6), {"feedback": (0.0, 1.0, 1.0)}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_term_is_worth_its_place_unfitted(cell, span, left_out):
    """Perturbation theory itself is closer to Kirchhoff's laws with every term than without one."""
    spec = tile(32, 32, cell)
    reads, _ = reads_of(spec, span, 0.3, seed=3)
    driven = reads.voltages[:, :6], reads.currents[:, :6]  # all rows, the largest rise
    errors = [
        float((series(spec, **changed).program(reads.conductances)(driven[0]) - driven[1]).square().mean().sqrt())
        for changed in ({}, left_out)
    ]
    assert errors[0] < 0.9 * errors[1]
