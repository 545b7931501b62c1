"""Draws that depend on a seed and on a name, and on nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as home_of

from mdls_cosim.devices.base import Array
from mdls_cosim.errors import InputError


@dataclass(frozen=True)
class Randomness:
    """One seed, and the names that lead to one of its streams of draws.

    The streams of two names are independent; each starts anew whenever it is asked for, so the same seed, name and
    shape give the same draws: numpy's PCG64, seeded by SHA-256 of seed and names. Drawn in float64 by numpy and then
    moved, they are the same wherever the arrays live. numpy promises its own streams within a version, not for ever.
    """

    seed: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer):
            raise InputError("a seed that is no integer", where="seed", value=self.seed)

    def stream(self, *names: Any) -> Randomness:
        """The draws under further names."""
        return Randomness(self.seed, (*self.names, *(str(name) for name in names)))

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal draws."""
        return self._generator().standard_normal(shape)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform draws from 0 to 1, 1 excluded."""
        return self._generator().random(shape)

    def choice(self, count: int, shape: tuple[int, ...]) -> np.ndarray:
        """Integers 0 … count - 1, equally likely."""
        return self._generator().integers(0, count, shape)

    def key(self) -> int:
        """64 bits that stand for seed and names."""
        text = repr((int(self.seed), self.names))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def _generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(self.key()))


def moved(draws: np.ndarray, like: Array) -> Array:
    """`draws` in the namespace, on the device and in the dtype of `like`."""
    return array_namespace(like).asarray(draws, dtype=like.dtype, device=home_of(like))
