"""Values of attributes as they were, for runs that must not change what the next one starts from."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def kept_value(value: Any, inside: frozenset[int] = frozenset()) -> Callable[[], Any]:
    """A function that gives `value` back with its content of now.

    Tensors and arrays, random generators of torch, NumPy and Python, and lists, tuples, dicts, sets, deques,
    dataclasses and namespaces of these; other objects are given back as they are then.

    Args:
        inside: ids of the containers that `value` is in.
    """
    if (restored := _restored(value)) is not None:
        return restored
    if id(value) in inside:  # a container that holds itself
        return lambda: value
    inside = inside | {id(value)}
    if type(value) is tuple:
        parts = [kept_value(each, inside) for each in value]
        return lambda: tuple(part() for part in parts)
    if type(value) in (list, deque):
        parts = [kept_value(each, inside) for each in value]
        return lambda: _refilled(value, [part() for part in parts])
    if type(value) in (dict, OrderedDict, defaultdict, Counter):
        entries = {key: kept_value(each, inside) for key, each in value.items()}
        return lambda: _refilled(value, {key: part() for key, part in entries.items()})
    if type(value) is set:
        before = set(value)
        return lambda: _refilled(value, before)
    if _has_fields(value):
        fields = {name: kept_value(each, inside) for name, each in vars(value).items()}
        return lambda: _with_fields(value, {name: part() for name, part in fields.items()})
    return lambda: value


def _restored(value: Any) -> Callable[[], Any] | None:
    """For what changes in place and holds nothing else; None for other values."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return _of_tensor(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return _of_array(value)
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, np.random.Generator | np.random.RandomState):
        source: Any = value if isinstance(value, np.random.RandomState) else value.bit_generator
        now = source.get_state() if isinstance(value, np.random.RandomState) else copy.deepcopy(source.state)
        return lambda: _set_back(value, now)
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: _set_back(value, python)
    return None


def _of_tensor(value: Tensor) -> Callable[[], Tensor]:
    before = value.detach().clone()

    def restored() -> Tensor:
        if not torch.equal(value, before):
            with torch.no_grad():
                value.copy_(before)
        return value

    return restored


def _of_array(value: np.ndarray) -> Callable[[], np.ndarray]:
    before = value.copy()

    def restored() -> np.ndarray:
        if value.shape == before.shape and value.flags.writeable:
            value[...] = before
        return value

    return restored


def _set_back(generator: Any, state: Any) -> Any:
    """The same generator at `state`."""
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state
    return generator


def _has_fields(value: Any) -> bool:
    """Whether `value` is a namespace, or a dataclass that can be changed."""
    if isinstance(value, SimpleNamespace):
        return True
    known = dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__")
    return known and not type(value).__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]


def _with_fields(value: Any, fields: dict[str, Any]) -> Any:
    """The same object with these attributes alone."""
    vars(value).clear()
    vars(value).update(fields)
    return value


def _refilled(container: Any, content: Any) -> Any:
    """The same list, deque, set or dict with `content`."""
    container.clear()
    container.extend(content) if isinstance(container, list | deque) else container.update(content)
    return container
