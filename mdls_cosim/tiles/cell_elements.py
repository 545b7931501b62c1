"""The cells of a tile as element lines of its deck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdls_cosim.devices import Device, DynamicDevice
from mdls_cosim.errors import InputError
from mdls_cosim.spice import format_number
from mdls_cosim.tiles.cells import SelectorCell, SubcircuitCell, TransistorCell, gate_voltage, hysteretic
from mdls_cosim.tiles.spec import TileSpec

Floats = NDArray[np.float64]


class CellElements:
    """The cells of a tile as element lines."""

    def __init__(
        self,
        spec: TileSpec,
        states: Floats,
        transient: bool,
        gates: Sequence[float] | None,
        speeds: ArrayLike | None,
        second_states: ArrayLike | None = None,
    ) -> None:
        self.speeds = None if speeds is None else _checked_speeds(speeds, states.shape)
        self.spec, self.cell, self.states, self.transient = spec, spec.cell, states, transient
        self.gates = self._gate_voltages(gates)
        self.tags = [f"{row}_{col}" for row in range(spec.rows) for col in range(spec.cols)]
        branches = [f"branch{tag}" for tag in self.tags] if hysteretic(spec.cell) else []
        self.branch_sources = [] if transient else [f"V{net}" for net in branches]
        moving = [f"state{tag}" for tag in self.tags] if _moves(spec) else []
        self.held, self.initial = self._held(moving, second_states)
        self.state_nets = [net for net, _ in self.held] + branches if transient else []
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
            shared = instance_parameters(cell.selector.spice_parameters())
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
        shared = instance_parameters(cell.transistor.spice_parameters())
        name = cell.transistor.spice_model
        lines += [
            f"Xfet{tag} {m} gate{tag.split('_')[0]} {n} bulk {name} {shared}"
            for tag, m, n in zip(tags, middle, minus, strict=True)
        ]
        return [*lines, *self._gate_sources(), "Vbulk bulk 0 0"]

    def models(self) -> tuple[str, ...]:
        cell = self.cell
        if isinstance(cell, Device):
            return (cell.spice_model,)
        if isinstance(cell, SubcircuitCell):
            return (cell.text if "\n" in cell.text else cell.text + "\n",)
        second = cell.selector if isinstance(cell, SelectorCell) else cell.transistor
        return (cell.device.spice_model, second.spice_model)

    def osdi(self) -> tuple[str, ...]:
        path = self.cell.compiled_model() if isinstance(self.cell, SubcircuitCell) else None
        return () if path is None else (path,)

    def _device(self, device: Device, plus: list[str], minus: list[str]) -> list[str]:
        parameters = device.spice_parameters(self.states, self.spec.temperature)
        if self.speeds is not None:
            if not isinstance(device, DynamicDevice):
                raise InputError("speeds of cells whose state does not move", value=device.spice_model)
            parameters["speed"] = self.speeds
        if device.reversed:
            plus, minus = minus, plus
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
        nets["second_state"] = [f"second{tag}" for tag in self.tags]
        nets["gate"] = [f"gate{tag.split('_')[0]}" for tag in self.tags]
        pins = [" ".join(one) for one in zip(*(nets[pin] for pin in cell.pins), strict=True)]
        lines = [
            f"Xcell{tag} {pin} {cell.subcircuit} {own}"
            for tag, pin, own in zip(self.tags, pins, _each(parameters, len(plus)), strict=True)
        ]
        lines += self._state_holders() + self._gate_sources()
        # Named so that its current counts in the balance of currents into ground.
        return lines + (["Vsubcircuits cellground 0 0"] if "ground" in cell.pins else [])

    def _held(
        self, moving: list[str], second_states: ArrayLike | None
    ) -> tuple[list[tuple[str, float]], tuple[tuple[str, float], ...]]:
        """Net and value of every state, and those of them whose cell has a capacitor of its own, in a transient."""
        cell = self.cell
        held = list(zip(moving, self.states.ravel().tolist(), strict=True)) if moving else []
        own = held if isinstance(cell, SubcircuitCell) and cell.integrates("state") else []
        if isinstance(cell, SubcircuitCell) and cell.second_state is not None:
            values = np.broadcast_to(
                cell.second_state.value if second_states is None else np.asarray(second_states), self.states.shape
            )
            second = list(zip([f"second{tag}" for tag in self.tags], values.ravel().tolist(), strict=True))
            held, own = held + second, own + (second if cell.integrates("second_state") else [])
        elif second_states is not None:
            raise InputError("second states of cells that have one at most", value=cell.model)
        return held, tuple(own) if self.transient else ()

    def _state_holders(self) -> list[str]:
        """What sets the states: sources; in a transient capacitors, or `initial` for cells with one of their own."""
        own = {net for net, _ in self.initial}
        form = "C{0} {0} 0 1n ic={1}" if self.transient else "V{0} {0} 0 {1}"
        return [form.format(net, format_number(value)) for net, value in self.held if net not in own]

    def _gate_sources(self) -> list[str]:
        return [f"Vgate{row} gate{row} 0 {format_number(value)}" for row, value in enumerate(self.gates)]

    def _gate_voltages(self, gates: Sequence[float] | None) -> list[float]:
        """The voltage of each row's gate line; empty for cells without a gate."""
        selected = gate_voltage(self.cell)
        if selected is None:
            if gates is not None:
                raise InputError("gate voltages for cells without a gate", value=self.cell.model)
            return []
        voltages = [selected] * self.spec.rows if gates is None else [float(value) for value in gates]
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


def _texts(values: Floats) -> list[str]:
    return [f"{value:.17g}" for value in values.ravel().tolist()]


def instance_parameters(parameters: Mapping[str, float]) -> str:
    """The parameters of an instance of a subcircuit, as text."""
    return " ".join(f"{name}={format_number(value)}" for name, value in sorted(parameters.items()))


def _each(parameters: Mapping[str, Any], count: int) -> list[str]:
    """The parameters of every cell as text: those that are arrays one by one, the others once for all."""
    shared = instance_parameters({name: value for name, value in parameters.items() if np.ndim(value) == 0})
    own = [[f"{name}={text}" for text in _texts(value)] for name, value in sorted(parameters.items()) if np.ndim(value)]
    if not own:
        return [shared] * count
    return [" ".join([*texts, shared] if shared else texts) for texts in zip(*own, strict=True)]
