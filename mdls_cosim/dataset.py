"""What SPICE said: the arrays of every experiment, the configuration behind them, and where they came from."""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from mdls_cosim import store
from mdls_cosim.config import check_stored
from mdls_cosim.errors import InputError, StoreError
from mdls_cosim.provenance import Provenance, content_hash, json_value
from mdls_cosim.store import Array, Group

ENCODING_TYPE = "mdls_cosim.dataset"
ENCODING_VERSION = "1.1"
LARGEST_DECKS = 512_000_000
"""Size of the texts of all decks that are unpacked [bytes]; one of 128x128 sinh cells has 3 MB."""
_EXPERIMENT_TYPE = "mdls_cosim.experiment"
_EXPERIMENT_VERSION = "1"
_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Failure:
    """A point that gave no numbers: NaN stands for them in the arrays."""

    experiment: str
    label: str
    """Which point: "read 32x32 hot, seed 3, tile 5"."""
    cause: str
    """In one line."""
    deck: str
    """The circuit that failed, a file that runs alone; empty where it did not come to one."""
    log: str
    """What ngspice said."""
    attempts: int
    """How often it was tried, over all runs."""


@dataclass(frozen=True)
class Variant:
    """The arrays of one experiment on one of several tiles."""

    label: str
    """What tells it from the others, "16x16 hot"; empty where there is no other."""
    rows: int | None
    cols: int | None
    corner: str | None
    arrays: dict[str, Array]


