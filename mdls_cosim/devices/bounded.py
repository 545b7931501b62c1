"""What keeps equations finite and exact: bounds, which stand in the SPICE twins too, and choices without a rounding."""

from __future__ import annotations

import math
from typing import Any

from mdls_cosim.devices.base import Array, namespace

EXPONENT_LIMIT = 60.0
"""Exponents are held within +-60: e^60 = 1.1e26 leaves a float32 room for factors, and no device gets near."""


def bounded_exp(exponent: Array) -> Array:
    """e^exponent of a number or an array, the exponent held within +-60."""
    return _namespace(exponent).exp(_bounded(exponent))


def bounded_expm1(exponent: Array) -> Array:
    """e^exponent - 1, exact near 0, of a number or an array, the exponent held within +-60."""
    return _namespace(exponent).expm1(_bounded(exponent))


def bounded_sinh(argument: Array) -> Array:
    """sinh of a number or an array, the argument held within +-60."""
    return _namespace(argument).sinh(_bounded(argument))


def chosen(first: Array, one: Array, other: Array) -> Array:
    """`one` where `first` is 1, `other` where it is 0: of numbers or arrays, in the type of `first`, and exactly."""
    return first * one + (1 - first) * other


def between_ends(state: Array) -> Array:
    """`state` without the rounding that leads out of 0 - 1; its gradient passes at the ends."""
    xp = namespace(state)
    return xp.where(state > 1, 1.0, xp.where(state < 0, 0.0, state))


def _bounded(exponent: Array) -> Array:
    if isinstance(exponent, float | int):
        return min(max(exponent, -EXPONENT_LIMIT), EXPONENT_LIMIT)
    xp = namespace(exponent)
    return xp.minimum(xp.maximum(exponent, -EXPONENT_LIMIT), EXPONENT_LIMIT)


def _namespace(value: Array) -> Any:
    return math if isinstance(value, float | int) else namespace(value)
