"""A small circuit solver of its own: named nodes, elements as functions, Newton steps on Kirchhoff's current law.

For circuits that `kirchhoff.py` does not know: drives at both ends, broken, bridged, floating and biased lines,
selectors, transistors, capacitors. A resistor of zero ohm joins its nodes. Dense and plain: small circuits only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.linalg import expm

Node = Hashable
GROUND: Node = "ground"


class Network:
    """Nodes come to be by use. `element(nodes, currents)`: currents(voltages) -> currents out of the nodes into it."""

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}
        self.held: dict[Node, float] = {GROUND: 0.0}
        self.elements: list[tuple[tuple[Node, ...], Callable[[np.ndarray], np.ndarray]]] = []
        self.resistors: list[tuple[Node, Node, float]] = []
        self.capacitors: list[tuple[Node, Node, float]] = []

    def find(self, node: Node) -> Node:
        parent = self._parent.setdefault(node, node)
        if parent != node:
            parent = self._parent[node] = self.find(parent)
        return parent

    def hold(self, node: Node, volts: float) -> None:
        self.held[node] = volts

    def resistor(self, one: Node, other: Node, ohm: float) -> None:
        if ohm == 0:
            self._parent[self.find(one)] = self.find(other)
        else:
            self.resistors.append((one, other, ohm))
            self.conductor(one, other, 1 / ohm)

    def conductor(self, one: Node, other: Node, siemens: float) -> None:
        self.two_terminal(one, other, lambda v: siemens * v)

    def two_terminal(self, one: Node, other: Node, current: Callable[[float], float]) -> None:
        def currents(voltages: np.ndarray) -> np.ndarray:
            i = current(voltages[0] - voltages[1])
            return np.array([i, -i])

        self.element((one, other), currents)

    def element(self, nodes: Sequence[Node], currents: Callable[[np.ndarray], np.ndarray]) -> None:
        self.elements.append((tuple(nodes), currents))

    def capacitor(self, one: Node, other: Node, farad: float) -> None:
        self.capacitors.append((one, other, farad))

    def solve(self, scale: float = 1e-6) -> Operating:
        """The operating point; `scale` [A] is what a violation is measured against."""
        places, known = self._numbering()
        unknown = len(places) - len(known)
        potentials = np.zeros(len(places))
        for place, volts in known.items():
            potentials[place] = volts
        indices = [np.array([places[self.find(node)] for node in nodes]) for nodes, _ in self.elements]

        def gathered(potentials: np.ndarray) -> np.ndarray:
            total = np.zeros(len(places))
            for (_, currents), index in zip(self.elements, indices, strict=True):
                np.add.at(total, index, currents(potentials[index]))
            return total

        left = gathered(potentials)[:unknown]
        for _ in range(400 if unknown else 0):
            jacobian = np.zeros((len(places), len(places)))
            for (_, currents), index in zip(self.elements, indices, strict=True):
                at = potentials[index]
                for k in range(len(index)):
                    step = np.zeros(len(index))
                    step[k] = 1e-7
                    slope = (currents(at + step) - currents(at - step)) / 2e-7
                    np.add.at(jacobian, (index, index[k]), slope)
            move = np.linalg.solve(jacobian[:unknown, :unknown], -left)
            share, better = 1.0, False
            while share > 1e-8:
                trial = potentials.copy()
                trial[:unknown] += share * move
                found = gathered(trial)[:unknown]
                if np.isfinite(found).all() and np.abs(found).sum() < np.abs(left).sum():
                    potentials, left, better = trial, found, True
                    break
                share /= 2
            if not better:
                break
        # Rounding in the best conductor is what may be left.
        conduction = max((1 / ohm for *_, ohm in self.resistors), default=0.0)
        allowed = 1e-11 * scale + 1e-14 * conduction * max(map(abs, self.held.values()))
        assert np.abs(left).max(initial=0) <= allowed, f"the reference did not converge: {np.abs(left).max()}"
        return Operating(self, places, potentials, gathered(potentials))

    def step_response(self, times: np.ndarray, nodes: Sequence[Node]) -> np.ndarray:
        """Voltages (times, nodes) of a network of conductors and capacitors, from rest, held nodes stepping at 0 s.

        Every node that is not held needs a capacitor. By the matrix exponential of C dv/dt = -G v - b.
        """
        places, known = self._numbering()
        unknown = len(places) - len(known)
        conduction, capacity = np.zeros((2, len(places), len(places)))
        for pair, currents in self.elements:
            siemens = currents(np.array([1.0, 0.0]))[0]
            self._stamp(conduction, places, pair, siemens)
        for one, other, farad in self.capacitors:
            self._stamp(capacity, places, (one, other), farad)
        sources = np.array([known[place] for place in range(unknown, len(places))])
        g, c = conduction[:unknown, :unknown], capacity[:unknown, :unknown]
        # A step of the held nodes throws charge through the capacitors that tie them to the others at once.
        first = np.linalg.solve(c, -capacity[:unknown, unknown:] @ sources)
        final = np.linalg.solve(g, -conduction[:unknown, unknown:] @ sources)
        drift = np.linalg.solve(c, g)
        found = np.stack([final + expm(-drift * time) @ (first - final) for time in times])
        whole = np.concatenate([found, np.tile(sources, (len(times), 1))], axis=1)
        return whole[:, [places[self.find(node)] for node in nodes]]

    def _stamp(self, matrix: np.ndarray, places: dict[Node, int], pair: Sequence[Node], value: float) -> None:
        a, b = (places[self.find(node)] for node in pair)
        matrix[a, a] += value
        matrix[b, b] += value
        matrix[a, b] -= value
        matrix[b, a] -= value

    def _numbering(self) -> tuple[dict[Node, int], dict[int, float]]:
        named = [node for nodes, _ in self.elements for node in nodes]
        named += [node for one, other, _ in self.capacitors for node in (one, other)]
        roots = dict.fromkeys(self.find(node) for node in [*named, *self.held])
        held: dict[Node, float] = {}
        for node, volts in self.held.items():
            assert held.setdefault(self.find(node), volts) == volts, f"{node} is held at two voltages"
        order = [root for root in roots if root not in held] + list(held)
        places = {root: index for index, root in enumerate(order)}
        return places, {places[root]: volts for root, volts in held.items()}


class Operating:
    """A solved Network."""

    def __init__(self, network: Network, places: dict[Node, int], potentials: np.ndarray, out: np.ndarray) -> None:
        self._network, self._places, self._potentials, self._out = network, places, potentials, out

    def voltage(self, node: Node) -> float:
        return float(self._potentials[self._places[self._network.find(node)]])

    def delivered(self, node: Node) -> float:
        """Current [A] that whatever holds the node puts into the circuit; negative where it takes."""
        return float(self._out[self._places[self._network.find(node)]])


def crossbar(
    network: Network,
    rows: int,
    cols: int,
    cell: Callable[[int, int, Node, Node], None],
    *,
    row_line: float = 0.0,
    column_line: float = 0.0,
    driver: float = 0.0,
    sense: float = 0.0,
    double: bool = False,
    open_rows: Sequence[tuple[int, int]] = (),
    open_columns: Sequence[tuple[int, int]] = (),
    shorted_rows: Sequence[tuple[int, int]] = (),
    shorted_columns: Sequence[tuple[int, int]] = (),
    short: float = 1.0,
    row_ends: Sequence[str] | None = None,
    column_ends: Sequence[str] | None = None,
) -> None:
    """Wires of a crossbar, cells by `cell(i, j, row node, column node)`; sources are ("row", i), ends ("col", j).

    Nodes ("u", i, j) on row lines, ("v", i, j) on column lines; who wants them held holds ("row", i) and ("col", j).
    """
    for i in range(rows):
        if row_ends is None or row_ends[i] == "drive":
            if (i, 0) not in open_rows:
                network.resistor(("row", i), ("u", i, 0), driver)
            if double and (i, cols) not in open_rows:
                network.resistor(("row", i), ("u", i, cols - 1), driver)
        for j in range(cols - 1):
            if (i, j + 1) not in open_rows:
                network.resistor(("u", i, j), ("u", i, j + 1), row_line)
    for j in range(cols):
        end = "sense" if column_ends is None else column_ends[j]
        if end != "float" and (j, rows) not in open_columns:
            network.resistor(("col", j), ("v", rows - 1, j), sense if end == "sense" else driver)
        for i in range(rows - 1):
            if (j, i + 1) not in open_columns:
                network.resistor(("v", i, j), ("v", i + 1, j), column_line)
    for i, j in shorted_rows:
        network.resistor(("u", i, j), ("u", i + 1, j), short)
    for j, i in shorted_columns:
        network.resistor(("v", i, j), ("v", i, j + 1), short)
    for i in range(rows):
        for j in range(cols):
            cell(i, j, ("u", i, j), ("v", i, j))


def column_currents(
    conductances: np.ndarray, voltages: np.ndarray, cell: Callable[..., None] | None = None, **wires
) -> np.ndarray:
    """(vectors, cols) [A] into held column ends; cell(network, g, i, j, row node, column node), ohmic if absent."""
    rows, cols = conductances.shape
    found = []
    for vector in np.atleast_2d(voltages):
        network = Network()

        def add(i: int, j: int, u: Node, v: Node, network: Network = network) -> None:
            if cell is None:
                network.conductor(u, v, float(conductances[i, j]))
            else:
                cell(network, float(conductances[i, j]), i, j, u, v)

        for i, volts in enumerate(vector):
            network.hold(("row", i), float(volts))
        for j in range(cols):
            network.hold(("col", j), 0.0)
        crossbar(network, rows, cols, add, **wires)
        solved = network.solve()
        found.append([-solved.delivered(("col", j)) for j in range(cols)])
    return np.array(found)
