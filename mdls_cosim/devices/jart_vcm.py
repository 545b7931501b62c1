"""JART VCM v1b: the valence-change cell of Aachen and Juelich, a Schottky contact over a disc of oxygen vacancies."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import BOLTZMANN, ROOM_TEMPERATURE, Array, DynamicDevice, arrays, log, namespace
from mdls_cosim.devices.bounded import bounded_expm1
from mdls_cosim.devices.constants import ELEMENTARY_CHARGE
from mdls_cosim.devices.roots import rising_root
from mdls_cosim.devices.schottky import (
    PI,
    Contact,
    held_bending,
    image_lowering,
    log_chord,
    tunnelling_temperature,
)
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import RATIO, Amplitude, Frequency, Length, PositiveResistance, Quantity, Resistance

Concentration = Annotated[float, Quantity("1/m^3", gt=0)]
ThermalResistance = Annotated[float, Quantity("K/W", gt=0)]

CHARGES = 2
"""z of an oxygen vacancy."""
STEEPEST_FIELD = 0.999
"""Bound of gamma, the lowering of the hopping barrier by the field: at 1 the barrier is gone."""
BRACKET = (-60.0, 60.0)
"""Of ln(I/(I_max - I)): between all voltage over the contact and none."""
LEAST_TUNNELLING = 0.01
"""[V] Nearer to 0 V than this, from below, thermionic field emission falls as the state rises."""
START = 4.0
"""First ln(I/(I_max - I)): 2 % of the voltage over the contact. From here no step of Newton's overshoots, as the held
barrier lies on the other side: 4 steps for -2 to 2 V at all states."""


class OperatingPoint(NamedTuple):
    """What flows and how hot it gets; positive and negative as the voltage."""

    current: Array
    """[A]"""
    schottky_voltage: Array
    """V_s [V]."""
    temperature: Array
    """T [K] of the filament."""
    disc_voltage: Array
    """[V]"""
    plug_voltage: Array
    """[V]"""


class JartVcm(DynamicDevice):
    """A filament whose vacancies, N in a thin disc at the electrode, set both the contact's barrier and a resistance.

        V = V_s + I (R_disc + R_plug + R_TiOx + R_0 (1 + R_0 alpha I^2 R_line))
        T = T_ambient + I (V_s + I (R_disc + R_plug)) R_th (r_0/r)^2,  with R_th scaled by s_th for V > 0
        R_disc = l_disc/(z q N mu A),    R_plug = (l - l_disc)/(z q N_plug mu A),    A = pi r^2
        I = I_s(V_s, T, N), see schottky.log_chord
        dN/dt = -(c a nu_0/l_disc) (exp(-dW_-/kT) - exp(-dW_+/kT)) F,    c = (N_plug + N)/2
        dW_-+ = dW (sqrt(1 - g^2) -+ g pi/2 + g asin g),    g = z q E a/(pi dW)
        V > 0: E = (V_s + I (R_disc + R_plug))/l,  F = 1 - (N_min/N)^10
        V < 0: E = I R_disc/l_disc,                F = 1 - (N/N_max)^10

    State x = ln(N/N_min)/ln(N_max/N_min): 1 conducts most. A negative voltage raises it (SET). Bengel et al.,
    10.1109/TCSI.2020.3018502, and Cueppers et al., 10.1063/1.5108654, the deterministic model; spread between devices
    and cycles comes by varying `filament_radius`, `disc_length` and the two concentrations.

    The current is implicit. With u = ln(I/(I_max - I)), I_max = I at V_s = 0, everything else is explicit and
    ln I - ln I_s rises with u, so Newton's method finds the only solution, to rounding, in float64 whatever the
    inputs. That it is the only one is the work of one change: `schottky.held_bending`. `temperature` is that of the
    surroundings (293 K in the papers); `conductance` at 0 V is the limit from above, as the slope of the current jumps
    at 0 V. The two steps from end to end are smooth where the papers switch; |g| is held below 0.999, at 3.4 V over
    the disc. Valid to about 2 V. It leaves out the depletion of the plug, and heat that takes time.
    """

    model: Literal["jart_vcm"] = "jart_vcm"
    permittivity: Annotated[float, RATIO, Field(gt=0)] = 17.0
    """eps, relative, static."""
    image_permittivity: Annotated[float, RATIO, Field(gt=0)] = 5.5
    """eps_phiB, relative, of the image force."""
    barrier: Amplitude = 0.18
    """phi_Bn0 [V]."""
    fermi_depth: Amplitude = 0.1
    """phi_n [V]: from the Fermi level to the conduction band; below the barrier."""
    richardson_constant: Annotated[float, Quantity("A/(m^2 K^2)", gt=0)] = 6.01e5
    """A* [A/(m^2 K^2)]."""
    mobility: Annotated[float, Quantity("m^2/(V s)", gt=0)] = 4e-6
    """mu [m^2/(V s)], of electrons."""
    least_concentration: Concentration = 0.008e26
    """N_min [1/m^3], at x = 0."""
    largest_concentration: Concentration = 20e26
    """N_max [1/m^3], at x = 1."""
    plug_concentration: Concentration = 20e26
    """N_plug [1/m^3]."""
    hopping_distance: Length = 0.25e-9
    """a [m]."""
    attempt_frequency: Frequency = 2e13
    """nu_0 [Hz]."""
    migration_energy: Annotated[float, Quantity("joule", gt=0)] = 1.35 * ELEMENTARY_CHARGE
    """dW [J], in text "1.35 eV": the barrier of a hop."""
    thermal_resistance: ThermalResistance = 1.572e7
    """R_th [K/W], at the nominal radius."""
    reset_heating: Annotated[float, RATIO, Field(gt=0)] = 0.27
    """s_th: share of R_th that holds for V > 0."""
    filament_radius: Length = 45e-9
    """r [m]."""
    nominal_radius: Length = 45e-9
    """r_0 [m], which R_th belongs to."""
    cell_length: Length = 3e-9
    """l [m], of disc and plug."""
    disc_length: Length = 0.4e-9
    """l_disc [m]."""
    oxide_resistance: Resistance = 650.0
    """R_TiOx [ohm], in series."""
    line_resistance: PositiveResistance = 719.2437
    """R_0 [ohm], of the lines, in series."""
    line_thermal_resistance: ThermalResistance = 90471.47
    """R_line [K/W], by which the lines heat themselves."""
    line_temperature_coefficient: Annotated[float, Quantity("1/kelvin", gt=0)] = 3.92e-3
    """alpha [1/K], of the lines."""

    spice_model: ClassVar[str] = "jart_vcm"
    thermal: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        for low, high in (
            ("fermi_depth", "barrier"),
            ("least_concentration", "largest_concentration"),
            ("disc_length", "cell_length"),
        ):
            if getattr(self, low) >= getattr(self, high):
                raise ConfigError(
                    "an impossible value",
                    where=high,
                    value=getattr(self, high),
                    limit=f"above {low}, {getattr(self, low):g}",
                )
        return self

    @property
    def _raising_sign(self) -> int:
        return -1

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        voltage, state = arrays(voltage, state)
        xp = namespace(voltage, state)
        current = self.activated(self.operating_point(voltage, state, temperature).current, temperature)
        return xp.astype(current, xp.result_type(voltage, state), copy=False)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        (state,) = arrays(state)
        xp = namespace(state)
        voltage = xp.full((), reference_voltage, dtype=state.dtype, device=state.device)
        if reference_voltage:
            return self._current(voltage, state, ROOM_TEMPERATURE) / reference_voltage
        share, _, _, total = self._share(voltage, state, ROOM_TEMPERATURE)
        return xp.astype(share / total, state.dtype, copy=False)

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        """The state whose I/V at `reference_voltage` [V] is `conductance` [S]; NaN where none within 0 - 1 has it.

        Raises:
            InputError: a reference voltage just below 0 V, where several states show the same conductance.
        """
        if -LEAST_TUNNELLING < reference_voltage < 0:
            raise InputError(
                "a reference voltage at which a conductance belongs to several states",
                value=f"{reference_voltage:g} V",
                limit=f"0 V or above, or at most {-LEAST_TUNNELLING:g} V",
            )
        (conductance,) = arrays(conductance)
        xp = namespace(conductance)
        wide = xp.astype(conductance, xp.float64)
        positive = wide > 0
        wide = xp.where(positive, wide, 1 + 0 * wide)
        forward = xp.full(wide.shape, reference_voltage >= 0, dtype=xp.bool, device=wide.device)
        current = abs(reference_voltage) * wide
        left = 1 / wide - self._series_resistance() - self._line_heating() * current**2
        possible = positive & (left > 0)
        current, left = xp.where(possible, current, 0 * current), xp.where(possible, left, 1e4 + 0 * left)
        known = (
            current,
            left,
            self._plug_resistance(),
            self._heating(forward),
            forward,
            self._disc_unit(),
            *self._material(),
        )
        u = rising_root(_contact_share, known, (-30.0, 30.0), 0.0, 1e-12)
        density = self._disc_unit() * (1 + xp.exp(-u)) / left
        state = xp.log(density / self.least_concentration) / self._span()
        inside = possible & (state > -1e-9) & (state < 1 + 1e-9)
        return xp.astype(xp.where(inside, state, 0 * state + float("nan")), conductance.dtype, copy=False)

    def operating_point(self, voltage: Array, state: Array, temperature: float = ROOM_TEMPERATURE) -> OperatingPoint:
        """The solution at `voltage` [V] and `state` in surroundings of `temperature` [K], in float64.

        All in the direction of the model: as if the device were not reversed, from its own first pin to its second.
        """
        voltage, state = arrays(voltage, state)
        xp = namespace(voltage, state)
        share, rest, peak, total = self._share(voltage, state, temperature)
        current = peak * share
        volts = rest * peak * (total + self._line_heating() * peak**2 * (3 - 3 * rest + rest**2))
        disc = current * self._disc_resistance(xp.astype(state, xp.float64, copy=False))
        plug = current * self._plug_resistance()
        heat = current * (volts + disc + plug) * self._heating(voltage >= 0)
        return OperatingPoint(current, volts, temperature + heat, disc, plug)

    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array:
        voltage, state = arrays(voltage, state)
        xp = namespace(voltage, state)
        kind = xp.result_type(voltage, state)
        point = self.operating_point(voltage, state, temperature)
        state = xp.astype(state, xp.float64, copy=False)
        rising = voltage < 0
        drop = point.disc_voltage / self.disc_length
        field = xp.where(
            rising, drop, (point.schottky_voltage + point.disc_voltage + point.plug_voltage) / self.cell_length
        )
        charge = CHARGES * ELEMENTARY_CHARGE * self.hopping_distance
        tilt = xp.minimum(xp.maximum(charge * field / (PI * self.migration_energy), -STEEPEST_FIELD), STEEPEST_FIELD)
        energy = self.migration_energy / (BOLTZMANN * point.temperature)
        hops = xp.exp(-energy * (xp.sqrt(1 - tilt**2) + tilt * xp.asin(tilt))) * xp.sinh(energy * tilt * PI / 2)
        ahead = xp.where(rising, 1 - state, state)
        left = -bounded_expm1(-10 * self._span() * ahead)
        vacancies = (1 + self.plug_concentration / self._density(state)) / 2  # c/N
        speed = 2 * vacancies * self.hopping_distance * self.attempt_frequency / (self.disc_length * self._span())
        return xp.astype(-speed * hops * left, kind, copy=False)

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        barrier, bending, lowering, tunnelling, log_scale = self._material()
        return {
            "barrier": barrier,
            "bending": bending,
            "lowering": lowering * self.least_concentration,
            "tunnelling": tunnelling * self.least_concentration**0.5,
            "log_scale": log_scale,
            "span": self._span(),
            "r_disc": self._disc_unit() / self.least_concentration,
            "r_plug": self._plug_resistance(),
            "r_series": self.oxide_resistance + self.line_resistance,
            "cubic": self._line_heating(),
            "heat": self.thermal_resistance * (self.nominal_radius / self.filament_radius) ** 2,
            "reset": self.reset_heating,
            "t0": temperature,
            "dw": self.migration_energy / ELEMENTARY_CHARGE,
            "hop": self.hopping_distance,
            "l_cell": self.cell_length,
            "l_disc": self.disc_length,
            "plug": self.plug_concentration / self.least_concentration,
            "nu": self.attempt_frequency,
            "scale": self.thermal_factor(temperature),
        }

    def _share(self, voltage: Array, state: Array, temperature: float) -> tuple[Array, Array, Array, Array]:
        """I/I_max; what is left of 1; I_max [A], the current without contact; and the resistance [ohm] besides it."""
        xp = namespace(voltage, state)
        voltage, state = xp.astype(voltage, xp.float64, copy=False), xp.astype(state, xp.float64, copy=False)
        density = self._density(state)
        path = self._disc_resistance(state) + self._plug_resistance()
        total = path + self.oxide_resistance + self.line_resistance
        cubic = self._line_heating()
        peak = (
            2 * (total / (3 * cubic)) ** 0.5 * xp.sinh(xp.asinh(1.5 * voltage / total * (3 * cubic / total) ** 0.5) / 3)
        )
        forward = voltage >= 0
        barrier, bending, lowering, tunnelling, log_scale = self._material()
        lowering = lowering * density
        contact = Contact(
            forward=forward,
            barrier=barrier,
            bending=bending,
            lowering=lowering,
            held_bending=held_bending(lowering, bending),
            tunnelling=tunnelling * density**0.5,
            log_scale=log_scale,
        )
        known = (xp.abs(peak), path, total, cubic, self._heating(forward), temperature, *contact)
        u = rising_root(_chord_excess, known, BRACKET, START)
        share = 1 / (1 + xp.exp(-u))
        return share, share * xp.exp(-u), peak, total

    def _material(self) -> tuple[Array, Array, Array, Array, Array]:
        """Of the contact: barrier and bending [V], lowering and tunnelling of a density of 1/m^3, logarithmic scale."""
        return (
            self.barrier,
            self.barrier - self.fermi_depth,
            image_lowering(CHARGES, self.image_permittivity),
            tunnelling_temperature(CHARGES, self.permittivity),
            log(self._area() * self.richardson_constant),
        )

    def _span(self) -> Array:
        """ln(N_max/N_min)."""
        return log(self.largest_concentration / self.least_concentration)

    def _density(self, state: Array) -> Array:
        """N [1/m^3]."""
        xp = namespace(state)
        return self.least_concentration * xp.exp(self._span() * state)

    def _area(self) -> Array:
        """A [m^2]."""
        return PI * self.filament_radius**2

    def _disc_unit(self) -> Array:
        """R_disc [ohm] times N [1/m^3]."""
        return self.disc_length / (CHARGES * ELEMENTARY_CHARGE * self.mobility * self._area())

    def _disc_resistance(self, state: Array) -> Array:
        """R_disc [ohm]."""
        return self._disc_unit() / self._density(state)

    def _plug_resistance(self) -> Array:
        """R_plug [ohm]."""
        unit = CHARGES * ELEMENTARY_CHARGE * self.mobility * self._area()
        return (self.cell_length - self.disc_length) / (self.plug_concentration * unit)

    def _series_resistance(self) -> Array:
        """All but contact and disc [ohm], cold."""
        return self._plug_resistance() + self.oxide_resistance + self.line_resistance

    def _line_heating(self) -> Array:
        """R_0^2 alpha R_line [ohm/A^2]: the lines' resistance rises by it times I^2."""
        return self.line_resistance**2 * self.line_temperature_coefficient * self.line_thermal_resistance

    def _heating(self, forward: Array) -> Array:
        """T - T_ambient [K] for each watt."""
        xp = namespace(forward)
        full = self.thermal_resistance * (self.nominal_radius / self.filament_radius) ** 2
        resets = xp.astype(forward, xp.float64)
        return full * (resets * self.reset_heating + (1 - resets))


