"""States in time: order of the steps, tolerances, batches, pulses, gradients, refusals.

Every device against ngspice and scipy: tests/physics/test_device_dynamics.py.
"""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from mdls_cosim.devices import DynamicDevice, Vteam
from mdls_cosim.devices.dynamics import after_pulses, evolve, trace
from mdls_cosim.devices.dynamics import evolution as evolution_module
from mdls_cosim.devices.dynamics import population as population_module
from mdls_cosim.devices.dynamics.exponential_rosenbrock import _phi, _phi_1, fourth_order_step, midpoint_step
from mdls_cosim.devices.metastable_switch import MetastableSwitch
from mdls_cosim.errors import ConvergenceError, InputError

FAST = Vteam(
    on_resistance=1e3,
    off_resistance=1e5,
    on_voltage=-0.4,
    off_voltage=0.3,
    on_rate=4e3,
    off_rate=6e3,
    on_exponent=2.0,
    off_exponent=1.0,
)


class Toy(DynamicDevice):
    """An equation of one's own, `law(device, voltage, state)`; it counts the states it is asked for."""

    model: Literal["toy"] = "toy"
    rate: float = 1.0
    spice_model: ClassVar[str] = "toy"
    asked: ClassVar[int] = 0
    law: ClassVar[Any] = None

    def _current(self, voltage, state, temperature=300.0):
        return voltage * state

    def _conductance(self, state, reference_voltage=0.0):
        return state

    def _state_for(self, conductance, reference_voltage=0.0):
        return conductance

    def spice_parameters(self, state, temperature=300.0):
        return {}

    @property
    def _raising_sign(self) -> int:
        return 1

    def _state_rate(self, voltage, state, temperature=300.0):
        type(self).asked += state.size if isinstance(state, np.ndarray) else state.numel()
        return type(self).law(self, voltage, state)


def toy(function, **parameters) -> DynamicDevice:
    class Own(Toy):
        law: ClassVar[Any] = function

    return Own(**parameters)


def logistic_rate(voltage, state):
    """sinh(V) x (1 - x): logit x grows by the integral of sinh(V)."""
    return np.sinh(voltage) * state * (1 - state)


def logistic(start: float, first: float, last: float, duration: float) -> float:
    """Its solution for a voltage that goes straight from `first` to `last`."""
    if first == last:
        grown = math.sinh(first) * duration
    else:
        grown = (math.cosh(last) - math.cosh(first)) / (last - first) * duration
    return 1 / (1 + (1 / start - 1) * math.exp(-grown))


class TestPhi:
    """Against their power series, summed in fractions."""

    @staticmethod
    def exact(k: int, z: float) -> float:
        # Below -30 by the recurrence, where it loses nothing.
        if z < -30:
            value = math.expm1(z) / z
            for below in range(1, k):
                value = (value - 1 / math.factorial(below)) / z
            return value
        x, term, total = Fraction(z), Fraction(1, math.factorial(k)), Fraction(0)
        for n in range(1, 160):
            total += term
            term = term * x.limit_denominator(10**18) / (n + k)
        return float(total)

    @pytest.mark.parametrize(
        "z",
        [0.0, 1e-300, 1e-9, -1e-9, 0.0199, 0.0201, -0.4, 0.6, 0.99, 1.01, -1.01, 3.0, -8.0, 29.0, -25.0, -1e9],
    )
    def test_functions(self, z: float):
        (half_1, half_2), full = _phi(np.array([z]))
        assert _phi_1(np.array([z]))[0] == pytest.approx(self.exact(1, z), rel=1e-13, abs=0)
        for found, k, at in ((half_1, 1, z / 2), (half_2, 2, z / 2), *zip(full, (1, 2, 3, 4), [z] * 4, strict=True)):
            assert found[0] == pytest.approx(self.exact(k, at), rel=2e-13, abs=0)

    def test_no_overflow_far_out(self):
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            assert _phi_1(np.array([1e300]))[0] == pytest.approx(math.expm1(30) / 30)
            assert midpoint_step(lambda v, x: 1e100 * x, np.ones(1), np.full(1, 0.5), np.full(1, 1e100))[0] == 1


