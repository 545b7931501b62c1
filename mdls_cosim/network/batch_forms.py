"""The forms that data have in torch programs, each brought to the arguments of a model's forward and to targets."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from mdls_cosim.errors import InputError

TARGET_KEYS = ("labels", "label", "label_ids", "targets", "target")
"""Keys of a batch that is a mapping under which its targets are."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Items of data as a model takes them: `model(*args, **kwargs)`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Any
    """A tensor, or whatever a metric takes; None: the items are unlabelled."""

    @property
    def items(self) -> int:
        """Length of the first axis of the first input."""
        found = next((each for each in leaves((self.args, self.kwargs)) if each.ndim), None)
        if found is None:
            kinds = ", ".join(type(each).__name__ for each in (*self.args, *self.kwargs.values())) or "nothing"
            raise InputError("expected a batch with tensors of shape (items, ...) as inputs", where="data", value=kinds)
        return len(found)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        return Batch(mapped(self.args, change), mapped(self.kwargs, change), mapped(self.targets, change))

    def to(self, place: torch.device) -> Batch:
        return self.mapped(lambda each: each.to(place))

    def take(self, which: Tensor | slice) -> Batch:
        """Some of its items; a tensor without dimensions belongs to all of them."""

        def some(each: Tensor) -> Tensor:
            if not each.ndim:
                return each
            return each[which if isinstance(which, slice) else which.to(each.device)]

        return self.mapped(some)


