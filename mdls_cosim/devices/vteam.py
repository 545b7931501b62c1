"""VTEAM: a voltage-controlled threshold model of memristors."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, DynamicDevice, exp, log, namespace
from mdls_cosim.devices.bounded import EXPONENT_LIMIT, chosen
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import RATIO, PositiveResistance, Rate, Voltage

Exponent = Annotated[float, Field(ge=1, le=20)]


class Vteam(DynamicDevice):
    """A resistance that moves above a positive and below a negative threshold voltage.

        dx/dt =  r_off (V/V_off - 1)^a_off (1 - x^2p)         V > V_off > 0, towards high resistance
        dx/dt = -r_on  (V/V_on - 1)^a_on  (1 - (1 - x)^2p)    V < V_on < 0, towards low resistance
        dx/dt =  0                                            between
        I = V / (R_on + (R_off - R_on) x)                     conduction "linear"
        I = V / (R_on (R_off/R_on)^x)                         conduction "exponential"

    The state x = (w - w_on)/(w_off - w_on) is 0 at R_on and 1 at R_off; r = |k|/(w_off - w_on) in the symbols of
    Kvatinsky et al., 10.1109/TCSII.2015.2433536. The window of exponent 2p is Biolek's (Radioengineering 18, 210,
    2009): it stops the motion at the end ahead only, so no state sticks. Ohmic at a given state. The defaults are
    set (b) of the paper's examples: fast, bipolar, 1 - 300 kohm.
    """

    model: Literal["vteam"] = "vteam"
    on_resistance: PositiveResistance = 1e3
    """R_on [ohm]."""
    off_resistance: PositiveResistance = 300e3
    """R_off [ohm], above R_on."""
    on_voltage: Voltage = -1.5
    """V_on [V], below zero."""
    off_voltage: Voltage = 0.3
    """V_off [V], above zero."""
    on_rate: Rate = 216.2 / 3e-9
    """r_on [1/s]: the speed at V = 2 V_on, window aside."""
    off_rate: Rate = 0.091 / 3e-9
    """r_off [1/s]: the speed at V = 2 V_off, window aside."""
    on_exponent: Annotated[Exponent, RATIO] = 4.0
    """a_on."""
    off_exponent: Annotated[Exponent, RATIO] = 4.0
    """a_off."""
    window_exponent: Annotated[int, Field(ge=1, le=20, strict=True)] = 1
    """p of the window."""
    conduction: Literal["linear", "exponential"] = "linear"
    """How the resistance depends on the state."""

    spice_model: ClassVar[str] = "vteam"
    linear: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._require_rise("on_resistance", "off_resistance", "ohm")
        if not self.on_voltage < 0 < self.off_voltage:
            raise ConfigError(
                "impossible thresholds",
                where="on_voltage, off_voltage",
                value=f"{self.on_voltage:g} V, {self.off_voltage:g} V",
                limit="on_voltage below 0 V, off_voltage above",
            )
        return self

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        return self.activated(voltage * self._conductance(state), temperature)

    def _conductance(self, state: Array, reference_voltage: float = 0.0) -> Array:
        if self.conduction == "linear":
            return 1 / (self.on_resistance + (self.off_resistance - self.on_resistance) * state)
        return exp(-log(self.off_resistance / self.on_resistance) * state) / self.on_resistance

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        if self.conduction == "linear":
            return (1 / conductance - self.on_resistance) / (self.off_resistance - self.on_resistance)
        return -log(conductance * self.on_resistance) / log(self.off_resistance / self.on_resistance)

    @property
    def _raising_sign(self) -> int:
        return -1

    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array:
        xp = namespace(voltage, state)
        speed = self._speed(voltage)
        from_behind = xp.where(voltage > 0, state, 1 - state)
        toward = xp.where(voltage > 0, speed, -speed)
        return toward * (1 - from_behind ** (2 * self.window_exponent))

    def _state_after(self, voltage: Array, state: Array, duration: Array, temperature: float) -> Array | None:
        """x(t) = tanh(r t + artanh x) towards 1, 1 - x likewise towards 0; for window exponent 1 alone.

        With g = 1 - exp(-2 r t), exact at the ends and for small steps: (2 x + g (1 - x))/(2 - g (1 - x)) upwards,
        (2 x - 2 g x)/(2 - g x) downwards.
        """
        if self.window_exponent != 1:
            return None
        xp = namespace(voltage, state)
        gone = -xp.expm1(-2 * self._speed(voltage) * duration)
        ahead = xp.where(voltage > 0, 1 - state, state)
        after = (2 * state + gone * xp.where(voltage > 0, ahead, -2 * state)) / (2 - gone * ahead)
        # Rounding alone could lead above 1.
        return xp.where(after > 1, 1.0, after)

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        factor = self.thermal_factor(temperature)
        return {
            "r_on": self.on_resistance / factor,
            "r_off": self.off_resistance / factor,
            "v_on": self.on_voltage,
            "v_off": self.off_voltage,
            "rate_on": self.on_rate,
            "rate_off": self.off_rate,
            "a_on": self.on_exponent,
            "a_off": self.off_exponent,
            "window": self.window_exponent,
            "exponential": float(self.conduction == "exponential"),
        }

    def _speed(self, voltage: Array) -> Array:
        """Size of dx/dt [1/s], window aside: towards high resistance at positive voltages, low at negative ones."""
        xp = namespace(voltage)
        positive = xp.where(voltage > 0, 1.0 + 0 * voltage, 0 * voltage)
        threshold = chosen(positive, self.off_voltage, self.on_voltage)
        exponent = chosen(positive, self.off_exponent, self.on_exponent)
        # Beyond e^60 times the rate nothing is left to follow; a power of float32 would overflow soon after.
        beyond = xp.minimum(xp.maximum(voltage / threshold - 1, 0.0), exp(EXPONENT_LIMIT / exponent))
        return chosen(positive, self.off_rate, self.on_rate) * beyond**exponent
