"""Motion of the device's own state after the programming: at rest, and under reads."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from mdls_cosim.devices.base import Array, DynamicDevice
from mdls_cosim.devices.dynamics import after_pulses
from mdls_cosim.devices.variability.effect import Reading, ReadingEffect
from mdls_cosim.devices.variability.population import Cells
from mdls_cosim.devices.variability.randomness import Randomness
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Duration, Unit, Voltage

_TOLERANCE = 1e-8
"""Of each step of the integration, relative to the state: near an end a conductance may follow its state steeply."""


class OwnMotion(ReadingEffect):
    """The device's own rate equation at a constant voltage.

        dx/dt = speed rate(V, x, T),    x from G(x) at the reference voltage

    integrated for every cell by `devices.after_pulses` (its closed solution where the device has one). A spread of
    the device's parameters (`DeviceToDevice`) and of its speed (`CycleToCycle`) acts on it.
    """

    @abstractmethod
    def constant_voltage(self, cells: Cells) -> float:
        """Over the device [V]."""

    @abstractmethod
    def duration(self, time: float) -> float:
        """How long [s], `time` [s] after the programming."""

    def read(self, conductances: Array, randomness: Randomness, reading: Reading) -> Array:
        population = reading.population
        if population is None:
            raise ConfigError(
                f"{self.stream_name} needs the device of the cells",
                where="cells",
                hint="Pass cells=Cells(device, reference_voltage, read_voltage)",
            )
        cells, duration = population.cells, self.duration(reading.time)
        if not isinstance(cells.device, DynamicDevice):
            raise ConfigError(
                f"{self.stream_name} of a device without a rate equation", where="cells", value=cells.device.kind
            )
        if not duration:
            return conductances
        xp = array_namespace(conductances)
        device, voltage = population.device, cells.reference_voltage
        assert isinstance(device, DynamicDevice)
        states = xp.clip(device.state_for(population.held(conductances).conductances, voltage), min=0.0, max=1.0)
        shape = tuple(conductances.shape)
        flat = xp.reshape(states, (-1,))
        alike = not population.parameters and isinstance(reading.speed, float)
        levels, places = xp.unique_inverse(flat) if alike else (flat, None)
        if not alike:
            device = device.varied({name: xp.reshape(each, (-1,)) for name, each in population.parameters.items()})
        speed = reading.speed if isinstance(reading.speed, float) else xp.reshape(reading.speed, (-1,))
        after = after_pulses(
            device,
            levels,
            np.array([self.constant_voltage(cells)]),
            duration,
            temperature=reading.temperature,
            speed=speed,
            relative_tolerance=_TOLERANCE,
            absolute_tolerance=_TOLERANCE / 100,
        )
        found = device.conductance(after, voltage)
        # What does not move keeps its conductance to the last bit.
        if places is not None:
            after, found = after[places], found[places]
        return xp.where(xp.reshape(after == flat, shape), conductances, xp.reshape(found, shape))


class OwnRetention(OwnMotion):
    """What the device's own equation does to its state at 0 V, in the time since the programming.

    The temperature is constant since the programming. For devices that move at 0 V; a measured loss of retention
    that the equation does not have is `Retention`, one of conductances that follow a power law `Drift`.
    """

    effect: Literal["own_retention"] = "own_retention"

    stage: ClassVar[int] = 8
    single: ClassVar[bool] = True

    def constant_voltage(self, cells: Cells) -> float:
        return 0.0

    def duration(self, time: float) -> float:
        return time


class ReadDisturb(OwnMotion):
    """What the device's own equation does to its state in the reads so far, each a pulse at a constant voltage.

        time under voltage = reads read_time

    Every cell sees the same voltage in every read, of one sign, and all of it falls over the device: an upper bound.
    Inputs that are smaller, of both signs, or shared with wires and selectors disturb less. Does not depend on the
    time since the programming; acts after `own_retention`.
    """

    effect: Literal["read_disturb"] = "read_disturb"
    reads: Annotated[float, Unit("reads"), Field(ge=0, allow_inf_nan=False)]
    """Reads since the programming."""
    read_time: Duration
    """Length of one [s]."""
    voltage: Voltage | None = None
    """Over the device, with its sign [V]; None: plus the read voltage of the hardware."""

    stage: ClassVar[int] = 9
    single: ClassVar[bool] = True

    def constant_voltage(self, cells: Cells) -> float:
        return cells.read_voltage if self.voltage is None else self.voltage

    def duration(self, time: float) -> float:
        return self.reads * self.read_time
