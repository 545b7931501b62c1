"""Weights that a model multiplies by without calling the layer that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_OF_TENSORS = ("addbmm", "addmm", "addmv", "baddbmm", "bmm", "dot", "inner", "matmul", "mm", "mv")
_CONVOLUTIONS = [f"{kind}{axes}d" for kind in ("conv", "conv_transpose") for axes in (1, 2, 3)]
_PRODUCTS = frozenset(
    [
        *(getattr(torch, name) for name in (*_OF_TENSORS, "bilinear", "einsum", "tensordot")),
        *(getattr(Tensor, name) for name in (*_OF_TENSORS, "__matmul__", "__rmatmul__")),
        *(getattr(functional, name) for name in (*_CONVOLUTIONS, "bilinear", "linear")),
        torch.linalg.multi_dot,
    ]
)


class DigitalProducts(TorchFunctionMode):
    """Notes the products that torch itself computes with certain weights, or with views of them, while it is entered.

    What a module computes from its weights first, their product with a mask, is another matrix: it goes unseen.

    Args:
        weights: to look for, by name.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {_memory(weight): name for name, weight in weights.items() if weight.numel()}
        self.found: dict[str, None] = {}
        """Names of the weights that were multiplied by, in the order of their first use."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in _PRODUCTS:
            for tensor in _tensors((*args, *named.values())):
                name = self._names.get(_memory(tensor))
                if name is not None:
                    self.found[name] = None
        return func(*args, **named)


def _memory(tensor: Tensor) -> int:
    """Where its numbers are, those of a view where its base's are; 0 of a sparse tensor, which has several places."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided and not tensor.is_nested else 0


def _tensors(arguments: Any) -> Iterator[Tensor]:
    """Those among the arguments, in lists (of einsum) too."""
    for each in arguments:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)
