"""Experiment `pulse`: trains of potentiation and depression pulses on a single device.

A device without wires starts in its least conductive state and gets `pulses` pulses that raise its conductance, then
as many that lower it; after each its conductance I/V at the tile's reference voltage is that of the state it is left
in. The train is one SPICE transient of the device's state equation dx/dt = f(V, x) under trapezoidal pulses of the
given width (at full voltage) and edges of a tenth of it, with a pause of one width between.

Trains are run for every amplitude and width, and repeated in cycles. Cycle-to-cycle spread multiplies the device's
speed by a factor drawn once a cycle, lognormal with the median 1 and sigma `spread`: a pulse of a cycle that is 10 %
faster does what one of 10 % more width would do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.characterize.transients import (
    check_start,
    conductances_of,
    pulse_train,
    raising_sign,
    start_states,
    states_at,
)
from mdls_cosim.dataset import Array
from mdls_cosim.errors import InputError
from mdls_cosim.quantities import RATIO, Amplitude, Duration
from mdls_cosim.spice import Engine
from mdls_cosim.tiles import TileSpec, tile_deck

Amplitudes = Annotated[tuple[Amplitude, ...], Field(min_length=1)]
Widths = Annotated[tuple[Duration, ...], Field(min_length=1)]


class PulsePlan(Experiment):
    """Which trains experiment `pulse` applies."""

    potentiation: Amplitudes
    """Sizes of the pulses that raise the conductance [V]; their sign is the device's."""
    depression: Amplitudes
    """Sizes of the pulses that lower it [V], one for each of `potentiation`."""
    widths: Widths
    """Time at full voltage [s]."""
    pulses: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Of either kind in a train."""
    cycles: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Repetitions of each train."""
    spread: Annotated[float, RATIO, Field(ge=0, le=3)] = 0.0
    """Cycle-to-cycle spread: sigma of the logarithm of the device's speed."""

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One an amplitude and width, all cycles in one circuit."""
        up = raising_sign(tile)
        if len(self.depression) != len(self.potentiation):
            raise InputError(
                "amplitudes that do not pair",
                where="pulse.depression",
                value=len(self.depression),
                limit=f"{len(self.potentiation)}, one for each of pulse.potentiation",
            )
        points: list[Point] = []
        for raise_by, lower_by in zip(self.potentiation, self.depression, strict=True):
            for width in self.widths:
                voltages = np.repeat([up * raise_by, -up * lower_by], self.pulses)
                label = f"{raise_by:g} V, {lower_by:g} V, {width:g} s"
                points.append(
                    PulsePoint(label, tile.bare(1, self.cycles), span[0], voltages, width, self._speeds(seed))
                )
        return points

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`conductances` (amplitude, width, cycle, pulse) after each pulse, the start first; what was applied."""
        shape = (len(self.potentiation), len(self.widths), self.cycles, 2 * self.pulses + 1)
        found = np.stack([result["conductances"] for result in results]).reshape(shape)
        return {
            "conductances": Array(found, "S", ("amplitude", "width", "cycle", "pulse")),
            "potentiation": Array(np.array(self.potentiation), "V", ("amplitude",)),
            "depression": Array(np.array(self.depression), "V", ("amplitude",)),
            "widths": Array(np.array(self.widths), "s", ("width",)),
            "speeds": Array(self._speeds(seed), "1", ("cycle",)),
        }

    def _speeds(self, seed: int) -> NDArray[np.float64]:
        return np.exp(self.spread * np.random.default_rng(seed).standard_normal(self.cycles))


@dataclass(frozen=True, eq=False)
class PulsePoint(Point):
    """One train on as many devices as there are cycles; gives `conductances` (cycle, pulse) [S], the start first."""

    experiment: ClassVar[str] = "pulse"

    tile: TileSpec
    """One row, a column a cycle, without wires."""
    start: float
    """Conductance before the first pulse [S]."""
    voltages: NDArray[np.float64]
    """Of each pulse [V]."""
    width: float
    """[s]."""
    speeds: NDArray[np.float64]
    """Of each cycle."""

    def solve(self, engine: Engine) -> Results:
        states = start_states(engine, self.tile, np.full((1, self.tile.cols), self.start))
        deck = tile_deck(self.tile, states=states, speeds=self.speeds[None], transient=True, nodes=True)
        waves, ends = pulse_train(self.voltages[:, None], self.width)
        result = engine.transient(deck, waves)
        check_start(self.tile, waves, result, states)
        moved, second = states_at(self.tile, result, np.concatenate([[0.0], ends]))
        moved[0] = states
        after, second = moved[:, 0].T, None if second is None else second[:, 0].T
        return {"conductances": conductances_of(engine, self.tile, after, second)}

    def blank(self) -> Results:
        return {"conductances": np.full((self.tile.cols, len(self.voltages) + 1), np.nan)}

    @property
    def operating_points(self) -> int:
        return len(self.voltages)
