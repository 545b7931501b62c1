"""The sinh read model of filamentary oxides."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, Device, namespace
from mdls_cosim.quantities import InverseVoltage


class Sinh(Device):
    """A conductance that grows with voltage, I = G sinh(a V) / a.

    The state is the small-signal conductance G [S]; zero is an open cell. Odd in V; towards a = 0 it is Ohm's law.
    The form is the static current of the generalised memristor model (10.1109/TCAD.2013.2252057) normalised to its
    slope at 0 V. It leaves out any asymmetry between polarities and any change of the state by reading.
    """

    model: Literal["sinh"] = "sinh"
    nonlinearity: InverseVoltage = 3.0
    """a [1/V], greater than zero; measured read curves of oxide devices lie at 1 - 10 /V."""

    spice_model: ClassVar[str] = "sinh"

    def _current(self, voltage: Array, state: Array, temperature: float) -> Array:
        xp = namespace(voltage)
        return self.activated(state * (xp.sinh(self.nonlinearity * voltage) / self.nonlinearity), temperature)

    def _conductance(self, state: Array, reference_voltage: float) -> Array:
        return state * self._rise(reference_voltage)

    def _state_for(self, conductance: Array, reference_voltage: float) -> Array:
        return conductance / self._rise(reference_voltage)

    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        return {"conductance": state * self.thermal_factor(temperature), "nonlinearity": self.nonlinearity}

    def _rise(self, reference_voltage: float) -> Array:
        """I/V at the reference voltage over the slope at 0 V: sinh(a V) / (a V)."""
        if not reference_voltage:
            return 1.0
        argument = self.nonlinearity * reference_voltage
        rise = math if isinstance(argument, float) else namespace(argument)
        return rise.sinh(argument) / argument
