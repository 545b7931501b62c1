"""The deck of a tile: its circuit as SPICE text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdls_cosim.devices import Device, DynamicDevice
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.spice import Deck, OperatingPoints, Waveforms, format_number
from mdls_cosim.tiles.cells import SelectorCell, SubcircuitCell, TransistorCell, hysteretic
from mdls_cosim.tiles.spec import TileSpec

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
    nets = _line_nets("row", "col", spec.rows, spec.cols, spec.row_line_resistance == 0, faults.open_rows)
    if spec.drive == "double" and spec.row_line_resistance and not spec.driver_resistance and spec.cols > 1:
        for row, line in enumerate(nets):  # one ideal source holds both ends
            if not {(row, 0), (row, spec.cols)} & set(faults.open_rows):
                line[-1] = line[0]
    return nets


def column_nets(spec: TileSpec, faults: LineFaults | None = None) -> list[list[str]]:
    """Nets of the column lines, [col][row]; one net for a whole line, or piece of one, where its wire is ideal."""
    faults = faults or LineFaults()
    return _line_nets("col", "row", spec.cols, spec.rows, spec.column_line_resistance == 0, faults.open_columns)


def tile_deck(
    spec: TileSpec,
    conductances: ArrayLike | None = None,
    *,
    states: ArrayLike | None = None,
    ends: Ends | None = None,
    faults: LineFaults | None = None,
    gates: Sequence[float] | None = None,
    speeds: ArrayLike | None = None,
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
        gates: (rows,) voltages of the gate lines of transistor cells [V]; absent: all selected.
        speeds: (rows, cols), factors of the rate at which states of dynamic devices move; absent: 1.
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
    cells = _Cells(spec, _states(spec, conductances, states), transient, gates, speeds)
    elements = cells.elements(rows, columns)
    elements += _wires("row", rows, spec.row_line_resistance * spec.wire_factor, faults.open_rows)
    elements += _wires("col", columns, spec.column_line_resistance * spec.wire_factor, faults.open_columns)
    elements += _bridges(rows, columns, faults)
    if transient:
        elements += _capacitors(spec, rows, columns)
    probes = []
    for row, end in enumerate(ends.rows):
        if end == "drive":
            elements += _driver(spec, f"row{row}", _row_ends(spec, rows[row], row, faults))
    for col, end in enumerate(ends.columns):
        broken = (col, spec.rows) in faults.open_columns
        line_end = f"col{col}_broken" if broken else columns[col][-1]
        if end == "drive":
            elements += _driver(spec, f"col{col}", [line_end])
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
        models=cells.models() + (("transimpedance",) if spec.amplifier is not None else ()),
        sources=(*(f"V{line}{index}" for line, index in ends.driven), *cells.branch_sources),
        probes=tuple(probes),
        balance=tuple(f"i({name.lower()})" for name in grounded),
        temperature=spec.temperature,
        osdi=cells.osdi(),
    )


def measured_currents(spec: TileSpec, result: OperatingPoints | Waveforms, columns: Sequence[int]) -> Floats:
    """What the sense side says of the column currents (points, len(columns)) [A]: -v_out/R_f behind an amplifier."""
    if spec.amplifier is None:
        return result.columns([f"i(vcol{col})" for col in columns])
    return -result.columns([f"v(col{col}_out)" for col in columns]) / spec.amplifier.feedback_resistance


# --- lines ------------------------------------------------------------------------------------------------------


def _line_nets(
    line: str, cell: str, lines: int, cells: int, ideal: bool, broken: Sequence[tuple[int, int]]
) -> list[list[str]]:
    """Net names [line][cell]; an ideal wire is one net, or one for each piece of a broken one."""
    if not ideal:
        return [[f"{line}{i}_{cell}{k}" for k in range(cells)] for i in range(lines)]
    nets = [[f"{line}{i}"] * cells for i in range(lines)]
    for i, k in sorted(broken):
        if 0 < k < cells:
            nets[i][k:] = [f"{line}{i}_from{k}"] * (cells - k)
    return nets


def _wires(line: str, nets: list[list[str]], resistance: float, broken: Sequence[tuple[int, int]]) -> list[str]:
    if not resistance:
        return []
    value, gaps = format_number(resistance), set(broken)
    return [
        f"R{line}{i}_{k} {net} {following} {value}"
        for i, one in enumerate(nets)
        for k, (net, following) in enumerate(pairwise(one))
        if (i, k + 1) not in gaps and net != following
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


def _driver(spec: TileSpec, line: str, reached: list[str]) -> list[str]:
    """A voltage source with its resistance to every net that it reaches."""
    value = spec.driver_resistance
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
    if spec.sense_resistance:
        net = f"col{col}_sense"
        elements.append(f"Rsense{col} {line_end} {net} {format_number(spec.sense_resistance)}")
    amplifier = spec.amplifier
    if amplifier is None:
        return [*elements, f"Vcol{col} {net} 0 0"]
    parameters = {"r_f": amplifier.feedback_resistance, "gain": amplifier.gain}
    pins = f"{net} col{col}_out col{col}_pole col{col}_ground"
    elements += [f"Xamplifier{col} {pins} transimpedance {_shared(parameters)}", f"Vcol{col} col{col}_ground 0 0"]
    if transient:
        pole = 1e-6 / (2 * np.pi * amplifier.gain_bandwidth)
        elements.append(f"Camplifier{col} col{col}_pole col{col}_ground {format_number(pole)}")
    return elements


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


# --- cells ------------------------------------------------------------------------------------------------------


class _Cells:
    """The cells of a tile as element lines."""

    def __init__(
        self,
        spec: TileSpec,
        states: Floats,
        transient: bool,
        gates: Sequence[float] | None,
        speeds: ArrayLike | None,
    ) -> None:
        self.speeds = None if speeds is None else _checked_speeds(speeds, states.shape)
        self.spec, self.cell, self.states, self.transient = spec, spec.cell, states, transient
        self.gates = self._gate_voltages(gates)
        self.tags = [f"{row}_{col}" for row in range(spec.rows) for col in range(spec.cols)]
        branches = [f"branch{tag}" for tag in self.tags] if hysteretic(spec.cell) else []
        self.branch_sources = [] if transient else [f"V{net}" for net in branches]
        moving = [f"state{tag}" for tag in self.tags] if _moves(spec) else []
        self.state_nets = moving + branches if transient else []
        two = isinstance(spec.cell, SelectorCell | TransistorCell)
        self.middle_nets = [f"mid{tag}" for tag in self.tags] if two else []

    def elements(self, rows: list[list[str]], columns: list[list[str]]) -> list[str]:
        plus = [net for line in rows for net in line]
        minus = [columns[col][row] for row in range(self.spec.rows) for col in range(self.spec.cols)]
        cell, tags = self.cell, self.tags
        if isinstance(cell, Device):
            return self._device(cell, plus, minus)
        if isinstance(cell, SubcircuitCell):
            return self._subcircuit(cell, plus, minus)
        middle = [f"mid{tag}" for tag in tags]
        lines = self._device(cell.device, plus, middle)
        if isinstance(cell, SelectorCell):
            shared = _shared(cell.selector.spice_parameters())
            branch = [f" branch{tag}" for tag in tags] if cell.selector.hysteretic else [""] * len(tags)
            name = cell.selector.spice_model
            lines += [
                f"Xselector{tag} {p} {n}{b} {name} {shared}"
                for tag, p, n, b in zip(tags, middle, minus, branch, strict=True)
            ]
            if cell.selector.hysteretic:
                held = "Vbranch{0} branch{0} 0 0" if not self.transient else "Cbranch{0} branch{0} 0 1n ic=0"
                lines += [held.format(tag) for tag in tags]
            return lines
        shared = _shared(cell.transistor.spice_parameters())
        name = cell.transistor.spice_model
        lines += [
            f"Xfet{tag} {m} gate{tag.split('_')[0]} {n} bulk {name} {shared}"
            for tag, m, n in zip(tags, middle, minus, strict=True)
        ]
        lines += [f"Vgate{row} gate{row} 0 {format_number(value)}" for row, value in enumerate(self.gates)]
        return [*lines, "Vbulk bulk 0 0"]

    def models(self) -> tuple[str, ...]:
        cell = self.cell
        if isinstance(cell, Device):
            return (cell.spice_model,)
        if isinstance(cell, SubcircuitCell):
            return (cell.text if "\n" in cell.text else cell.text + "\n",)
        second = cell.selector if isinstance(cell, SelectorCell) else cell.transistor
        return (cell.device.spice_model, second.spice_model)

    def osdi(self) -> tuple[str, ...]:
        return (self.cell.osdi,) if isinstance(self.cell, SubcircuitCell) and self.cell.osdi else ()

    def _device(self, device: Device, plus: list[str], minus: list[str]) -> list[str]:
        parameters = device.spice_parameters(self.states, self.spec.temperature)
        if self.speeds is not None:
            if not isinstance(device, DynamicDevice):
                raise InputError("speeds of cells whose state does not move", value=device.spice_model)
            parameters["speed"] = self.speeds
        tags, name = self.tags, device.spice_model
        pins = [f" state{tag}" for tag in tags] if isinstance(device, DynamicDevice) else [""] * len(tags)
        lines = [
            f"Xcell{tag} {p} {n}{state} {name} {own}"
            for tag, p, n, state, own in zip(tags, plus, minus, pins, _each(parameters, len(tags)), strict=True)
        ]
        return lines + (self._state_holders() if isinstance(device, DynamicDevice) else [])

    def _subcircuit(self, cell: SubcircuitCell, plus: list[str], minus: list[str]) -> list[str]:
        parameters: dict[str, Any] = dict(cell.parameters)
        if cell.state.parameter is not None:
            parameters[cell.state.parameter] = self.states
        if self.speeds is not None and cell.state.speed is not None:
            parameters[cell.state.speed] = self.speeds
        elif self.speeds is not None and (self.speeds != 1).any():
            raise InputError(
                f"spread of the speed of {cell.subcircuit}, which declares no parameter for it",
                where="state.speed",
                hint="Name the parameter that multiplies the state's rate in the declaration of the cell.",
            )
        nets = {"row": plus, "column": minus, "ground": ["cellground"] * len(plus)}
        nets["state"] = [f"state{tag}" for tag in self.tags]
        pins = [" ".join(one) for one in zip(*(nets[pin] for pin in cell.pins), strict=True)]
        lines = [
            f"Xcell{tag} {pin} {cell.subcircuit} {own}"
            for tag, pin, own in zip(self.tags, pins, _each(parameters, len(plus)), strict=True)
        ]
        if "state" in cell.pins:
            lines += self._state_holders()
        # Named so that its current counts in the balance of currents into ground.
        return lines + (["Vsubcircuits cellground 0 0"] if "ground" in cell.pins else [])

    def _state_holders(self) -> list[str]:
        values = _texts(self.states)
        form = "Cstate{0} state{0} 0 1n ic={1}" if self.transient else "Vstate{0} state{0} 0 {1}"
        return [form.format(tag, value) for tag, value in zip(self.tags, values, strict=True)]

    def _gate_voltages(self, gates: Sequence[float] | None) -> list[float]:
        if not isinstance(self.cell, TransistorCell):
            if gates is not None:
                raise InputError("gate voltages for cells without a transistor", value=self.cell.model)
            return []
        voltages = [self.cell.gate_voltage] * self.spec.rows if gates is None else [float(value) for value in gates]
        if len(voltages) != self.spec.rows:
            raise InputError("gate voltages", value=len(voltages), limit=f"{self.spec.rows}, one a row")
        return voltages


def _checked_speeds(speeds: ArrayLike, shape: tuple[int, ...]) -> Floats:
    given = np.asarray(speeds, dtype=np.float64)
    if given.shape not in ((), shape):
        raise InputError("speeds have the wrong shape", value=given.shape, limit=f"{shape}, or one number")
    if not (np.isfinite(given) & (given > 0)).all():
        raise InputError("speeds", value=float(given.min()), limit="above 0, finite")
    return np.broadcast_to(given, shape)


def _moves(spec: TileSpec) -> bool:
    """Whether cells have a state that a transient moves."""
    cell = spec.cell
    return "state" in cell.pins if isinstance(cell, SubcircuitCell) else isinstance(spec.device, DynamicDevice)


def _states(spec: TileSpec, conductances: ArrayLike | None, states: ArrayLike | None) -> Floats:
    """The state of every cell (rows, cols): the given ones, or those that show the given conductances."""
    if (conductances is None) == (states is None):
        raise InputError("a deck is made of conductances or of states, one of them")
    given = np.asarray(conductances if states is None else states, dtype=np.float64)
    what = "conductances" if states is None else "states"
    if given.shape != (spec.rows, spec.cols):
        raise InputError(f"{what} have the wrong shape", value=given.shape, limit=f"({spec.rows}, {spec.cols})")
    allowed = np.isfinite(given) & ((given >= 0) | (states is not None))
    if not allowed.all():
        row, col = (int(index) for index in np.argwhere(~allowed)[0])
        raise InputError(
            f"{np.count_nonzero(~allowed)} {what} are {'negative or ' if states is None else ''}not finite",
            where=f"row {row}, column {col}",
            value=f"{given[row, col]} {'S' if states is None else ''}".strip(),
            limit="0 S or more, finite" if states is None else "finite",
        )
    if states is not None:
        return given
    if isinstance(spec.cell, SubcircuitCell):
        found = _subcircuit_states(spec.cell, given)
    else:
        assert spec.device is not None
        with np.errstate(divide="ignore"):
            found = np.asarray(spec.device.state_for(given, spec.reference_voltage), dtype=np.float64)
    if not np.isfinite(found).all():
        row, col = (int(index) for index in np.argwhere(~np.isfinite(found))[0])
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(found))} conductances that no state of {spec.cell.model} cells has",
            where=f"row {row}, column {col}",
            value=f"{given[row, col]} S",
            limit="above 0 S",
        )
    if isinstance(spec.device, DynamicDevice) and ((found < -1e-9) | (found > 1 + 1e-9)).any():
        outside = (found < -1e-9) | (found > 1 + 1e-9)
        row, col = (int(index) for index in np.argwhere(outside)[0])
        ends = np.sort(np.asarray(spec.device.conductance(np.array([0.0, 1.0]), spec.reference_voltage)))
        raise InputError(
            f"{np.count_nonzero(outside)} conductances that no state of {spec.device.spice_model} has",
            where=f"row {row}, column {col}",
            value=f"{given[row, col]:.6g} S",
            limit=f"{ends[0]:.6g} to {ends[1]:.6g} S",
            hint="Change conductance_range, or the device's resistances.",
        )
    return found


def _subcircuit_states(cell: SubcircuitCell, conductances: Floats) -> Floats:
    if cell.state.quantity == "state":
        raise NotAvailable(
            f"the state of {cell.subcircuit} for a conductance is found by measuring it in ngspice",
            hint="characterize.program does; or give states.",
        )
    if cell.state.quantity == "conductance":
        return conductances
    with np.errstate(divide="ignore"):
        return 1 / conductances


def _texts(values: Floats) -> list[str]:
    return [f"{value:.17g}" for value in values.ravel().tolist()]


def _shared(parameters: Mapping[str, float]) -> str:
    return " ".join(f"{name}={format_number(value)}" for name, value in sorted(parameters.items()))


def _each(parameters: Mapping[str, Any], count: int) -> list[str]:
    """The parameters of every cell as text: those that are arrays one by one, the others once for all."""
    shared = _shared({name: value for name, value in parameters.items() if np.ndim(value) == 0})
    own = [[f"{name}={text}" for text in _texts(value)] for name, value in sorted(parameters.items()) if np.ndim(value)]
    if not own:
        return [shared] * count
    return [" ".join([*texts, shared] if shared else texts) for texts in zip(*own, strict=True)]


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
