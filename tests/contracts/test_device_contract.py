"""What every Device must do. A new device joins by one entry in DEVICES: the object, its equation, its states."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch

from mdls_cosim.devices import (
    Device,
    DynamicDevice,
    ExponentialSelector,
    Nmos,
    Ohmic,
    Selector,
    Sinh,
    ThresholdSelector,
    Vteam,
)
from mdls_cosim.errors import ConfigError
from mdls_cosim.spice import Deck, format_number


@dataclass(frozen=True)
class Member:
    device: Device
    equation: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (voltage, state) -> current, written independently
    states: tuple[float, ...]  # that of least conductance first
    conductances: tuple[float, ...]  # some that it can show [S]
    opens: bool = True  # the first state carries no current
    rate: Callable[[float, float], float] | None = None  # dx/dt (voltage, state) of a DynamicDevice


# 1/V; e^x for sinh, so that the equation is not the device's own call.
def sinh_equation(a: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda voltage, state: state * (np.exp(a * voltage) - np.exp(-a * voltage)) / (2 * a)


CONDUCTANCES = (0.0, 1e-9, 2.5e-6, 1e-4)
SHOWN = (0.0, 1e-9, 1e-6, 3e-5, 1e-4)


def vteam_rate(off: tuple[float, float, float], on: tuple[float, float, float], p: int) -> Callable:
    """(threshold, rate, exponent) of either direction; word for word from 10.1109/TCSII.2015.2433536."""

    def rate(voltage: float, x: float) -> float:
        if voltage > off[0]:
            return off[1] * (voltage / off[0] - 1) ** off[2] * (1 - x ** (2 * p))
        if voltage < on[0]:
            return -on[1] * (voltage / on[0] - 1) ** on[2] * (1 - (x - 1) ** (2 * p))
        return 0.0

    return rate


RESISTANCES = {"on_resistance": 2e3, "off_resistance": 400e3}
DEVICES = {
    "ohmic": Member(Ohmic(), lambda voltage, state: voltage * state, CONDUCTANCES, SHOWN),
    "sinh": Member(Sinh(nonlinearity=3.0), sinh_equation(3.0), CONDUCTANCES, SHOWN),
    "steep sinh": Member(Sinh(nonlinearity=12.0), sinh_equation(12.0), CONDUCTANCES, SHOWN),
    "vteam": Member(
        Vteam(**RESISTANCES),
        lambda voltage, state: voltage / (2e3 * (1 - state) + 400e3 * state),
        (1.0, 0.7, 0.05, 0.0),
        (2.5e-6, 1e-5, 1e-4, 5e-4),
        opens=False,
        rate=vteam_rate((0.3, 0.091 / 3e-9, 4), (-1.5, 216.2 / 3e-9, 4), 1),
    ),
    "exponential vteam": Member(
        Vteam(
            **RESISTANCES,
            conduction="exponential",
            off_voltage=0.2,
            on_voltage=-0.1,
            off_rate=2e3,
            on_rate=7e4,
            off_exponent=1.5,
            on_exponent=3.0,
            window_exponent=3,
        ),
        lambda voltage, state: voltage / (2e3 ** (1 - state) * 400e3**state),
        (1.0, 0.7, 0.05, 0.0),
        (2.5e-6, 1e-5, 1e-4, 5e-4),
        opens=False,
        rate=vteam_rate((0.2, 2e3, 1.5), (-0.1, 7e4, 3.0), 3),
    ),
}
DYNAMIC = [name for name, member in DEVICES.items() if member.rate is not None]
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
        if not member.opens:
            pytest.skip("it conducts in every state")
        assert np.all(member.device.current(VOLTAGES, np.array(member.states[0])) == 0)

    def test_current_rises_with_voltage(self, member: Member, states: np.ndarray):
        rise = np.diff(member.device.current(VOLTAGES, states), axis=1)
        assert np.all((rise[0] == 0) if member.opens else (rise[0] > 0))
        assert np.all(rise[1:] > 0)

    def test_current_rises_with_conductance(self, member: Member):
        conductances = np.linspace(member.conductances[0], 1e-4, 11)
        currents = member.device.current(np.array(0.2), member.device.state_for(conductances, 0.1))
        assert np.all(np.diff(currents) > 0)

    @pytest.mark.parametrize("reference_voltage", [0.0, 0.1, -0.2, 0.5])
    def test_the_state_for_a_conductance_shows_that_conductance(self, member: Member, reference_voltage: float):
        conductances = np.array(member.conductances)
        states = member.device.state_for(conductances, reference_voltage)
        again = member.device.conductance(states, reference_voltage)
        # A state that is no conductance is rounded itself: R_off of it over R_on.
        np.testing.assert_allclose(again, conductances, rtol=1e-14 if member.opens else 1e-13)
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
        # Sums over voltages of both signs cancel; 1e-9 of the largest term, and the rounding of the difference.
        left = 1e-9 * np.abs(both).max() + 1e-15 * np.abs(member.equation(VOLTAGES, states)).max()
        np.testing.assert_allclose(
            state.grad[:, 0], both.sum(1) / (share * 1e-6), rtol=1e-6, atol=left / (share * 1e-6)
        )

    def test_linear_says_whether_it_is(self, member: Member):
        state = np.array(member.states[-1])
        doubled = member.equation(np.array(0.4), state) / member.equation(np.array(0.2), state)
        assert member.device.linear == bool(np.isclose(doubled, 2.0, rtol=1e-9))

    @pytest.mark.ngspice
    def test_its_spice_twin(self, member: Member, engine):
        for state in member.states:
            currents = engine.run(twin(member.device, state), VOLTAGES[:, None]).column("i(vout)")
            expected = member.equation(VOLTAGES, np.array(state))
            np.testing.assert_allclose(currents, expected, rtol=1e-9, atol=1e-20)

    @pytest.mark.parametrize("temperature", [250.0, 400.0])
    def test_all_of_its_current_is_thermally_activated(self, member: Member, temperature: float):
        warm = member.device.replace(activation_energy="0.1 eV")
        expected = np.exp(-0.1 / 8.617333262e-5 * (1 / temperature - 1 / 300))
        assert warm.thermal_factor(temperature) == pytest.approx(expected, rel=1e-9)
        assert member.device.thermal_factor(temperature) == 1.0

    @pytest.mark.ngspice
    def test_so_is_its_twins(self, member: Member, engine):
        warm, state = member.device.replace(activation_energy="0.1 eV"), member.states[-2]
        currents = engine.run(twin(warm, state, 350.0), VOLTAGES[:, None]).column("i(vout)")
        factor = np.exp(-0.1 / 8.617333262e-5 * (1 / 350 - 1 / 300))
        expected = factor * member.equation(VOLTAGES, np.array(state))
        np.testing.assert_allclose(currents, expected, rtol=1e-8, atol=1e-20)

    def test_it_is_a_value(self, member: Member):
        same = type(member.device)(**member.device.as_dict())
        assert same == member.device
        assert hash(same) == hash(member.device)


def twin(device: Device, state: float, temperature: float = 300.0) -> Deck:
    """One cell between a source and ground; a state that moves is held, and its rate read."""
    own = device.spice_parameters(state, temperature)
    parameters = " ".join(f"{name}={format_number(value)}" for name, value in own.items())
    moves = isinstance(device, DynamicDevice)
    pins = "in out state" if moves else "in out"
    held = (f"Vstate state 0 {format_number(state)}",) if moves else ()
    return Deck(
        title="one cell",
        elements=("Vin in 0 0", f"Xcell {pins} {device.spice_model} {parameters}", "Vout out 0 0", *held),
        models=(device.spice_model,),
        sources=("Vin",),
        probes=("i(vout)", *(("i(vstate)",) if moves else ())),
        balance=("vin", "vout"),
    )


RATE_VOLTAGES = np.array([-3.1, -1.5, -1.2, -0.11, -0.05, 0.0, 0.19, 0.3, 0.31, 0.9])
STATES = np.array([0.0, 1e-3, 0.3, 0.8, 1.0])


@pytest.mark.parametrize("name", DYNAMIC)
class TestDynamicDeviceContract:
    def test_its_rate(self, name: str):
        member = DEVICES[name]
        device, rate = member.device, member.rate
        assert isinstance(device, DynamicDevice)
        assert rate is not None
        found = device.state_rate(RATE_VOLTAGES[:, None], STATES)
        expected = [[rate(float(voltage), float(x)) for x in STATES] for voltage in RATE_VOLTAGES]
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)

    def test_the_state_stays_between_its_ends(self, name: str):
        device = DEVICES[name].device
        assert isinstance(device, DynamicDevice)
        rates = device.state_rate(RATE_VOLTAGES[:, None], np.array([0.0, 1.0]))
        assert np.all(rates[:, 0] >= 0)
        assert np.all(rates[:, 1] <= 0)
        assert np.any(rates[:, 0] > 0)
        assert np.any(rates[:, 1] < 0)

    def test_raising_sign_says_which_voltage_raises_the_conductance(self, name: str):
        device = DEVICES[name].device
        assert isinstance(device, DynamicDevice)
        for sign in (1, -1):
            drift = np.sign(device.state_rate(np.array(3.0 * sign), np.array(0.5)))
            steeper = device.conductance(np.array(0.5 + 1e-3 * drift)) > device.conductance(np.array(0.5))
            assert steeper == (sign == device.raising_sign)

    def test_torch_agrees(self, name: str):
        device = DEVICES[name].device
        assert isinstance(device, DynamicDevice)
        found = device.state_rate(torch.as_tensor(RATE_VOLTAGES)[:, None], torch.as_tensor(STATES))
        np.testing.assert_allclose(found, device.state_rate(RATE_VOLTAGES[:, None], STATES), rtol=1e-13)

    def test_a_conductance_between_the_ends_has_a_state_between_0_and_1(self, name: str):
        device = DEVICES[name].device
        assert isinstance(device, Vteam)
        ends = np.array([1 / 400e3, 1 / 2e3])
        np.testing.assert_allclose(device.state_for(ends), [1, 0], atol=1e-12)

    @pytest.mark.ngspice
    def test_its_twin_moves_at_its_rate(self, name: str, engine):
        """1 nA into the pin is 1/s."""
        member = DEVICES[name]
        assert member.rate is not None
        for x in STATES:
            currents = engine.run(twin(member.device, float(x)), RATE_VOLTAGES[:, None]).column("i(vstate)")
            expected = np.array([member.rate(float(voltage), float(x)) for voltage in RATE_VOLTAGES])
            # gmin at the pin: 1e-15 A of 1 V, a rate of 1e-6 1/s.
            np.testing.assert_allclose(currents * 1e9, expected, rtol=1e-9, atol=1e-5)

    @pytest.mark.ngspice
    def test_the_speed_of_a_twin_is_a_factor(self, name: str, engine):
        deck = twin(DEVICES[name].device, 0.4)
        faster = [line.replace("exponential=", "speed=2.5 exponential=") for line in deck.elements]
        fast = Deck(deck.title, tuple(faster), deck.models, deck.sources, deck.probes, deck.balance)
        volts = np.array([[-3.0], [0.9]])
        np.testing.assert_allclose(engine.run(fast, volts).values[:, 1], 2.5 * engine.run(deck, volts).values[:, 1])


@pytest.mark.parametrize(
    "changes",
    [
        {"off_resistance": 1e3, "on_resistance": 1e3},
        {"on_voltage": 0.1},
        {"off_voltage": -0.1},
        {"window_exponent": 0},
        {"off_rate": 0.0},
        {"off_exponent": 0.5},
    ],
    ids=str,
)
def test_impossible_vteams_are_refused(changes):
    with pytest.raises(ConfigError):
        Vteam(**changes)


def through_threshold(selector: ThresholdSelector, volts: float, branch: float) -> float:
    above = abs(volts) - selector.hold_voltage
    corner = (above + (above**2 + 1e-6) ** 0.5) / 2 - (
        (selector.hold_voltage**2 + 1e-6) ** 0.5 - selector.hold_voltage
    ) / 2
    s = min(max(2 * branch - 1, 0), 1)  # it conducts from half way on
    return (
        volts / selector.off_resistance + s * s * (3 - 2 * s) * corner * np.tanh(volts / 1e-3) / selector.on_resistance
    )


OVONIC = ThresholdSelector(threshold_voltage=0.55, hold_voltage=0.25, off_resistance=1e7, on_resistance=3e3)
SELECTORS: dict[str, tuple[Selector, Callable[[float, float], float]]] = {
    "exponential": (
        ExponentialSelector(saturation_current=4e-9, slope_voltage=0.11),
        lambda volts, branch: 4e-9 * (np.exp(volts / 0.11) - np.exp(-volts / 0.11)) / 2,
    ),
    "threshold": (OVONIC, lambda volts, branch: through_threshold(OVONIC, volts, branch)),
}


@pytest.mark.parametrize("name", SELECTORS)
class TestSelectorContract:
    def test_its_equation_is_odd_and_passive(self, name: str):
        selector, equation = SELECTORS[name]
        for volts, branch in product(VOLTAGES, (0.0, 1.0)):
            found = float(selector.current(np.array(volts), np.array(branch)))
            assert found == pytest.approx(equation(float(volts), branch), rel=1e-11, abs=1e-17)
            assert found == -float(selector.current(np.array(-volts), np.array(branch)))
            assert found * volts >= 0

    @pytest.mark.ngspice
    def test_its_spice_twin(self, name: str, engine):
        selector, equation = SELECTORS[name]
        parameters = " ".join(f"{key}={format_number(value)}" for key, value in selector.spice_parameters().items())
        for branch in (0.0, 0.3, 0.7, 1.0) if selector.hysteretic else (0.0,):
            held = (f"Vb b 0 {format_number(branch)}",) if selector.hysteretic else ()
            pins = "in out b" if selector.hysteretic else "in out"
            deck = Deck(
                title="one selector",
                elements=("Vin in 0 0", f"Xs {pins} {selector.spice_model} {parameters}", "Vout out 0 0", *held),
                models=(selector.spice_model,),
                sources=("Vin",),
                probes=("i(vout)", *(("i(vb)",) if held else ())),
                balance=("vin", "vout"),
            )
            result = engine.run(deck, VOLTAGES[:, None])
            expected = [equation(float(volts), branch) for volts in VOLTAGES]
            np.testing.assert_allclose(result.column("i(vout)"), expected, rtol=1e-9, atol=1e-18)
            if held:
                # Between the thresholds either end of the branch is at rest.
                size = np.abs(VOLTAGES)
                known = (size > 0.55) | (size < 0.25) | (branch in (0.0, 1.0))
                rate = np.where(size > 0.55, 1 - branch, np.where(size < 0.25, -branch, 0)) / 1e-9
                np.testing.assert_allclose(result.column("i(vb)")[known] * 1e9, rate[known], rtol=1e-9, atol=1e-5)


def test_the_branch_of_a_threshold_selector():
    volts = np.array([0.1, -0.1, 0.3, -0.3, 0.6, -0.6])
    np.testing.assert_array_equal(OVONIC.consistent_branch(volts, np.zeros(6)), [0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(OVONIC.consistent_branch(volts, np.ones(6)), [0, 0, 1, 1, 1, 1])
    with pytest.raises(ConfigError, match="hold_voltage"):
        ThresholdSelector(threshold_voltage=0.5, hold_voltage=0.5)


def test_a_transistor_hands_all_of_its_parameters_to_its_twin():
    """Seven fields, seven different numbers."""
    fet = Nmos(
        threshold_voltage=0.41,
        transconductance=2e-4,
        width=3e-6,
        length=5e-7,
        body_effect=0.37,
        surface_potential=0.81,
        channel_modulation=0.05,
    )
    expected = {"vto": 0.41, "kp": 2e-4, "w": 3e-6, "l": 5e-7, "gamma": 0.37, "phi": 0.81, "lam": 0.05}
    assert fet.spice_parameters() == expected
