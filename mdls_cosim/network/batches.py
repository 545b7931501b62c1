"""Data of any form that torch programs use, as batches that can be read any number of times."""

from __future__ import annotations

import numbers
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from mdls_cosim.errors import InputError
from mdls_cosim.network.batch_forms import Batch, Takes, joined, leaves, none_of_these, whole
from mdls_cosim.network.user_code import call

Data = Any
"""(inputs, targets), inputs alone where no targets are needed, or an iterable of such batches: a DataLoader, a Dataset,
a list, a generator. The inputs of a batch are a tensor, a tuple of tensors, or a mapping from the names of forward's
parameters (Hugging Face); arrays and nested lists are taken too. See `Takes.batch` for all forms of a batch."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)


class Batches:
    """Batches of (args, kwargs, targets), alike in every pass.

    What only gives its batches once, as a generator, is held in memory. An iterable that draws (a DataLoader with
    shuffle) finds torch's, NumPy's and Python's random numbers in each pass as they were in the first; the global
    states stay as they are.

    Args:
        data: see `Data`.
        batch_size: items of a batch, of data that come as a whole or as a Dataset.
        model: its forward tells how many inputs it takes.
        targets: whether every item needs a target.
        same: whether every pass gives the same batches; a training draws anew.
        use: what the data are for, and
        where: the argument that they are, both for the error where they hold no items.

    Raises:
        InputError: no data, or of a form that is not known; here, or when they are read: inputs that are not finite,
            targets that are missing, other items in a later pass.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        model: nn.Module | None = None,
        *,
        targets: bool = True,
        same: bool = True,
        use: str = "evaluate on",
        where: str = "data",
    ) -> None:
        self.batch_size = whole_number(batch_size, "batch_size", "a batch holds at least one item")
        self.whole: Batch | None = None
        """All items, where the data came as such."""
        self._takes = Takes.of(model)
        self._targets = targets
        self._use, self._where = use, where
        self._draws: _Draws | None = None
        self._used_up = isinstance(data, Iterator)
        self._first: list[tuple[float, ...]] | None = None  # a mark of every batch of the first pass
        found = whole(data, self._takes, targets)
        if found != "batches":
            self.whole = found
            self._check_lengths(found)
            return
        if isinstance(data, Dataset):
            data = DataLoader(data, batch_size=batch_size)
        if not isinstance(data, Iterable):
            raise none_of_these(data)
        self._source = data
        if self._used_up:
            self._source = list(self._given())
        elif same and not isinstance(data, tuple | list):
            self._draws = _Draws(data)

    def __iter__(self) -> Iterator[Batch]:
        if self.whole is not None:
            given: Iterable[Batch] = self._parts(self.whole)
        else:
            given = (self._takes.batch(each) for each in self._given())
        marks: list[tuple[float, ...]] = []
        seen = 0
        for batch in given:
            if not (items := batch.items):
                continue
            if self._targets and batch.targets is None and self.whole is not None:
                raise none_of_these(self.whole.args[0] if self.whole.args else self.whole.kwargs)
            if self._targets and batch.targets is None:
                shape = tuple(next(leaves((batch.args, batch.kwargs))).shape)
                raise InputError("batches without labels", where="data", value=shape, limit="(inputs, labels)")
            if isinstance(batch.targets, Tensor) and batch.targets.ndim == 0:
                raise InputError(
                    "expected batches of items, got single items with one target each",
                    where="data",
                    hint="Give a DataLoader of them",
                )
            self._check_finite(batch, seen)
            if self._draws is not None:
                marks.append(_mark(batch))
                if self._first is not None and self._first[: len(marks)] != marks:
                    raise _other_items()
            seen += items
            yield batch
        if not seen:
            hint = "An iterator that was read before gives nothing more" if self._used_up else None
            raise InputError(f"there is no data to {self._use}", where=self._where, value="0 items", hint=hint)
        if self._draws is not None:
            if self._first is not None and len(self._first) != len(marks):
                raise _other_items()
            self._first = marks

    def __len__(self) -> int:
        """Number of items; reads all where the data are batches."""
        return self.whole.items if self.whole is not None else sum(batch.items for batch in self)

    def permuted(self, order: Tensor) -> Batches:
        """The items of `whole` in another order."""
        assert self.whole is not None
        moved = object.__new__(Batches)
        moved.__dict__ = {**self.__dict__, "whole": self.whole.take(order)}
        return moved

    def take(self, places: Tensor) -> list[Batch]:
        """The items at `places`, in one batch if their shapes are alike, else in the batches they come in."""
        if self.whole is not None:
            found = self.whole.take(places)
            self._check_finite(found, 0)
            return [found]
        taken, order, begin = [], [], 0
        for batch in self:
            here = torch.nonzero((places >= begin) & (places < begin + batch.items))[:, 0]
            if len(here):
                chosen = places[here] - begin
                taken.append(batch.take(chosen))
                order.append(here)
            begin += batch.items
        try:
            args, kwargs, targets = joined([(each.args, each.kwargs, each.targets) for each in taken], "data")
        except InputError:
            return taken
        return [Batch(args, kwargs, targets).take(torch.cat(order).argsort())]

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        for begin in range(0, batch.items, self.batch_size):
            yield batch.take(slice(begin, begin + self.batch_size))

    def _given(self) -> Iterator[Any]:
        """What the source gives, in one pass."""
        end = object()
        if self._draws is not None:
            self._draws.begin()
        iterator = self._drawn(iter, self._source)
        while (each := self._drawn(next, iterator, end)) is not end:
            yield each

    def _drawn(self, function: Any, *arguments: Any) -> Any:
        if self._draws is None:
            return call(function, *arguments, what="the data", where="data")
        with self._draws:
            return call(function, *arguments, what="the data", where="data")

    def _check_lengths(self, batch: Batch) -> None:
        inputs = batch.items
        others = [*leaves((batch.args, batch.kwargs))]
        if wrong := [len(each) for each in others if each.ndim and len(each) != inputs]:
            raise InputError("inputs differ in number", where="data", value=f"{inputs} and {wrong[0]} items")
        if isinstance(batch.targets, Tensor) and not batch.targets.ndim:
            raise InputError("inputs and labels differ in number", where="data", value=f"{inputs} inputs, one label")
        for each in leaves(batch.targets):
            if each.ndim and len(each) != inputs:
                raise InputError(
                    "inputs and labels differ in number", where="data", value=f"{inputs} inputs, {len(each)} labels"
                )

    def _check_finite(self, batch: Batch, before: int) -> None:
        """InputError for NaN or infinity in an input; a mask that is added may be -infinity."""
        names = self._takes.names[: len(batch.args)]
        named = [*zip((*names, *[""] * len(batch.args)), batch.args, strict=False), *batch.kwargs.items()]
        for name, value in named:
            for each in leaves(value):
                if each.dtype not in _FLOATS:
                    continue
                wrong = ~torch.isfinite(each)
                if "mask" in name:
                    wrong &= ~torch.isneginf(each)
                if bool(wrong.any()):
                    first = torch.nonzero(wrong)[0]
                    place = before + int(first[0]) if each.ndim else before
                    raise InputError(
                        "inputs that are not finite",
                        where=f"data, item {place}" + (f", {name}" if len(named) > 1 and name else ""),
                        value=each[tuple(first.tolist())].item(),
                        limit="finite numbers",
                    )


