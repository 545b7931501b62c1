"""What a simulation is to find out: a network, data, hardware, and what of the hardware is varied."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import Field, ValidationInfo, model_validator

from mdls_cosim.analog import Hardware
from mdls_cosim.config import Config, load_toml, read_toml
from mdls_cosim.errors import ConfigError
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.quantities import Quantity, format_quantity
from mdls_cosim.surrogates import load
from mdls_cosim.tiles import TileSpec

Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ModelPlan(Config):
    """Where the network comes from: the zoo, or a function of the user's."""

    name: str | None = None
    """Of a network of the zoo."""
    factory: str | None = None
    """`module:function` that makes it, called with `options`; the module may lie beside the experiment."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of either."""
    weights: str | None = None
    """A safetensors file or a state_dict; absent: the table [train], or what the factory gives."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.name is None) == (self.factory is None):
            raise ConfigError("a network is named or made by a factory", limit="`name` or `factory`, one of them")
        return self


class DataPlan(Config):
    """Labelled images, to train on and to test on."""

    name: Literal["digits", "cifar10", "npz"] = "digits"
    """scikit-learn's digits, CIFAR-10 in its binary version, or arrays of the user's."""
    path: str | None = None
    """The folder of CIFAR-10, or the .npz file."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the loader (the size that digits are scaled to)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.name == "digits") != (self.path is None):
            raise ConfigError(
                "data without their place" if self.path is None else "digits come with scikit-learn and have no path",
                where="path",
                limit=None if self.path is not None else "the folder of CIFAR-10, or an .npz file",
            )
        return self


class TrainPlan(Config):
    """Training of the float network; the weights are kept in the output folder."""

    epochs: Count
    """Passes through the training data."""
    learning_rate: Positive = 1e-3
    """At the start; it falls to zero along a half cosine."""
    batch_size: Count = 64
    """Images a step."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Adam's."""


class CalibrationPlan(Config):
    """How the ranges of DACs and ADCs are found."""

    on: Literal["hardware", "ideal"] = "hardware"
    """On each point's own tiles, or on ideal ones, as of converters that are designed before the tile is known."""
    images: Count = 256
    """Of the training data, the first."""


