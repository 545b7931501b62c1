"""The Schottky contact of a filament: thermionic emission one way, thermionic field emission the other."""

from __future__ import annotations

from typing import NamedTuple

from mdls_cosim.devices.base import BOLTZMANN, Array, namespace
from mdls_cosim.devices.constants import ELECTRON_MASS, ELEMENTARY_CHARGE, PLANCK, VACUUM_PERMITTIVITY

PI = 3.141592653589793
KELVIN_PER_VOLT = ELEMENTARY_CHARGE / BOLTZMANN
"""q/k [K/V]."""
ONSET = 1e-4
"""d [V]: thermionic field emission starts with a conductance of its own within this of 0 V, where the published root
vanishes without a barrier; beyond 2 mV it adds nothing (e^-20)."""


class Contact(NamedTuple):
    """What the contact's current depends on besides voltage and temperature; arrays or numbers."""

    forward: Array
    """Whether V_s > 0."""
    barrier: Array
    """phi_Bn0 [V]."""
    bending: Array
    """phi_Bn0 - phi_n [V], of the bands at V_s = 0."""
    lowering: Array
    """q^3 n/(8 pi^2 eps^3) [V^3], n the charge numbers' density: the image force."""
    held_bending: Array
    """[V] below it the barrier stays; see `held_bending`."""
    tunnelling: Array
    """W_00/k [K], W_00 = (q h/4 pi) sqrt(n/(m eps))."""
    log_scale: Array
    """ln(A A*), area [m^2] times Richardson constant [A/(m^2 K^2)]."""


def image_lowering(density: Array, permittivity: Array) -> Array:
    """q^3 n/(8 pi^2 eps^3) [V^3] of a density [1/m^3] of unit charges; the permittivity is relative."""
    # Grouped so that float32 holds every part.
    length = ELEMENTARY_CHARGE / (VACUUM_PERMITTIVITY * permittivity)  # V m
    return length * length * (length * density) / (8 * PI * PI)


def tunnelling_temperature(density: Array, permittivity: Array) -> Array:
    """W_00/k [K] of a density [1/m^3] of unit charges; the permittivity is relative, the mass that of the electron."""
    root = (density / permittivity) ** 0.5 / (ELECTRON_MASS * VACUUM_PERMITTIVITY) ** 0.5
    return KELVIN_PER_VOLT * PLANCK / (4 * PI) * root


def held_bending(lowering: Array, bending: Array) -> Array:
    """The band bending [V] below which the barrier is held.

    In phi = phi_Bn0 - (lowering psi)^(1/4), psi = phi_Bn0 - phi_n - V_s, the barrier would rise faster than V_s where
    psi < (lowering^(1/4)/4)^(4/3), at psi = 0 without bound: the current would fall as the voltage rises, and three
    currents fit one voltage. Held there, that one of the three which is continuous from 0 V is the only one left.
    """
    xp = namespace(lowering)
    steepest = (lowering**0.25 / 4) ** (4 / 3)
    return xp.where(steepest < bending, steepest, bending + 0 * steepest)


def log_chord(volts: Array, kelvin: Array, contact: Contact) -> tuple[Array, Array, Array]:
    """ln(I_s/|V_s|) of the contact, I_s in A, and its slopes by |V_s| [1/V] and by temperature [1/K].

        phi = phi_Bn0 - (lowering psi)^(1/4), at least 0;    psi = phi_Bn0 - phi_n - V_s, held as `held_bending` says
        V_s > 0: I_s = A A* T^2 exp(-q phi/kT) (exp(q V_s/kT) - 1)
        V_s < 0: I_s = A A* T/k sqrt(pi W_00 q (r + phi/cosh^2(W_00/kT))) exp(-q phi/W_0) (exp(q |V_s|/eps') - 1)
                 r = |V_s| + d exp(-|V_s|/d),    W_0 = W_00/tanh(W_00/kT),    eps' = W_00/(W_00/kT - tanh(W_00/kT))

    Bengel et al., 10.1109/TCSI.2020.3018502; not theirs are the hold and d = 0.1 mV. At 0 V the limit is that of
    `contact.forward`. The two differ: the slope of the current jumps at 0 V.
    """
    xp = namespace(volts, kelvin)
    forward = contact.forward

    psi = xp.where(forward, contact.bending - volts, contact.bending + volts)
    free = ~forward | (psi > contact.held_bending)
    psi = xp.where(free, psi, contact.held_bending)
    drop = xp.sqrt(xp.sqrt(contact.lowering * psi))
    bare = drop >= contact.barrier
    phi = xp.where(bare, 0 * drop, contact.barrier - drop)
    phi_volts = xp.where(free & ~bare, xp.where(forward, drop, -drop) / (4 * psi), 0 * drop)

    ratio = contact.tunnelling / kelvin
    grown = xp.expm1(-2 * ratio)
    tanh = -grown / (2 + grown)
    sech2 = 4 * (1 + grown) / (2 + grown) ** 2

    # q over the energy that V_s works against, and q over the one that the barrier does.
    thermal = KELVIN_PER_VOLT / kelvin
    field = KELVIN_PER_VOLT / contact.tunnelling
    steep = xp.where(forward, thermal, field * (ratio - tanh))
    stiff = xp.where(forward, thermal, field * tanh)
    steep_kelvin = xp.where(forward, -thermal, -field * tanh**2 * ratio) / kelvin
    stiff_kelvin = xp.where(forward, -thermal, -field * sech2 * ratio) / kelvin

    onset = xp.exp(-volts / ONSET)
    reach = volts + phi * sech2 + ONSET * onset
    emission = xp.where(forward, kelvin**2, PI * KELVIN_PER_VOLT * contact.tunnelling * reach)
    emission_kelvin = xp.where(forward, 2 / kelvin, 2 * phi * sech2 * tanh * ratio / (kelvin * reach))
    emission_volts = xp.where(forward, 0 * reach, (1 - onset + phi_volts * sech2) / reach)

    # ln((e^z - 1)/z), and its slope 1/(1 - e^-z) - 1/z; a little beside 0 both are what they are there.
    z = steep * volts + 1e-14
    falling = -xp.expm1(-z)
    curve = z + xp.log(falling / z)
    bend = xp.where(z > 1e-3, 1 / falling - 1 / z, 0.5 + z / 12)

    value = contact.log_scale + xp.log(kelvin * steep) + 0.5 * xp.log(emission) + curve - stiff * phi
    by_volts = 0.5 * emission_volts + bend * steep - stiff * phi_volts
    by_kelvin = 1 / kelvin + 0.5 * emission_kelvin + steep_kelvin * (1 / steep + bend * volts) - stiff_kelvin * phi
    return value, by_volts, by_kelvin
