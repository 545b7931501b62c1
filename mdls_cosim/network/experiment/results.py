"""What a simulation found, and its file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from mdls_cosim import store
from mdls_cosim.dataset import Failure
from mdls_cosim.errors import InputError, StoreError
from mdls_cosim.network.experiment.plan import Sweep
from mdls_cosim.provenance import Provenance, content_hash, json_value
from mdls_cosim.store import Array, Group

ENCODING_TYPE = "mdls_cosim.simulation"
ENCODING_VERSION = "1"
_PART_TYPE = "mdls_cosim.simulation_part"
_PART_VERSION = "1"

COUNTS = (
    "reads", "dac_conversions", "dac_saturated", "adc_conversions", "adc_saturated", "accumulator_saturated"
)  # fmt: skip
"""Of every layer in a run, named as in `Counters`."""
CLIPPED = ("clipped_weights", "clipped_conductances")
"""Of every layer when its chip is programmed."""

Found = Mapping[str, np.ndarray]
"""What one run gave; see `units.solve`."""


@dataclass(frozen=True)
class SimulationResult:
    """Accuracies and counts of all points of a simulation; a point that failed is NaN.

    The axes of a sweep are named like the swept fields. `config` holds the experiment, the base hardware (SI), names of
    layers and limits, and hashes of weights and data.
    """

    base: dict[str, Array]
    """At the base hardware: what a sweep has, without its axes; `float_accuracy`, and each layer's `layer_error`."""
    sweeps: dict[str, dict[str, Array]]
    """By the names of the swept fields."""
    config: dict[str, Any]
    provenance: Provenance
    failures: tuple[Failure, ...] = ()

    @classmethod
    def create(
        cls,
        base: Mapping[str, Array],
        sweeps: Mapping[str, Mapping[str, Array]],
        config: Mapping[str, Any],
        seed: int,
        parents: Sequence[str] = (),
        failures: Sequence[Failure] = (),
        tools: Mapping[str, str] | None = None,
    ) -> Self:
        """A result found now."""
        parts = {name: dict(arrays) for name, arrays in sweeps.items()}
        plain = json_value(config, "config")
        origin = Provenance.create(_flat(base, parts), plain, seed=seed, tools=tools, parents=parents)
        return cls(dict(base), parts, plain, origin, tuple(failures))

    @property
    def content_hash(self) -> str:
        """Of arrays and configuration; the same experiment gives the same."""
        return self.provenance.content_hash

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an HDF5 file, whole or not at all.

        Raises:
            StoreError: the file cannot be written.
            InputError: arrays were changed after `create`.
        """
        if content_hash(_flat(self.base, self.sweeps), self.config) != self.content_hash:
            raise InputError("arrays or configuration differ from the content hash", where="simulation result")
        attributes: dict[str, Any] = {"provenance": self.provenance.as_dict()}
        if self.failures:
            attributes["failures"] = [asdict(failure) for failure in self.failures]
        sweeps = {name: Group(_PART_TYPE, _PART_VERSION, arrays=arrays) for name, arrays in self.sweeps.items()}
        groups = {
            "base": Group(_PART_TYPE, _PART_VERSION, arrays=self.base),
            "sweeps": Group(_PART_TYPE, _PART_VERSION, groups=sweeps),
        }
        store.write(path, Group(ENCODING_TYPE, ENCODING_VERSION, attributes, groups=groups))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The result in a file.

        Raises:
            StoreError: the file is missing, damaged, of another kind or of a newer version.
        """
        where = os.fspath(path)
        group = store.read(path, ENCODING_TYPE, ENCODING_VERSION)
        try:
            provenance = Provenance(**group.attributes["provenance"])
            sweeps = group.groups["sweeps"].groups
            for part in (group.groups["base"], *sweeps.values()):
                part.require(_PART_TYPE, _PART_VERSION, where)
            base = group.groups["base"].arrays
            parts = {name: part.arrays for name, part in sweeps.items()}
            failures = tuple(Failure(**each) for each in group.attributes.get("failures", ()))
            result = cls(base, parts, provenance.config, provenance, failures)
        except (LookupError, TypeError, ValueError) as error:
            raise StoreError(f"not laid out as a simulation ({error})", where=where) from error
        if content_hash(_flat(base, parts), result.config) != result.content_hash:
            raise StoreError("its content is not what its content hash says", where=where)
        return result


