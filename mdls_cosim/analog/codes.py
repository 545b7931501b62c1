"""The codes of converters and registers: how many there are, and what lies beyond the last one."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mdls_cosim.errors import ConfigError

Bits = Annotated[int, Field(ge=1, le=32, strict=True)]


class Conversion(NamedTuple):
    """What a converter made of its input."""

    values: Tensor
    """Same shape and unit as the input."""
    saturated: int | Tensor
    """How many values lay beyond the last code. On an accelerator, and under torch.compile, a tensor without
    dimensions: making it an int waits for the device."""


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """The lowest and the highest code: -(2^(bits-1) - 1) … 2^(bits-1) - 1 signed, 0 … 2^bits - 1 unsigned.

    Raises:
        ConfigError: one bit for signed values, which leaves no code but zero.
    """
    highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    if highest == 0:
        raise ConfigError(
            "a signed converter needs a code on either side of zero",
            value=f"{bits} bit",
            limit="2 bits or more",
            hint="raise bits, or give the layer inputs without negative values and subtraction='digital'",
        )
    return (-highest if signed else 0), highest


def clamp_codes(codes: Tensor, lowest: int, highest: int, mark: bool = False) -> tuple[int | Tensor, Tensor | None]:
    """Clamps `codes` in place; returns how many were beyond and, if `mark`, which (None: none).

    A CPU tensor within the codes costs one pass that reads. NaN stays NaN, uncounted.
    """
    if codes.device.type != "cpu" or torch.compiler.is_compiling():  # where to look before acting is to wait
        beyond = (codes < lowest) | (codes > highest)
        codes.clamp_(lowest, highest)
        return beyond.sum(), beyond if mark else None
    if codes.numel() == 0:
        return 0, None
    least, most = (float(extreme) for extreme in codes.aminmax())
    if least >= lowest and most <= highest:
        return 0, None
    array = codes.numpy()  # numpy compares and counts several times as fast as torch
    beyond = torch.from_numpy((array < lowest) | (array > highest)) if mark else None
    saturated = int(np.count_nonzero(array < lowest)) + int(np.count_nonzero(array > highest))
    codes.clamp_(lowest, highest)
    return saturated, beyond


def straight_through(values: Tensor, result: Tensor, blocked: Tensor | None = None, slope: float = 1.0) -> Tensor:
    """`result` itself, now with the gradient of slope * `values`, zero where `blocked`: steps have none of their own.

    Source: Bengio, Léonard and Courville 2013, https://doi.org/10.48550/arXiv.1308.3432.
    """
    through: Any = _StraightThrough.apply(values, result, blocked, slope)
    return through


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, result: Tensor, blocked: Tensor | None, slope: float) -> Tensor:
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, result, blocked, slope = inputs
        ctx.mark_dirty(result)  # it takes on a gradient: the output is this tensor, not a view that none may write over
        ctx.save_for_backward(blocked)
        ctx.slope = slope

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (blocked,) = ctx.saved_tensors
        gradient = gradients[0] if ctx.slope == 1 else gradients[0] * ctx.slope
        return (gradient if blocked is None else gradient.masked_fill(blocked, 0)), None, None, None