class Simulation(Config):
    """A network on hardware, and on variations of that hardware. In TOML, one file."""

    model: ModelPlan
    """The network."""
    data: DataPlan = DataPlan()
    """What it classifies."""
    train: TrainPlan | None = None
    """Absent: the weights are given."""
    hardware: dict[str, Any]
    """Fields of `Hardware`, every quantity with its unit. `tile` is a table or a file that holds one; in its place,
    `surrogate` names a fitted one."""
    rules: dict[str, Literal["digital"] | dict[str, Any]] = Field(default_factory=dict)
    """Pattern of layer names -> what is different there, or "digital"."""
    calibration: CalibrationPlan = CalibrationPlan()
    """Of the converters."""
    sweep: dict[str, Any] = Field(default_factory=dict)
    """Field of the hardware ("adc.bits"; several that change together, "dac.bits, adc.bits") -> values. Each is varied
    on its own; all in every combination where `grid` is true."""
    runs: Count = 10
    """Chips programmed for each point: seeds `seed`, `seed` + 1, …"""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    """Of every random draw, training included."""
    images: Count | None = None
    """Of the test data, the first; absent: all."""
    batch_size: Count = 256
    """Images at a time; changes memory and speed only."""
    layer_images: Count = 32
    """Test images on which every layer's outputs are compared with those of the float network."""
    folder: Annotated[str, Field(exclude=True, repr=False)] = ""
    """Where relative paths begin; the experiment's own folder where it is read from a file."""

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        found = {"folder": (info.context or {}).get("folder", ""), **data}
        if isinstance(data.get("sweep"), Mapping):
            found["sweep"] = dict(_flat(data["sweep"]))
        return found

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, values in self.sweep.items():
            place = f'sweep."{key}"'
            if key == "grid":
                if not isinstance(values, bool):
                    raise ConfigError("an impossible value", where="sweep.grid", value=values, limit="true or false")
            elif not isinstance(values, list | tuple):
                raise ConfigError("a sweep takes a list of values", where=place, value=values)
            elif not values:
                raise ConfigError("an empty sweep", where=place, limit="a list of one value or more")
        if self.model.name is not None and self.model.weights is None and self.train is None:
            raise ConfigError(
                "a network without weights",
                where="model",
                value=self.model.name,
                hint="Name a file of `weights`, or add a table [train]",
            )
        if self.model.weights is not None and self.train is not None:
            raise ConfigError("weights that are given are not trained", where="train", hint="Leave one of them out")
        if self.calibration.on == "ideal":
            for pattern, changes in self.rules.items():
                if changes != "digital" and (named := {"rung", "tile", "surrogate"} & changes.keys()):
                    raise ConfigError(
                        "converters that are calibrated on ideal tiles have one rung and tile above them",
                        where=f'rules."{pattern}"',
                        value=", ".join(sorted(named)),
                        hint='Take calibration.on = "hardware"',
                    )
        return self

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The simulation in a TOML file."""
        return load_toml(path, cls)

    @property
    def grid(self) -> bool:
        return bool(self.sweep.get("grid", False))

    def resolve(self, path: str) -> Path:
        """A path of the experiment, from where it begins."""
        return Path(self.folder) / path

    def plan(self, where: str = "experiment") -> Plan:
        """Every point's hardware, checked.

        Args:
            where: the file, for what errors name.

        Raises:
            ConfigError: hardware that cannot be, a key that does not exist, a rung that cannot compute the tile.
        """
        base = self._base(where)
        points = [self._point("base", base, f"{where}: hardware")]
        sweeps = []
        keys = {key: values for key, values in self.sweep.items() if key != "grid"}
        together = [tuple(keys)] if self.grid else [(key,) for key in keys]
        for names in together:
            if not names:
                continue
            indices = []
            for values in itertools.product(*(keys[name] for name in names)):
                changes = list(zip(names, values, strict=True))
                label = ", ".join(f"{name} = {_text(value)}" for name, value in changes)
                raw, place = base, f"{where}: sweep {label}"
                for name, value in changes:
                    for path in _paths(name):
                        raw = _changed(raw, path, value, place)
                indices.append(len(points))
                points.append(self._point(label, raw, place))
            shape = tuple(len(keys[name]) for name in names)
            grid = np.array(indices).reshape(shape)
            axes = tuple(
                _axis(
                    name, keys[name], [points[index].hardware for index in np.moveaxis(grid, k, 0).reshape(n, -1)[:, 0]]
                )
                for k, (name, n) in enumerate(zip(names, shape, strict=True))
            )
            sweeps.append(Sweep(axes, grid))
        return Plan(tuple(points), tuple(sweeps))

    def _base(self, where: str) -> dict[str, Any]:
        """The hardware as text, its tile a table or a surrogate."""
        raw = dict(self.hardware)
        tile, file = raw.get("tile"), raw.pop("surrogate", None)
        if (tile is None) == (file is None):
            raise ConfigError(
                "hardware has one tile", where=f"{where}: hardware", limit="`tile` or `surrogate`, one of them"
            )
        raw["tile"] = load(self.resolve(str(file))) if file is not None else self._tile(tile, where)
        return raw

    def _tile(self, tile: Any, where: str) -> Any:
        """The table of a tile, its files by absolute paths."""
        if not isinstance(tile, str):
            return _absolute(tile, Path(self.folder).resolve())
        file = self.resolve(tile)
        table = read_toml(file)
        if isinstance(table.get("tile"), Mapping):  # a specification of `characterize`
            table = table["tile"]
        TileSpec.from_text_dict(table, str(file), folder=str(file.resolve().parent))
        return _absolute(table, file.resolve().parent)

    def _point(self, label: str, raw: Mapping[str, Any], where: str) -> Point:
        rules: dict[str, Hardware | None] = {}
        for pattern, changes in self.rules.items():
            if changes == "digital":
                rules[pattern] = None
                continue
            place = f'{where}, rules."{pattern}"'
            own = dict(changes)
            if "surrogate" in own:
                own["tile"] = load(self.resolve(str(own.pop("surrogate"))))
            elif isinstance(own.get("tile"), str):
                own["tile"] = self._tile(own["tile"], where)
            rules[pattern] = _hardware(_merged(raw, own), place)
        return Point(label, _hardware(raw, where), rules)


@dataclass(frozen=True)
class Point:
    """One hardware to be evaluated."""

    label: str
    """ "base", or what is swept: "adc.bits = 4"."""
    hardware: Hardware
    rules: dict[str, Hardware | None]
    """As `convert` takes them."""


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
        return " x ".join(axis.name for axis in self.axes)


@dataclass(frozen=True, eq=False)
class Plan:
    """All points, the base hardware first, and the sweeps that they belong to."""

    points: tuple[Point, ...]
    sweeps: tuple[Sweep, ...]


def needs_fit(hardware: Hardware) -> bool:
    """Whether a surrogate has to be fitted to the tile before it can be computed."""
    tile = hardware.tile
    return isinstance(tile, TileSpec) and hardware.rung == "surrogate" and not cell_law(tile).linear


def _hardware(raw: Mapping[str, Any], where: str) -> Hardware:
    tile = raw["tile"]
    if isinstance(tile, Mapping):
        tile = TileSpec.from_text_dict(tile, f"{where}, tile")
    hardware = Hardware.from_text_dict({**raw, "tile": tile}, where)
    if not needs_fit(hardware):
        hardware.tile_model()  # fails before any work is done
    return hardware


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`adc.bits = […]` without quotation marks is a table in a table: the same."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _paths(key: str) -> list[list[str]]:
    """The fields that a key of a sweep names."""
    return [name.strip().split(".") for name in key.split(",")]


def _changed(raw: Mapping[str, Any], path: list[str], value: Any, where: str) -> dict[str, Any]:
    """`raw` with the value at `path`; a member of a list is named by its kind ("programming_error")."""
    name, *rest = path
    if not rest:
        return {**raw, name: value}
    inner = raw.get(name, {})
    if isinstance(inner, list | tuple):
        kind, *rest = rest
        kinds = [_kind(each) for each in inner]
        if not rest or kinds.count(kind) != 1:
            raise ConfigError(
                "no such member of the list, or no field of it",
                where=where,
                value=".".join((name, kind, *rest)),
                limit=", ".join(f"{name}.{each}.FIELD" for each in kinds if each) or "an empty list has none",
            )
        return {**raw, name: [_changed(each, rest, value, where) if _kind(each) == kind else each for each in inner]}
    if not isinstance(inner, Mapping):
        hint = None
        if name == "tile":
            hint = (
                "A surrogate stands for one tile: give the tile as a table, and its points get surrogates of their own"
            )
        raise ConfigError("a field that has no fields of its own", where=where, value=name, hint=hint)
    return {**raw, name: _changed(inner, rest, value, where)}


def _kind(config: Any) -> str | None:
    """What tells a table, or a configuration, from others of its union."""
    tags = ("model", "kind", "effect")
    found = (config.get(tag) if isinstance(config, Mapping) else getattr(config, tag, None) for tag in tags)
    return next((tag for tag in found if isinstance(tag, str)), None)


def _merged(nominal: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`nominal` with `changes`, table by table; a table of another kind replaces the whole."""
    merged = dict(nominal)
    for name, value in changes.items():
        before = merged.get(name)
        merged[name] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(before, value) if _kind(value) in (None, _kind(before)) else value
    return merged


