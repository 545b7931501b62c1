"""Spread between devices."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.distributions import AnyDistribution, PolynomialSpread
from mdls_cosim.devices.variability.effect import Outcome, Programming, ProgrammingEffect
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.errors import ConfigError

CONDUCTANCE = "conductance"


class DeviceToDevice(ProgrammingEffect):
    """What one device makes of the same programming, or of the same parameter: drawn once a device.

        G = G f        or    G = G + sigma(G) n  for a polynomial        parameter = "conductance"
        p = p_nominal f                                                  any other: a parameter

    Both are for writes without verify: the state of a cell is chosen for the nominal device, and its conductance is
    that of the actual one in this state. A verify loop corrects both, within the range of the actual device, and leaves
    a `ProgrammingError` instead. A spread of a parameter also acts on the shape of the I-V curve and on the motion of
    the state. Every effect spreads one quantity, independently of others: correlations between parameters are left
    out, and nothing checks a parameter's bounds (R_on below R_off).
    """

    effect: Literal["device_to_device"] = "device_to_device"
    parameter: str = CONDUCTANCE
    """"conductance", or the name of one of the device's parameters."""
    distribution: AnyDistribution

    stage: ClassVar[int] = 2

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.parameter != CONDUCTANCE and isinstance(self.distribution, PolynomialSpread):
            raise ConfigError(
                "a polynomial of the conductance for a parameter",
                where="distribution.kind",
                value=self.distribution.kind,
                limit='"normal", "lognormal" or "samples"',
            )
        return self

    @property
    def stream_name(self) -> str:
        return f"{self.effect}/{self.parameter}"

    def factors(self, randomness: Randomness, shape: tuple[int, ...]) -> np.ndarray:
        """Of the parameter, one a device."""
        if isinstance(self.distribution, PolynomialSpread):
            raise ConfigError("a polynomial spread has no factor", where="distribution.kind")
        return self.distribution.factors(randomness, shape)

    def program(self, conductances: Array, randomness: Randomness, programming: Programming) -> Outcome:
        shape = tuple(conductances.shape)
        if isinstance(self.distribution, PolynomialSpread):
            spread = self.distribution.sigma(conductances) * moved(randomness.normal(shape), conductances)
            return programming.held(conductances + spread, 0.0, None)
        return Outcome(conductances * moved(self.distribution.factors(randomness, shape), conductances), {})
