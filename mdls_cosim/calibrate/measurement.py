"""Measurements: loops, pulse trains, tables of levels, drift traces, endurance. SI arrays and how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdls_cosim.devices.base import ROOM_TEMPERATURE
from mdls_cosim.errors import InputError

LEAST_POINTS = 8
"""Of a loop: fewer say nothing about its shape."""


@dataclass(frozen=True, eq=False)
class Loop:
    """A current-voltage loop, or several in a row, at one temperature.

    All arrays are (points,). Raises InputError where they cannot be a measured loop.
    """

    name: str
    """What messages call it; the file's name."""
    times: np.ndarray
    """[s], increasing; the first may be any."""
    voltages: np.ndarray
    """[V] over the device, or over device and series resistor: see `applied`."""
    currents: np.ndarray
    """[A] through the device, positive with a positive voltage."""
    applied: bool = False
    """The voltages lie over the device and a resistor in series, not over the device alone."""
    series_resistance: float | None = None
    """Of that resistor [ohm], where it is known."""
    periodic: bool = False
    """The drive repeats, and the device had settled to it: its state at the end of a cycle is that at its start."""
    cycle: np.ndarray | None = None
    """Number of the cycle of every point, 0 from the start on; None: one cycle."""
    temperature: float = ROOM_TEMPERATURE
    """Ambient [K]."""
    applied_voltages: np.ndarray | None = None
    """[V] over device and resistor, where they were measured besides `voltages` over the device."""
    time_residual: float | None = None
    """Where the times were rebuilt from the shape of the drive: RMS of drive less that shape, over its amplitude."""
    period: float | None = None
    """Of a periodic drive [s], where it is known."""
    follows: str | None = None
    """Name of the loop whose last state is the first of this one, where they are cycles of one measurement."""
    device: str | None = None
    """Which of several devices it belongs to; None: not stated."""
    limited: np.ndarray | None = None
    """(3, points left out) times [s], voltages [V] and currents [A] at a compliance limit; None: no point is."""
    notes: tuple[str, ...] = ()
    """What was left out of the file, for the reader."""
    content_hash: str = ""
    """Of the file, "sha256:…"."""

    def __post_init__(self) -> None:
        for name in ("times", "voltages", "currents"):
            object.__setattr__(self, name, _numbers(getattr(self, name), name, self.name))
        count = len(self.times)
        given = self.cycle if self.cycle is not None else np.zeros(count, dtype=np.int64)
        object.__setattr__(self, "cycle", np.asarray(given, dtype=np.int64))
        if self.applied_voltages is not None:
            applied = _numbers(self.applied_voltages, "applied_voltages", self.name)
            object.__setattr__(self, "applied_voltages", applied)
        for name in ("voltages", "currents", "cycle", "applied_voltages"):
            values = getattr(self, name)
            if values is not None and values.shape != (count,):
                raise InputError(
                    "arrays of a loop that differ in length", where=f"{self.name}: {name}", value=values.shape,
                    limit=(count,),
                )  # fmt: skip
        if count < LEAST_POINTS:
            raise InputError("too few points for a loop", where=self.name, value=count, limit=f"{LEAST_POINTS} or more")
        if (late := np.flatnonzero(np.diff(self.times) <= 0)).size:
            raise InputError(
                "times that do not increase", where=f"{self.name}, point {late[0] + 2}",
                value=f"{self.times[late[0] + 1]:g} s after {self.times[late[0]]:g} s",
            )  # fmt: skip
        for name, unit in (("voltages", "V"), ("currents", "A")):
            values = getattr(self, name)
            if not np.ptp(values):
                raise InputError(
                    f"{name} that are all the same", where=self.name, value=f"{values[0]:g} {unit}",
                    hint="A loop is measured while the voltage goes up and down",
                )  # fmt: skip

    @property
    def cycles(self) -> np.ndarray:
        """The numbers of its cycles, sorted."""
        return np.unique(self.cycle)  # pyright: ignore[reportArgumentType, reportCallIssue]


@dataclass(frozen=True, eq=False)
class PulseTrain:
    """Conductance after each of a row of equal pulses, in one direction, for one or several ramps.

    A ramp starts where the one before it left the device, or where pulses of the other direction did.
    """

    name: str
    direction: int
    """1: the pulses are meant to raise the conductance; -1: to lower it."""
    conductances: np.ndarray
    """(ramps, pulses) [S], or of 1 where `unit` is ""; NaN after the last pulse of a shorter ramp."""
    unit: str = "S"
    """"S", or "" for conductances given as a share of the range."""
    content_hash: str = ""
    notes: tuple[str, ...] = ()
    read_voltage: float | None = None
    """Of the readings [V]; None: not known."""
    temperature: float = ROOM_TEMPERATURE
    """Ambient [K]."""

    def __post_init__(self) -> None:
        values = np.atleast_2d(np.asarray(self.conductances, dtype=np.float64))
        object.__setattr__(self, "conductances", values)
        if self.direction not in (1, -1):
            raise InputError("not a direction", where=self.name, value=self.direction, limit="1 or -1")
        if values.ndim != 2 or values.shape[1] < LEAST_POINTS:
            raise InputError(
                "too few pulses for a ramp", where=self.name, value=values.shape[-1], limit=f"{LEAST_POINTS} or more"
            )
        known = np.isfinite(values)
        if np.isinf(values).any() or not known[:, 0].all() or (known[:, 1:] > known[:, :-1]).any():
            raise InputError("NaN or infinite values within a ramp", where=self.name)


