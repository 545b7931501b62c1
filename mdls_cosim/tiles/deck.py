"""The deck of a tile: its circuit as SPICE text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.spice import Deck, OperatingPoints, Waveforms, format_number
from mdls_cosim.tiles.cell_elements import CellElements, instance_parameters
from mdls_cosim.tiles.spec import TileSpec, per_line
from mdls_cosim.tiles.states import cell_states

Floats = NDArray[np.float64]
RowEnd = Literal["drive", "float"]
ColumnEnd = Literal["sense", "drive", "float"]


@dataclass(frozen=True)
class Ends:
    """What the end of each line is tied to: a driver, the sense side, or nothing."""

    rows: tuple[RowEnd, ...]
    columns: tuple[ColumnEnd, ...]

    @classmethod
    def of_read(cls, spec: TileSpec) -> Self:
        """Every row driven, every column sensed."""
        return cls(("drive",) * spec.rows, ("sense",) * spec.cols)

    @property
    def driven(self) -> list[tuple[str, int]]:
        """The driven lines, ("row", i) then ("col", j), in the order of the deck's sources `Vrow{i}`, `Vcol{j}`."""
        rows = [("row", i) for i, end in enumerate(self.rows) if end == "drive"]
        return rows + [("col", j) for j, end in enumerate(self.columns) if end == "drive"]


@dataclass(frozen=True)
class LineFaults:
    """Broken and bridged lines.

    open_rows:      (row, k): row line broken before the cell of column k; k = 0 at the driver, k = cols at a far one
    open_columns:   (column, k): column line broken before the cell of row k; k = rows: at the sense side
    shorted_rows:   (row, col): row lines `row` and `row + 1` bridged at column `col`
    shorted_columns: (column, row): column lines `column` and `column + 1` bridged at row `row`
    short_resistance: of each bridge [ohm]
    """

    open_rows: tuple[tuple[int, int], ...] = ()
    open_columns: tuple[tuple[int, int], ...] = ()
    shorted_rows: tuple[tuple[int, int], ...] = ()
    shorted_columns: tuple[tuple[int, int], ...] = ()
    short_resistance: float = 1.0


def row_nets(spec: TileSpec, faults: LineFaults | None = None) -> list[list[str]]:
    """Nets of the row lines, [row][col]; one net for a whole line, or piece of one, where its wire is ideal."""
    faults = faults or LineFaults()
    wires, drivers = (per_line(each, spec.rows) for each in (spec.row_line_resistance, spec.driver_resistance))
    nets = _line_nets("row", "col", wires, spec.cols, faults.open_rows)
    for row, line in enumerate(nets if spec.drive == "double" and spec.cols > 1 else ()):
        whole = not {(row, 0), (row, spec.cols)} & set(faults.open_rows)
        if whole and wires[row] and not drivers[row]:
            line[-1] = line[0]  # one ideal source holds both ends
    return nets


def column_nets(spec: TileSpec, faults: LineFaults | None = None) -> list[list[str]]:
    """Nets of the column lines, [col][row]; one net for a whole line, or piece of one, where its wire is ideal."""
    faults = faults or LineFaults()
    wires = per_line(spec.column_line_resistance, spec.cols)
    return _line_nets("col", "row", wires, spec.rows, faults.open_columns)


