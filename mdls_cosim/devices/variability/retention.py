"""Retention: conductances that relax to a level."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from array_api_compat import array_namespace
from pydantic import Field

from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.effect import Reading, ReadingEffect, acceleration
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.quantities import RATIO, Conductance, Duration, Energy


class Retention(ReadingEffect):
    """A stretched exponential in the time since the programming, faster when warm.

        G(t) = G_level + (G - G_level) exp(-(t/tau)^beta)
        tau = time_constant exp(E_a/k (1/T - 1/300 K)) e^(spread n),    n standard normal, drawn once a device

    The temperature is constant since the programming. Thermally activated loss of oxide filaments with E_a about
    1 eV; a level and a shape that depend on the state are left out.
    """

    effect: Literal["retention"] = "retention"
    time_constant: Duration
    """[s] at 300 K: the median device's."""
    stretching: Annotated[float, RATIO, Field(gt=0, le=1)] = 1.0
    """beta; 1: a plain exponential."""
    level: Conductance | None = None
    """G_level [S]; None: the lowest of the span."""
    activation_energy: Energy = 0.0
    """E_a [J], in text "1.1 eV"."""
    spread: Annotated[float, RATIO, Field(ge=0, le=10)] = 0.0
    """Of ln tau between devices."""

    stage: ClassVar[int] = 7
    single: ClassVar[bool] = True

    def read(self, conductances: Array, randomness: Randomness, reading: Reading) -> Array:
        xp = array_namespace(conductances)
        passed = reading.time * acceleration(self.activation_energy, reading.temperature) / self.time_constant
        level = reading.span[0] if self.level is None else self.level
        draws = moved(randomness.normal(tuple(conductances.shape)), conductances)
        if not passed:
            return conductances
        # Of logarithms, held where nothing is left: the power itself would overflow a float32.
        grown = self.stretching * (math.log(passed) - self.spread * draws)
        exponents = xp.exp(xp.minimum(grown, 60.0 + xp.zeros_like(grown)))
        return level + (conductances - level) * xp.exp(-exponents)
