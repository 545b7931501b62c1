"""What a simulation is to find out: a network, data, hardware, and what of the hardware is varied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from mdls_cosim.config import LARGEST_SEED, Config, load_toml
from mdls_cosim.errors import ConfigError
from mdls_cosim.network.experiment import fields
from mdls_cosim.network.experiment.plan import Plan, Reading
from mdls_cosim.quantities import RATIO

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
    factory: str | None = None
    """`module:function` that gives the data in their place; see `data.labelled`."""
    path: str | None = None
    """The folder of CIFAR-10, or the .npz file."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the loader (the size that digits are scaled to)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.factory is not None:
            if self.name != "digits" or self.path is not None:
                raise ConfigError("data are named or made by a factory", limit="`name` or `factory`, one of them")
            return self
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
    learning_rate: Annotated[Positive, RATIO] = 1e-3
    """At the start; it falls to zero along a half cosine."""
    batch_size: Count = 64
    """Images a step."""
    weight_decay: Annotated[float, RATIO, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Adam's."""
    loss: str | None = None
    """`module:function` of outputs and targets; absent: the cross entropy."""


class CalibrationPlan(Config):
    """How the ranges of DACs and ADCs are found."""

    on: Literal["hardware", "ideal"] = "hardware"
    """On each point's own tiles, or on ideal ones, as of converters that are designed before the tile is known."""
    images: Count = 256
    """Of the training data, the first."""


class Simulation(Reading):
    """A network on hardware, when it is read, and variations of both. In TOML, one file."""

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
    """Field of the hardware or of the reading ("adc.bits", "time"; several that change together, "dac.bits, adc.bits")
    -> values. Each is varied on its own. "adc.bits x time" -> a list of values for each: all combinations; so are those
    of all keys where `grid` is true."""
    runs: Count = 10
    """Chips programmed for each point: seeds `seed`, `seed` + 1, …"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED, strict=True)] = 0
    """Of every random draw, training included."""
    images: Count | None = None
    """Of the test data, the first; absent: all."""
    batch_size: Count = 256
    """Images at a time. With noise that is drawn at every read it decides which image gets which draw, and so changes
    the numbers of a run within its spread."""
    metric: str | None = None
    """`module:function` of outputs and targets that gives a number; absent: the accuracy. See `evaluate`."""
    output: str | int | None = None
    """Key or index of the output that counts, of a network that returns several."""
    layer_images: Count = 32
    """Test images on which every layer's outputs are compared with those of the float network."""
    _folder: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("sweep"), Mapping):
            return {**data, "sweep": dict(fields.flat(data["sweep"]))}
        return data

    def model_post_init(self, context: Any) -> None:
        self._folder = (context or {}).get("folder", "")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, values in self.sweep.items():
            place = f'sweep."{key}"'
            if key == "grid":
                if not isinstance(values, bool):
                    raise ConfigError("an impossible value", where="sweep.grid", value=values, limit="true or false")
                continue
            names = key.split(fields.CROSS)
            if not isinstance(values, list | tuple):
                raise ConfigError("a sweep takes a list of values", where=place, value=values)
            crossed = values if len(names) > 1 else [values]
            if len(crossed) != len(names) or not all(isinstance(each, list | tuple) for each in crossed):
                raise ConfigError(
                    "a sweep of combinations takes a list of values for each of its fields",
                    where=place,
                    value=values,
                    limit=f"{len(names)} lists in a list",
                )
            if len(set(names)) < len(names):
                raise ConfigError("a field that is varied twice", where=place)
            if not all(crossed):
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
    def folder(self) -> str:
        """Where relative paths begin; the experiment's own folder where it is read from a file."""
        return self._folder

    @property
    def reading(self) -> Reading:
        """Of the base."""
        return Reading(**{name: getattr(self, name) for name in Reading.model_fields})

    def as_given(self) -> dict[str, Any]:
        """`as_dict` without the keys that earlier versions do not have, where they are absent."""
        found = self.as_dict()
        tables = ((found, ("metric", "output")), (found["data"], ("factory",)), (found["train"] or {}, ("loss",)))
        for table, names in tables:
            for name in names:
                if name in table and table[name] is None:
                    del table[name]
        return found

    @property
    def grid(self) -> bool:
        return bool(self.sweep.get("grid", False))

    def resolve(self, path: str) -> Path:
        """A path of the experiment, from where it begins."""
        return Path(self.folder) / path

    def plan(self, where: str = "experiment") -> Plan:
        """Every point, checked; see `Plan.of`."""
        return Plan.of(self, where)
