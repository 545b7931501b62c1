"""Converters between the digital network and the tiles: DAC and ADC, ideal or uniform."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Quantity

Bits = Annotated[int, Field(ge=1, le=32, strict=True)]


class Conversion(NamedTuple):
    """What a converter made of its input."""

    values: Tensor
    """Same shape and unit as the input."""
    saturated: int
    """How many values lay beyond the last code."""


class IdealDac(Config):
    """Every activation becomes exactly its voltage: no steps, no limits. Only the scale comes from calibration."""

    kind: Literal["ideal"] = "ideal"
    full_scale: ClassVar[float | None] = None

    def convert(self, values: Tensor, full_scale: float, signed: bool) -> Conversion:
        return Conversion(values, 0)


class IdealAdc(Config):
    """Every current is known exactly: no steps, no limits."""

    kind: Literal["ideal"] = "ideal"
    full_scale: ClassVar[float | None] = None

    def convert(self, values: Tensor, full_scale: float, signed: bool) -> Conversion:
        return Conversion(values, 0)


class Dac(Config):
    """A uniform DAC (see `quantise`): the digital activation at full scale becomes the read voltage."""

    kind: Literal["uniform"] = "uniform"
    bits: Bits
    """Resolution. Signed inputs (bipolar voltages) share the codes between both signs."""
    full_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Activation that becomes the read voltage, in units of the network; None: the largest one seen in calibration."""

    def convert(self, values: Tensor, full_scale: float, signed: bool) -> Conversion:
        return quantise(values, full_scale, self.bits, signed)


class Adc(Config):
    """A uniform ADC (see `quantise`) at the foot of every column."""

    kind: Literal["uniform"] = "uniform"
    bits: Bits
    """Resolution. Signed currents share the codes between both signs."""
    full_scale: Annotated[float, Quantity("ampere", gt=0)] | None = None
    """Current at the last code [A]; None: the largest one seen in calibration."""

    def convert(self, values: Tensor, full_scale: float, signed: bool) -> Conversion:
        return quantise(values, full_scale, self.bits, signed)


AnyDac = Annotated[IdealDac | Dac, Field(discriminator="kind")]
AnyAdc = Annotated[IdealAdc | Adc, Field(discriminator="kind")]


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


def quantise(values: Tensor, full_scale: float, bits: int, signed: bool) -> Conversion:
    """A uniform mid-tread converter: zero is a code, and the full scale is the last one.

        step = full_scale / highest,    q(x) = step · clamp(round(x / step), lowest, highest)

    with the codes of `code_range`; round goes to the nearest code, ties to the even one. A value saturates where its
    rounded code lies beyond the last code. The gradient is straight-through: 1 within the range, 0 beyond it.
    """
    lowest, highest = code_range(bits, signed)
    step = full_scale / highest
    codes = torch.round(values.detach() / step)
    saturated = int(((codes < lowest) | (codes > highest)).sum())
    quantised = codes.clamp(lowest, highest) * step
    if values.requires_grad:
        clamped: Any = values.clamp(lowest * step, highest * step)
        quantised = quantised + (clamped - clamped.detach())  # adds an exact zero that carries the gradient
    return Conversion(quantised, saturated)
