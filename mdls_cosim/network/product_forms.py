"""torch's functions of matrix products, computed by modules that multiply (*batch, n, k) by (*batch, k, m)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdls_cosim.analog.attention import multiply


def matmul(product: nn.Module, input: Tensor, other: Tensor | None = None, **named: Any) -> Tensor:
    """As `torch.matmul`, `bmm` and `mm`: vectors, broadcasting; the second factor is written to tiles."""
    second = named.get("mat2") if other is None else other
    assert second is not None
    first, of_vector = (input[None], True) if input.ndim == 1 else (input, False)
    second, by_vector = (second[:, None], True) if second.ndim == 1 else (second, False)
    if second.ndim == 2:
        found = multiply(product, first.reshape(1, -1, first.shape[-1]), second[None])
        found = found.reshape(*first.shape[:-1], second.shape[-1])
    else:
        batch = torch.broadcast_shapes(first.shape[:-2], second.shape[:-2])
        factors = [each.expand(*batch, *each.shape[-2:]).reshape(-1, *each.shape[-2:]) for each in (first, second)]
        found = multiply(product, *factors).reshape(*batch, first.shape[-2], second.shape[-1])
    found = found.squeeze(-2) if of_vector else found
    return found.squeeze(-1) if by_vector else found


def baddbmm(
    product: nn.Module, input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """As `torch.baddbmm`."""
    found = alpha * matmul(product, batch1, batch2)
    return found if beta == 0 else beta * input + found


def scaled_dot_product_attention(
    scores: nn.Module,
    mixture: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As torch's. Keys that no query may see, and their values, are written as zeros."""
    if enable_gqa:
        key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
    mask = attn_mask
    if is_causal:
        mask = query.new_ones((query.shape[-2], key.shape[-2]), dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
    if mask is not None:
        unseen = (mask == float("-inf")).all(-2)[..., None]
        key, value = key.masked_fill(unseen, 0.0), value.masked_fill(unseen, 0.0)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    found = matmul(scores, query * factor, key.mT)
    weights = functional.dropout((found if mask is None else found + mask).softmax(-1), dropout_p)
    return matmul(mixture, weights, value)


def takes(equation: Any = None, *operands: Any) -> bool:
    """Whether `einsum` computes this: an equation of two operands, each letter once in each."""
    if not isinstance(equation, str) or len(operands) != 2:
        return False
    inputs = equation.replace(" ", "").partition("->")[0].split(",")
    return len(inputs) == 2 and all(
        len(set(letters)) == len(letters) for letters in (each.replace("...", "") for each in inputs)
    )


def einsum(product: nn.Module, equation: str, first: Tensor, second: Tensor) -> Tensor:
    """As `torch.einsum` of two operands that have no letter twice."""
    letters, output = _letters(equation, first.ndim, second.ndim)
    factors = [first, second]
    for number, (own, others) in enumerate(((letters[0], letters[1]), (letters[1], letters[0]))):
        # What neither the other factor nor the result has is summed.
        alone = [letter for letter in own if letter not in others and letter not in output]
        if alone:
            factors[number] = factors[number].sum([own.index(letter) for letter in alone])
            letters[number] = [letter for letter in own if letter not in alone]
    both = [letter for letter in letters[0] if letter in letters[1]]
    batch = [letter for letter in both if letter in output]
    inner = [letter for letter in both if letter not in output]
    free = [[letter for letter in own if letter not in both] for own in letters]
    size: dict[str, int] = {}
    for own, factor in zip(letters, factors, strict=True):
        for letter, extent in zip(own, factor.shape, strict=True):
            size[letter] = max(extent, size.get(letter, 1))

    def arranged(number: int, *groups: list[str]) -> Tensor:
        order = [letter for group in groups for letter in group]
        placed = factors[number].permute([letters[number].index(letter) for letter in order])
        return placed.expand([size[each] for each in order]).reshape([math.prod(map(size.get, g)) for g in groups])  # pyright: ignore

    found = matmul(product, arranged(0, batch, free[0], inner), arranged(1, batch, inner, free[1]))
    order = [*batch, *free[0], *free[1]]
    return found.reshape([size[each] for each in order]).permute([order.index(each) for each in output])


def _letters(equation: str, *dimensions: int) -> tuple[list[list[str]], list[str]]:
    """The letters of both operands and of the result; dimensions of an ellipsis count from the last as "0", "1", …"""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    given = inputs.split(",")
    extra = [count - len(each.replace("...", "")) for each, count in zip(given, dimensions, strict=True)]

    def spelled(text: str, count: int) -> list[str]:
        before, dots, after = text.partition("...")
        return [*before, *(str(number) for number in range(count - 1, -1, -1) if dots), *after]

    letters = [spelled(each, count) for each, count in zip(given, extra, strict=True)]
    most = max((count for each, count in zip(given, extra, strict=True) if "..." in each), default=0)
    if not arrow:
        plain = "".join(given).replace(".", "")
        output = ("..." if "..." in inputs else "") + "".join(
            sorted({each for each in plain if plain.count(each) == 1})
        )
    return letters, spelled(output, most)
