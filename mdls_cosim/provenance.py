"""Where a stored object came from: its content hash, its parents, its configuration and the tools that made it."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mdls_cosim.config import Config
from mdls_cosim.errors import InputError

if TYPE_CHECKING:
    from mdls_cosim.store import Array

_PACKAGES = ("mdls_cosim", "numpy", "scipy", "torch", "PySpice", "h5py")


class Provenance(Config):
    """The origin of a stored object. Only `content_hash` speaks of the content; two runs may share it."""

    content_hash: str
    """Of arrays, units, dims and configuration, see the function `content_hash`."""
    parents: tuple[str, ...] = ()
    """Content hashes of what this was made from."""
    config: dict[str, Any]
    """The whole configuration, in SI."""
    tools: dict[str, str]
    """Version by tool: python, numpy, scipy, torch, pyspice, mdls_cosim; ngspice and its matrix solver where used."""
    seed: int | None = None
    """Of every random draw; None where nothing was drawn."""
    created_utc: str
    """When, ISO 8601 in UTC."""

    @classmethod
    def create(
        cls,
        arrays: Mapping[str, Array],
        config: Mapping[str, Any],
        *,
        seed: int | None = None,
        tools: Mapping[str, str] | None = None,
        parents: Sequence[str] = (),
    ) -> Self:
        """The provenance of `arrays` made now from `config`; `tools` adds to (or overrides) `tool_versions()`."""
        plain = json_value(config, "config")
        return cls(
            content_hash=content_hash(arrays, plain),
            parents=tuple(parents),
            config=plain,
            tools=tool_versions() | dict(tools or {}),
            seed=seed,
            created_utc=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, nested too deeply, or an integer of more than 64 bits.
    """
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (number := int(text)) < 2**64:
        raise ValueError("an integer of more than 64 bits")
    return number


def content_hash(arrays: Mapping[str, Array], config: Mapping[str, Any]) -> str:
    """Hash ("sha256:…") of names, dtypes, shapes, units, dims and values of `arrays`, and of `config`.

    Independent of the order of the mappings, of byte order and memory layout, of time and host. Values count bit by
    bit: -0.0 is not 0.0, and float32 is not float64.
    """
    ordered = sorted(arrays.items())
    stored = [
        (name, array, np.asarray(array.values, dtype=little_endian(array.values.dtype))) for name, array in ordered
    ]
    index = [
        {"name": name, "dtype": values.dtype.str, "shape": values.shape, "units": array.units, "dims": array.dims}
        for name, array, values in stored
    ]
    text = canonical_json({"arrays": index, "config": config}).encode()
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    for _, _, values in stored:  # their lengths follow from the index
        digest.update(values.tobytes())
    return f"sha256:{digest.hexdigest()}"


def tool_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages, by lower-case name; none of them is imported."""
    return dict(_tool_versions())


@functools.cache
def _tool_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package.lower()] = version(package)
        except PackageNotFoundError:
            continue  # what is not installed took no part
    return found


def little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """`dtype` in the byte order that files and hashes use."""
    return dtype.newbyteorder("<")


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, shortest exact floats; InputError where there is none."""
    return json.dumps(json_value(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def json_value(value: Any, where: str = "value") -> Any:
    """`value` in plain JSON types, equal to what reading its JSON back gives; InputError names what has none."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError("no JSON for this number", where=where, value=repr(value), limit="finite numbers and None")
        return float(value)
    if isinstance(value, Config):
        return json_value(value.as_dict(), where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError("a key that is not text", where=where, value=key, limit="text keys")
        return {key: json_value(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, f"{where}[{position}]") for position, item in enumerate(value)]
    raise InputError(
        "no JSON for this type",
        where=where,
        value=type(value).__name__,
        limit="text, numbers, booleans, None, and lists and mappings of them",
        hint="Arrays belong among the arrays, with their units",
    )
