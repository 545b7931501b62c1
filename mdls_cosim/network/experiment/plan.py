"""The points of a simulation: every swept value as hardware and reading, checked before any work is done."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mdls_cosim.analog import Hardware, Moment
from mdls_cosim.config import Config, read_toml
from mdls_cosim.errors import ConfigError
from mdls_cosim.network.experiment import fields
from mdls_cosim.network.experiment.surrogates import needs_fit
from mdls_cosim.quantities import Temperature, Time
from mdls_cosim.surrogates import load
from mdls_cosim.tiles import TileSpec

if TYPE_CHECKING:
    from mdls_cosim.network.experiment.simulation import Simulation

Compensation = Literal["none", "drift", "columns", "batch_norm"]


class Reading(Config):
    """When chips are read, how warm they are, and what is corrected before: beside the hardware."""

    time: Time = 0.0
    """Since the programming [s]. The converters have found their ranges by then."""
    temperature: Temperature | None = None
    """Since the programming [K]; absent: that of the tiles."""
    compensation: Compensation = "none"
    """What is done to every chip before it is read: `compensate_drift`, `calibrate_columns` or
    `reestimate_batch_norm`, the last two on the images of the calibration."""

    @property
    def moment(self) -> Moment:
        return Moment(self.time, self.temperature)


@dataclass(frozen=True)
class Point:
    """One hardware to be evaluated, and how it is read."""

    label: str
    """ "base", or what is swept: "adc.bits = 4"."""
    hardware: Hardware
    rules: dict[str, Hardware | None]
    """As `convert` takes them."""
    reading: Reading


@dataclass(frozen=True, eq=False)
class Axis:
    """One swept quantity."""

    name: str
    """As in the experiment: "adc.bits"."""
    texts: tuple[str, ...]
    """Its values as given."""
    values: np.ndarray
    """SI; the number in the list, from 0, where they are no numbers."""
    unit: str
    """Of the values, "" where there is none."""
    numeric: bool
    """Whether the values are numbers."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Points along one axis, or on a grid of several."""

    axes: tuple[Axis, ...]
    points: np.ndarray
    """Indices among the plan's, an axis each."""

    @property
    def name(self) -> str:
        return fields.CROSS.join(axis.name for axis in self.axes)


@dataclass(frozen=True, eq=False)
class Plan:
    """All points, the base first, and the sweeps that they belong to."""

    points: tuple[Point, ...]
    sweeps: tuple[Sweep, ...]

    @classmethod
    def of(cls, simulation: Simulation, where: str) -> Plan:
        """Every point of a simulation; `where` is its file, for what errors name.

        Raises:
            ConfigError: hardware that cannot be, a key that does not exist, a rung that cannot compute the tile.
        """
        base = _base(simulation, where)
        points = [_point("base", base, simulation, f"{where}: hardware")]
        sweeps = []
        for lists in _crossed(simulation):
            indices = []
            for values in itertools.product(*lists.values()):
                changes = list(zip(lists, values, strict=True))
                label = ", ".join(f"{name} = {_text(value)}" for name, value in changes)
                raw, place = base, f"{where}: sweep {label}"
                for name, value in changes:
                    for path in fields.paths(name):
                        _check_field(path[0], place)
                        raw = fields.changed(raw, path, value, place)
                indices.append(len(points))
                points.append(_point(label, raw, simulation, place))
            grid = np.array(indices).reshape([len(values) for values in lists.values()])
            axes = tuple(
                _axis(name, values, [points[index] for index in np.moveaxis(grid, k, 0).reshape(len(values), -1)[:, 0]])
                for k, (name, values) in enumerate(lists.items())
            )
            sweeps.append(Sweep(axes, grid))
        return cls(tuple(points), tuple(sweeps))


def _crossed(simulation: Simulation) -> list[dict[str, list[Any]]]:
    """The values of the fields of every sweep, whose combinations are its points."""
    sweeps = []
    for key, values in simulation.sweep.items():
        if key != "grid":
            names = key.split(fields.CROSS)
            sweeps.append(dict(zip(names, values if len(names) > 1 else [values], strict=True)))
    if simulation.grid and sweeps:
        return [{name: values for each in sweeps for name, values in each.items()}]
    return sweeps


