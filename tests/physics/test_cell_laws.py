"""A memristor and a selector in series: their current against Kirchhoff's laws solved one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from level1 import Level1
from scipy.optimize import brentq

from mdls_cosim.devices import Device, ExponentialSelector, Nmos, Ohmic, PolynomialRead, Sinh, ThresholdSelector
from mdls_cosim.errors import NotAvailable
from mdls_cosim.fidelity.cell_law import Barrier, Channel, DeviceLaw, SeriesLaw, cell_law
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
    law = SeriesLaw(device, Barrier(SELECTOR))
    conductances = (6e-5, 2e-4) if isinstance(device, PolynomialRead) else (1e-9, 1e-6, 1e-4)
    states = torch.tensor(conductances, dtype=torch.float64)
    found = law.current(torch.tensor(VOLTAGES, dtype=torch.float64)[:, None], states)
    wanted = [[series_current(device, g, v) for g in conductances] for v in VOLTAGES]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-22)


def test_derivatives_are_those_of_the_equation() -> None:
    law = SeriesLaw(Sinh(nonlinearity=3.0), Barrier(SELECTOR))
    voltages = torch.tensor([0.7, -0.9, 0.2, -0.01], dtype=torch.float64, requires_grad=True)
    states = torch.tensor([10.0, 2.0, 50.0, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, g: 1e6 * law.current(v, 1e-6 * g), (voltages, states))
    assert torch.autograd.gradgradcheck(lambda v, g: 1e6 * law.current(v, 1e-6 * g), (voltages, states))


@pytest.mark.parametrize("second", [Barrier(SELECTOR), Channel(Nmos(body_effect=0.4), 1.8)], ids=["selector", "fet"])
def test_single_precision(second) -> None:
    law = SeriesLaw(Sinh(nonlinearity=3.0), second)
    voltages, states = torch.linspace(-0.9, 0.9, 50)[:, None], torch.tensor([1e-6, 3e-5, 1e-4])
    exact, single = law.current(voltages.double(), states.double()), law.current(voltages, states)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)


def test_what_newton_leaves_is_found_between_brackets(monkeypatch) -> None:
    """A memristor far steeper than its selector; with one step of Newton's everything is left."""
    law = SeriesLaw(Sinh(nonlinearity=40.0), Barrier(SELECTOR))
    voltages = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)[:, None]
    states = torch.tensor([1e-9, 1e-6, 1e-4], dtype=torch.float64)
    found = law.current(voltages, states)
    monkeypatch.setattr("mdls_cosim.fidelity.cell_law._STEPS", 1)
    torch.testing.assert_close(law.current(voltages, states), found, rtol=1e-11, atol=1e-24)
    across = 0.15 * torch.asinh(found / 1e-8)
    passed = Sinh(nonlinearity=40.0).current(voltages - across, states)
    # 1e-14 V over the memristor is what the difference of the voltages leaves open.
    slopes = states * torch.cosh(40.0 * (voltages - across))
    assert bool(((passed - found).abs() <= 1e-14 * slopes + 1e-12 * found.abs()).all())


def test_cells_without_a_voltage_or_a_current() -> None:
    for second in (Barrier(SELECTOR), Channel(Nmos(), 1.8), Channel(Nmos(), 0.2)):
        law = SeriesLaw(Ohmic(), second)
        voltages = torch.tensor([0.0, 0.4, torch.nan], dtype=torch.float64)
        assert not law.current(voltages[:2], torch.zeros(2, dtype=torch.float64)).any()
        found = law.current(voltages, torch.full((3,), 1e-5, dtype=torch.float64))
        assert found[0] == 0
        assert torch.isnan(found[2])


def test_at_rest_two_conductances_are_in_series() -> None:
    law = SeriesLaw(Ohmic(), Barrier(SELECTOR))
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


FETS = {
    "plain": Nmos(),
    "body effect and modulation": Nmos(body_effect=0.5, channel_modulation=0.1, threshold_voltage=0.5),
}


@pytest.mark.parametrize("name", FETS)
def test_the_channel_is_that_of_level_1(name: str) -> None:
    fet = FETS[name]
    model = Level1(
        fet.threshold_voltage, fet.transconductance, fet.width / fet.length, fet.body_effect, fet.surface_potential,
        fet.channel_modulation,
    )  # fmt: skip
    volts = np.linspace(-1.0, 1.5, 26)
    drain, source = np.meshgrid(volts, volts)
    for gate in (-0.5, 0.6, 1.8):
        wanted = np.vectorize(lambda d, s, gate=gate: model.drain_current(d, gate, s))(drain, source)
        np.testing.assert_allclose(fet.current(drain, gate, source), wanted, rtol=1e-12, atol=1e-20)
        found = fet.current(torch.as_tensor(drain), gate, torch.as_tensor(source))
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-20)


@pytest.mark.parametrize("name", FETS)
@pytest.mark.parametrize("gate", [0.3, 1.8])
def test_memristor_and_transistor_carry_one_current(name: str, gate: float) -> None:
    fet, device = FETS[name], Sinh(nonlinearity=3.0)
    spec = TileSpec(rows=2, cols=2, cell=TransistorCell(device=device, transistor=fet, gate_voltage=gate))
    states = torch.tensor([1e-6, 1e-4], dtype=torch.float64)
    found = cell_law(spec).current(torch.tensor(VOLTAGES, dtype=torch.float64)[:, None], states)
    for voltage, row in zip(VOLTAGES, found.tolist(), strict=True):
        for conductance, current in zip(states.tolist(), row, strict=True):

            def mismatch(drain: float, voltage: float = voltage, conductance: float = conductance) -> float:
                through = fet.current(np.array(drain), gate, np.array(0.0))
                return float(through) - float(device.current(voltage - drain, conductance))

            drain = brentq(mismatch, min(voltage, 0.0), max(voltage, 0.0), xtol=1e-18, rtol=1e-14)
            wanted = float(fet.current(np.array(drain), gate, np.array(0.0)))
            assert current == pytest.approx(wanted, rel=1e-8, abs=1e-18)
    # A closed transistor passes nothing of either sign, but for a drain below the gate's threshold.
    assert gate > 1 or not found[torch.tensor(VOLTAGES) > -0.1].any()


@pytest.mark.parametrize(
    "spec",
    [
        TileSpec(rows=2, cols=2, cell=SelectorCell(selector=ThresholdSelector())),
        TileSpec(rows=2, cols=2, cell=TransistorCell(), temperature=350.0),
    ],
    ids=lambda spec: spec.cell.model,
)
def test_other_cells_are_refused_by_name(spec: TileSpec) -> None:
    with pytest.raises(NotAvailable, match=f"{spec.cell.model} cells"):
        cell_law(spec)