@dataclass(frozen=True)
class Names:
    """What the axes "layer" and "limit" count."""

    layers: tuple[str, ...]
    limits: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Found | None]) -> Self:
        """Of all runs that gave something, in the order of appearance."""
        known = [found for found in runs if found is not None]
        return cls(
            tuple(dict.fromkeys(name for found in known for name in found["layers"].tolist())),
            tuple(sorted({name for found in known for name in found["limits"].tolist()})),
        )


def point_arrays(runs: np.ndarray, names: Names, axes: tuple[str, ...] = ()) -> dict[str, Array]:
    """Arrays of what runs gave.

    Args:
        runs: `Found`, or None for one that failed, (*axes, run).
        names: of layers and limits.
        axes: names of the leading axes.
    """
    shape = runs.shape
    accuracy = np.full(shape, np.nan)
    counts = np.full((*shape, len(names.layers), len(COUNTS)), np.nan)
    clipped = np.full((*shape, len(names.layers), len(CLIPPED)), np.nan)
    outside = np.full((*shape, len(names.layers), len(names.limits)), np.nan)
    for place in np.ndindex(shape):
        found = runs[place]
        if found is None:
            continue
        # Journals of earlier versions count the images that are right.
        accuracy[place] = found["value"] if "value" in found else found["right"] / found["images"]
        layers = [names.layers.index(name) for name in found["layers"].tolist()]
        limits = [names.limits.index(name) for name in found["limits"].tolist()]
        counts[place][layers] = found["counts"]
        clipped[place][layers] = found["clipped"]
        outside[place][layers] = 0.0
        outside[(*place, *np.ix_(layers, limits))] = found["outside"]
    by_layer = (*axes, "run", "layer")
    arrays = {
        "accuracy": Array(accuracy, "1", (*axes, "run")),
        "accuracy_mean": Array(accuracy.mean(-1), "1", axes),
        "accuracy_std": Array(_spread(accuracy), "1", axes),
        "outside": Array(outside, "1", (*by_layer, "limit")),
        "outside_by_layer": Array(outside.sum(-3), "1", (*axes, "layer", "limit")),
        "outside_total": Array(outside.sum((-3, -2, -1)), "1", axes),
    }
    for k, name in enumerate(COUNTS):
        arrays[name] = Array(counts[..., k], "1", by_layer)
    for k, name in enumerate(CLIPPED):
        arrays[name] = Array(clipped[..., k], "1", by_layer)
        arrays[f"{name}_per_chip"] = Array(clipped[..., k].sum(-1).mean(-1), "1", axes)
        arrays[f"{name}_per_chip_by_layer"] = Array(clipped[..., k].mean(-2), "1", (*axes, "layer"))
    for converter in ("dac", "adc"):
        of, saturated = (arrays[f"{converter}_{what}"].values for what in ("conversions", "saturated"))
        arrays[f"{converter}_saturation"] = Array(_share(saturated.sum((-2, -1)), of.sum((-2, -1))), "1", axes)
        by = _share(saturated.sum(-2), of.sum(-2))
        arrays[f"{converter}_saturation_by_layer"] = Array(by, "1", (*axes, "layer"))
    return arrays


def sweep_arrays(sweep: Sweep, runs: np.ndarray, names: Names) -> dict[str, Array]:
    """`point_arrays` of a sweep, and the values of its axes."""
    axes = tuple(axis.name for axis in sweep.axes)
    values = {axis.name: Array(axis.values, axis.unit or "1", (axis.name,)) for axis in sweep.axes}
    return values | point_arrays(runs, names, axes)


def _spread(accuracy: np.ndarray) -> np.ndarray:
    """Sample standard deviation over the runs; NaN for a single one."""
    if accuracy.shape[-1] < 2:
        return np.full(accuracy.shape[:-1], np.nan)
    return accuracy.std(-1, ddof=1)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.where(np.isnan(whole), np.nan, np.zeros_like(part)), where=whole > 0)


def _flat(base: Mapping[str, Array], sweeps: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    flat = {f"base/{name}": array for name, array in base.items()}
    return flat | {f"sweeps/{part}/{name}": array for part, arrays in sweeps.items() for name, array in arrays.items()}
