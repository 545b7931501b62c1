"""What every device is: equations, parameters, and the name of its SPICE twin."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from mdls_cosim.config import Config
from mdls_cosim.quantities import Energy

Array = Any  # any array of the array API standard: numpy, torch

ROOM_TEMPERATURE = 300.0
"""Where parameters hold [K]."""

_BOLTZMANN = 1.380649e-23  # [J/K], exact in the SI


class Device(Config, ABC):
    """A two-terminal device: static equations written once against the array API standard.

    A Device holds scalar nominal parameters. State and per-device parameters are array arguments, so one object
    describes a million devices. Currents are positive from the first pin to the second.

    Its equations hold at 300 K; at another temperature the whole I-V is multiplied by `thermal_factor`.
    """

    activation_energy: Energy = 0.0
    """E_a of the conduction [J], in text "0.1 eV"; 0 eV: temperature has no effect."""

    spice_model: ClassVar[str]
    """Name of the `.sub` file in `spice_models/` that holds the SPICE twin."""

    linear: ClassVar[bool] = False
    """True where the current is proportional to the voltage at every state."""

    @abstractmethod
    def current(self, voltage: Array, state: Array) -> Array:
        """Static current [A] at `voltage` [V] and `state`; the arguments broadcast."""

    @abstractmethod
    def conductance(self, state: Array, reference_voltage: float = 0.0) -> Array:
        """I/V [S] at `reference_voltage` [V]; 0 V is the small-signal limit."""

    @abstractmethod
    def state_for(self, conductance: Array, reference_voltage: float = 0.0) -> Array:
        """The exact inverse of `conductance`: the state whose I/V at `reference_voltage` is `conductance` [S]."""

    def thermal_factor(self, temperature: float) -> float:
        """Current at `temperature` [K] over that at 300 K: exp(-E_a/k (1/T - 1/300 K)), thermally activated hopping."""
        return math.exp(-self.activation_energy / _BOLTZMANN * (1 / temperature - 1 / ROOM_TEMPERATURE))

    @abstractmethod
    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        """Parameters of the SPICE twin for devices in `state`: a number where all share it, else an array of its shape.

        The state of a DynamicDevice is the voltage of the twin's third pin, and no parameter.
        """


class DynamicDevice(Device):
    """A device whose state moves under voltage: dx/dt = rate(V, x), x dimensionless within 0 - 1.

    Its SPICE twin has a parameter `speed`, a factor of the rate, and a third pin at the voltage x; the current that the
    twin drives into that pin is 1 nA for a dx/dt of 1/s. Whoever builds the circuit holds the state there by a voltage
    source (a read at a frozen state), or lets it move by a capacitor of 1 nF from the pin to ground, its `ic=` the
    first state.
    """

    raising_sign: ClassVar[int]
    """Sign of the voltage that raises the conductance: 1 or -1."""

    @abstractmethod
    def state_rate(self, voltage: Array, state: Array) -> Array:
        """dx/dt [1/s] at `voltage` [V] and `state`; the arguments broadcast."""
