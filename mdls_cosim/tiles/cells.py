"""What sits at a crossing: a memristor alone, with a selector, with a transistor, or a user's own subcircuit."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, model_serializer, model_validator

from mdls_cosim.config import Config, read_toml
from mdls_cosim.devices import (
    AnyDevice,
    AnySelector,
    Device,
    ExponentialSelector,
    MeasuredCurves,
    Memristor,
    Nmos,
    Ohmic,
    Selector,
)
from mdls_cosim.errors import ConfigError, DeckError
from mdls_cosim.quantities import UNIT_OF_ITS_OWN, Unit, Voltage, number_text
from mdls_cosim.spice.library import definitions
from mdls_cosim.spice.netlist import LONGEST_NAME, headers
from mdls_cosim.text_files import MEGABYTE, read_bytes, read_text_file
from mdls_cosim.tiles.integrator import integrates

GATE_VOLTAGE = 1.8
"""Of the gate line of a selected row, where a cell does not say another [V]."""

LARGEST_CELL = MEGABYTE
"""Size of the text of a user's subcircuit [bytes]."""
LARGEST_OSDI = 256 * MEGABYTE
"""Size of a compiled Verilog-A model [bytes]."""


class SelectorCell(Config):
    """1S1R: a memristor (row side) in series with a selector (column side)."""

    model: Literal["selector"] = "selector"
    device: AnyDevice = Ohmic()
    """The memristor."""
    selector: AnySelector = ExponentialSelector()
    """The selector."""


class TransistorCell(Config):
    """1T1R: a memristor from the row line to a transistor's drain; its source is the column (source) line.

    A gate line selects a row: `gate_voltage` on the rows that are read or written, 0 V on the others.
    """

    model: Literal["transistor"] = "transistor"
    device: AnyDevice = Ohmic()
    """The memristor."""
    transistor: Nmos = Nmos()
    """The access transistor, bulk at ground."""
    gate_voltage: Voltage = GATE_VOLTAGE
    """Of a selected row [V]."""


class _Shorter(Config):
    """A configuration without the fields that are younger than stored Datasets, as long as they have their defaults.

    So the content hashes of what does not use them stay.
    """

    younger: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in handler(self).items()
            if name not in self.younger or getattr(self, name) != fields[name].default
        }


