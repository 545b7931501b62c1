"""Devices against laws that do not come from their code: equations written anew in scalars with the papers' numbers,
closed solutions, limits, symmetries; then what users do with them, in tiles, on the command line, in populations.
"""

import math
from collections.abc import Callable
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from device_member import twin
from scipy.integrate import quad
from scipy.optimize import brentq
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.characterize import Characterization
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import (
    DataDriven,
    Device,
    DynamicDevice,
    JartVcm,
    LinearIonDrift,
    MetastableSwitch,
    Ohmic,
    PassiveTio2,
    PhaseChange,
    PolynomialRead,
    Sinh,
    StanfordPku,
    Vteam,
    Yakopcic,
    after_pulses,
    evolve,
    trace,
)
from mdls_cosim.devices.parameter_files import parameter_set_names, read_parameter_file
from mdls_cosim.devices.variability import (
    CycleToCycle,
    DeviceToDevice,
    Drift,
    Endurance,
    FiniteStates,
    Flicker,
    Lognormal,
    Normal,
    ProgrammingError,
    RandomTelegraphNoise,
    ReadNoise,
    Retention,
    Samples,
    Stuck,
    Variability,
)
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import TileSpec

K, Q, H = 1.380649e-23, 1.602176634e-19, 6.62607015e-34
EPS0, MASS = 8.8541878128e-12, 9.1093837015e-31
YEAR = 365.25 * 86400

SETS: dict[str, Device] = {}
for name in parameter_set_names():
    given = read_parameter_file(name)["device"]
    kinds = (DataDriven, JartVcm, LinearIonDrift, MetastableSwitch, Ohmic, PassiveTio2, PhaseChange, PolynomialRead)
    for kind in (*kinds, StanfordPku, Vteam, Yakopcic):
        if kind.model_fields["model"].default == given["model"]:
            SETS[name] = kind(parameters=name)

# --- The papers' equations with the papers' numbers, in scalars. ---


def vteam(k_off: float, k_on: float, v_off: float, v_on: float, a_off: float, a_on: float, r_on: float, r_off: float):
    """w from 0 to 3 nm; Biolek's window, p = 1."""

    def current(v: float, x: float) -> float:
        return v / (r_on + (r_off - r_on) * x)

    def rate(v: float, x: float) -> float:
        if v > v_off:
            return k_off / 3e-9 * (v / v_off - 1) ** a_off * (1 - x * x)
        if v < v_on:
            return k_on / 3e-9 * (v / v_on - 1) ** a_on * (1 - (1 - x) ** 2)
        return 0.0

    return current, rate


def drift():
    def current(v: float, x: float) -> float:
        return v / (100 * x + 16e3 * (1 - x))

    def rate(v: float, x: float) -> float:
        i = current(v, x)
        return 1e-14 * 100 / 10e-9**2 * i * (1 - (x if i > 0 else 1 - x) ** 2)

    return current, rate


def yakopcic(a: float, b: float, vp: float, vn: float, speed: float, xp: float, xn: float, ap: float, an: float):
    def current(v: float, x: float) -> float:
        return a * x * math.sinh(b * v)

    def rate(v: float, x: float) -> float:
        if v > vp:
            slow = math.exp(-ap * (x - xp)) * ((xp - x) / (1 - xp) + 1) if x >= xp else 1.0
            return speed * (math.exp(v) - math.exp(vp)) * slow
        if v < -vn:
            slow = math.exp(an * (x + xn - 1)) * x / (1 - xn) if x <= 1 - xn else 1.0
            return -speed * (math.exp(-v) - math.exp(vn)) * slow
        return 0.0

    return current, rate


def switches():
    def current(v: float, x: float) -> float:
        return v * (x / 500 + (1 - x) / 1500)

    def rate(v: float, x: float) -> float:
        on, off = 1 / (1 + math.exp((0.27 - v) / 0.025852)), 1 / (1 + math.exp((v + 0.27) / 0.025852))
        return (on * (1 - x) - off * x) / 1e-4

    return current, rate


def tiox():
    def resistance(x: float) -> float:
        return 17e3 - 15.72e3 * x

    def rate(v: float, x: float) -> float:
        r = resistance(x)
        if v > 0 and r < 16719:
            moved = 743.47 * (math.exp(6.51 * v) - 1) * (math.exp(5.11e-4 * (16719 - r)) - 1)
        elif v < 0 and r > (target := max(29304.82557 + 23692.77225 * v, 1.28e3)):
            moved = -68012.28374 * (math.exp(0.31645 * -v) - 1) * (math.exp(1.17e-3 * (r - target)) - 1)
        else:
            return 0.0
        return -moved / 15.72e3

    return lambda v, x: 0.24 * math.sinh(3 * v) / resistance(x), rate


def simplified():
    def resistance(x: float) -> float:
        return 3e3 - 1.4e3 * x

    def rate(v: float, x: float) -> float:
        r = resistance(x)
        if v > 0 and r > (target := min(max(2699.2336 - 672.930205 * v, 1.6e3), 3e3)):
            moved = 600.10075 * (math.exp(v / -0.0212028) - 1) * (target - r) ** 2
        elif v < 0 and r < (target := min(max(649.413746 - 1474.32358 * v, 1.6e3), 3e3)):
            moved = -34.5988399 * (math.exp(-v / -0.05343997) - 1) * (r - target) ** 2
        else:
            return 0.0
        return -moved / 1.4e3

    return lambda v, x: 0.32046175 * math.sinh(2.71689828 * v) / resistance(x), rate


def pku_temperature(v: float, x: float, ambient: float = 300.0) -> float:
    gap = 1.7e-9 - 1.5e-9 * x
    return ambient + 2.1e3 * abs(v * 1e-3 * math.exp(-gap / 0.25e-9) * math.sinh(v / 0.25))


def pku():
    def current(v: float, x: float) -> float:
        return 1e-3 * math.exp(-(1.7 - 1.5 * x) / 0.25) * math.sinh(v / 0.25)

    def rate(v: float, x: float) -> float:
        gap, heat = 1.7e-9 - 1.5e-9 * x, K * pku_temperature(v, x)
        gamma = 16 - 0.8 * (gap / 1e-9) ** 3
        # The set's two declared widths, 5e6 V/m and 1 % of the range, where the source has steps.
        started = 1 / (1 + math.exp(min((1.4e9 - gamma * abs(v) / 12e-9) / 5e6, 60.0)))
        free = 1 - math.exp(-(1 - x if v > 0 else x) / 0.01)
        closing = 10 * math.exp(-0.6 * Q / heat) * math.sinh(gamma * 0.25e-9 * Q * v / (12e-9 * heat))
        return closing / 1.5e-9 * started * free

    return current, rate