def tile_deck(
    spec: TileSpec,
    conductances: ArrayLike | None = None,
    *,
    states: ArrayLike | None = None,
    ends: Ends | None = None,
    faults: LineFaults | None = None,
    gates: Sequence[float] | None = None,
    speeds: ArrayLike | None = None,
    second_states: ArrayLike | None = None,
    transient: bool = False,
    nodes: bool = False,
) -> Deck:
    """The circuit of a tile.

    Sources, in this order: `Vrow{i}` of every driven row, `Vcol{j}` of every driven column, and for reads of selectors
    with hysteresis `Vbranch{i}_{j}` of every cell (0 off, 1 on). Probes: `i(vcol{j})`, the current of every column
    that does not float, positive into its end; with an amplifier also its output `v(col{j}_out)`. A zero resistance
    merges nets: the deck holds no resistor for it.

    Args:
        spec: the tile.
        conductances: (rows, cols) [S] of the memristors (of the whole cell, for a user's subcircuit).
        states: (rows, cols), states to set instead of conductances.
        ends: what the lines are tied to; absent: a read of the whole tile.
        faults: broken and bridged lines.
        gates: (rows,) voltages of the gate lines of cells with a gate [V]; absent: all selected.
        speeds: (rows, cols), factors of the rate at which states of dynamic devices move; absent: 1.
        second_states: (rows, cols), of users' cells with a second state; absent: as they are when programmed.
        transient: with capacitances, and with states that move from where they are set; else they are held.
        nodes: probe every net of lines and cells too, in a transient every state, and the currents of all sources.

    Raises:
        InputError: wrong shapes; conductances negative or not finite; a fault or gate that the tile does not have.
        NotAvailable: conductances of a subcircuit whose state has to be found by measurement first.
    """
    ends = ends or Ends.of_read(spec)
    faults = faults or LineFaults()
    _check_ends(spec, ends)
    _check_faults(spec, faults)
    rows, columns = row_nets(spec, faults), column_nets(spec, faults)
    cells = CellElements(spec, cell_states(spec, conductances, states), transient, gates, speeds, second_states)
    elements = cells.elements(rows, columns)
    elements += _wires(spec, "row", rows, spec.row_line_resistance, faults.open_rows)
    elements += _wires(spec, "col", columns, spec.column_line_resistance, faults.open_columns)
    elements += _bridges(rows, columns, faults)
    if transient:
        elements += _capacitors(spec, rows, columns)
    probes = []
    for row, end in enumerate(ends.rows):
        if end == "drive":
            reached = _row_ends(spec, rows[row], row, faults)
            elements += _driver(driver_resistance(spec, "row", row), f"row{row}", reached)
    for col, end in enumerate(ends.columns):
        broken = (col, spec.rows) in faults.open_columns
        line_end = f"col{col}_broken" if broken else columns[col][-1]
        if end == "drive":
            elements += _driver(driver_resistance(spec, "col", col), f"col{col}", [line_end])
        elif end == "sense":
            elements += _sense(spec, col, line_end, transient)
        if end != "float":
            probes.append(f"i(vcol{col})")
        if end == "sense" and spec.amplifier is not None:
            probes.append(f"v(col{col}_out)")
    grounded = [line.split()[0] for line in elements if line.startswith(("Vrow", "Vcol", "Vgate", "Vbulk", "Vsub"))]
    if nodes:
        nets = dict.fromkeys(net for line in (*rows, *columns) for net in line)
        probes += [f"v({net})" for net in (*nets, *cells.middle_nets, *cells.state_nets)]
        probes += [f"i({name.lower()})" for name in grounded if f"i({name.lower()})" not in probes]
    return Deck(
        title=f"tile {spec.rows}x{spec.cols} {spec.cell.model}",
        elements=tuple(elements),
        models=cells.models() + (("transimpedance",) if spec.amplifier is not None and transient else ()),
        sources=(*(f"V{line}{index}" for line, index in ends.driven), *cells.branch_sources),
        probes=tuple(probes),
        balance=tuple(f"i({name.lower()})" for name in grounded),
        temperature=spec.temperature,
        osdi=cells.osdi(),
        initial=cells.initial,
    )


def driver_resistance(spec: TileSpec, line: str, index: int) -> float:
    """Of the driver of one line, `line` being "row" or "col" [ohm]; driven columns have drivers as the rows have.

    Raises:
        NotAvailable: a column, where every row has a driver resistance of its own.
    """
    if line == "row":
        return per_line(spec.driver_resistance, spec.rows)[index]
    if isinstance(spec.driver_resistance, tuple):
        raise NotAvailable(
            "columns are driven, and every row has a driver resistance of its own",
            where="driver_resistance",
            hint="Set one driver resistance for all.",
        )
    return spec.driver_resistance


