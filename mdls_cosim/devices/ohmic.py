"""Ohm's law."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, Device


class Ohmic(Device):
    """A linear conductance, I = G V. The state is G [S]; zero is an open cell."""

    model: Literal["ohmic"] = "ohmic"
    spice_model: ClassVar[str] = "ohmic"
    linear: ClassVar[bool] = True

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        return self.activated(state * voltage, temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return state

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        return conductance

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        return {"conductance": state * self.thermal_factor(temperature)}