def jart_operation(v: float, x: float, ambient: float = 300.0):
    """I, V_s, T, N, the disc's and the plug's resistance: the contact's voltage sought by halving, no hold at all."""
    area, n = math.pi * 45e-9**2, 0.008e26 * (20 / 0.008) ** x
    disc, plug = 0.4e-9 / (n * 2 * Q * 4e-6 * area), 2.6e-9 / (20e26 * 2 * Q * 4e-6 * area)
    warming = 1.572e7 * (0.27 if v > 0 else 1.0)

    def contact(s: float, t: float) -> float:
        image = Q**3 * 2 * n * max(0.18 - 0.1 - s, 0.0) / (8 * math.pi**2 * (5.5 * EPS0) ** 3)
        phi = max(0.18 - image**0.25, 0.0)
        if s > 0:
            return area * 6.01e5 * t**2 * math.exp(-Q * phi / (K * t)) * (math.exp(Q * s / (K * t)) - 1)
        w00 = Q * H / (4 * math.pi) * math.sqrt(2 * n / (MASS * 17 * EPS0))
        w0, eps = w00 / math.tanh(w00 / (K * t)), w00 / (w00 / (K * t) - math.tanh(w00 / (K * t)))
        root = math.sqrt(math.pi * w00 * Q * (abs(s) + phi / math.cosh(w00 / (K * t)) ** 2))
        return -area * 6.01e5 * t / K * root * math.exp(-Q * phi / w0) * (math.exp(Q * abs(s) / eps) - 1)

    def through(s: float) -> float:
        """The current that leaves V_s for the contact."""

        def excess(i: float) -> float:
            return i * (disc + plug + 650 + 719.2437 * (1 + 719.2437 * 3.92e-3 * i * i * 90471.47)) - (v - s)

        return brentq(excess, -1e-2, 1e-2, xtol=1e-22, rtol=1e-15)

    def kelvin(s: float, i: float) -> float:
        return ambient + i * (s + i * (disc + plug)) * warming

    s = brentq(lambda s: through(s) - contact(s, kelvin(s, through(s))), 1e-9 * v, v, xtol=1e-18, rtol=1e-15)
    i = through(s)
    return i, s, kelvin(s, i), n, disc, plug


def jart():
    def current(v: float, x: float) -> float:
        return jart_operation(v, x)[0]

    def rate(v: float, x: float) -> float:
        i, s, t, n, disc, plug = jart_operation(v, x)
        if v > 0:
            field, left = (s + i * (disc + plug)) / 3e-9, 1 - (0.008e26 / n) ** 10
        else:
            field, left = i * disc / 0.4e-9, 1 - (n / 20e26) ** 10
        g = 2 * Q * field * 0.25e-9 / (math.pi * 1.35 * Q)
        low, high = (1.35 * Q * (math.sqrt(1 - g * g) + side * g * math.pi / 2 + g * math.asin(g)) for side in (-1, 1))
        hops = math.exp(-low / (K * t)) - math.exp(-high / (K * t))
        return -(20e26 + n) / 2 * 0.25e-9 * 2e13 * hops * left / 0.4e-9 / n / math.log(2500)

    return current, rate


Law = tuple[Callable[[float, float], float], Callable[[float, float], float]]
LAWS: dict[str, Law] = {
    "vteam_kvatinsky_a": vteam(5e-4, -10, 0.02, -0.2, 1, 3, 50, 1e3),
    "vteam_kvatinsky_b": vteam(0.091, -216.2, 0.3, -1.5, 4, 4, 1e3, 300e3),
    "linear_ion_drift_hp": drift(),
    "yakopcic_a": yakopcic(0.17, 0.05, 0.16, 0.15, 4000, 0.3, 0.5, 1, 5),
    "yakopcic_b": yakopcic(0.17, 0.05, 0.65, 0.56, 4000, 0.3, 0.5, 1, 5),
    "yakopcic_c": yakopcic(7e-5, 1.9, 0.4, 0.3, 1, 0.9, 0.7, 3, 8),
    "metastable_switch_knowm": switches(),
    "data_driven_tiox": tiox(),
    "data_driven_simplified": simplified(),
    "stanford_pku_hfox": pku(),
    "jart_vcm_1b": jart(),
}
# Sets that were fitted here to measurements have no published numbers to hold them to.
MOVING = {name: device for name, device in SETS.items() if isinstance(device, DynamicDevice) and name in LAWS}
# Where the contact's barrier is not held (there the published equations have several solutions).
POINTS = {name: tuple(product((-1.7, -0.9, -0.25, 0.3, 0.75, 1.1), (0.03, 0.4, 0.55, 0.97))) for name in LAWS}
POINTS["jart_vcm_1b"] = (*product((-1.5, -0.9, -0.4, -0.1), (0.03, 0.4, 0.8)), (0.02, 0.1), (0.04, 0.3), (0.03, 0.0))

# Sign of the voltage that sets the device, as the papers have it.
SETTING = {
    "vteam_kvatinsky_a": -1,
    "vteam_kvatinsky_b": -1,
    "linear_ion_drift_hp": 1,
    "yakopcic_a": 1,
    "yakopcic_b": 1,
    "yakopcic_c": 1,
    "metastable_switch_knowm": 1,
    "data_driven_tiox": -1,
    "data_driven_simplified": 1,
    "stanford_pku_hfox": 1,
    "jart_vcm_1b": -1,
}
# Seconds in which 1.2 V (1.9 V for the set with a threshold of 1.5 V) moves half a state by about 0.01 - 0.3.
PACE = {
    "vteam_kvatinsky_a": 2e-9,
    "vteam_kvatinsky_b": 1e-10,
    "linear_ion_drift_hp": 5e-2,
    "yakopcic_a": 2e-5,
    "yakopcic_b": 3e-5,
    "yakopcic_c": 5e-2,
    "metastable_switch_knowm": 2e-5,
    "data_driven_tiox": 2e-6,
    "data_driven_simplified": 1e-7,
    "stanford_pku_hfox": 1e-9,
    "jart_vcm_1b": 1e-11,
}


def size_of(name: str) -> float:
    return 1.9 if name == "vteam_kvatinsky_b" else 1.2


