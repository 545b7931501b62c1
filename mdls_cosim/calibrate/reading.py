"""From the table in a file to the measurement that it holds."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from mdls_cosim.calibrate.compliance import check_option, limited_points
from mdls_cosim.calibrate.conductance_columns import MEASURES, conductances, one_column
from mdls_cosim.calibrate.current_sign import signed_currents
from mdls_cosim.calibrate.endurance import endurance_columns, read_endurance
from mdls_cosim.calibrate.measurement import (
    LEAST_POINTS,
    DriftTrace,
    EnduranceTable,
    LevelTable,
    Loop,
    Measurement,
    PulseTrain,
)
from mdls_cosim.calibrate.plausible import check_measurement
from mdls_cosim.calibrate.table_file import TableFile, read_table
from mdls_cosim.calibrate.waveforms import cycles_of, fit_sine, ramp_times
from mdls_cosim.config import Config
from mdls_cosim.devices.base import ROOM_TEMPERATURE
from mdls_cosim.errors import InputError
from mdls_cosim.quantities import Frequency, Quantity, Resistance, Temperature, Voltage

Kind = Literal["loop", "pulses", "levels", "drift", "endurance"]
KINDS: tuple[Kind, ...] = ("loop", "pulses", "levels", "drift", "endurance")

_COLUMNS: dict[Kind, str] = {
    "loop": "voltage, current, time",
    "pulses": "conductance, pulse or ramp",
    "levels": "conductance, level or target",
    "drift": "time, conductance",
    "endurance": "cycle, on and off resistance",
}
"""What a measurement of each kind is made of, for messages."""
_MOST_RAMPS = 10_000
"""In a file."""
_USED: dict[Kind, tuple[str, ...]] = {
    "loop": ("voltage", "applied voltage", "current", "time", "cycle", "device"),
    "pulses": ("ramp", "pulse"),
    "levels": ("level", "target"),
    "drift": ("time", "device"),
    "endurance": ("cycle", "device"),
}
"""Columns that each kind reads, besides one of `MEASURES`."""


class Setup(Config):
    """What the file does not say of its measurement: how it was made."""

    kind: Kind | None = None
    """None: told from the columns."""
    columns: str | None = None
    """Columns of a file without a header: "voltage [V], current [uA]"."""
    decimal_comma: bool = False
    """Numbers are written 0,5."""
    frequency: Frequency | None = None
    """Of a sine that drove a loop without times [Hz]; the loop counts as settled."""
    ramp_rate: Annotated[float, Quantity("volt/second", gt=0)] | None = None
    """Of a triangular sweep without times [V/s]."""
    settled: bool = False
    """A loop with times is one period of a drive that repeats, long after its start."""
    series_resistance: Resistance | None = None
    """Of the resistor in series [ohm], where applied voltages were measured."""
    read_voltage: Voltage | None = None
    """At which currents of pulses, levels, drift and endurance were read [V]."""
    temperature: Temperature = ROOM_TEMPERATURE
    """Ambient [K]."""
    compliance: str = "auto"
    """Points of loops to leave out: "auto" recognizes plateaus, "none" keeps all, "200 uA" or "1 V" is the limit."""
    skip_missing: bool = False
    """Leave out rows with an empty cell or an overflow code in a column that is used."""
    current_sign: Literal["keep", "reverse", "voltage"] = "keep"
    """"reverse": the instrument counts the current out of the device; "voltage": it wrote magnitudes."""

    @field_validator("compliance")
    @classmethod
    def _check_compliance(cls, text: str) -> str:
        return check_option(text)


class MeasuredFile(Setup):
    """A file of measurements in a list of them."""

    file: str
    """Its path, from the folder of the list."""
    hold_out: bool = False
    """It is not fitted, only compared."""
    device: str | None = None
    """Of loops: which of several devices it belongs to."""


class MeasuredFiles(Config):
    """A list of files, each with its own setup: `[[measured]]` tables in a TOML file."""

    measured: Annotated[tuple[MeasuredFile, ...], Field(min_length=1)]


def read_measurement(path: str | os.PathLike[str], setup: Setup | None = None) -> tuple[list[Measurement], TableFile]:
    """The measurements in a file, all of one kind, and its table.

    A file holds one loop (with a column `device`, one loop of each device), one table of levels, one set of drift
    traces or one endurance table; or ramps of pulses, as one PulseTrain a direction.

    Raises:
        StoreError, ConfigError, InputError: see `read_table`; the columns make no measurement of this kind; what
            they hold cannot be one.
    """
    setup = setup or Setup()
    table = read_table(path, setup.columns, setup.decimal_comma, strict=False)
    kind = setup.kind or _kind_of(table)
    used = [name for name in _used(kind, table) if table.has(name)]
    left_out: tuple[str, ...] = ()
    if setup.skip_missing:
        complete = table.complete(used)
        left_out, table = complete.notes[len(table.notes) :], dataclasses.replace(complete, notes=table.notes)
    found = _measurements(kind, table, setup)
    for each in found:
        check_measurement(each, table)
    found = [dataclasses.replace(each, notes=(*left_out, *each.notes)) for each in found]
    dropped = dict.fromkeys(column.name for column in table.columns if column.name not in used)
    notes = [f"columns that {_ARTICLES[kind]} does not use: {', '.join(dropped)}"] if dropped else []
    if kind == "loop" and table.has("time") and (setup.frequency or setup.ramp_rate):
        notes.append("the column of times is used, not the frequency or ramp rate that was given")
    found = [_with_conditions(each, setup) for each in found]
    return found, dataclasses.replace(table, notes=(*table.notes, *notes))


def _with_conditions(measurement: Measurement, setup: Setup) -> Measurement:
    if isinstance(measurement, Loop):
        return measurement  # it has them already
    return dataclasses.replace(measurement, read_voltage=setup.read_voltage, temperature=setup.temperature)


_ARTICLES: dict[Kind, str] = {
    "loop": "a loop",
    "pulses": "a pulse train",
    "levels": "a table of levels",
    "drift": "a drift trace",
    "endurance": "an endurance table",
}


def _measurements(kind: Kind, table: TableFile, setup: Setup) -> list[Measurement]:
    if kind == "loop":
        return list(_loops(table, setup))
    if kind == "pulses":
        return list(_pulses(table, setup))
    if kind == "endurance":
        return [read_endurance(table, setup.read_voltage)]
    return [_levels(table, setup) if kind == "levels" else _drift(table, setup)]


def _used(kind: Kind, table: TableFile) -> tuple[str, ...]:
    """Names of the columns that a measurement of this kind reads from `table`."""
    if kind == "loop":
        return _USED[kind]
    if kind == "endurance":
        return (*_USED[kind], *endurance_columns(table))
    return (*_USED[kind], *[name for name in MEASURES if table.has(name)][:1])


def kind_of(measurement: Measurement) -> Kind:
    """The kind of a measurement, as options name it."""
    kinds: dict[type, Kind] = {
        Loop: "loop",
        PulseTrain: "pulses",
        LevelTable: "levels",
        DriftTrace: "drift",
        EnduranceTable: "endurance",
    }
    return kinds[type(measurement)]


def _kind_of(table: TableFile) -> Kind:
    if endurance_columns(table) and table.has("cycle"):
        return "endurance"
    if table.has("voltage") or table.has("applied voltage"):
        return "loop"
    if table.has("level") or table.has("target"):
        return "levels"
    if table.has("time"):
        return "drift"
    if table.has("pulse") or table.has("ramp") or table.has("conductance") or table.has("current"):
        return "pulses"
    raise InputError(
        "columns that make no measurement", where=table.path, value=", ".join(c.name for c in table.columns),
        limit="; ".join(f"{kind}: {what}" for kind, what in _COLUMNS.items()),
    )  # fmt: skip


def _loops(table: TableFile, setup: Setup) -> list[Loop]:
    """The loop of each device of a table."""
    if not table.has("device"):
        return [_loop(table, setup)]
    device = table.counts("device")
    found = []
    for number in np.unique(device):
        own = device == number
        kinds = table.kinds[own] if table.kinds.size else table.kinds
        part = dataclasses.replace(table, values=table.values[own], lines=table.lines[own], kinds=kinds)
        loop = _loop(part, setup)
        found.append(dataclasses.replace(loop, name=f"{table.name}, device {number}", device=str(number)))
    return found


def _loop(table: TableFile, setup: Setup) -> Loop:
    both = table.has("voltage") and table.has("applied voltage")
    applied = table.column("applied voltage") if table.has("applied voltage") else None
    voltages = table.column("voltage") if applied is None or both else applied
    drive = voltages if applied is None else applied
    currents = signed_currents(table.column("current"), drive, setup.current_sign, table.path)
    residual, period, joined = None, None, ()
    if table.has("time"):
        times, joined = _joined(table)
        if (late := np.flatnonzero(np.diff(times) <= 0)).size:
            raise InputError(
                "times that do not increase", where=f"{table.path}, line {table.lines[late[0] + 1]}",
                value=f"{times[late[0] + 1]:g} s after {times[late[0]]:g} s",
                hint="Times may begin anew with each number in a column cycle",
            )  # fmt: skip
        cycle, period = cycles_of(times, drive)
    elif setup.frequency is not None:
        sine = fit_sine(drive, table.path)
        times = sine.times(setup.frequency, len(drive))
        residual, period = sine.residual, 1 / setup.frequency
        cycle = np.floor((times - times[0]) / period + 1e-6).astype(np.int64)
    elif setup.ramp_rate is not None:
        times = ramp_times(drive, setup.ramp_rate)
        cycle, period = cycles_of(times, drive)
    else:
        raise InputError(
            "a loop without a column of times", where=table.path,
            hint=table.unrecognized
            + 'Say how it was driven: --frequency "10 Hz" for a sine, --ramp-rate "1 V/s" for a triangular sweep',
        )  # fmt: skip
    if table.has("cycle"):
        cycle = table.counts("cycle")
        cycle = cycle - cycle.min()
        if (np.diff(cycle) < 0).any():
            raise InputError("cycles that are out of order", where=table.path)
    loop = Loop(
        name=table.name,
        times=times,
        voltages=voltages,
        currents=currents,
        applied=applied is not None and not both,
        series_resistance=setup.series_resistance,
        periodic=setup.frequency is not None or setup.settled,
        cycle=cycle,
        temperature=setup.temperature,
        applied_voltages=applied if both else None,
        time_residual=residual,
        period=period,
        content_hash=table.content_hash,
        notes=joined,
    )
    loop = _one_period(loop) if setup.settled and period is None else loop
    return _within_compliance(loop, setup.compliance)


def _joined(table: TableFile) -> tuple[np.ndarray, tuple[str, ...]]:
    """The times of a loop; where they begin anew in every cycle, each cycle follows the one before by a usual step."""
    times = table.column("time")
    if not table.has("cycle"):
        return times, ()
    begins = np.flatnonzero(np.diff(table.counts("cycle")) != 0) + 1
    restarts = np.flatnonzero(np.diff(times) <= 0) + 1
    if not restarts.size or not np.isin(restarts, begins).all():
        return times, ()
    steps = np.diff(times)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    shifts = np.zeros(len(times))
    shifts[restarts] = times[restarts - 1] + usual - times[restarts]
    note = f"the times begin anew with the cycle, {len(restarts)} times; cycles are joined {usual:g} s apart"
    return times + np.cumsum(shifts), (note,)


def _within_compliance(loop: Loop, option: str) -> Loop:
    """`loop` without the points at a compliance limit; between its neighbors the drive is a straight line.

    The device in compliance sees less than the programmed voltage: about what it sees on the way down, at the same
    current.
    """
    drive = loop.voltages if loop.applied_voltages is None else loop.applied_voltages
    limited = limited_points(drive, loop.currents, np.asarray(loop.cycle), option, loop.name)
    out = limited.points
    if not out.any():
        return loop
    if (~out).sum() < LEAST_POINTS:
        raise InputError(
            "a loop whose points are almost all at the compliance limit", where=loop.name,
            value=f"{int(out.sum())} of {len(out)}", hint="Measure with a higher limit; --compliance none keeps all",
        )  # fmt: skip
    applied = None if loop.applied_voltages is None else loop.applied_voltages[~out]
    return dataclasses.replace(
        loop, times=loop.times[~out], voltages=loop.voltages[~out], currents=loop.currents[~out],
        cycle=np.asarray(loop.cycle)[~out], applied_voltages=applied,
        limited=np.stack([loop.times, loop.voltages, loop.currents])[:, out], notes=(*loop.notes, limited.note),
    )  # fmt: skip


def _one_period(loop: Loop) -> Loop:
    """`loop` without the last point where that is the first again, and the period that follows."""
    steps = np.abs(np.diff(loop.voltages))
    if abs(loop.voltages[-1] - loop.voltages[0]) > 0.5 * steps.max():
        return dataclasses.replace(loop, period=float(np.ptp(loop.times) + np.median(np.diff(loop.times))))
    applied = None if loop.applied_voltages is None else loop.applied_voltages[:-1]
    return dataclasses.replace(
        loop, times=loop.times[:-1], voltages=loop.voltages[:-1], currents=loop.currents[:-1],
        cycle=np.asarray(loop.cycle)[:-1], applied_voltages=applied, period=float(np.ptp(loop.times)),
    )  # fmt: skip


def _pulses(table: TableFile, setup: Setup) -> list[PulseTrain]:
    found, unit = conductances(table, setup.read_voltage, setup.current_sign, gaps=True)
    # Several columns: one ramp each.
    ramps = list(found.T) if found.shape[1] > 1 else _parted(table, found[:, 0])
    lasting = [ramp[: int(np.flatnonzero(np.isfinite(ramp))[-1]) + 1] for ramp in ramps if np.isfinite(ramp).any()]
    if not lasting:
        raise InputError("no conductance after any pulse", where=table.path)
    for number, ramp in enumerate(lasting):
        if (missing := np.flatnonzero(np.isnan(ramp))).size:
            raise InputError(
                "a pulse without its conductance", where=f"{table.path}, ramp {number + 1}, pulse {missing[0] + 1}"
            )
    trains = []
    for direction, word in ((1, "up"), (-1, "down")):
        mine = [ramp for ramp in lasting if _direction(ramp, table.path) == direction]
        if not mine:
            continue
        longest = max(len(ramp) for ramp in mine)
        padded = np.stack([np.pad(ramp, (0, longest - len(ramp)), constant_values=np.nan) for ramp in mine])
        trains.append(PulseTrain(f"{table.name}, {word}", direction, padded, unit, table.content_hash))
    return trains


def _parted(table: TableFile, values: np.ndarray) -> list[np.ndarray]:
    """Ramps below each other in one column: parted by their number, or where the count of pulses begins anew."""
    if table.has("ramp"):
        begins = np.flatnonzero(np.diff(table.counts("ramp"))) + 1
    elif table.has("pulse"):
        begins = np.flatnonzero(np.diff(table.counts("pulse")) <= 0) + 1
    else:
        begins = np.zeros(0, dtype=np.int64)
    if len(begins) > _MOST_RAMPS:
        raise InputError(
            "too many ramps of pulses", where=table.path, value=len(begins), limit=f"at most {_MOST_RAMPS}"
        )
    return np.split(values, begins)


def _direction(ramp: np.ndarray, where: str) -> int:
    """1 where the conductances of `ramp` rise, -1 where they fall, told from its first and last fifth."""
    part = max(len(ramp) // 5, 2)
    first, last = ramp[:part], ramp[-part:]
    change = last.mean() - first.mean()
    noise = np.sqrt((first.var() + last.var()) / part)
    if len(ramp) < 4 or abs(change) <= 3 * noise:
        raise InputError(
            "a ramp of pulses that neither rises nor falls beyond its noise", where=where,
            value=f"{change:.3g} from its first to its last fifth", limit=f"beyond {3 * noise:.3g}",
            hint="Pulses up and down in one column are parted by a column ramp or pulse",
        )  # fmt: skip
    return 1 if change > 0 else -1


def _levels(table: TableFile, setup: Setup) -> LevelTable:
    values = one_column(table, setup.read_voltage, setup.current_sign)
    targets = table.column("target") if table.has("target") else None
    if table.has("level"):
        _, levels = np.unique(table.counts("level"), return_inverse=True)
    elif targets is not None:
        if len(np.unique(targets)) > _MOST_RAMPS:
            raise InputError("too many different targets", where=table.path, limit=f"at most {_MOST_RAMPS}")
        _, levels = np.unique(targets, return_inverse=True)
    else:
        raise InputError("a table of levels without a column level or target", where=table.path)
    return LevelTable(table.name, levels, values, targets, table.content_hash)


def _drift(table: TableFile, setup: Setup) -> DriftTrace:
    times, values = table.column("time"), one_column(table, setup.read_voltage, setup.current_sign)
    device = table.counts("device") if table.has("device") else np.zeros(len(times), dtype=np.int64)
    later = times != 0
    notes: tuple[str, ...] = ()
    if not later.all():
        notes = (f"{int((~later).sum())} readings at t = 0 left out: a power law of the time begins after it",)
    return DriftTrace(table.name, times[later], values[later], device[later], table.content_hash, notes)
