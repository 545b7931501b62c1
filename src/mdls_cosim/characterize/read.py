"""Experiment `read`: the column currents of whole tiles, IR drop and sneak paths included.

Tiles of every conductance class are read with inputs of every input class (`patterns.py`); the currents are those of
Kirchhoff's laws in the complete circuit of `tiles.tile_deck`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.patterns import (
    CONDUCTANCE_CLASSES,
    INPUT_CLASSES,
    ConductanceClass,
    InputClass,
    draw_conductances,
    draw_inputs,
)
from mdls_cosim.characterize.run import Job
from mdls_cosim.config import Config
from mdls_cosim.dataset import Array
from mdls_cosim.quantities import Quantity
from mdls_cosim.tiles import TileSpec, tile_deck

Count = Annotated[int, Field(ge=1, le=100_000)]


class ReadPlan(Config):
    """Which tiles and inputs experiment `read` draws."""

    voltage: Annotated[float, Quantity("volt", gt=0)] = 0.3
    """Largest row voltage of either sign [V]."""
    conductance_classes: Annotated[tuple[ConductanceClass, ...], Field(min_length=1)] = CONDUCTANCE_CLASSES
    """Classes of conductances."""
    input_classes: Annotated[tuple[InputClass, ...], Field(min_length=1)] = INPUT_CLASSES
    """Classes of inputs."""
    tiles: Count = 3
    """Tiles of each conductance class."""
    vectors: Count = 6
    """Inputs of each input class, for every tile."""


@dataclass(frozen=True)
class Cases:
    """Drawn tiles and inputs."""

    conductances: NDArray[np.float64]  # (tile, row, col) [S]
    voltages: NDArray[np.float64]  # (tile, vector, row) [V]
    conductance_class: NDArray[np.int64]  # (tile,), index into plan.conductance_classes
    input_class: NDArray[np.int64]  # (vector,), index into plan.input_classes


def draw(spec: TileSpec, plan: ReadPlan, span: tuple[float, float], generator: np.random.Generator) -> Cases:
    """Draws all tiles and inputs of a plan."""
    conductances, voltages, classes = [], [], []
    for code, kind in enumerate(plan.conductance_classes):
        for _ in range(plan.tiles):
            conductances.append(draw_conductances(kind, spec.rows, spec.cols, span, generator))
            voltages.append(
                np.concatenate(
                    [
                        draw_inputs(inputs, plan.vectors, spec.rows, plan.voltage, generator)
                        for inputs in plan.input_classes
                    ]
                )
            )
            classes.append(code)
    return Cases(
        np.stack(conductances),
        np.stack(voltages),
        np.array(classes, dtype=np.int64),
        np.repeat(np.arange(len(plan.input_classes), dtype=np.int64), plan.vectors),
    )


def jobs(spec: TileSpec, cases: Cases) -> list[Job]:
    """One job a tile: its circuit is loaded once for all of its inputs."""
    return [
        Job(tile_deck(spec, conductances), voltages)
        for conductances, voltages in zip(cases.conductances, cases.voltages, strict=True)
    ]


def collect(cases: Cases, results: Sequence[NDArray[np.float64]]) -> dict[str, Array]:
    """The arrays of the experiment: conductances, voltages, currents and the class codes of the cases."""
    return {
        "conductances": Array(cases.conductances, "S", ("tile", "row", "col")),
        "voltages": Array(cases.voltages, "V", ("tile", "vector", "row")),
        "currents": Array(np.stack(list(results)), "A", ("tile", "vector", "col")),
        "conductance_class": Array(cases.conductance_class, "1", ("tile",)),
        "input_class": Array(cases.input_class, "1", ("vector",)),
    }
