"""Read noise: what differs from one read to the next."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from array_api_compat import array_namespace
from pydantic import Field

from mdls_cosim.config import Config
from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.distributions import PositiveConductance
from mdls_cosim.devices.variability.effect import Reading, ReadingEffect
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.quantities import RATIO, SHARE, Conductance, Duration


class Flicker(Config):
    """1/f noise, integrated over the bandwidth from the time since the programming to the read pulse.

        sigma = G Q sqrt(max(ln((t + t_read)/(2 t_read)), 0)),    Q = min(strength (G_0/scale)^exponent, highest)

    G_0 is the conductance right after programming. Nandakumar et al., 10.1109/ICECS46596.2019.8964852.
    """

    strength: Annotated[float, RATIO, Field(ge=0)]
    exponent: Annotated[float, RATIO, Field(ge=-4, le=4)] = 0.0
    highest: Annotated[float, RATIO, Field(gt=0)] = 1.0
    scale: PositiveConductance = 1e-6
    """[S]."""
    read_time: Duration = 250e-9
    """t_read [s]: length of a read."""

    def relative(self, programmed: Array, time: float) -> Array:
        """Standard deviation as a part of the conductance, `time` [s] after the programming."""
        xp = array_namespace(programmed)
        share = xp.clip(programmed / self.scale, min=1e-12)
        # Of logarithms, so that no power overflows before it is held.
        held = math.log(self.highest / self.strength) if self.strength else 0.0
        strength = self.strength * xp.exp(xp.clip(self.exponent * xp.log(share), max=held))
        decades = math.log((time + self.read_time) / (2 * self.read_time))
        return strength * math.sqrt(max(decades, 0.0))


class ReadNoise(ReadingEffect):
    """A normal error, drawn anew for every cell at every read.

        G = G + relative G n1 + absolute n2 + flicker(G, t) n3,    n1, n2, n3 standard normal and independent

    Reads are independent of each other: a 1/f spectrum is in the size of the noise, not in its memory; noise with a
    memory is `RandomTelegraphNoise`.
    """

    effect: Literal["read_noise"] = "read_noise"
    relative: Annotated[float, SHARE, Field(ge=0, le=10)] = 0.0
    """Standard deviation as a part of the conductance."""
    absolute: Conductance = 0.0
    """Standard deviation that does not depend on it [S]."""
    flicker: Flicker | None = None
    """1/f noise; None: none."""

    stage: ClassVar[int] = 11

    def read(self, conductances: Array, randomness: Randomness, reading: Reading) -> Array:
        if reading.number is None:
            return conductances
        # The time is in the name, too: reads at two times share no draws, whatever their numbers.
        own = randomness.stream(repr(float(reading.time)), reading.number)
        found = conductances
        for name, sigma in self._sigmas(conductances, reading):
            found = found + sigma * moved(own.stream(name).normal(tuple(conductances.shape)), conductances)
        return found

    def variance(self, conductances: Array, reading: Reading) -> Array:
        """Of every cell from one read to the next [S^2]; `conductances` [S] are what reads scatter about."""
        total = 0.0 * conductances
        for _, sigma in self._sigmas(conductances, reading):
            total = total + sigma * sigma
        return total

    def _sigmas(self, conductances: Array, reading: Reading) -> list[tuple[str, Array]]:
        """The standard deviations [S] that are not zero, by name."""
        sigmas: list[tuple[str, Array]] = []
        if self.relative:
            sigmas.append(("relative", self.relative * conductances))
        if self.absolute:
            sigmas.append(("absolute", self.absolute))
        if self.flicker is not None:
            sigmas.append(("flicker", self.flicker.relative(reading.programmed, reading.time) * conductances))
        return sigmas