class _Draws:
    """The random numbers that an iterable draws, alike in every pass."""

    def __init__(self, source: Any) -> None:
        samplers = (source, getattr(source, "sampler", None), getattr(source, "batch_sampler", None))
        owners = (*samplers, *(getattr(each, "sampler", None) for each in samplers))
        found = (getattr(each, "generator", None) for each in owners)
        generators = {id(each): each for each in found if isinstance(each, torch.Generator)}
        self._generators = [(each, each.get_state()) for each in generators.values()]
        self._start = self._own = _states()
        # A sampler without a generator takes a seed from the global one, among what workers take: it gets its own.
        self._lent = [each for each in owners if isinstance(each, Sampler) and getattr(each, "generator", 0) is None]
        own = torch.Generator()
        own.set_state(torch.get_rng_state())
        self._generators += [(own, own.get_state())] if self._lent else []
        self._own_generator = own

    def begin(self) -> None:
        self._own = self._start
        for generator, state in self._generators:
            generator.set_state(state)

    def __enter__(self) -> None:
        self._outside = _states()
        _set_states(self._own)
        for each in self._lent:
            setattr(each, "generator", self._own_generator)  # noqa: B010  # the class of Sampler does not declare it

    def __exit__(self, *exception: object) -> None:
        self._own = _states()
        _set_states(self._outside)
        for each in self._lent:
            setattr(each, "generator", None)  # noqa: B010


def _states() -> tuple[Any, ...]:
    # NumPy's global generator is not used here, but a user's augmentation may draw from it.
    return torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002


def _set_states(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])  # noqa: NPY002


def _mark(batch: Batch) -> tuple[float, ...]:
    """Numbers that differ where the items of a batch do."""
    found: list[float] = [batch.items]
    for each in leaves((batch.args, batch.kwargs, batch.targets)):
        real = torch.view_as_real(each.detach()) if each.is_complex() else each.detach()
        found.append(float(real.sum(dtype=torch.float64)))
        if real.numel():
            found.append(float(real.flatten()[0]))
    return tuple(0.0 if each != each else each for each in found)


def _other_items() -> InputError:
    return InputError(
        "the data gave other items in a later pass",
        where="data",
        hint="Runs are compared on the same items: fix the order and the draws, or give list(data)",
    )


def whole_number(value: Any, where: str, what: str, least: int = 1) -> int:
    """`value` as an int; InputError, which says `what`, for others than whole numbers from `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InputError(what, where=where, value=value, limit=f"whole numbers from {least}")
    return int(value)


def place_of(model: nn.Module) -> torch.device:
    """Where the model computes: the device of its first parameter or buffer."""
    held = next(model.parameters(), None)
    held = next(model.buffers(), None) if held is None else held
    return torch.device("cpu") if held is None else held.device
