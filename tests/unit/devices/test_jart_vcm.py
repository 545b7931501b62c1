"""JART VCM: the one solution of its circuit, the branch that it is on, its inverse, its ends."""

import math

import numpy as np
import pytest
import torch

from mdls_cosim.devices import jart_vcm
from mdls_cosim.devices.jart_vcm import JartVcm
from mdls_cosim.devices.parameter_files import read_parameters
from mdls_cosim.errors import ConfigError, InputError

DEVICE = JartVcm()
Q, K, H = 1.602176634e-19, 1.380649e-23, 6.62607015e-34
EPS0, MASS = 8.8541878128e-12, 9.1093837015e-31
VOLTAGES = np.array([-3.0, -1.3, -0.6, -0.2, -0.03, -1e-4, 1e-4, 0.03, 0.2, 0.6, 1.3, 3.0])[:, None]
STATES = np.linspace(0, 1, 9)


def published_contact(volts: float, kelvin: float, density: float) -> float:
    """I_s [A] of 10.1109/TCSI.2020.3018502 as it stands: beyond psi = 0 the bare barrier, nothing held."""
    area, heat = math.pi * 45e-9**2, K * kelvin
    image = Q**3 * 2 * density / (8 * math.pi**2 * (5.5 * EPS0) ** 3)
    psi = 0.18 - 0.1 - volts
    barrier = 0.18 if psi < 0 else max(0.18 - (image * psi) ** 0.25, 0.0)
    if volts >= 0:
        return area * 6.01e5 * kelvin**2 * math.exp(-Q * barrier / heat) * math.expm1(Q * volts / heat)
    w00 = Q * H / (4 * math.pi) * math.sqrt(2 * density / (MASS * 17 * EPS0))
    root = math.sqrt(math.pi * w00 * Q * (-volts + barrier / math.cosh(w00 / heat) ** 2))
    tunnel = math.exp(-Q * barrier / (w00 / math.tanh(w00 / heat)))
    growth = math.expm1(-Q * volts / (w00 / (w00 / heat - math.tanh(w00 / heat))))
    return -area * 6.01e5 * kelvin / K * root * tunnel * growth


def density_of(x: float) -> float:
    return 0.008e26 * 2500**x