class TestOrder:
    @staticmethod
    def errors(step, ramp: bool) -> list[float]:
        """Of the states after 2 s of a voltage from 0.4 to 1.9 V, or of 1.2 V, by 8, 16, 32 steps."""
        found = []
        first, last = (0.4, 1.9) if ramp else (1.2, 1.2)
        for count in (8, 16, 32):
            state = np.array([0.07])
            for index in range(count):
                begin = first + (last - first) * index / count
                state = step(np.array([begin]), np.array([(last - first) / count]), state, np.array([2 / count]))
            found.append(abs(float(state[0]) - logistic(0.07, first, last, 2.0)))
        return found

    @staticmethod
    def orders(errors: list[float]) -> list[float]:
        return [math.log2(errors[0] / errors[1]), math.log2(errors[1] / errors[2])]

    @pytest.mark.parametrize("ramp", [False, True])
    def test_the_midpoint_step_is_of_second_order(self, ramp: bool):
        errors = self.errors(lambda v, r, x, h: midpoint_step(logistic_rate, v + r / 2, x, h), ramp)
        assert errors[-1] < 1e-3
        assert self.orders(errors) == [pytest.approx(2, abs=0.35), pytest.approx(2, abs=0.2)]

    @pytest.mark.parametrize("ramp", [False, True])
    def test_the_long_step_is_of_fourth_order(self, ramp: bool):
        errors = self.errors(lambda v, r, x, h: fourth_order_step(logistic_rate, v, r if ramp else None, x, h)[0], ramp)
        assert errors[-1] < 1e-6
        assert self.orders(errors) == [pytest.approx(4, abs=0.3), pytest.approx(4, abs=0.2)]

    def test_its_terms_fall_with_their_order(self):
        """The term of third order with h^3, of fourth with h^4: what the embedded result leaves out."""
        sizes = []
        for h in (0.1, 0.05, 0.025):
            *_, third, fourth = fourth_order_step(
                logistic_rate, np.array([0.9]), np.array([2.0 * h]), np.array([0.3]), np.array([h])
            )
            sizes.append((abs(third[0]), abs(fourth[0])))
        for (third, fourth), (next_third, next_fourth) in pairwise(sizes):
            assert math.log2(third / next_third) == pytest.approx(3, abs=0.3)
            assert math.log2(fourth / next_fourth) == pytest.approx(4, abs=0.3)

    def test_what_is_linear_is_exact_however_stiff(self):
        """dx/dt = 1e12 (0.3 - x) from 0.9: settled after one step of a second, exact after one of 1 ps."""

        def rate(voltage, state):
            return 1e12 * (0.3 - state)

        for h in (1.0, 1e-12):
            exact = 0.3 + 0.6 * math.exp(-1e12 * h)
            for found in (
                midpoint_step(rate, np.zeros(1), np.array([0.9]), np.array([h])),
                fourth_order_step(rate, np.zeros(1), None, np.array([0.9]), np.array([h]))[0],
            ):
                # The slope is a difference: good to a root of the precision.
                assert found[0] == pytest.approx(exact, abs=1e-7)

    def test_runaway_has_no_pole(self):
        """dx/dt = 40 x: an implicit step of 1/40 divides by zero."""
        for h in (0.5 / 40, 1 / 40, 2 / 40):
            found = midpoint_step(lambda v, x: 40 * x, np.zeros(1), np.array([0.01]), np.array([h]))
            assert found[0] == pytest.approx(0.01 * math.exp(40 * h), rel=1e-6)


