"""Analog-to-digital converters: the currents of one read become numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mdls_cosim.analog.codes import Bits, Conversion, clamp_codes, code_range, straight_through
from mdls_cosim.config import Config
from mdls_cosim.devices.variability import Randomness
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import SHARE, PositiveCurrent, Unit

STEPS = Unit("steps")
Spread = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percentile = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


@dataclass(frozen=True)
class AdcErrors:
    """Static errors of every physical converter; None: none of that kind. All shapes broadcast to the inputs."""

    offset: Tensor | None = None
    """[steps]"""
    gain: Tensor | None = None
    """Relative."""
    bow: Tensor | None = None
    """Symmetric part of the integral non-linearity [steps]; see `integral`."""
    skew: Tensor | None = None
    """Antisymmetric part of the integral non-linearity [steps]."""

    def apply(self, change: Callable[[Tensor], Tensor]) -> AdcErrors:
        """The same errors after `change` of their shape or place."""
        return AdcErrors(*(None if part is None else change(part) for part in vars(self).values()))

    def integral(self, position: Tensor) -> Tensor:
        """Integral non-linearity [steps] at `position`, -1 at the lowest code and 1 at the highest:

            (1 - position^2) (bow + skew position),

        the least polynomial that can bow and bend to an S and is zero at both end points, where the end-point
        definition of IEEE Std 1241-2010 (https://doi.org/10.1109/IEEESTD.2011.5692956) puts offset and gain.
        """
        if self.bow is None or self.skew is None:
            return torch.zeros_like(position)
        slope = (position * self.skew).add_(self.bow)
        return slope.mul_(position.square().neg_().add_(1))


class IdealAdc(Config):
    """Every current is known exactly: no steps, no limits."""

    kind: Literal["ideal"] = "ideal"
    full_scale: ClassVar[float | None] = None

    def unit(self, signed: bool) -> float:
        """What the full scale is in the numbers handed to `convert`; any, where nothing is limited."""
        return 1.0

    def errors(self, shape: tuple[int, ...], seed: int | Randomness) -> AdcErrors | None:
        """None: an ideal converter has no errors."""
        return None

    def convert(
        self, values: Tensor, signed: bool, errors: AdcErrors | None = None, generator: torch.Generator | None = None
    ) -> Conversion:
        """`values` as they are."""
        return Conversion(values, 0)


class _SteppedAdc(Config, ABC):
    """What every ADC with codes has: a range, and errors on its scale of codes.

        code = clamp(round((1 + gain) s + integral(s) + offset + noise), lowest, highest)

    where s is the place of the input on the scale, in steps, and the codes are those of `code_range`; round goes to
    the nearest code, ties to the even one. A value saturates where its rounded code lies beyond the last code. The
    gradient is straight-through: 1 where a value does not saturate, 0 beyond. Leaves out: differential non-linearity
    (missing codes) and errors that depend on the conversion before.
    """

    bits: Bits
    """Resolution. Signed currents share the codes between both signs."""
    full_scale: PositiveCurrent | None = None
    """Current at the last code [A]; None: found in calibration as `range` says."""
    range: Literal["max", "minimum error"] | Annotated[Percentile, Unit("% quantile")] = "max"
    """How calibration finds the full scale: the largest magnitude; a percentile, such as 99.9, of the magnitudes that
    are not zero; or the one of least mean squared error of conversion."""
    offset: Annotated[Spread, STEPS] = 0.0
    """Standard deviation over converters [steps]."""
    gain_error: Annotated[Spread, SHARE] = 0.0
    """Standard deviation over converters, relative."""
    integral_nonlinearity: Annotated[Spread, STEPS] = 0.0
    """Largest deviation of every converter from the line through its end points [steps]: a bow, an S or between, drawn
    for each; see `AdcErrors.integral`."""
    noise: Annotated[Spread, STEPS] = 0.0
    """Root mean square of what is drawn anew in every conversion, referred to the input [steps]."""
    columns_per_adc: Annotated[int, Field(ge=1, strict=True)] = 1
    """How many neighbouring columns of a tile take turns at one converter, and share its errors."""

    def errors(self, shape: tuple[int, ...], seed: int | Randomness) -> AdcErrors | None:
        """Static errors of all converters, float64; None: there are none.

        Args:
            shape: (*tiles, columns), the columns of one tile last: tiles never share a converter.
            seed: draws of one kind of error do not depend on whether there are others.
        """
        draws = (seed if isinstance(seed, Randomness) else Randomness(seed)).stream("adc")
        converters = (*shape[:-1], -(-shape[-1] // self.columns_per_adc))
        offset = gain = bow = skew = None
        if self.offset:
            offset = self.offset * torch.from_numpy(draws.stream("offset").normal(converters))
        if self.gain_error:
            gain = self.gain_error * torch.from_numpy(draws.stream("gain").normal(converters))
        if self.integral_nonlinearity:
            angle = 2 * math.pi * torch.from_numpy(draws.stream("nonlinearity").uniform(converters))
            bow, skew = angle.cos(), angle.sin() * (1.5 * math.sqrt(3))  # either alone peaks at 1
            peak = self.integral_nonlinearity / _peak(bow, skew)
            bow, skew = bow * peak, skew * peak
        if offset is None and gain is None and bow is None:
            return None
        drawn = AdcErrors(offset, gain, bow, skew)
        return drawn.apply(lambda part: part.repeat_interleave(self.columns_per_adc, -1)[..., : shape[-1]])

    def convert(
        self, values: Tensor, signed: bool, errors: AdcErrors | None = None, generator: torch.Generator | None = None
    ) -> Conversion:
        """The numbers that the converters make of `values`.

        Args:
            values: in units where the full scale is `unit`; written over unless a gradient is wanted through them.
            signed: whether negative values have codes; else they saturate at zero.
            errors: of `errors`, in a shape that broadcasts to `values`; None: converters without static errors.
            generator: draws the noise, on the device of `values`.

        Raises:
            ConfigError: too few bits for signed values.
            InputError: noise without a generator.
        """
        lowest, highest = code_range(self.bits, signed)
        wanted = values.requires_grad
        codes, saturated, beyond = self._codes(
            values.detach().clone() if wanted else values,
            lowest,
            highest,
            lambda steps, least: self._disturb(steps, least, highest, errors, generator),
            wanted,
        )
        return Conversion(straight_through(values, codes, beyond) if wanted else codes, saturated)

    @abstractmethod
    def unit(self, signed: bool) -> float:
        """What the full scale is in the numbers handed to `convert`."""

    @abstractmethod
    def _codes(
        self, values: Tensor, lowest: int, highest: int, disturb: Callable[[Tensor, int], None], mark: bool
    ) -> tuple[Tensor, int | Tensor, Tensor | None]:
        """What the codes stand for, how many values saturated and, if `mark`, which; writes over `values`.

        disturb: adds the errors, in place, to places on a scale [steps] that begins at a lowest code.
        """

    def _disturb(
        self, steps: Tensor, lowest: int, highest: int, errors: AdcErrors | None, generator: torch.Generator | None
    ) -> None:
        if errors is not None:
            errors = errors.apply(lambda part: part.to(steps))
            integral = None
            if errors.bow is not None:  # taken where the input is, so before anything moves it
                position = (steps - (lowest + highest) / 2).mul_(2 / (highest - lowest)).clamp_(-1, 1)
                integral = errors.integral(position)
            if errors.gain is not None:
                steps.mul_(1 + errors.gain)
            for part in (integral, errors.offset):
                if part is not None:
                    steps.add_(part)
        if self.noise:
            if generator is None:
                raise InputError("an ADC with noise needs a generator", where="generator", hint="torch.Generator()")
            drawn = torch.randn(steps.shape, generator=generator, dtype=steps.dtype, device=steps.device)
            steps.add_(drawn, alpha=self.noise)


class Adc(_SteppedAdc):
    """A uniform mid-tread ADC: zero is a code and the full scale the last one, step = full_scale / highest.

    Numbers are handed over in steps, so the codes are what comes back: rounding, one pass that looks for saturation,
    and only where there is some, counting and clamping.
    """

    kind: Literal["uniform"] = "uniform"

    def unit(self, signed: bool) -> float:
        """The highest code: numbers are handed over in steps."""
        return float(code_range(self.bits, signed)[1])

    def _codes(
        self, values: Tensor, lowest: int, highest: int, disturb: Callable[[Tensor, int], None], mark: bool
    ) -> tuple[Tensor, int | Tensor, Tensor | None]:
        disturb(values, lowest)
        values.round_()
        return values, *clamp_codes(values, lowest, highest, mark)


class LogarithmicAdc(_SteppedAdc):
    """An ADC whose codes are a sign and a magnitude, zero or one of `highest` that are spaced by a constant ratio.

        s(x) = highest + (highest - 1) log10(|x| / full_scale) / decades
        value(code) = sign(x) full_scale 10^(decades (code - highest) / (highest - 1)),   value(0) = 0

    so code 1 is `decades` below the full scale. Round on this scale keeps the relative error of what is not zero within
    half a ratio, 10^(decades / (highest - 1) / 2) - 1; what lies more than that below code 1 becomes zero. A step, and
    with it every error, is one of this scale and is the same for both signs: an offset is a factor, as the intercept of
    a logarithmic amplifier, and zero stays exactly zero.
    """

    kind: Literal["logarithmic"] = "logarithmic"
    decades: Annotated[float, Unit("decades"), Field(gt=0, allow_inf_nan=False)] = 2.0
    """Between the smallest magnitude and the full scale."""

    def unit(self, signed: bool) -> float:
        """1: numbers are handed over in units of the full scale."""
        return 1.0

    def _codes(
        self, values: Tensor, lowest: int, highest: int, disturb: Callable[[Tensor, int], None], mark: bool
    ) -> tuple[Tensor, int | Tensor, Tensor | None]:
        if highest == 1:
            raise ConfigError(
                "a logarithmic converter needs two magnitudes or more",
                value=f"{self.bits} bit, {'signed' if lowest else 'unsigned'}",
                limit=f"{3 if lowest else 2} bits or more",
            )
        step = self.decades * math.log(10) / (highest - 1)
        signs = values.sign()
        steps = values.abs_().log_().div_(step).add_(highest)
        disturb(steps, 0)
        codes = steps.round_().clamp_(min=0).mul_(signs)
        saturated, beyond = clamp_codes(codes, lowest, highest, mark)
        signs.copy_(codes).sign_()  # zero where the code is
        return codes.abs_().sub_(highest).mul_(step).exp_().mul_(signs), saturated, beyond


AnyAdc = Annotated[IdealAdc | Adc | LogarithmicAdc, Field(discriminator="kind")]


def full_scale_from(samples: Tensor, adc: IdealAdc | Adc | LogarithmicAdc, signed: bool) -> float:
    """The full scale of `adc` [the unit of the samples] that its `range` gives for `samples` [A] of its currents.

    The fixed one where there is one, 1 for an ideal ADC, and 0 where no sample is other than zero (unsigned: positive).
    The search for the minimum error converts all samples, without errors of the converter, some hundred times.

    Raises:
        InputError: samples that are not finite.
    """
    if isinstance(adc, IdealAdc):
        return 1.0
    if adc.full_scale is not None:
        return adc.full_scale
    samples = samples.detach()
    magnitudes = samples.abs() if signed else samples.clamp(min=0)
    peak = float(magnitudes.max()) if magnitudes.numel() else 0.0
    if not math.isfinite(peak):
        raise InputError("converters cannot be calibrated on inputs that are not finite", where="samples", value=peak)
    if adc.range == "max" or peak == 0:
        return peak
    if adc.range == "minimum error":
        return _of_minimum_error(samples, adc.replace(noise=0.0), signed, peak)
    drawn = magnitudes[magnitudes > 0]
    return float(drawn.kthvalue(max(1, math.ceil(drawn.numel() * adc.range / 100))).values)


def _of_minimum_error(samples: Tensor, adc: Adc | LogarithmicAdc, signed: bool, peak: float) -> float:
    unit = adc.unit(signed)

    def error(full_scale: float) -> float:
        converted = adc.convert(samples * (unit / full_scale), signed).values
        return float(converted.mul_(full_scale / unit).sub_(samples).square_().mean())

    coarse = [peak * 2 ** (-k / 8) for k in range(96)]
    near = min(coarse, key=error)
    fine = [near * 2 ** (k / 64) for k in range(-8, 9) if k <= 0 or near < peak]
    return min(fine, key=error)


def _peak(bow: Tensor, skew: Tensor) -> Tensor:
    """Largest |(1 - x^2) (bow + skew x)| over -1 <= x <= 1."""
    root = (bow.square() + 3 * skew.square()).sqrt()
    # Where the derivative vanishes, 3 skew x^2 + 2 bow x = skew. The zeros multiply to -1/3: the nearer one is within
    # the range and has a form that does not divide by a vanishing skew; the other may lie outside, where nothing peaks.
    farther = -(bow + torch.where(bow < 0, -root, root))
    nearer = -skew / farther
    other = (farther / (3 * skew)).nan_to_num(1.0).clamp(-1, 1)
    return torch.maximum(*(((1 - x.square()) * (bow + skew * x)).abs() for x in (nearer, other)))