@dataclass(frozen=True)
class Dataset:
    """Results of experiments ("read", "iv", ...), each a set of named arrays whose axes agree in length.

    An experiment on several tiles is several: "read 16x16 hot", see `variants`. `failures` lists the points that gave
    no numbers; it and `outside` are not part of the content hash. `config` is the full specification (SI, JSON types),
    with the tile under "tile". Made by `Dataset.create`.
    """

    experiments: dict[str, dict[str, Array]]
    config: dict[str, Any]
    provenance: Provenance
    failures: tuple[Failure, ...] = ()
    outside: dict[str, dict[str, int]] = field(default_factory=dict)
    """Uses beyond the measurements of the device's parameter set, by experiment and quantity."""

    def __post_init__(self) -> None:
        for name, arrays in self.experiments.items():
            _check_axes(name, arrays)
        self._as_group()  # refuses names that no file can hold

    @classmethod
    def create(
        cls,
        experiments: Mapping[str, Mapping[str, Array]],
        config: Mapping[str, Any],
        seed: int | None,
        tools: Mapping[str, str] | None = None,
        parents: Sequence[str] = (),
        failures: Sequence[Failure] = (),
        outside: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Self:
        """A dataset made now; `tools` adds what `tool_versions()` cannot know (ngspice, its solver)."""
        kept = {name: dict(arrays) for name, arrays in experiments.items()}
        plain = json_value(config, "config")
        origin = Provenance.create(_flat(kept), plain, seed=seed, tools=tools, parents=parents)
        beyond = {name: dict(counts) for name, counts in (outside or {}).items()}
        return cls(kept, plain, origin, tuple(failures), beyond)

    @property
    def content_hash(self) -> str:
        """Of arrays, units, dims and configuration; the same inputs and seed give the same."""
        return self.provenance.content_hash

    def variants(self, experiment: str) -> tuple[Variant, ...]:
        """The experiment's arrays, tile by tile; empty where it was not run."""
        tile, sizes = self.config.get("tile") or {}, self.config.get("sizes") or ()
        corners = self.config.get("corners") or {}
        found = []
        for name, arrays in self.experiments.items():
            if name.partition(" ")[0] != experiment:
                continue
            label = name[len(experiment) + 1 :]
            size, corner = _split(label)
            corner = corner or (next(iter(corners)) if len(corners) == 1 else None)
            if size is None and len(sizes) == 1:
                size = (sizes[0], sizes[0]) if isinstance(sizes[0], int) else (sizes[0][0], sizes[0][1])
            own = corners.get(corner) or tile
            rows, cols = size or (own.get("rows"), own.get("cols"))
            found.append(Variant(label, rows, cols, corner, arrays))
        return tuple(found)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `path` (HDF5), whole or not at all. Errors: StoreError; InputError where arrays were changed."""
        if not self._holds_its_hash():
            raise InputError(
                "arrays or configuration differ from the content hash",
                where="dataset",
                hint="They were changed after Dataset.create: create a new dataset",
            )
        store.write(path, self._as_group())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The dataset in the file at `path`. Errors: StoreError, see `store.read`."""
        where = os.fspath(path)
        group = store.read(path, ENCODING_TYPE, ENCODING_VERSION)
        for part in group.groups.values():
            part.require(_EXPERIMENT_TYPE, _EXPERIMENT_VERSION, where)
        try:
            provenance = Provenance(**group.attributes["provenance"])
            check_stored(provenance.config, where)
            experiments = {name: part.arrays for name, part in group.groups.items()}
            failures = _unpacked_all(group.attributes.get("failures", ()))
            outside = {
                str(name): {str(quantity): int(count) for quantity, count in counts.items()}
                for name, counts in group.attributes.get("outside", {}).items()
            }
            dataset = cls(experiments, provenance.config, provenance, failures, outside)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise StoreError(f"not laid out as a dataset ({error})", where=where) from error
        if not dataset._holds_its_hash():
            raise StoreError("its content is not what its content hash says", where=where)
        return dataset

    def _as_group(self) -> Group:
        parts = {
            name: Group(_EXPERIMENT_TYPE, _EXPERIMENT_VERSION, arrays=arrays)
            for name, arrays in self.experiments.items()
        }
        attributes: dict[str, Any] = {"provenance": self.provenance.as_dict()}
        if self.failures:
            attributes["failures"] = [_packed(failure) for failure in self.failures]
        if self.outside:
            attributes["outside"] = self.outside
        return Group(ENCODING_TYPE, ENCODING_VERSION, attributes, groups=parts)

    def _holds_its_hash(self) -> bool:
        return content_hash(_flat(self.experiments), self.config) == self.content_hash


def _flat(experiments: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    return {f"{name}/{key}": array for name, arrays in experiments.items() for key, array in arrays.items()}


def _packed(failure: Failure) -> dict[str, Any]:
    """Plain values; decks are long and alike, so compressed (zlib, base64)."""
    return asdict(failure) | {"deck": base64.b64encode(zlib.compress(failure.deck.encode())).decode("ascii")}


def _unpacked_all(packed: Sequence[Mapping[str, Any]]) -> tuple[Failure, ...]:
    failures: list[Failure] = []
    left = LARGEST_DECKS
    for values in packed:
        failures.append(_unpacked(values, left))
        left -= len(failures[-1].deck)
    return tuple(failures)


def _unpacked(values: Mapping[str, Any], largest: int) -> Failure:
    """A failure with its deck; ValueError if that is not compressed text of at most `largest` bytes."""
    unpacker = zlib.decompressobj()
    try:
        # One byte beyond the limit: a limit of 0 would be none.
        content = unpacker.decompress(base64.b64decode(values["deck"], validate=True), largest + 1)
        deck = content.decode()
    except zlib.error as error:
        raise ValueError(f"a deck that is not compressed text: {error}") from error
    if len(content) > largest:
        raise ValueError(f"decks of more than {LARGEST_DECKS} bytes in all")
    if not unpacker.eof:
        raise ValueError("a deck that is not compressed text: it is cut off")
    return Failure(**{**values, "deck": deck})


def _split(label: str) -> tuple[tuple[int, int] | None, str | None]:
    """Size and corner of a variant's label, "16x16 hot"."""
    first, _, rest = label.partition(" ")
    size = _SIZE.fullmatch(first)
    return (None, label or None) if size is None else ((int(size[1]), int(size[2])), rest or None)


def _check_axes(experiment: str, arrays: Mapping[str, Array]) -> None:
    """InputError where one axis has two lengths."""
    lengths: dict[str, tuple[int, str]] = {}
    for name, array in arrays.items():
        for axis, length in zip(array.dims, array.values.shape, strict=True):
            known, owner = lengths.setdefault(axis, (length, name))
            if known != length:
                raise InputError(
                    f'axis "{axis}" has two lengths',
                    where=f"{experiment}/{name}",
                    value=length,
                    limit=f"{known}, as in {owner}",
                )
