"""What a write-verify loop leaves between the conductance asked for and the one that the cell holds."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.distributions import PositiveConductance, SignedConductance, polynomial_sigma
from mdls_cosim.devices.variability.effect import Outcome, Programming, ProgrammingEffect
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import SHARE, Conductance


class ProgrammingError(ProgrammingEffect):
    """A normal error, drawn anew for every cell at every programming.

        G = clip(G + relative G n1 + absolute n2 + sigma(G) n3, minimum, maximum)
        sigma(G) = max(sum_k polynomial_k (G / polynomial_scale)^k, 0)

    n1, n2, n3 are standard normal and independent, G is the target. Cells at a bound are counted, "clipped". Skewed
    or truncated errors of a verify loop that stops at a tolerance are left out.
    """

    effect: Literal["programming_error"] = "programming_error"
    relative: Annotated[float, SHARE, Field(ge=0, le=10)] = 0.0
    """Standard deviation as a part of the target."""
    absolute: Conductance = 0.0
    """Standard deviation that does not depend on the target [S]."""
    polynomial: Annotated[tuple[SignedConductance, ...], Field(max_length=8)] = ()
    """Coefficients of a standard deviation that does [S], lowest power first."""
    polynomial_scale: PositiveConductance = 1e-6
    """The conductance [S] that the target is divided by in the polynomial."""
    minimum: Conductance = 0.0
    """No cell falls below this [S]; a conductance is never negative."""
    maximum: Conductance | None = None
    """No cell rises above this [S]; None: no limit."""

    stage: ClassVar[int] = 3

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.maximum is not None and self.maximum < self.minimum:
            raise ConfigError(
                "an impossible value",
                where="maximum",
                value=f"{self.maximum:g} S",
                limit=f"at least minimum, {self.minimum:g} S",
            )
        return self

    def program(self, conductances: Array, randomness: Randomness, programming: Programming) -> Outcome:
        written = conductances
        for name, sigma in self._sigmas(conductances):
            draws = randomness.stream(programming.number, name).normal(tuple(conductances.shape))
            written = written + sigma * moved(draws, conductances)
        return programming.held(written, self.minimum, self.maximum)

    def _sigmas(self, conductances: Array) -> list[tuple[str, Array]]:
        """The standard deviations [S] that are not zero, by name."""
        found: list[tuple[str, Array]] = []
        if self.relative:
            found.append(("relative", self.relative * conductances))
        if self.absolute:
            found.append(("absolute", self.absolute))
        if self.polynomial:
            found.append(("polynomial", polynomial_sigma(self.polynomial, self.polynomial_scale, conductances)))
        return found