@dataclass(frozen=True, eq=False)
class LevelTable:
    """Conductances found after programming to given levels, several times or on several devices each."""

    name: str
    levels: np.ndarray
    """(measurements,) number of the level, 0 from the lowest on."""
    conductances: np.ndarray
    """(measurements,) [S]."""
    targets: np.ndarray | None = None
    """(measurements,) what was aimed at [S]; None: the means of the levels."""
    content_hash: str = ""
    notes: tuple[str, ...] = ()
    read_voltage: float | None = None
    """Of the readings [V]; None: not known."""
    temperature: float = ROOM_TEMPERATURE
    """Ambient [K]."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "conductances", _conductances(self.conductances, self.name))
        object.__setattr__(self, "levels", np.asarray(self.levels, dtype=np.int64))
        if self.targets is not None:
            object.__setattr__(self, "targets", _conductances(self.targets, self.name))
        for name in ("levels", "targets"):
            values = getattr(self, name)
            if values is not None and values.shape != self.conductances.shape:
                raise InputError(
                    "arrays of a table of levels that differ in length", where=f"{self.name}: {name}",
                    value=values.shape, limit=self.conductances.shape,
                )  # fmt: skip


@dataclass(frozen=True, eq=False)
class DriftTrace:
    """Conductance against time after programming, of one or several devices."""

    name: str
    times: np.ndarray
    """(points,) since programming [s], above zero."""
    conductances: np.ndarray
    """(points,) [S]."""
    device: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(points,) number of the device; empty: one device."""
    content_hash: str = ""
    notes: tuple[str, ...] = ()
    read_voltage: float | None = None
    """Of the readings [V]; None: not known."""
    temperature: float = ROOM_TEMPERATURE
    """Ambient [K]."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "conductances", _conductances(self.conductances, self.name))
        object.__setattr__(self, "times", _numbers(self.times, "times", self.name))
        device = np.asarray(self.device, dtype=np.int64)
        object.__setattr__(self, "device", device if device.size else np.zeros(len(self.times), dtype=np.int64))
        if not self.times.shape == self.conductances.shape == self.device.shape:
            raise InputError("arrays of a drift trace that differ in length", where=self.name)
        if (self.times <= 0).any():
            raise InputError(
                "times of a drift trace are counted from the programming and lie above zero", where=self.name,
                value=f"{self.times.min():g} s",
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class EnduranceTable:
    """Conductances of the on and the off state against the number of switching cycles, of one or several devices."""

    name: str
    cycles: np.ndarray
    """(rows,) switching cycles before the reading, zero or more."""
    on: np.ndarray
    """(rows,) [S]."""
    off: np.ndarray
    """(rows,) [S]."""
    device: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(rows,) number of the device; empty: one device."""
    content_hash: str = ""
    notes: tuple[str, ...] = ()
    read_voltage: float | None = None
    """Of the readings [V]; None: not known."""
    temperature: float = ROOM_TEMPERATURE
    """Ambient [K]."""

    def __post_init__(self) -> None:
        for name in ("on", "off"):
            object.__setattr__(self, name, _conductances(getattr(self, name), self.name))
        object.__setattr__(self, "cycles", _numbers(self.cycles, "cycles", self.name))
        device = np.asarray(self.device, dtype=np.int64)
        object.__setattr__(self, "device", device if device.size else np.zeros(len(self.cycles), dtype=np.int64))
        if not self.cycles.shape == self.on.shape == self.off.shape == self.device.shape:
            raise InputError("arrays of an endurance table that differ in length", where=self.name)
        if (self.cycles < 0).any():
            raise InputError("a negative number of cycles", where=self.name, value=float(self.cycles.min()))


Measurement = Loop | PulseTrain | LevelTable | DriftTrace | EnduranceTable


def names_of(measurements: Sequence[Measurement]) -> str:
    """The files of `measurements`, for a title."""
    names = list(dict.fromkeys(each.name.split(", ")[0] for each in measurements))
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more files"


def _numbers(values: Any, what: str, where: str) -> np.ndarray:
    """`values` as a row of finite floats."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError("a row of numbers is needed", where=f"{where}: {what}", value=array.shape)
    if (bad := np.flatnonzero(~np.isfinite(array))).size:
        raise InputError("NaN or an infinite value", where=f"{where}: {what}, point {bad[0] + 1}")
    return array


def _conductances(values: Any, where: str) -> np.ndarray:
    array = _numbers(values, "conductances", where)
    if (array < 0).any():
        raise InputError("a negative conductance", where=where, value=f"{array.min():g} S")
    return array
