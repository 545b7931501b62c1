"""Stuck cells: shorts and opens that no write moves."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from array_api_compat import array_namespace
from pydantic import Field, model_validator

from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.effect import Outcome, Programming, ProgrammingEffect, counted
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import SHARE, Conductance

Share = Annotated[float, Field(ge=0, le=1)]


class Stuck(ProgrammingEffect):
    """A share of the cells stays at the highest conductance, another at the lowest, whatever is written.

    Which cells is drawn once a chip, each independently of its neighbours: clusters and whole lines are left out.
    A stuck cell neither drifts nor fluctuates. Counted as "stuck_on" and "stuck_off".
    """

    effect: Literal["stuck"] = "stuck"
    on: Annotated[Share, SHARE] = 0.0
    """Share of cells stuck at `on_conductance`."""
    off: Annotated[Share, SHARE] = 0.0
    """Share of cells stuck at `off_conductance`."""
    on_conductance: Conductance | None = None
    """[S]; None: the highest of the span."""
    off_conductance: Conductance | None = None
    """[S]; None: the lowest of the span."""

    stage: ClassVar[int] = 5
    single: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.on + self.off > 1:
            raise ConfigError(
                "more stuck cells than cells", where="on, off", value=self.on + self.off, limit="at most 1"
            )
        return self

    def program(self, conductances: Array, randomness: Randomness, programming: Programming) -> Outcome:
        return self.hold(conductances, randomness, programming.span)

    def hold(self, conductances: Array, randomness: Randomness, span: tuple[float, float]) -> Outcome:
        """`conductances` [S], the stuck cells at theirs."""
        xp = array_namespace(conductances)
        off, on = self.cells(conductances, randomness)
        off_value = span[0] if self.off_conductance is None else self.off_conductance
        on_value = span[1] if self.on_conductance is None else self.on_conductance
        held = xp.where(on, on_value + 0 * conductances, xp.where(off, off_value + 0 * conductances, conductances))
        return Outcome(held, counted("stuck_on", on) | counted("stuck_off", off))

    def cells(self, like: Array, randomness: Randomness) -> tuple[Array, Array]:
        """Which are stuck off, and which on: true or false, of the shape of `like`."""
        # Compared in float64, before any rounding: the same cells in every dtype.
        draws = randomness.uniform(tuple(like.shape))
        return moved(draws < self.off, like) > 0.5, moved(draws >= 1 - self.on, like) > 0.5
