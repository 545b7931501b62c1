"""What a calibration found, with its evidence; and the parameter file that keeps it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mdls_cosim.calibrate.agreement import Branch
from mdls_cosim.calibrate.loop_fit import branches_error
from mdls_cosim.calibrate.measurement import Measurement
from mdls_cosim.calibrate.parameter_text import config_table, quantity_text, toml_text
from mdls_cosim.calibrate.pulse_response import PulseResponse
from mdls_cosim.calibrate.random_effects import ParameterSpread
from mdls_cosim.calibrate.whole_file import write_whole
from mdls_cosim.config import Config
from mdls_cosim.devices import AnyDevice, Device
from mdls_cosim.devices.parameter_files import read_parameter_file
from mdls_cosim.devices.variability import Variability
from mdls_cosim.errors import ConfigError
from mdls_cosim.provenance import tool_versions
from mdls_cosim.quantities import format_quantity, parse_quantity

_MADE_BY = 'Written by `mdls-cosim calibrate`. Name it in a tile\'s TOML: parameters = "FILE.toml".'


Some = TypeVar("Some", bound=Config)


@dataclass(frozen=True)
class Value:
    """A calibrated number and its 95 % interval, SI."""

    value: float
    unit: str = ""
    """Symbol, "" for a plain number."""
    low: float | None = None
    high: float | None = None
    determined: bool = True
    """False: the data do not tell it, the value is one of many that fit as well."""

    @classmethod
    def within(cls, value: float, unit: str, interval: tuple[float, float] | None) -> Self:
        """`value` with its interval, where there is one."""
        return cls(float(value), unit, *(interval or (None, None)))


@dataclass(frozen=True)
class Ranked:
    """A model with its errors."""

    model: str
    error: float | None
    """Of the fitted loops, a share of the current range."""
    held_out: float | None
    """The same of the held-out loops."""
    branches: float | None = None
    """Of the fitted loops: RMS of the relative errors of their branches."""
    held_out_branches: float | None = None
    """The same of the held-out loops."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibrated device, or its spread, with values, intervals, errors and the origin of it all."""

    title: str
    kind: str
    """Of the measurements: loop, pulses, levels, drift."""
    device: Device
    values: dict[str, Value]
    method: str
    """Where the intervals come from."""
    errors: dict[str, float]
    """By measurement: RMS of measured less modelled, a share of its range."""
    held_out: dict[str, float] = field(default_factory=dict)
    """The same of what was not fitted."""
    branches: dict[str, tuple[Branch, ...]] = field(default_factory=dict)
    """By loop, fitted and held out: error, on/off ratio and switching voltage of each branch, of data and model."""
    error_meaning: str = "RMS of measured less modelled current, over the range of the measured"
    ranking: tuple[Ranked, ...] = ()
    variability: Variability | None = None
    """What [variability] holds."""
    spread: dict[str, ParameterSpread] = field(default_factory=dict)
    """By parameter: its distribution over devices and cycles, with intervals and numbers."""
    pulses: PulseResponse | None = None
    notes: tuple[str, ...] = ()
    validity: dict[str, tuple[float, float, str]] = field(default_factory=dict)
    """Least and largest of each quantity in the data, with its unit: where the values hold."""
    files: dict[str, str] = field(default_factory=dict)
    """Content hash by file."""
    seed: int | None = None
    tools: dict[str, str] = field(default_factory=tool_versions)
    created_utc: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds")[:19] + "Z")
    modelled: dict[str, np.ndarray] = field(default_factory=dict)
    """By measurement, what the model says at its points; kept for plots, not written."""
    measurements: tuple[tuple[Measurement, bool], ...] = ()
    """What it was calibrated on, each with whether it was held out; kept for plots, not written."""

    @property
    def error(self) -> float:
        """RMS over all that was fitted."""
        return _rms(self.errors)

    @property
    def held_out_error(self) -> float | None:
        """RMS over all that was not fitted; None where there is nothing."""
        return _rms(self.held_out) if self.held_out else None

    @property
    def branch_error(self) -> float | None:
        """RMS of the relative errors of the branches of what was fitted; None where there are none."""
        return branches_error(self.branches, self.errors)

    @property
    def held_out_branch_error(self) -> float | None:
        """The same of what was held out."""
        return branches_error(self.branches, self.held_out)

    def text(self) -> str:
        """The parameter file's content.

        Raises:
            ConfigError: the device would not read back as it is.
        """
        content: dict[str, Any] = {
            "title": self.title,
            "source": f"Calibrated on {', '.join(self.files) or 'data without a file'}, {self.created_utc[:10]}",
            "validity": "; ".join(
                f"{name} {format_quantity(low, unit, 3)}"
                + (f" to {format_quantity(high, unit, 3)}" if high > low else "")
                for name, (low, high, unit) in self.validity.items()
            ),
            "device": config_table(self.device),
        }
        if self.variability is not None:
            content["variability"] = config_table(self.variability)
        if self.pulses is not None:
            content["pulses"] = config_table(self.pulses)
        content["calibration"] = {
            "kind": self.kind,
            "error": self.error,
            "held_out_error": self.held_out_error,
            "branch_error": self.branch_error,
            "held_out_branch_error": self.held_out_branch_error,
            "error_meaning": self.error_meaning,
            "intervals": self.method,
            "seed": self.seed,
            "created_utc": self.created_utc,
            "notes": list(self.notes),
            "values": {name: _value_table(value) for name, value in self.values.items()},
            "errors": dict(self.errors),
            "held_out": dict(self.held_out),
            "branches": {
                name: {branch.sign: config_table(branch) for branch in each} for name, each in self.branches.items()
            },
            "spread": {name: config_table(each) for name, each in self.spread.items()},
            "ranking": [dataclasses.asdict(each) for each in self.ranking],
            "validity": {
                name: [quantity_text(low, unit), quantity_text(high, unit)]
                for name, (low, high, unit) in self.validity.items()
            },
            "files": dict(self.files),
            "tools": dict(self.tools),
        }
        text = f"# {_MADE_BY}\n{toml_text(content)}"
        back = type(self.device).from_text_dict(tomllib.loads(text)["device"], "the calibrated device")
        if back != self.device:
            raise ConfigError("a device that would not read back as it is", value=self.device)
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the parameter file, whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        write_whole(path, self.text())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """What a parameter file keeps of a calibration; what the model says at the measured points is not in it.

        Raises:
            ConfigError: no such file, no parameter file, or one that no calibration wrote.
        """
        where = os.fspath(path)
        content = read_parameter_file(os.path.abspath(where))
        told = content.get("calibration")
        try:
            if not isinstance(told, Mapping):
                raise KeyError("calibration")
            device = TypeAdapter(AnyDevice).validate_python(
                content["device"], context={"text": True, "folder": os.path.dirname(os.path.abspath(where))}
            )
            return cls(
                title=content["title"],
                kind=told["kind"],
                device=device,
                values={name: _read_value(each) for name, each in told.get("values", {}).items()},
                method=told["intervals"],
                errors=dict(told.get("errors", {})),
                held_out=dict(told.get("held_out", {})),
                branches={
                    name: tuple(Branch.from_text_dict(each, where) for each in signs.values())
                    for name, signs in told.get("branches", {}).items()
                },
                error_meaning=told["error_meaning"],
                ranking=tuple(
                    Ranked(**{key.name: each.get(key.name) for key in dataclasses.fields(Ranked)})
                    for each in told.get("ranking", [])
                ),
                variability=_read(Variability, content.get("variability"), where),
                spread={
                    name: ParameterSpread.from_text_dict(each, where) for name, each in told.get("spread", {}).items()
                },
                pulses=_read(PulseResponse, content.get("pulses"), where),
                notes=tuple(told.get("notes", ())),
                validity={name: _read_span(each) for name, each in told.get("validity", {}).items()},
                files=dict(told.get("files", {})),
                seed=told.get("seed"),
                tools=dict(told["tools"]),
                created_utc=told["created_utc"],
            )
        except (KeyError, TypeError, ValidationError) as error:
            raise ConfigError(
                "not a parameter file of a calibration", where=where, value=str(error).splitlines()[0],
                hint="mdls-cosim calibrate writes them",
            ) from None  # fmt: skip


def _rms(errors: Mapping[str, float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(errors.values()))))) if errors else 0.0


def _value_table(value: Value) -> dict[str, Any]:
    def told(number: float | None) -> Any:
        return None if number is None else quantity_text(number, value.unit) if value.unit else float(number)

    table = {"value": told(value.value), "low": told(value.low), "high": told(value.high), "unit": value.unit}
    return table if value.determined else {**table, "determined": False}


def _read(kind: type[Some], table: Any, where: str) -> Some | None:
    return None if table is None else kind.from_text_dict(table, where)


def _read_value(table: Mapping[str, Any]) -> Value:
    unit = table["unit"]

    def number(key: str) -> float | None:
        told = table.get(key)
        return None if told is None else parse_quantity(told, unit) if unit else float(told)

    value = number("value")
    if value is None:
        raise KeyError("value")
    return Value(value, unit, number("low"), number("high"), table.get("determined", True))


def _read_span(pair: list[str]) -> tuple[float, float, str]:
    low, high = pair
    for unit in ("volt", "ampere", "second", "kelvin", "siemens"):
        with contextlib.suppress(ConfigError):
            return parse_quantity(low, unit), parse_quantity(high, unit), unit
    raise KeyError(low)
