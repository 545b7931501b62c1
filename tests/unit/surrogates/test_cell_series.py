"""The power series of a cell, alone and behind the resistance of its lines."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from mdls_cosim.devices import PassiveTio2, PolynomialRead, Sinh, Yakopcic
from mdls_cosim.surrogates.cell_series import ORDER, cell_series, driven_series

STATES = torch.tensor([2e-5, 5e-5, 9e-5], dtype=torch.float64)


def value(series, voltage: float) -> torch.Tensor:
    return sum(each * voltage**order for order, each in enumerate(series, 1))


def test_small_voltages_give_the_taylor_series():
    found = cell_series(Sinh(nonlinearity=3.0), STATES, 0.01)
    for each, factor in zip(found, (1.0, 0.0, 3.0**2 / 6, 0.0, 3.0**4 / 120), strict=True):
        torch.testing.assert_close(each, factor * STATES, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("device", [Sinh(nonlinearity=10.0), PassiveTio2()])
def test_odd_laws_have_no_even_terms_at_all(device):
    found = cell_series(device, STATES, 0.2)
    assert not found[1].any()
    assert not found[3].any()


def test_a_polynomial_is_found_as_it_is():
    device, states = PolynomialRead(), torch.tensor([6e-5, 1e-4, 2e-4], dtype=torch.float64)
    found = cell_series(device, states, 0.4)
    written = device.spice_parameters(states)
    for each, name in zip(found, ("linear", "quadratic", "cubic"), strict=False):
        torch.testing.assert_close(each, written[name], rtol=1e-9, atol=1e-18)
    assert float(found[3].abs().max()) < 1e-15


@pytest.mark.parametrize("device", [Sinh(nonlinearity=6.0), Yakopcic(parameters="yakopcic_c")])
def test_the_law_is_met_over_the_whole_amplitude(device):
    """Also where the polarities differ."""
    states = STATES if isinstance(device, Sinh) else torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    found = cell_series(device, states, 0.3)
    for voltage in (-0.3, -0.17, 0.08, 0.3):
        exact = device.current(torch.full_like(states, voltage), states)
        torch.testing.assert_close(value(found, voltage), exact, rtol=5e-3, atol=0.0)
    assert float(found[0][1]) == pytest.approx(
        float(device.current(torch.tensor(1e-9, dtype=torch.float64), states[1])) / 1e-9, rel=1e-6
    )


def test_it_is_differentiable_in_the_states():
    scaled = (STATES * 1e5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda states: torch.stack(cell_series(PassiveTio2(), states * 1e-5, 0.3)) * 1e5, (scaled,)
    )
    open_cells = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    torch.stack(cell_series(Sinh(), open_cells, 0.3)).sum().backward()
    assert open_cells.grad is not None
    assert torch.isfinite(open_cells.grad).all()


@pytest.mark.parametrize(("cells", "resistance"), [(1, 8e3), (5, 1.5e3)])
def test_equal_cells_on_one_resistor(cells, resistance):
    """V = w + R k i(w), solved by bisection: the series errs in the sixth order, a factor of 64 a halving."""
    cell = [torch.tensor([value], dtype=torch.float64) for value in (5e-5, 6e-5, 9e-5, -4e-5, 7e-5)]
    share = 1 / (1 + resistance * cells * 5e-5)
    repeated = [each.expand(cells) for each in cell]
    excess, across = driven_series(repeated, torch.full((cells,), share, dtype=torch.float64))
    assert len(excess) == len(across) == ORDER
    errors = []
    for voltage in (0.02, 0.01, 0.005):
        true = brentq(
            lambda w, v=voltage: v - w - resistance * cells * float(value(cell, w)[0]), 0.0, voltage, xtol=1e-16
        )
        through = float(value(cell, true)[0]) - 5e-5 * true
        errors.append((abs(float(value(across, voltage)[0]) - true), abs(float(value(excess, voltage)[0]) - through)))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert (ratios > 40).all()
    assert (ratios < 90).all()


def test_an_open_row_has_no_excess():
    cell = [torch.zeros(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(ORDER)]
    excess, across = driven_series(cell, torch.full((2, 3), 0.9, dtype=torch.float64))
    assert not torch.stack(excess).any()
    assert not torch.stack(across[1:]).any()
    torch.stack([*excess, *across]).sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in cell if each.grad is not None)
