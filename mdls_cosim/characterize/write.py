"""Experiment `write`: programming one cell of a tile by write-verify, and what that does to the others.

A tile starts at drawn conductances; one drawn cell is to reach a drawn target. Pulse by pulse, its row is driven to
the write voltage, its column to 0 V, all other lines by the bias scheme (transistor cells: other gates at 0 V), and
the states of *all* cells move by their own state equations under the voltages that Kirchhoff's laws leave them. After
each pulse the selected cell is verified (its conductance at the reference voltage); the next pulse has the polarity
that leads to the target and, while that polarity lasts, a size that grows by `step` (incremental step pulse
programming, as in Suh et al., 10.1109/4.475701). Each reversal of polarity lowers the first sizes by `back_off`, so
that steps around the target get smaller. It ends within `tolerance` of the target, or after `pulses` pulses.

Found: pulses needed, overshoot beyond the target, half-select disturb of the neighbours, and the share of the write
voltage that arrives at the cell (IR drop).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.circuits import line_voltages
from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.characterize.sneak import Scheme, selected_gates, selection
from mdls_cosim.characterize.transients import (
    EDGE,
    check_start,
    conductances_of,
    pulse_train,
    raising_sign,
    start_states,
    states_at,
)
from mdls_cosim.dataset import Array
from mdls_cosim.quantities import SHARE, Amplitude, Duration
from mdls_cosim.spice import Engine
from mdls_cosim.tiles import TileSpec, tile_deck

Floats = NDArray[np.float64]

NEIGHBOURS = ("row", "column", "other")
"""Cells that share the selected cell's row, its column, neither."""


class WritePlan(Experiment):
    """How experiment `write` programs cells."""

    raising: Amplitude
    """Size of the first pulse that raises the conductance [V]."""
    lowering: Amplitude
    """Size of the first pulse that lowers it [V]."""
    step: Annotated[float, SHARE, Field(ge=0, le=1)] = 0.02
    """Growth of the size with every further pulse of one polarity, as a share of the first."""
    back_off: Annotated[float, SHARE, Field(ge=0, lt=1)] = 0.05
    """Shrinking of the first sizes with every reversal of polarity."""
    width: Duration = 100e-9
    """Time at full voltage [s]."""
    tolerance: Annotated[float, SHARE, Field(gt=0, lt=1)] = 0.02
    """Accepted distance from the target, as a share of the conductance range."""
    pulses: Annotated[int, Field(ge=1, le=10_000)] = 100
    """At most so many."""
    scheme: Scheme = "half"
    """What unselected lines are tied to."""
    targets: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Cells written, each in a tile of its own."""

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One a target."""
        raising_sign(tile)
        generator = np.random.default_rng(seed)
        points: list[Point] = []
        for number in range(self.targets):
            conductances = generator.uniform(*span, (tile.rows, tile.cols))
            cell = (int(generator.integers(tile.rows)), int(generator.integers(tile.cols)))
            target = float(generator.uniform(*span))
            points.append(WritePoint(f"target {number}", tile, self, span, conductances, cell, target))
        return points

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """By target: `pulses`, `reached`, `overshoot`, `disturb` (target, neighbour), `delivered`, `history`."""
        points = [point for point in self.make_points(tile, span, seed) if isinstance(point, WritePoint)]
        units = {"pulses": "1", "reached": "1", "overshoot": "S", "delivered": "1"}
        arrays = {
            name: Array(np.array([float(result[name]) for result in results]), unit, ("target",))
            for name, unit in units.items()
        }
        stacked = {name: np.stack([result[name] for result in results]) for name in ("disturb", "history")}
        return arrays | {
            "disturb": Array(stacked["disturb"], "1", ("target", "neighbour")),
            "history": Array(stacked["history"], "S", ("target", "pulse")),
            "targets": Array(np.array([point.target for point in points]), "S", ("target",)),
            "cells": Array(np.array([point.cell for point in points]), "1", ("target", "axis")),
        }


