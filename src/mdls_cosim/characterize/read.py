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
from mdls_cosim.quantities import Amplitude
from mdls_cosim.tiles import TileSpec, tile_deck

Count = Annotated[int, Field(ge=1, le=100_000)]


class ReadPlan(Config):
    """Which tiles and inputs experiment `read` draws."""

    voltage: Amplitude = 0.3
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
    codes = np.repeat(np.arange(len(plan.conductance_classes), dtype=np.int64), plan.tiles)
    return draw_tiles(spec, plan, codes, span, generator)


def draw_tiles(
    spec: TileSpec, plan: ReadPlan, codes: NDArray[np.int64], span: tuple[float, float], generator: np.random.Generator
) -> Cases:
    """Draws one tile for each of `codes`, indices into `plan.conductance_classes`, and the plan's inputs for each."""
    conductances, voltages = [], []
    for code in codes:
        kind = plan.conductance_classes[code]
        conductances.append(draw_conductances(kind, spec.rows, spec.cols, span, generator))
        inputs = [draw_inputs(each, plan.vectors, spec.rows, plan.voltage, generator) for each in plan.input_classes]
        voltages.append(np.concatenate(inputs))
    return Cases(
        np.stack(conductances),
        np.stack(voltages),
        codes,
        np.repeat(np.arange(len(plan.input_classes), dtype=np.int64), plan.vectors),
    )


def jobs(spec: TileSpec, conductances: NDArray[np.float64], voltages: NDArray[np.float64]) -> list[Job]:
    """One job a tile, (tile, rows, cols) [S], for all of its inputs, (tile, vector, rows) [V]."""
    return [Job(tile_deck(spec, tile), inputs) for tile, inputs in zip(conductances, voltages, strict=True)]


def collect(cases: Cases, results: Sequence[NDArray[np.float64]]) -> dict[str, Array]:
    """The arrays of the experiment: conductances, voltages, currents and the class codes of the cases."""
    return {
        "conductances": Array(cases.conductances, "S", ("tile", "row", "col")),
        "voltages": Array(cases.voltages, "V", ("tile", "vector", "row")),
        "currents": Array(np.stack(list(results)), "A", ("tile", "vector", "col")),
        "conductance_class": Array(cases.conductance_class, "1", ("tile",)),
        "input_class": Array(cases.input_class, "1", ("vector",)),
    }