def measured_currents(spec: TileSpec, result: OperatingPoints | Waveforms, columns: Sequence[int]) -> Floats:
    """What the sense side says of the column currents (points, len(columns)) [A]: -v_out/R_f behind an amplifier."""
    if spec.amplifier is None:
        return result.columns([f"i(vcol{col})" for col in columns])
    return -result.columns([f"v(col{col}_out)" for col in columns]) / spec.amplifier.feedback_resistance


# --- lines ------------------------------------------------------------------------------------------------------


def _line_nets(
    line: str, cell: str, wires: Sequence[float], cells: int, broken: Sequence[tuple[int, int]]
) -> list[list[str]]:
    """Net names [line][cell]; an ideal wire is one net, or one for each piece of a broken one."""
    nets = [[f"{line}{i}_{cell}{k}" if wire else f"{line}{i}" for k in range(cells)] for i, wire in enumerate(wires)]
    for i, k in sorted(broken):
        if 0 < k < cells and not wires[i]:
            nets[i][k:] = [f"{line}{i}_from{k}"] * (cells - k)
    return nets


def _wires(
    spec: TileSpec,
    line: str,
    nets: list[list[str]],
    resistance: float | tuple[float, ...],
    broken: Sequence[tuple[int, int]],
) -> list[str]:
    gaps = set(broken)
    return [
        f"R{line}{i}_{k} {net} {following} {format_number(wire * spec.wire_factor)}"
        for i, (one, wire) in enumerate(zip(nets, per_line(resistance, len(nets)), strict=True))
        for k, (net, following) in enumerate(pairwise(one))
        if wire and (i, k + 1) not in gaps and net != following
    ]


def _bridges(rows: list[list[str]], columns: list[list[str]], faults: LineFaults) -> list[str]:
    value = format_number(faults.short_resistance)
    lines = [f"Rbridgerow{i}_{j} {rows[i][j]} {rows[i + 1][j]} {value}" for i, j in faults.shorted_rows]
    return lines + [f"Rbridgecol{j}_{i} {columns[j][i]} {columns[j + 1][i]} {value}" for j, i in faults.shorted_columns]


def _row_ends(spec: TileSpec, nets: list[str], row: int, faults: LineFaults) -> list[str]:
    """The nets that the driver of a row reaches: its first, and its last where it is driven at both ends."""
    far = [nets[-1]] if spec.drive == "double" and (row, spec.cols) not in faults.open_rows else []
    near = [] if (row, 0) in faults.open_rows else [nets[0]]
    return near + far or [f"row{row}_broken"]


def _driver(value: float, line: str, reached: list[str]) -> list[str]:
    """A voltage source with its resistance to every net that it reaches."""
    if not value and len(set(reached)) == 1:
        return [f"V{line} {reached[0]} 0 0"]
    if not value:
        raise NotAvailable(
            "a broken row line driven at both ends needs a driver resistance", where=line, hint="Set driver_resistance."
        )
    text = format_number(value)
    resistors = [f"Rdriver{line}_{end} {line}_driver {net} {text}" for end, net in enumerate(reached)]
    return [f"V{line} {line}_driver 0 0", *resistors]