def _chord_excess(
    u: Array,
    peak: Array,
    path: Array,
    total: Array,
    cubic: Array,
    heating: Array,
    ambient: Array,
    *contact: Array,
) -> tuple[Array, Array]:
    """ln(I/V_s) less that of the contact, at I = peak/(1 + e^-u), and its slope by u."""
    xp = namespace(u)
    opposite = xp.exp(-u)
    share = 1 / (1 + opposite)
    rest = opposite * share
    current = peak * share
    cubes = cubic * peak**2
    resistance = total + cubes * (3 - 3 * rest + rest**2)  # (V - V_s)/I, stretched to V_s = rest peak resistance
    volts = rest * peak * resistance
    power = volts + current * path
    by_u = current * rest  # dI/du
    volts_by_u = -(total + 3 * cubic * current**2) * by_u
    kelvin = ambient + current * power * heating
    kelvin_by_u = heating * (by_u * power + current * (volts_by_u + path * by_u))
    own, by_volts, by_kelvin = log_chord(volts, kelvin, Contact(*contact))
    value = u - xp.log(resistance) - own
    bend = cubes * (3 - 2 * rest) * rest * share / resistance
    return value, 1 - bend - by_volts * volts_by_u - by_kelvin * kelvin_by_u


def _contact_share(
    u: Array,
    current: Array,
    left: Array,
    plug: Array,
    heating: Array,
    forward: Array,
    unit: Array,
    barrier: Array,
    bending: Array,
    lowering: Array,
    tunnelling: Array,
    log_scale: Array,
) -> tuple[Array, Array]:
    """ln of the contact's resistance, as its equation has it over as `u` shares `left`, and the slope by differences.

    The disc has left/(1 + e^-u) [ohm], which says its density; the contact has the rest.
    """

    def excess(u: Array) -> Array:
        xp = namespace(u)
        share = 1 / (1 + xp.exp(-u))
        density = unit / (left * share)
        held = held_bending(lowering * density, bending)
        contact = Contact(forward, barrier, bending, lowering * density, held, tunnelling * density**0.5, log_scale)
        resistance = left * xp.exp(-u) * share
        kelvin = ROOM_TEMPERATURE + current**2 * (left + plug) * heating
        return -log_chord(resistance * current, kelvin, contact)[0] - xp.log(resistance)

    step = 1e-4
    return excess(u), (excess(u + step) - excess(u - step)) / (2 * step)