class TestTrace:
    def test_second_order_and_the_same_as_evolve(self):
        device = toy(lambda own, v, x: np.sinh(v) * x * (1 - x))
        times, voltages = np.linspace(0, 2, 9), np.linspace(0.4, 1.9, 9)
        exact = np.array([logistic(0.07, 0.4, v, t) for v, t in zip(voltages, times, strict=True)])
        errors = [np.abs(trace(device, np.array(0.07), times, voltages, n) - exact).max() for n in (1, 2, 4)]
        assert errors[0] < 2e-2
        assert TestOrder.orders(errors) == [pytest.approx(2, abs=0.3), pytest.approx(2, abs=0.2)]

    def test_shapes_times_and_speeds_of_each_device(self):
        """A candidate an axis, a loop another: as each pair alone."""
        population = FAST.varied({"off_rate": np.array([[3e3], [6e3], [9e3]])})
        times = np.linspace(0, 1, 21)[:, None] * np.array([1e-3, 2e-3])
        voltages = np.sin(2 * np.pi * np.linspace(0, 1, 21))[:, None] * np.array([0.6, 0.9])
        starts, speeds = np.array([0.2, 0.4]), np.array([1.0, 1.3])
        found = trace(population, starts, times, voltages, 2, speed=speeds)
        assert found.shape == (21, 3, 2)
        for candidate, rate in enumerate((3e3, 6e3, 9e3)):
            for loop in range(2):
                alone = trace(
                    FAST.replace(off_rate=rate),
                    float(starts[loop]),
                    times[:, loop] * speeds[loop],
                    voltages[:, loop],
                    2,
                )
                assert alone.shape == (21,)
                # The slope is a difference: rounding weighs 1e8 times in it.
                np.testing.assert_allclose(found[:, candidate, loop], alone, rtol=0, atol=1e-8)

    def test_the_rate_is_asked_twice_a_step(self):
        device = toy(lambda own, v, x: 0.1 * v * (1 - x))
        type(device).asked = 0
        trace(device, np.full(10, 0.5), np.arange(6.0), np.ones(6), 3)
        assert type(device).asked == 2 * 10 * 5 * 3


