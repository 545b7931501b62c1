"""A converted model as plain torch layers with the weights that its chip holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.analog import (
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv3d,
    AnalogConvTranspose1d,
    AnalogConvTranspose2d,
    AnalogConvTranspose3d,
    AnalogLayer,
    AnalogLinear,
    AnalogMatrix,
    AnalogProduct,
    Composite,
    Hardware,
)
from mdls_cosim.analog.composite import replace_modules
from mdls_cosim.analog.effective_weights import EffectiveWeights
from mdls_cosim.analog.plain_attributes import plain_attributes
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.network.chips import copied
from mdls_cosim.network.closed_composites import closed
from mdls_cosim.network.moments import remove_method
from mdls_cosim.tiles import TileSpec


def to_torch(model: nn.Module) -> nn.Module:
    """A copy of a converted model in which every layer on tiles is a layer of torch with the weights of the chip.

    The weight of an input and an output is what the conductances of its cells stand for at the present read conditions
    (drift, retention, temperature, frozen read noise), through mapping, slices, scale and the digital correction:

        W = gain * weight_scale * (sum over conversions of place_value * G - zero) / (conductance range * unit)
        b = bias + shift

    On ideal tiles with ideal converters the copy computes what `model` computes. Left out is everything that is no
    weight: wires, non-linear cells, converters and noise that is drawn at every read. Where cells between the groups of
    a convolution that share tiles hold other than the weight zero, the convolution has fewer groups, or one.

    Args:
        model: converted; stays as it is.

    Raises:
        InputError: `model` is not a torch module.
        NotAvailable: layers that no layer of torch can represent: products of activations on tiles, layers with hooks
            or a replaced `forward`, classes of analog layers that this function does not know; a model that cannot be
            copied.
    """
    if not isinstance(model, nn.Module):
        raise InputError("expected a torch.nn.Module", where="model", value=type(model).__name__)
    _check(model)
    whole = nn.Sequential(copied(model))
    remove_method(whole[0])
    layers = {part: _digital(part) for part in whole.modules() if isinstance(part, AnalogLayer)}
    for part, layer in layers.items():
        _keep_attributes(part, layer)
    replace_modules(whole, layers)
    # The outer ones last: an encoder layer takes the attention in it as a layer of torch.
    names = {part: name for name, part in whole.named_modules() if isinstance(part, Composite)}
    for part in sorted(names, key=lambda each: -names[each].count(".")):
        layer = closed(part)
        _keep_attributes(part, layer)
        replace_modules(whole, {part: layer})
    return whole[0]


def _check(model: nn.Module) -> None:
    for name, part in model.named_modules():
        if not isinstance(part, AnalogLayer | Composite):
            continue
        where = f"{name or '(model)'} ({type(part).__name__})"
        if isinstance(part, AnalogProduct):
            raise NotAvailable(
                "a product of activations on tiles holds no weights, and has no form in torch",
                where=where,
                hint='Convert with attention="digital", for all layers or by a rule',
            )
        known = type(part) in (_FORMS if isinstance(part, AnalogLayer) else Composite.kinds.values())
        if not known:
            raise NotAvailable("no layer of torch is known for this class of layers on tiles", where=where)
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        if any(hooks) or getattr(part, "disturbance", None) is not None:
            raise NotAvailable("a layer on tiles carries hooks or a disturbance, which would be lost", where=where)
        if replaced := [each for each in vars(part) if callable(getattr(type(part), each, None))]:
            raise NotAvailable(f"{', '.join(replaced)} was replaced, which would be lost", where=where)


def _keep_attributes(part: nn.Module, layer: nn.Module) -> None:
    """Give `layer` the attributes that users' code has put on `part`."""
    own = _own_names(AnalogLinear if type(part) is AnalogMatrix else type(part))
    for name, value in plain_attributes(part).items():
        if name not in own and not name.startswith("_") and not hasattr(layer, name):
            object.__setattr__(layer, name, value)


@cache
def _own_names(kind: Any) -> frozenset[str]:
    """Names of the attributes that layers on tiles of this class have by themselves."""
    sizes: Any = (1, 1) if kind is AnalogLinear or issubclass(kind, Composite) else (1, 1, 1)
    with torch.random.fork_rng(devices=[]):
        made = kind(*sizes, hardware=Hardware(tile=TileSpec(rows=2, cols=2), rung="ideal"))
    return frozenset(vars(made)) | {"label"}


def _digital(layer: Any) -> nn.Module:
    held = EffectiveWeights.of(layer)
    made = _FORMS[type(layer)](layer, held)
    for name in ("weight", "bias"):
        old = getattr(layer, name)
        parameter = getattr(made, name)
        if parameter is not None:
            parameter.requires_grad_(old.requires_grad if old is not None else layer.weight.requires_grad)
    return made.train(layer.training)


def _filled(made: Any, layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    made.weight = nn.Parameter(weight.to(layer.weight.dtype))
    made.bias = None if bias is None else nn.Parameter(bias.to(layer.weight.dtype))
    return made


def _linear(layer: AnalogLinear, held: EffectiveWeights) -> nn.Module:
    made = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    return _filled(made, layer, held.matrix[0].mT.contiguous(), held.bias)


def _convolution(layer: Any, held: EffectiveWeights) -> nn.Module:
    groups = len(held.matrix)
    made = layer.digital_kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        groups,
        bias=False,
        padding_mode=layer.padding_mode,
        device="meta",
    )
    shape = (layer.out_channels, layer.in_channels // groups, *layer.kernel_size)
    return _filled(made, layer, held.matrix.mT.reshape(shape).contiguous(), held.bias)


def _transposed(layer: Any, held: EffectiveWeights) -> nn.Module:
    groups = len(held.matrix)
    made = layer.digital_kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.output_padding,
        groups,
        bias=False,
        dilation=layer.dilation,
        device="meta",
    )
    # Rows are those of the kernel turned round.
    weight = held.matrix.unflatten(1, (layer.in_channels // groups, *layer.kernel_size)).movedim(-1, 2)
    weight = weight.flip(tuple(range(3, weight.ndim))).flatten(0, 1)
    return _filled(made, layer, weight.contiguous(), held.bias)


_FORMS: dict[type[AnalogLayer], Callable[[Any, EffectiveWeights], nn.Module]] = {
    AnalogLinear: _linear,
    AnalogMatrix: _linear,
    **dict.fromkeys((AnalogConv1d, AnalogConv2d, AnalogConv3d), _convolution),
    **dict.fromkeys((AnalogConvTranspose1d, AnalogConvTranspose2d, AnalogConvTranspose3d), _transposed),
}
