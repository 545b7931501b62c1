"""Experiment `faults`: what broken cells and lines do to the column currents.

Each kind of fault is put alone into drawn tiles, `count` of them (cells: a share of all), and the same inputs are read
with and without:

    stuck_on        cells at the highest conductance of the range, whatever was programmed
    stuck_off       cells at the lowest
    open_rows       a row line broken before one of its cells: the cells beyond are driven by the columns only
    open_columns    a column line broken: the cells above reach the sense side through the rows only
    shorted_rows    two neighbouring row lines bridged by `short_resistance` at one cell
    shorted_columns two neighbouring column lines bridged

The error of a column is the RMS change of its current over the RMS current of the healthy tile. Which kinds occur in
crossbars, and their rates: Chen et al., 10.1109/TC.2014.12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.circuits import solve
from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.patterns import INPUT_CLASSES, InputClass, draw_conductances, draw_inputs
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.dataset import Array
from mdls_cosim.errors import InputError
from mdls_cosim.quantities import SHARE, Amplitude, PositiveResistance
from mdls_cosim.spice import Engine
from mdls_cosim.tiles import LineFaults, TileSpec

Floats = NDArray[np.float64]

FaultKind = Literal["stuck_on", "stuck_off", "open_rows", "open_columns", "shorted_rows", "shorted_columns"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


class FaultsPlan(Experiment):
    """Which faults experiment `faults` puts in."""

    voltage: Amplitude = 0.3
    """Largest row voltage of either sign [V]."""
    kinds: Annotated[tuple[FaultKind, ...], Field(min_length=1)] = FAULT_KINDS
    """Kinds of faults, each alone."""
    cells: Annotated[float, SHARE, Field(gt=0, le=1)] = 0.05
    """Share of cells that are stuck (at least one)."""
    lines: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    """Lines broken, or pairs bridged."""
    short_resistance: PositiveResistance = 1.0
    """Of a bridge [ohm]."""
    input_classes: Annotated[tuple[InputClass, ...], Field(min_length=1)] = INPUT_CLASSES
    """Classes of inputs."""
    tiles: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Tiles drawn."""
    vectors: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Inputs of each class, for every tile."""

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One a kind and tile; the healthy tiles first."""
        for kind in self.kinds:
            along = tile.rows if kind.endswith("rows") else tile.cols
            there = along - kind.startswith("shorted")
            if not kind.startswith("stuck") and self.lines > there:
                raise InputError(
                    f"more {kind.replace('_', ' ')} than the tile has places for",
                    where="faults.lines",
                    value=self.lines,
                    limit=f"{there} in a tile of {tile.rows}x{tile.cols}",
                    hint="Lower lines, or leave the kind out of kinds.",
                )
        points: list[Point] = []
        for kind in (None, *self.kinds):
            for number in range(self.tiles):
                # Of its own for every tile and kind: leaving a kind out changes no other.
                generator = np.random.default_rng([seed, number])
                conductances = draw_conductances("uniform", tile.rows, tile.cols, span, generator)
                inputs = [
                    draw_inputs(each, self.vectors, tile.rows, self.voltage, generator) for each in self.input_classes
                ]
                faults = LineFaults(short_resistance=self.short_resistance)
                if kind is not None:
                    draws = np.random.default_rng([seed, number, FAULT_KINDS.index(kind)])
                    conductances, faults = self._injected(kind, tile, span, conductances, draws)
                label = f"{kind or 'healthy'}, tile {number}"
                points.append(FaultsPoint(label, tile, conductances, np.concatenate(inputs), faults))
        return points

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`healthy_currents` (tile, vector, col), `currents` (kind, tile, vector, col), `error` (kind, tile, col);
        `kind` codes, and the `conductances` (kind, tile, row, col) with stuck cells."""
        points = [point for point in self.make_points(tile, span, seed) if isinstance(point, FaultsPoint)]
        currents = np.stack([result["currents"] for result in results])
        currents = currents.reshape(len(self.kinds) + 1, self.tiles, *currents.shape[1:])
        healthy, faulty = currents[0], currents[1:]
        scale = np.sqrt((healthy**2).mean(axis=(1, 2)))[None, :, None]
        error = np.sqrt(((faulty - healthy) ** 2).mean(axis=2)) / scale
        held = np.stack([point.conductances for point in points[self.tiles :]])
        return {
            "voltages": Array(
                np.stack([each.voltages for each in points[: self.tiles]]), "V", ("tile", "vector", "row")
            ),
            "conductances": Array(
                held.reshape(len(self.kinds), self.tiles, tile.rows, tile.cols), "S", ("kind", "tile", "row", "col")
            ),
            "healthy_currents": Array(healthy, "A", ("tile", "vector", "col")),
            "currents": Array(faulty, "A", ("kind", "tile", "vector", "col")),
            "error": Array(error, "1", ("kind", "tile", "col")),
            "kind": Array(np.array([FAULT_KINDS.index(kind) for kind in self.kinds]), "1", ("kind",)),
        }

    def _injected(
        self,
        kind: FaultKind,
        tile: TileSpec,
        span: tuple[float, float],
        conductances: Floats,
        generator: np.random.Generator,
    ) -> tuple[Floats, LineFaults]:
        if kind in ("stuck_on", "stuck_off"):
            count = max(1, round(self.cells * conductances.size))
            chosen = generator.permutation(conductances.size)[:count]
            stuck = conductances.copy()
            stuck.flat[chosen] = span[1] if kind == "stuck_on" else span[0]
            return stuck, LineFaults(short_resistance=self.short_resistance)
        along_rows = kind.endswith("rows")
        lines, cells = (tile.rows, tile.cols) if along_rows else (tile.cols, tile.rows)
        lines -= kind.startswith("shorted")
        chosen = generator.permutation(lines)[: self.lines]
        # A column may break anywhere from below its first cell to the sense side, a row from the driver on.
        first = int(kind == "open_columns")
        places = tuple((int(line), int(generator.integers(first, cells + first))) for line in chosen)
        faults: dict[str, Any] = {kind: places, "short_resistance": self.short_resistance}
        return conductances, LineFaults(**faults)


@dataclass(frozen=True, eq=False)
class FaultsPoint(Point):
    """Reads of one tile with its faults; gives `currents` (vector, col) [A]."""

    experiment: ClassVar[str] = "faults"

    tile: TileSpec
    conductances: Floats
    voltages: Floats
    faults: LineFaults

    def solve(self, engine: Engine) -> Results:
        solution = solve(engine, self.tile, self.conductances, self.voltages, faults=self.faults)
        return {"currents": solution.measured(range(self.tile.cols))}

    def blank(self) -> Results:
        return {"currents": np.full((len(self.voltages), self.tile.cols), np.nan)}

    @property
    def operating_points(self) -> int:
        return len(self.voltages)