@pytest.mark.parametrize("name", MOVING)
class TestPublishedEquations:
    def test_current_and_rate_at_points(self, name: str):
        device, (current, rate) = MOVING[name], LAWS[name]
        for v, x in POINTS[name]:
            found = float(device.current(np.array(v), np.array(x)))
            assert found == pytest.approx(current(v, x), rel=1e-8), (v, x)
            assert found * v > 0
            moves = float(device.state_rate(np.array(v), np.array(x)))
            assert moves == pytest.approx(rate(v, x), rel=1e-7, abs=1e-12), (v, x)

    def test_the_time_between_two_states_is_the_integral_of_one_over_the_rate(self, name: str):
        """t = int dx / rate at constant voltage, by quadrature of the scalar rate."""
        if name == "jart_vcm_1b":
            pytest.skip("its scalar equation with a voltage above 0 has three solutions, below it is in the next test")
        device, (_, rate) = MOVING[name], LAWS[name]
        size = size_of(name)
        for v in (size, -size):
            began = 0.5
            ended = began + math.copysign(0.05, rate(v, began))
            time, _ = quad(lambda x, v=v: 1 / rate(v, x), began, ended, epsabs=0, epsrel=1e-10)
            assert time > 0
            ways = evolve(device, np.array(began), [0, time], [v, v])[-1], after_pulses(device, began, [v], time)
            for way in ways:
                assert abs(float(way) - ended) < 2e-6, v

    @pytest.mark.ngspice
    def test_its_twin_in_ngspice(self, name: str, engine):
        device, (current, rate) = MOVING[name], LAWS[name]
        for x in sorted({x for _, x in POINTS[name]}):
            volts = np.array([v for v, own in POINTS[name] if own == x])
            result = engine.run(twin(device, x), volts[:, None])
            np.testing.assert_allclose(result.column("i(vout)"), [current(v, x) for v in volts], rtol=1e-6, atol=1e-15)
            # gmin at the pin is a rate of 1e-6 1/s.
            rates = [rate(v, x) for v in volts]
            np.testing.assert_allclose(result.column("i(vstate)") * 1e9, rates, rtol=1e-6, atol=1e-5)

    def test_the_sign_that_sets_it(self, name: str):
        device = MOVING[name]
        assert device.raising_sign == SETTING[name]
        for sign in (1, -1):
            moved = after_pulses(device, np.array([0.5]), [sign * size_of(name)], PACE[name])
            before, after = device.current(np.array(0.01), np.array([0.5])), device.current(np.array(0.01), moved)
            assert np.sign(after - before) == sign * SETTING[name]


def test_jart_sets_in_the_time_of_its_scalar_equation():
    rate = LAWS["jart_vcm_1b"][1]
    time, _ = quad(lambda x: 1 / rate(-1.0, x), 0.4, 0.45, epsabs=0, epsrel=1e-7, limit=5)
    assert abs(float(evolve(JartVcm(), np.array(0.4), [0, time], [-1.0, -1.0])[-1]) - 0.45) < 2e-6


class TestClosedSolutions:
    @pytest.mark.parametrize("amplitude", [0.05, 0.6])
    def test_without_a_window_linear_ion_drift_counts_charge(self, amplitude: float):
        """R_on x^2/2 + R_off (x - x^2/2) = mu R_on/D^2 flux + constant; the window of p = 20 is 1 in the middle."""
        device, period = LinearIonDrift(window="joglekar", window_exponent=20), 0.05
        times = np.linspace(0, 2 * period, 801)
        volts = amplitude * np.sin(2 * np.pi * times / period)
        found = evolve(device, np.array(0.5), times, volts, relative_tolerance=1e-9, absolute_tolerance=1e-11)
        assert np.abs(found - 0.5).max() < 0.2
        flux = np.concatenate([[0], np.cumsum((volts[1:] + volts[:-1]) / 2 * np.diff(times))])
        level = 50 * 0.25 + 16e3 * (0.5 - 0.125) + 1e4 * flux
        # (R_on - R_off)/2 x^2 + R_off x - level = 0
        expected = (16e3 - np.sqrt(16e3**2 - 2 * 15.9e3 * level)) / 15.9e3
        np.testing.assert_allclose(found, expected, atol=1e-7)
        # The same charge, the same resistance: the loop is one of charge, and closes.
        current = device.current(volts, found)
        charge = np.concatenate([[0], np.cumsum((current[1:] + current[:-1]) / 2 * np.diff(times))])
        np.testing.assert_allclose(found - 0.5, 1e4 * charge, atol=1e-5 * (1 + np.abs(found - 0.5).max()))
        assert abs(found[-1] - 0.5) < 1e-9

    @pytest.mark.parametrize(("name", "volts", "speed"), [
        ("vteam_kvatinsky_b", 0.75, 0.091 / 3e-9 * 1.5**4),
        ("vteam_kvatinsky_b", -2.1, -216.2 / 3e-9 * 0.4**4),
        ("vteam_kvatinsky_a", 0.05, 5e-4 / 3e-9 * 1.5),
        ("vteam_kvatinsky_a", -0.5, -10 / 3e-9 * 1.5**3),
    ])  # fmt: skip
    def test_vteam_switches_in_the_time_of_artanh(self, name: str, volts: float, speed: float):
        device = MOVING[name]
        for began, ended in pairwise((1e-4, 0.2, 0.7, 0.999)):
            time = (math.atanh(ended) - math.atanh(began)) / abs(speed)
            first, last = (began, ended) if volts > 0 else (1 - began, 1 - ended)
            assert float(after_pulses(device, first, [volts], time)) == pytest.approx(last, abs=1e-12)
            assert float(evolve(device, first, [0, time], [volts, volts])[-1]) == pytest.approx(last, abs=2e-6)

    def test_yakopcic_rises_straight_below_its_onset(self):
        found = evolve(MOVING["yakopcic_c"], np.array([0.1, 0.2]), [0, 0.2, 0.5], [0.9, 0.9, 0.9])
        slope = math.exp(0.9) - math.exp(0.4)
        expected = np.array([0.1, 0.2]) + np.array([[0.2], [0.5]]) * slope
        np.testing.assert_allclose(found[1:], expected, atol=1e-9)

    def test_messaris_closed_solution(self):
        """R(t) = ln(e^(k r) + e^(-k s t)(e^(k R) - e^(k r)))/k for V > 0; downwards 1 - e^(-k (R - r)) decays."""
        device = MOVING["data_driven_tiox"]
        for start, time in product((0.1, 0.6, 1.0), (1e-7, 1e-5, 1e-3)):
            k, target, r = 5.11e-4, 16719, 17e3 - 15.72e3 * start
            decay = math.exp(-k * 743.47 * math.expm1(6.51 * 0.8) * time)
            up = math.log(math.exp(k * target) + decay * (math.exp(k * r) - math.exp(k * target))) / k
            assert float(after_pulses(device, start, [0.8], time)) == pytest.approx((17e3 - up) / 15.72e3, abs=1e-10)
            k, target = 1.17e-3, 29304.82557 - 23692.77225 * 0.9
            if r > target:
                left = -math.expm1(-k * (r - target)) * math.exp(-k * 68012.28374 * math.expm1(0.31645 * 0.9) * time)
                down = target - math.log1p(-left) / k
                found = float(after_pulses(device, start, [-0.9], time))
                assert found == pytest.approx((17e3 - down) / 15.72e3, abs=1e-10)

    @pytest.mark.parametrize("kelvin", [300.0, 350.0])
    def test_switches_forget_at_0_volt_with_the_rate_of_both_hops(self, kelvin: float):
        """The thresholds' width is proportional to the temperature."""
        device = MetastableSwitch()
        hop = 1 / (1 + math.exp(0.27 / (0.025852 * kelvin / 300)))
        for time in (0.1, 1.0, 5.0):
            expected = 0.5 + 0.4 * math.exp(-2 * hop * time / 1e-4)
            pulsed = after_pulses(device, 0.9, [0.0], time, temperature=kelvin)
            assert float(pulsed) == pytest.approx(expected, abs=1e-10)
            evolved = evolve(device, 0.9, [0, time], [0.0, 0.0], temperature=kelvin)
            assert float(evolved[-1]) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(("v", "x", "ambient"), [(1.1, 0.9, 300.0), (-0.8, 0.5, 350.0), (0.3, 0.99, 298.0)])
    def test_stanford_filament_temperature(self, v: float, x: float, ambient: float):
        found = float(StanfordPku().filament_temperature(np.array(v), np.array(x), ambient))
        assert found == pytest.approx(pku_temperature(v, x, ambient), rel=1e-12)
        assert found > ambient

    def test_stanford_rate_follows_arrhenius_in_the_surroundings(self):
        """At no current to speak of, ln rate by 1/T is -(E_a - gamma a0 q V/t_ox)/k."""
        v, x = 1.8, 0.0
        cold = StanfordPku(thermal_resistance=0.0)
        rates = [float(cold.state_rate(np.array(v), np.array(x), kelvin)) for kelvin in (300.0, 310.0)]
        gamma = 16 - 0.8 * 1.7**3
        lowered = 0.6 - gamma * 0.25 * v / 12
        slope = math.log(rates[1] / rates[0]) / (1 / 310 - 1 / 300)
        assert slope == pytest.approx(-lowered * Q / K, rel=1e-6)


