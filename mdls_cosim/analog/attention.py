"""Attention and the transformer's encoder layer, with their matrices on tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdls_cosim.analog.composite import Composite, matrix
from mdls_cosim.analog.product import AnalogProduct, MatrixProduct
from mdls_cosim.analog.uncompiled import uncompiled
from mdls_cosim.errors import InputError


class AnalogMultiheadAttention(Composite):
    """Attention of several heads; the arguments and results of `torch.nn.MultiheadAttention`.

        A = softmax(Q K^T / sqrt(head_dim) + mask),  y = W_o (A V) + b_o
        Q, K, V = W_q query + b_q, W_k key + b_k, W_v value + b_v

    On tiles: W_q, W_k, W_v and W_o (`q_proj`, `k_proj`, `v_proj`, `out_proj`), and with `Hardware(attention="tiles")`
    both products of attention (`scores` and `mixture`): K^T and V of every sequence and head are written to tiles of
    their own, Q / sqrt(head_dim) and A are their inputs. Keys that no query may see, and their values, are not written:
    their cells hold what stands for zero. Digital: softmax, masks, dropout, biases; by default both products too.

    Args:
        hardware: tiles, mapping and periphery; None: all of it stays digital.
        seed: draws the spread of the cells.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.

    Raises:
        InputError: inputs or masks of the wrong shape, nested tensors, `is_causal` without its mask; with products on
            tiles a query that may see no key, of which torch makes NaN.
    """

    digital_kind = nn.MultiheadAttention
    _FIXED = ("embed_dim",)
    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    scores: nn.Module
    mixture: nn.Module

    def _take(self, digital: Any) -> None:
        self.embed_dim: int = digital.embed_dim
        self.num_heads: int = digital.num_heads
        self.dropout: float = digital.dropout
        self.batch_first: bool = digital.batch_first
        self.add_zero_attn: bool = digital.add_zero_attn
        names = ("q_proj", "k_proj", "v_proj")
        if digital.in_proj_weight is None:
            weights = [getattr(digital, f"{name}_weight") for name in names]
        else:
            weights = _thirds(digital.in_proj_weight)
        biases = [None] * 3 if digital.in_proj_bias is None else _thirds(digital.in_proj_bias)
        for name, weight, bias in zip(names, weights, biases, strict=True):
            self.add_module(name, matrix(weight, bias))
        self.out_proj = matrix(digital.out_proj.weight, digital.out_proj.bias)
        self.scores = MatrixProduct()
        self.mixture = MatrixProduct()
        self.bias_k: nn.Parameter | None = digital.bias_k
        self.bias_v: nn.Parameter | None = digital.bias_v

    def _parameter(self, name: str) -> tuple[nn.Module, str] | None:
        layer = self._modules.get(name.removesuffix("_weight")) if name.endswith("_proj_weight") else None
        return None if layer is None else (layer, "weight")

    @property
    def in_proj_weight(self) -> Tensor:
        """W_q, W_k and W_v on top of each other: a copy, to be read."""
        return torch.cat([part.weight for part in (self.q_proj, self.k_proj, self.v_proj)])  # pyright: ignore

    @property
    def in_proj_bias(self) -> Tensor | None:
        """b_q, b_k and b_v, as `in_proj_weight`."""
        biases: list[Any] = [part.bias for part in (self.q_proj, self.k_proj, self.v_proj)]
        return None if biases[0] is None else torch.cat(biases)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's: (outputs, weights of attention or None)."""
        for part in (query, key, value):
            self._check_tensor(part)
        if query.is_nested or key.is_nested or value.is_nested:
            raise InputError("nested tensors are not taken", where=self.where, hint="pass a key_padding_mask")
        if is_causal and attn_mask is None:
            raise InputError("is_causal only says that attn_mask is the causal mask", hint="pass that mask too")
        batched = query.ndim == 3
        along = 0 if not batched or self.batch_first else 1  # where the batch is, or is put
        parts = [query, key, value] if batched else [query[None], key[None], value[None]]
        query, key, value = (part.transpose(0, along) for part in parts)
        if any(part.ndim != 3 for part in parts) or not key.shape[:2] == value.shape[:2] == (len(query), key.shape[1]):
            raise InputError(
                "the inputs have the wrong shapes",
                where=self.where,
                value=", ".join(str(tuple(part.shape)) for part in parts),
                limit="one batch, and as many values as keys",
            )
        mask = self._mask(attn_mask, key_padding_mask, len(query), query.shape[1], key.shape[1], query.dtype)
        outputs, weights = self._attend(self.q_proj(query), self.k_proj(key), self.v_proj(value), mask, need_weights)
        outputs = self.out_proj(outputs).transpose(0, along)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        return (outputs, weights) if batched else (outputs[0], None if weights is None else weights[0])

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(batch, queries, embed_dim) of projections, and the weights (batch, heads, queries, keys)."""
        if self.bias_k is not None and self.bias_v is not None:
            key = torch.cat([key, self.bias_k.expand(len(key), 1, -1)], 1)
            value = torch.cat([value, self.bias_v.expand(len(value), 1, -1)], 1)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
        if self.add_zero_attn:
            key, value = (functional.pad(part, (0, 0, 0, 1)) for part in (key, value))
        if mask is not None:  # what was added is never masked
            mask = functional.pad(mask, (0, key.shape[-2] - mask.shape[-1]))
        share = self.dropout if self.training else 0.0
        weights = None
        if need_weights or self._products_on_tiles:
            if mask is not None and self._products_on_tiles:
                unseen = (mask == float("-inf")).all(-2)[..., None]
                key, value = key.masked_fill(unseen, 0.0), value.masked_fill(unseen, 0.0)
            scores = multiply(self.scores, query / query.shape[-1] ** 0.5, key.mT)
            weights = functional.dropout((scores if mask is None else scores + mask).softmax(-1), share)
            outputs = multiply(self.mixture, weights, value)
        else:
            outputs = functional.scaled_dot_product_attention(query, key, value, mask, share)
        return outputs.transpose(1, 2).flatten(2), weights if need_weights else None

    @property
    def _products_on_tiles(self) -> bool:
        return isinstance(self.scores, AnalogProduct) or isinstance(self.mixture, AnalogProduct)

    def _mask(
        self, attn: Tensor | None, padding: Tensor | None, batch: int, queries: int, keys: int, dtype: torch.dtype
    ) -> Tensor | None:
        """Both masks as one to add, which broadcasts to (batch, heads, queries, keys)."""
        mask = None
        if attn is not None:
            if tuple(attn.shape) not in ((queries, keys), (batch * self.num_heads, queries, keys)):
                limit = f"({queries}, {keys}) or ({batch * self.num_heads}, {queries}, {keys})"
                raise InputError("attn_mask has the wrong shape", value=tuple(attn.shape), limit=limit)
            mask = _additive(attn, dtype)
            mask = mask.unflatten(0, (batch, self.num_heads)) if mask.ndim == 3 else mask[None, None]
        if padding is not None:
            padding = padding[None] if padding.ndim == 1 else padding
            if tuple(padding.shape) != (batch, keys):
                raise InputError(
                    "key_padding_mask has the wrong shape", value=tuple(padding.shape), limit=(batch, keys)
                )
            added = _additive(padding, dtype)[:, None, None]
            mask = added if mask is None else mask + added
        return mask

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, batch_first={self.batch_first}"


@uncompiled  # how many writes it takes is no part of a graph
def multiply(product: nn.Module, inputs: Tensor, weights: Tensor) -> Tensor:
    """A product over (batch, heads, …), in as many writes as it takes."""
    if not isinstance(product, AnalogProduct):
        return product(inputs, weights)
    return torch.cat([product(*part) for part in product.parts(inputs, weights)])


def _thirds(parameter: nn.Parameter) -> list[nn.Parameter]:
    return [nn.Parameter(part.detach().clone(), parameter.requires_grad) for part in parameter.chunk(3)]


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores: -inf where a boolean mask is set."""
    if mask.is_floating_point():
        return mask.to(dtype)
    if mask.dtype != torch.bool:
        raise InputError("a mask is boolean or of floating point numbers", value=mask.dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))


