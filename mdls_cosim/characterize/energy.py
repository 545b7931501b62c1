"""Experiment `energy`: what a read and a write of a tile cost, and where the energy goes.

A pulse of the sources (trapezoidal, `EDGE` of its width for each edge) is run as a transient with all capacitances,
until the tile is at rest again. Every source of the rows and columns delivers

    E_s = integral of V_s I_s dt,

and as nothing stays stored, their sum is what drivers, wires, cells and sense side turn into heat:

    E = R_driver int I^2 + sum over wires int (dV)^2/R + sum over cells int (u - v) i(u, v) dt + int v_sense I_col dt.

The right side is computed from node voltages and the devices' own equations, independently of the sources' currents:
`residual` is the difference over E, and shows that the balance closes. Behind an amplifier the sense side is what
enters its input; its own supply is not counted. A read pulses all rows at once; a write (cells whose state moves)
pulses one cell under a bias scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.circuits import line_voltages, programmed
from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.patterns import INPUT_CLASSES, InputClass, draw_conductances, draw_inputs
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.characterize.settle import slowest_time_constant
from mdls_cosim.characterize.sneak import Scheme, selected_gates, selection
from mdls_cosim.characterize.transients import EDGE, start_states
from mdls_cosim.config import Config
from mdls_cosim.dataset import Array
from mdls_cosim.devices import DynamicDevice
from mdls_cosim.errors import NotAvailable, SpiceNoConvergence
from mdls_cosim.quantities import Amplitude as PositiveVoltage
from mdls_cosim.quantities import Duration, Voltage
from mdls_cosim.spice import Engine, Waveforms, Waves
from mdls_cosim.tiles import Ends, SelectorCell, TileSpec, TransistorCell, driver_resistance, per_line, tile_deck

Floats = NDArray[np.float64]

_AT_REST = 1e-5
_MOST_EXTENSIONS = 20
_MOST_STEPS = 20_000

PARTS = ("drivers", "wires", "cells", "sense")
"""Where energy goes."""


class WritePulse(Config):
    """The pulse whose energy is found, on cell (0, cols - 1), the farthest."""

    voltage: Voltage
    """Of the selected row, of either sign [V]."""
    width: Duration = 100e-9
    """Time at full voltage [s]."""
    scheme: Scheme = "half"
    """What unselected lines are tied to."""


class EnergyPlan(Experiment):
    """Which pulses experiment `energy` runs."""

    voltage: PositiveVoltage = 0.3
    """Largest row voltage of a read [V]."""
    read_time: Duration = 10e-9
    """Time of a read at full voltage [s]."""
    input_classes: Annotated[tuple[InputClass, ...], Field(min_length=1)] = INPUT_CLASSES
    """Classes of inputs; one input of each for every tile."""
    tiles: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Tiles drawn."""
    write: WritePulse | None = None
    """A write pulse; absent: reads only."""

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One a tile and input class; one a tile for the write."""
        if tile.device is None:
            raise NotAvailable(
                "the energy of a user's subcircuit: its inside is its own",
                where="tile.cell",
                hint="Leave out [energy].",
            )
        generator = np.random.default_rng(seed)
        points: list[Point] = []
        for number in range(self.tiles):
            conductances = draw_conductances("uniform", tile.rows, tile.cols, span, generator)
            for kind in self.input_classes:
                inputs = draw_inputs(kind, 1, tile.rows, self.voltage, generator)[0]
                ends = Ends.of_read(tile)
                points.append(
                    EnergyPoint(f"tile {number}, {kind}", tile, conductances, inputs, ends, None, self.read_time)
                )
            if self.write is not None:
                pulse = self.write
                ends, values = selection(tile, 0, tile.cols - 1, pulse.scheme, pulse.voltage, sense=False)
                label = f"tile {number}, write"
                points.append(EnergyPoint(label, tile, conductances, values, ends, 0, pulse.width))
        return points

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`read_energy` (tile, vector), `read_parts` (tile, vector, part), `read_residual`; likewise `write_*`."""
        per_tile = len(self.input_classes) + (self.write is not None)
        reads = [result for index, result in enumerate(results) if index % per_tile < len(self.input_classes)]
        shape = (self.tiles, len(self.input_classes))
        arrays = {
            "input_class": Array(np.array([INPUT_CLASSES.index(kind) for kind in self.input_classes]), "1", ("vector",))
        }
        arrays |= _arrays("read", reads, shape, ("tile", "vector"))
        if self.write is not None:
            writes = [result for index, result in enumerate(results) if index % per_tile == per_tile - 1]
            arrays |= _arrays("write", writes, (self.tiles,), ("tile",))
            selected = np.array([float(result["selected"]) for result in writes])
            arrays["write_selected"] = Array(selected, "J", ("tile",))
        return arrays


def _arrays(
    kind: str, results: Sequence[Mapping[str, Floats]], shape: tuple[int, ...], dims: tuple[str, ...]
) -> dict[str, Array]:
    def stacked(name: str) -> Floats:
        found = np.stack([result[name] for result in results])
        return found.reshape(*shape, *found.shape[1:])

    return {
        f"{kind}_energy": Array(stacked("energy"), "J", dims),
        f"{kind}_parts": Array(stacked("parts"), "J", (*dims, "part")),
        f"{kind}_residual": Array(stacked("residual"), "1", dims),
    }