@pytest.mark.parametrize("name", MOVING)
class TestLimits:
    def test_fast_loops_shrink_to_a_line(self, name: str):
        """The state's excursion halves as the frequency doubles, and the lobes with it."""
        device, size = MOVING[name], size_of(name)
        phase = np.linspace(0, 1, 41)
        volts = size * np.sin(2 * np.pi * phase)
        excursions, areas = [], []
        for frequency in (300 / PACE[name], 600 / PACE[name]):
            tight = {"relative_tolerance": 1e-9, "absolute_tolerance": 1e-12}
            states = evolve(device, np.array(0.5), phase / frequency, volts, **tight)
            excursions.append(float(np.abs(states[:21] - 0.5).max()))
            currents = device.current(volts, states)
            line = device.current(volts, np.full(41, 0.5))
            lobe = np.abs(currents[:21] - line[:21])
            areas.append(float(lobe.max() / np.abs(line).max()))
        assert excursions[0] > 1e-8
        for coarse, fine in pairwise(excursions):
            assert coarse / fine == pytest.approx(2, rel=0.15)
        for coarse, fine in pairwise(areas):
            assert coarse / fine == pytest.approx(2, rel=0.15)
        assert areas[-1] < 0.05

    def test_below_its_threshold_it_rests_for_ten_years(self, name: str):
        device = MOVING[name]
        rest = {"vteam_kvatinsky_a": 0.019, "vteam_kvatinsky_b": 0.29, "yakopcic_a": 0.14, "yakopcic_b": 0.55}
        rest |= {"yakopcic_c": 0.29, "stanford_pku_hfox": 0.1, "data_driven_tiox": 0.0, "data_driven_simplified": 0.0}
        rest |= {"linear_ion_drift_hp": 0.0, "jart_vcm_1b": 0.0}
        if name not in rest:
            pytest.skip("it relaxes at 0 V")
        starts = np.array([0.0, 1e-3, 0.5, 1.0])
        for v in (rest[name], -rest[name], 0.0):
            found = evolve(device, starts, [0, 10 * YEAR], [v, v])[-1]
            np.testing.assert_allclose(found, starts, rtol=0, atol=1e-12)
            np.testing.assert_allclose(after_pulses(device, starts, [v], 10 * YEAR), starts, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("kind", [np.float64, np.float32])
    def test_from_a_picosecond_to_ten_years_it_moves_one_way_within_its_bounds(self, name: str, kind: type):
        device, starts = MOVING[name], np.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0], kind)
        slow = name == "jart_vcm_1b"  # an implicit current: seconds for ten years
        for v in (size_of(name), -size_of(name)) if slow else (2.0, size_of(name), -size_of(name), -2.0):
            ends = [starts]
            for time in (0.0, 1e-12, 1e-6) if slow else (0.0, 1e-12, 1e-9, 1e-3, 10 * YEAR):
                found = evolve(device, starts, [0, time], [v, v])[-1]
                assert found.dtype == kind
                assert np.all((found >= 0) & (found <= 1))
                ends.append(found)
            np.testing.assert_array_equal(ends[1], starts)
            opens = device.conductance(np.array(0.9)) > device.conductance(np.array(0.1))
            way = np.sign(v) * SETTING[name] * (1 if opens else -1)
            slack = 2e-6 if kind is np.float64 else 2e-5
            for before, after in pairwise(ends):
                assert np.all(way * (after - before) >= -slack)

    def test_single_precision_follows_double(self, name: str):
        device, size = MOVING[name], size_of(name)
        times = np.linspace(0, 4 * PACE[name], 9)
        volts = size * np.array([1, 1, -1, -1, 1, -1, 1, 1, -1.0])
        wide = evolve(device, np.array([0.2, 0.5, 0.8]), times, volts)
        narrow = evolve(device, np.array([0.2, 0.5, 0.8], np.float32), times, volts)
        assert narrow.dtype == np.float32
        np.testing.assert_allclose(narrow, wide, atol=2e-4)

    def test_shapes_broadcast(self, name: str):
        device, pace, size = MOVING[name], PACE[name], size_of(name)
        states, volts = np.array([[0.2], [0.5], [0.8]]), size * np.array([[1, 0.9, -1, -0.9], [-1, 1, 1, -1.0]])
        for result in (
            after_pulses(device, states, volts, pace),
            evolve(device, states, [0, pace], np.stack([volts[0], volts[0]]))[-1],
            trace(device, states, [0, pace], np.stack([volts[0], volts[0]]), 50)[-1],
        ):
            assert result.shape == (3, 4)
        every = after_pulses(device, states, volts, pace, every=True)
        assert every.shape == (2, 3, 4)
        for i, j in ((0, 3), (2, 1)):
            alone = float(after_pulses(device, float(states[i, 0]), volts[:, j], pace))
            assert float(every[-1, i, j]) == pytest.approx(alone, abs=3e-6)

    def test_two_half_pulses_are_one(self, name: str):
        device, pace = MOVING[name], PACE[name]
        starts = np.array([0.3, 0.5, 0.7])
        for v in (size_of(name), -size_of(name)):
            whole = after_pulses(device, starts, [v], pace)
            halves = after_pulses(device, starts, [v, v], pace / 2)
            faster = after_pulses(device, starts, [v], pace / 4, speed=4.0)
            np.testing.assert_allclose(halves, whole, atol=4e-6)
            np.testing.assert_allclose(faster, whole, atol=4e-6)
            assert np.abs(whole - starts).max() > 1e-4


