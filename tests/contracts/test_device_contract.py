"""What every Device must do. A new device joins by one entry in a `DEVICES` of tests/reference/members_*.py: the
object, its equations written again, its states."""

import math
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path

import device_member
import numpy as np
import pytest
import torch
from device_member import Member, twin
from scipy.integrate import solve_ivp

from mdls_cosim.config import Config
from mdls_cosim.devices import (
    Device,
    DynamicDevice,
    ExponentialSelector,
    Nmos,
    Selector,
    ThresholdSelector,
    Vteam,
)
from mdls_cosim.devices.data_driven import DataDriven
from mdls_cosim.devices.linear_ion_drift import LinearIonDrift
from mdls_cosim.devices.metastable_switch import MetastableSwitch
from mdls_cosim.devices.parameter_files import parameter_set_names, read_parameter_file
from mdls_cosim.devices.yakopcic import Yakopcic
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.spice import Deck, format_number

DEVICES: dict[str, Member] = {}
for path in sorted(Path(device_member.__file__).parent.glob("members_*.py")):
    for key, found in import_module(path.stem).DEVICES.items():
        assert key not in DEVICES
        DEVICES[key] = found
DYNAMIC = [name for name, member in DEVICES.items() if isinstance(member.device, DynamicDevice)]
VOLTAGES = np.linspace(-0.6, 0.6, 13)
STATES = np.array([0.0, 1e-3, 0.3, 0.8, 1.0])
# Steppers and searches come this far.
FAR_VOLTAGES = np.linspace(-5.0, 5.0, 41)
FAR_STATES = np.array([-1e-3, 0.0, 1e-9, 0.3, 1.0 - 1e-9, 1.0, 1.001])


@pytest.fixture(params=DEVICES)
def member(request: pytest.FixtureRequest) -> Member:
    return DEVICES[request.param]


@pytest.fixture
def states(member: Member) -> np.ndarray:
    return np.array(member.states)[:, None]


def current_at(member: Member, voltage: np.ndarray, state: np.ndarray, temperature: float) -> np.ndarray:
    """The independent equation, activation aside."""
    warm = member.warm_equation
    return member.equation(voltage, state) if warm is None else warm(voltage, state, temperature)


def rate_at(member: Member, voltage: np.ndarray, temperature: float = 300.0) -> np.ndarray:
    """dx/dt by the independent equation: a row for each voltage, a column for each of STATES."""
    return np.array([[rate_of(member, float(volts), float(x), temperature) for x in STATES] for volts in voltage])


def rate_of(member: Member, voltage: float, x: float, temperature: float) -> float:
    assert member.rate is not None
    return member.rate(voltage, x) if member.warm_rate is None else member.warm_rate(voltage, x, temperature)


def numbers(device: Device) -> list[str]:
    """Parameters that may become arrays: exponents that are whole numbers stay."""
    return [name for name in type(device).model_fields if isinstance(getattr(device, name), float)]


def neighbours(device: Device, name: str) -> list[Device]:
    """Devices with a parameter a little lower and higher, as far as its bounds allow."""
    value = getattr(device, name)
    tried = [value * 0.97, value, value * 1.02] if value else [0.0, 1.6e-21]  # an energy of 10 meV, or of no effect
    found = []
    for changed in tried:
        try:
            found.append(device.replace(**{name: changed}))
        except ConfigError:
            continue
    assert len(found) > 1
    return found


