"""Drift: conductances that fall with a power of time."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from array_api_compat import array_namespace
from pydantic import Field, model_validator

from mdls_cosim.config import Config
from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.distributions import PositiveConductance
from mdls_cosim.devices.variability.effect import Reading, ReadingEffect, acceleration
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import RATIO, Duration, Energy


class LogExponent(Config):
    """A number that follows the logarithm of the conductance, within bounds: clip(slope ln(G/scale) + offset)."""

    slope: Annotated[float, RATIO]
    offset: Annotated[float, RATIO]
    lowest: Annotated[float, RATIO]
    highest: Annotated[float, RATIO]
    scale: PositiveConductance
    """[S]."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.highest < self.lowest:
            raise ConfigError("bounds out of order", where="highest", value=self.highest, limit=f">= {self.lowest:g}")
        return self

    def at(self, conductances: Array) -> Array:
        """Its value at `conductances` [S]; an open cell counts as 1e-12 of `scale`."""
        xp = array_namespace(conductances)
        share = xp.clip(conductances / self.scale, min=1e-12)
        return xp.clip(self.slope * xp.log(share) + self.offset, min=self.lowest, max=self.highest)


class Drift(ReadingEffect):
    """A power law in the time since the programming.

        G(t) = G (t'/t_0)^-nu  for t' > t_0, else G        t' = t exp(-E_a/k (1/T - 1/300 K))
        nu ~ N(exponent, exponent_spread), drawn once a device

    Both may depend on the conductance right after programming. Time at another temperature counts as more or less
    time at 300 K: a constant temperature since the programming. The form is that of phase-change cells (Le Gallo et
    al., 10.1002/aelm.201700627); exponents below zero, a rising conductance, occur where the spread is wide.
    """

    effect: Literal["drift"] = "drift"
    exponent: Annotated[float, RATIO] | LogExponent
    """Mean of nu."""
    exponent_spread: Annotated[float, RATIO, Field(ge=0)] | LogExponent = 0.0
    """Standard deviation of nu between devices."""
    start_time: Duration = 1.0
    """t_0 [s]: when the conductance is what was programmed."""
    activation_energy: Energy = 0.0
    """E_a [J], in text "1.2 eV"."""

    stage: ClassVar[int] = 6
    single: ClassVar[bool] = True

    def exponents(self, programmed: Array, randomness: Randomness) -> Array:
        """nu of every device, from the conductances `programmed` [S]."""
        mean, spread = (
            part.at(programmed) if isinstance(part, LogExponent) else part
            for part in (self.exponent, self.exponent_spread)
        )
        return mean + spread * moved(randomness.normal(tuple(programmed.shape)), programmed)

    def read(self, conductances: Array, randomness: Randomness, reading: Reading) -> Array:
        passed = reading.time * acceleration(self.activation_energy, reading.temperature) / self.start_time
        if passed <= 1:
            return conductances
        xp = array_namespace(conductances)
        return conductances * xp.exp(-math.log(passed) * self.exponents(reading.programmed, randomness))
