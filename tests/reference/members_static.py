"""Devices that are read and not moved, written a second time."""

import numpy as np
from device_member import Member

from mdls_cosim.devices import PassiveTio2, PhaseChange, PolynomialRead


def titania(voltage: np.ndarray, state: np.ndarray, temperature: float = 300.0) -> np.ndarray:
    """arXiv 1811.10385: the average device, T in degrees Celsius."""
    celsius = temperature - 273.15
    first = 0.977 * state + 1.166e-7 * celsius - 2.58e-6
    third = 1.605e-3 * np.exp(-1.33 * np.log(celsius)) + 6596 * np.square(state) + 1.18 * state
    return first * voltage + third * voltage * voltage * voltage


def doubled_titania(voltage: np.ndarray, state: np.ndarray, temperature: float = 300.0) -> np.ndarray:
    """Every coefficient another."""
    celsius = temperature - 273.15
    first = 2e-6 + 0.5 * state + 1e-8 * celsius
    return first * voltage + (0.7 * state + 900 * state**2 + 3e-3 * celsius**-1.33) * voltage**3


def multilevel(
    quadratic: tuple[float, ...],
    cubic: tuple[float, ...],
    ends: tuple[float, float],
    voltage: np.ndarray,
    state: np.ndarray,
) -> np.ndarray:
    """Outside of the fit in proportion to the end."""
    inside = np.minimum(np.maximum(state, ends[0]), ends[1])
    second, third = (np.polyval(own, np.log10(inside)) for own in (quadratic, cubic))
    return state / inside * (inside * voltage + second * voltage**2 + third * voltage**3)


MILO = ((1.388e-4, 1.541e-3, 5.711e-3, 7.063e-3), (8.871e-5, 6.7919e-4, 1.2968e-3), (50e-6, 225e-6))
OWN = ((3e-5, 1.3e-4), (2e-5,), (20e-6, 300e-6))

DEVICES = {
    "phase change": Member(
        PhaseChange(highest_conductance=30e-6),
        lambda voltage, state: voltage * state,
        (0.0, 1e-9, 2.5e-6, 3e-5),
        (0.0, 1e-9, 1e-6, 3e-5),
    ),
    "passive titania": Member(
        PassiveTio2(),
        titania,
        (1e-6, 5e-6, 3e-5, 1e-4),
        (7e-6, 2e-5, 5e-5, 9e-5),
        opens=False,
        warm_equation=titania,
    ),
    "another titania": Member(
        PassiveTio2(
            lowest_conductance=2e-6,
            highest_conductance=2e-4,
            linear_offset=2e-6,
            linear_slope=0.5,
            linear_warming=1e-8,
            cubic_slope=0.7,
            cubic_curvature=900.0,
            cubic_cooling=3e-3,
        ),
        doubled_titania,
        (2e-6, 5e-6, 3e-5, 1e-4),
        (2e-5, 3e-5, 5e-5, 9e-5),
        opens=False,
        warm_equation=doubled_titania,
    ),
    # Within the fit: outside, see tests/unit/devices/test_static_reads.py.
    "multilevel": Member(
        PolynomialRead(),
        lambda voltage, state: multilevel(*MILO, voltage, state),
        (52e-6, 70e-6, 1e-4, 2.1e-4),
        (75e-6, 80e-6, 1.1e-4, 2.1e-4),
        opens=False,
    ),
    "another multilevel": Member(
        PolynomialRead(lowest_conductance=20e-6, highest_conductance=300e-6, quadratic=(3e-5, 1.3e-4), cubic=(2e-5,)),
        lambda voltage, state: multilevel(*OWN, voltage, state),
        (22e-6, 70e-6, 1e-4, 2.9e-4),
        (25e-6, 80e-6, 1.1e-4, 2.9e-4),
        opens=False,
    ),
}