class TestDeviceContract:
    def test_its_equation(self, member: Member, states: np.ndarray):
        expected = member.equation(VOLTAGES, states)
        # The exponentials' own cancellation near 0 V.
        left = 1e-16 + 1e-15 * np.abs(expected).max()
        np.testing.assert_allclose(member.device.current(VOLTAGES, states), expected, rtol=member.agreement, atol=left)

    def test_thermal_says_whether_temperature_is_in_its_equations(self, member: Member, states: np.ndarray):
        expected = current_at(member, VOLTAGES, states, 350.0)
        left = 1e-16 + 1e-15 * np.abs(expected).max()
        np.testing.assert_allclose(
            member.device.current(VOLTAGES, states, 350.0), expected, rtol=member.agreement, atol=left
        )
        assert member.device.thermal == (member.warm_equation is not None or member.warm_rate is not None)

    def test_plain_numbers_do(self, member: Member):
        device, state, voltage = member.device, member.states[-1], 0.2
        as_array = device.current(np.array([voltage]), np.array([state]))
        assert device.current(voltage, state) == pytest.approx(float(as_array[0]), rel=1e-12, abs=0)
        conductance = float(device.conductance(state, 0.1))
        assert float(device.state_for(conductance, 0.1)) == pytest.approx(state, rel=1e-9, abs=1e-12)

    def test_conductances_outside_its_range_are_refused(self, member: Member):
        lowest, highest = member.device.conductance_range()
        beyond = 1.01 * highest if np.isfinite(highest) else -1e-6
        for wrong in (beyond, np.nan):
            for conductances in (np.array(wrong), np.array([[lowest, wrong]]), torch.tensor([wrong])):
                with pytest.raises(InputError, match=f"no state of {member.device.model} has"):
                    member.device.check_range(conductances)
        member.device.check_range(np.array([lowest, min(highest, 1.0)]))

    def test_no_voltage_no_current(self, member: Member, states: np.ndarray):
        for temperature in (300.0, 340.0):
            assert np.all(member.device.current(np.zeros(1), states, temperature) == 0)

    def test_the_empty_state_carries_no_current(self, member: Member):
        if not member.opens:
            pytest.skip("it conducts in every state")
        assert np.all(member.device.current(VOLTAGES, np.array(member.states[0])) == 0)

    def test_current_rises_with_voltage(self, member: Member, states: np.ndarray):
        rise = np.diff(member.device.current(VOLTAGES, states), axis=1)
        assert np.all((rise[0] == 0) if member.opens else (rise[0] > 0))
        assert np.all(rise[1:] > 0)

    def test_current_rises_with_conductance(self, member: Member):
        conductances = np.linspace(member.conductances[0], member.conductances[-1], 11)
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
            np.testing.assert_allclose(
                found, member.equation(np.array(voltage), states) / voltage, rtol=member.agreement
            )

    @pytest.mark.parametrize("reference_voltage", [0.0, 0.1, -0.2])
    def test_its_range_holds_every_conductance(self, member: Member, reference_voltage: float):
        low, high = member.device.conductance_range(reference_voltage)
        assert isinstance(low, float)
        assert isinstance(high, float)
        states = np.linspace(0, 1, 101) if isinstance(member.device, DynamicDevice) else np.array(member.states)
        shown = member.device.conductance(states, reference_voltage)
        assert np.all(shown >= low * (1 - 1e-12))
        assert np.all(shown <= high * (1 + 1e-12))
        if isinstance(member.device, DynamicDevice):
            np.testing.assert_allclose([shown.min(), shown.max()], [low, high], rtol=1e-12)
            ends = member.device.state_for(np.array([low, high]), reference_voltage)
            np.testing.assert_allclose(np.sort(ends), [0, 1], atol=1e-9)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_numpy_and_torch_agree(self, member: Member, states: np.ndarray, dtype: type):
        voltages, states = VOLTAGES.astype(dtype), states.astype(dtype)
        by_numpy = member.device.current(voltages, states)
        by_torch = member.device.current(torch.as_tensor(voltages), torch.as_tensor(states))
        assert by_numpy.dtype == dtype
        assert by_torch.dtype == torch.as_tensor(voltages).dtype
        # A few roundings of two mathematical libraries.
        np.testing.assert_allclose(by_torch.numpy(), by_numpy, rtol=member.rounding * np.finfo(dtype).eps)

    def test_torch_differentiates_it(self, member: Member, states: np.ndarray):
        volts = np.array(member.smooth_voltages)
        voltages = torch.as_tensor(volts).requires_grad_()
        state = torch.as_tensor(states).requires_grad_()
        member.device.current(voltages, state).sum().backward()
        step = 1e-5
        slope = (member.equation(volts + step, states) - member.equation(volts - step, states)) / (2 * step)
        np.testing.assert_allclose(voltages.grad, slope.sum(0), rtol=1e-7)
        # A state that is a conductance has its own scale; there is none below zero.
        step = 1e-6 if isinstance(member.device, DynamicDevice) else np.where(states > 0, 1e-4 * states, 1e-8)
        low = np.where((states > 0) | (not member.opens), states - step, states)
        ends = member.equation(volts, states + step), member.equation(volts, low)
        slope = (ends[0] - ends[1]) / (states + step - low)
        # Sums over voltages of both signs cancel; the largest term, and the rounding of the difference.
        left = 1e-7 * np.abs(slope).max() + (1e-15 * np.abs(ends[0]).max() / (states + step - low)).max()
        np.testing.assert_allclose(state.grad, slope.sum(1, keepdims=True), rtol=1e-6, atol=left)

    def test_torch_differentiates_it_in_its_parameters(self, member: Member, states: np.ndarray):
        """A sum with unlike weights, so that no two currents cancel unseen; each parameter by its own factor."""
        volts = torch.as_tensor(np.array(member.smooth_voltages))
        state = torch.as_tensor(states)
        names = [name for name in numbers(member.device) if getattr(member.device, name)]
        scale = float(np.abs(member.equation(volts.numpy(), states)).max())

        def currents(factors: torch.Tensor) -> torch.Tensor:
            own = {name: getattr(member.device, name) * factors[k] for k, name in enumerate(names)}
            return member.device.varied(own).current(volts, state) / scale

        if not names:
            pytest.skip("it has no parameters")
        factors = torch.ones(len(names), dtype=torch.float64, requires_grad=True)
        if not currents(factors).requires_grad:
            pytest.skip("none of its parameters is in the current")
        torch.autograd.gradcheck(currents, (factors,), atol=1e-6)

    def test_it_is_finite_far_outside(self, member: Member):
        dynamic = isinstance(member.device, DynamicDevice)
        states = FAR_STATES if dynamic else np.array(member.states)
        for dtype, temperature in product((np.float64, np.float32), (300.0, 350.0)):
            volts, far = FAR_VOLTAGES.astype(dtype)[:, None], states.astype(dtype)
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                assert np.all(np.isfinite(member.device.current(volts, far, temperature)))
                if isinstance(member.device, DynamicDevice):
                    assert np.all(np.isfinite(member.device.state_rate(volts, far, temperature)))
        voltage = torch.as_tensor(FAR_VOLTAGES)[:, None].clone().requires_grad_()
        state = torch.as_tensor(states).requires_grad_()
        total = member.device.current(voltage, state).sum()
        if isinstance(member.device, DynamicDevice):
            total = total + member.device.state_rate(voltage, state).sum()
        for slope in torch.autograd.grad(total, (voltage, state)):
            assert torch.all(torch.isfinite(slope))

    def test_a_population_is_each_of_its_devices(self, member: Member, states: np.ndarray):
        device = member.device
        volts = np.array(member.smooth_voltages)[:, None, None]
        conductances = np.array(member.conductances)[1:-1]
        for name in numbers(device):
            alone = neighbours(device, name)
            population = device.varied({name: np.array([getattr(one, name) for one in alone])})
            for temperature in (300.0, 350.0):
                together = population.current(volts, states, temperature)
                each = np.stack([one.current(volts[..., 0], states[:, 0], temperature) for one in alone], -1)
                np.testing.assert_allclose(np.broadcast_to(together, each.shape), each, rtol=1e-11, err_msg=name)
            for at in (0.0, 0.1, -0.2):
                each = [one.conductance(states[:, 0], at) for one in alone]
                together = np.broadcast_to(population.conductance(states, at), (len(states), len(alone)))
                np.testing.assert_allclose(together, np.stack(each, -1), rtol=1e-11, err_msg=name)
                found = population.state_for(conductances[:, None], at)
                each = np.stack([one.state_for(conductances, at) for one in alone], -1)
                found = np.broadcast_to(found, each.shape)
                np.testing.assert_allclose(found, each, rtol=1e-11, atol=1e-12, err_msg=name)

    def test_linear_says_whether_it_is(self, member: Member):
        state = np.array(member.states[-1])
        doubled = member.equation(np.array(0.4), state) / member.equation(np.array(0.2), state)
        assert member.device.linear == bool(np.isclose(doubled, 2.0, rtol=1e-9))

    @pytest.mark.ngspice
    def test_its_spice_twin(self, member: Member, engine):
        for state in member.states:
            currents = engine.run(twin(member.device, state), VOLTAGES[:, None]).column("i(vout)")
            expected = member.equation(VOLTAGES, np.array(state))
            left = 1e-20 + 1e-16 * np.abs(expected).max()  # of the loop's own sum at 0 V
            np.testing.assert_allclose(currents, expected, rtol=member.tolerance, atol=left)

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
        expected = factor * current_at(member, VOLTAGES, np.array(state), 350.0)
        # 1e-8: the physical constants above have ten digits.
        left = 1e-20 + 1e-16 * np.abs(expected).max()
        np.testing.assert_allclose(currents, expected, rtol=max(1e-8, member.tolerance), atol=left)

    def test_it_is_a_value(self, member: Member):
        same = type(member.device)(**member.device.as_dict())
        assert same == member.device
        assert hash(same) == hash(member.device)