class AnalogTransformerEncoderLayer(Composite):
    """Attention and two linear layers with their norms; the arguments of `torch.nn.TransformerEncoderLayer`.

        x = norm1(x + attention(x)),  y = norm2(x + W_2 f(W_1 x + b_1) + b_2);  or norm_first

    On tiles: the four matrices of `self_attn`, `linear1` and `linear2`, and the products of attention where the
    hardware says so. Digital: the rest of attention, norms, the activation f, the sums, dropout. Never torch's fused
    kernel, which would pass the tiles over; it takes no nested tensors, so where torch's `nn.TransformerEncoder` would
    give zeros at padded positions, these hold numbers.

    Args:
        hardware: tiles, mapping and periphery; None: the matrices stay digital.
        seed: draws the spread of the cells.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.
    """

    digital_kind = nn.TransformerEncoderLayer
    self_attn: nn.Module
    linear1: nn.Module
    dropout: nn.Module
    linear2: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    dropout1: nn.Module
    dropout2: nn.Module

    def _take(self, digital: Any) -> None:
        self.norm_first: bool = digital.norm_first
        self.activation = digital.activation
        for name in ("self_attn", "linear1", "dropout", "linear2", "norm1", "norm2", "dropout1", "dropout2"):
            self.add_module(name, digital.get_submodule(name))

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """As torch's."""

        if self.norm_first:
            x = src + self._sa_block(self.norm1(src), src_mask, src_key_padding_mask, is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(src + self._sa_block(src, src_mask, src_key_padding_mask, is_causal))
        return self.norm2(x + self._ff_block(x))

    def _sa_block(
        self, x: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None, is_causal: bool = False
    ) -> Tensor:
        """Attention and its dropout; torch's name of it, which users' code replaces."""
        masks = {"attn_mask": attn_mask, "key_padding_mask": key_padding_mask}
        return self.dropout1(self.self_attn(x, x, x, need_weights=False, is_causal=is_causal, **masks)[0])

    def _ff_block(self, x: Tensor) -> Tensor:
        """Both linear layers and their dropout; torch's name of it."""
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
