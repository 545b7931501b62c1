"""What a campaign is to run: a tile, its sizes and corners, and the experiments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, cast, get_args

from pydantic import Field, model_validator

from mdls_cosim.characterize.energy import EnergyPlan
from mdls_cosim.characterize.experiment import Experiment
from mdls_cosim.characterize.faults import FaultsPlan
from mdls_cosim.characterize.iv import IvPlan
from mdls_cosim.characterize.pulse import PulsePlan
from mdls_cosim.characterize.read import ReadPlan
from mdls_cosim.characterize.settle import SettlePlan
from mdls_cosim.characterize.sneak import SneakPlan
from mdls_cosim.characterize.temperature import TemperaturePlan
from mdls_cosim.characterize.write import WritePlan
from mdls_cosim.config import LARGEST_SEED, AbsentIsNone, Config
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Conductance
from mdls_cosim.tiles import TileSpec
from mdls_cosim.tiles.spec import LineCount

_CORNER = re.compile(r"[A-Za-z0-9_.+-]+")
_SIZE = re.compile(r"\d+x\d+")


@dataclass(frozen=True)
class Variant:
    """One of the tiles of a campaign."""

    name: str
    """What tells it from the others, "16x16 hot"; empty where there is no other."""
    tile: TileSpec


class Characterization(Config):
    """A tile, and the experiments to run on it, at every size and corner. In TOML each experiment is a table.

    Every field that holds an `Experiment` is one.
    """

    tile: TileSpec
    """The circuit."""
    conductance_range: Annotated[tuple[Conductance, Conductance], AbsentIsNone] = cast("tuple[float, float]", None)
    """Lowest and highest conductance that cells are programmed to [S]. Absent: what the devices of all tiles reach,
    or 1 - 100 uS (ohmic and sinh devices, subcircuits)."""
    sizes: tuple[LineCount | tuple[LineCount, LineCount], ...] = ()
    """Tile sizes: 16 is 16x16, (16, 8) is 16 rows of 8; empty: the tile's own."""
    corners: dict[str, TileSpec] = Field(default_factory=dict)
    """Tiles by name; given as a table, one holds only what differs from `tile`. Empty: the tile as it is."""
    iv: IvPlan | None = None
    """The I-V of single cells; absent: not run."""
    read: ReadPlan | None = None
    """Reads of whole tiles; absent: not run."""
    sneak: SneakPlan | None = None
    """Worst reads of one cell in a passive array; absent: not run."""
    pulse: PulsePlan | None = None
    """Trains of pulses on single devices; absent: not run."""
    write: WritePlan | None = None
    """Write-verify of cells in a tile; absent: not run."""
    settle: SettlePlan | None = None
    """Settling of the outputs; absent: not run."""
    energy: EnergyPlan | None = None
    """Energy of reads and writes; absent: not run."""
    faults: FaultsPlan | None = None
    """Broken cells and lines; absent: not run."""
    temperature: TemperaturePlan | None = None
    """Cells and tiles from cold to hot; absent: not run."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    """Of every random draw."""
    seeds: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Repetitions, with the seeds `seed`, `seed` + 1, …"""

    @model_validator(mode="before")
    @classmethod
    def _complete_corners(cls, data: Any) -> Any:
        """Corners with everything that they share with the tile."""
        if not isinstance(data, Mapping) or not isinstance(data.get("corners"), Mapping):
            return data
        tile = data.get("tile")
        nominal = tile.as_dict() if isinstance(tile, TileSpec) else tile
        if not isinstance(nominal, Mapping):
            return data
        corners = {
            name: _merged(nominal, corner) if isinstance(corner, Mapping) else corner
            for name, corner in data["corners"].items()
        }
        return {**data, "corners": corners}

    @model_validator(mode="after")
    def _check(self) -> Self:
        tiles = (self.tile, *self.corners.values())
        if self.conductance_range is None:
            ranges = [tile.conductance_range for tile in tiles]
            self._derive("conductance_range", (max(low for low, _ in ranges), min(high for _, high in ranges)))
        low, high = self.conductance_range
        if low >= high:
            raise ConfigError(
                "conductance_range must rise",
                where="conductance_range",
                value=f"{low:g} S, {high:g} S",
                limit="the lowest before the highest",
            )
        if not self.experiments:
            tables = [f"[{name}]" for name in experiment_names()]
            raise ConfigError(f"no experiment is asked for; add a table {', '.join(tables[:-1])} or {tables[-1]}")
        for name in self.corners:
            if not _CORNER.fullmatch(name) or _SIZE.fullmatch(name):
                raise ConfigError(
                    "not a name for a corner",
                    where="corners",
                    value=name,
                    limit='letters, digits and "_.+-", and not like a size',
                )
        names = [f"{rows}x{cols}" for rows, cols in map(_shape, self.sizes)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError("a size is given twice", where="sizes", value=twice)
        for tile in tiles:
            tile.check_conductances("conductance_range", low, high)
        return self

    @property
    def experiments(self) -> dict[str, Experiment]:
        """The experiments to run, by name."""
        found = {name: getattr(self, name) for name in experiment_names()}
        return {name: plan for name, plan in found.items() if plan is not None}

    def variants(self) -> tuple[Variant, ...]:
        """The tiles: every size of every corner."""
        corners = self.corners or {"": self.tile}
        variants = []
        for corner, tile in corners.items():
            sizes = [_shape(size) for size in self.sizes] or [(tile.rows, tile.cols)]
            for rows, cols in sizes:
                parts = [f"{rows}x{cols}"] * (len(sizes) > 1) + [corner] * (len(corners) > 1)
                variants.append(Variant(" ".join(parts), tile.replace(rows=rows, cols=cols)))
        return tuple(variants)


def experiment_names() -> tuple[str, ...]:
    """The fields of a Characterization that hold an experiment."""
    return tuple(
        name
        for name, field in Characterization.model_fields.items()
        if any(isinstance(kind, type) and issubclass(kind, Experiment) for kind in get_args(field.annotation))
    )


def _shape(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _merged(nominal: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`nominal` with `changes`, table by table; a table of another `model` replaces the whole."""
    merged = dict(nominal)
    for name, value in changes.items():
        before = merged.get(name)
        merged[name] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            same = value.get("model", before.get("model")) == before.get("model")
            merged[name] = _merged(before, value) if same else value
    return merged