@dataclass(frozen=True, eq=False)
class EnergyPoint(Point):
    """One pulse. Gives `energy` [J] that all sources deliver, `parts` (part,) [J] in the order of PARTS, `residual`
    [1], and `selected` [J]: of the farthest cell."""

    experiment: ClassVar[str] = "energy"

    tile: TileSpec
    conductances: Floats
    voltages: Floats
    """Of the driven rows, then the driven columns [V]."""
    ends: Ends
    selected_row: int | None
    """Whose gate alone is open (transistor cells); None: all."""
    width: float

    def solve(self, engine: Engine) -> Results:
        tile = self.tile
        state: dict[str, Any] = programmed(engine, tile, self.conductances)
        gates = None if self.selected_row is None else selected_gates(tile, self.selected_row)
        deck = tile_deck(tile, **state, ends=self.ends, gates=gates, transient=True, nodes=True)
        states = start_states(engine, tile, self.conductances)
        edge = EDGE * self.width
        rest = max(edge, 10 * slowest_time_constant(tile, self.conductances))
        values = np.outer([0.0, 1.0, 1.0, 0.0, 0.0], self.voltages)
        for _ in range(_MOST_EXTENSIONS):
            knots = np.cumsum([0.0, edge, self.width, edge, rest])
            waves = Waves(
                knots, values, longest_step=max(min(self.width, rest) / 80, knots[-1] / _MOST_STEPS), tolerance=1e-6
            )
            result = engine.transient(deck, waves)
            left = max(float(np.abs(lines[-1]).max()) for lines in line_voltages(tile, result))
            # Stored energy goes with the square of what is left.
            if left < _AT_REST * np.abs(self.voltages).max():
                return energies(tile, self.ends, waves, result, states)
            rest *= 2
        raise SpiceNoConvergence("the tile does not come to rest", where=deck.title, value=f"not in {rest / 2:.3g} s")

    def blank(self) -> Results:
        shapes = {"energy": (), "parts": (len(PARTS),), "residual": (), "selected": ()}
        return {name: np.full(shape, np.nan) for name, shape in shapes.items()}

    @property
    def operating_points(self) -> int:
        return 1


def energies(tile: TileSpec, ends: Ends, waves: Waves, result: Waveforms, states: Floats) -> Results:
    """Energy delivered and dissipated over a transient of a deck made with `nodes=True`; see EnergyPoint."""
    rows, columns = line_voltages(tile, result)
    times = result.times
    names = ends.driven
    driven = np.stack([np.interp(times, waves.times, values) for values in waves.values.T], axis=1)
    drawn = -result.columns([f"i(v{line}{index})" for line, index in names])
    delivered = _integral(driven, drawn, times)
    drivers = wires = np.zeros(1)
    for source, (line, index) in zip(driven.T, names, strict=True):
        if resistance := driver_resistance(tile, line, index):
            drop = source[:, None] - _reached(tile, rows, columns, line, index)
            drivers = drivers + _integral(drop, drop / resistance, times).sum()
    for lines, given in ((rows, tile.row_line_resistance), (columns.swapaxes(1, 2), tile.column_line_resistance)):
        for index, resistance in enumerate(per_line(given, lines.shape[1])):
            if resistance:
                drop = np.diff(lines[:, index])
                wires = wires + _integral(drop, drop / (resistance * tile.wire_factor), times).sum()
    cells = _integral(rows - columns, _cell_currents(tile, result, rows, columns, states), times)
    sensed = [j for j, end in enumerate(ends.columns) if end == "sense"]
    sense = np.zeros(1)
    if sensed:
        currents = result.columns([f"i(vcol{j})" for j in sensed])
        sense = _integral(columns[:, -1, sensed], currents, times)
    total = float(delivered.sum())
    parts = np.array([float(part.sum()) for part in (drivers, wires, cells, sense)])
    return {
        "energy": np.array(total),
        "parts": parts,
        "residual": np.array((total - parts.sum()) / total),
        "selected": np.array(float(cells[0, -1])),
    }


def _reached(tile: TileSpec, rows: Floats, columns: Floats, line: str, index: int) -> Floats:
    """Voltages (points, ends) where the driver of a line meets it."""
    if line == "col":
        return columns[:, -1:, index]
    return rows[:, index, [0, -1]] if tile.drive == "double" else rows[:, index, :1]


def _cell_currents(tile: TileSpec, result: Waveforms, rows: Floats, columns: Floats, states: Floats) -> Floats:
    """Current through every memristor (points, rows, cols) [A], by the device's own equation."""
    device = tile.device
    assert device is not None
    cells = [f"{row}_{col}" for row in range(tile.rows) for col in range(tile.cols)]
    lower = columns
    if isinstance(tile.cell, SelectorCell | TransistorCell):
        lower = result.columns([f"v(mid{tag})" for tag in cells]).reshape(rows.shape)
    if isinstance(device, DynamicDevice):
        states = result.columns([f"v(state{tag})" for tag in cells]).reshape(rows.shape)
    return np.asarray(device.current(rows - lower, states, tile.temperature))


def _integral(voltages: Floats, currents: Floats, times: Floats) -> Floats:
    """Of the product over time [J], for what is straight between the points of time (axis 0); keeps further axes.

    By Tellegen's theorem the products of the voltages of one instant and the currents of another balance too, so the
    rule is as exact for the balance as it is for each part.
    """
    before, after = (voltages[:-1], currents[:-1]), (voltages[1:], currents[1:])
    products = 2 * (before[0] * before[1] + after[0] * after[1]) + before[0] * after[1] + after[0] * before[1]
    return np.tensordot(np.diff(times) / 6, products, axes=1)