def _check_field(name: str, where: str) -> None:
    """ConfigError where neither the hardware nor the reading has such a field."""
    known = [*Hardware.model_fields, *Reading.model_fields]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else None
        raise ConfigError("unknown key", where=where, value=name, limit=", ".join(known), hint=hint)


def _base(simulation: Simulation, where: str) -> dict[str, Any]:
    """The hardware as text, its tile a table or a surrogate."""
    raw = dict(simulation.hardware)
    for name in Reading.model_fields.keys() & raw.keys():
        raise ConfigError(
            "a reading is no hardware", where=f"{where}: hardware.{name}", hint=f"Put `{name}` above all tables"
        )
    tile, file = raw.get("tile"), raw.pop("surrogate", None)
    if (tile is None) == (file is None):
        raise ConfigError(
            "hardware has one tile", where=f"{where}: hardware", limit="`tile` or `surrogate`, one of them"
        )
    raw["tile"] = load(simulation.resolve(str(file))) if file is not None else _tile(simulation, tile)
    return _absolute_variability(raw, simulation)


def _absolute_variability(raw: dict[str, Any], simulation: Simulation) -> dict[str, Any]:
    """`raw` with the file of a parameter set, where its variability names one, by an absolute path."""
    if "variability" not in raw:
        return raw
    return {**raw, "variability": fields.absolute(raw["variability"], Path(simulation.folder).resolve())}


def _tile(simulation: Simulation, tile: Any) -> Any:
    """The table of a tile, its files by absolute paths."""
    if not isinstance(tile, str):
        return fields.absolute(tile, Path(simulation.folder).resolve())
    file = simulation.resolve(tile)
    table = read_toml(file)
    if isinstance(table.get("tile"), Mapping):  # a specification of `characterize`
        table = table["tile"]
    TileSpec.from_text_dict(table, str(file), folder=str(file.resolve().parent))
    return fields.absolute(table, file.resolve().parent)


def _point(label: str, raw: Mapping[str, Any], simulation: Simulation, where: str) -> Point:
    """A point from its hardware as text, in which swept fields of the reading stand too."""
    swept = {name: value for name, value in raw.items() if name in Reading.model_fields}
    raw = {name: value for name, value in raw.items() if name not in swept}
    given = Reading.from_text_dict(swept, where)
    reading = simulation.reading.replace(**{name: getattr(given, name) for name in swept})
    rules: dict[str, Hardware | None] = {}
    for pattern, changes in simulation.rules.items():
        if changes == "digital":
            rules[pattern] = None
            continue
        own = dict(changes)
        if "surrogate" in own:
            own["tile"] = load(simulation.resolve(str(own.pop("surrogate"))))
        elif isinstance(own.get("tile"), str):
            own["tile"] = _tile(simulation, own["tile"])
        own = _absolute_variability(own, simulation)
        rules[pattern] = _hardware(fields.merged(raw, own), reading, f'{where}, rules."{pattern}"')
    return Point(label, _hardware(raw, reading, where), rules, reading)


def _hardware(raw: Mapping[str, Any], reading: Reading, where: str) -> Hardware:
    tile = raw["tile"]
    if isinstance(tile, Mapping):
        tile = TileSpec.from_text_dict(tile, f"{where}, tile")
    hardware = Hardware.from_text_dict({**raw, "tile": tile}, where)
    if not needs_fit(hardware):
        hardware.tile_model(reading.temperature)  # fails before any work is done
    return hardware


def _axis(key: str, values: list[Any], points: Sequence[Point]) -> Axis:
    path = fields.paths(key)[0]
    found = [
        fields.value_at(point.reading if path[0] in Reading.model_fields else point.hardware, path) for point in points
    ]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in found)
    numbers = np.array([value for value, _ in found] if numeric else range(len(found)), dtype=np.float64)
    return Axis(key, tuple(map(_text, values)), numbers, found[0][1] if numeric else "", numeric)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
