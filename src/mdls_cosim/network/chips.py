"""The analog layers of a model and their programming."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mdls_cosim.analog import AnalogLayer
from mdls_cosim.analog.composite import layer_seed
from mdls_cosim.analog.plain_attributes import plain_attributes, substituted
from mdls_cosim.errors import NotAvailable

Model = TypeVar("Model", bound=nn.Module)


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """Every analog layer once, by its first name in the model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AnalogLayer)}


def copied(model: Model) -> Model:
    """A deep copy.

    A layer that is pruned or normalised by a hook keeps weights that it has computed, which torch refuses to copy: the
    copy gets their numbers, which its next call computes anew. Functions that a module holds as attributes or hooks and
    whose closures refer to parts of the model are copied too, and refer to the parts of the copy.

    Raises:
        NotAvailable: a model that cannot be copied.
    """
    held = [each for module in model.modules() for value in vars(module).values() for each in _tensors(value)]
    memo: dict[int, Any] = {id(each): each.detach().clone() for each in held if not each.is_leaf}
    computed = dict(memo)
    try:
        made = copy.deepcopy(model, memo)
    except _NO_COPY as error:
        raise NotAvailable(
            f"the model cannot be copied ({type(error).__name__}: {str(error)[:100]})",
            where=_uncopyable(model, computed),
            hint="copy.deepcopy must work on it: remove what it holds beside modules, tensors and plain values",
        ) from error
    new = {
        each: memo[id(each)] for each in (*model.modules(), *model.parameters(), *model.buffers()) if id(each) in memo
    }
    for module in made.modules():
        for name, value in {**plain_attributes(module), **_hooks(module)}.items():
            if (own := substituted(value, new)) is not value:
                object.__setattr__(module, name, own)
    return made


_NO_COPY = (TypeError, AttributeError, RuntimeError, NotImplementedError)


def _uncopyable(model: nn.Module, memo: dict[int, Any], name: str = "") -> str:
    """The name of the innermost module that cannot be copied."""
    for child, module in model.named_children():
        try:
            copy.deepcopy(module, dict(memo))
        except _NO_COPY:
            return _uncopyable(module, memo, f"{name}.{child}" if name else child)
    return f"{name or '(model)'} ({type(model).__name__})"


def _hooks(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name.endswith("_hooks")}


def _tensors(value: Any) -> list[Tensor]:
    several = value if isinstance(value, list | tuple) else [value]
    return [each for each in several if isinstance(each, Tensor)]


def program(model: nn.Module, seed: int) -> None:
    """Programs every analog layer anew.

    The same seed gives every layer of the same name and shape the same draws, on whichever rung: models stay paired.
    """
    for name, layer in analog_layers(model).items():
        layer.program(layer_seed(seed, name))


@contextmanager
def kept_chips(model: nn.Module) -> Iterator[None]:
    """Gives every layer its chip back afterwards."""
    layers = list(analog_layers(model).values())
    chips = [layer.chip() for layer in layers]
    try:
        yield
    finally:
        for layer, chip in zip(layers, chips, strict=True):
            layer.restore(chip)


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Gives every digital module its buffers back afterwards, the statistics of a batch norm above all."""
    modules = [module for module in model.modules() if not isinstance(module, AnalogLayer)]
    buffers = [buffer for module in modules for buffer in module.buffers(recurse=False)]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(buffers, kept, strict=True):
                buffer.copy_(before)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`model.eval()` for a while; every module gets its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
