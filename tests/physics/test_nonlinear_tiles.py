"""Tiles of sinh cells: the batched solve against an independent sparse Newton, its fallback and its honesty."""

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.devices import MetastableSwitch, PolynomialRead
from mdls_cosim.errors import ConvergenceError, NotAvailable
from mdls_cosim.fidelity import NodalTile, SpiceTile, nonlinear

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")


def assert_solved(spec, conductances, voltages, tolerance=1e-9, residual=1e-10) -> None:
    """Currents and cell voltages of NodalTile against the reference, relative to the largest of each."""
    programmed = NodalTile(spec, residual).program(torch.as_tensor(conductances))
    expected = Tile.of(spec).solve(conductances, voltages)
    inputs = torch.as_tensor(voltages)
    np.testing.assert_allclose(
        programmed(inputs), expected.currents, rtol=0, atol=tolerance * np.abs(expected.currents).max()
    )
    np.testing.assert_allclose(
        programmed.cell_voltages(inputs),
        expected.cell_voltages,
        rtol=0,
        atol=tolerance * np.abs(expected.cell_voltages).max(),
    )


@pytest.mark.parametrize("wire", [1.0, 5.0, 50.0, 500.0])
@pytest.mark.parametrize(("nonlinearity", "amplitude"), [(3.0, 0.3), (10.0, 0.2)])
@pytest.mark.parametrize("shape", [(8, 8), (20, 32)], ids=str)
def test_signed_inputs_at_any_wire_resistance(
    shape, nonlinearity, amplitude, wire, tile_spec, draw_tile, draw_voltages
):
    spec = tile_spec(*shape, nonlinearity=nonlinearity, row_line_resistance=wire, column_line_resistance=1.5 * wire)
    assert_solved(spec, draw_tile(shape, 1), draw_voltages((3, shape[0]), 1, amplitude))


