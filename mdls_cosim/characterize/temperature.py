"""Experiment `temperature`: cells and whole tiles from cold to hot.

What temperature moves: the conduction of the device, exp(-E_a/k (1/T - 1/300 K)); the line resistances, by their
relative coefficient; the transistor of 1T1R cells, by ngspice's level-1 rules (mobility as T^-3/2, threshold through
phi and the gap). Cells are programmed once, at 300 K. The same reads of the same tiles are run at every temperature,
and single cells without wires at the read voltage.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.iv import IvPoint
from mdls_cosim.characterize.point import Point
from mdls_cosim.characterize.read import ReadPlan, ReadPoint, draw
from mdls_cosim.dataset import Array
from mdls_cosim.quantities import Temperature
from mdls_cosim.tiles import TileSpec


class TemperaturePlan(Experiment):
    """Which temperatures experiment `temperature` reads at."""

    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (250.0, 300.0, 350.0, 400.0)
    """[K]."""
    read: ReadPlan = ReadPlan(tiles=1, vectors=2)
    """Tiles and inputs."""
    cells: Annotated[int, Field(ge=1, le=1_000)] = 5
    """Single cells, evenly spaced over the span."""

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """At every temperature: one a tile, then one a single cell."""
        points: list[Point] = []
        cases = draw(tile, self.read, span, np.random.default_rng(seed))
        voltage = np.array([self.read.voltage])
        for kelvin in self.temperatures:
            at = tile.replace(temperature=kelvin)
            drawn = zip(cases.conductances, cases.voltages, strict=True)
            points += [ReadPoint(f"{kelvin:g} K, tile {index}", at, *each) for index, each in enumerate(drawn)]
            points += [
                IvPoint(f"{kelvin:g} K, cell {index}", at.bare(1, 1), float(value), voltage)
                for index, value in enumerate(np.linspace(*span, self.cells))
            ]
        return points

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`currents` (temperature, tile, vector, col), `cell_currents` (temperature, cell), and what was applied."""
        cases = draw(tile, self.read, span, np.random.default_rng(seed))
        tiles, kelvins = len(cases.conductances), len(self.temperatures)
        currents = [result["currents"] for result in results]
        at = [currents[k * (tiles + self.cells) : (k + 1) * (tiles + self.cells)] for k in range(kelvins)]
        return {
            "temperatures": Array(np.array(self.temperatures), "K", ("temperature",)),
            "conductances": Array(cases.conductances, "S", ("tile", "row", "col")),
            "voltages": Array(cases.voltages, "V", ("tile", "vector", "row")),
            "currents": Array(
                np.stack([np.stack(each[:tiles]) for each in at]), "A", ("temperature", "tile", "vector", "col")
            ),
            "cell_conductances": Array(np.linspace(*span, self.cells), "S", ("cell",)),
            "cell_currents": Array(
                np.stack([np.concatenate(each[tiles:]) for each in at]), "A", ("temperature", "cell")
            ),
        }