def test_a_million_cells_in_three_pulses():
    generator = np.random.default_rng(5)
    starts, factors = generator.random(1_000_000), generator.uniform(0.9, 1.1, 1_000_000)
    cells = Vteam().varied({"off_rate": 0.091 / 3e-9 * factors})
    found = after_pulses(cells, starts, [0.7, -1.8, 0.6], 1e-10)
    for index in (0, 137, 500_001, 999_999):
        own = float(starts[index])
        for v in (0.7, -1.8, 0.6):
            speed = 0.091 / 3e-9 * factors[index] * (v / 0.3 - 1) ** 4 if v > 0 else 216.2 / 3e-9 * (v / -1.5 - 1) ** 4
            own = own if v > 0 else 1 - own
            own = math.tanh(math.atanh(own) + speed * 1e-10)
            own = own if v > 0 else 1 - own
        assert found[index] == pytest.approx(own, abs=1e-11)


EXTREMES = {
    "vteam, powers of 20": Vteam(on_exponent=20, off_exponent=20, off_rate=1e-3, on_rate=1e7),
    "vteam, powers of 1, steep window": Vteam(on_exponent=1, off_exponent=1, window_exponent=20),
    "biolek, p = 20": LinearIonDrift(window_exponent=20),
    "joglekar, p = 20": LinearIonDrift(window="joglekar", window_exponent=20),
    "prodromakis, p = 20": LinearIonDrift(window="prodromakis", window_exponent=20, window_height=100.0),
    "yakopcic, onsets at the ends": Yakopcic(positive_onset=0.0, negative_onset=0.999, positive_decay=50.0),
    "sharp switches": MetastableSwitch(slope_voltage=1e-3),
    "stanford, narrow bounds": StanfordPku(bound_width=1e-4, field_width=1e3),
}


@pytest.mark.ngspice
@pytest.mark.parametrize("name", EXTREMES)
def test_twins_at_the_limits_of_their_parameters(name: str, engine):
    device = EXTREMES[name]
    volts = np.array([-2.0, -1.0, -0.2, 0.2, 0.9, 1.7])
    for x in (0.0, 1e-3, 0.02, 0.49, 0.98, 1.0):
        result = engine.run(twin(device, x), volts[:, None])
        np.testing.assert_allclose(result.column("i(vout)"), device.current(volts, np.array(x)), rtol=1e-8, atol=1e-15)
        rates = device.state_rate(volts, np.array(x))
        np.testing.assert_allclose(result.column("i(vstate)") * 1e9, rates, rtol=1e-7, atol=1e-5)


# --- Tiles. ---

CELLS: dict[str, Device] = {
    "ohmic": Ohmic(),
    "sinh": Sinh(nonlinearity=5.0),
    **{name: device for name, device in SETS.items() if name != "ohmic_wan"},
    "vteam, exponential": Vteam(conduction="exponential"),
    "yakopcic, reversed": Yakopcic(polarity=-1, negative_amplitude=2e-5),
    "switches with diodes": MetastableSwitch(memory_share=0.8, forward_current=1e-5, reverse_current=3e-5),
    "tiox, by polarity": DataDriven(negative_amplitude=0.1),
}


# The tile takes sets from end to end of their devices, beyond what was measured.
@pytest.mark.filterwarnings("ignore:.*beyond the measurements:mdls_cosim.errors.DomainWarning")
@pytest.mark.ngspice
@pytest.mark.parametrize("name", CELLS)
def test_a_small_tile_on_both_rungs(name: str, engine):
    """3 x 2 with wires and voltages of both signs: NodalTile against ngspice, 1e-6 of the column currents."""
    device = CELLS[name]
    low, high = device.conductance_range(0.1)
    high = high if math.isfinite(high) else 1e-4
    low = max(low, 1e-3 * high)
    generator = np.random.default_rng(3)
    conductances = np.exp(generator.uniform(np.log(low * 1.001), np.log(high * 0.999), (3, 2)))
    conductances[0, 0], conductances[2, 1] = low * 1.001, high * 0.999
    spec = TileSpec(
        rows=3,
        cols=2,
        cell=device,
        row_line_resistance=5.0,
        column_line_resistance=3.0,
        driver_resistance=20.0,
        sense_resistance=11.0,
        reference_voltage=0.1,
    )
    # jart_vcm takes ngspice a second a vector.
    vectors = np.array([[0.3, -0.2, 0.1], [-0.3, 0.25, -0.1], [0.0, 0.2, 0.0]])[: 1 if "jart" in name else 3]
    by_nodes = NodalTile(spec).program(torch.as_tensor(conductances))(torch.as_tensor(vectors)).numpy()
    by_spice = SpiceTile(spec, engine).program(torch.as_tensor(conductances))(torch.as_tensor(vectors)).numpy()
    np.testing.assert_allclose(by_nodes, by_spice, rtol=0, atol=1e-6 * np.abs(by_spice).max())
    # Wires aside, the current of a row at +V flows into the virtual ground: its sign.
    ideal = spec.replace(
        row_line_resistance=0.0, column_line_resistance=0.0, driver_resistance=0.0, sense_resistance=0.0
    )
    only = NodalTile(ideal).program(torch.as_tensor(conductances))(torch.tensor([[0.1, 0.0, 0.0]], dtype=torch.float64))
    np.testing.assert_allclose(only[0], 0.1 * conductances[0], rtol=1e-9)


