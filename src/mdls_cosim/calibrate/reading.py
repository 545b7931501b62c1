"""From the table in a file to the measurement that it holds."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mdls_cosim.calibrate.measurement import DriftTrace, LevelTable, Loop, Measurement, PulseTrain
from mdls_cosim.calibrate.plausible import check_measurement
from mdls_cosim.calibrate.table_file import TableFile, read_table
from mdls_cosim.calibrate.waveforms import cycles_of, fit_sine, ramp_times
from mdls_cosim.config import Config
from mdls_cosim.devices.base import ROOM_TEMPERATURE
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import Frequency, Quantity, Resistance, Temperature, Voltage

Kind = Literal["loop", "pulses", "levels", "drift"]
KINDS: tuple[Kind, ...] = ("loop", "pulses", "levels", "drift")

_COLUMNS: dict[Kind, str] = {
    "loop": "voltage (or applied voltage) and current, and time unless --frequency or --ramp-rate is given",
    "pulses": "conductance (or current with --read-voltage), one or several, and pulse or ramp",
    "levels": "conductance, and level or target",
    "drift": "time and conductance, and device where there are several",
}
"""What a measurement of each kind is made of."""


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
    """At which currents of pulses, levels and drift were read [V]."""
    temperature: Temperature = ROOM_TEMPERATURE
    """Ambient [K]."""


class MeasuredFile(Setup):
    """A file of measurements in a list of them."""

    file: str
    """Its path, from the folder of the list."""
    hold_out: bool = False
    """It is not fitted, only compared."""


class MeasuredFiles(Config):
    """A list of files, each with its own setup: `[[measured]]` tables in a TOML file."""

    measured: Annotated[tuple[MeasuredFile, ...], Field(min_length=1)]


def read_measurement(path: str | os.PathLike[str], setup: Setup | None = None) -> tuple[list[Measurement], TableFile]:
    """The measurements in a file, all of one kind, and its table.

    A file holds one loop, one table of levels or one set of drift traces; or ramps of pulses, as one PulseTrain a
    direction.

    Raises:
        StoreError, ConfigError, InputError: see `read_table`; the columns make no measurement of this kind; what
            they hold cannot be one.
    """
    setup = setup or Setup()
    table = read_table(path, setup.columns, setup.decimal_comma)
    kind = setup.kind or _kind_of(table)
    found = _measurements(kind, table, setup)
    for each in found:
        check_measurement(each, table)
    return found, table


def _measurements(kind: Kind, table: TableFile, setup: Setup) -> list[Measurement]:
    if kind == "loop":
        return [_loop(table, setup)]
    if kind == "pulses":
        return list(_pulses(table, setup))
    return [_levels(table, setup) if kind == "levels" else _drift(table, setup)]


def kind_of(measurement: Measurement) -> Kind:
    """The kind of a measurement, as options name it."""
    kinds: dict[type, Kind] = {Loop: "loop", PulseTrain: "pulses", LevelTable: "levels", DriftTrace: "drift"}
    return kinds[type(measurement)]


def _kind_of(table: TableFile) -> Kind:
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


def _loop(table: TableFile, setup: Setup) -> Loop:
    both = table.has("voltage") and table.has("applied voltage")
    applied = table.column("applied voltage") if table.has("applied voltage") else None
    voltages = table.column("voltage") if applied is None or both else applied
    currents = table.column("current")
    drive = voltages if applied is None else applied
    residual, period = None, None
    if table.has("time"):
        times = table.column("time")
        if (late := np.flatnonzero(np.diff(times) <= 0)).size:
            raise InputError(
                "times that do not increase", where=f"{table.path}, line {table.lines[late[0] + 1]}",
                value=f"{times[late[0] + 1]:g} s after {times[late[0]]:g} s",
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
            hint='Say how it was driven: --frequency "10 Hz" for a sine, --ramp-rate "1 V/s" for a triangular sweep',
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
    )
    return _one_period(loop) if setup.settled and period is None else loop


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
    conductances, unit = _conductances(table, setup, gaps=True)
    # Several columns: one ramp each.
    ramps = list(conductances.T) if conductances.shape[1] > 1 else _parted(table, conductances[:, 0])
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
    conductances = _one(table, setup)
    targets = table.column("target") if table.has("target") else None
    if table.has("level"):
        _, levels = np.unique(table.counts("level"), return_inverse=True)
    elif targets is not None:
        _, levels = np.unique(targets, return_inverse=True)
    else:
        raise InputError("a table of levels without a column level or target", where=table.path)
    return LevelTable(table.name, levels, conductances, targets, table.content_hash)


def _drift(table: TableFile, setup: Setup) -> DriftTrace:
    device = table.counts("device") if table.has("device") else np.zeros(0, dtype=np.int64)
    return DriftTrace(table.name, table.column("time"), _one(table, setup), device, table.content_hash)


def _one(table: TableFile, setup: Setup) -> np.ndarray:
    conductances, unit = _conductances(table, setup, gaps=False)
    if conductances.shape[1] != 1 or not unit:
        raise InputError("one column of conductances with a unit is needed", where=table.path)
    return conductances[:, 0]


def _conductances(table: TableFile, setup: Setup, gaps: bool) -> tuple[np.ndarray, str]:
    """Conductances (rows, columns) [S], or shares, and their unit; from currents and resistances too."""
    for name in ("conductance", "current", "resistance"):
        places = table.places(name)
        if not places:
            continue
        values = table.values[:, places] if gaps and len(places) > 1 else table.column(name)[:, None]
        if name == "conductance":
            units = {table.columns[place].unit == "" for place in places}
            if len(units) > 1:
                raise ConfigError("conductances with a unit and without one", where=table.path)
            return values, "" if units == {True} else "S"
        if name == "resistance":
            if np.nanmin(values) <= 0:
                raise InputError(
                    "a resistance that is not above zero", where=table.path, value=float(np.nanmin(values))
                )
            return 1 / values, "S"
        if not setup.read_voltage:
            raise InputError(
                "currents without their read voltage", where=table.path,
                hint='Give it: --read-voltage "0.1 V"',
            )  # fmt: skip
        return values / setup.read_voltage, "S"
    raise InputError(
        "no column for the conductance", where=table.path, value=", ".join(c.name for c in table.columns),
        hint='Name it in the header with its unit, as "conductance [uS]", or declare the columns with --columns',
    )  # fmt: skip
