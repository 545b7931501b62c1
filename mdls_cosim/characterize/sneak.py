"""Experiment `sneak`: can one cell of a passive array be read among all the others?

One cell is read: its row at V, its column sensed at 0 V. What reaches the column through unselected cells depends on
what their lines are tied to, the bias scheme:

    scheme     unselected rows   unselected columns   sensed besides the cell itself (ideal wires)
    floating   float             float                V / (1/((M-1)G) + 1/((N-1)(M-1)G) + 1/((N-1)G))
    grounded   0 V               0 V                  nothing
    half       V/2               V/2                  (N-1) I(V/2)
    third      V/3               2V/3                 (N-1) I(V/3)

for N rows, M columns and a background of conductance G (Flocke and Noll, ESSCIRC 2007). The worst
pattern for the selected cell off (its lowest conductance) has every other cell on, and for the cell on every other
cell off; the read margin is (I_on - I_off)/I_on of these two. It is below zero where a background outweighs the cell.
The selected cell is the one farthest from driver and sense side: row 0 is farthest from the sense side, the last
column from the driver. The drivers pay for unselected cells too: `power`.

The largest square array with a margin above `limit` is found by doubling N, then bisection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.circuits import solve
from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.dataset import Array
from mdls_cosim.quantities import SHARE, Amplitude
from mdls_cosim.spice import Engine
from mdls_cosim.tiles import ColumnEnd, Ends, RowEnd, TileSpec, gate_voltage

Scheme = Literal["floating", "grounded", "half", "third"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

BIAS: dict[Scheme, tuple[float, float] | None] = {
    "floating": None,
    "grounded": (0.0, 0.0),
    "half": (1 / 2, 1 / 2),
    "third": (1 / 3, 2 / 3),
}
"""Voltages of unselected rows and columns, as shares of the selected row's; None: they float."""


class SneakPlan(Experiment):
    """What experiment `sneak` reads."""

    voltage: Amplitude = 0.3
    """Of the selected row [V]."""
    schemes: Annotated[tuple[Scheme, ...], Field(min_length=1)] = SCHEMES
    """Bias schemes."""
    limit: Annotated[float, SHARE, Field(gt=0, lt=1)] = 0.1
    """The margin that counts as readable."""
    largest: Annotated[int, Field(ge=0, le=1024, strict=True)] = 0
    """Search for the largest readable square array up to so many lines; 0: no search."""

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One a scheme, and one a scheme for the search."""
        margins: list[Point] = [SneakPoint(scheme, tile, span, self.voltage, scheme) for scheme in self.schemes]
        if not self.largest:
            return margins
        # Of one key for every size of a campaign: searched once.
        smallest = tile.replace(rows=1, cols=1)
        return margins + [
            LargestPoint(f"largest, {scheme}", smallest, span, self.voltage, scheme, self.limit, self.largest)
            for scheme in self.schemes
        ]

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`on_current`, `off_current`, `margin`, `power` (scheme,), `scheme` codes; `largest_lines`, `limit`."""
        count = len(self.schemes)
        codes = np.array([SCHEMES.index(scheme) for scheme in self.schemes])
        units = {"on_current": "A", "off_current": "A", "margin": "1", "power": "W"}
        arrays = {
            name: Array(np.array([float(result[name]) for result in results[:count]]), unit, ("scheme",))
            for name, unit in units.items()
        }
        arrays["scheme"] = Array(codes, "1", ("scheme",))
        if self.largest:
            found = np.array([float(result["largest_lines"]) for result in results[count:]])
            arrays["largest_lines"] = Array(found, "1", ("scheme",))
        return arrays


