"""Which modules of a model hold matrices, and which of them have a form on tiles."""

from __future__ import annotations

from collections.abc import Container, Iterable
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

from mdls_cosim.analog import AnalogLayer, Composite
from mdls_cosim.analog.alterations import alteration, altered_instance, reparametrised
from mdls_cosim.analog.plain_attributes import held_values, plain_attributes
from mdls_cosim.network.converters import CONVERTERS, kinds
from mdls_cosim.network.converters import registered as is_registered

DIGITAL = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag)
"""What has weights and no matrix product: digital in any hardware."""


WHOLE = "(model)"
"""Name of the model itself in messages and rules, where its own name is empty."""


def matches(pattern: str, names: list[str]) -> bool:
    """Whether a rule's pattern matches one of the names of a layer; a name always matches itself."""
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def matrix_layers(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module that holds weights of its own, once, with all the names that a rule may use, its own name first.

    Parts of an opened composite also match the names of the whole; other layers with parts stand for all of them.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
        if not name:
            names[module].append(WHOLE)
    hidden = {
        part
        for module in names
        if isinstance(module, kinds()) or _opaque(module)
        for part in module.modules()
        if part is not module
    }
    registered = {id(each) for each in (*model.modules(), *model.parameters(), *model.buffers())}
    layers = {
        module: list(aliases)
        for module, aliases in names.items()
        if module not in hidden
        and (
            isinstance(module, (AnalogLayer, *kinds()))
            or _weights(module)
            or _matrix_buffers(module)
            or unregistered(module, registered)
        )
    }
    for module, aliases in names.items():
        for part in module.modules() if isinstance(module, Composite) else ():
            if part is not module and part in layers:
                layers[part] += aliases
    return layers


def _weights(module: nn.Module) -> list[Any]:
    """What a module itself computes with; None for what is packed out of sight."""
    if _packed(module):
        return [None]
    if isinstance(module, torch.jit.ScriptModule):
        return list(module.parameters())
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def _packed(module: nn.Module) -> bool:
    return "quantized" in type(module).__module__.split(".")


def _opaque(module: nn.Module) -> bool:
    """Whether a module's parts cannot be replaced one by one."""
    return _packed(module) or isinstance(module, torch.jit.ScriptModule)


def _matrix_buffers(module: nn.Module) -> list[str]:
    """Names of a module's own buffers that may be weights: masks, tables of positions and caches look the same."""
    return [
        name
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.is_floating_point() and not _vector(buffer)
    ]


def unregistered(module: nn.Module, registered: Container[int]) -> list[str]:
    """Names of plain attributes of a module in which there are matrices that torch does not know.

    Tensors and arrays, or modules that have some, as attributes, in lists, dicts, partials or closures.

    Args:
        registered: ids of the modules, parameters and buffers of the whole model.
    """
    return [
        name
        for name, value in plain_attributes(module).items()
        if any(id(held) not in registered and _may_be_weights(held) for held in held_values(value))
    ]


def _may_be_weights(held: Any) -> bool:
    if isinstance(held, nn.Module):
        return any(map(_may_be_weights, (*held.parameters(), *held.buffers())))
    if isinstance(held, np.ndarray):
        return held.dtype.kind == "f" and sum(size > 1 for size in held.shape) > 1
    return held.is_floating_point() and not _vector(held)


def digital_reason(module: nn.Module, plain: list[str]) -> str | None:
    """Why a module has no place on tiles, if it has none; `plain`: its `unregistered` matrices."""
    kind = type(module).__name__
    if is_registered(module):
        return None
    if isinstance(module, AnalogLayer):
        return "already analog"
    if isinstance(module, DIGITAL):
        return f"{kind} has no matrix product: digital"
    if isinstance(module, kinds()) or not all(map(_vector, _weights(module))):
        return None
    hidden = [f"{', '.join(matrices)} as buffers" for matrices in [_matrix_buffers(module)] if matrices]
    hidden += [f"{', '.join(plain)} outside torch's registers" for _ in plain[:1]]
    if hidden:
        return f"{kind} holds {' and '.join(hidden)}: what it multiplies by them is digital"
    return f"{kind} has no matrix of its own: digital"


def _vector(weights: Any) -> bool:
    """One number, or one row of them."""
    if weights is None or isinstance(weights, nn.parameter.UninitializedParameter):
        return False
    return sum(size > 1 for size in weights.shape) < 2


def refusal(module: nn.Module) -> str | None:
    """Why a module that has a matrix cannot be put on tiles, if so."""
    if any(each is None for each in _weights(module)):
        return "its weights are packed"
    if isinstance(module, torch.jit.ScriptModule):
        return "is compiled by torch.jit, and cannot be opened"
    if any(isinstance(each, nn.parameter.UninitializedParameter) for each in _weights(module)):
        return "its weights are not initialised yet; run one batch"
    if (reason := reparametrised(module)) is not None:
        return reason
    if is_registered(module):
        return altered_instance(module) or _no_plain_parameters(module.parameters())
    if type(module) not in kinds():
        subclass = isinstance(module, kinds())
        return "a subclass that may compute something else" if subclass else "its matrix is in no layer that is known"
    if (reason := alteration(module)) is not None:
        return reason
    if type(module) in CONVERTERS and _weights(module):
        return _no_plain_parameters((module.weight, module.bias)) or _does_not_fit(module)
    return None


def _no_plain_parameters(parameters: Iterable[Any]) -> str | None:
    """Why the first weight or bias that cannot be written to tiles cannot, if there is one."""
    for part in parameters:
        if isinstance(part, nn.parameter.UninitializedParameter):
            return "its weights are not initialised yet; run one batch"
        if part is not None and (reason := _no_plain_numbers(part)) is not None:
            return reason
    return None


def _does_not_fit(module: Any) -> str | None:
    """How the weights and the bias of a layer contradict each other or its groups, if so: torch cannot compute it."""
    shape, bias, groups = tuple(module.weight.shape), module.bias, getattr(module, "groups", 1)
    axes = 0 if isinstance(module, nn.Linear) else len(module.kernel_size)
    if len(shape) != 2 + axes or shape[0] % groups:
        return f"its weights {shape} are none of {2 + axes} dimensions in {groups} groups"
    transposed = getattr(module, "transposed", False)
    outputs = shape[1] * groups if transposed else shape[0]
    if bias is not None and tuple(bias.shape) not in ((outputs,), (1,) if not axes else (outputs,)):
        return f"its bias {tuple(bias.shape)} does not fit its weights {shape}"
    return None


def _no_plain_numbers(part: Any) -> str | None:
    """Why a weight or bias cannot be written to tiles, if so."""
    plain = type(part.data) is torch.Tensor and part.layout is torch.strided and not part.is_meta
    if not plain or part.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        layout = "" if part.layout is torch.strided else f"{part.layout} "
        return (
            f"its weights are no plain numbers but {type(part.data).__name__} of {layout}{part.dtype} on {part.device}"
        )
    if not part.numel():
        return f"it has no weights: {tuple(part.shape)}"
    return None