def _absolute(table: Any, folder: Path) -> Any:
    """A table whose keys `file` name absolute paths."""
    if not isinstance(table, Mapping):
        return table
    return {
        name: str(folder / value) if name == "file" and isinstance(value, str) else _absolute(value, folder)
        for name, value in table.items()
    }


def _axis(key: str, values: list[Any], hardware: list[Hardware]) -> Axis:
    path = _paths(key)[0]
    found = [_value(each, path) for each in hardware]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in found)
    numbers = np.array([value for value, _ in found] if numeric else range(len(found)), dtype=np.float64)
    texts = tuple(map(_text, values))
    return Axis(key, texts, numbers, found[0][1] if numeric else "", numeric)


def _value(config: Any, path: list[str]) -> tuple[Any, str]:
    """The value at `path` and its unit."""
    unit = ""
    for name in path:
        if isinstance(config, tuple):
            config = next((each for each in config if _kind(each) == name), None)
            continue
        field = type(config).model_fields.get(name) if isinstance(config, Config) else None
        if field is None:
            return None, ""
        config = getattr(config, name)
        unit = next((_symbol(each) for each in _units((*field.metadata, field.annotation))), "")
    return config, unit


def _units(annotations: tuple[Any, ...]) -> Iterator[str]:
    for each in annotations:
        if isinstance(each, Quantity):
            yield each.unit
        yield from _units(get_args(each))


def _symbol(unit: str) -> str:
    return format_quantity(1.0, unit).partition(" ")[2]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