# --- The command line. ---

RUN = """
conductance_range = ["{low}", "{high}"]
[tile]
rows = 2
cols = 2
row_line_resistance = "2 ohm"
column_line_resistance = "2 ohm"
driver_resistance = "50 ohm"
sense_resistance = "50 ohm"
reference_voltage = "0.05 V"
[tile.cell]
model = "{model}"
parameters = "{parameters}"
[iv]
voltage = "0.1 V"
points = 5
cells = 2
frequencies = ["{frequency}"]
amplitudes = ["{amplitude}"]
loop_points = 40
[pulse]
potentiation = ["{up}"]
depression = ["{down}"]
widths = ["{width}"]
pulses = 3
[write]
raising = "{up}"
lowering = "{down}"
width = "{width}"
pulses = 6
targets = 2
"""
KEYS = ("low", "high", "frequency", "amplitude", "up", "down", "width")
RUNS = {
    "yakopcic_c": ("20 uS", "100 uS", "1 Hz", "1.2 V", "0.9 V", "0.9 V", "50 ms"),
    "data_driven_tiox": ("70 uS", "300 uS", "1 kHz", "1.1 V", "0.9 V", "1.1 V", "1 ms"),
    "metastable_switch_knowm": ("0.8 mS", "1.8 mS", "1 kHz", "0.5 V", "0.4 V", "0.4 V", "20 us"),
}


@pytest.mark.ngspice
@pytest.mark.parametrize("name", RUNS)
def test_characterize_iv_pulse_and_write_by_parameter_set(name: str, tmp_path: Path):
    device, (current, _) = MOVING[name], LAWS[name]
    plan, data = tmp_path / "plan.toml", tmp_path / "data.h5"
    plan.write_text(
        RUN.format(model=device.as_dict()["model"], parameters=name, **dict(zip(KEYS, RUNS[name], strict=True)))
    )
    result = CliRunner().invoke(cli.app, ["characterize", str(plan), "--out", str(data), "--workers", "1"])
    assert result.exit_code == 0, result.output
    spec, found = Characterization.load_toml(plan), Dataset.load(data).experiments
    iv, pulse, write = ({key: array.values for key, array in found[kind].items()} for kind in ("iv", "pulse", "write"))
    # At rest: the papers' current in the state that shows the conductance at 0.05 V.
    for target, volts, currents in zip(iv["conductances"], iv["voltages"], iv["currents"], strict=True):
        x = brentq(lambda x, target=target: current(0.05, x) / 0.05 - target, 0, 1, xtol=1e-15)
        np.testing.assert_allclose(currents, [current(v, x) for v in volts], rtol=1e-6, atol=1e-15)
    assert spec.iv is not None
    start = brentq(lambda x: current(0.05, x) / 0.05 - spec.conductance_range[0], 0, 1, xtol=1e-15)
    volts = iv["loop_voltages"][0, 0]
    states = evolve(device, np.array(start), np.arange(volts.size) / 40 / spec.iv.frequencies[0], volts)
    expected = device.current(volts, states)
    assert np.abs(iv["loop_currents"][0, 0] - expected).max() < 1e-3 * np.abs(expected).max()
    assert spec.pulse is not None
    width, sign = spec.pulse.widths[0], device.raising_sign
    train = sign * np.array(3 * [spec.pulse.potentiation[0]] + 3 * [-spec.pulse.depression[0]])
    after = after_pulses(device, np.array([start]), train, width, edge=0.1 * width, pause=width, every=True)[:, 0]
    shown = pulse["conductances"][0, 0, 0]
    expected = device.conductance(after, 0.05)
    np.testing.assert_allclose(shown[1:], expected, atol=1e-3 * expected.max())
    assert np.all(np.diff(shown[:4]) > 0)
    assert np.all(np.diff(shown[3:]) < 0)
    history = write["history"]
    assert np.all(np.isfinite(history[:, 0]))
    for target, own in zip(write["targets"], history, strict=True):
        assert abs(own[np.isfinite(own)][1] - own[0]) > 0 or abs(own[0] - target) < 0.02 * 2e-3


# --- Variability. ---

SPAN = (1e-6, 1e-4)
WRITING = {
    "finite": FiniteStates(states=9),
    "levels": FiniteStates(levels=(1e-6, 2e-6, 7e-6, 3e-5, 9e-5)),
    "spread": DeviceToDevice(distribution=Lognormal(sigma=0.4)),
    "measured": DeviceToDevice(distribution=Samples(values=(0.7, 1.0, 1.6))),
    "error": ProgrammingError(relative=0.1, absolute=1e-6, polynomial=(1e-7, 2e-8)),
    "worn": Endurance(closing=0.2, onset=10.0, lifetime=1e3, fails="off"),
    "stuck": Stuck(on=0.1, off=0.2),
}
READING = {
    "drift": Drift(exponent=0.06, exponent_spread=0.02, start_time=1.0),
    "retention": Retention(time_constant=1e4, stretching=0.6, spread=0.5),
    "trap": RandomTelegraphNoise(amplitude=0.3, capture_time=2.0, emission_time=1.0, share=0.7),
    "noise": ReadNoise(relative=0.05, absolute=1e-7),
}
ORDER = ["finite", "levels", "spread", "measured", "error", "worn", "stuck"]
PAIRS = [pair for pair in combinations(ORDER, 2) if pair not in {("finite", "levels"), ("spread", "measured")}]
CHIP = np.random.default_rng(11).uniform(1e-6, 1e-4, (40, 30))


