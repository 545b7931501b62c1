"""Selectors: the two-terminal switches in series with a memristor that keep unselected cells quiet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.config import Config
from mdls_cosim.devices.base import Array, namespace
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Amplitude, Duration, PositiveCurrent, PositiveResistance

CORNER = 1e-3
"""Width [V] over which the on-branch of a threshold selector bends at the hold voltage."""


class Selector(Config, ABC):
    """A two-terminal switch; its current depends on voltage and, where it has hysteresis, on its branch."""

    spice_model: ClassVar[str]
    hysteretic: ClassVar[bool] = False
    """True where one voltage has two currents: the branch (0 off, 1 on) is then an input of every read."""

    @abstractmethod
    def current(self, voltage: Array, branch: Array) -> Array:
        """Static current [A] at `voltage` [V] on `branch`; the arguments broadcast."""

    @abstractmethod
    def spice_parameters(self) -> dict[str, Any]:
        """Parameters of the SPICE twin."""


class ExponentialSelector(Selector):
    """A back-to-back barrier, I = I_s sinh(V/V_s): no hysteresis, selectivity from its curvature.

    I(V)/I(V/2) = 2 cosh(V/(2 V_s)): 1e2 - 1e4 at 1 - 2 V for the usual slopes of 0.1 - 0.2 V.
    """

    model: Literal["exponential"] = "exponential"
    saturation_current: PositiveCurrent = 1e-9
    """I_s [A]."""
    slope_voltage: Amplitude = 0.15
    """V_s [V]."""

    spice_model: ClassVar[str] = "exponential_selector"

    def current(self, voltage: Array, branch: Array = 0.0) -> Array:
        xp = namespace(voltage)
        return self.saturation_current * xp.sinh(voltage / self.slope_voltage)

    def spice_parameters(self) -> dict[str, Any]:
        return {"i_s": self.saturation_current, "v_s": self.slope_voltage}


class ThresholdSelector(Selector):
    """An ovonic threshold switch: off until V_th, then on until its voltage falls below V_hold.

        I = V/R_off + c(b) h(|V| - V_hold) sgn(V)/R_on,    h(u) = (u + sqrt(u^2 + d^2))/2 - h_0,  d = 1 mV
        db/dt = (b_inf - b)/t_s,    b_inf = 1 where |V| > V_th,  0 where |V| < V_hold,  between them step(b - 1/2)

    The branch b is 0 (off) or 1 (on) at rest; h_0 makes the current zero at 0 V. It conducts from b = 1/2 on,
    c = 3s^2 - 2s^3 with s = 2b - 1: were it to conduct earlier, its own voltage would fall below V_th before it is on,
    and it would hang there. On, the voltage stays near V_hold, as measured devices snap back. The steps are smooth,
    over d in voltage and 0.02 in b. Piecewise-linear branches with the usual figures of chalcogenide switches.
    """

    model: Literal["threshold"] = "threshold"
    threshold_voltage: Amplitude = 1.2
    """V_th [V]."""
    hold_voltage: Amplitude = 0.6
    """V_hold [V], below V_th."""
    off_resistance: PositiveResistance = 1e9
    """R_off [ohm]."""
    on_resistance: PositiveResistance = 2e3
    """R_on [ohm]."""
    switching_time: Duration = 1e-9
    """t_s [s]."""

    spice_model: ClassVar[str] = "threshold_selector"
    hysteretic: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hold_voltage >= self.threshold_voltage:
            raise ConfigError(
                "an impossible value",
                where="hold_voltage",
                value=f"{self.hold_voltage:g} V",
                limit=f"below threshold_voltage, {self.threshold_voltage:g} V",
            )
        return self

    def current(self, voltage: Array, branch: Array) -> Array:
        xp = namespace(voltage, branch)
        above = xp.abs(voltage) - self.hold_voltage
        smooth = (above + xp.sqrt(above**2 + CORNER**2)) / 2 - self._corner_offset()
        share = xp.minimum(xp.maximum(2 * branch - 1, 0.0), 1.0)
        share = share**2 * (3 - 2 * share)
        return voltage / self.off_resistance + share * smooth * xp.tanh(voltage / CORNER) / self.on_resistance

    def consistent_branch(self, voltage: Array, branch: Array) -> Array:
        """The branch (0 or 1) that a selector at `voltage` [V], now on `branch`, goes to."""
        xp = namespace(voltage)
        size = xp.abs(voltage)
        return xp.where(size > self.threshold_voltage, 1.0, xp.where(size < self.hold_voltage, 0.0, branch))

    def spice_parameters(self) -> dict[str, Any]:
        return {
            "v_th": self.threshold_voltage,
            "v_hold": self.hold_voltage,
            "r_off": self.off_resistance,
            "r_on": self.on_resistance,
            "t_s": self.switching_time,
            "corner": CORNER,
            "offset": self._corner_offset(),
        }

    def _corner_offset(self) -> float:
        """h_0 [V]."""
        return (-self.hold_voltage + (self.hold_voltage**2 + CORNER**2) ** 0.5) / 2


AnySelector = Annotated[ExponentialSelector | ThresholdSelector, Field(discriminator="model")]
"""Any selector, told apart in TOML by its `model` key."""
