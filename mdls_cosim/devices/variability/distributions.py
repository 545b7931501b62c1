"""How a quantity spreads: by a factor, or by a standard deviation that depends on the conductance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field, model_validator
from scipy.special import ndtr, ndtri

from mdls_cosim.config import Config
from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.randomness import Randomness
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import RATIO, Quantity, Unit

Factor = Annotated[float, Field(gt=0)]
SignedConductance = Annotated[float, Quantity("siemens")]
PositiveConductance = Annotated[float, Quantity("siemens", gt=0)]


class Normal(Config):
    """A factor 1 + sigma n, n standard normal and truncated at +-`truncation`: always positive.

    Its standard deviation is sigma sqrt(1 - 2 c phi(c)/(2 Phi(c) - 1)) with c the truncation: 0.9995 sigma at c = 4.
    """

    kind: Literal["normal"] = "normal"
    sigma: Annotated[float, RATIO, Field(ge=0)]
    """Standard deviation of the factor, truncation aside."""
    truncation: Annotated[float, Unit("sigma"), Field(gt=0, le=8)] = 4.0
    """In standard deviations."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sigma * self.truncation >= 1:
            raise ConfigError(
                "a spread that reaches zero",
                where="sigma",
                value=self.sigma,
                limit=f"below 1/truncation, {1 / self.truncation:g}",
                hint='Lower the truncation, or take kind = "lognormal"',
            )
        return self

    def factors(self, randomness: Randomness, shape: tuple[int, ...]) -> np.ndarray:
        """Independent factors."""
        tail = ndtr(-self.truncation)
        return 1 + self.sigma * ndtri(tail + (1 - 2 * tail) * randomness.uniform(shape))


class Lognormal(Config):
    """A factor e^(sigma n), n standard normal: median 1, mean e^(sigma^2/2)."""

    kind: Literal["lognormal"] = "lognormal"
    sigma: Annotated[float, RATIO, Field(ge=0, le=10)]
    """Standard deviation of the factor's logarithm."""

    def factors(self, randomness: Randomness, shape: tuple[int, ...]) -> np.ndarray:
        """Independent factors."""
        return np.exp(self.sigma * randomness.normal(shape))


class Samples(Config):
    """A factor drawn from measured ones, each as likely as the other, with replacement."""

    kind: Literal["samples"] = "samples"
    values: Annotated[tuple[Factor, ...], RATIO, Field(min_length=1)]
    """Factors of the nominal value."""

    @classmethod
    def measured(cls, values: Sequence[float] | np.ndarray) -> Self:
        """Factors from measured values of one sign, relative to their median.

        Raises:
            InputError: no values, a value that is not finite, or values of both signs.
        """
        own = np.asarray(values, dtype=float).ravel()
        if own.size == 0 or not np.all(np.isfinite(own)) or not (np.all(own > 0) or np.all(own < 0)):
            raise InputError("no spread in these values", value=own.size, limit="finite values of one sign")
        return cls(values=tuple((own / np.median(own)).tolist()))

    def factors(self, randomness: Randomness, shape: tuple[int, ...]) -> np.ndarray:
        """Independent factors."""
        return np.asarray(self.values)[randomness.choice(len(self.values), shape)]


class PolynomialSpread(Config):
    """A normal spread of the conductance whose standard deviation is max(sum_k c_k (G/scale)^k, 0)."""

    kind: Literal["polynomial"] = "polynomial"
    coefficients: Annotated[tuple[SignedConductance, ...], Field(min_length=1, max_length=8)]
    """c_0, c_1, … [S]."""
    scale: PositiveConductance = 1e-6
    """The conductance [S] that G is divided by."""

    def sigma(self, conductances: Array) -> Array:
        """Standard deviation [S] at `conductances` [S]."""
        return polynomial_sigma(self.coefficients, self.scale, conductances)


def polynomial_sigma(coefficients: tuple[float, ...], scale: float, conductances: Array) -> Array:
    """max(sum_k c_k (G/scale)^k, 0) [S], lowest power first."""
    xp = array_namespace(conductances)
    share = conductances / scale
    total = coefficients[-1] + 0 * share
    for coefficient in coefficients[-2::-1]:
        total = total * share + coefficient
    return xp.clip(total, min=0.0)


FactorDistribution = Annotated[Normal | Lognormal | Samples, Field(discriminator="kind")]
"""Of a factor, told apart in TOML by `kind`."""
AnyDistribution = Annotated[Normal | Lognormal | Samples | PolynomialSpread, Field(discriminator="kind")]
"""Of a conductance."""
