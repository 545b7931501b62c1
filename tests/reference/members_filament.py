"""The filamentary devices, written a second time: scalar loops over the papers' equations."""

import math

import numpy as np
from device_member import Member

from mdls_cosim.devices.jart_vcm import JartVcm
from mdls_cosim.devices.stanford_pku import StanfordPku

K, Q = 1.380649e-23, 1.602176634e-19

# Other values than the defaults, all of them: a parameter that is not used, or used for another, shows.
PKU = {
    "current_scale": 0.7e-3,
    "gap_scale": 0.3e-9,
    "voltage_scale": 0.29,
    "least_gap": 0.3e-9,
    "largest_gap": 1.5e-9,
    "velocity": 7.0,
    "migration_energy": 0.55 * Q,
    "hopping_distance": 0.27e-9,
    "oxide_thickness": 10e-9,
    "set_enhancement": 17.0,
    "reset_enhancement": 15.0,
    "gap_coefficient": 0.9,
    "least_field": 1.2e9,
    "field_width": 2e7,
    "bound_width": 0.02,
    "thermal_resistance": 1.7e3,
}


def pku_current(voltage: float, x: float) -> float:
    gap = 1.5e-9 + x * (0.3e-9 - 1.5e-9)
    growth = math.exp(voltage / 0.29)
    return 0.7e-3 * math.exp(-gap / 0.3e-9) * (growth - 1 / growth) / 2


def pku_rate(voltage: float, x: float, ambient: float = 300.0) -> float:
    if voltage == 0:
        return 0.0
    volts = K * (ambient + 1.7e3 * abs(voltage * pku_current(voltage, x))) / Q
    gap = 1.5 - 1.2 * x  # nm
    gamma = (17.0 if voltage > 0 else 15.0) - 0.9 * gap**3
    begun = 1 / (1 + math.exp(min((1.2e9 - gamma * abs(voltage) / 10e-9) / 2e7, 60)))
    distance = max((1 - x) if voltage > 0 else x, -0.1)
    speed = 7.0 * math.exp(-0.55 / volts) * math.sinh(gamma * 0.27 / 10 * voltage / volts)
    return speed / 1.2e-9 * begun * (1 - math.exp(-distance / 0.02))


JART = {
    "permittivity": 16.0,
    "image_permittivity": 6.0,
    "barrier": 0.2,
    "fermi_depth": 0.12,
    "richardson_constant": 5.5e5,
    "mobility": 4.4e-6,
    "least_concentration": 0.012e26,
    "largest_concentration": 17e26,
    "plug_concentration": 19e26,
    "hopping_distance": 0.26e-9,
    "attempt_frequency": 1.7e13,
    "migration_energy": 1.25 * Q,
    "thermal_resistance": 1.2e7,
    "reset_heating": 0.35,
    "filament_radius": 42e-9,
    "nominal_radius": 46e-9,
    "cell_length": 3.2e-9,
    "disc_length": 0.45e-9,
    "oxide_resistance": 600.0,
    "line_resistance": 740.0,
    "line_thermal_resistance": 85000.0,
    "line_temperature_coefficient": 4.1e-3,
}
H, EPS0, MASS = 6.62607015e-34, 8.8541878128e-12, 9.1093837015e-31
AREA = math.pi * 42e-9**2


def jart_contact(volts: float, kelvin: float, density: float) -> float:
    """Magnitude of the contact's current [A] under V_s [V], as the papers have it; the sign of V_s chooses the law."""
    heat = K * kelvin
    image = Q**3 * 2 * density / (8 * math.pi**2 * (6.0 * EPS0) ** 3)
    bending = 0.2 - 0.12 - volts
    if volts >= 0:  # not in the papers: where the barrier would outrun the voltage it stays
        bending = max(bending, min((image**0.25 / 4) ** (4 / 3), 0.2 - 0.12))
    barrier = Q * max(0.2 - (image * bending) ** 0.25, 0.0)
    if volts >= 0:
        return AREA * 5.5e5 * kelvin**2 * math.exp(-barrier / heat) * math.expm1(Q * volts / heat)
    w00 = Q * H / (4 * math.pi) * math.sqrt(2 * density / (MASS * 16.0 * EPS0))
    w0 = w00 / math.tanh(w00 / heat)
    epsilon = w00 / (w00 / heat - math.tanh(w00 / heat))
    onset = 1e-4 * math.exp(volts / 1e-4)  # not in the papers: a conductance at 0 V
    reach = Q * (onset - volts) + barrier / math.cosh(w00 / heat) ** 2
    tunnel = math.sqrt(math.pi * w00 * reach) * math.exp(-barrier / w0) * math.expm1(-Q * volts / epsilon)
    return AREA * 5.5e5 * kelvin / K * tunnel


