"""Devices whose equations have solutions of their own, found by other means than integrating the rate in time."""

import numpy as np
import pytest
from scipy.integrate import cumulative_simpson, solve_ivp

from mdls_cosim.devices.data_driven import DataDriven
from mdls_cosim.devices.linear_ion_drift import LinearIonDrift
from mdls_cosim.devices.metastable_switch import MetastableSwitch
from mdls_cosim.devices.vteam import Vteam
from mdls_cosim.devices.yakopcic import Yakopcic


def through_a_sine(device, first: float, amplitude: float, frequency: float):
    times = np.linspace(0, 1 / frequency, 4001)

    def volts(t):
        return amplitude * np.sin(2 * np.pi * frequency * t)

    found = solve_ivp(
        lambda t, x: np.atleast_1d(device.state_rate(np.asarray(volts(t)), x)),
        (0, times[-1]),
        [first],
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
        max_step=times[-1] / 200,
    )
    return times, volts(times), found.y[0]


# Of the charge q alone, with u = mu R_on/D^2 q: dx/du = f(x).
BY_CHARGE = {
    # 4 x (1 - x): a logistic curve.
    "joglekar": lambda first, u: first / (first + (1 - first) * np.exp(-4 * u)),
    # (1/4 - y^2) with y = x - 1/2: a tanh.
    "prodromakis": lambda first, u: 0.5 + 0.5 * np.tanh(u / 2 + np.arctanh(2 * first - 1)),
}


@pytest.mark.parametrize("window", BY_CHARGE)
def test_linear_ion_drift_is_a_function_of_the_charge(window):
    device = LinearIonDrift(window=window)
    times, volts, states = through_a_sine(device, 0.3, 1.0, 1.0)
    charge = cumulative_simpson(device.current(volts, states), x=times, initial=0)
    u = 1e-14 * 100 / 1e-8**2 * charge
    assert np.ptp(states) > 0.05
    np.testing.assert_allclose(states, BY_CHARGE[window](0.3, u), atol=1e-7)
    # Back where it began, as the charge is.
    assert states[-1] == pytest.approx(0.3, abs=1e-7)


def test_biolek_lets_go_of_the_ends_the_others_do_not():
    ends = np.array([0.0, 1.0])
    inwards = np.array([1.0, -1.0])
    assert np.all(LinearIonDrift().state_rate(inwards, ends) * inwards > 0)
    for window in ("joglekar", "prodromakis"):
        assert np.all(LinearIonDrift(window=window).state_rate(inwards, ends) == 0)


def test_switches_rest_where_hops_balance():
    """x_inf/(1 - x_inf) = P_on/P_off: e^(2 V/V_T) well below equal thresholds, which V moves one up, one down."""
    device = MetastableSwitch()
    volts = np.array([-0.05, -0.01, 0.0, 0.02, 0.05])
    rest = device.state_after(volts, np.array(0.9), np.array(1e4))
    assert np.all(np.abs(device.state_rate(volts, rest)) < 1e-9)
    np.testing.assert_allclose(np.log(rest / (1 - rest)), 2 * volts / device.slope_voltage, atol=1e-3)
    hot = device.state_after(volts, np.array(0.9), np.array(1e4), 600.0)
    np.testing.assert_allclose(np.log(hot / (1 - hot)), volts / device.slope_voltage, atol=0.03)


def test_switches_forget_at_0_volt_with_the_time_constant_they_say():
    device = MetastableSwitch()
    tau = device.time_constant * np.exp(device.on_voltage / device.slope_voltage) / 2
    after = device.state_after(np.array(0.0), np.array(1.0), np.array(tau))
    assert float(after) == pytest.approx(0.5 + 0.5 / np.e, rel=1e-4)


@pytest.mark.parametrize("volts", [-1.1, -0.8, 0.6, 1.5])
def test_a_data_driven_resistance_stops_at_its_target(volts):
    device = DataDriven()
    target = 29304.82557 + 23692.77225 * volts if volts < 0 else 16719.0
    starts = np.array([0.0, 0.2, 0.5, 1.0])
    resistance = 0.24 * 3.0 / device.conductance(device.state_after(np.array(volts), starts, np.array(1e9)))
    first = 17e3 - starts * (17e3 - 1.28e3)
    beyond = first < target if volts < 0 else first > target
    target = max(target, 1.28e3)
    np.testing.assert_allclose(resistance, np.where(beyond, first, target), rtol=1e-9)
    assert np.any(~beyond)


def test_a_vteam_travels_in_the_time_it_says():
    """From x to y at V = 2 V_off: r_off t = artanh y - artanh x."""
    device = Vteam(off_exponent=1.0, on_exponent=1.0)
    time = (np.arctanh(0.9) - np.arctanh(0.2)) / device.off_rate
    assert float(device.state_after(np.array(0.6), np.array(0.2), np.array(time))) == pytest.approx(0.9, rel=1e-12)
    time = (np.arctanh(0.9) - np.arctanh(0.2)) / device.on_rate
    assert float(device.state_after(np.array(-3.0), np.array(0.8), np.array(time))) == pytest.approx(0.1, rel=1e-11)


@pytest.mark.parametrize(
    ("device", "amplitude", "frequency", "first"),
    [
        (Yakopcic(parameters="yakopcic_a"), 0.45, 100.0, 0.11),
        (Yakopcic(parameters="yakopcic_b"), 1.0, 100.0, 0.11),
        (Yakopcic(), 0.8, 0.5, 0.3),
        (MetastableSwitch(), 0.5, 100.0, 0.5),
        (DataDriven(), 1.0, 1.0, 0.3),
        (DataDriven(parameters="data_driven_simplified"), 1.5, 100.0, 0.5),
        (LinearIonDrift(), 1.0, 1.0, 0.3),
    ],
    ids=lambda value: getattr(value, "model", str(value)),
)
def test_loops_are_pinched_and_stay_within_the_ends(device, amplitude, frequency, first):
    times, volts, states = through_a_sine(device, first, amplitude, frequency)
    assert np.all((states >= -1e-9) & (states <= 1 + 1e-9))
    assert np.ptp(states) > 0.03
    current = device.current(volts, states)
    # Power is never given back.
    assert np.all(current * volts >= 0)
    area = np.trapezoid(current[: len(times) // 2], volts[: len(times) // 2])
    assert abs(area) > 1e-3 * np.ptp(current) * amplitude