def _sense(spec: TileSpec, col: int, line_end: str, transient: bool) -> list[str]:
    elements, net = [], line_end
    if resistance := per_line(spec.sense_resistance, spec.cols)[col]:
        net = f"col{col}_sense"
        elements.append(f"Rsense{col} {line_end} {net} {format_number(resistance)}")
    amplifier = spec.amplifier
    if amplifier is None:
        return [*elements, f"Vcol{col} {net} 0 0"]
    if not transient:
        # What the subcircuit is at rest, without its loop: with a gain of 1e4 in the matrix KLU's solutions are so
        # rough that Newton's iteration stalls (32x32 sinh cells), and Sparse takes 7 s a vector of 64x64 cells.
        return [
            *elements,
            f"Ramplifier{col} {net} col{col}_ground {format_number(amplifier.input_resistance)}",
            f"Vcol{col} col{col}_ground 0 0",
            f"Hamplifier{col} col{col}_out 0 Vcol{col} "
            f"{format_number(-amplifier.feedback_resistance * amplifier.sensed_share)}",
        ]
    parameters = {"r_f": amplifier.feedback_resistance, "gain": amplifier.gain}
    pins = f"{net} col{col}_out col{col}_pole col{col}_ground"
    pole = 1e-6 / (2 * np.pi * amplifier.gain_bandwidth)
    return [
        *elements,
        f"Xamplifier{col} {pins} transimpedance {instance_parameters(parameters)}",
        f"Vcol{col} col{col}_ground 0 0",
        f"Camplifier{col} col{col}_pole col{col}_ground {format_number(pole)}",
    ]


def _capacitors(spec: TileSpec, rows: list[list[str]], columns: list[list[str]]) -> list[str]:
    """Line capacitances to a substrate net, which a source holds at 0 V so that its current can be summed; cells'."""
    elements = []
    for name, nets, value in (
        ("row", rows, spec.row_line_capacitance),
        ("col", columns, spec.column_line_capacitance),
    ):
        if value:
            text = format_number(value)
            elements += [
                f"C{name}{i}_{k} {net} substrate {text}" for i, line in enumerate(nets) for k, net in enumerate(line)
            ]
    if elements:
        elements.append("Vsubstrate substrate 0 0")
    if spec.cell_capacitance:
        text = format_number(spec.cell_capacitance)
        elements += [
            f"Ccell{i}_{j} {rows[i][j]} {columns[j][i]} {text}" for i in range(spec.rows) for j in range(spec.cols)
        ]
    return elements


# --- checks -----------------------------------------------------------------------------------------------------


def _check_ends(spec: TileSpec, ends: Ends) -> None:
    if (len(ends.rows), len(ends.columns)) != (spec.rows, spec.cols):
        raise InputError(
            "ends of another tile", value=(len(ends.rows), len(ends.columns)), limit=f"({spec.rows}, {spec.cols})"
        )
    for kinds, allowed in ((ends.rows, get_args(RowEnd)), (ends.columns, get_args(ColumnEnd))):
        if wrong := set(kinds) - set(allowed):
            raise InputError("an unknown kind of end", value=sorted(wrong)[0], limit=", ".join(allowed))
    if "drive" not in (*ends.rows, *ends.columns):
        raise InputError("a tile that nothing drives", value="no end drives", limit="one row or column at least")


def _check_faults(spec: TileSpec, faults: LineFaults) -> None:
    far = spec.cols if spec.drive == "double" else spec.cols - 1
    for what, places, lines, cells in (
        ("open_rows", faults.open_rows, spec.rows - 1, (0, far)),
        ("open_columns", faults.open_columns, spec.cols - 1, (1, spec.rows)),
        ("shorted_rows", faults.shorted_rows, spec.rows - 2, (0, spec.cols - 1)),
        ("shorted_columns", faults.shorted_columns, spec.cols - 2, (0, spec.rows - 1)),
    ):
        for line, cell in places:
            if not (0 <= line <= lines and cells[0] <= cell <= cells[1]):
                limit = f"line 0 to {lines}, cell {cells[0]} to {cells[1]}"
                raise InputError(f"{what} outside the tile", value=(line, cell), limit=limit)
    if not 0 < faults.short_resistance < np.inf:
        raise InputError("short_resistance", value=f"{faults.short_resistance} ohm", limit="above 0 ohm, finite")
