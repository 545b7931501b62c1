"""Derivatives of the exact solution, against finite differences and against Kirchhoff's laws."""

import weakref

import numpy as np
import pytest
import torch

from mdls_cosim.devices import MetastableSwitch
from mdls_cosim.fidelity import NodalTile, krylov, nonlinear

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")

# gradcheck wants numbers of the order of one: conductances in units of 1e-5 S, currents of 1e-6 A.
SIEMENS, AMPERES = 1e-5, 1e-6


@pytest.mark.parametrize("zero", [(), *((name,) for name in FOUR), FOUR], ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (4, 3), (2, 2, 3)], ids=str)
def test_effective_conductances(shape, zero, tile_spec, draw_tile):
    # Wires strong enough that every derivative through them counts.
    spec = tile_spec(*shape[-2:], zero).replace()
    scaled = torch.as_tensor(draw_tile(shape, 1, open_share=0.0) * 100 / SIEMENS).requires_grad_()

    def effective(x):
        return NodalTile(spec).program(x * SIEMENS).effective_conductances / SIEMENS

    assert torch.autograd.gradcheck(effective, scaled, eps=1e-4, atol=1e-7, rtol=1e-6)


def test_effective_conductances_of_open_cells(tile_spec, draw_tile):
    # At G = 0 only the upper side can be stepped to; sneak paths make the derivative real.
    spec = tile_spec(3, 4)
    conductances = draw_tile((3, 4), 2, open_share=0.0)
    conductances[1, 2] = 0.0
    closed = torch.as_tensor(conductances).requires_grad_()
    NodalTile(spec).program(closed).effective_conductances.sum().backward()
    stepped = conductances.copy()
    stepped[1, 2] = step = 1e-9
    before, after = (
        float(NodalTile(spec).program(torch.as_tensor(g)).effective_conductances.sum()) for g in (conductances, stepped)
    )
    assert float(closed.grad[1, 2]) == pytest.approx((after - before) / step, rel=1e-5)


@pytest.mark.parametrize("zero", [(), *((name,) for name in FOUR), FOUR], ids=str)
def test_nonlinear_currents(zero, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(3, 2, zero, nonlinearity=6.0)
    scaled = torch.as_tensor(draw_tile((2, 3, 2), 3, open_share=0.0) * 100 / SIEMENS).requires_grad_()
    voltages = torch.as_tensor(draw_voltages((2, 2, 3), 3)).requires_grad_()

    def currents(x, v):
        return NodalTile(spec, tolerance=1e-13).program(x * SIEMENS)(v) / (100 * AMPERES)

    assert torch.autograd.gradcheck(currents, (scaled, voltages), eps=1e-5, atol=1e-6, rtol=1e-6)


def test_nonlinear_power_and_cell_voltages(tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(3, 2, nonlinearity=6.0)
    scaled = torch.as_tensor(draw_tile((3, 2), 4, open_share=0.0) * 100 / SIEMENS).requires_grad_()
    voltages = torch.as_tensor(draw_voltages((2, 3), 4)).requires_grad_()

    def both(x, v):
        programmed = NodalTile(spec, tolerance=1e-13).program(x * SIEMENS)
        return programmed.power(v) / (100 * AMPERES), programmed.cell_voltages(v)

    assert torch.autograd.gradcheck(both, (scaled, voltages), eps=1e-5, atol=1e-6, rtol=1e-6)


def test_voltages_broadcast_to_several_tiles(tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(3, 2, nonlinearity=6.0)
    conductances = torch.as_tensor(draw_tile((4, 3, 2), 5))
    voltages = torch.as_tensor(draw_voltages((2, 3), 5)).requires_grad_()
    NodalTile(spec, tolerance=1e-12).program(conductances)(voltages).sum().backward()
    parts = []
    for tile in conductances:
        alone = voltages.detach().clone().requires_grad_()
        NodalTile(spec, tolerance=1e-12).program(tile)(alone).sum().backward()
        parts.append(alone.grad)
    np.testing.assert_allclose(voltages.grad, torch.stack(parts).sum(0), rtol=1e-9)


ASYMMETRIC = MetastableSwitch(memory_share=0.6, forward_current=2e-5, forward_slope=9.0, reverse_current=1e-6)


@pytest.mark.parametrize("wire", [1.0, 200.0])
def test_asymmetric_cells(wire, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(3, 4, cell=ASYMMETRIC, row_line_resistance=wire, column_line_resistance=2 * wire)
    scaled = torch.as_tensor(draw_tile((3, 4), 6, 6e-4, 1e-3, open_share=0.0) / SIEMENS).requires_grad_()
    voltages = torch.as_tensor(draw_voltages((2, 3), 6)).requires_grad_()

    def currents(x, v):
        return NodalTile(spec, tolerance=1e-13).program(x * SIEMENS)(v) / (100 * AMPERES)

    assert torch.autograd.gradcheck(currents, (scaled, voltages), eps=1e-5, atol=1e-6, rtol=1e-6)


def test_cells_too_steep_for_conjugate_gradients(monkeypatch, tile_spec, draw_tile, draw_voltages):
    spec = tile_spec(4, 3, nonlinearity=6.0, row_line_resistance=50.0)
    conductances = torch.as_tensor(draw_tile((2, 4, 3), 7))
    gradients = []
    for steps in (krylov._STEPS, 0):
        voltages = torch.as_tensor(draw_voltages((2, 3, 4), 7)).requires_grad_()
        programmed = NodalTile(spec, tolerance=1e-13).program(conductances)
        currents = programmed(voltages)
        monkeypatch.setattr(krylov, "_STEPS", steps)
        monkeypatch.setattr(krylov, "_ROUNDS", 1 if steps == 0 else krylov._ROUNDS)
        currents.square().sum().backward()
        gradients.append(voltages.grad)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=0, atol=1e-11 * float(gradients[0].abs().max()))


def test_derivatives_need_no_factorisation(monkeypatch, tile_spec, draw_tile, draw_voltages):
    # So memory stays that of a few arrays of cell voltages, whatever the tile's size.
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(nonlinear, "factorise", refuse)
    spec = tile_spec(16, 12, nonlinearity=10.0, row_line_resistance=100.0)
    voltages = torch.as_tensor(draw_voltages((3, 16), 8, 0.2)).requires_grad_()
    NodalTile(spec).program(torch.as_tensor(draw_tile((16, 12), 8)))(voltages).sum().backward()
    assert float(voltages.grad.abs().min()) > 0


def test_what_a_gradient_keeps_does_not_grow_with_the_steps(tile_spec, draw_tile, draw_voltages):
    """A few arrays of cell voltages, however often Newton's method went round."""
    spec = tile_spec(9, 7, nonlinearity=10.0, row_line_resistance=50.0)
    conductances = torch.as_tensor(draw_tile((9, 7), 3)).requires_grad_()
    voltages = torch.as_tensor(draw_voltages((6, 9), 3))

    def kept(tolerance: float) -> int:
        saved: list[weakref.ref[torch.Tensor]] = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            saved.append(weakref.ref(tensor))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            currents = NodalTile(spec, tolerance).program(conductances)(voltages)
        assert currents.requires_grad
        # What the steps had for their own derivatives is gone by now.
        alive = [tensor for each in saved if (tensor := each()) is not None]
        return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in alive}.values())

    few, many = kept(1e-2), kept(1e-12)
    assert many == few
    assert many <= 12 * 8 * 6 * 9 * 7  # float64, inputs x cells
