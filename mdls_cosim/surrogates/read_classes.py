"""Classes of conductances and inputs that a Dataset's reads belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdls_cosim.errors import InputError


def class_names(tiles: Sequence[str], vectors: Sequence[str]) -> np.ndarray:
    """`conductance class / input class` of every read, (tile, vector)."""
    return np.array([[f"{tile} / {vector}" for vector in vectors] for tile in tiles])


def class_codes(arrays: Mapping[str, Any], config: Mapping[str, Any], of: str) -> np.ndarray:
    """Codes of the classes of tiles (`of` "conductance") or vectors ("input"), which count those of the configuration.

    Raises:
        InputError: there are none, or other numbers.
    """
    name = f"{of}_class"
    if name not in arrays:
        raise InputError("reads without the classes that they belong to", where=f"read/{name}")
    codes, count = np.asarray(arrays[name]), len(_names(config, of))
    if codes.dtype.kind not in "iu" or np.any(codes < 0) or (count and np.any(codes >= count)):
        raise InputError(
            "codes of classes that cannot be", where=f"read/{name}", value=codes,
            limit="whole numbers from 0" + (f" to {count - 1}" if count else ""),
        )  # fmt: skip
    return codes


def seen_classes(config: Mapping[str, Any], of: str, codes: np.ndarray) -> tuple[str, ...] | None:
    """Names of the classes with these codes; None where the Dataset does not record them."""
    names = _names(config, of)
    return None if not names else tuple(names[code] for code in np.unique(codes))


def read_classes(config: Mapping[str, Any], classes: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """`conductance class / input class` of every read, (tile, vector)."""
    tiles = np.array(_names(config, "conductance") or [str(code) for code in range(int(classes.max()) + 1)])
    vectors = np.array(_names(config, "input") or [str(code) for code in range(int(inputs.max()) + 1)])
    return class_names(tiles[classes].tolist(), vectors[inputs].tolist())


def _names(config: Mapping[str, Any], of: str) -> list[str]:
    names = (config.get("read") or {}).get(f"{of}_classes")
    return list(names) if names else []
