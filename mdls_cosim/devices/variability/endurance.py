"""Endurance: what switching cycles do to the conductances that a cell can still show."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.effect import Outcome, Programming, ProgrammingEffect, counted
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.quantities import RATIO, Unit


class Endurance(ProgrammingEffect):
    """A window that closes with the number of cycles, and cells that fail for good.

        w(n) = max(1 - closing log10(1 + n/onset), 0)                            what is left of the window
        G_low + (1 - w) centre span  <=  G  <=  G_high - (1 - w)(1 - centre) span
        P(failed after n cycles) = 1 - exp(-(n/lifetime)^shape)                  Weibull

    A target beyond the closed window takes its nearer end, counted as "worn". A failed cell stays at one end of the
    span, counted as "failed"; each cell's life is drawn once. The straight line over log n is how endurance is
    plotted, and a law of no device in particular; what can be read from such plots: Lanza et al.,
    10.1021/acsnano.1c06980. Leaves out that worn cells also spread and drift more.
    """

    effect: Literal["endurance"] = "endurance"
    closing: Annotated[float, RATIO, Field(ge=0, le=1)] = 0.0
    """Part of the window that is lost in a decade of cycles."""
    onset: Annotated[float, Unit("cycles"), Field(gt=0)] = 1e3
    """Cycles from which on it closes."""
    centre: Annotated[float, RATIO, Field(ge=0, le=1)] = 0.5
    """Where it closes to: 0 the lowest conductance, 1 the highest."""
    lifetime: Annotated[float, Unit("cycles"), Field(gt=0)] | None = None
    """Cycles after which 63 % of the cells have failed; None: none ever does."""
    shape: Annotated[float, RATIO, Field(gt=0, le=50)] = 2.0
    """Weibull's slope: above 1 the cells wear out, below they fail early."""
    fails: Literal["on", "off"] = "on"
    """At which end of the span a failed cell stays."""

    stage: ClassVar[int] = 4
    single: ClassVar[bool] = True

    def program(self, conductances: Array, randomness: Randomness, programming: Programming) -> Outcome:
        xp = array_namespace(conductances)
        shape, (lowest, highest) = tuple(conductances.shape), programming.span
        cycles = np.asarray(programming.cycles, dtype=float)
        lost = 1 - np.maximum(1 - self.closing * np.log10(1 + cycles / self.onset), 0.0)
        bottom = moved(np.broadcast_to(lowest + lost * self.centre * (highest - lowest), shape).copy(), conductances)
        top = moved(
            np.broadcast_to(highest - lost * (1 - self.centre) * (highest - lowest), shape).copy(), conductances
        )
        # A window that has not closed yet holds nothing back: what is outside the span is no wear.
        worn = moved(np.broadcast_to(lost > 0, shape).astype(float), conductances) > 0.5
        low, high = worn & (conductances < bottom), worn & (conductances > top)
        held = xp.where(low, bottom, xp.where(high, top, conductances))
        counts = counted("worn", low | high)
        if self.lifetime is not None:
            lives = self.lifetime * (-np.log1p(-randomness.uniform(shape))) ** (1 / self.shape)
            failed = moved((cycles >= lives).astype(float), conductances) > 0.5
            held = xp.where(failed, (highest if self.fails == "on" else lowest) + 0 * held, held)
            counts |= counted("failed", failed)
        return Outcome(held, counts)
