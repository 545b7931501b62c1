"""What every Device must do. A new device joins by one entry in DEVICES: the object, its equation, its states."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mdls_cosim.devices import Device, Ohmic, Sinh
from mdls_cosim.spice import Deck, format_number


@dataclass(frozen=True)
class Member:
    device: Device
    equation: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (voltage, state) -> current, written independently
    states: tuple[float, ...]  # the first carries no current


# 1/V; e^x for sinh, so that the equation is not the device's own call.
def sinh_equation(a: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda voltage, state: state * (np.exp(a * voltage) - np.exp(-a * voltage)) / (2 * a)


CONDUCTANCES = (0.0, 1e-9, 2.5e-6, 1e-4)
DEVICES = {
    "ohmic": Member(Ohmic(), lambda voltage, state: voltage * state, CONDUCTANCES),
    "sinh": Member(Sinh(nonlinearity=3.0), sinh_equation(3.0), CONDUCTANCES),
    "steep sinh": Member(Sinh(nonlinearity=12.0), sinh_equation(12.0), CONDUCTANCES),
}
VOLTAGES = np.linspace(-0.6, 0.6, 13)


@pytest.fixture(params=DEVICES)
def member(request: pytest.FixtureRequest) -> Member:
    return DEVICES[request.param]


@pytest.fixture
def states(member: Member) -> np.ndarray:
    return np.array(member.states)[:, None]


class TestDeviceContract:
    def test_its_equation(self, member: Member, states: np.ndarray):
        # 1e-16 A: the exponentials' own cancellation near 0 V.
        expected = member.equation(VOLTAGES, states)
        np.testing.assert_allclose(member.device.current(VOLTAGES, states), expected, rtol=1e-12, atol=1e-16)

    def test_no_voltage_no_current(self, member: Member, states: np.ndarray):
        assert np.all(member.device.current(np.zeros(1), states) == 0)

    def test_the_empty_state_carries_no_current(self, member: Member):
        assert np.all(member.device.current(VOLTAGES, np.array(member.states[0])) == 0)

    def test_current_rises_with_voltage(self, member: Member, states: np.ndarray):
        rise = np.diff(member.device.current(VOLTAGES, states), axis=1)
        assert np.all(rise[0] == 0)
        assert np.all(rise[1:] > 0)

    def test_current_rises_with_conductance(self, member: Member):
        conductances = np.linspace(0, 1e-4, 11)
        currents = member.device.current(np.array(0.2), member.device.state_for(conductances, 0.1))
        assert np.all(np.diff(currents) > 0)

    @pytest.mark.parametrize("reference_voltage", [0.0, 0.1, -0.2, 0.5])
    def test_the_state_for_a_conductance_shows_that_conductance(self, member: Member, reference_voltage: float):
        conductances = np.array([0.0, 1e-9, 1e-6, 3e-5, 1e-4])
        states = member.device.state_for(conductances, reference_voltage)
        again = member.device.conductance(states, reference_voltage)
        np.testing.assert_allclose(again, conductances, rtol=1e-14)
        # I/V there; towards 0 V the small-signal limit.
        at = np.array(reference_voltage or 1e-7)
        np.testing.assert_allclose(member.equation(at, states) / at, conductances, rtol=1e-7, atol=0)

    def test_conductance_is_current_over_voltage(self, member: Member, states: np.ndarray):
        for voltage in (0.05, 0.3, -0.6):
            found = member.device.conductance(states, voltage)
            np.testing.assert_allclose(found, member.equation(np.array(voltage), states) / voltage, rtol=1e-12)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_numpy_and_torch_agree(self, member: Member, states: np.ndarray, dtype: type):
        voltages, states = VOLTAGES.astype(dtype), states.astype(dtype)
        by_numpy = member.device.current(voltages, states)
        by_torch = member.device.current(torch.as_tensor(voltages), torch.as_tensor(states))
        assert by_numpy.dtype == dtype
        assert by_torch.dtype == torch.as_tensor(voltages).dtype
        # A few roundings of two mathematical libraries.
        np.testing.assert_allclose(by_torch.numpy(), by_numpy, rtol=8 * np.finfo(dtype).eps)

    def test_torch_differentiates_it(self, member: Member, states: np.ndarray):
        voltages = torch.as_tensor(VOLTAGES).requires_grad_()
        state = torch.as_tensor(states).requires_grad_()
        member.device.current(voltages, state).sum().backward()
        step = 1e-5
        slope = (member.equation(VOLTAGES + step, states) - member.equation(VOLTAGES - step, states)) / (2 * step)
        np.testing.assert_allclose(voltages.grad, slope.sum(0), rtol=1e-7)
        share = 0.01
        both = member.equation(VOLTAGES, states + share * 1e-6) - member.equation(VOLTAGES, states)
        # Sums over voltages of both signs cancel; 1e-9 of the largest term.
        np.testing.assert_allclose(
            state.grad[:, 0], both.sum(1) / (share * 1e-6), rtol=1e-6, atol=1e-9 * np.abs(both).max() / (share * 1e-6)
        )

    def test_linear_says_whether_it_is(self, member: Member):
        state = np.array(member.states[-1])
        doubled = member.equation(np.array(0.4), state) / member.equation(np.array(0.2), state)
        assert member.device.linear == bool(np.isclose(doubled, 2.0, rtol=1e-9))

    @pytest.mark.ngspice
    def test_its_spice_twin(self, member: Member, engine):
        for state in member.states:
            parameters = " ".join(
                f"{name}={format_number(value)}" for name, value in member.device.spice_parameters(state).items()
            )
            deck = Deck(
                title="one cell",
                elements=("Vin in 0 0", f"Xcell in out {member.device.spice_model} {parameters}", "Vout out 0 0"),
                models=(member.device.spice_model,),
                sources=("Vin",),
                probes=("i(vout)",),
                balance=("vin", "vout"),
            )
            currents = engine.run(deck, VOLTAGES[:, None]).column("i(vout)")
            expected = member.equation(VOLTAGES, np.array(state))
            np.testing.assert_allclose(currents, expected, rtol=1e-9, atol=1e-20)

    def test_it_is_a_value(self, member: Member):
        same = type(member.device)(**member.device.as_dict())
        assert same == member.device
        assert hash(same) == hash(member.device)
