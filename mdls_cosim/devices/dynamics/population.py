"""Many devices in one flat batch: arguments of one kind and shape, parameters of a population among them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, to_device
from array_api_compat import device as place_of

from mdls_cosim.devices.base import Array, Device
from mdls_cosim.errors import InputError

SomeDevice = TypeVar("SomeDevice", bound=Device)

_CHUNK = 1 << 14  # devices at once on a processor: what they need stays in its cache


def leader(device: Device, states: Array, *given: Array) -> Array:
    """The array that decides about namespace, precision and place: `states`, or the first array of the others."""
    candidates: tuple[Any, ...] = (states, *varied_parameters(device).values(), *given, np.asarray(0.0))
    like: Any = next(value for value in candidates if is_array_api_obj(value))
    xp = array_namespace(like)
    if xp.isdtype(like.dtype, "real floating"):
        return like
    return xp.asarray(0.0, dtype=xp.float64, device=place_of(like))


def converted(like: Array, value: Array) -> Array:
    """`value`, a number or array, as an array of the kind of `like`."""
    xp = array_namespace(like)
    if is_array_api_obj(value) and array_namespace(value) is xp:
        return to_device(xp.astype(value, like.dtype, copy=False), place_of(like))
    return xp.asarray(value, dtype=like.dtype, device=place_of(like))


def varied_parameters(device: Device) -> dict[str, Array]:
    """The parameters of a population that are arrays."""
    own = {name: getattr(device, name) for name in type(device).model_fields}
    return {name: value for name, value in own.items() if is_array_api_obj(value)}


def common_shape(device: Device, *given: Array) -> tuple[int, ...]:
    """The shape that these arrays and the parameters of the population broadcast to.

    Raises:
        InputError: there is none.
    """
    arrays: list[Any] = [*given, *varied_parameters(device).values()]
    shapes = [tuple(array.shape) for array in arrays]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise InputError(
            "states, voltages, times, speed and parameters do not fit together",
            value=", ".join(map(str, shapes)),
            limit="shapes that broadcast, the points of voltages and times aside",
        ) from None


def flat(value: Array, shape: tuple[int, ...], leading: int = 0) -> Array:
    """`value`, its last axes broadcast to `shape`, as (*its leading axes, devices); one device where all share it."""
    xp = array_namespace(value)
    lead, own = tuple(value.shape[:leading]), tuple(value.shape[leading:])
    if all(size == 1 for size in own):
        return xp.reshape(value, (*lead, 1))
    value = xp.reshape(value, (*lead, *(1,) * (len(shape) - len(own)), *own))
    return xp.reshape(xp.broadcast_to(value, (*lead, *shape)), (*lead, math.prod(shape)))


def converted_population(like: Array, device: SomeDevice) -> SomeDevice:
    """`device`, its array parameters of the kind of `like`."""
    return _with(device, {name: converted(like, value) for name, value in varied_parameters(device).items()})


def flat_population(device: SomeDevice, shape: tuple[int, ...]) -> SomeDevice:
    """`device`, its array parameters `flat`."""
    return _with(device, {name: flat(value, shape) for name, value in varied_parameters(device).items()})


def part(value: Array, index: Array) -> Array:
    """The devices `index` (a slice, or integers) of a flat array (..., devices); what all share stays."""
    return value if value.shape[-1] == 1 else value[..., index]


def part_of_population(device: SomeDevice, index: Array) -> SomeDevice:
    """The devices `index` of a flat population."""
    return _with(device, {name: part(value, index) for name, value in varied_parameters(device).items()})


def chunks(like: Array, count: int) -> Iterator[slice]:
    """Slices of `count` devices, one at least: all on an accelerator, a cache full at a time on a processor."""
    size = _CHUNK if str(place_of(like)) == "cpu" else max(count, 1)
    return (slice(begin, begin + size) for begin in range(0, max(count, 1), size))


def _with(device: SomeDevice, parameters: dict[str, Array]) -> SomeDevice:
    if not parameters:
        return device
    own = {name: getattr(device, name) for name in type(device).model_fields}
    return type(device).model_construct(**{**own, **parameters})