class TestEvolve:
    def test_the_error_follows_the_tolerance(self):
        device = toy(lambda own, v, x: np.sinh(v) * x * (1 - x))
        times, voltages = np.array([0.0, 1.0, 4.0]), np.array([-0.4, 1.9, 1.9])
        middle = logistic(0.4, -0.4, 1.9, 1.0)
        exact = [0.4, middle, logistic(middle, 1.9, 1.9, 3.0)]
        errors = []
        for tolerance in (1e-3, 1e-6, 1e-9):
            found = evolve(
                device,
                np.array(0.4),
                times,
                voltages,
                relative_tolerance=tolerance,
                absolute_tolerance=tolerance / 100,
            )
            errors.append(np.abs(found - exact).max())
            assert errors[-1] < 3 * tolerance
        assert errors[2] < 1e-2 * errors[1] < 1e-4 * errors[0]

    def test_a_threshold_in_the_middle_of_a_ramp(self, monkeypatch: pytest.MonkeyPatch):
        """The fourth-order term vanishes by chance: exponent 3/2, a fall from twice the threshold to zero, one step."""
        monkeypatch.setattr(evolution_module, "_FIRST_STEP", 1.0)
        device = FAST.replace(off_voltage=0.2, off_exponent=1.5, off_rate=2e3, window_exponent=20)
        found = evolve(device, np.array([0.1]), np.array([0.0, 5e-6]), np.array([0.4, 0.0]))
        # (V/V_off - 1)^1.5 from 1 to 0 in half the time, the window 1: 2/5 of it.
        assert found[1, 0] - 0.1 == pytest.approx(2e3 * 2.5e-6 * 0.4, abs=2e-7)

    def test_each_device_goes_at_its_own_pace(self):
        """One that is a million times faster than 999 others must not make them take its steps."""
        device = toy(lambda own, v, x: own.rate * v * x**2 * (1 - x) - 2 * v * x)
        rates = np.full(1000, 3.0)
        slow = device.varied({"rate": rates})
        type(device).asked = 0
        evolve(slow, np.full(1000, 0.5), np.array([0.0, 0.3]), np.ones(2))
        alone = type(device).asked
        rates[500] = 3e6
        type(device).asked = 0
        evolve(device.varied({"rate": rates}), np.full(1000, 0.5), np.array([0.0, 0.3]), np.ones(2))
        assert alone > 3000
        assert type(device).asked < 1.5 * alone

    def test_a_constant_voltage_saves_a_rate(self):
        """Four a step, and five on a ramp: the slope in time."""
        device = toy(lambda own, v, x: 1e-9 * v * x)
        asked = []
        for end in (1.0, 1.0 + 1e-12):
            type(device).asked = 0
            evolve(device, np.array(0.5), np.array([0.0, 1.0]), np.array([1.0, end]))
            asked.append(type(device).asked)
        assert 5 * asked[0] == 4 * asked[1]

    def test_speed_is_time(self):
        times, voltages = np.linspace(0, 1e-3, 5), np.array([0.0, 0.9, 0.0, -0.9, 0.0])
        fast = evolve(FAST, np.full(3, 0.4), times, voltages, speed=np.array([0.5, 1.0, 2.0]))
        for index, speed in enumerate((0.5, 1.0, 2.0)):
            alone = evolve(FAST, np.array(0.4), times * speed, voltages)
            np.testing.assert_allclose(fast[:, index], alone, rtol=0, atol=1e-6)
        assert np.ptp(fast[2]) > 0.1

    def test_in_chunks_as_at_once(self, monkeypatch: pytest.MonkeyPatch):
        generator = np.random.default_rng(0)
        population = FAST.varied({"off_rate": generator.uniform(3e3, 9e3, (4, 5)), "on_rate": np.full((4, 1), 5e3)})
        starts, speeds = generator.uniform(0, 1, (4, 5)), generator.uniform(0.5, 2, 5)
        times = np.linspace(0, 1e-3, 5)
        voltages = np.array([0.0, 0.9, 0.0, -0.9, 0.0])[:, None, None] * generator.uniform(0.5, 1, (4, 1))
        at_once = evolve(population, starts, times, voltages, speed=speeds)
        pulsed = after_pulses(population, starts, voltages[1:4], 1e-4, edge=1e-5, every=True, speed=speeds)
        monkeypatch.setattr(population_module, "_CHUNK", 7)
        assert at_once.shape == (5, 4, 5)
        assert pulsed.shape == (3, 4, 5)
        again = evolve(population, starts, times, voltages, speed=speeds)
        np.testing.assert_allclose(again, at_once, rtol=0, atol=1e-7)
        again = after_pulses(population, starts, voltages[1:4], 1e-4, edge=1e-5, every=True, speed=speeds)
        np.testing.assert_allclose(again, pulsed, rtol=0, atol=1e-7)

    def test_within_the_bounds_from_either_end(self):
        starts = np.array([0.0, 1e-12, 0.5, 1 - 1e-12, 1.0])
        states = evolve(FAST, starts, np.array([0.0, 1.0, 2.0]), np.array([3.0, 3.0, -3.0]))
        assert np.all((states >= 0) & (states <= 1))
        np.testing.assert_allclose(states[1], 1, atol=1e-6)

    def test_without_voltage_nothing_moves(self):
        starts = np.array([0.0, 0.3, 1.0])
        states = evolve(FAST, starts, np.array([0.0, 1.0, 1e9]), np.zeros(3))
        np.testing.assert_array_equal(states, np.tile(starts, (3, 1)))

    def test_a_jump_of_the_voltage_takes_no_time(self):
        times, voltages = np.array([0.0, 1e-4, 1e-4, 2e-4]), np.array([0.6, 0.6, -0.9, -0.9])
        states = evolve(FAST, np.array(0.4), times, voltages)
        assert states[2] == states[1]
        expected = FAST.state_after(np.full(1, 0.6), np.full(1, 0.4), np.full(1, 1e-4))
        assert states[1] == pytest.approx(expected[0], abs=1e-6)
        expected = FAST.state_after(np.full(1, -0.9), expected, np.full(1, 1e-4))
        assert states[3] == pytest.approx(expected[0], abs=1e-6)

    def test_temperature_reaches_the_equation(self):
        device = MetastableSwitch()
        times, voltages = np.array([0.0, 1e-4]), np.full(2, 0.25)
        for temperature in (300.0, 400.0):
            expected = device.state_after(np.full(1, 0.25), np.full(1, 0.1), np.full(1, 1e-4), temperature)
            for run in (evolve, trace):
                found = run(device, np.array([0.1]), times, voltages, temperature=temperature)
                np.testing.assert_allclose(found[1], expected, atol=1e-7)
            pulsed = after_pulses(device, np.array([0.1]), [0.25], 1e-4, temperature=temperature)
            np.testing.assert_allclose(pulsed, expected, atol=1e-12)


