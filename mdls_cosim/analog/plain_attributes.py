"""Modules and tensors that a module holds in plain attributes, outside the registers of torch."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

_DEPTH = 4
"""Levels of lists, dicts, partials and closures that are searched."""

_REGISTERS = frozenset(vars(nn.Module()))
"""Attributes of `nn.Module` itself."""


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    """The instance attributes of `module` that `nn.Module` does not manage."""
    return {name: value for name, value in vars(module).items() if name not in _REGISTERS}


def held_values(value: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """The modules, tensors and arrays in `value`: itself, or within lists, tuples, sets, dicts, partials, bound methods
    and the closures and default arguments of functions."""
    if isinstance(value, nn.Module | Tensor | np.ndarray):
        yield value
    elif depth:
        for part in _parts(value):
            yield from held_values(part, depth - 1)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in _filled(value)]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    return []


def _filled(function: types.FunctionType) -> list[types.CellType]:
    """The cells of a closure that have contents."""
    return [cell for cell in function.__closure__ or () if _has_contents(cell)]


def _has_contents(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # the variable is not assigned
        return False
    return True


def functions_in(value: Any, depth: int = _DEPTH) -> Iterator[types.FunctionType]:
    """The Python functions in `value`, as of `held_values`."""
    if isinstance(value, types.FunctionType):
        yield value
    if depth and not isinstance(value, nn.Module):
        for part in _parts(value):
            yield from functions_in(part, depth - 1)


def substituted(value: Any, new: Mapping[Any, Any], depth: int = _DEPTH) -> Any:
    """`value` with every module and tensor that is a key of `new` replaced, in a new list, dict, function and so on.

    What holds none of them is returned as it is; nothing is changed in place.
    """
    if isinstance(value, nn.Module | Tensor):
        return new.get(value, value)
    if not depth or not any(isinstance(held, nn.Module | Tensor) and held in new for held in held_values(value, depth)):
        return value

    def each(part: Any) -> Any:
        return substituted(part, new, depth - 1)

    if isinstance(value, dict):
        changed = copy.copy(value)
        changed.update((key, each(part)) for key, part in value.items())
        return changed
    if isinstance(value, list):
        changed = copy.copy(value)
        changed[:] = map(each, value)
        return changed
    if isinstance(value, tuple):
        parts = tuple(map(each, value))
        return type(value)(*parts) if hasattr(value, "_fields") else parts
    if isinstance(value, set | frozenset):
        return type(value)(map(each, value))
    if isinstance(value, functools.partial):
        return type(value)(each(value.func), *map(each, value.args), **{k: each(v) for k, v in value.keywords.items()})
    if isinstance(value, types.MethodType):
        return _rebound(value, each(value.__self__), each(value.__func__))
    if isinstance(value, types.FunctionType):
        return _with_cells(value, each)
    return value


def _rebound(method: types.MethodType, owner: Any, function: Any) -> Any:
    """`method` of another owner; of one of another class, its own method of that name."""
    if isinstance(owner, type(method.__self__)):
        return types.MethodType(function, owner)
    return getattr(owner, method.__func__.__name__, method)


def _with_cells(function: types.FunctionType, each: Callable[[Any], Any]) -> types.FunctionType:
    """A copy of `function` whose closure and default arguments are passed through `each`."""
    cells = tuple(
        types.CellType(each(cell.cell_contents)) if _has_contents(cell) else cell for cell in function.__closure__ or ()
    )
    changed = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, each(function.__defaults__), cells
    )
    changed.__kwdefaults__ = each(function.__kwdefaults__)
    changed.__dict__.update(function.__dict__)
    changed.__qualname__, changed.__doc__, changed.__module__ = (
        function.__qualname__,
        function.__doc__,
        function.__module__,
    )
    return changed