class TestVariability:
    @pytest.mark.parametrize(("first", "second"), PAIRS, ids=str)
    def test_two_effects_are_one_after_the_other(self, first: str, second: str):
        """In the documented order, whatever that of the configuration, each with the draws that it has alone."""
        one, two = WRITING[first], WRITING[second]
        alone = Variability(effects=(one,)).programmed(CHIP, SPAN, 5, cycles=300).conductances
        alone = Variability(effects=(two,)).programmed(alone, SPAN, 5, cycles=300).conductances
        for effects in ((one, two), (two, one)):
            together = Variability(effects=effects).programmed(CHIP, SPAN, 5, cycles=300)
            np.testing.assert_allclose(together.conductances, alone, rtol=1e-13)
            tensors = Variability(effects=effects).programmed(torch.as_tensor(CHIP), SPAN, 5, cycles=300)
            np.testing.assert_allclose(tensors.conductances.numpy(), alone, rtol=1e-13)
            assert tensors.counts == together.counts
        assert not np.allclose(alone, CHIP)
        other = Variability(effects=(one, two)).programmed(CHIP, SPAN, 6, cycles=300).conductances
        assert (first in {"finite", "levels"} and second in {"finite", "levels"}) or not np.allclose(other, alone)

    @pytest.mark.parametrize(("first", "second"), list(combinations(READING, 2)), ids=str)
    def test_two_effects_of_time_are_one_after_the_other(self, first: str, second: str):
        one, two, when = READING[first], READING[second], {"time": 500.0, "temperature": 300.0, "read": 3}
        alone = Variability(effects=(one,)).at(CHIP, SPAN, 5, **when).conductances
        alone = Variability(effects=(two,)).at(alone, SPAN, 5, **when).conductances
        for effects in ((one, two), (two, one)):
            together = Variability(effects=effects).at(CHIP, SPAN, 5, **when).conductances
            np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-20)
        assert not np.allclose(alone, CHIP)

    @pytest.mark.parametrize("name", READING)
    def test_stuck_cells_stay_what_they_are(self, name: str):
        chip = Variability(effects=(READING[name], Stuck(on=0.2, off=0.3)))
        written = chip.programmed(CHIP, SPAN, 9)
        stuck = (written.conductances == SPAN[0]) | (written.conductances == SPAN[1])
        assert stuck.sum() == written.counts["stuck_on"] + written.counts["stuck_off"]
        assert stuck.mean() == pytest.approx(0.5, abs=0.05)
        found = chip.at(written.conductances, SPAN, 9, time=1e6).conductances
        np.testing.assert_array_equal(found[stuck], written.conductances[stuck])
        assert np.mean(found[~stuck] != written.conductances[~stuck]) > 0.6  # a trap is in 70 % of them

    def test_extremes(self):
        def written(*effects):
            return Variability(effects=effects).programmed(CHIP, SPAN, 2).conductances

        np.testing.assert_array_equal(written(), CHIP)
        np.testing.assert_array_equal(written(Stuck()), CHIP)
        np.testing.assert_array_equal(written(Stuck(on=1.0)), np.full(CHIP.shape, 1e-4))
        np.testing.assert_array_equal(written(Stuck(off=1.0)), np.full(CHIP.shape, 1e-6))
        assert np.all(np.isin(written(Stuck(off=0.5, on=0.5)), SPAN))
        for nothing in (Lognormal(sigma=0.0), Normal(sigma=0.0), Samples(values=(1.0,))):
            np.testing.assert_array_equal(written(DeviceToDevice(distribution=nothing)), CHIP)
        np.testing.assert_array_equal(written(ProgrammingError()), CHIP)
        # Neither drift, retention nor flicker before anything has passed; a day and an age are finite.
        still = Variability(effects=(READING["drift"], READING["retention"], ReadNoise(flicker=Flicker(strength=0.1))))
        np.testing.assert_allclose(still.at(CHIP, SPAN, 2, time=0.0).conductances, CHIP, rtol=1e-14)
        for time, warm in product((86400.0, 10 * YEAR, 1e15), (250.0, 300.0, 400.0)):
            found = still.at(CHIP, SPAN, 2, time=time, temperature=warm).conductances
            assert np.all(np.isfinite(found) & (found >= 0))

    def test_drift_and_retention_are_their_formulas(self):
        chip = Variability(effects=(Drift(exponent=0.06, start_time=20.0),))
        np.testing.assert_allclose(chip.at(CHIP, SPAN, 1, time=20e4).conductances, CHIP * 1e4**-0.06, rtol=1e-12)
        hot = Variability(effects=(Retention(time_constant=1e5, stretching=0.5, activation_energy="1.1 eV"),))
        faster = math.exp(1.1 * Q / K * (1 / 300 - 1 / 398.15))
        expected = 1e-6 + (CHIP - 1e-6) * math.exp(-math.sqrt(3.0 * faster / 1e5))
        np.testing.assert_allclose(
            hot.at(CHIP, SPAN, 1, time=3.0, temperature=398.15).conductances, expected, rtol=1e-9
        )

    @pytest.mark.parametrize(
        ("name", "sigma"),
        [
            ("ohmic_wan", lambda g: 1.536e-4 * g**3 - 1.167e-2 * g**2 + 0.2374 * g + 1.053),
            ("phase_change_nandakumar", lambda g: 0.26348 + 1.965 * (g / 25) - 1.1731 * (g / 25) ** 2),
            ("passive_tio2_nili", lambda g: -1.07 + 0.25 * g + 0.022 * 26.85 - 1300e-6 * g**2),
        ],
    )
    def test_spread_of_the_sets(self, name: str, sigma: Callable[[float], float]):
        chip = Variability.from_parameters(name)
        for nominal in (10.0, 20.0):  # uS
            # Nili's sigma is of A1, as a function of the nominal G; at 300 K A1 = 0.977 G + 0.5507 uS.
            shown = 0.977 * nominal - 2.58 + 0.1166 * 26.85 if "nili" in name else nominal
            found = chip.programmed(np.full(40_000, shown * 1e-6), (0.0, 1e-4), 4).conductances
            assert found.mean() == pytest.approx(shown * 1e-6, rel=0.01)
            assert found.std() == pytest.approx(sigma(nominal) * 1e-6, rel=0.02)

    def test_a_population_of_cells_and_cycles(self):
        chip = Variability(effects=(
            DeviceToDevice(parameter="off_resistance", distribution=Lognormal(sigma=0.3)),
            CycleToCycle(distribution=Lognormal(sigma=0.2)),
        ))  # fmt: skip
        own = chip.parameters(Vteam(), (200, 100), 3)["off_resistance"]
        assert np.log(own / 300e3).std() == pytest.approx(0.3, rel=0.03)
        cycles = [np.log(chip.factors((200, 100), 3, cycle)) for cycle in (0, 1)]
        assert abs(np.corrcoef(cycles[0].ravel(), cycles[1].ravel())[0, 1]) < 0.03
        assert cycles[1].std() == pytest.approx(0.2, rel=0.03)
        cells = Vteam().varied({"off_resistance": own})
        np.testing.assert_allclose(cells.current(np.array(0.1), np.ones((200, 100))), 0.1 / own, rtol=1e-12)


