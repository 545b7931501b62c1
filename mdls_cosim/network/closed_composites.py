"""Opened torch modules (recurrent layers, attention, encoder layers) closed again: torch's own modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.analog import (
    AnalogGRU,
    AnalogGRUCell,
    AnalogLSTM,
    AnalogLSTMCell,
    AnalogMultiheadAttention,
    AnalogRNN,
    AnalogRNNCell,
    AnalogTransformerEncoderLayer,
    Composite,
)
from mdls_cosim.errors import NotAvailable


def closed(part: Composite) -> nn.Module:
    """Torch's module with the parameters of the parts of `part`, which are `nn.Linear` by now.

    Raises:
        NotAvailable: a part that is not linear; a correction of the projection of an LSTM, which has no bias in torch.
    """
    if type(part) not in _FORMS:
        raise NotAvailable("no module of torch is known for this class", where=part.where)
    made = _FORMS[type(part)](part)
    modes = {name: each.training for name, each in part.named_modules()}
    for name, each in made.named_modules():
        each.training = modes.get(name, part.training)
    return made


def _linear(part: Any, name: str) -> nn.Linear:
    layer = part.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise NotAvailable(
            f"the part {name} of an opened module was replaced", where=part.where, value=type(layer).__name__
        )
    return layer


def _zeros(layer: nn.Linear) -> nn.Parameter:
    return nn.Parameter(torch.zeros_like(layer.weight[:, 0]), layer.weight.requires_grad)


def _bias(layer: nn.Linear) -> nn.Parameter:
    return layer.bias if layer.bias is not None else _zeros(layer)


def _recurrent(part: Any, suffixes: list[str], **options: Any) -> nn.Module:
    """A recurrent module; a digital shift gives all its matrices a bias, where they have none."""
    names = [name + suffix for suffix in suffixes for name in ("ih", "hh")]
    layers = {name: _linear(part, name) for name in names}
    bias = any(layer.bias is not None for layer in layers.values())
    made = part.digital_kind(part.input_size, part.hidden_size, bias=bias, device="meta", **options)
    for name, layer in layers.items():
        setattr(made, f"weight_{name}", layer.weight)
        if bias:
            setattr(made, f"bias_{name}", _bias(layer))
    if getattr(part, "proj_size", 0):
        for name in [f"hr{suffix}" for suffix in suffixes]:
            layer = _linear(part, name)
            if layer.bias is not None:
                raise NotAvailable(
                    "the projection of an LSTM has a digital shift, and no bias in torch to hold it",
                    where=f"{part.where}.{name}",
                    hint="Program it again without the correction of its columns",
                )
            setattr(made, f"weight_{name}", layer.weight)
    return made


def _sequence(part: Any) -> nn.Module:
    options = {
        "num_layers": part.num_layers,
        "batch_first": part.batch_first,
        "dropout": part.dropout,
        "bidirectional": part.bidirectional,
    }
    if type(part) is AnalogRNN:
        options["nonlinearity"] = part.nonlinearity
    if part.proj_size:
        options["proj_size"] = part.proj_size
    return _recurrent(part, part._suffixes(), **options)


def _cell(part: Any) -> nn.Module:
    options = {"nonlinearity": part.nonlinearity} if type(part) is AnalogRNNCell else {}
    return _recurrent(part, [""], **options)


def _attention(part: Any) -> nn.Module:
    projections = [_linear(part, name) for name in ("q_proj", "k_proj", "v_proj")]
    out = _linear(part, "out_proj")
    bias = any(layer.bias is not None for layer in (*projections, out))
    made: Any = nn.MultiheadAttention(
        part.embed_dim,
        part.num_heads,
        part.dropout,
        bias=bias,
        add_zero_attn=part.add_zero_attn,
        kdim=projections[1].in_features,
        vdim=projections[2].in_features,
        batch_first=part.batch_first,
        device="meta",
    )
    if made.in_proj_weight is None:
        made.q_proj_weight, made.k_proj_weight, made.v_proj_weight = (layer.weight for layer in projections)
    else:
        made.in_proj_weight = _joined([layer.weight for layer in projections])
    if bias:
        made.in_proj_bias = _joined([_bias(layer) for layer in projections])
        made.out_proj.bias = _bias(out)
    made.out_proj.weight = out.weight
    made.bias_k, made.bias_v = part.bias_k, part.bias_v
    return made


def _joined(parts: list[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.cat([each.detach() for each in parts]), any(each.requires_grad for each in parts))


def _encoder_layer(part: Any) -> nn.Module:
    made: Any = nn.TransformerEncoderLayer(
        part.self_attn.embed_dim,
        part.self_attn.num_heads,
        part.linear1.out_features,
        activation=part.activation,
        batch_first=part.self_attn.batch_first,
        norm_first=part.norm_first,
        device="meta",
    )
    for name in ("self_attn", "linear1", "dropout", "linear2", "norm1", "norm2", "dropout1", "dropout2"):
        setattr(made, name, part.get_submodule(name))
    return made


_FORMS: dict[type[Composite], Callable[[Any], nn.Module]] = {
    AnalogRNN: _sequence,
    AnalogLSTM: _sequence,
    AnalogGRU: _sequence,
    AnalogRNNCell: _cell,
    AnalogLSTMCell: _cell,
    AnalogGRUCell: _cell,
    AnalogMultiheadAttention: _attention,
    AnalogTransformerEncoderLayer: _encoder_layer,
}
