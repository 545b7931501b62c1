"""An independent circuit solver for tiles: named nodes, branches and a sparse matrix, nothing of the package's algebra.

Every wire, end and cell is a branch between two named nodes. A wire of zero resistance joins its nodes (union-find)
before any equation is written, so ideal wires are exact. Then Kirchhoff's current law is written for every node that
is neither driven nor grounded, and solved by damped Newton steps with scipy's sparse LU. Residuals are computed in
extended precision and the steps repeated (iterative refinement, for ohmic cells too), so that the reference is right to
more digits than what is tested against it. Slow and plain on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import splu

Floats = NDArray[np.float64]
GROUND = "ground"


class _Nodes:
    """Names joined into sets."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def find(self, name: object) -> object:
        parent = self._parent.setdefault(name, name)
        if parent != name:
            parent = self._parent[name] = self.find(parent)
        return parent

    def join(self, one: object, other: object) -> None:
        self._parent[self.find(one)] = self.find(other)

    def names(self) -> list[object]:
        return list(self._parent)


@dataclass(frozen=True)
class Solution:
    """All of one circuit for a batch of inputs."""

    cell_voltages: Floats  # (batch, rows, cols) [V]
    cell_currents: Floats  # (batch, rows, cols) [A]
    wire_power: Floats  # (batch,) [W], dissipated in wires, drivers and sense resistances

    @property
    def currents(self) -> Floats:
        """(batch, cols) [A]: all that a column's cells pass ends at its sense node."""
        return self.cell_currents.sum(1)

    @property
    def driver_currents(self) -> Floats:
        """(batch, rows) [A]: a driver feeds the cells of its row and nothing else."""
        return self.cell_currents.sum(2)

    @property
    def cell_power(self) -> Floats:
        """(batch,) [W]."""
        return (self.cell_voltages * self.cell_currents).sum((1, 2))


@dataclass(frozen=True)
class _Circuit:
    """Branches between numbered nodes, those with unknown potential first; (2, branches) arrays of ends."""

    unknown: int
    cells: NDArray[np.int64]
    wires: NDArray[np.int64]
    wire_conductances: Floats  # [S]

    def drops(self, potentials: Floats) -> tuple[Floats, Floats]:
        """Voltages over cells and over wires [V]."""
        cells, wires = potentials[self.cells], potentials[self.wires]
        return cells[0] - cells[1], wires[0] - wires[1]

    def gather(self, cell_currents: Floats, wire_currents: Floats) -> Floats:
        """Currents out of the unknown nodes [A]."""
        total = np.zeros(max(self.cells.max(), self.wires.max(initial=0)) + 1, dtype=np.longdouble)
        for ends, currents in ((self.cells, cell_currents), (self.wires, wire_currents)):
            np.add.at(total, ends[0], currents)
            np.subtract.at(total, ends[1], currents)
        return total[: self.unknown]

    def jacobian(self, slopes: Floats) -> csc_matrix:
        """Of `gather` in the unknown potentials [S]."""
        head, tail = np.concatenate([self.cells, self.wires], axis=1)
        slope = np.concatenate([slopes, self.wire_conductances]).astype(float)
        rows = np.concatenate([head, tail, head, tail])
        columns = np.concatenate([head, tail, tail, head])
        values = np.concatenate([slope, slope, -slope, -slope])
        mine = (rows < self.unknown) & (columns < self.unknown)
        size = (self.unknown, self.unknown)
        return coo_matrix((values[mine], (rows[mine], columns[mine])), shape=size).tocsc()


def _of(resistance: float | tuple[float, ...], line: int) -> float:
    return resistance[line] if isinstance(resistance, tuple) else resistance