@dataclass(frozen=True, eq=False)
class SneakPoint(Point):
    """The two worst reads of the farthest cell under one scheme; gives scalars: currents [A], margin, power [W]."""

    experiment: ClassVar[str] = "sneak"

    tile: TileSpec
    span: Span
    """Lowest and highest conductance [S]."""
    voltage: float
    scheme: Scheme

    def solve(self, engine: Engine) -> Results:
        on, _ = selected_read(engine, self.tile, self.scheme, self.voltage, cell=self.span[1], others=self.span[0])
        off, power = selected_read(engine, self.tile, self.scheme, self.voltage, cell=self.span[0], others=self.span[1])
        found = {"on_current": on, "off_current": off, "margin": (on - off) / on, "power": power}
        return {name: np.array(value) for name, value in found.items()}

    def blank(self) -> Results:
        return {name: np.array(np.nan) for name in ("on_current", "off_current", "margin", "power")}

    @property
    def operating_points(self) -> int:
        return 2


@dataclass(frozen=True, eq=False)
class LargestPoint(Point):
    """The largest square array with a margin above `limit`; gives `largest_lines` (0: none, `most`: that or more)."""

    experiment: ClassVar[str] = "sneak"

    tile: TileSpec
    span: Span
    voltage: float
    scheme: Scheme
    limit: float
    most: int

    def solve(self, engine: Engine) -> Results:
        def readable(lines: int) -> bool:
            square = self.tile.replace(rows=lines, cols=lines)
            point = SneakPoint("", square, self.span, self.voltage, self.scheme)
            return float(point.solve(engine)["margin"]) >= self.limit

        good, bad = 0, 1
        while bad <= self.most and readable(bad):
            good, bad = bad, 2 * bad
        bad = min(bad, self.most + 1)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if readable(middle) else (good, middle)
        return {"largest_lines": np.array(float(good))}

    def blank(self) -> Results:
        return {"largest_lines": np.array(np.nan)}

    @property
    def operating_points(self) -> int:
        return 2 * int(2 * np.log2(self.most) + 1)


def selected_read(
    engine: Engine, tile: TileSpec, scheme: Scheme, voltage: float, *, cell: float, others: float
) -> tuple[float, float]:
    """Sensed current [A] of the farthest cell at conductance `cell` among `others` [S], and the power drawn [W].

    Cells with a gate: the gates of the other rows are at 0 V.
    """
    conductances = np.full((tile.rows, tile.cols), others)
    row, col = 0, tile.cols - 1
    conductances[row, col] = cell
    ends, voltages = selection(tile, row, col, scheme, voltage)
    gates = selected_gates(tile, row)
    solution = solve(engine, tile, conductances, voltages, ends=ends, gates=gates, nodes=True)
    driven = [f"i(v{line}{index})" for line, index in ends.driven]
    drawn = -float((solution.result.columns(driven)[0] * voltages).sum())
    return float(solution.measured([col])[0, 0]), drawn


def selected_gates(tile: TileSpec, row: int) -> list[float] | None:
    """Gate voltages [V] that select one row; None for cells without a gate."""
    selected = gate_voltage(tile.cell)
    return None if selected is None else [selected if each == row else 0.0 for each in range(tile.rows)]


def selection(
    tile: TileSpec, row: int, col: int, scheme: Scheme, voltage: float, *, sense: bool = True
) -> tuple[Ends, NDArray[np.float64]]:
    """Ends of a tile whose cell (row, col) is selected under a bias scheme, and the voltages of its driven ends [V].

    sense: the selected column is sensed (a read); else it is driven to 0 V (a write).
    """
    bias = BIAS[scheme]
    rows: tuple[RowEnd, ...] = tuple("drive" if bias or i == row else "float" for i in range(tile.rows))
    selected: ColumnEnd = "sense" if sense else "drive"
    columns: tuple[ColumnEnd, ...] = tuple(
        selected if j == col else "drive" if bias else "float" for j in range(tile.cols)
    )
    share_row, share_column = bias or (0.0, 0.0)
    values = [voltage if i == row else share_row * voltage for i, end in enumerate(rows) if end == "drive"]
    values += [0.0 if j == col else share_column * voltage for j, end in enumerate(columns) if end == "drive"]
    return Ends(rows, columns), np.array(values)