@pytest.mark.parametrize("zero", [(), *((name,) for name in FOUR), FOUR[:2], FOUR[2:], FOUR], ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (6, 4)], ids=str)
def test_any_resistance_may_be_zero(shape, zero, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(*shape, zero, nonlinearity=5.0)
    assert_solved(spec, draw_tile(shape, 2), draw_voltages((4, shape[0]), 2))


def test_64_rows_and_columns(tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(64, 64, nonlinearity=10.0, row_line_resistance=5.0, column_line_resistance=5.0)
    assert_solved(spec, draw_tile((64, 64), 3), draw_voltages((1, 64), 3, 0.2))


def test_ideal_wires_leave_the_cells_alone(tile_spec, draw_tile, draw_voltages):
    conductances, voltages = draw_tile((5, 7), 4), draw_voltages((6, 5), 4)
    expected = (conductances * np.sinh(4.0 * voltages)[:, :, None] / 4.0).sum(1)
    currents = NodalTile(tile_spec(5, 7, FOUR, nonlinearity=4.0)).program(torch.as_tensor(conductances))(
        torch.as_tensor(voltages)
    )
    np.testing.assert_allclose(currents, expected, rtol=1e-12, atol=1e-20)


def test_conductances_are_those_at_the_reference_voltage(tile_spec, draw_tile):
    # Read at the reference voltage without wires, a cell shows exactly the conductance it was programmed to.
    conductances = draw_tile((5, 7), 5)
    spec = tile_spec(5, 7, FOUR, nonlinearity=6.0, reference_voltage=0.25)
    voltages = 0.25 * torch.eye(5, dtype=torch.float64)
    currents = NodalTile(spec).program(torch.as_tensor(conductances))(voltages)
    np.testing.assert_allclose(currents, 0.25 * conductances, rtol=1e-12, atol=1e-20)
    # And with wires it is the circuit of the states behind them, G a V_ref / sinh(a V_ref).
    wired = tile_spec(5, 7, nonlinearity=6.0, reference_voltage=0.25)
    states = conductances * 1.5 / np.sinh(1.5)
    expected = Tile.of(wired.replace(reference_voltage=0.0)).solve(states, voltages.numpy()).currents
    currents = NodalTile(wired).program(torch.as_tensor(conductances))(voltages)
    np.testing.assert_allclose(currents, expected, rtol=0, atol=1e-9 * expected.max())


def test_weak_nonlinearity_is_ohms_law(tile_spec, draw_tile, draw_voltages):
    conductances, voltages = torch.as_tensor(draw_tile((6, 5), 6)), torch.as_tensor(draw_voltages((4, 6), 6))
    ohmic = NodalTile(tile_spec(6, 5)).program(conductances)(voltages)
    # sinh(x)/x - 1 = x^2/6 with x = 1e-4 * 0.3 V
    weak = NodalTile(tile_spec(6, 5, nonlinearity=1e-4)).program(conductances)(voltages)
    np.testing.assert_allclose(weak, ohmic, rtol=0, atol=1e-9 * float(ohmic.abs().max()))


def test_leading_dimensions_are_independent_tiles(tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(5, 4, nonlinearity=4.0)
    conductances, voltages = draw_tile((2, 3, 5, 4), 7), draw_voltages((2, 3, 4, 5), 7)
    currents = NodalTile(spec).program(torch.as_tensor(conductances))(torch.as_tensor(voltages)).numpy()
    for tile in np.ndindex(2, 3):
        expected = Tile.of(spec).solve(conductances[tile], voltages[tile]).currents
        np.testing.assert_allclose(currents[tile], expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_an_input_is_solved_alike_in_any_company(tile_spec, draw_tile, draw_voltages):
    programmed = NodalTile(tile_spec(6, 5, nonlinearity=8.0), tolerance=1e-12).program(
        torch.as_tensor(draw_tile((6, 5), 8))
    )
    voltages = torch.as_tensor(draw_voltages((5, 6), 8)) * torch.tensor([[1.0], [1e-3], [0.0], [0.5], [2.0]])
    together = programmed(voltages)
    for index, vector in enumerate(voltages):
        alone = programmed(vector[None])[0]
        scale = 1e-11 * float(alone.abs().max())
        np.testing.assert_allclose(together[index], alone, rtol=0, atol=scale)


def test_finished_inputs_leave_the_batch(monkeypatch, tile_spec, draw_tile, draw_voltages):
    sizes = []
    original = nonlinear.make_up

    def counted(modes, slopes, *arguments):
        sizes.append(slopes.shape[2])
        return original(modes, slopes, *arguments)

    monkeypatch.setattr(nonlinear, "make_up", counted)
    spec = tile_spec(8, 6, nonlinearity=10.0, row_line_resistance=20.0)
    voltages = draw_voltages((6, 8), 9) * np.array([1e-9, 0.0, 1e-3, 0.5, 1.0, 3.0])[:, None]
    assert_solved(spec, draw_tile((8, 6), 9), voltages)
    assert sizes[0] == 6
    assert min(sizes) < 6


def factorised_inputs(monkeypatch) -> list[int]:
    """How many inputs each call of the factorised method gets, from now on."""
    calls = []
    original = nonlinear.factorised_newton

    def counted(cells, wires, voltages, tolerance):
        calls.append(len(voltages))
        return original(cells, wires, voltages, tolerance)

    monkeypatch.setattr("mdls_cosim.fidelity.nodal.factorised_newton", counted)
    return calls


def test_a_factorisation_takes_over_where_no_headway_is_made(monkeypatch, tile_spec, draw_tile, draw_voltages):
    calls = factorised_inputs(monkeypatch)
    monkeypatch.setattr(nonlinear, "_STEPS", 0)
    spec = tile_spec(8, 6, nonlinearity=10.0, row_line_resistance=20.0)
    assert_solved(spec, draw_tile((8, 6), 9), draw_voltages((5, 8), 9))
    assert calls == [5, 5]  # all five inputs, for currents and for cell voltages


def test_read_voltages_need_no_factorisation(monkeypatch, tile_spec, draw_tile, draw_voltages):
    calls = factorised_inputs(monkeypatch)
    for wire in (1.0, 50.0, 500.0):
        spec = tile_spec(24, 16, nonlinearity=10.0, row_line_resistance=wire, column_line_resistance=wire)
        NodalTile(spec).program(torch.as_tensor(draw_tile((2, 24, 16), 9)))(
            torch.as_tensor(draw_voltages((4, 24), 9, 0.2))
        )
    assert not calls


def test_steps_that_overshoot_are_shortened(monkeypatch, tile_spec):
    # Whole steps go round in circles with one of these inputs, and it would be left to a factorisation.
    calls = factorised_inputs(monkeypatch)
    generator = np.random.default_rng(0)
    conductances, voltages = generator.uniform(1e-6, 1e-4, (12, 10)), generator.uniform(-1.0, 1.0, (8, 12))
    ends = {"driver_resistance": 10.0, "sense_resistance": 10.0}
    spec = tile_spec(12, 10, nonlinearity=10.0, row_line_resistance=5.0, column_line_resistance=5.0, **ends)
    assert_solved(spec, conductances, voltages)
    assert not calls


@pytest.mark.parametrize("wire", [1.0, 200.0])
def test_steep_cells(wire, tile_spec, draw_tile, draw_voltages):
    # Slopes up to cosh(20) = 2e8 of those at 0 V, were it not for the wires.
    spec = tile_spec(8, 6, nonlinearity=20.0, row_line_resistance=wire, column_line_resistance=wire)
    # What is left of the current law moves currents by up to the square root of the slopes' ratio more.
    assert_solved(spec, draw_tile((8, 6), 13), draw_voltages((4, 8), 13, 1.0), residual=1e-13)


@pytest.mark.parametrize("case", ["open rows and columns", "one conducts", "half-on", "clustered", "nine decades"])
@pytest.mark.parametrize("wire", [2.0, 300.0])
def test_conductances_far_from_uniform(case, wire, tile_spec, draw_voltages):
    generator = np.random.default_rng(14)
    conductances = generator.uniform(1e-6, 1e-4, (12, 16))
    if case == "open rows and columns":
        conductances[3], conductances[:, 5] = 0.0, 0.0
    elif case == "one conducts":
        conductances = np.where(np.arange(192).reshape(12, 16) == 77, 1e-4, 0.0)
    elif case == "half-on":
        conductances = np.where(generator.random((12, 16)) < 0.5, 1e-6, 1e-4)
    elif case == "clustered":
        conductances[:6] *= 0.01
        conductances[:, 8:] *= 0.1
    else:
        conductances = 10 ** generator.uniform(-13, -4, (12, 16))
    spec = tile_spec(12, 16, nonlinearity=10.0, row_line_resistance=wire, column_line_resistance=wire)
    voltages = draw_voltages((4, 12), 14, 0.2)
    voltages[1] = np.where(np.arange(12) % 5 == 0, 0.2, 0.0)
    assert_solved(spec, conductances, voltages)


def test_open_tiles_and_resting_inputs_pass_nothing(tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(5, 4, nonlinearity=10.0)
    inputs = torch.as_tensor(draw_voltages((3, 5), 15))
    nothing = NodalTile(spec).program(torch.zeros(5, 4, dtype=torch.float64))
    assert not nothing(inputs).any()
    np.testing.assert_allclose(nothing.cell_voltages(inputs), inputs[..., None].expand(-1, -1, 4), rtol=1e-12)
    assert not NodalTile(spec).program(torch.as_tensor(draw_tile((5, 4), 15)))(0 * inputs).any()


def implied_voltages(spec, cell_currents) -> np.ndarray:
    """Of cell currents (batch, rows, cols): along every line the drops that they cause, summed segment by segment."""
    beyond = cell_currents[:, :, ::-1].cumsum(2)[:, :, ::-1]
    along_rows = spec.driver_resistance * beyond[:, :, :1] + spec.row_line_resistance * np.concatenate(
        [np.zeros_like(beyond[:, :, :1]), beyond[:, :, 1:].cumsum(2)], 2
    )
    above = cell_currents.cumsum(1)
    along_columns = spec.sense_resistance * above[:, -1:] + spec.column_line_resistance * np.concatenate(
        [above[:, -2::-1].cumsum(1)[:, ::-1], np.zeros_like(above[:, :1])], 1
    )
    return -(along_rows + along_columns)


@pytest.mark.parametrize("wire", [1.0, 500.0])
def test_256_rows_and_columns(wire, tile_spec, draw_tile, draw_voltages):
    # Both laws of Kirchhoff: with the currents that the cells pass, the wires leave them the voltages they have.
    spec = tile_spec(256, 256, nonlinearity=10.0, row_line_resistance=wire, column_line_resistance=wire)
    conductances, voltages = draw_tile((256, 256), 16), draw_voltages((2, 256), 16, 0.2)
    found = (
        NodalTile(spec, tolerance=1e-11).program(torch.as_tensor(conductances)).cell_voltages(torch.as_tensor(voltages))
    )
    across = found.numpy()
    passed = conductances * np.sinh(10.0 * across) / 10.0
    implied = voltages[:, :, None] + implied_voltages(spec, passed)
    # What is left of the currents, 1e-11, times the wires' resistance to all of them together.
    np.testing.assert_allclose(implied, across, rtol=0, atol=1e-8 * np.abs(across).max())


ASYMMETRIC = {
    "polynomial": (PolynomialRead(), 50e-6, 225e-6, 0.4),
    "diodes": (
        MetastableSwitch(
            memory_share=0.7, forward_current=1e-5, reverse_current=3e-6, forward_slope=8.0, reverse_slope=4.0
        ),
        6e-4,
        1.2e-3,
        0.3,
    ),
    "mounted the other way round": (
        MetastableSwitch(memory_share=0.5, forward_current=2e-5, forward_slope=10.0, reversed=True),
        5e-4,
        9e-4,
        0.3,
    ),
}


@pytest.mark.parametrize("cell", ASYMMETRIC)
@pytest.mark.parametrize("wire", [1.0, 30.0])
def test_asymmetric_cells_obey_kirchhoff(cell, wire, tile_spec, draw_tile, draw_voltages):
    device, low, high, amplitude = ASYMMETRIC[cell]
    spec = tile_spec(9, 12, cell=device, row_line_resistance=wire, column_line_resistance=2 * wire)
    conductances = draw_tile((9, 12), 17, low, high, open_share=0.0)
    voltages = draw_voltages((4, 9), 17, amplitude)
    programmed = NodalTile(spec).program(torch.as_tensor(conductances))
    across = programmed.cell_voltages(torch.as_tensor(voltages)).numpy()
    passed = device.current(across, device.state_for(conductances))
    implied = voltages[:, :, None] + implied_voltages(spec, passed)
    np.testing.assert_allclose(implied, across, rtol=0, atol=1e-8 * amplitude)
    currents = programmed(torch.as_tensor(voltages))
    np.testing.assert_allclose(currents, passed.sum(1), rtol=0, atol=1e-9 * np.abs(passed.sum(1)).max())
    # Not by chance those of a symmetric cell.
    mirrored = programmed(torch.as_tensor(-voltages))
    assert float((currents + mirrored).abs().max()) > 1e-3 * float(currents.abs().max())


@pytest.mark.ngspice
@pytest.mark.parametrize("cell", ASYMMETRIC)
def test_asymmetric_cells_as_in_ngspice(cell, engine, tile_spec, draw_tile, draw_voltages):
    device, low, high, amplitude = ASYMMETRIC[cell]
    spec = tile_spec(5, 7, cell=device, row_line_resistance=20.0, column_line_resistance=10.0)
    conductances = torch.as_tensor(draw_tile((5, 7), 18, low, high, open_share=0.0))
    voltages = torch.as_tensor(draw_voltages((4, 5), 18, amplitude))
    expected = SpiceTile(spec, engine).program(conductances)(voltages)
    found = NodalTile(spec).program(conductances)(voltages)
    # ngspice's own tolerance for non-linear elements.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_what_did_not_converge_is_named(monkeypatch, tile_spec, draw_tile):
    monkeypatch.setattr(nonlinear, "_STEPS", 0)
    monkeypatch.setattr(nonlinear, "_FACTORISED_STEPS", 0)
    # Linearised at 0 V an input of 1 uV is solved to (a V)^2 / 6 = 1e-12; one of 0.3 V is not.
    amplitude = torch.tensor([[0.3, 0.0, 1e-6], [1e-6, 0.0, 0.3]], dtype=torch.float64)
    voltages = amplitude[..., None].expand(2, 3, 4)
    programmed = NodalTile(tile_spec(4, 3, nonlinearity=3.0)).program(torch.as_tensor(draw_tile((2, 4, 3), 10)))
    with pytest.raises(ConvergenceError, match=r"2 of 6 inputs .*\(0, 0\), \(1, 2\)") as raised:
        programmed(voltages)
    assert raised.value.failed == [(0, 0), (1, 2)]
    with pytest.raises(ConvergenceError):
        programmed.cell_voltages(voltages)
    with pytest.raises(ConvergenceError):
        programmed.power(voltages)


@pytest.mark.parametrize("amplitude", [2.0, 5.0, 10.0, 20.0, 60.0, 1e4])
def test_absurd_inputs_are_solved_or_named(amplitude, tile_spec, draw_tile):
    # Far beyond any read voltage: exponentials overflow. Either a right answer or an error that says which input.
    spec = tile_spec(4, 3, nonlinearity=10.0)
    conductances = draw_tile((4, 3), 11)
    voltages = torch.full((2, 4), 0.1, dtype=torch.float64)
    voltages[1] = amplitude
    programmed = NodalTile(spec).program(torch.as_tensor(conductances))
    currents, failed = voltages.new_zeros(2, 3), []
    try:
        currents = programmed(voltages)
    except ConvergenceError as error:
        failed = error.failed
    if failed:
        assert failed == [(0, 1)]
        return
    sensible = Tile.of(spec).solve(conductances, voltages[:1].numpy()).currents
    np.testing.assert_allclose(currents[:1], sensible, rtol=0, atol=1e-9 * sensible.max())
    # All that the sources can push through drivers and sense resistances alone.
    assert float(currents[1].max()) < 4 * amplitude / 12.0


def test_there_is_no_effective_conductance_matrix(tile_spec, draw_tile):
    programmed = NodalTile(tile_spec(3, 2, nonlinearity=3.0)).program(torch.as_tensor(draw_tile((3, 2), 12)))
    with pytest.raises(NotAvailable, match="sinh"):
        _ = programmed.effective_conductances
