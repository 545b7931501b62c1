"""Digital-to-analog converters: activations become the row drives of one or several reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import Tensor

from mdls_cosim.analog.codes import Bits, clamp_codes, code_range, straight_through
from mdls_cosim.config import Config
from mdls_cosim.quantities import RATIO

FullScale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PulseBits = Annotated[int, Field(ge=1, le=16, strict=True)]


@dataclass(frozen=True)
class Read:
    """One integration of the column currents, after which every ADC converts once."""

    weight: float
    """What the converted result counts in the digital sum over the reads."""
    slices: tuple[tuple[float, Tensor], ...]
    """(share of the integration time, row drive in units of the read voltage): the charge is the sum of share times
    current. For what is missing to a share of 1 every row is at 0 V."""


@dataclass(frozen=True)
class Drive:
    """Everything that the rows see of one tensor of activations.

    The sum over reads of weight * (sum over slices of share * drive) is the converted value over the full scale.
    """

    reads: tuple[Read, ...]
    saturated: int | Tensor
    """Activations beyond the last code; see `Conversion.saturated`."""


class _Coded(NamedTuple):
    codes: Tensor
    """Activations in units where the full scale is `highest`; a fresh tensor without gradient."""
    highest: int
    saturated: int | Tensor
    beyond: Tensor | None
    """Which lay beyond the codes, where that was asked for."""


class _AnyDac(Config, ABC):
    """What every DAC has: phases, and a gradient through its steps."""

    phases: Literal["bipolar", "separate"] = "bipolar"
    """`bipolar`: rows are driven to either side of zero in the same read. `separate`: rows of positive activations in
    one set of reads, rows of negative ones in another that is subtracted digitally, every drive >= 0; signed inputs
    take twice the reads."""

    def bipolar(self, signed: bool) -> bool:
        """Whether row drives may be negative, given whether the activations are `signed`."""
        return signed and self.phases == "bipolar"

    def drive(self, values: Tensor, full_scale: float, signed: bool, linear: bool) -> Drive:
        """The reads that put `values` to the rows.

        Args:
            values: activations, any shape, which every drive has too.
            full_scale: the activation that is driven by the whole read voltage, or for the whole integration time.
            signed: whether negative activations have codes; else they saturate at zero.
            linear: the tile is linear, so that slices of a read may be replaced by their mean drive.

        The gradient is straight-through: 1 where an activation does not saturate, 0 beyond. It is divided evenly over
        the time of all reads of its phase, so a non-linear tile gives its own gradient at the drives that are there.
        """
        given = values.detach()
        coded = self._coded(given, full_scale, signed, mark=values.requires_grad)
        reads: list[Read] = []
        for sign, idle in self._phases(given, signed):
            codes = coded.codes if idle is None else (coded.codes * sign).masked_fill_(idle, 0)
            pattern = self._pattern(codes, coded.highest, linear)
            if values.requires_grad:
                blocked = coded.beyond if idle is None else idle if coded.beyond is None else idle | coded.beyond
                time = sum(read.weight * share for read in pattern for share, _ in read.slices)
                pattern = [_with_gradient(read, values, blocked, sign / (full_scale * time)) for read in pattern]
            reads += [Read(sign * read.weight, read.slices) for read in pattern]
        return Drive(tuple(reads), coded.saturated)

    def _phases(self, values: Tensor, signed: bool) -> Iterator[tuple[int, Tensor | None]]:
        """Sign, and which activations are not driven, of every phase."""
        if not signed or self.phases == "bipolar":
            yield 1, None
            return
        negative = values < 0
        yield 1, negative
        yield -1, ~negative

    @abstractmethod
    def _coded(self, values: Tensor, full_scale: float, signed: bool, mark: bool) -> _Coded: ...

    @abstractmethod
    def _pattern(self, codes: Tensor, highest: int, linear: bool) -> list[Read]:
        """The reads of one phase. May write over `codes` only where it hands them on as the drive."""


class IdealDac(_AnyDac):
    """Every activation becomes exactly its voltage: no steps, no limits. Only the scale comes from calibration."""

    kind: Literal["ideal"] = "ideal"
    full_scale: ClassVar[float | None] = None

    def _coded(self, values: Tensor, full_scale: float, signed: bool, mark: bool) -> _Coded:
        return _Coded(values / full_scale, 1, 0, None)

    def _phases(self, values: Tensor, signed: bool) -> Iterator[tuple[int, Tensor | None]]:
        # Without limits a negative activation that nobody announced is driven too, in the phase that it needs.
        unannounced = not signed and self.phases == "separate" and bool((values < 0).any())
        return super()._phases(values, signed or unannounced)

    def _pattern(self, codes: Tensor, highest: int, linear: bool) -> list[Read]:
        return [Read(1.0, ((1.0, codes),))]


class _SteppedDac(_AnyDac):
    """A DAC with mid-tread codes: zero is a code, and the full scale is the last one.

        code = clamp(round(x highest / full_scale), lowest, highest)

    with the codes of `code_range`: signed activations share them between both signs, in separate phases too. Round
    goes to the nearest code, ties to the even one. A value saturates where its rounded code lies beyond the last one.
    """

    bits: Bits
    """Resolution. Signed inputs share the codes between both signs."""
    full_scale: Annotated[FullScale, RATIO] | None = None
    """Activation of the last code, in units of the network; None: the largest one seen in calibration."""

    def _coded(self, values: Tensor, full_scale: float, signed: bool, mark: bool) -> _Coded:
        lowest, highest = code_range(self.bits, signed)
        codes = (values / (full_scale / highest)).round_()
        saturated, beyond = clamp_codes(codes, lowest, highest, mark)
        return _Coded(codes, highest, saturated, beyond)


class Dac(_SteppedDac):
    """A uniform DAC of amplitude: the activation at full scale becomes the read voltage, drive = code / highest."""

    kind: Literal["uniform"] = "uniform"

    def _pattern(self, codes: Tensor, highest: int, linear: bool) -> list[Read]:
        return [Read(1.0, ((1.0, codes.div_(highest)),))]


class PulseWidthDac(_SteppedDac):
    """Pulses of the whole read voltage, as many unit slots long as the code says, of `highest` slots in a read.

    All pulses of a read begin together (end together, or share their middle: the overlaps, and so the charge of cells
    without memory, are the same). Between two successive code magnitudes that occur in the tensor the set of rows that
    are on is constant: one slice, and charge = sum over slices of share * I(drives of +-1 and 0), never the current at
    a mean voltage. A linear tile is read once with the mean drive, code / highest, which gives the same charge.

    Cost with non-linear cells: one solution of the tile, and one tensor of drives, per distinct non-zero magnitude in
    the whole tensor: at most 2^bits - 1 of them unsigned and 2^(bits-1) - 1 signed, in every phase. Leaves out: edges
    of finite slope and the settling of the lines.
    """

    kind: Literal["pulse_width"] = "pulse_width"
    bits: PulseBits
    """Resolution: a read lasts for as many unit slots as the highest code says."""

    def _pattern(self, codes: Tensor, highest: int, linear: bool) -> list[Read]:
        if linear:
            return [Read(1.0, ((1.0, codes.div_(highest)),))]
        signs, lengths = codes.sign(), codes.abs()
        slices: list[tuple[float, Tensor]] = []
        start = 0.0
        for end in lengths.unique().tolist():
            if end > start:
                slices.append(((end - start) / highest, signs * (lengths >= end)))
                start = end
        return [Read(1.0, tuple(slices) or ((1.0, signs),))]  # no pulse at all: rows at 0 V throughout


class BitSerialDac(_SteppedDac):
    """One read per bit of the code's magnitude, added with shifts: read b has the weight 2^b / highest.

    Rows whose bit is set are at the read voltage, with the sign of the activation, all others at 0 V: every current
    is that of drives of +-1 and 0, whatever the cells. `bits` reads unsigned and bits - 1 signed, in every phase, each
    with a conversion of its own.
    """

    kind: Literal["bit_serial"] = "bit_serial"
    bits: PulseBits
    """Resolution. One bit of a signed activation is its sign, which takes no read."""

    def _pattern(self, codes: Tensor, highest: int, linear: bool) -> list[Read]:
        signs, magnitudes = codes.sign(), codes.abs()
        return [
            Read(2**bit / highest, ((1.0, (magnitudes / 2**bit).floor_().remainder_(2).mul_(signs)),))
            for bit in range(highest.bit_length())
        ]


AnyDac = Annotated[IdealDac | Dac | PulseWidthDac | BitSerialDac, Field(discriminator="kind")]


def _with_gradient(read: Read, values: Tensor, blocked: Tensor | None, slope: float) -> Read:
    slices = ((share, straight_through(values, drive, blocked, slope)) for share, drive in read.slices)
    return Read(read.weight, tuple(slices))