def jart_point(voltage: float, x: float, ambient: float) -> tuple[float, float, float, float, float]:
    """Current [A], V_s [V], T [K] as magnitudes, N [1/m^3] and R_disc [ohm], by halving the current."""
    density = 0.012e26 * (17 / 0.012) ** x
    sigma = 2 * Q * 4.4e-6 * AREA
    disc, plug = 0.45e-9 / (density * sigma), (3.2e-9 - 0.45e-9) / (19e26 * sigma)
    warming = 1.2e7 * (46 / 42) ** 2 * (0.35 if voltage > 0 else 1.0)
    cubic = 740.0**2 * 4.1e-3 * 85000.0
    size = abs(voltage)
    # The contact takes what the resistances leave, which falls as the current rises.
    low, high = 0.0, size / (disc + plug + 600.0 + 740.0)
    for _ in range(200):
        current = (low + high) / 2
        volts = size - current * (disc + plug + 600.0 + 740.0 + cubic * current**2)
        kelvin = ambient + current * (volts + current * (disc + plug)) * warming
        if current in (low, high):  # no number in between
            break
        if volts <= 0 or jart_contact(math.copysign(volts, voltage), kelvin, density) < current:
            high = current
        else:
            low = current
    return current, volts, kelvin, density, disc


def jart_current(voltage: float, x: float, ambient: float = 300.0) -> float:
    return math.copysign(jart_point(voltage, x, ambient)[0], voltage) if voltage else 0.0


def jart_rate(voltage: float, x: float, ambient: float = 300.0) -> float:
    if not voltage:
        return 0.0
    current, volts, kelvin, density, disc = jart_point(voltage, x, ambient)
    if voltage > 0:
        plug = (3.2e-9 - 0.45e-9) / (19e26 * 2 * Q * 4.4e-6 * AREA)
        field = (volts + current * (disc + plug)) / 3.2e-9
        left = -math.expm1(-10 * x * math.log(17 / 0.012))  # 1 - (N_min/N)^10
    else:
        field = -current * disc / 0.45e-9
        left = -math.expm1(-10 * (1 - x) * math.log(17 / 0.012))  # 1 - (N/N_max)^10
    gamma = 2 * Q * field * 0.26e-9 / (math.pi * 1.25 * Q)
    gamma = min(max(gamma, -0.999), 0.999)
    even = math.sqrt(1 - gamma**2) + gamma * math.asin(gamma)
    down, up = (1.25 * Q * (even - sign * gamma * math.pi / 2) for sign in (1, -1))
    hops = math.exp(-down / (K * kelvin)) - math.exp(-up / (K * kelvin))
    ions = 2 * Q * (19e26 + density) / 2 * 0.26e-9 * 1.7e13 * AREA * hops * left
    growth = -ions / (AREA * 0.45e-9 * Q * 2)
    return growth / (density * math.log(17 / 0.012))


DEVICES = {
    "stanford pku": Member(
        StanfordPku(**PKU),
        np.vectorize(pku_current),
        (0.0, 0.3, 0.7, 1.0),
        (2.5e-5, 1e-4, 3e-4, 8e-4),
        opens=False,
        rate=pku_rate,
        warm_equation=np.vectorize(lambda voltage, state, temperature: pku_current(voltage, state)),
        warm_rate=pku_rate,
        rate_voltages=(-1.7, -1.3, -0.9, -0.6, -0.11, 0.0, 0.19, 0.6, 0.8, 1.2, 1.6),
        smooth_voltages=(-1.3, -0.9, 0.85, 1.2),
    ),
    "jart vcm": Member(
        JartVcm(**JART),
        np.vectorize(jart_current),
        (0.0, 0.3, 0.7, 1.0),
        (3e-5, 1e-4, 3e-4, 5e-4),
        opens=False,
        rate=jart_rate,
        warm_equation=np.vectorize(jart_current),
        warm_rate=jart_rate,
        # The balance of contact and lines in double precision, and e^10 of it.
        rounding=50,
        rate_voltages=(-1.6, -1.1, -0.6, -0.11, 0.0, 0.19, 0.6, 1.1, 1.6),
    ),
}
