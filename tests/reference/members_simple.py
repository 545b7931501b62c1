"""The ohmic, sinh, threshold and drift devices, written a second time."""

import math
from collections.abc import Callable

import numpy as np
from device_member import Member

from mdls_cosim.devices import Ohmic, Sinh, Vteam
from mdls_cosim.devices.data_driven import DataDriven
from mdls_cosim.devices.linear_ion_drift import LinearIonDrift
from mdls_cosim.devices.metastable_switch import MetastableSwitch
from mdls_cosim.devices.yakopcic import Yakopcic

CONDUCTANCES = (0.0, 1e-9, 2.5e-6, 1e-4)
SHOWN = (0.0, 1e-9, 1e-6, 3e-5, 1e-4)


# 1/V; e^x for sinh, so that the equation is not the device's own call.
def sinh_equation(a: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda voltage, state: state * (np.exp(a * voltage) - np.exp(-a * voltage)) / (2 * a)


def vteam_rate(off: tuple[float, float, float], on: tuple[float, float, float], p: int) -> Callable:
    """(threshold, rate, exponent) of either direction; word for word from 10.1109/TCSII.2015.2433536."""

    def rate(voltage: float, x: float) -> float:
        if voltage > off[0]:
            return off[1] * (voltage / off[0] - 1) ** off[2] * (1 - x ** (2 * p))
        if voltage < on[0]:
            return -on[1] * (voltage / on[0] - 1) ** on[2] * (1 - (x - 1) ** (2 * p))
        return 0.0

    return rate


def hopping_rate(on: float, off: float, time: float, width: float) -> Callable:
    """Shares of hops per time, the width proportional to temperature; from 10.1371/journal.pone.0085175."""

    def rate(voltage: float, x: float, temperature: float) -> float:
        beta = 300 / (width * temperature)
        up = 1 / (1 + math.exp(-beta * (voltage - on)))
        down = 1 / (1 + math.exp(beta * (voltage + off)))
        return (up * (1 - x) - down * x) / time

    return rate


def with_diodes(voltage: np.ndarray, state: np.ndarray) -> np.ndarray:
    diodes = 2e-6 * (np.exp(4.0 * voltage) - 1) - 7e-6 * (np.exp(-2.5 * voltage) - 1)
    return 0.8 * voltage * (state / 5e3 + (1 - state) / 60e3) + 0.2 * diodes


def drift_rate(window: Callable[[float, float], float]) -> Callable:
    """The HP example: 100 ohm, 16 kohm, 10 nm, 1e-14 m^2/(V s)."""

    def rate(voltage: float, x: float) -> float:
        current = voltage / (x * 100 + (1 - x) * 16e3)
        return 1e-14 * 100 / (1e-8 * 1e-8) * current * window(x, current)

    return rate


def yakopcic_rate(v_p, v_n, rate_p, rate_n, x_p, x_n, alpha_p, alpha_n, eta: int) -> Callable:
    """Branch by branch, as 10.1109/TCAD.2013.2252057 has it."""

    def rate(voltage: float, x: float) -> float:
        if voltage > v_p:
            g = rate_p * (math.exp(voltage) - math.exp(v_p))
        elif voltage < -v_n:
            g = -rate_n * (math.exp(-voltage) - math.exp(v_n))
        else:
            return 0.0
        if eta * voltage >= 0:
            f = math.exp(-alpha_p * (x - x_p)) * ((x_p - x) / (1 - x_p) + 1) if x >= x_p else 1.0
        else:
            f = math.exp(alpha_n * (x + x_n - 1)) * (x / (1 - x_n)) if x <= 1 - x_n else 1.0
        return eta * g * f

    return rate


def sinh_by_polarity(positive: tuple[float, float], negative: tuple[float, float]) -> Callable:
    """(amplitude, nonlinearity) of either sign of the voltage."""

    def shape(voltage: np.ndarray) -> np.ndarray:
        a = np.where(voltage >= 0, positive[0], negative[0])
        b = np.where(voltage >= 0, positive[1], negative[1])
        return a * (np.exp(b * voltage) - np.exp(-b * voltage)) / 2

    return shape


def data_driven_rate(span, positive, negative, quadratic: bool) -> Callable:
    """(A, t, k, r_0, r_1) of either sign of the voltage, as in 10.1109/TCAD.2018.2791468 and arXiv 2012.02267: A and t
    may be negative, and s (r - R) must be positive for the resistance R to move."""

    def rate(voltage: float, x: float) -> float:
        low, high = span
        resistance = high - x * (high - low)
        a, t, k, r_0, r_1 = positive if voltage > 0 else negative
        s = a * (math.exp(t * abs(voltage)) - 1)
        target = min(max(r_0 + r_1 * voltage, low), high)
        if s * (target - resistance) <= 0:
            return 0.0
        if quadratic:
            return -s * (target - resistance) ** 2 / (high - low)
        sign = 1 if s > 0 else -1
        return -s * (math.exp(k * sign * (target - resistance)) - 1) / (high - low)

    return rate


TIOX = {"polarity": -1, "positive_amplitude": 0.24, "negative_amplitude": 0.19, "negative_nonlinearity": 2.6}
RESISTANCES = {"on_resistance": 2e3, "off_resistance": 400e3}
SWITCH_WITH_DIODES = MetastableSwitch(
    on_resistance=5e3,
    off_resistance=60e3,
    on_voltage=0.21,
    off_voltage=0.11,
    time_constant=3e-3,
    slope_voltage=0.05,
    memory_share=0.8,
    forward_current=2e-6,
    reverse_current=7e-6,
    forward_slope=4.0,
    reverse_slope=2.5,
)

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
    "metastable switch": Member(
        MetastableSwitch(memory_share=0.9, forward_current=1e-5, reverse_current=1e-5),
        lambda voltage, state: 0.9 * voltage * (state / 500 + (1 - state) / 1500) + 2e-6 * np.sinh(5 * voltage),
        (0.0, 0.05, 0.7, 1.0),
        (1 / 1400, 1e-3, 1.9e-3),
        opens=False,
        rate=lambda voltage, x: hopping_rate(0.27, 0.27, 1e-4, 0.025852)(voltage, x, 300.0),
        warm_rate=hopping_rate(0.27, 0.27, 1e-4, 0.025852),
        rate_voltages=(-1.1, -0.3, -0.26, -0.1, 0.0, 0.15, 0.27, 0.29, 0.9),
    ),
    "metastable switch with diodes": Member(
        SWITCH_WITH_DIODES,
        with_diodes,
        (0.0, 0.05, 0.7, 1.0),
        (3e-5, 1e-4, 1.5e-4),
        opens=False,
        rate=lambda voltage, x: hopping_rate(0.21, 0.11, 3e-3, 0.05)(voltage, x, 300.0),
        warm_rate=hopping_rate(0.21, 0.11, 3e-3, 0.05),
        rate_voltages=(-1.1, -0.3, -0.12, -0.1, 0.0, 0.15, 0.21, 0.31, 0.9),
    ),
    "metastable switch, reversed": Member(
        SWITCH_WITH_DIODES.replace(reversed=True),
        lambda voltage, state: -with_diodes(-voltage, state),
        (0.0, 0.05, 0.7, 1.0),
        (3e-5, 1e-4, 1.5e-4),
        opens=False,
        rate=lambda voltage, x: hopping_rate(0.21, 0.11, 3e-3, 0.05)(-voltage, x, 300.0),
        warm_rate=lambda voltage, x, kelvin: hopping_rate(0.21, 0.11, 3e-3, 0.05)(-voltage, x, kelvin),
        rate_voltages=(-1.1, -0.3, -0.12, -0.1, 0.0, 0.15, 0.21, 0.31, 0.9),
    ),
    "biolek drift": Member(
        LinearIonDrift(),
        lambda voltage, state: voltage / (100 * state + 16e3 * (1 - state)),
        (0.0, 0.05, 0.7, 1.0),
        (7e-5, 1e-3, 9e-3),
        opens=False,
        rate=drift_rate(lambda x, i: 1 - (x - (1 if i < 0 else 0)) ** 2),
        sticks=False,
    ),
    "steep biolek drift": Member(
        LinearIonDrift(window_exponent=4),
        lambda voltage, state: voltage / (100 * state + 16e3 * (1 - state)),
        (0.0, 0.05, 0.7, 1.0),
        (7e-5, 1e-3, 9e-3),
        opens=False,
        rate=drift_rate(lambda x, i: 1 - (x - (1 if i < 0 else 0)) ** 8),
        sticks=False,
    ),
    "joglekar drift": Member(
        LinearIonDrift(window="joglekar", window_exponent=3),
        lambda voltage, state: voltage / (100 * state + 16e3 * (1 - state)),
        (0.0, 0.05, 0.7, 1.0),
        (7e-5, 1e-3, 9e-3),
        opens=False,
        rate=drift_rate(lambda x, i: 1 - (2 * x - 1) ** 6),
        sticks=True,
    ),
    "prodromakis drift": Member(
        LinearIonDrift(window="prodromakis", window_exponent=5, window_height=1.7),
        lambda voltage, state: voltage / (100 * state + 16e3 * (1 - state)),
        (0.0, 0.05, 0.7, 1.0),
        (7e-5, 1e-3, 9e-3),
        opens=False,
        rate=drift_rate(lambda x, i: 1.7 * (1 - ((x - 0.5) ** 2 + 0.75) ** 5)),
        sticks=True,
    ),
    "yakopcic": Member(
        Yakopcic(),
        lambda voltage, state: 7e-5 * state * np.sinh(1.9 * voltage),
        (0.0, 0.05, 0.7, 1.0),
        (0.0, 1e-6, 1.3e-4),
        rate=yakopcic_rate(0.4, 0.3, 1.0, 1.0, 0.9, 0.7, 3.0, 8.0, 1),
        rate_voltages=(-3.1, -0.31, -0.29, 0.0, 0.41, 0.7, 2.0),
    ),
    "reversed yakopcic": Member(
        Yakopcic(
            positive_amplitude=0.17,
            negative_amplitude=0.05,
            nonlinearity=0.9,
            positive_voltage=0.16,
            negative_voltage=0.25,
            positive_rate=4000.0,
            negative_rate=900.0,
            positive_onset=0.3,
            negative_onset=0.5,
            positive_decay=1.0,
            negative_decay=5.0,
            polarity=-1,
        ),
        lambda voltage, state: state * sinh_by_polarity((0.17, 0.9), (0.05, 0.9))(voltage),
        (0.0, 0.05, 0.7, 1.0),
        (0.0, 1e-3, 0.04),
        rate=yakopcic_rate(0.16, 0.25, 4000.0, 900.0, 0.3, 0.5, 1.0, 5.0, -1),
        rate_voltages=(-3.1, -0.31, -0.24, 0.0, 0.15, 0.17, 0.7, 2.0),
        smooth_states=(0.13, 0.42, 0.81),
    ),
    "data driven": Member(
        DataDriven(**TIOX),
        lambda voltage, state: (
            sinh_by_polarity((0.24, 3.0), (0.19, 2.6))(voltage) / (1280 * state + 17e3 * (1 - state))
        ),
        (0.0, 0.05, 0.7, 1.0),
        (4.7e-5, 1e-4, 3.5e-4),
        opens=False,
        rate=data_driven_rate(
            (1280, 17e3),
            (743.47, 6.51, 5.11e-4, 16719, 0),
            (-68012.28374, 0.31645, 1.17e-3, 29304.82557, 23692.77225),
            False,
        ),
        rate_voltages=(-2.0, -1.1, -0.7, -0.4, 0.0, 0.2, 0.9, 1.5),
    ),
    "simplified data driven": Member(
        DataDriven(parameters="data_driven_simplified"),
        lambda voltage, state: 0.32046175 * np.sinh(2.71689828 * voltage) / (1600 * state + 3000 * (1 - state)),
        (0.0, 0.05, 0.7, 1.0),
        (3e-4, 4e-4, 5.4e-4),
        opens=False,
        rate=data_driven_rate(
            (1600, 3000),
            (600.10075, -1 / 0.0212028, 1, 2699.2336, -672.930205),
            (-34.5988399, -1 / 0.05343997, 1, 649.413746, -1474.32358),
            True,
        ),
        rate_voltages=(-1.6, -1.1, -0.9, -0.3, 0.0, 0.2, 0.9, 1.5),
    ),
}