# --- Parameter sets. ---

PLAN = 'conductance_range = ["{} S", "{} S"]\n[tile]\nrows = 2\ncols = 2\n[tile.cell]\n{}\n[read]\ntiles = 1\n'


class TestParameterSets:
    def cell(self, folder: Path, text: str, device: Device = SETS["vteam_kvatinsky_b"]) -> Device:
        path, (low, high) = folder / "plan.toml", device.conductance_range()
        high = min(high, 1e-2)
        path.write_text(PLAN.format(low + 0.3 * (high - low), low + 0.6 * (high - low), text))
        device = Characterization.load_toml(path).tile.device
        assert device is not None
        return device

    @pytest.mark.parametrize("name", parameter_set_names())
    def test_a_tile_names_it(self, name: str, tmp_path: Path):
        model = read_parameter_file(name)["device"]["model"]
        assert self.cell(tmp_path, f'model = "{model}"\nparameters = "{name}"', SETS[name]) == SETS[name]

    def test_one_value_is_changed_the_others_stay(self, tmp_path: Path):
        text = 'model = "vteam"\nparameters = "vteam_kvatinsky_a"\noff_voltage = "30 mV"'
        expected = MOVING["vteam_kvatinsky_a"].replace(off_voltage=0.03)
        assert self.cell(tmp_path, text, expected) == expected

    def test_a_file_beside_the_plan(self, tmp_path: Path):
        (tmp_path / "mine.toml").write_text('[device]\nmodel = "vteam"\noff_voltage = "0.4 V"\n')
        assert self.cell(tmp_path, 'model = "vteam"\nparameters = "mine.toml"') == Vteam(off_voltage=0.4)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('model = "vteam"\nparameters = "vteam_nosuch"', "no such parameter set.*vteam_nosuch.*vteam_kvatinsky_a"),
            ('model = "vteam"\nparameters = "absent.toml"', "no such parameter set.*absent.toml"),
            ('model = "vteam"\nparameters = "yakopcic_c"', "another model.*yakopcic.*vteam"),
            ('parameters = "yakopcic_c"', "missing key.*model"),
            ('model = "vteam"\nparameters = 3', "not the name"),
            ('model = "vteam"\nparameters = "vteam_kvatinsky_a"\noff_voltage = "3 ohm"', "off_voltage.*3 ohm"),
            ('model = "vteam"\nparameters = "vteam_kvatinsky_a"\noff_voltage = 0.3', "without its unit.*off_voltage"),
            ('model = "vteam"\nparameters = "vteam_kvatinsky_a"\noff_volt = "1 V"', "Did you mean off_voltage"),
            ('model = "vteam"\nparameters = "vteam_kvatinsky_a"\noff_voltage = "-1 V"', "impossible thresholds"),
        ],
    )
    def test_mistakes_are_told(self, text: str, said: str, tmp_path: Path):
        with pytest.raises(ConfigError, match=said):
            self.cell(tmp_path, text)

    def test_a_wrong_unit_in_a_file_names_the_key(self, tmp_path: Path):
        (tmp_path / "mine.toml").write_text('[device]\nmodel = "vteam"\noff_voltage = "4 A"\n')
        with pytest.raises(ConfigError, match=r"mine\.toml.*off_voltage"):
            self.cell(tmp_path, 'model = "vteam"\nparameters = "mine.toml"')

    def test_a_set_changes_no_device_that_is_there(self):
        """The device's own values would win over the set's, silently."""
        with pytest.raises(ConfigError, match="parameters"):
            Vteam().replace(parameters="vteam_kvatinsky_a")


# --- What should be refused, or be nothing at all. ---


class TestEdges:
    @pytest.mark.parametrize("name", MOVING)
    def test_no_devices_no_states(self, name: str):
        assert evolve(MOVING[name], np.zeros(0), [0, 1e-9], [0.9, 0.9]).shape == (2, 0)
        assert after_pulses(MOVING[name], np.zeros((0, 3)), [0.9, 0.9], 1e-9).shape == (0, 3)

    @pytest.mark.parametrize("speed", [-1.0, float("nan")])
    def test_impossible_speeds(self, speed: float):
        for run in (
            lambda: evolve(Vteam(), 0.5, [0, 1e-9], [0.9, 0.9], speed=speed),
            lambda: after_pulses(Vteam(), 0.5, [0.9], 1e-9, speed=speed),
            lambda: trace(Vteam(), 0.5, [0, 1e-9], [0.9, 0.9], speed=speed),
        ):
            with pytest.raises(InputError):
                run()

    def test_endless_times(self):
        for run in (
            lambda: evolve(Vteam(), 0.5, [0, math.inf], [0.9, 0.9]),
            lambda: after_pulses(Vteam(window_exponent=2), 0.5, [0.9], math.inf),
            lambda: after_pulses(Vteam(), 0.5, [0.9], 1e-9, edge=math.inf),
        ):
            with pytest.raises(InputError):
                run()

    @pytest.mark.parametrize("temperature", [0.0, -5.0, float("nan")])
    def test_impossible_temperatures(self, temperature: float):
        for device in (Vteam(), StanfordPku()):
            with pytest.raises(InputError):
                evolve(device, 0.5, [0, 1e-9], [0.9, 0.9], temperature=temperature)

    @pytest.mark.parametrize("conductance", [np.array(1.0), np.array([np.nan])], ids=str)
    def test_conductances_that_nothing_shows(self, conductance: np.ndarray):
        with pytest.raises(InputError):
            Vteam().check_range(conductance)

    @pytest.mark.parametrize(("device", "name"), [(Yakopcic(), "polarity"), (DataDriven(), "polarity")])
    def test_a_choice_is_no_number_to_vary(self, device: Device, name: str):
        with pytest.raises(InputError):
            device.varied({name: np.array([1.0, 0.9])})
