"""Finite states: the conductances that a write aims at."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field, model_validator

from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.effect import Outcome, Programming, ProgrammingEffect, counted
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Conductance


class FiniteStates(ProgrammingEffect):
    """The nearest of a number of uniform states over the span, or of measured levels.

        G = G_low + (G_high - G_low) k/(n - 1),    k = 0 … n - 1

    Targets outside of the span (of the levels) take the state at its end and are counted, "outside". A target halfway
    between two uniform states takes the even one, between two levels the lower. A gradient through it is zero.
    """

    effect: Literal["finite_states"] = "finite_states"
    states: Annotated[int, Field(ge=2, le=1 << 20, strict=True)] | None = None
    """n uniform states."""
    levels: Annotated[tuple[Conductance, ...], Field(min_length=2)] | None = None
    """Measured levels [S], rising."""

    stage: ClassVar[int] = 1
    single: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.states is None) == (self.levels is None):
            raise ConfigError("finite states need one description", where="states, levels", limit="exactly one of them")
        if self.levels is not None and any(np.diff(self.levels) <= 0):
            raise ConfigError("levels out of order", where="levels", limit="rising conductances")
        return self

    def program(self, conductances: Array, randomness: Randomness, programming: Programming) -> Outcome:
        xp = array_namespace(conductances)
        lowest, highest = programming.span if self.levels is None else (self.levels[0], self.levels[-1])
        outside = counted("outside", (conductances < lowest) | (conductances > highest))
        held = xp.clip(conductances, min=lowest, max=highest)
        if self.levels is not None:
            levels = np.asarray(self.levels)
            bounds = moved((levels[1:] + levels[:-1]) / 2, conductances)
            nearest = xp.searchsorted(bounds, xp.reshape(held, (-1,)))
            return Outcome(xp.reshape(moved(levels, conductances)[nearest], conductances.shape), outside)
        if self.states is None or highest == lowest:
            return Outcome(held, outside)
        steps = self.states - 1
        share = xp.round((held - lowest) / (highest - lowest) * steps) / steps
        return Outcome(lowest + (highest - lowest) * share, outside)
