"""The data-driven model of TiOx devices: a rate that depends on voltage and on the distance to a target resistance."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, DynamicDevice, namespace
from mdls_cosim.devices.bounded import EXPONENT_LIMIT, between_ends, bounded_expm1, bounded_sinh, chosen
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Amplitude, InverseVoltage, PositiveResistance, Quantity

ResistanceRate = Annotated[float, Quantity("ohm/second", gt=0)]
Growth = Annotated[float, Quantity("1/volt")]
Steepness = Annotated[float, Quantity("1/ohm", gt=0)]
Target = Annotated[float, Quantity("ohm")]
TargetSlope = Annotated[float, Quantity("ohm/volt")]


class DataDriven(DynamicDevice):
    """A resistance that goes towards a target set by the voltage, and stays where it is beyond it.

        I = a sinh(b V)/R                                             a, b by the sign of V
        dR/dt = -A_on |e^(t_on |V|) - 1| h(k_on (R - r_on(V)))        eta V > 0 and R > r_on
        dR/dt =  A_off |e^(t_off |V|) - 1| h(k_off (r_off(V) - R))    eta V < 0 and R < r_off
        r(V) = r_0 + r_1 V, held within R_on - R_off
        h(u) = e^u - 1   form "exponential",      u^2   form "quadratic"

    The state x = (R_off - R)/(R_off - R_on) is 1 at R_on. The targets bound it, no window does. Messaris et al.,
    10.1109/TCAD.2018.2791468 (exponential), and the simplified form of arXiv 2012.02267 (quadratic), whose rates per
    ohm^2 are those here for k = 1/ohm. Where a and b differ by polarity the conductance at 0 V is the limit from
    positive voltages. Exponents are held within +-60. The model is made from pulses of one width at one temperature:
    other temperatures are left out, `activation_energy` aside. The defaults are the TiOx device of the first paper.
    """

    model: Literal["data_driven"] = "data_driven"
    form: Literal["exponential", "quadratic"] = "exponential"
    """h."""
    on_resistance: PositiveResistance = 1.28e3
    """R_on [ohm]."""
    off_resistance: PositiveResistance = 17e3
    """R_off [ohm], above R_on."""
    polarity: Literal[1, -1] = -1
    """eta: the sign of the voltage that lowers the resistance."""
    positive_amplitude: Amplitude = 0.24
    """a [V] of V > 0."""
    negative_amplitude: Amplitude = 0.24
    """a [V] of V < 0."""
    positive_nonlinearity: InverseVoltage = 3.0
    """b [1/V] of V > 0."""
    negative_nonlinearity: InverseVoltage = 3.0
    """b [1/V] of V < 0."""
    on_rate: ResistanceRate = 68012.28374
    """A_on [ohm/s]."""
    off_rate: ResistanceRate = 743.47
    """A_off [ohm/s]."""
    on_growth: Growth = 0.31645
    """t_on [1/V]; below zero the rate saturates at A_on."""
    off_growth: Growth = 6.51
    """t_off [1/V]."""
    on_steepness: Steepness = 1.17e-3
    """k_on [1/ohm]."""
    off_steepness: Steepness = 5.11e-4
    """k_off [1/ohm]."""
    on_target: Target = 29304.82557
    """r_0 [ohm] of r_on."""
    off_target: Target = 16719.0
    """r_0 [ohm] of r_off."""
    on_target_slope: TargetSlope = 23692.77225
    """r_1 [ohm/V] of r_on."""
    off_target_slope: TargetSlope = 0.0
    """r_1 [ohm/V] of r_off."""

    spice_model: ClassVar[str] = "data_driven"

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._require_rise("on_resistance", "off_resistance", "ohm")
        for name in ("on_growth", "off_growth"):
            if not getattr(self, name):
                raise ConfigError("a rate that is zero at every voltage", where=name, value="0 / V", limit="not zero")
        for name in ("on_steepness", "off_steepness"):
            if self.form == "exponential" and getattr(self, name) * self._span() > EXPONENT_LIMIT:
                raise ConfigError(
                    "too steep an exponential",
                    where=name,
                    value=f"{getattr(self, name):g} / ohm",
                    limit=f"at most {EXPONENT_LIMIT:g} over off_resistance - on_resistance",
                )
        return self

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        xp = namespace(voltage)
        # One product, so that the slope at 0 V is that of one side.
        positive = xp.where(voltage >= 0, 1.0 + 0 * voltage, 0 * voltage)
        amplitude = chosen(positive, self.positive_amplitude, self.negative_amplitude)
        slope = chosen(positive, self.positive_nonlinearity, self.negative_nonlinearity)
        return self.activated(amplitude * bounded_sinh(slope * voltage) / self._resistance(state), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return self._rise(reference_voltage) / self._resistance(state)

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        return (self.off_resistance - self._rise(reference_voltage) / conductance) / self._span()

    @property
    def _raising_sign(self) -> int:
        return self.polarity

    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array:
        (up, ahead), (down, behind) = self._motions(voltage, state)
        return up * self._growth(self.on_steepness * self._span() * ahead) - down * self._growth(
            self.off_steepness * self._span() * behind
        )

    def _state_after(self, voltage: Array, state: Array, duration: Array, temperature: float) -> Array:
        """The distance u to the target, over 1/k: 1 - e^-u decays as e^(-k s t), or 1/u grows by k s t (quadratic)."""
        (up, ahead), (down, behind) = self._motions(voltage, state)
        on, off = self.on_steepness * self._span(), self.off_steepness * self._span()
        state = state + (ahead - self._left(on * ahead, on * up * duration) / on)
        state = state - (behind - self._left(off * behind, off * down * duration) / off)
        return between_ends(state)

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        factor = self.thermal_factor(temperature)
        return {
            "r_on": self.on_resistance,
            "r_off": self.off_resistance,
            "eta": self.polarity,
            "a_p": self.positive_amplitude * factor,
            "a_n": self.negative_amplitude * factor,
            "b_p": self.positive_nonlinearity,
            "b_n": self.negative_nonlinearity,
            "rate_on": self.on_rate,
            "rate_off": self.off_rate,
            "t_on": self.on_growth,
            "t_off": self.off_growth,
            "k_on": self.on_steepness,
            "k_off": self.off_steepness,
            "target_on": self.on_target,
            "target_off": self.off_target,
            "slope_on": self.on_target_slope,
            "slope_off": self.off_target_slope,
            "quadratic": float(self.form == "quadratic"),
        }

    def _span(self) -> Array:
        """R_off - R_on [ohm]."""
        return self.off_resistance - self.on_resistance

    def _resistance(self, state: Array) -> Array:
        """R [ohm]."""
        return self.off_resistance - self._span() * state

    def _rise(self, reference_voltage: float) -> Array:
        """a sinh(b V)/V, the conductance times R."""
        if reference_voltage < 0:
            amplitude, slope = self.negative_amplitude, self.negative_nonlinearity
        else:
            amplitude, slope = self.positive_amplitude, self.positive_nonlinearity
        if not reference_voltage:
            return amplitude * slope
        return amplitude * (bounded_sinh(slope * reference_voltage) / reference_voltage)

    def _motions(self, voltage: Array, state: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Upwards and downwards: the voltage's factor of dx/dt [1/s], and how far ahead the target is."""
        xp = namespace(voltage, state)
        on, off = xp.maximum(self.polarity * voltage, 0.0), xp.maximum(-self.polarity * voltage, 0.0)
        up = self.on_rate * xp.abs(bounded_expm1(self.on_growth * on)) / self._span()
        down = self.off_rate * xp.abs(bounded_expm1(self.off_growth * off)) / self._span()
        ahead = (self.off_resistance - self.on_target - self.on_target_slope * voltage) / self._span()
        behind = (self.off_resistance - self.off_target - self.off_target_slope * voltage) / self._span()
        ahead = xp.maximum(xp.minimum(xp.maximum(ahead, 0.0), 1.0) - state, 0.0)
        behind = xp.maximum(state - xp.minimum(xp.maximum(behind, 0.0), 1.0), 0.0)
        return (up, ahead), (down, behind)

    def _growth(self, distance: Array) -> Array:
        """h."""
        return distance**2 if self.form == "quadratic" else bounded_expm1(distance)

    def _left(self, distance: Array, time: Array) -> Array:
        """u(t) of du/dt = -h(u), from `distance` on."""
        if self.form == "quadratic":
            return distance / (1 + distance * time)
        xp = namespace(distance)
        # 1 - e^-u = w: near the target by w itself, far from it by 1 - w, which w would round.
        near = -xp.expm1(-distance) * xp.exp(-time)
        far = -xp.expm1(-time) + xp.exp(-xp.minimum(distance, EXPONENT_LIMIT) - time)
        low = xp.minimum(near, 0.5)
        high = xp.minimum(xp.maximum(far, 1e-30), 0.5)
        return xp.where(near < 0.5, -xp.log1p(-low), -xp.log(high))
