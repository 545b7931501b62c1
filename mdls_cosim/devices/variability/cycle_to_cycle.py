"""Spread between the cycles of one device."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from mdls_cosim.devices.variability.distributions import FactorDistribution
from mdls_cosim.devices.variability.effect import Effect
from mdls_cosim.devices.variability.randomness import Randomness


class CycleToCycle(Effect):
    """A factor of the device's speed, or of the step that a pulse makes, drawn anew for every cell and cycle.

        dx/dt = f dx/dt        quantity = "speed": the `speed` of `devices.evolve` and of the SPICE twins
        dG = f dG              quantity = "step": of a pulse response

    Cycles are independent of each other: slow wandering of a device is left out. Lognormal switching times are what
    TiO2 devices show: Medeiros-Ribeiro et al., 10.1088/0957-4484/22/9/095702. In a network a speed acts on
    `OwnRetention` and `ReadDisturb`, every programming being cycle 0; steps of pulses do not occur there.
    """

    effect: Literal["cycle_to_cycle"] = "cycle_to_cycle"
    quantity: Literal["speed", "step"] = "speed"
    distribution: FactorDistribution

    stage: ClassVar[int] = 0

    @property
    def stream_name(self) -> str:
        return f"{self.effect}/{self.quantity}"

    def factors(self, randomness: Randomness, shape: tuple[int, ...], cycle: int) -> np.ndarray:
        """Of every cell, in cycle number `cycle`."""
        return self.distribution.factors(randomness.stream(cycle), shape)
