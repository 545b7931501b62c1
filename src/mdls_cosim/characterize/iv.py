"""Experiment `iv`: the static I-V of a single cell against its conductance.

One cell between an ideal source and an ideal virtual ground, swept from -V to +V at conductances over the span.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.run import Job
from mdls_cosim.config import Config
from mdls_cosim.dataset import Array
from mdls_cosim.quantities import Amplitude
from mdls_cosim.tiles import TileSpec, tile_deck


class IvPlan(Config):
    """What experiment `iv` sweeps."""

    voltage: Amplitude = 0.3
    """Largest voltage of either sign [V]."""
    points: Annotated[int, Field(ge=3, le=10_001)] = 41
    """Voltages in a sweep."""
    cells: Annotated[int, Field(ge=1, le=1_000)] = 7
    """Conductances, evenly spaced over the span."""


def plan(spec: TileSpec, plan: IvPlan, span: tuple[float, float]) -> list[Job]:
    """One job a conductance: a tile of one cell without any wire."""
    cell = spec.replace(
        rows=1, cols=1, row_line_resistance=0.0, column_line_resistance=0.0, driver_resistance=0.0, sense_resistance=0.0
    )
    sweep = _sweep(plan)[:, None]
    return [Job(tile_deck(cell, np.full((1, 1), value)), sweep) for value in _conductances(plan, span)]


def collect(plan: IvPlan, span: tuple[float, float], results: Sequence[NDArray[np.float64]]) -> dict[str, Array]:
    """The arrays of the experiment: `conductances`, `voltages` and `currents`."""
    sweep = _sweep(plan)
    return {
        "conductances": Array(_conductances(plan, span), "S", ("cell",)),
        "voltages": Array(np.tile(sweep, (plan.cells, 1)), "V", ("cell", "point")),
        "currents": Array(np.stack([result[:, 0] for result in results]), "A", ("cell", "point")),
    }


def _sweep(plan: IvPlan) -> NDArray[np.float64]:
    return np.linspace(-plan.voltage, plan.voltage, plan.points)


def _conductances(plan: IvPlan, span: tuple[float, float]) -> NDArray[np.float64]:
    return np.linspace(span[0], span[1], plan.cells)