def dynamic(name: str) -> tuple[Member, DynamicDevice]:
    member = DEVICES[name]
    assert isinstance(member.device, DynamicDevice)
    return member, member.device


def as_scale(rates: np.ndarray) -> float:
    """What a rate that should be zero is measured by."""
    return float(np.abs(rates).max())


@pytest.mark.parametrize("name", DYNAMIC)
class TestDynamicDeviceContract:
    @pytest.mark.parametrize("temperature", [300.0, 350.0])
    def test_its_rate(self, name: str, temperature: float):
        member, device = dynamic(name)
        volts = np.array(member.rate_voltages)
        found = device.state_rate(volts[:, None], STATES, temperature)
        expected = rate_at(member, volts, temperature)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)

    def test_the_state_stays_between_its_ends(self, name: str):
        member, device = dynamic(name)
        for temperature in (300.0, 350.0):
            rates = device.state_rate(np.linspace(-5, 5, 201)[:, None], np.array([0.0, 1.0]), temperature)
            assert np.all(rates[:, 0] >= 0)
            assert np.all(rates[:, 1] <= 0)
        rates = device.state_rate(np.array(member.rate_voltages)[:, None], np.array([0.0, 0.5, 1.0]))
        assert np.any(rates[:, 1] > 0)
        assert np.any(rates[:, 1] < 0)
        assert np.any(rates[:, 0] > 0) != member.sticks
        assert np.any(rates[:, 2] < 0) != member.sticks

    def test_raising_sign_says_which_voltage_raises_the_conductance(self, name: str):
        _, device = dynamic(name)
        for sign in (1, -1):
            drift = np.sign(device.state_rate(np.array(3.0 * sign), np.array(0.5)))
            steeper = device.conductance(np.array(0.5 + 1e-3 * drift)) > device.conductance(np.array(0.5))
            assert steeper == (sign == device.raising_sign)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_numpy_and_torch_agree_on_the_rate(self, name: str, dtype: type):
        member, device = dynamic(name)
        volts, states = np.array(member.rate_voltages, dtype)[:, None], STATES.astype(dtype)
        by_numpy = device.state_rate(volts, states)
        by_torch = device.state_rate(torch.as_tensor(volts), torch.as_tensor(states))
        assert by_numpy.dtype == dtype
        assert by_torch.dtype == torch.as_tensor(volts).dtype
        # Near a threshold, and where two motions cancel, the argument's own rounding counts.
        scale = np.abs(by_numpy).max(axis=1, keepdims=True)
        limit = 20 * member.rounding * np.finfo(dtype).eps
        assert np.all(np.abs(by_torch.numpy() - by_numpy) <= limit * scale)

    def test_torch_differentiates_the_rate(self, name: str):
        member, device = dynamic(name)
        volts, states = np.array(member.smooth_voltages), np.array(member.smooth_states)
        names = [key for key in numbers(device) if getattr(device, key)]
        # One voltage at a time: rates of different voltages are decades apart.
        for at in volts:
            voltage = torch.tensor([at], dtype=torch.float64, requires_grad=True)
            state = torch.as_tensor(states).requires_grad_()
            factors = torch.ones(len(names), dtype=torch.float64, requires_grad=True)
            scale = as_scale(device.state_rate(np.array([at]), states)) or 1.0

            def rates(v: torch.Tensor, x: torch.Tensor, f: torch.Tensor, scale: float = scale) -> torch.Tensor:
                own = {key: getattr(device, key) * f[k] for k, key in enumerate(names)}
                return device.varied(own).state_rate(v, x) / scale

            torch.autograd.gradcheck(rates, (voltage, state, factors), eps=1e-7, atol=1e-5, rtol=1e-5)

    def test_a_population_moves_as_each_of_its_devices(self, name: str):
        member, device = dynamic(name)
        volts, states = np.array(member.smooth_voltages)[:, None, None], STATES[:, None]
        for key in numbers(device):
            alone = neighbours(device, key)
            population = device.varied({key: np.array([getattr(one, key) for one in alone])})
            for temperature in (300.0, 350.0):
                together = population.state_rate(volts, states, temperature)
                each = np.stack([one.state_rate(volts[..., 0], STATES, temperature) for one in alone], -1)
                together = np.broadcast_to(together, each.shape)
                np.testing.assert_allclose(together, each, rtol=1e-10, atol=1e-13 * as_scale(each), err_msg=key)
                passed = 0.3 / (as_scale(each) or 1.0)
                after = population.state_after(volts, states, np.array(passed), temperature)
                if after is not None:
                    ends = [one.state_after(volts[..., 0], STATES, np.array(passed), temperature) for one in alone]
                    after = np.broadcast_to(after, each.shape)
                    np.testing.assert_allclose(after, np.stack(ends, -1), rtol=1e-10, atol=1e-13, err_msg=key)

    def test_it_is_finite_in_a_population_far_outside(self, name: str):
        _, device = dynamic(name)
        wide = {key: getattr(device, key) * np.array([0.9, 1.1]) for key in numbers(device)}
        population = device.varied(wide)
        volts, states = FAR_VOLTAGES[:, None, None], FAR_STATES[:, None]
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            assert np.all(np.isfinite(population.current(volts, states)))
            assert np.all(np.isfinite(population.state_rate(volts, states)))

    @pytest.mark.ngspice
    @pytest.mark.parametrize("temperature", [300.0, 350.0])
    def test_its_twin_moves_at_its_rate(self, name: str, temperature: float, engine):
        """1 nA into the pin is 1/s."""
        member, device = dynamic(name)
        volts = np.array(member.rate_voltages)
        expected = rate_at(member, volts, temperature)
        for k, x in enumerate(STATES):
            currents = engine.run(twin(device, float(x), temperature), volts[:, None]).column("i(vstate)")
            # gmin at the pin: 1e-15 A of 1 V, a rate of 1e-6 1/s.
            np.testing.assert_allclose(currents * 1e9, expected[:, k], rtol=member.tolerance, atol=1e-5)

    @pytest.mark.ngspice
    def test_its_warm_twin_moves_as_it_does(self, name: str, engine):
        """With thermally activated conduction."""
        member, device = dynamic(name)
        warm, volts = device.replace(activation_energy="0.1 eV"), np.array(member.rate_voltages)
        found = engine.run(twin(warm, 0.4, 350.0), volts[:, None]).column("i(vstate)") * 1e9
        expected = warm.state_rate(volts, np.array(0.4), 350.0)
        np.testing.assert_allclose(found, expected, rtol=max(1e-8, member.tolerance), atol=1e-5)

    @pytest.mark.ngspice
    def test_the_speed_of_a_twin_is_a_factor(self, name: str, engine):
        member, device = dynamic(name)
        volts = np.array(member.rate_voltages)[:, None]
        slow = engine.run(twin(device, 0.4), volts).values[:, 1]
        fast = engine.run(twin(device, 0.4, speed=2.5), volts).values[:, 1]
        assert np.any(slow != 0)
        np.testing.assert_allclose(fast, 2.5 * slow, rtol=1e-7, atol=1e-14)


