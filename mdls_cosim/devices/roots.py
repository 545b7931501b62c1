"""Roots of many rising functions of one unknown at once: implicit device equations, on numpy and torch alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as array_device

from mdls_cosim.devices.base import Array
from mdls_cosim.errors import ConvergenceError

MOST_STEPS = 200
"""A bracket is used up by about 60 halvings, with some steps of Newton's between."""
BLOCK = 4096
"""Elements at a time on a CPU: what an equation of a hundred operations needs for them fits its cache (2.5 times as
fast as 10^5 at once)."""
WORTH_SPLITTING = 64
"""From so many elements on, those that are done leave."""


def rising_root(
    function: Callable[..., tuple[Array, Array]],
    arguments: tuple[Any, ...],
    bracket: tuple[float, float],
    start: float,
    tolerance: float = 1e-6,
) -> Array:
    """The u within `bracket` where function(u, *arguments) = 0, element by element.

    Newton's method, halving the bracket wherever a step leads out of it or does not shrink: it converges for every
    continuous function that rises. Elements that are done leave the iteration. One more step follows, which brings the
    error from about `tolerance` squared to rounding. Where arguments carry gradients these are two, outside of the
    iteration, which is not recorded: by them the result has first and second derivatives (implicit differentiation).

    Args:
        function: (u, *arguments) -> (value, slope); of float64.
        arguments: arrays, which broadcast, and numbers; at least one array.
        bracket: u is sought here; where the function has no zero within, the end nearest to it is the result.
        start: first u.
        tolerance: of the last step of the iteration, absolute.

    Raises:
        ConvergenceError: more than `MOST_STEPS` steps. A NaN among the arguments gives NaN.
    """
    arrays = [argument for argument in arguments if _is_array(argument)]
    xp, where = array_namespace(*arrays), array_device(arrays[0])
    shape = np.broadcast_shapes(*(tuple(array.shape) for array in arrays))
    tracked = any(getattr(array, "requires_grad", False) for array in arrays)
    plain = [_constant(xp, argument, shape) for argument in arguments]
    size = math.prod(shape)
    first = xp.full((size,), start, dtype=xp.float64, device=where)
    block = BLOCK if str(where) == "cpu" else max(size, 1)
    found = []
    for begin in range(0, size, block):
        part = slice(begin, begin + block)
        own = [argument[part] if _is_array(argument) else argument for argument in plain]
        unknown = _iterated(xp, function, own, bracket, first[part], tolerance)
        found.append(unknown if tracked else _step(xp, function, unknown, own, bracket))
    unknown = xp.reshape(xp.concat(found) if found else first, shape)
    if tracked:
        for _ in range(2):
            unknown = _step(xp, function, unknown, arguments, bracket)
    return unknown


def _step(xp: Any, function: Callable, unknown: Array, arguments: Sequence[Any], bracket: tuple[float, float]) -> Array:
    """One step of Newton's, within the bracket; none where the function is flat."""
    value, slope = function(unknown, *arguments)
    rises = slope > 0
    step = xp.where(rises, value, 0 * value) / xp.where(rises, slope, 1 + 0 * slope)
    return xp.minimum(xp.maximum(unknown - step, bracket[0]), bracket[1])


def _iterated(
    xp: Any, function: Callable, arguments: list[Any], bracket: tuple[float, float], start: Array, tolerance: float
) -> Array:
    """The roots but for the last steps, flat."""
    found = xp.asarray(start, copy=True)
    places = xp.arange(start.shape[0], device=array_device(start))
    unknown = start
    low, high = xp.full_like(start, bracket[0]), xp.full_like(start, bracket[1])
    last = high - low
    left = start.shape[0]
    if left == 0:
        return found
    for _ in range(MOST_STEPS):
        value, slope = function(unknown, *arguments)
        low, high = xp.where(value <= 0, unknown, low), xp.where(value >= 0, unknown, high)
        rises = slope > 0
        newton = unknown - value / xp.where(rises, slope, 1.0)
        step = xp.abs(newton - unknown)
        shrinks = (step <= last / 2) | (step <= tolerance)
        safe = rises & shrinks & (newton >= low) & (newton <= high)
        new = xp.where(safe, newton, (low + high) / 2)
        last = xp.abs(new - unknown)
        unknown = xp.where(xp.isnan(value), value, new)
        busy = last > tolerance
        left = int(xp.count_nonzero(busy))
        if left == 0:
            found[places] = unknown
            return found
        if busy.shape[0] > WORTH_SPLITTING and left < 0.7 * busy.shape[0]:
            found[places] = unknown
            places, unknown, low, high, last = (each[busy] for each in (places, unknown, low, high, last))
            arguments = [argument[busy] if _is_array(argument) else argument for argument in arguments]
    raise ConvergenceError(
        "a device equation without solution",
        value=f"{left} of {found.shape[0]} elements",
        limit=f"{MOST_STEPS} steps",
        hint="Its parameters lie outside of what the model describes.",
    )


def _is_array(argument: Any) -> bool:
    return hasattr(argument, "shape")


def _constant(xp: Any, argument: Any, shape: tuple[int, ...]) -> Any:
    """`argument` without gradient, flat; a number stays one."""
    if not _is_array(argument):
        return argument
    plain = argument.detach() if hasattr(argument, "detach") else argument
    return xp.reshape(plain if plain.shape == shape else xp.broadcast_to(plain, shape), (-1,))
