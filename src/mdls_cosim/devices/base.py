"""What every device is: equations, parameters, and the name of its SPICE twin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from mdls_cosim.config import Config

Array = Any  # any array of the array API standard: numpy, torch


class Device(Config, ABC):
    """A two-terminal device: static equations written once against the array API standard.

    A Device holds scalar nominal parameters. State and per-device parameters are array arguments, so one object
    describes a million devices. Currents are positive from the first pin to the second.
    """

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

    @abstractmethod
    def spice_parameters(self, state: float) -> dict[str, float]:
        """Parameters of the SPICE twin for one device in `state`."""