class TestPulses:
    VOLTAGES = (-0.9, 0.7, 0.2, 0.9)

    def test_edges_and_pauses_are_a_wave(self):
        edge, width, pause = 2e-6, 3e-5, 1e-5
        times, volts = [0.0], [0.0]
        for level in self.VOLTAGES:
            for span, value in ((edge, level), (width, level), (edge, 0.0), (pause, 0.0)):
                times.append(times[-1] + span)
                volts.append(value)
        expected = evolve(FAST, np.array([0.6, 0.1]), np.array(times), np.array(volts))
        found = after_pulses(FAST, np.array([0.6, 0.1]), self.VOLTAGES, width, edge=edge, pause=pause, every=True)
        np.testing.assert_allclose(found, expected[4::4], rtol=0, atol=1e-6)
        last = after_pulses(FAST, np.array([0.6, 0.1]), self.VOLTAGES, width, edge=edge, pause=pause)
        np.testing.assert_array_equal(last, found[-1])

    def test_the_closed_solution_and_the_integral_agree(self, monkeypatch: pytest.MonkeyPatch):
        widths, speeds = np.array([1e-5, 4e-5]), np.array([1.0, 1.5])
        closed = after_pulses(FAST, np.array([0.6, 0.1]), self.VOLTAGES, widths, every=True, speed=speeds)
        steps = []
        advance = evolution_module.Evolution.advance
        monkeypatch.setattr(
            evolution_module.Evolution, "advance", lambda own, *given: (steps.append(1), advance(own, *given))[1]
        )
        monkeypatch.setattr(Vteam, "state_after", lambda *given: None)
        found = after_pulses(FAST, np.array([0.6, 0.1]), self.VOLTAGES, widths, every=True, speed=speeds)
        assert steps
        np.testing.assert_allclose(found, closed, rtol=0, atol=1e-6)
        assert np.ptp(closed) > 0.1

    def test_a_device_that_relaxes_does_so_in_the_pause(self):
        device = MetastableSwitch(on_voltage=0.05, off_voltage=0.1)
        found = after_pulses(device, np.array([0.2]), [0.3], 1e-4, pause=5e-4)
        pulsed = device.state_after(np.full(1, 0.3), np.array([0.2]), np.full(1, 1e-4))
        expected = device.state_after(np.zeros(1), pulsed, np.full(1, 5e-4))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert abs(expected[0] - pulsed[0]) > 0.05

    def test_no_pulse_changes_nothing(self):
        starts = np.array([0.2, 0.7])
        np.testing.assert_array_equal(after_pulses(FAST, starts, np.zeros((0, 2)), 1e-5), starts)
        assert after_pulses(FAST, starts, np.zeros((0, 2)), 1e-5, every=True).shape == (0, 2)

    def test_a_pulse_of_each_device(self):
        voltages = np.array([[0.7, -0.9], [0.2, 0.7]])
        found = after_pulses(FAST, 0.5, voltages, 2e-5)
        for index in range(2):
            alone = after_pulses(FAST, np.array(0.5), voltages[:, index], 2e-5)
            assert alone.shape == ()
            assert found[index] == pytest.approx(float(alone), abs=1e-14)