class TestOperatingPoint:
    @pytest.mark.parametrize("ambient", [250.0, 293.0, 400.0])
    def test_its_voltages_add_up_and_its_heat_is_its_power(self, ambient: float):
        point = DEVICE.operating_point(VOLTAGES, STATES, ambient)
        lines = 650 + 719.2437 * (1 + 719.2437 * 3.92e-3 * point.current**2 * 90471.47)
        total = point.schottky_voltage + point.disc_voltage + point.plug_voltage + point.current * lines
        np.testing.assert_allclose(total, np.broadcast_to(VOLTAGES, total.shape), rtol=1e-13)
        power = point.current * (point.schottky_voltage + point.disc_voltage + point.plug_voltage)
        resistance = np.where(VOLTAGES > 0, 0.27, 1.0) * 1.572e7
        np.testing.assert_allclose(point.temperature, ambient + resistance * power, rtol=1e-14)
        sigma = 2 * Q * 4e-6 * math.pi * 45e-9**2
        np.testing.assert_allclose(
            point.disc_voltage, point.current * 0.4e-9 / (density_of(STATES) * sigma), rtol=1e-12
        )
        np.testing.assert_allclose(point.plug_voltage, point.current * 2.6e-9 / (20e26 * sigma), rtol=1e-12)

    def test_the_contact_carries_the_published_current(self):
        """Where the barrier is not held, and not within 3 mV below 0 V: at most of these."""
        point = DEVICE.operating_point(VOLTAGES, STATES, 293.0)
        compared = 0
        for place in np.ndindex(point.current.shape):
            volts, density = float(point.schottky_voltage[place]), density_of(STATES[place[1]])
            image = Q**3 * 2 * density / (8 * math.pi**2 * (5.5 * EPS0) ** 3)
            if 0.08 - volts < (image**0.25 / 4) ** (4 / 3) < 0.08 or -3e-3 < volts < 0:
                continue
            expected = published_contact(volts, float(point.temperature[place]), density)
            # Of V_s = 1e-4 V and less, the difference of the voltages that it is.
            assert float(point.current[place]) == pytest.approx(expected, rel=1e-11)
            compared += 1
        assert compared > 70

    def test_of_three_published_solutions_it_is_the_one_that_continues_from_0_volt(self):
        """At 1 V the low state has one, the high state three; V_s is least on the branch that starts at 0 V."""
        grid = np.linspace(1e-5, 0.5, 20001)
        for x, count in ((0.0, 1), (1.0, 3)):
            density = density_of(x)
            sigma = 2 * Q * 4e-6 * math.pi * 45e-9**2
            path = 0.4e-9 / (density * sigma) + 2.6e-9 / (20e26 * sigma)
            excess = []
            for volts in grid:
                current = (1.0 - volts) / (path + 650 + 719.2437)
                for _ in range(20):
                    lines = 719.2437**2 * 3.92e-3 * 90471.47
                    left = current * (path + 1369.2437 + lines * current**2) - (1.0 - volts)
                    current -= left / (path + 1369.2437 + 3 * lines * current**2)
                kelvin = 293 + current * (volts + current * path) * 1.572e7 * 0.27
                excess.append(published_contact(volts, kelvin, density) - current)
            crossings = np.flatnonzero(np.diff(np.sign(excess)))
            assert len(crossings) == count
            found = float(DEVICE.operating_point(np.array(1.0), np.array(x), 293.0).schottky_voltage)
            assert found == pytest.approx(grid[crossings[0]], abs=grid[1] - grid[0])

    @pytest.mark.parametrize("seed", range(3))
    def test_there_is_no_other(self, seed: int, monkeypatch):
        """ln I - ln I_s rises with u = ln(I/(I_max - I)): over all u, -5 to 5 V, all states, 250 - 450 K; also far off
        the published parameters."""
        generator = np.random.default_rng(seed)
        count = 300
        u = np.linspace(-30, 30, 601)
        rises = []

        def watched(function, arguments, bracket, start, tolerance=1e-6):
            columns = [each[:, None] if hasattr(each, "shape") else each for each in arguments]
            value, slope = function(u, *columns)
            rises.append((np.diff(value, axis=1).min(), slope.min()))
            # The slope is the derivative: across kinks too, the trapezoids of it give the rise.
            inner = np.abs(np.diff(value, axis=1) / 0.1 - (slope[:, 1:] + slope[:, :-1]) / 2)
            assert np.median(inner) < 1e-3
            return original(function, arguments, bracket, start, tolerance)

        original = jart_vcm.rising_root
        monkeypatch.setattr(jart_vcm, "rising_root", watched)
        device = DEVICE
        if seed:
            device = DEVICE.varied(
                {
                    "filament_radius": 45e-9 * generator.uniform(0.6, 1.5, count),
                    "disc_length": generator.uniform(0.2e-9, 0.8e-9, count),
                    "least_concentration": 0.008e26 * np.exp(generator.uniform(-1.5, 1.5, count)),
                    "largest_concentration": 20e26 * generator.uniform(0.3, 2, count),
                    "barrier": generator.uniform(0.12, 0.35, count),
                    "thermal_resistance": 1.572e7 * generator.uniform(0.5, 1.3, count),
                    "permittivity": generator.uniform(10, 25, count),
                }
            )
        voltage = np.where(
            generator.random(count) < 0.3, generator.uniform(-0.05, 0.05, count), generator.uniform(-5, 5, count)
        )
        for ambient in (250.0, 293.0, 450.0):
            current = device.current(voltage, generator.uniform(-1e-3, 1 + 1e-3, count), ambient)
            assert np.all(current * voltage > 0)
        assert len(rises) == 3
        assert min(step for step, _ in rises) > 1e-3  # of steps of 0.1 in u
        assert min(slope for _, slope in rises) > 1e-2


