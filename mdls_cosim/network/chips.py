"""The analog layers of a model and their programming."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mdls_cosim.analog import AnalogLayer
from mdls_cosim.analog.composite import layer_seed
from mdls_cosim.analog.plain_attributes import plain_attributes, substituted
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.network.kept_values import kept_value

Model = TypeVar("Model", bound=nn.Module)


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """Every analog layer once, by its first name in the model; InputError where `model` is none."""
    if not isinstance(model, nn.Module):
        raise InputError("expected a torch.nn.Module", where="model", value=type(model).__name__)
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


def hooked_input(arguments: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """The input of an analog layer in a forward hook that is registered with `with_kwargs=True`."""
    return arguments[0] if arguments else named["input" if "input" in named else "inputs"]


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
    Where weights have changed, the scale of layers with scaling "network" is found anew.
    """
    layers = analog_layers(model)
    if any(layer.weights_changed for layer in layers.values()):
        share_scale(layers.values())
    for name, layer in layers.items():
        layer.program(layer_seed(seed, name))


def share_scale(layers: Iterable[AnalogLayer]) -> list[AnalogLayer]:
    """Gives the layers with scaling "network" the largest scale among them, for the next programming; returns them."""
    sharing = [layer for layer in layers if layer.hardware.scaling == "network"]
    scale = max((layer.own_scale for layer in sharing), default=0.0)
    for layer in sharing:
        layer.network_scale = scale or None
    return sharing


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
def kept_state(model: nn.Module, leave: Collection[nn.Module] = ()) -> Iterator[None]:
    """Gives every digital module its state back afterwards: buffers, and attributes that are tensors, arrays,
    random generators, plain values, or containers of these (`kept_values`).

    A buffer keeps its identity, also where the module has put another tensor in its place; what the module has added
    meanwhile is removed. Modules in `leave` keep their new state. So do analog layers: their chips and counters have
    functions of their own.
    """
    left = set(leave)
    modules = [module for module in model.modules() if not isinstance(module, AnalogLayer) and module not in left]
    buffers = [dict(module._buffers) for module in modules]
    values = {id(each): each.detach().clone() for kept in buffers for each in kept.values() if each is not None}
    attributes = [{name: kept_value(value) for name, value in _own_attributes(module)} for module in modules]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, kept in zip(modules, buffers, strict=True):
                for each in kept.values():
                    if each is not None and not torch.equal(each, values[id(each)]):
                        each.copy_(values[id(each)])
                if not isinstance(module, torch.jit.ScriptModule):  # which cannot put others in their place
                    module._buffers.clear()
                    module._buffers.update(kept)
        for module, before in zip(modules, attributes, strict=True):
            for name, _ in _own_attributes(module):
                if name not in before:
                    del module.__dict__[name]
            module.__dict__.update({name: restore() for name, restore in before.items()})


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _own_attributes(module: nn.Module) -> list[tuple[str, Any]]:
    """Name and value of what a class of the user's, not torch, has in its modules."""
    return [(name, value) for name, value in vars(module).items() if name not in _OF_EVERY_MODULE]


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
