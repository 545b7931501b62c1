"""Whether the parameter of a user's cell, declared as its conductance or resistance, sets its I/V: measured first.

Single cells at both ends of the range and at conductances between them are read at 300 K, at the tile's reference
voltage (small-signal at 0 V) and at the largest voltages that the experiments read with. At one of these voltages all
currents must be those of the declared conductances within TOLERANCE. A cell whose parameter is that of one part of it
(a film behind a switch or a transistor) says so by `of = "part"`; its current must rise with the conductance of the
part at one of these voltages, as the current through any network of passive elements does.
"""

from __future__ import annotations

import re
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
LEVELS = 5
"""Conductances that are looked at, from end to end of the range in equal ratios."""
_LEAST_CHANGE = 1e-6
_INITIAL = re.compile(r"\bic\s*=", re.IGNORECASE)


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
            single = tile.bare(1, LEVELS).replace(temperature=ROOM_TEMPERATURE)
            reference = tile.reference_voltage or SMALL_VOLTAGE
            point = DeclaredPoint("declared", single, span, tuple(dict.fromkeys((reference, largest, -largest))))
            points[point.key] = point
    for key, outcome in crew.run(points).items():
        # What ngspice cannot solve here fails in the campaign too, and is recorded there.
        if outcome.results is not None:
            _check(points[key], outcome.results["conductances"])


@dataclass(frozen=True, eq=False)
class DeclaredPoint(Point):
    """Cells programmed from end to end of the range; gives `conductances` (voltage, level), I/V [S]."""

    experiment: ClassVar[str] = "declared"

    tile: TileSpec
    """One row of LEVELS cells, at 300 K."""
    span: Span
    voltages: tuple[float, ...]
    """[V]; 0 is passed over."""

    @property
    def applied(self) -> NDArray[np.float64]:
        """The voltages other than 0 [V]."""
        return np.array([voltage for voltage in self.voltages if voltage])

    @property
    def wanted(self) -> NDArray[np.float64]:
        """The declared conductances [S]."""
        return np.geomspace(*self.span, LEVELS)

    def solve(self, engine: Engine) -> Results:
        deck = tile_deck(self.tile, self.wanted[None])
        currents = engine.run(deck, self.applied[:, None]).columns([f"i(vcol{col})" for col in range(LEVELS)])
        return {"conductances": currents / self.applied[:, None]}

    def blank(self) -> Results:
        return {"conductances": np.full((len(self.applied), LEVELS), np.nan)}

    @property
    def operating_points(self) -> int:
        return len(self.applied)


def _check(point: DeclaredPoint, measured: NDArray[np.float64]) -> None:
    cell = point.tile.cell
    assert isinstance(cell, SubcircuitCell)
    wanted = point.wanted
    steps = np.diff(measured, axis=1)
    least = _LEAST_CHANGE * np.maximum(np.abs(measured[:, 1:]), np.abs(measured[:, :-1]))
    near = np.abs(measured - wanted) <= TOLERANCE * wanted + _LEAST_CHANGE * wanted[-1]
    if near.all(axis=1).any() or (cell.state.of == "part" and (steps > least).all(axis=1).any()):
        return
    limit = f"{wanted[0]:.4g} and {wanted[-1]:.4g} S"
    found = "; ".join(
        f"{conductances[0]:.4g} and {conductances[-1]:.4g} S at {voltage:g} V"
        for conductances, voltage in zip(measured[:2], point.applied, strict=False)
    )
    hint = 'Correct the parameter or its quantity; or declare of = "part", if it is that of a part of the cell'
    if not (np.abs(steps) > least).any():
        hint = "Programming has no effect; is it another parameter?"
        if _INITIAL.search(cell.text):
            hint = 'Programming has no effect: ic= sets no operating point. Give the state a pin "state"'
    elif cell.state.of == "part":
        level = int(np.argmin(steps[0]))
        found = (
            f"{measured[0, level]:.4g} and {measured[0, level + 1]:.4g} S at {wanted[level]:.4g} and "
            f"{wanted[level + 1]:.4g} S"
        )
        limit = "a current that rises with the conductance of the part"
        hint = "Correct the parameter, its quantity or conductance_range"
    elif (ends := near[:, [0, -1]].all(axis=1)).any():
        best = int(np.argmax(ends))
        level = int(np.argmax(np.abs(measured[best] / wanted - 1)))
        found = f"{measured[best, level]:.4g} S in place of {wanted[level]:.4g} S at {point.applied[best]:g} V"
        limit = f"the declared conductance within {TOLERANCE:.0%}"
    raise InputError(
        f"the {cell.state.quantity} of {cell.subcircuit} does not set its I/V",
        where=cell.state.parameter or "state",
        value=found,
        limit=limit,
        hint=hint,
    )