class StateDeclaration(_Shorter):
    """How a user's subcircuit is programmed: through one instance parameter, or through one pin.

    `quantity` says what the number is: "conductance" [S] or "resistance" [ohm] of the cell itself, or a "state" that
    rises or falls with conductance between `lowest` and `highest`; that relation is then measured in ngspice.
    """

    younger = frozenset({"of"})

    parameter: str | None = None
    """Name of the instance parameter; absent: the pin "state" is held at the number [V]."""
    quantity: Literal["conductance", "resistance", "state"] = "state"
    """What the number is."""
    of: Literal["cell", "part"] = "cell"
    """What has that conductance or resistance: the cell, as is measured before a campaign, or one part of it."""
    lowest: Annotated[float, UNIT_OF_ITS_OWN] = 0.0
    """One end of the range of a "state"."""
    highest: Annotated[float, UNIT_OF_ITS_OWN] = 1.0
    """The other end."""
    raised_by: Literal["positive", "negative"] = "positive"
    """Which voltage, row line above column line or below, raises the conductance of a cell with a pin "state"."""
    speed: str | None = None
    """Name of an instance parameter that multiplies the state's rate, for spread between cells and cycles."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lowest >= self.highest:
            raise ConfigError("an impossible range", where="highest", value=self.highest, limit=f"above {self.lowest}")
        return self

    def extra_description(self) -> dict[str, Any]:
        """The range of a "state": in volts of its pin, or in the unit of its parameter; no other quantity has one."""
        if self.quantity != "state":
            return {"lowest": "", "highest": ""}
        unit = Unit("volt") if self.parameter is None else UNIT_OF_ITS_OWN
        return {name: number_text(getattr(self, name), unit) for name in ("lowest", "highest")}


class SecondState(Config):
    """A second state of a user's subcircuit, at its pin "second_state": a temperature, a second filament's gap."""

    value: Annotated[float, Unit("volt")]
    """Of every cell when it is programmed [V at the pin]: held in reads, and where transients start."""


Pin = Literal["row", "column", "gate", "state", "second_state", "ground"]


class _Gate(Config):
    """The part of a declaration that has a unit."""

    gate_voltage: Voltage


class SubcircuitCell(_Shorter):
    """A user's own subcircuit (`FILE.sub`) as a cell, declared in `FILE.toml` beside it.

    In TOML: `model = "subcircuit"`, `file = "my_device.sub"`; the declaration beside it holds

        subcircuit = "my_device"          # the .subckt in the file; the file's own name if absent
        pins = ["row", "column"]          # in the order of its .subckt line; also "gate", "state", "ground",
                                          # "second_state"
        osdi = "my_device.osdi"           # a compiled Verilog-A model, where the subcircuit needs one
        state = {parameter = "g", quantity = "conductance"}
        parameters = {thickness = 5e-9}   # other instance parameters
        gate_voltage = "1.8 V"            # of selected rows, with a pin "gate"; 0 V on the others
        second_state = {value = 300}      # with a pin "second_state"

    The text of the file becomes part of the configuration, and so of every dataset's provenance. A pin "state" is
    the state's voltage, and takes its rate of change as a current (spice_models/vteam.sub shows the form): such a
    cell can be written and pulsed too. The pins "gate" of a row are one gate line, as those of TransistorCell.
    """

    younger = frozenset({"gate_voltage", "second_state"})

    model: Literal["subcircuit"] = "subcircuit"
    subcircuit: str
    """Name of the .subckt."""
    text: str = Field(repr=False)
    """The whole file."""
    pins: Annotated[tuple[Pin, ...], Field(min_length=2)] = ("row", "column")
    """What each pin connects to."""
    state: StateDeclaration
    """How it is programmed."""
    parameters: Annotated[dict[str, float], UNIT_OF_ITS_OWN] = Field(default_factory=dict)
    """Other instance parameters."""
    gate_voltage: Voltage | None = None
    """Of the gate line of a selected row [V], for a pin "gate"; absent: 1.8 V."""
    second_state: SecondState | None = None
    """Of a pin "second_state"."""
    osdi: str | None = None
    """Path of a compiled Verilog-A model."""
    osdi_hash: str | None = None
    """sha256 of that file; found when the declaration is read."""

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        if "file" not in data:
            osdi = data.get("osdi")
            if isinstance(osdi, str) and data.get("osdi_hash") is None:
                return {**data, "osdi_hash": _hash(osdi)}
            return data
        given = dict(data)
        folder = (info.context or {}).get("folder", "")
        path = Path(folder) / str(given.pop("file"))
        text = read_text_file(path, "the subcircuit of the cell", largest=LARGEST_CELL, error=ConfigError).text
        beside = path.with_suffix(".toml")
        declared = read_toml(beside, "the declaration of the cell's pins and state")
        # Checked here, so that what is wrong is said to be in that file.
        if isinstance(declared.get("state"), dict):
            declared["state"] = StateDeclaration.from_text_dict(declared["state"], f"{beside}, state")
        if isinstance(declared.get("second_state"), dict):
            declared["second_state"] = SecondState.from_text_dict(declared["second_state"], f"{beside}, second_state")
        if "gate_voltage" in declared:
            checked = _Gate.from_text_dict({"gate_voltage": declared["gate_voltage"]}, str(beside)).gate_voltage
            if not (info.context or {}).get("text"):  # there the text is converted with the other values
                declared["gate_voltage"] = checked
        for pin in declared.get("pins", ()):
            if pin not in get_args(Pin):
                raise ConfigError(
                    "an unknown kind of pin", where=f"{beside}, pins", value=pin, limit=", ".join(get_args(Pin))
                )
        if isinstance(declared.get("osdi"), str):
            compiled = (path.parent / declared["osdi"]).resolve()
            declared["osdi"] = str(compiled)
            declared["osdi_hash"] = _hash(declared["osdi"])
        return {"subcircuit": path.stem, **declared, **given, "text": text}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for pin in ("row", "column"):
            if self.pins.count(pin) != 1:
                raise ConfigError("every cell has this pin once", where="pins", value=list(self.pins), limit=pin)
        singles = {"state": "one state", "gate": "one gate", "second_state": "one second state"}
        for pin, what in singles.items():
            if self.pins.count(pin) > 1:
                raise ConfigError(f"a cell has {what}", where="pins", value=list(self.pins), limit=f"{pin} once")
        if (self.second_state is None) == ("second_state" in self.pins):
            raise ConfigError(
                "a second state has a pin and a table",
                where="second_state",
                value=None if self.second_state is None else self.second_state.value,
                limit='a pin "second_state" and second_state = {value = ...}, or neither',
            )
        if self.gate_voltage is not None and "gate" not in self.pins:
            raise ConfigError(
                "a gate voltage of a cell without a gate",
                where="gate_voltage",
                value=f"{self.gate_voltage:g} V",
                limit='a pin "gate" in pins',
            )
        if (self.state.parameter is None) != ("state" in self.pins):
            raise ConfigError(
                "a cell is programmed either through a parameter or through its pin",
                where="state.parameter",
                value=self.state.parameter,
                limit="a parameter's name, or none and a pin state",
            )
        self._check_text()
        found = headers(self.text, self.subcircuit)
        if self.subcircuit.lower() not in found:
            raise ConfigError(
                "no such subcircuit in the cell's file",
                where="subcircuit",
                value=self.subcircuit,
                limit=", ".join(found)[:100] or "a file with a .subckt line",
            )
        pins, parameters = found[self.subcircuit.lower()].pins, found[self.subcircuit.lower()].defaults
        if len(pins) != len(self.pins):
            raise ConfigError(
                "the subcircuit has another number of pins",
                where="pins",
                value=f"{len(self.pins)} ({', '.join(self.pins)})",
                limit=f"{len(pins)} ({', '.join(pins)[:100]})",
            )
        named = {"state.parameter": self.state.parameter, "state.speed": self.state.speed}
        for where, name in [*named.items(), *((f"parameters.{name}", name) for name in self.parameters)]:
            if name is not None and name.lower() not in parameters:
                raise ConfigError(
                    "the subcircuit has no such parameter",
                    where=where,
                    value=name,
                    limit=", ".join(parameters)[:100] or "none on its .subckt line",
                    hint="ngspice would take an unknown one without a word.",
                )
        for pin in ("state", "second_state"):
            self.integrates(pin)  # refuses a capacitor that would not start at the state
        return self

    def compiled_model(self) -> str | None:
        """The path of the compiled Verilog-A model, if there is one.

        Raises:
            ConfigError: the file is missing, or not the one that the cell was declared with.
        """
        if self.osdi is not None and (found := _hash(self.osdi)) != self.osdi_hash:
            raise ConfigError(
                f"another compiled Verilog-A model than that of {self.subcircuit}",
                where=self.osdi,
                value=found[:20],
                limit=(self.osdi_hash or "none")[:20],
                hint="Restore the file, or declare the cell anew.",
            )
        return self.osdi

    def integrates(self, pin: Literal["state", "second_state"]) -> bool:
        """Whether the subcircuit has a capacitor of its own that integrates the state at this pin."""
        if pin not in self.pins:
            return False
        grounds = tuple(number for number, each in enumerate(self.pins) if each == "ground")
        return integrates(self.text, self.subcircuit, self.pins.index(pin), grounds)

    def _check_text(self) -> None:
        """Refuse a text that ngspice must not see; see `spice.library.definitions`."""
        if len(self.subcircuit) > LONGEST_NAME:
            raise ConfigError("a name is too long", where="subcircuit", value=self.subcircuit, limit=LONGEST_NAME)
        text = self.text if "\n" in self.text else self.text + "\n"
        try:
            definitions(text, f"subcircuit {self.subcircuit}", self.osdi is not None)
        except DeckError as error:
            raise ConfigError(
                error.what, where=error.where, value=error.value, limit=error.limit, hint=error.hint
            ) from None


def _hash(path: str) -> str:
    """sha256 of a compiled Verilog-A model."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _hash_of_version(path, 0, 0)
    return _hash_of_version(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _hash_of_version(path: str, _time: int, _size: int) -> str:
    content = read_bytes(path, "the compiled Verilog-A model", largest=LARGEST_OSDI, error=ConfigError)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


AnyCell = Annotated[
    Memristor | SelectorCell | TransistorCell | SubcircuitCell | MeasuredCurves, Field(discriminator="model")
]
"""Any cell, told apart in TOML by its `model` key; a bare device is a passive cell (0T1R)."""


def memristor(cell: AnyCell) -> Device | None:
    """The memristor of a cell; None for a user's subcircuit, whose inside is its own."""
    if isinstance(cell, Device):
        return cell
    return None if isinstance(cell, SubcircuitCell) else cell.device


def gate_voltage(cell: AnyCell) -> float | None:
    """The voltage of the gate line of a selected row [V]; None for cells without a gate."""
    if isinstance(cell, TransistorCell):
        return cell.gate_voltage
    if not isinstance(cell, SubcircuitCell) or "gate" not in cell.pins:
        return None
    return GATE_VOLTAGE if cell.gate_voltage is None else cell.gate_voltage


def hysteretic(cell: AnyCell) -> bool:
    """Whether a read of the cell needs the branch that its selector is on."""
    return isinstance(cell, SelectorCell) and cell.selector.hysteretic


def selector_of(cell: AnyCell) -> Selector | None:
    """The selector of a cell, if any."""
    return cell.selector if isinstance(cell, SelectorCell) else None
