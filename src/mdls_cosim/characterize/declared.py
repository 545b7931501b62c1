"""Whether the parameter of a user's cell, declared as its conductance or resistance, sets its I/V: measured first.

Single cells at both ends of the range are read at 300 K, at the tile's reference voltage (small-signal at 0 V) and at
the largest voltages that the experiments read with. At one of these voltages both currents must be those of the
declared conductances within TOLERANCE. A cell whose parameter is that of one part of it (a film behind a switch or a
transistor) says so by `of = "part"`; its current must change with the parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mdls_cosim.characterize.circuits import SMALL_VOLTAGE
from mdls_cosim.characterize.experiment import Span
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.characterize.run import Crew
from mdls_cosim.devices import ROOM_TEMPERATURE
from mdls_cosim.errors import InputError
from mdls_cosim.spice import Engine
from mdls_cosim.tiles import SubcircuitCell, TileSpec, tile_deck

__all__ = ["TOLERANCE", "check_declared"]

TOLERANCE = 0.1
"""Of the declared conductance."""
_LEAST_CHANGE = 1e-6


def check_declared(crew: Crew, tiles: Iterable[TileSpec], span: Span, voltages: Iterable[float]) -> None:
    """Refuse tiles of users' cells that do not have the conductances that they are programmed to.

    Args:
        crew: who simulates.
        tiles: whose cells are looked at; those of other cells, or with a measured "state", are passed over.
        span: lowest and highest conductance [S].
        voltages: largest voltage of each experiment that reads [V].

    Raises:
        InputError: with the measured conductances.
    """
    largest = max((abs(each) for each in voltages), default=0.0)
    points: dict[str, DeclaredPoint] = {}
    for tile in tiles:
        if isinstance(tile.cell, SubcircuitCell) and tile.cell.state.quantity != "state":
            single = tile.bare(1, 2).replace(temperature=ROOM_TEMPERATURE)
            reference = tile.reference_voltage or SMALL_VOLTAGE
            point = DeclaredPoint("declared", single, span, tuple(dict.fromkeys((reference, largest, -largest))))
            points[point.key] = point
    for key, outcome in crew.run(points).items():
        # What ngspice cannot solve here fails in the campaign too, and is recorded there.
        if outcome.results is not None:
            _check(points[key], outcome.results["conductances"])


@dataclass(frozen=True, eq=False)
class DeclaredPoint(Point):
    """Two cells, programmed to the ends of the range; gives `conductances` (voltage, end), I/V [S]."""

    experiment: ClassVar[str] = "declared"

    tile: TileSpec
    """One row of two cells, at 300 K."""
    span: Span
    voltages: tuple[float, ...]
    """[V]; 0 is passed over."""

    @property
    def applied(self) -> NDArray[np.float64]:
        """The voltages other than 0 [V]."""
        return np.array([voltage for voltage in self.voltages if voltage])

    def solve(self, engine: Engine) -> Results:
        deck = tile_deck(self.tile, np.array([self.span]))
        currents = engine.run(deck, self.applied[:, None]).columns(["i(vcol0)", "i(vcol1)"])
        return {"conductances": currents / self.applied[:, None]}

    def blank(self) -> Results:
        return {"conductances": np.full((len(self.applied), 2), np.nan)}

    @property
    def operating_points(self) -> int:
        return len(self.applied)


def _check(point: DeclaredPoint, measured: NDArray[np.float64]) -> None:
    cell = point.tile.cell
    assert isinstance(cell, SubcircuitCell)
    wanted = np.array(point.span)
    changes = np.abs(measured[:, 1] - measured[:, 0]) > _LEAST_CHANGE * np.abs(measured).max(axis=1)
    near = (np.abs(measured - wanted) <= TOLERANCE * wanted + _LEAST_CHANGE * wanted[1]).all(axis=1)
    if near.any() or (cell.state.of == "part" and changes.any()):
        return
    hint = "Programming has no effect; is it another parameter?"
    if changes.any():
        hint = 'Correct the parameter or its quantity; or declare of = "part", if it is that of a part of the cell'
    found = "; ".join(
        f"{low:.4g} and {high:.4g} S at {voltage:g} V"
        for (low, high), voltage in zip(measured[:2], point.applied, strict=False)
    )
    raise InputError(
        f"the {cell.state.quantity} of {cell.subcircuit} does not set its I/V",
        where=cell.state.parameter or "state",
        value=found,
        limit=f"{wanted[0]:.4g} and {wanted[1]:.4g} S",
        hint=hint,
    )
