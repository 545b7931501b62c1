"""The digital register that adds up what the ADCs of several tiles say."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mdls_cosim.analog.codes import Conversion, clamp_codes, code_range, straight_through
from mdls_cosim.config import Config
from mdls_cosim.quantities import RATIO


class Accumulator(Config):
    """A signed register that saturates: partial sums of row tiles are added one after the other, in order.

        total <- clamp(round(total + partial / step), -highest, highest),    highest = 2^(bits-1) - 1

    so what overflowed on the way stays lost, unlike in a register that wraps.
    """

    bits: Annotated[int, Field(ge=2, le=32, strict=True)] | None = None
    """Width, sign included; None: wide enough for any sum, without rounding."""
    step: Annotated[float, RATIO, Field(gt=0, allow_inf_nan=False)] = 1.0
    """What the last bit stands for, in the units of `Adc.unit`: 1 is one code of a uniform ADC, and the whole full
    scale of any other."""

    def add(self, partials: Tensor, dim: int) -> Conversion:
        """The sum over `dim`, and how many additions saturated; straight-through gradient, 0 where one did."""
        if self.bits is None:
            return Conversion(partials.sum(dim), 0)
        lowest, highest = code_range(self.bits, signed=True)
        total = torch.zeros_like(partials.select(dim, 0))
        saturated: int | Tensor = 0
        for partial in partials.unbind(dim):
            wished = total + partial / self.step
            total = wished.detach().round()
            count, beyond = clamp_codes(total, lowest, highest, mark=wished.requires_grad)
            saturated = saturated + count
            if wished.requires_grad:
                total = straight_through(wished, total, beyond)
        return Conversion(total * self.step, saturated)
