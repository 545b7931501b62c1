"""What SPICE said: the arrays of every experiment, the configuration behind them, and where they came from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mdls_cosim import store
from mdls_cosim.errors import InputError, StoreError
from mdls_cosim.provenance import Provenance, content_hash, json_value
from mdls_cosim.store import Array, Group

ENCODING_TYPE = "mdls_cosim.dataset"
ENCODING_VERSION = "1"
_EXPERIMENT_TYPE = "mdls_cosim.experiment"
_EXPERIMENT_VERSION = "1"


@dataclass(frozen=True)
class Dataset:
    """Results of experiments ("read", "iv", ...), each a set of named arrays whose axes agree in length.

    `config` is the full specification (SI, JSON types), with the tile under "tile". Made by `Dataset.create`.
    """

    experiments: dict[str, dict[str, Array]]
    config: dict[str, Any]
    provenance: Provenance

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
    ) -> Self:
        """A dataset made now; `tools` adds what `tool_versions()` cannot know (ngspice, its solver)."""
        kept = {name: dict(arrays) for name, arrays in experiments.items()}
        plain = json_value(config, "config")
        origin = Provenance.create(_flat(kept), plain, seed=seed, tools=tools, parents=parents)
        return cls(kept, plain, origin)

    @property
    def content_hash(self) -> str:
        """Of arrays, units, dims and configuration; the same inputs and seed give the same."""
        return self.provenance.content_hash

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
            experiments = {name: part.arrays for name, part in group.groups.items()}
            dataset = cls(experiments, provenance.config, provenance)
        except (LookupError, TypeError, ValueError) as error:
            raise StoreError(f"not laid out as a dataset ({error})", where=where) from error
        if not dataset._holds_its_hash():
            raise StoreError("its content is not what its content hash says", where=where)
        return dataset

    def _as_group(self) -> Group:
        parts = {
            name: Group(_EXPERIMENT_TYPE, _EXPERIMENT_VERSION, arrays=arrays)
            for name, arrays in self.experiments.items()
        }
        return Group(ENCODING_TYPE, ENCODING_VERSION, {"provenance": self.provenance.as_dict()}, groups=parts)

    def _holds_its_hash(self) -> bool:
        return content_hash(_flat(self.experiments), self.config) == self.content_hash


def _flat(experiments: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    return {f"{name}/{key}": array for name, arrays in experiments.items() for key, array in arrays.items()}


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
