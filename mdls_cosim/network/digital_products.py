"""Products that a model computes itself, past its layers."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

import mdls_cosim.analog
from mdls_cosim.analog import AnalogLayer
from mdls_cosim.analog.plain_attributes import held_values, plain_attributes

_OF_TENSORS = ("addbmm", "addmm", "addmv", "baddbmm", "bmm", "dot", "inner", "matmul", "mm", "mv")
_CONVOLUTIONS = [f"{kind}{axes}d" for kind in ("conv", "conv_transpose") for axes in (1, 2, 3)]
_PRODUCTS = frozenset(
    [
        *(getattr(torch, name) for name in (*_OF_TENSORS, "bilinear", "einsum", "tensordot", "chain_matmul")),
        *(getattr(Tensor, name) for name in (*_OF_TENSORS, "__matmul__", "__rmatmul__")),
        *(getattr(functional, name) for name in (*_CONVOLUTIONS, "bilinear", "linear", "scaled_dot_product_attention")),
        torch.linalg.multi_dot,
        torch.linalg.matmul,
    ]
)
_ANALOG = os.path.join(os.path.dirname(mdls_cosim.analog.__file__), "")

_DATA = "\0data"
"""Stands for the inputs of the model among the sources of a tensor."""

_Sources = frozenset[str]


class DigitalProducts(TorchFunctionMode):
    """Notes the products that a model computes with torch outside of its analog layers, while it is entered.

    Every tensor is followed from its sources, which are the inputs of the model, its weights and its other tensors, so
    that a weight is known in what was computed from it. A product counts if its factors are not all weights.

    Args:
        model: is watched through hooks, which are removed at the exit.
        names: reported names of weights and of other tensors, and those tensors.
        silent: tensors whose products are known and not reported.
    """

    def __init__(self, model: nn.Module, names: Mapping[str, Tensor], silent: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._model = model
        self._silent = frozenset(silent)
        self._names = {_memory(tensor): name for name, tensor in {**silent, **names}.items()}
        self._names.pop(0, None)
        self._sources: Any = WeakTensorKeyDictionary()
        self._running: list[str] = []
        self._handles: list[Any] = []
        self.weights: dict[str, None] = {}
        """Names of the weights and other constant tensors that were multiplied by, in the order of their first use."""
        self.activations: dict[str, None] = {}
        """Products of two tensors that both depend on the input, by module and function."""

    def __enter__(self) -> DigitalProducts:
        for name, module in self._model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            before, after = self._hooks(name or "(model)", isinstance(module, AnalogLayer))
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(after, with_kwargs=True, always_call=True))
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*failure)

    def _hooks(self, name: str, analog: bool) -> tuple[Any, Any]:
        def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
            if not self._running:  # the inputs of the model
                self._mark((args, kwargs), frozenset([_DATA]))
            self._running.append(name)

        def after(_module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
            self._running.pop()
            if analog:
                self._mark(outputs, frozenset([_DATA]))

        return before, after

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        operands = [self._sources_of(tensor) for tensor in _tensors((*args, *named.values()))]
        if func in _PRODUCTS and not _in_analog_code():
            factors = [tensor for tensor in _tensors((*args, *named.values())) if tensor.ndim]
            self._note(func, factors, [self._sources_of(tensor) for tensor in factors])
        if sources := frozenset[str]().union(*operands):
            self._mark(result, sources)
        return result

    def _note(self, func: Any, factors: list[Tensor], sources: list[_Sources]) -> None:
        place = self._running[-1] if self._running else "(model)"
        known = [(tensor, each) for tensor, each in zip(factors, sources, strict=True) if each and _DATA not in each]
        of_weights = [each for tensor, each in known if tensor.ndim > 1]  # biases and vectors aside
        moving = sum(_DATA in each for each in sources)
        if of_weights and len(known) < len(sources):
            for name in sorted(frozenset[str]().union(*of_weights) - self._silent):
                self.weights[name] = None
        elif moving == 1:
            unknown = [tensor for tensor, each in zip(factors, sources, strict=True) if not each and tensor.ndim > 1]
            for tensor in unknown:
                self.weights[f"a tensor {tuple(tensor.shape)} in {place}"] = None
        elif moving > 1:
            self.activations[f"{func.__name__.strip('_')} in {place}"] = None

    def _sources_of(self, tensor: Tensor) -> _Sources:
        known: _Sources | None = self._sources.get(tensor)
        if known is not None:
            return known
        name = self._names.get(_memory(tensor))
        return frozenset() if name is None else frozenset([name])

    def _mark(self, result: Any, sources: _Sources) -> None:
        for tensor in _tensors([result]):
            self._sources[tensor] = sources | self._sources_of(tensor)


def _memory(tensor: Tensor) -> int:
    """Where its numbers are, those of a view where its base's are; 0 if there is no such place, as of an empty one."""
    uninitialized = torch.nn.parameter.is_lazy(tensor)
    if uninitialized or tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
        return 0
    with contextlib.suppress(RuntimeError, NotImplementedError):  # functional tensors have none
        return tensor.untyped_storage().data_ptr()
    return 0


def _tensors(arguments: Any) -> Iterator[Tensor]:
    """Those among the arguments, in lists, tuples and dicts too."""
    for each in arguments:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)
        elif isinstance(each, dict):
            yield from _tensors(each.values())


def _in_analog_code() -> bool:
    """Whether a layer of `mdls_cosim.analog` computes."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_ANALOG):
            return True
        frame = frame.f_back
    return False


def plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors and arrays in plain attributes of the modules of `model`, by module and attribute."""
    known = {id(each) for each in (*model.parameters(), *model.buffers())}
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, AnalogLayer):
            continue
        for attribute, value in plain_attributes(module).items():
            place = f"{name}.{attribute}" if name else attribute
            for held in held_values(value):
                if isinstance(held, nn.Module):
                    inner = {**dict(held.named_parameters()), **dict(held.named_buffers())}
                    found |= {f"{place}.{part}": each for part, each in inner.items() if id(each) not in known}
                elif isinstance(held, np.ndarray):
                    if held.dtype.kind == "f" and held.flags.writeable and held.flags.c_contiguous:
                        found[place] = torch.from_numpy(held)
                elif id(held) not in known:
                    found[place] = held
    return found
