"""Linear ion drift: the memristor of the HP laboratories, a doped layer that grows with the charge that has flowed."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, DynamicDevice
from mdls_cosim.devices.windows import biolek, joglekar, prodromakis
from mdls_cosim.quantities import RATIO, Length, PositiveResistance, Quantity

Mobility = Annotated[float, Quantity("meter**2/volt/second", gt=0)]


class LinearIonDrift(DynamicDevice):
    """Two resistances in series whose shares move with the current.

        dx/dt = mu R_on/D^2 I f(x, I)
        I = V / (R_on x + R_off (1 - x))
        f = 1 - (x - step(-I))^2p                    window "biolek"
        f = 1 - (2 x - 1)^2p                         window "joglekar"
        f = j (1 - ((x - 1/2)^2 + 3/4)^p)            window "prodromakis"

    The state x = w/D is the doped layer's share of the thickness: 0 at R_off, 1 at R_on. Strukov et al.,
    10.1038/nature06932. Biolek's window is zero at the end ahead only; with Joglekar's and Prodromakis' a state that
    is exactly at an end never leaves it. Ohmic at a given state, no threshold: every read moves the state. Real
    devices drift by a steeper law (tunnelling, heat), which this leaves out. The defaults are the paper's example;
    `activation_energy` acts on the current, hence on the drift.
    """

    model: Literal["linear_ion_drift"] = "linear_ion_drift"
    on_resistance: PositiveResistance = 100.0
    """R_on [ohm]: doped through and through."""
    off_resistance: PositiveResistance = 16e3
    """R_off [ohm], above R_on."""
    thickness: Length = 10e-9
    """D [m]."""
    mobility: Mobility = 1e-14
    """mu [m^2/(V s)], of the dopants."""
    window: Literal["biolek", "joglekar", "prodromakis"] = "biolek"
    """f."""
    window_exponent: Annotated[int, Field(ge=1, le=20, strict=True)] = 1
    """p."""
    window_height: Annotated[float, RATIO, Field(gt=0, le=100)] = 1.0
    """j, of Prodromakis' window alone."""

    spice_model: ClassVar[str] = "linear_ion_drift"
    linear: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._require_rise("on_resistance", "off_resistance", "ohm")
        return self

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        return self.activated(voltage * self._conductance(state), temperature)

    def _conductance(self, state: Array, reference_voltage: float = 0.0) -> Array:
        return 1 / (self.on_resistance * state + self.off_resistance * (1 - state))

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        return (self.off_resistance - 1 / conductance) / (self.off_resistance - self.on_resistance)

    @property
    def _raising_sign(self) -> int:
        return 1

    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array:
        return self._drift() * self._current(voltage, state, temperature) * self._window(voltage, state)

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        factor = self.thermal_factor(temperature)
        return {
            "r_on": self.on_resistance / factor,
            "r_off": self.off_resistance / factor,
            "drift": self._drift(),
            "window": self.window_exponent,
            "height": self.window_height,
            "biolek": float(self.window == "biolek"),
            "joglekar": float(self.window == "joglekar"),
            "prodromakis": float(self.window == "prodromakis"),
        }

    def _drift(self) -> Array:
        """mu R_on/D^2 [1/C]: rate per current."""
        return self.mobility * self.on_resistance / self.thickness**2

    def _window(self, voltage: Array, state: Array) -> Array:
        if self.window == "joglekar":
            return joglekar(state, self.window_exponent)
        if self.window == "prodromakis":
            return prodromakis(state, self.window_exponent, self.window_height)
        return biolek(state, voltage, self.window_exponent)