def is_closed(name: str) -> bool:
    _, device = dynamic(name)
    return device.state_after(np.array(1.0), np.array(0.5), np.array(0.0)) is not None


@pytest.mark.parametrize("name", [name for name in DYNAMIC if is_closed(name)])
class TestClosedForms:
    """`state_after` against an integration of the independent rate by scipy."""

    def test_it_is_the_integral(self, name: str):
        member, device = dynamic(name)
        for volts, temperature in product(member.rate_voltages, (300.0, 350.0)):
            rates = rate_at(member, np.array([volts]), temperature)[0]
            slow = 1 / (as_scale(rates) or 1.0)
            for k, x in enumerate(STATES):
                times = slow * np.array([0.01, 0.3, 3.0])

                def slope(_, y: np.ndarray, volts: float = volts, temperature: float = temperature) -> list[float]:
                    inside = min(max(float(y[0]), 0.0), 1.0)
                    return [rate_of(member, volts, inside, temperature)]

                reference = solve_ivp(
                    slope, (0, times[-1]), [x], "LSODA", t_eval=times, rtol=1e-10, atol=1e-12, max_step=slow / 30
                )
                found = device.state_after(np.array(volts), np.array(x), times, temperature)
                np.testing.assert_allclose(found, reference.y[0], atol=1e-8, err_msg=f"{volts} V, from {STATES[k]}")

    def test_no_time_no_motion_and_two_halves_are_the_whole(self, name: str):
        member, device = dynamic(name)
        volts = np.array(member.rate_voltages)[:, None]
        scale = np.abs(device.state_rate(volts, STATES)).max(axis=1, keepdims=True)
        time = 1 / np.where(scale, scale, 1.0)
        np.testing.assert_allclose(
            device.state_after(volts, STATES, 0 * time), np.broadcast_to(STATES, (len(volts), 5)), atol=1e-15
        )
        once = device.state_after(volts, STATES, time)
        twice = device.state_after(volts, device.state_after(volts, STATES, time / 2), time / 2)
        np.testing.assert_allclose(twice, once, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_it_stays_between_the_ends_for_ever(self, name: str, dtype: type):
        _, device = dynamic(name)
        volts = FAR_VOLTAGES.astype(dtype)[:, None]
        states = np.array([0.0, 1e-30, 1e-7, 0.5, 1 - 6e-8, 1.0], dtype)
        for time in (1e-30, 1e-12, 1e-6, 1.0, 1e6):
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                after = device.state_after(volts, states, np.array(time, dtype))
            assert after is not None
            assert after.dtype == dtype
            assert np.all(after >= 0)
            assert np.all(after <= 1)
            rates = device.state_rate(volts, states)
            # It moves with the rate, never against it.
            assert np.all((after - states) * np.sign(rates) >= -4 * np.finfo(dtype).eps)

    def test_float32_and_torch_agree_with_float64(self, name: str):
        member, device = dynamic(name)
        volts = np.array(member.smooth_voltages)[:, None]
        scale = np.abs(device.state_rate(volts, STATES)).max(axis=1, keepdims=True)
        time = 0.5 / np.where(scale, scale, 1.0)
        exact = device.state_after(volts, STATES, time)
        single = [torch.as_tensor(value, dtype=torch.float32) for value in (volts, STATES, time)]
        np.testing.assert_allclose(device.state_after(*single).numpy(), exact, atol=2e-5)
        double = [torch.as_tensor(value) for value in (volts, STATES, time)]
        np.testing.assert_allclose(device.state_after(*double).numpy(), exact, rtol=1e-12, atol=1e-14)

    def test_torch_differentiates_it(self, name: str):
        member, device = dynamic(name)
        for at in member.smooth_voltages:
            scale = as_scale(device.state_rate(np.array(at), np.array(member.smooth_states))) or 1.0
            voltage = torch.tensor([at], dtype=torch.float64, requires_grad=True)
            state = torch.tensor(member.smooth_states, dtype=torch.float64, requires_grad=True)
            share = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
            torch.autograd.gradcheck(
                lambda v, x, t, scale=scale: device.state_after(v, x, t / scale), (voltage, state, share), atol=1e-5
            )
        ends = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
        for at in (-5.0, -0.3, 0.0, 0.3, 5.0):
            voltage = torch.full((3,), at, dtype=torch.float64, requires_grad=True)
            time = torch.full((3,), 1e-9, dtype=torch.float64, requires_grad=True)
            total = device.state_after(voltage, ends, time).sum()
            for slope in torch.autograd.grad(total, (voltage, ends, time), allow_unused=True):
                assert slope is None or torch.all(torch.isfinite(slope))


MODELS = {type(member.device).model_fields["model"].default: type(member.device) for member in DEVICES.values()}


@pytest.mark.parametrize("name", parameter_set_names())
class TestParameterSets:
    def test_it_says_what_it_is_and_makes_a_device(self, name: str):
        content = read_parameter_file(name)
        for key in ("title", "source", "validity"):
            assert isinstance(content[key], str)
            assert len(content[key]) > 15
        model: type[Config] = MODELS[content["device"]["model"]]
        device = model.from_text_dict({"model": content["device"]["model"], "parameters": name})
        assert isinstance(device, Device)
        low, high = device.conductance_range(0.1)
        assert 0 <= low < high
        if isinstance(device, DynamicDevice):
            assert math.isfinite(high)
            currents = device.current(np.array([-0.1, 0.1]), np.array(0.5))
            assert currents[0] < 0 < currents[1]
            rates = device.state_rate(FAR_VOLTAGES[:, None], FAR_STATES)
            assert np.all(np.isfinite(rates))
            fall, rise = device.state_rate(np.array([-3.0, 3.0]), np.array(0.5))
            assert fall * rise < 0


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


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (LinearIonDrift, {"off_resistance": 100.0}),
        (LinearIonDrift, {"window_exponent": 0}),
        (LinearIonDrift, {"mobility": 0.0}),
        (LinearIonDrift, {"window": "none"}),
        (Yakopcic, {"positive_onset": 1.0}),
        (Yakopcic, {"polarity": 0}),
        (Yakopcic, {"negative_voltage": -0.3}),
        (DataDriven, {"off_resistance": 1e3}),
        (DataDriven, {"on_growth": 0.0}),
        (DataDriven, {"on_steepness": 60 / 15e3}),
        (MetastableSwitch, {"off_resistance": 400.0}),
        (MetastableSwitch, {"memory_share": 0.0}),
        (MetastableSwitch, {"forward_current": -1e-9}),
    ],
    ids=str,
)
def test_impossible_devices_are_refused(model: type[Device], changes: dict):
    with pytest.raises(ConfigError):
        model(**changes)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("data_driven_tiox", DataDriven),
        ("linear_ion_drift_hp", LinearIonDrift),
        ("metastable_switch_knowm", MetastableSwitch),
        ("vteam_kvatinsky_b", Vteam),
        ("yakopcic_c", Yakopcic),
    ],
)
def test_defaults_are_a_named_set(name: str, model: type[Device]):
    given, own = model(parameters=name).as_dict(), model().as_dict()
    assert given.pop("origin")["name"] == name  # the rest is that of the model
    assert given.keys() == own.keys()
    for key, value in own.items():
        assert given[key] == (pytest.approx(value, rel=1e-14) if isinstance(value, float) else value)


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
