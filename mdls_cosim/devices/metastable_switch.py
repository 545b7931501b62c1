"""The mean of many metastable switches: the model of the Knowm self-directed-channel device."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, DynamicDevice, namespace
from mdls_cosim.devices.bounded import between_ends, bounded_exp, bounded_expm1
from mdls_cosim.quantities import RATIO, Amplitude, Duration, InverseVoltage, PositiveResistance, Quantity

DiodeCurrent = Annotated[float, Quantity("ampere", ge=0)]


class MetastableSwitch(DynamicDevice):
    """Many switches in parallel, each of which hops over one barrier to turn on and over another to turn off.

        dx/dt = [P_on (1 - x) - P_off x] / t_c
        P_on  = 1 / (1 + exp(-(V - V_on)/V_T)),     P_off = 1 / (1 + exp((V + V_off)/V_T))
        I = phi V [x/R_on + (1 - x)/R_off] + (1 - phi) [a_f (e^(b_f V) - 1) - a_r (e^(-b_r V) - 1)]

    The state x is the share of switches that are on, its mean: the shot noise of their number, sqrt(x (1 - x)/N) at
    rest, is left out. V_T is proportional to temperature. It has no end that holds: at 0 V the state creeps towards
    1/2 (for V_on = V_off) with the time constant t_c e^(V_on/V_T)/2. Exponents are held within +-60. Nugent and
    Molter, 10.1371/journal.pone.0085175 (there the conductances of a switch, w_A and w_B, are 1/R here). The defaults
    are the example that Knowm publishes with the model: V_T at 300 K, no diodes.
    """

    model: Literal["metastable_switch"] = "metastable_switch"
    on_resistance: PositiveResistance = 500.0
    """R_on [ohm]: all switches on."""
    off_resistance: PositiveResistance = 1500.0
    """R_off [ohm], above R_on."""
    on_voltage: Amplitude = 0.27
    """V_on [V]: above it a switch turns on."""
    off_voltage: Amplitude = 0.27
    """V_off [V]: below minus this it turns off."""
    time_constant: Duration = 1e-4
    """t_c [s]: of the motion far beyond a threshold."""
    slope_voltage: Amplitude = 0.025852
    """V_T [V] at 300 K: the width of the thresholds, k T/q of an ideal barrier."""
    memory_share: Annotated[float, RATIO, Field(gt=0, le=1)] = 1.0
    """phi: the switches' share of the current; the rest are two diodes, front to back, without memory."""
    forward_current: DiodeCurrent = 0.0
    """a_f [A]."""
    reverse_current: DiodeCurrent = 0.0
    """a_r [A]."""
    forward_slope: InverseVoltage = 5.0
    """b_f [1/V]."""
    reverse_slope: InverseVoltage = 5.0
    """b_r [1/V]."""

    spice_model: ClassVar[str] = "metastable_switch"
    thermal: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._require_rise("on_resistance", "off_resistance", "ohm")
        return self

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        memory = self.memory_share * voltage * self._switches(state)
        return self.activated(memory + self._diodes(voltage), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return self.memory_share * self._switches(state) + self._diode_conductance(reference_voltage)

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        memory = (conductance - self._diode_conductance(reference_voltage)) / self.memory_share
        return (memory - 1 / self.off_resistance) / (1 / self.on_resistance - 1 / self.off_resistance)

    @property
    def _raising_sign(self) -> int:
        return 1

    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array:
        on, off = self._probabilities(voltage, temperature)
        return (on * (1 - state) - off * state) / self.time_constant

    def _state_after(self, voltage: Array, state: Array, duration: Array, temperature: float) -> Array:
        """x_inf + (x - x_inf) e^(-t/tau), x_inf = P_on/(P_on + P_off), tau = t_c/(P_on + P_off)."""
        xp = namespace(voltage, state)
        on, off = self._probabilities(voltage, temperature)
        passed = -xp.expm1(-(on + off) * (duration / self.time_constant))
        return between_ends(state + (on / (on + off) - state) * passed)

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        factor = self.thermal_factor(temperature)
        return {
            "r_on": self.on_resistance / factor,
            "r_off": self.off_resistance / factor,
            "v_on": self.on_voltage,
            "v_off": self.off_voltage,
            "t_c": self.time_constant,
            "v_t": self.slope_voltage * temperature / ROOM_TEMPERATURE,
            "phi": self.memory_share,
            "a_f": self.forward_current * factor,
            "a_r": self.reverse_current * factor,
            "b_f": self.forward_slope,
            "b_r": self.reverse_slope,
        }

    def _switches(self, state: Array) -> Array:
        """Their conductance [S]."""
        return state / self.on_resistance + (1 - state) / self.off_resistance

    def _diodes(self, voltage: Array) -> Array:
        """Their current [A]."""
        forward = self.forward_current * bounded_expm1(self.forward_slope * voltage)
        reverse = self.reverse_current * bounded_expm1(-self.reverse_slope * voltage)
        return (1 - self.memory_share) * (forward - reverse)

    def _diode_conductance(self, reference_voltage: float) -> Array:
        """I/V of the diodes [S]; their slope at 0 V."""
        if reference_voltage:
            return self._diodes(reference_voltage) / reference_voltage
        slope = self.forward_current * self.forward_slope + self.reverse_current * self.reverse_slope
        return (1 - self.memory_share) * slope

    def _probabilities(self, voltage: Array, temperature: float) -> tuple[Array, Array]:
        """P_on, P_off."""
        width = self.slope_voltage * (temperature / ROOM_TEMPERATURE)
        on = 1 / (1 + bounded_exp((self.on_voltage - voltage) / width))
        off = 1 / (1 + bounded_exp((voltage + self.off_voltage) / width))
        return on, off
