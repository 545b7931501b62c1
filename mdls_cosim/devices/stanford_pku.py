"""The Stanford-PKU model of filamentary oxides: a gap that grows and shrinks, with the filament's own heat."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import BOLTZMANN, ROOM_TEMPERATURE, Array, DynamicDevice, exp, log, namespace
from mdls_cosim.devices.bounded import bounded_exp, bounded_sinh
from mdls_cosim.devices.constants import ELEMENTARY_CHARGE
from mdls_cosim.quantities import RATIO, Amplitude, Duration, Length, PositiveCurrent, Quantity, Temperature

Enhancement = Annotated[float, Field(ge=0, le=1e3)]

BEYOND = 0.1
"""How far outside of 0 - 1 the pull back to the end still grows."""


class StanfordPku(DynamicDevice):
    """A conductive filament with a tunnelling gap g to the electrode; heat and field move the gap.

        I = I_0 exp(-g/g_0) sinh(V/V_0)
        T = T_ambient + V I R_th
        dg/dt = -v_0 exp(-E_a/kT) sinh(gamma a_0 q V/(t_ox k T)) s(gamma |V|/t_ox) b
        gamma = gamma_0 - beta (g/1 nm)^3,  gamma_0 of its own for V < 0

    State x = (g_max - g)/(g_max - g_min): 1 conducts most. A positive voltage raises it (SET). Equations and
    defaults (HfOx, 12 nm): Jiang et al., 10.1109/TED.2016.2545412, and the authors' code, 10.4231/D37H1DN48. Two of
    its steps are smooth here, so that a static solution exists and solvers converge: s(F) = 1/(1 + exp((F_min - F)/w))
    for "no motion below the field F_min", and b = 1 - exp(-d/d_w) for "gap within its bounds", where d is the distance
    in x from the bound ahead (the idea of arXiv:1605.04897).

    Valid to about 2 V; exponents are held within +-60, far beyond. It leaves out a series resistance: give the cell a
    transistor, or the loop a resistor, as a bare device runs away thermally when it sets.
    """

    model: Literal["stanford_pku"] = "stanford_pku"
    current_scale: PositiveCurrent = 1e-3
    """I_0 [A]."""
    gap_scale: Length = 0.25e-9
    """g_0 [m]."""
    voltage_scale: Amplitude = 0.25
    """V_0 [V]."""
    least_gap: Length = 0.2e-9
    """g_min [m], at x = 1."""
    largest_gap: Length = 1.7e-9
    """g_max [m], at x = 0."""
    velocity: Annotated[float, Quantity("m/s", gt=0)] = 10.0
    """v_0 [m/s]."""
    migration_energy: Annotated[float, Quantity("joule", gt=0)] = 0.6 * ELEMENTARY_CHARGE
    """E_a [J], in text "0.6 eV": the barrier of an oxygen vacancy."""
    hopping_distance: Length = 0.25e-9
    """a_0 [m]."""
    oxide_thickness: Length = 12e-9
    """t_ox [m]."""
    set_enhancement: Annotated[Enhancement, RATIO] = 16.0
    """gamma_0 for V > 0: local field over V/t_ox at no gap."""
    reset_enhancement: Annotated[Enhancement, RATIO] = 16.0
    """gamma_0 for V < 0."""
    gap_coefficient: Annotated[float, RATIO, Field(ge=0)] = 0.8
    """beta: how much of gamma a gap of 1 nm takes away."""
    least_field: Annotated[float, Quantity("V/m", ge=0)] = 1.4e9
    """F_min [V/m]: no motion below this local field."""
    field_width: Annotated[float, Quantity("V/m", gt=0)] = 5e6
    """w [V/m]: over which F_min acts."""
    bound_width: Annotated[float, RATIO, Field(gt=0, le=0.5)] = 0.01
    """d_w: share of the gap's range over which it comes to rest at its bounds."""
    thermal_resistance: Annotated[float, Quantity("K/W", ge=0)] = 2.1e3
    """R_th [K/W]."""
    noise_velocity: Annotated[float, Quantity("m/s", ge=0)] = 0.02
    """delta [m/s]: standard deviation of the random velocity of the gap, well above T_crit."""
    noise_interval: Duration = 1e-9
    """t_n [s]: how long each random velocity lasts (the source draws one per time step, of 1 ns)."""
    noise_temperature: Temperature = 450.0
    """T_crit [K]."""
    noise_temperature_width: Temperature = 500.0
    """T_smth [K]."""

    spice_model: ClassVar[str] = "stanford_pku"
    thermal: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._require_rise("least_gap", "largest_gap", "m")
        return self

    @property
    def _raising_sign(self) -> int:
        return 1

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        return self.activated(self._transmission(state) * bounded_sinh(voltage / self.voltage_scale), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return self._transmission(state) * self._rise(reference_voltage)

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        gap = -self.gap_scale * log(conductance / (self.current_scale * self._rise(reference_voltage)))
        return (self.largest_gap - gap) / (self.largest_gap - self.least_gap)

    def filament_temperature(self, voltage: Array, state: Array, temperature: float = ROOM_TEMPERATURE) -> Array:
        """T [K] of the filament under `voltage` [V], in surroundings of `temperature` [K]."""
        return self._filament_temperature(self._own(voltage), state, temperature)

    def _filament_temperature(self, voltage: Array, state: Array, temperature: float) -> Array:
        return temperature + voltage * self._current(voltage, state, temperature) * self.thermal_resistance

    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array:
        xp = namespace(voltage, state)
        # In volts: in joules the gradients overflow a float32.
        heat = BOLTZMANN / ELEMENTARY_CHARGE * self._filament_temperature(voltage, state, temperature)
        rising = voltage >= 0
        gap = self.gap(state)
        gamma = xp.where(rising, voltage * 0 + self.set_enhancement, voltage * 0 + self.reset_enhancement)
        gamma = gamma - self.gap_coefficient * (gap / 1e-9) ** 3
        field = gamma * voltage / self.oxide_thickness
        drive = bounded_sinh(field * self.hopping_distance / heat)
        below = (self.least_field - xp.where(rising, field, -field)) / self.field_width
        started = 1 / (1 + bounded_exp(below))
        distance = xp.maximum(xp.where(rising, 1 - state, state), -BEYOND)
        free = -xp.expm1(-distance / self.bound_width)
        velocity = self.velocity * xp.exp(-self.migration_energy / ELEMENTARY_CHARGE / heat) * drive
        return velocity * started * free / (self.largest_gap - self.least_gap)

    def state_noise(self, voltage: Array, state: Array, temperature: float = ROOM_TEMPERATURE) -> Array:
        """The random walk of the state besides `state_rate`: standard deviation over the root of time [1/sqrt(s)].

            dx = rate dt + noise dW,   noise = delta sqrt(t_n)/((1 + exp((T_crit - T)/T_smth)) (g_max - g_min))

        The authors' code adds N(0, 1) delta/(...) [m/s] to the velocity of the gap, drawn anew at each time step, so
        that its spread depends on the step; as a walk with the steps t_n of that code it does not. It acts without
        voltage too (0.27 nm in 1 us at 298 K): made for pulses, not for retention.
        """
        colder = self.noise_temperature - self.filament_temperature(voltage, state, temperature)
        share = 1 / (1 + bounded_exp(colder / self.noise_temperature_width))
        return self.noise_velocity * self.noise_interval**0.5 * share / (self.largest_gap - self.least_gap)

    def gap(self, state: Array) -> Array:
        """g [m]."""
        return self.largest_gap - (self.largest_gap - self.least_gap) * state

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        return {
            "i0": self.current_scale * self.thermal_factor(temperature),
            "g0": self.gap_scale,
            "v0": self.voltage_scale,
            "gmin": self.least_gap,
            "gmax": self.largest_gap,
            "velocity": self.velocity,
            "ea": self.migration_energy / ELEMENTARY_CHARGE,
            "a0": self.hopping_distance,
            "tox": self.oxide_thickness,
            "gamma_set": self.set_enhancement,
            "gamma_reset": self.reset_enhancement,
            "beta": self.gap_coefficient,
            "fmin": self.least_field,
            "width": self.field_width,
            "bound": self.bound_width,
            "rth": self.thermal_resistance,
            "t0": temperature,
        }

    def _transmission(self, state: Array) -> Array:
        """I_0 exp(-g/g_0) [A]."""
        return self.current_scale * exp(-self.gap(state) / self.gap_scale)

    def _rise(self, reference_voltage: float) -> Array:
        """sinh(V/V_0)/V [1/V]; 1/V_0 towards 0 V."""
        if not reference_voltage:
            return 1 / self.voltage_scale
        argument = reference_voltage / self.voltage_scale
        return (exp(argument) - exp(-argument)) / (2 * reference_voltage)