@dataclass(frozen=True)
class Tile:
    """Rows are driven at column 0, columns are sensed below the last row.

    Resistances in ohm, one for all lines or (line,).
    nonlinearity [1/V]: None for ohmic cells, else I = G sinh(a V) / a.
    double: rows are driven at their last column too.
    """

    rows: int
    cols: int
    row_line: float | tuple[float, ...]
    column_line: float | tuple[float, ...]
    driver: float | tuple[float, ...]
    sense: float | tuple[float, ...]
    nonlinearity: float | None = None
    double: bool = False

    @classmethod
    def of(cls, spec) -> Tile:
        """The same circuit as a TileSpec whose conductances are small-signal ones."""
        if spec.reference_voltage:
            raise ValueError("convert the conductances first")
        return cls(
            spec.rows,
            spec.cols,
            spec.row_line_resistance,
            spec.column_line_resistance,
            spec.driver_resistance,
            spec.sense_resistance,
            getattr(spec.cell, "nonlinearity", None),
            spec.drive == "double",
        )

    def _wires(self) -> list[tuple[object, object, float]]:
        wires: list[tuple[object, object, float]] = []
        for i in range(self.rows):
            wires.append((("source", i), ("u", i, 0), _of(self.driver, i)))
            wires += [(("u", i, j), ("u", i, j + 1), _of(self.row_line, i)) for j in range(self.cols - 1)]
            if self.double:
                wires.append((("source", i), ("u", i, self.cols - 1), _of(self.driver, i)))
        for j in range(self.cols):
            wires += [(("v", i, j), ("v", i + 1, j), _of(self.column_line, j)) for i in range(self.rows - 1)]
            wires.append((("v", self.rows - 1, j), GROUND, _of(self.sense, j)))
        return wires

    @cached_property
    def _circuit(self) -> _Circuit:
        nodes, wires = _Nodes(), self._wires()
        for one, other, resistance in wires:
            if resistance == 0:
                nodes.join(one, other)
            else:
                nodes.find(one), nodes.find(other)
        # Unknown nodes first, then the sources, ground last.
        held = [nodes.find(("source", i)) for i in range(self.rows)] + [nodes.find(GROUND)]
        roots = dict.fromkeys(nodes.find(name) for name in nodes.names())
        unknown = [root for root in roots if root not in held]
        place = {root: index for index, root in enumerate([*unknown, *held])}

        def ends(branches: list[tuple[object, object]]) -> NDArray[np.int64]:
            return np.array([[place[nodes.find(end)] for end in pair] for pair in branches], dtype=int).reshape(-1, 2).T

        resistive = [wire for wire in wires if wire[2] > 0 and nodes.find(wire[0]) != nodes.find(wire[1])]
        return _Circuit(
            unknown=len(unknown),
            cells=ends([(("u", i, j), ("v", i, j)) for i in range(self.rows) for j in range(self.cols)]),
            wires=ends([(one, other) for one, other, _ in resistive]),
            wire_conductances=1 / np.array([resistance for *_, resistance in resistive], dtype=np.longdouble),
        )

    def solve(self, conductances: Floats, voltages: Floats) -> Solution:
        """conductances (rows, cols) [S], voltages (batch, rows) [V]."""
        circuit, a = self._circuit, self.nonlinearity
        states = np.asarray(conductances, np.longdouble).ravel()
        drops, wire_power = [], []
        factors = None
        for source in np.asarray(voltages, np.longdouble):
            potentials = np.concatenate([np.zeros(circuit.unknown), source, [0.0]]).astype(np.longdouble)

            def violation(potentials: Floats) -> Floats:
                """Sum of the currents out of every unknown node [A]."""
                over_cells, over_wires = circuit.drops(potentials)
                return circuit.gather(self._cell_currents(states, over_cells), circuit.wire_conductances * over_wires)

            left = violation(potentials)
            for _ in range(100 if circuit.unknown else 0):
                if a is not None or factors is None:
                    over_cells, _ = circuit.drops(potentials)
                    factors = splu(circuit.jacobian(states if a is None else states * np.cosh(a * over_cells)))
                step = np.zeros_like(potentials)
                step[: circuit.unknown] = factors.solve(-left.astype(float))
                share = 1.0
                while share > 1e-6 and not np.abs(violation(potentials + share * step)).sum() < np.abs(left).sum():
                    share /= 2
                if share <= 1e-6:
                    break  # rounding is all that is left
                potentials = potentials + share * step
                left = violation(potentials)
                if np.abs(step).max() < 1e-19:
                    break
            over_cells, over_wires = circuit.drops(potentials)
            # Rounding of the largest cell and wire currents is all that may be left.
            cell_currents = self._cell_currents(states, over_cells)
            largest = np.abs(cell_currents).max() + circuit.wire_conductances.max(initial=0) * np.abs(source).max()
            limit = 100 * np.finfo(np.longdouble).eps * largest
            assert np.abs(left).max(initial=0) <= limit, f"the reference itself did not converge: {np.abs(left).max()}"
            drops.append(over_cells.reshape(self.rows, self.cols))
            wire_power.append((circuit.wire_conductances * over_wires**2).sum())
        cell_voltages = np.stack(drops)
        currents = self._cell_currents(states.reshape(self.rows, self.cols), cell_voltages)
        return Solution(cell_voltages.astype(float), currents.astype(float), np.array(wire_power, dtype=float))

    def _cell_currents(self, states: Floats, over_cells: Floats) -> Floats:
        a = self.nonlinearity
        return states * over_cells if a is None else states * np.sinh(a * over_cells) / a

    def effective_conductances(self, conductances: Floats) -> Floats:
        """(rows, cols) [S]: the column currents under 1 V at one row after the other. Ohmic cells only."""
        assert self.nonlinearity is None
        return self.solve(conductances, np.eye(self.rows)).currents