class TestReading:
    def test_no_current_at_0_volt_and_no_jump_there(self):
        assert np.all(DEVICE.current(np.zeros(1), STATES) == 0)
        tiny = np.array([1e-15, -1e-15])[:, None]
        assert np.all(np.abs(DEVICE.current(tiny, STATES)) < 1e-18)

    @pytest.mark.parametrize("reference_voltage", [0.0, 1e-6, 0.1, 0.5, 1.5, -0.01, -0.1, -0.5, -1.5])
    def test_state_for_inverts_conductance(self, reference_voltage: float):
        states = np.linspace(0, 1, 41)
        conductances = DEVICE.conductance(states, reference_voltage)
        assert np.all(np.diff(conductances) > 0)
        np.testing.assert_allclose(DEVICE.state_for(conductances, reference_voltage), states, rtol=0, atol=1e-12)

    def test_just_below_0_volt_a_conductance_belongs_to_several_states(self):
        assert np.any(np.diff(DEVICE.conductance(np.linspace(0, 1, 41), -1e-3)) < 0)
        with pytest.raises(InputError, match="several states"):
            DEVICE.state_for(np.array(1e-4), -1e-3)

    def test_no_state_shows_a_conductance_outside_of_the_range(self):
        low, high = DEVICE.conductance_range(0.2)
        asked = np.array([0.0, 0.9 * low, 1.001 * low, 0.999 * high, 1.1 * high, 1e-3, 1.0])
        np.testing.assert_array_equal(
            np.isnan(DEVICE.state_for(asked, 0.2)), [True, True, False, False, True, True, True]
        )

    def test_single_precision_in_and_out_but_solved_in_double(self):
        voltage, state = VOLTAGES.astype(np.float32), STATES.astype(np.float32)
        for method in (DEVICE.current, DEVICE.state_rate):
            found = method(voltage, state)
            assert found.dtype == np.float32
            exact = method(voltage.astype(np.float64), state.astype(np.float64))
            np.testing.assert_allclose(found, exact, rtol=1e-7)
        assert DEVICE.state_for(DEVICE.conductance(state), 0.0).dtype == np.float32

    def test_it_stays_finite_far_outside_of_validity(self):
        voltage = torch.linspace(-5, 5, 101, dtype=torch.float64)[:, None].requires_grad_()
        state = torch.linspace(-1e-3, 1 + 1e-3, 21, dtype=torch.float64).requires_grad_()
        current, rate = DEVICE.current(voltage, state, 250.0), DEVICE.state_rate(voltage, state, 250.0)
        assert torch.isfinite(current).all()
        assert torch.isfinite(rate).all()
        gradients = torch.autograd.grad(current.sum() + torch.log1p(rate.abs()).sum(), (voltage, state))
        assert all(torch.isfinite(gradient).all() for gradient in gradients)

    def test_second_derivatives(self):
        voltage = torch.tensor([-0.9, -0.2, 0.3, 1.1], dtype=torch.float64)[:, None].requires_grad_()
        state = torch.tensor([0.15, 0.6], dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradgradcheck(
            lambda v, x: 1e4 * DEVICE.current(v, x), (voltage, state), eps=1e-6, atol=1e-4, rtol=1e-4
        )


class TestMotion:
    def test_it_rests_at_its_ends_and_is_pulled_back_beyond(self):
        for voltage, end, beyond in ((-1.2, 1.0, 1.001), (1.4, 0.0, -0.001)):
            there, outside = DEVICE.state_rate(np.array(voltage), np.array([end, beyond]))
            assert there == 0
            assert outside * voltage > 0

    def test_a_hotter_cell_is_faster(self):
        rates = [float(DEVICE.state_rate(np.array(-0.5), np.array(0.1), kelvin)) for kelvin in (293.0, 343.0, 393.0)]
        assert 0 < 10 * rates[0] < rates[1] < rates[2] / 5

    def test_a_voltage_a_little_higher_sets_much_faster(self):
        """Non-linear kinetics: decades in time within a volt."""
        slow, fast = DEVICE.state_rate(np.array([-0.3, -1.0]), np.array(0.05))
        assert fast > 1e8 * slow > 0


def test_the_set_of_the_package_is_the_default():
    written = JartVcm.from_text_dict(read_parameters("jart_vcm_1b"))
    for name in JartVcm.model_fields:
        expected = getattr(DEVICE, name)
        assert getattr(written, name) == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-14))


@pytest.mark.parametrize(
    "changes",
    [
        {"fermi_depth": 0.18},
        {"least_concentration": 20e26},
        {"disc_length": 3e-9},
        {"line_resistance": 0.0},
        {"mobility": "4 m"},
        {"ideality": 1.0},
    ],
    ids=str,
)
def test_impossible_ones_are_refused(changes):
    with pytest.raises(ConfigError):
        JartVcm(**changes)