@dataclass(frozen=True)
class Takes:
    """The parameters of a model's forward, which decide what the parts of a batch are."""

    required: tuple[str, ...]
    """Positional parameters without a default."""
    names: tuple[str, ...]
    """All named parameters."""
    needed: frozenset[str]
    """All without a default, keyword-only ones too."""
    any_name: bool
    """Whether it takes keywords that it does not name, or does not say."""
    dtype: torch.dtype
    """Of the model's parameters; floating point arrays and lists become tensors of it."""

    @classmethod
    def of(cls, model: nn.Module | None) -> Takes:
        """Of `model.forward`; of one input where it does not say."""
        try:
            parameters = [] if model is None else list(inspect.signature(model.forward).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        positional = [each for each in named if each.kind is not each.KEYWORD_ONLY]
        dtypes = (each.dtype for each in (model.parameters() if model is not None else ()) if each.is_floating_point())
        return cls(
            tuple(each.name for each in positional if each.default is each.empty),
            tuple(each.name for each in named),
            frozenset(each.name for each in named if each.default is each.empty),
            not parameters or any(each.kind is each.VAR_KEYWORD for each in parameters),
            next(dtypes, torch.get_default_dtype()),
        )

    def batch(self, given: Any) -> Batch:
        """One batch of an iterable.

        inputs; (inputs,); (inputs, targets); ((input, input), targets); ({name: input}, targets); a mapping, dataclass
        or named tuple of inputs by name, with targets under one of `TARGET_KEYS`; (input, input, targets) or
        (input, input), of which forward tells which it is by the number of inputs that it requires.

        Raises:
            InputError: none of these.
        """
        if (fields := _fields(given, self)) is not None:
            return self._named(fields)
        if is_array(given) or not isinstance(given, tuple | list):
            return Batch((self.array(given),), {}, None)
        if not given:
            raise InputError("expected a batch of inputs, or of inputs and targets", where="data", value="an empty one")
        count, required = len(given), len(self.required)
        if count == 1:
            return self._inputs(given[0], None)
        if required == count and all(map(is_array_like, given)):
            return self._inputs(tuple(given), given[-1] if self.required[-1] in TARGET_KEYS else None)
        if count == 2:
            return self._inputs(given[0], given[1])
        if required == count - 1:
            return self._inputs(given[:-1], given[-1])
        raise InputError(
            f"a batch of {count} parts, which may be inputs or targets",
            where="data",
            value=f"forward requires {required} input{'' if required == 1 else 's'}",
            limit="(inputs, targets)",
            hint="Group them: ((input, input), targets), or {name: input} with a key labels",
        )

    def _inputs(self, inputs: Any, targets: Any) -> Batch:
        """(inputs, targets), of which the inputs are one, several or a mapping."""
        given = None if targets is None else self.targets(targets)
        if (fields := _fields(inputs, None)) is not None:
            named = self._named(fields) if given is None else self._by_name(fields)
            return named if given is None else dataclasses.replace(named, targets=given)
        if isinstance(inputs, tuple | list) and not _is_numbers(inputs) and not isinstance(inputs, PackedSequence):
            return Batch(tuple(self.array(each) for each in inputs), {}, given)
        return Batch((self.array(inputs),), {}, given)

    def _named(self, fields: Mapping[str, Any]) -> Batch:
        """Inputs by name, and the targets among them."""
        keys = [key for key in TARGET_KEYS if key in fields]
        if len(keys) > 1:
            raise InputError("a batch with several targets", where="data", value=", ".join(keys), limit="one of them")
        if not keys:
            return self._by_name(fields)
        inputs = {name: value for name, value in fields.items() if name != keys[0] or name in self.needed}
        return dataclasses.replace(self._by_name(inputs), targets=self.targets(fields[keys[0]]))

    def _by_name(self, fields: Mapping[str, Any]) -> Batch:
        odd = [name for name in fields if not isinstance(name, str)]
        if odd or not fields:
            what = f"key {odd[0]!r}" if odd else "an empty mapping"
            raise InputError("expected inputs by the names of forward's parameters", where="data", value=what)
        values = {name: self.array(value) for name, value in fields.items()}
        (first, *others) = values
        if not others and self.names and first not in self.names and len(self.required) <= 1:
            return Batch((values[first],), {}, None)  # {"image": x, "label": y} for forward(self, x)
        if not self.any_name and (unknown := [name for name in values if name not in self.names]):
            raise InputError(
                f"inputs that forward does not take: {', '.join(unknown)}",
                where="data",
                limit=", ".join(self.names) or "none by name",
                hint=f"Targets go under {', '.join(TARGET_KEYS)}; or give ({{name: input}}, targets)",
            )
        return Batch((), values, None)

    def array(self, given: Any) -> Any:
        """An input as a tensor; containers are taken apart, flags and None stay as they are."""
        if isinstance(given, Tensor):
            return _dense(given)
        if isinstance(given, np.ndarray | np.generic) or _is_numbers(given):
            found = tensor_of(given)
            return found.to(self.dtype) if found.is_floating_point() else found
        if isinstance(given, Mapping):
            return {key: self.array(value) for key, value in given.items()}
        if isinstance(given, tuple | list):
            parts = [self.array(each) for each in given]
            return type(given)(*parts) if hasattr(given, "_fields") else type(given)(parts)
        if given is None or isinstance(given, bool | numbers.Number | str):
            return given
        raise InputError(
            "expected inputs as tensors or arrays",
            where="data",
            value=type(given).__name__,
            limit="tensors, arrays, and tuples or mappings of them",
        )

    def targets(self, given: Any) -> Any:
        """Targets as a tensor, or a container of tensors."""
        if isinstance(given, Tensor):
            return _dense(given)
        if isinstance(given, np.ndarray | np.generic | numbers.Number) or _is_numbers(given):
            return tensor_of(given)
        if isinstance(given, Mapping):
            return {key: self.targets(value) for key, value in given.items()}
        if isinstance(given, tuple | list):
            return tuple(self.targets(each) for each in given)
        return given


def _dense(given: Tensor) -> Tensor:
    """`given`; InputError for a sparse or nested tensor."""
    if given.layout is not torch.strided or given.is_nested:
        raise InputError("expected dense tensors", where="data", value=str(given.layout), hint="Use to_dense()")
    return given


def tensor_of(given: Any) -> Tensor:
    """An array, a number or nested lists of numbers as a tensor.

    Raises:
        InputError: rows of different lengths, or values that are no numbers.
    """
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError("rows of different lengths", where="data", hint="Pad them to one length") from None
    if array.dtype.kind not in "biufc":
        raise InputError("expected numbers", where="data", value=f"{array.dtype} values", limit="integers or floats")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    usable = native.flags.writeable and all(stride >= 0 for stride in native.strides)
    return torch.from_numpy(native if usable else native.copy())


def whole(data: Any, takes: Takes, targets: bool) -> Batch | Literal["batches"]:
    """All data as one batch that is to be cut; or "batches" where `data` holds or gives batches.

    Args:
        targets: whether targets are asked for: then two arrays in a tuple are always inputs and targets.

    Raises:
        InputError: no data; two arrays that may be inputs and targets, or two batches of inputs.
    """
    if isinstance(data, str | bytes | nn.Module) or data is None:
        raise none_of_these(data)
    if hasattr(data, "train_inputs"):
        raise InputError("data in two parts", where="data", value=type(data).__name__, hint="Give its .train or .test")
    if is_array(data) or (isinstance(data, list) and _is_numbers(data)):
        return Batch((takes.array(data),), {}, None)
    if _fields(data, takes) is not None:
        return takes.batch(data)
    if isinstance(data, list):
        return _of_list(data, takes)
    return _of_tuple(data, takes, targets) if isinstance(data, tuple) else "batches"


def _of_list(data: list[Any], takes: Takes) -> Batch | Literal["batches"]:
    """Two arrays in a list: [inputs, labels], unless the second can be a batch of inputs."""
    count, required = len(data), len(takes.required)
    if not data or not all(map(is_array, data)):
        return "batches"
    if required > 1 and required in (count, count - 1):
        return takes.batch(tuple(data))
    if count != 2:
        return "batches"
    first, second = map(takes.array, data)
    if first.is_floating_point() and not second.is_floating_point():
        return takes.batch(tuple(data))
    if first.ndim < 2:
        raise _two_arrays(data)
    if first.shape[1:] == second.shape[1:] and first.is_floating_point():
        return "batches"
    if second.shape[1:] in ((), (1,)):
        return takes.batch(tuple(data))
    raise _two_arrays(data)


def _of_tuple(data: tuple[Any, ...], takes: Takes, targets: bool) -> Batch | Literal["batches"]:
    count, required = len(data), len(takes.required)
    if count == 0:
        return "batches"
    named = [_fields(each, None) is not None for each in data]
    if count == 2 and _is_inputs(data[0]) and (is_array_like(data[1]) or named == [False, True]):
        if not targets and all(map(is_array, data)) and required < 2 and data[0] is not data[1]:
            first, second = map(takes.array, data)
            if first.ndim > 1 and second.is_floating_point() and first.shape[1:] == second.shape[1:]:
                raise _two_arrays(data)
        return takes.batch(data)
    if not all(map(is_array_like, data)):
        return "batches"
    return takes.batch(data) if count == 1 or (required in (count, count - 1) and required > 1) else "batches"


def _is_inputs(given: Any) -> bool:
    if is_array_like(given) or _fields(given, None) is not None:
        return True
    # A pair of which the second is one of labels is a batch, and the tuple around it holds batches.
    return isinstance(given, tuple | list) and bool(given) and all(map(is_array_like, given))


def _two_arrays(data: Any) -> InputError:
    shapes = " and ".join(str(tuple(np.shape(each))) for each in data)
    return InputError(
        f"two arrays in a {type(data).__name__}, which may be inputs and targets or two batches of inputs",
        where="data",
        value=shapes,
        hint="Give the inputs alone, a list of batches ([(inputs,), (inputs,)]), or (inputs, targets) in batches",
    )


def none_of_these(data: Any) -> InputError:
    return InputError(
        "data is neither (inputs, labels) nor an iterable of such batches", where="data", value=type(data).__name__
    )


def is_array(given: Any) -> bool:
    return isinstance(given, Tensor | np.ndarray)


def is_array_like(given: Any) -> bool:
    return is_array(given) or _is_numbers(given)


def _is_numbers(given: Any) -> bool:
    """Whether lists hold numbers, and nothing else, at the innermost level; the first of each level stands for all."""
    if not isinstance(given, tuple | list) or not given or hasattr(given, "_fields"):
        return False
    first = given[0]
    return isinstance(first, numbers.Number | np.generic) or _is_numbers(first)


def _fields(given: Any, takes: Takes | None) -> Mapping[str, Any] | None:
    """The entries of a mapping or dataclass; of a named tuple where it names targets or parameters of forward."""
    if isinstance(given, Mapping):
        return given
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    if isinstance(given, tuple) and (names := getattr(given, "_fields", None)):
        known = set(names) & {*TARGET_KEYS} or (takes is not None and set(names) <= set(takes.names))
        return dict(zip(names, given, strict=True)) if known else None
    return None


def leaves(tree: Any) -> Any:
    """Every tensor in tuples, lists and mappings."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for each in tree.values():
            yield from leaves(each)
    elif isinstance(tree, tuple | list):
        for each in tree:
            yield from leaves(each)


def mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same containers, every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: mapped(each, change) for key, each in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [mapped(each, change) for each in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def joined(trees: list[Any], where: str) -> Any:
    """Containers of equal layout as one, tensors put together along the first axis.

    Raises:
        InputError: shapes or layouts that differ.
    """
    first = trees[0]
    if isinstance(first, Tensor):
        if len({(each.shape[1:], each.ndim) if isinstance(each, Tensor) else None for each in trees}) > 1:
            shapes = ", ".join(dict.fromkeys(str(tuple(each.shape)) for each in trees[:4]))
            raise InputError("batches of different shapes", where=where, value=shapes, hint="Pad them to one shape")
        return torch.stack(trees) if first.ndim == 0 else torch.cat(trees)
    if isinstance(first, Mapping):
        if any(each.keys() != first.keys() for each in trees):
            raise InputError("batches with different keys", where=where, value=", ".join(map(str, first)))
        return {key: joined([each[key] for each in trees], f"{where}.{key}") for key in first}
    if isinstance(first, tuple | list):
        if any(len(each) != len(first) for each in trees):
            raise InputError("batches of different numbers of parts", where=where, value=len(first))
        parts = [joined(list(each), where) for each in zip(*trees, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return first