@dataclass(frozen=True, eq=False)
class WritePoint(Point):
    """One cell written.

    Gives `pulses`, `reached` (1 or 0), `overshoot` [S] beyond the target in the direction of the first pulse,
    `disturb` (neighbour,): largest relative change of a conductance among NEIGHBOURS, `delivered`: least share of the
    write voltage at the cell, `history` (pulse,) [S]: its conductance after every pulse, the start first, NaN after
    the last.
    """

    experiment: ClassVar[str] = "write"

    tile: TileSpec
    plan: WritePlan
    span: Span
    conductances: Floats
    cell: tuple[int, int]
    target: float

    def solve(self, engine: Engine) -> Results:
        plan, tile, (row, col) = self.plan, self.tile, self.cell
        accepted = plan.tolerance * (self.span[1] - self.span[0])
        states, second = start_states(engine, tile, self.conductances), None
        first = conductances_of(engine, tile, states)
        history = [first[row, col]]
        delivered, repeated, reversals, last = np.inf, 0, 0, 0
        while abs(history[-1] - self.target) > accepted and len(history) <= plan.pulses:
            direction = 1 if history[-1] < self.target else -1
            repeated = repeated + 1 if direction == last else 0
            reversals += direction == -last
            last = direction
            first_size = (plan.raising if direction > 0 else plan.lowering) * (1 - plan.back_off) ** reversals
            size = first_size * (1 + plan.step * repeated)
            states, second, share = self._pulse(engine, states, second, direction * raising_sign(tile) * size)
            delivered = min(delivered, share)
            chosen = (slice(row, row + 1), slice(col, col + 1))
            one = None if second is None else second[chosen]
            history.append(float(conductances_of(engine, tile, states[chosen], one)[0, 0]))
        changed = np.abs(conductances_of(engine, tile, states, second) / first - 1)
        way = np.sign(self.target - history[0])
        found = np.full(plan.pulses + 1, np.nan)
        found[: len(history)] = history
        return {
            "pulses": np.array(len(history) - 1.0),
            "reached": np.array(float(abs(history[-1] - self.target) <= accepted)),
            "overshoot": np.array(max(0.0, float((way * (np.array(history) - self.target)).max()))),
            "disturb": np.array([changed[mask].max() if mask.any() else 0.0 for mask in self._neighbours()]),
            "delivered": np.array(delivered if np.isfinite(delivered) else np.nan),
            "history": found,
        }

    def blank(self) -> Results:
        scalars = {name: np.array(np.nan) for name in ("pulses", "reached", "overshoot", "delivered")}
        return scalars | {"disturb": np.full(3, np.nan), "history": np.full(self.plan.pulses + 1, np.nan)}

    @property
    def operating_points(self) -> int:
        return self.plan.pulses

    def _pulse(
        self, engine: Engine, states: Floats, second: Floats | None, voltage: float
    ) -> tuple[Floats, Floats | None, float]:
        """States and second states after one pulse, and the share of its full voltage that the cell gets."""
        tile, (row, col) = self.tile, self.cell
        ends, voltages = selection(tile, row, col, self.plan.scheme, voltage, sense=False)
        gates = selected_gates(tile, row)
        options = {"ends": ends, "gates": gates, "second_states": second}
        deck = tile_deck(tile, states=states, **options, transient=True, nodes=True)
        waves, _ = pulse_train(voltages[None], self.plan.width)
        result = engine.transient(deck, waves)
        check_start(tile, waves, result, states)
        moved, second = (None if each is None else each[0] for each in states_at(tile, result, waves.stop))
        rows, columns = line_voltages(tile, result)
        full = int(np.searchsorted(result.times, EDGE * self.plan.width))
        assert moved is not None
        return moved, second, float((rows - columns)[full, row, col] / voltage)

    def _neighbours(self) -> list[NDArray[np.bool_]]:
        """Masks (rows, cols) of NEIGHBOURS."""
        row, col = np.indices((self.tile.rows, self.tile.cols))
        same_row, same_col = row == self.cell[0], col == self.cell[1]
        return [same_row & ~same_col, same_col & ~same_row, ~same_row & ~same_col]
