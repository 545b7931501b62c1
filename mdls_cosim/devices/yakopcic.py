"""The generalised memristor model of Yakopcic et al."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, DynamicDevice, exp, namespace
from mdls_cosim.devices.bounded import bounded_exp, bounded_expm1, bounded_sinh, chosen
from mdls_cosim.quantities import RATIO, Amplitude, InverseVoltage, PositiveCurrent, Rate

Onset = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=50)]


class Yakopcic(DynamicDevice):
    """A sinh-shaped current, two thresholds, and a motion that dies out towards the end ahead.

        I = a_1 x sinh(b V)   V >= 0,        a_2 x sinh(b V)   V < 0
        dx/dt = eta g(V) f(V, x)
        g =  A_p (e^V - e^V_p)   V > V_p,    -A_n (e^-V - e^V_n)   V < -V_n,    0 between (V in volts)
        f = e^(-alpha_p (x - x_p)) (1 - x)/(1 - x_p)          x > x_p and eta V >= 0
        f = e^(alpha_n (x + x_n - 1)) x/(1 - x_n)             x < 1 - x_n and eta V < 0
        f = 1                                                 elsewhere

    The state x has no unit; at 0 no current flows at all. Yakopcic, Taha, Subramanyam and Pino,
    10.1109/TCAD.2013.2252057; the product of window and decay is written as one, e.g. (1 - x)/(1 - x_p) for
    (x_p - x)/(1 - x_p) + 1. Where a_1 and a_2 differ the conductance at 0 V is the limit from positive voltages.
    Arguments of sinh and exponents are held within +-60. Temperature is left out, `activation_energy` aside. The
    defaults are an analogue device.
    """

    model: Literal["yakopcic"] = "yakopcic"
    positive_amplitude: PositiveCurrent = 7e-5
    """a_1 [A]."""
    negative_amplitude: PositiveCurrent = 7e-5
    """a_2 [A]."""
    nonlinearity: InverseVoltage = 1.9
    """b [1/V]."""
    positive_voltage: Amplitude = 0.4
    """V_p [V]."""
    negative_voltage: Amplitude = 0.3
    """V_n [V], the size of the negative threshold."""
    positive_rate: Rate = 1.0
    """A_p [1/s]."""
    negative_rate: Rate = 1.0
    """A_n [1/s]."""
    positive_onset: Annotated[Onset, RATIO] = 0.9
    """x_p: rising above it slows down."""
    negative_onset: Annotated[Onset, RATIO] = 0.7
    """x_n: falling below 1 - x_n slows down."""
    positive_decay: Annotated[Decay, RATIO] = 3.0
    """alpha_p."""
    negative_decay: Annotated[Decay, RATIO] = 8.0
    """alpha_n."""
    polarity: Literal[1, -1] = 1
    """eta: the sign of the voltage that raises x."""

    spice_model: ClassVar[str] = "yakopcic"

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        xp = namespace(voltage)
        # One product, so that the slope at 0 V is that of one side.
        positive = xp.where(voltage >= 0, 1.0 + 0 * voltage, 0 * voltage)
        amplitude = chosen(positive, self.positive_amplitude, self.negative_amplitude)
        return self.activated(amplitude * state * bounded_sinh(self.nonlinearity * voltage), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return state * self._full(reference_voltage)

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        return conductance / self._full(reference_voltage)

    @property
    def _raising_sign(self) -> int:
        return self.polarity

    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array:
        xp = namespace(voltage, state)
        beyond = bounded_expm1(xp.maximum(voltage - self.positive_voltage, 0.0)) * exp(self.positive_voltage)
        below = bounded_expm1(xp.maximum(-voltage - self.negative_voltage, 0.0)) * exp(self.negative_voltage)
        past = xp.maximum(state - self.positive_onset, 0.0)
        rising = bounded_exp(-self.positive_decay * past) * (1 - past / (1 - self.positive_onset))
        past = xp.maximum(1 - self.negative_onset - state, 0.0)
        falling = bounded_exp(-self.negative_decay * past) * (1 - past / (1 - self.negative_onset))
        if self.polarity == 1:
            return self.positive_rate * beyond * rising - self.negative_rate * below * falling
        return self.negative_rate * below * rising - self.positive_rate * beyond * falling

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        factor = self.thermal_factor(temperature)
        return {
            "a_1": self.positive_amplitude * factor,
            "a_2": self.negative_amplitude * factor,
            "b": self.nonlinearity,
            "v_p": self.positive_voltage,
            "v_n": self.negative_voltage,
            "rate_p": self.positive_rate,
            "rate_n": self.negative_rate,
            "x_p": self.positive_onset,
            "x_n": self.negative_onset,
            "alpha_p": self.positive_decay,
            "alpha_n": self.negative_decay,
            "eta": self.polarity,
        }

    def _full(self, reference_voltage: float) -> Array:
        """I/V at the reference voltage [S] of x = 1."""
        if not reference_voltage:
            return self.positive_amplitude * self.nonlinearity
        amplitude = self.positive_amplitude if reference_voltage > 0 else self.negative_amplitude
        return amplitude * (bounded_sinh(self.nonlinearity * reference_voltage) / reference_voltage)
