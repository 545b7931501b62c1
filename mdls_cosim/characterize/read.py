"""Experiment `read`: the column currents of whole tiles, IR drop and sneak paths included.

Tiles of every conductance class are read with inputs of every input class (`patterns.py`); the currents are those of
Kirchhoff's laws in the complete circuit of `tiles.tile_deck`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.circuits import ideal_currents, solve
from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.patterns import (
    CONDUCTANCE_CLASSES,
    INPUT_CLASSES,
    ConductanceClass,
    InputClass,
    draw_conductances,
    draw_inputs,
)
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.characterize.run import Progress, solve_points
from mdls_cosim.characterize.settle import TimedReadPoint
from mdls_cosim.dataset import Array
from mdls_cosim.quantities import Amplitude
from mdls_cosim.spice import Engine
from mdls_cosim.tiles import TileSpec, hysteretic

Count = Annotated[int, Field(ge=1, le=100_000)]


class ReadPlan(Experiment):
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

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One a drawn tile, with all of its inputs."""
        cases = draw(tile, self, span, np.random.default_rng(seed))
        drawn = zip(cases.conductances, cases.voltages, strict=True)
        return [ReadPoint(f"tile {index}", tile, *each) for index, each in enumerate(drawn)]

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`conductances`, `voltages`, `currents`, the class codes of tiles and inputs; `branches` of selectors
        with hysteresis; `column_error` (tile, col): the RMS distance of a column's currents from those of bare devices,
        over their RMS in that tile."""
        cases = draw(tile, self, span, np.random.default_rng(seed))
        currents = np.stack([result["currents"] for result in results])
        more = {}
        if hysteretic(tile.cell):
            branches = np.stack([result["branches"] for result in results])
            more["branches"] = Array(branches, "1", ("tile", "vector", "row", "col"))
        if tile.device is not None:
            bare = zip(cases.conductances, cases.voltages, strict=True)
            ideal = np.stack([ideal_currents(tile, *each) for each in bare])
            scale = np.sqrt((ideal**2).mean(axis=(1, 2)))[:, None]
            more["column_error"] = Array(np.sqrt(((currents - ideal) ** 2).mean(axis=1)) / scale, "1", ("tile", "col"))
        return more | {
            "conductances": Array(cases.conductances, "S", ("tile", "row", "col")),
            "voltages": Array(cases.voltages, "V", ("tile", "vector", "row")),
            "currents": Array(currents, "A", ("tile", "vector", "col")),
            "conductance_class": Array(cases.conductance_class, "1", ("tile",)),
            "input_class": Array(cases.input_class, "1", ("vector",)),
        }


@dataclass(frozen=True, eq=False)
class ReadPoint(Point):
    """Reads of one tile; gives `currents` (vector, col) [A], and where selectors have hysteresis `branches`
    (vector, row, col), 1 for those that the read switched on."""

    experiment: ClassVar[str] = "read"

    tile: TileSpec
    conductances: NDArray[np.float64]
    """(row, col) [S]."""
    voltages: NDArray[np.float64]
    """(vector, row) [V]."""

    def solve(self, engine: Engine) -> Results:
        solution = solve(engine, self.tile, self.conductances, self.voltages)
        found = {"currents": solution.measured(range(self.tile.cols))}
        return found | ({"branches": solution.on.astype(float)} if hysteretic(self.tile.cell) else {})

    def blank(self) -> Results:
        shapes: dict[str, tuple[int, ...]] = {"currents": (len(self.voltages), self.tile.cols)}
        if hysteretic(self.tile.cell):
            shapes["branches"] = (len(self.voltages), self.tile.rows, self.tile.cols)
        return {name: np.full(shape, np.nan) for name, shape in shapes.items()}

    @property
    def operating_points(self) -> int:
        return len(self.voltages)


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


def read_tiles(
    spec: TileSpec,
    conductances: NDArray[np.float64],
    voltages: NDArray[np.float64],
    workers: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    read_time: float | None = None,
) -> NDArray[np.float64]:
    """Column currents (tile, vector, cols) [A] of tiles (tile, rows, cols) [S] under (tile, vector, rows) [V].

    read_time: so long after the rows step from 0 V [s]; absent: at rest, where capacitances do not show.
    workers, progress, engine: see `solve_points`.
    """
    points: list[Point] = []
    for index, each in enumerate(zip(conductances, voltages, strict=True)):
        label = f"tile {index}"
        timed = read_time is not None
        points.append(TimedReadPoint(label, spec, *each, read_time) if timed else ReadPoint(label, spec, *each))
    return np.stack([found["currents"] for found in solve_points(points, workers, progress, engine)])