class TestArrays:
    TIMES = np.linspace(0, 1e-3, 9)
    VOLTAGES = 0.9 * np.sin(2 * np.pi * np.linspace(0, 1, 9))

    # The slope of the rate is good to a root of the precision, on which the error of fixed steps depends.
    @pytest.mark.parametrize(("run", "rough"), [(evolve, 2e-5), (trace, 1e-4)])
    def test_kind_and_precision_are_those_of_the_states(self, run, rough: float):
        exact = run(FAST, np.array([0.2, 0.6]), self.TIMES, self.VOLTAGES)
        assert exact.dtype == np.float64
        assert np.ptp(exact) > 0.2
        for dtype, atol in ((torch.float64, 1e-7), (torch.float32, rough)):
            found = run(FAST, torch.tensor([0.2, 0.6], dtype=dtype), self.TIMES, self.VOLTAGES)
            assert found.dtype == dtype
            np.testing.assert_allclose(found.numpy(), exact, rtol=0, atol=atol)
        found = run(FAST, np.array([0.2, 0.6], dtype=np.float32), self.TIMES, self.VOLTAGES)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, rtol=0, atol=rough)

    def test_rounding_is_not_taken_for_an_error(self):
        """A tolerance below the rounding of float32 would ask for ever shorter steps, or never end."""
        starts = np.linspace(0.01, 0.99, 50, dtype=np.float32)
        tolerances = {"relative_tolerance": 1e-11, "absolute_tolerance": 1e-13}
        device = toy(lambda own, v, x: 5 * v * x * (1 - x))
        type(device).asked = 0
        found = evolve(device, starts, [0.0, 1.0], [0.5, 1.0], **tolerances)
        assert type(device).asked < 50 * 5 * 60
        np.testing.assert_allclose(found[1], 1 / (1 + (1 / starts - 1) * np.exp(-3.75)), rtol=0, atol=5e-6)

    def test_parameters_take_the_precision_of_the_states(self):
        population = FAST.varied({"off_rate": np.array([3e3, 6e3])})
        for run in (evolve, trace):
            assert run(population, np.full(2, 0.4, dtype=np.float32), [0.0, 1e-4], [0.9, 0.9]).dtype == np.float32

    def test_a_number_takes_the_kind_of_the_others(self):
        assert isinstance(evolve(FAST, 0.4, [0.0, 1e-4], [0.9, 0.9]), np.ndarray)
        assert isinstance(evolve(FAST, 0.4, [0.0, 1e-4], torch.ones(2)), torch.Tensor)
        population = FAST.varied({"off_rate": torch.tensor([3e3, 6e3])})
        found = trace(population, 0.4, [0.0, 1e-4], [0.9, 0.9])
        assert found.shape == (2, 2)
        assert isinstance(found, torch.Tensor)

    @pytest.mark.parametrize("run", [evolve, trace])
    def test_gradients(self, run):
        """Of states, voltages, parameters and speeds, against differences."""

        def last(states, voltages, rates, speed):
            return run(FAST.varied({"off_rate": rates}), states, self.TIMES, voltages, speed=speed)[1:]

        # Away from corners: one polarity, above its threshold.
        given = (
            torch.tensor([0.2, 0.6], dtype=torch.float64),
            torch.linspace(0.5, 0.9, 9, dtype=torch.float64),
            torch.tensor([3e2, 5e2], dtype=torch.float64),
            torch.tensor([1.1], dtype=torch.float64),
        )
        given = tuple(tensor.requires_grad_() for tensor in given)
        assert torch.autograd.gradcheck(last, given, eps=1e-5, atol=1e-5, rtol=1e-3)

    def test_gradients_of_a_constant_voltage(self):
        """It is no ramp, but its ends are two numbers."""

        def last(voltages):
            return evolve(FAST, torch.tensor([0.2], dtype=torch.float64), [0.0, 1e-4], voltages)[1]

        voltages = torch.full((2,), 0.6, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(last, (voltages,), eps=1e-5, atol=1e-5, rtol=1e-3)

    @pytest.mark.parametrize("edge", [0.0, 1e-5])
    def test_gradients_of_pulses(self, edge: float):
        def last(states, voltages):
            # Differences see the error of the states, over their step.
            tolerances = {"relative_tolerance": 1e-10, "absolute_tolerance": 1e-12}
            return after_pulses(FAST, states, voltages, 1e-4, edge=edge, **tolerances)

        given = (
            torch.tensor([0.2, 0.6], dtype=torch.float64).requires_grad_(),
            torch.tensor([[0.5, 0.6]], dtype=torch.float64).requires_grad_(),
        )
        assert torch.autograd.gradcheck(last, given, eps=1e-4, atol=1e-5, rtol=1e-3)


class TestRefusals:
    @pytest.mark.parametrize("run", [evolve, trace])
    @pytest.mark.parametrize(
        ("states", "times", "voltages", "message"),
        [
            (0.5, [0.0], [1.0], "too few points"),
            (0.5, 1.0, [1.0, 1.0], "too few points"),
            (0.5, [0.0, 2.0, 1.0], np.ones(3), "times that fall"),
            (0.5, [0.0, np.nan], np.ones(2), "times that fall"),
            (0.5, [0.0, 1.0], np.ones(3), "not one voltage a time"),
            (0.5, [0.0, 1.0], [1.0, np.inf], "not finite"),
            (1.01, [0.0, 1.0], np.ones(2), "outside its range"),
            ([0.5, np.nan], [0.0, 1.0], np.ones(2), "outside its range"),
            (np.full(3, 0.5), [0.0, 1.0], np.ones((2, 4)), "do not fit together"),
        ],
    )
    def test_arrays_that_cannot_be(self, run, states, times, voltages, message):
        with pytest.raises(InputError, match=message):
            run(FAST, states, times, voltages)

    def test_pulses_that_cannot_be(self):
        for given, message in (
            ({"width": -1.0}, "negative or infinite time"),
            ({"width": 1.0, "edge": -1.0}, "negative or infinite time"),
            ({"width": 1.0, "pause": -1.0}, "negative or infinite time"),
            ({"width": np.nan}, "negative or infinite time"),
        ):
            with pytest.raises(InputError, match=message):
                after_pulses(FAST, np.array([0.5]), [1.0], **given)
        with pytest.raises(InputError, match="no axis of pulses"):
            after_pulses(FAST, np.array([0.5]), 1.0, 1e-6)

    def test_states_that_cannot_be_followed_are_named(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(population_module, "_CHUNK", 4)
        device = toy(lambda own, v, x: np.where(own.rate > 1, np.nan, own.rate) * x)
        rates = np.ones((3, 4))
        rates[1, 2] = rates[2, 3] = 2.0
        with pytest.raises(ConvergenceError, match="too short") as caught:
            evolve(device.varied({"rate": rates}), np.full((3, 4), 0.5), [0.0, 0.1], np.ones(2))
        assert caught.value.failed == [(1, 2)]  # the chunk it came upon first

    def test_too_many_steps_are_refused(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(evolution_module, "MOST_STEPS", 5)
        with pytest.raises(ConvergenceError, match="5 steps were not enough") as caught:
            evolve(FAST, np.array([0.5, 0.1]), [0.0, 1e-3], [0.9, 0.8], relative_tolerance=1e-10)
        assert caught.value.failed == [(0,), (1,)]
