"""Tiles of sinh cells: the batched solve against an independent sparse Newton, its fallback and its honesty."""

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.errors import ConvergenceError, NotAvailable
from mdls_cosim.fidelity import NodalTile, nonlinear

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")


def assert_solved(spec, conductances, voltages, tolerance=1e-9) -> None:
    """Currents and cell voltages of NodalTile against the reference, relative to the largest of each."""
    programmed = NodalTile(spec).program(torch.as_tensor(conductances))
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


@pytest.mark.parametrize("wire", [1.0, 5.0, 50.0])
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
    np.testing.assert_allclose(currents, 0.25 * conductances, rtol=1e-12)
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


def test_newton_takes_over_where_the_chord_iteration_ends(monkeypatch, tile_spec, draw_tile, draw_voltages):
    calls = []
    original = nonlinear.newton

    def counted(*arguments):
        calls.append(len(arguments[2]))
        return original(*arguments)

    monkeypatch.setattr(nonlinear, "_CHORD_STEPS", 1)
    monkeypatch.setattr("mdls_cosim.fidelity.nodal.newton", counted)
    spec = tile_spec(8, 6, nonlinearity=10.0, row_line_resistance=20.0)
    assert_solved(spec, draw_tile((8, 6), 9), draw_voltages((5, 8), 9))
    assert calls
    assert set(calls) == {5}  # all five inputs, for currents and for cell voltages


def test_what_did_not_converge_is_named(monkeypatch, tile_spec, draw_tile):
    monkeypatch.setattr(nonlinear, "_CHORD_STEPS", 1)
    monkeypatch.setattr(nonlinear, "_NEWTON_STEPS", 0)
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
