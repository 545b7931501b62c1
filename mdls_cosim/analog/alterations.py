"""What users change about torch's layers that a conversion to tiles would lose."""

from __future__ import annotations

import itertools
import os
import sys
import types
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from mdls_cosim.analog.product import MatrixProduct

_UNDONE_BY: dict[type, str] = {
    BasePruningMethod: "is pruned by a hook, which would be lost; torch's prune.remove makes plain weights of it",
    WeightNorm: "is normalised by a hook, which would be lost; torch's remove_weight_norm makes plain ones",
    SpectralNorm: "is normalised by a hook, which would be lost; torch's remove_spectral_norm makes plain ones",
}


def reparametrised(module: nn.Module) -> str | None:
    """How `module`, or a part of it, makes its weights anew at every call, and what ends that; None: it does not."""
    for part in module.modules():
        if parametrize.is_parametrized(part):
            return (
                "has parametrisations, which would be lost; torch's remove_parametrizations makes plain weights of them"
            )
        for hook, (kind, told) in itertools.product(part._forward_pre_hooks.values(), _UNDONE_BY.items()):
            if isinstance(hook, kind):
                return told
    return None


def altered_instance(module: nn.Module) -> str | None:
    """How this instance differs from others of its class, in hooks or replaced methods; None: it does not."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return "carries hooks, which would be lost"
    methods = _replaced_on_instance(module)
    return f"its {', '.join(methods)} was replaced, which would be lost" if methods else None


def alteration(module: nn.Module) -> str | None:
    """How a module of torch was altered so that a conversion would lose it; None: it was not."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return "carries hooks, which would be lost"
    if methods := _replaced_methods(module):
        return f"its {', '.join(methods)} was replaced, which would be lost"
    if isinstance(module, nn.RNNBase) and _sequence_weights(module) != module._flat_weights_names:
        return "its num_layers, bidirectional, bias or proj_size was changed and does not fit its weights"
    projection = module.out_proj if isinstance(module, nn.MultiheadAttention) else None
    if projection is not None and type(projection) not in (nn.Linear, NonDynamicallyQuantizableLinear):
        return f"its out_proj was replaced by a {type(projection).__name__}"
    own = _own_parts(module)
    needed = {"weight", "weight_ih", "weight_hh", *(own if isinstance(module, nn.RNNBase) else ())}
    if missing := [name for name in own if name in needed and name not in module._parameters]:
        return f"its {', '.join(missing)} is no parameter, but computed elsewhere"
    if added := [name for name in (*module._parameters, *module._buffers, *module._modules) if name not in own]:
        return f"{', '.join(added)} was added to it, which would be lost"
    return None


_PARTS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.MultiheadAttention: (
        *(f"{each}_proj_weight" for each in ("in", "q", "k", "v")), "in_proj_bias", "bias_k", "bias_v", "out_proj"
    ),
    nn.TransformerEncoderLayer: (
        "self_attn", "linear1", "dropout", "linear2", "norm1", "norm2", "dropout1", "dropout2", "activation"
    ),
    **dict.fromkeys((nn.RNNCell, nn.LSTMCell, nn.GRUCell), ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    MatrixProduct: (),
}  # fmt: skip


def _own_parts(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters and parts that torch gives a module of its kind."""
    if isinstance(module, nn.RNNBase):
        return tuple(module._flat_weights_names)
    return _PARTS.get(type(module), ("weight", "bias"))


def _sequence_weights(module: nn.RNNBase) -> list[str]:
    """The names that torch gives the weights and biases of a recurrent layer with these options."""
    kinds = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    kinds += ["weight_hr"] if module.proj_size else []
    directions = ("", "_reverse") if module.bidirectional else ("",)
    ends = [f"_l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]
    return [f"{kind}{end}" for end in ends for kind in kinds]


def _replaced_methods(module: nn.Module) -> list[str]:
    """Names of the methods of `module` that were replaced on the instance, or on a class of torch that it inherits.

    What a conversion takes over is the computation of torch's own class; a replaced method would be lost.
    """
    kind = type(module)
    own = _replaced_on_instance(module)
    inherited = [
        f"{base.__name__}.{name}"
        for base in kind.__mro__[: kind.__mro__.index(nn.Module)]
        for name, value in vars(base).items()
        if isinstance(value, types.FunctionType) and name not in _BOOKKEEPING and not _defined_beside(value, base)
    ]
    return own + inherited


def _replaced_on_instance(module: nn.Module) -> list[str]:
    return [name for name in vars(module) if callable(getattr(type(module), name, None)) and name not in _BOOKKEEPING]


_BOOKKEEPING = frozenset(dir(nn.Module)) - {"forward", "__call__", "_call_impl", "_wrapped_call_impl"}
"""Methods of `nn.Module` that do not compute: `to`, `state_dict`, `extra_repr` and so on."""


def _defined_beside(method: types.FunctionType, kind: type) -> bool:
    """Whether a method, and whatever it wraps, was written in the package of its class."""
    file = getattr(sys.modules.get(kind.__module__.partition(".")[0]), "__file__", None)
    folder = os.path.join(os.path.dirname(file), "") if file else ""
    wrapped: Any = method
    while wrapped is not None:
        if not wrapped.__code__.co_filename.startswith(folder):
            return False
        wrapped = getattr(wrapped, "__wrapped__", None)
    return True
