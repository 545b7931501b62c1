"""A memristor and a selector in series: their current against Kirchhoff's laws solved one by one."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq

from mdls_cosim.devices import Device, ExponentialSelector, Ohmic, PolynomialRead, Sinh, ThresholdSelector
from mdls_cosim.errors import NotAvailable
from mdls_cosim.fidelity.cell_law import DeviceLaw, SeriesLaw, cell_law
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell

SELECTOR = ExponentialSelector(saturation_current=1e-8, slope_voltage=0.15)
VOLTAGES = (-0.49, -0.3, -1e-3, 1e-9, 0.02, 0.25, 0.5)


def series_current(device: Device, conductance: float, voltage: float, temperature: float = 300.0) -> float:
    """The current at which both parts' voltages add up to `voltage`: the selector's follows from the current."""

    def selector_voltage(current: float) -> float:
        return 0.15 * math.asinh(current / 1e-8)

    largest = abs(float(device.current(voltage, conductance, temperature)))
    found = brentq(
        lambda i: float(device.current(voltage - selector_voltage(i), conductance, temperature)) - i,
        -largest, largest, xtol=1e-24, rtol=1e-14,
    )  # fmt: skip
    return float(found)


@pytest.mark.parametrize("device", [Ohmic(), Sinh(nonlinearity=5.0), PolynomialRead()], ids=lambda each: each.model)
def test_both_parts_carry_the_same_current_and_share_the_voltage(device: Device) -> None:
    law = SeriesLaw(SelectorCell(device=device, selector=SELECTOR))  # pyright: ignore[reportArgumentType]
    conductances = (6e-5, 2e-4) if isinstance(device, PolynomialRead) else (1e-9, 1e-6, 1e-4)
    states = torch.tensor(conductances, dtype=torch.float64)
    found = law.current(torch.tensor(VOLTAGES, dtype=torch.float64)[:, None], states)
    wanted = [[series_current(device, g, v) for g in conductances] for v in VOLTAGES]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-22)


def test_derivatives_are_those_of_the_equation() -> None:
    law = SeriesLaw(SelectorCell(device=Sinh(nonlinearity=3.0), selector=SELECTOR))
    voltages = torch.tensor([0.7, -0.9, 0.2, -0.01], dtype=torch.float64, requires_grad=True)
    states = torch.tensor([10.0, 2.0, 50.0, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, g: 1e6 * law.current(v, 1e-6 * g), (voltages, states))


def test_at_rest_two_conductances_are_in_series() -> None:
    law = SeriesLaw(SelectorCell(device=Ohmic(), selector=SELECTOR))
    voltage = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    states = torch.tensor([1e-9, 1e-7, 1e-4], dtype=torch.float64)
    current = law.current(voltage, states)
    assert torch.equal(current.detach(), torch.zeros(3, dtype=torch.float64))
    (slope,) = torch.autograd.grad(current.sum(), voltage)
    torch.testing.assert_close(slope, 1 / (1 / states + 0.15 / 1e-8), rtol=1e-9, atol=0)


def test_temperature_reaches_the_memristor() -> None:
    device = Ohmic(activation_energy=0.1 * 1.602176634e-19)
    cell = SelectorCell(device=device, selector=SELECTOR)
    spec = TileSpec(rows=2, cols=2, cell=cell, temperature=350.0)
    found = cell_law(spec).current(torch.tensor(0.5, dtype=torch.float64), torch.tensor(1e-6, dtype=torch.float64))
    assert float(found) == pytest.approx(series_current(device, 1e-6, 0.5, 350.0), rel=1e-9)
    alone = cell_law(TileSpec(rows=2, cols=2, cell=device, temperature=350.0))
    assert isinstance(alone, DeviceLaw)
    assert alone.linear
    volt, state = torch.tensor(0.5), torch.tensor(1e-6)
    assert float(alone.current(volt, state)) == pytest.approx(float(device.current(0.5, 1e-6, 350.0)), rel=1e-6)


@pytest.mark.parametrize("cell", [SelectorCell(selector=ThresholdSelector()), TransistorCell()], ids=lambda c: c.model)
def test_other_cells_are_refused_by_name(cell) -> None:
    with pytest.raises(NotAvailable, match=f"{cell.model} cells"):
        cell_law(TileSpec(rows=2, cols=2, cell=cell))
