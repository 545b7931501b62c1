"""Convolutions and transposed convolutions on tiles, in one, two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.analog.readers import ConvolutionReader, LaidTerm, MatrixReader, Reader, TapReader, Window
from mdls_cosim.analog.uncompiled import uncompiled
from mdls_cosim.errors import InputError

Size = int | tuple[int, ...]
AnyConv = nn.Conv1d | nn.Conv2d | nn.Conv3d
AnyConvTranspose = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


class _Sliding(AnalogLayer):
    """What convolutions have in common: the kernel positions of the input channels are the rows, the output channels
    the columns, and every output position is one read. Groups share tiles where they fit (`grouping.py`)."""

    digital_kind: ClassVar[Any]
    window: Window
    _FIXED = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")

    def __init__(self, hardware: Hardware, digital: Any, weight: Tensor) -> None:
        # Of the weights, as torch's functions take them: pruning may have put others in their place.
        first, second, *kernel = weight.shape
        super().__init__(hardware, weight, digital.bias, digital.groups, math.prod(kernel))
        self.groups: int = digital.groups
        self.in_channels, self.out_channels = self._channels(first, second)
        self.kernel_size: tuple[int, ...] = tuple(kernel)
        self.stride: tuple[int, ...] = self._by_axis(digital.stride)
        self.padding: Any = digital.padding if isinstance(digital.padding, str) else self._by_axis(digital.padding)
        self.dilation: tuple[int, ...] = self._by_axis(digital.dilation)

    @classmethod
    def from_conv(cls, conv: nn.Module, hardware: Hardware, seed: int = 0) -> Any:
        """The same weights on tiles; `conv` stays as it is."""
        layer = cls(hardware=hardware, seed=seed, digital=conv)  # pyright: ignore[reportCallIssue]
        return layer.train(conv.training)

    @uncompiled
    def forward(self, input: Tensor) -> Tensor:
        outputs = self._run(self.items(input))
        return outputs if input.ndim == 2 + self.axes else outputs[0]

    def _channels(self, first: int, second: int) -> tuple[int, int]:
        """Channels of the inputs and of the outputs, of the first two sizes of the weights."""
        return second * self.groups, first

    def _by_axis(self, size: Any) -> tuple[int, ...]:
        """One number for every axis, of which torch takes a single one for all."""
        return (size,) * self.axes if isinstance(size, int) else tuple(size)

    @property
    def axes(self) -> int:
        """Dimensions that the kernel slides along."""
        return len(self.kernel_size)

    def _batched(self, inputs: Tensor) -> Tensor:
        """The inputs with a batch dimension, if their shape is right."""
        self._check_tensor(inputs)
        items = inputs[None] if inputs.ndim == 1 + self.axes else inputs
        if items.ndim != 2 + self.axes or items.shape[1] != self.in_channels:
            sizes = ", ".join(["size"] * self.axes)
            raise self._wrong_shape(inputs, f"(batch, {self.in_channels}, {sizes}), or without the batch")
        return items

    def items(self, inputs: Tensor) -> Tensor:
        items = self._batched(inputs)
        if min(self._sizes(items)) < 1:
            raise InputError(
                "the kernel is larger than its padded input",
                where=self.where,
                value="x".join(map(str, items.shape[2:])),
                limit=f"kernel {self.kernel_size}, dilation {self.dilation}, padding {self.padding}",
            )
        return items

    def _sizes(self, items: Tensor) -> tuple[int, ...]:
        """Output positions along every axis."""
        shape = self._image_sizes(items)
        return self.window.sizes(torch.empty((1, 1, *shape), device="meta"))

    def _image_sizes(self, items: Tensor) -> tuple[int, ...]:
        """Of what the kernel slides over, its own zeros aside."""
        raise NotImplementedError

    def _vectors_per_item(self, items: Tensor) -> int:
        return math.prod(self._sizes(items))

    def _vectors(self, images: Tensor) -> Tensor:
        return self.window.vectors(images, self.partition.groups)

    def _product_reader(self, terms: Sequence[LaidTerm]) -> Reader:
        match self.partition.order:
            case "channels":
                return ConvolutionReader(self.layout, terms, self.window)
            case "taps":
                return TapReader(self.layout, terms, self.window)
            case "dense":
                return MatrixReader(self.layout, terms, self._vectors)

    def _assemble(self, results: Tensor, items: Tensor) -> Tensor:
        # Pixel by pixel, as channels-last images are in memory.
        channels = results.flatten(1)[:, : self.out_channels]
        return channels.reshape(len(items), *self._sizes(items), self.out_channels).movedim(-1, 1)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, {super().extra_repr()}"
        )


class _Convolution(_Sliding):
    def __init__(
        self,
        in_channels: int = 0,
        out_channels: int = 0,
        kernel_size: Size = 1,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        hardware: Hardware,
        seed: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        digital: AnyConv | None = None,
    ) -> None:
        if digital is None:
            digital = self.digital_kind(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                dilation,
                groups,
                bias,
                padding_mode,
                device,
                dtype,
            )
        assert digital is not None
        super().__init__(hardware, digital, digital.weight)
        self.padding_mode = digital.padding_mode
        margins = self._margins()
        if self.padding_mode != "zeros":  # torch pads by what it has noted when the layer was made
            noted = digital._reversed_padding_repeated_twice
            margins = list(zip(noted[::2], noted[1::2], strict=True))[::-1]
        even = self.padding_mode == "zeros" and all(before == after for before, after in margins)
        padding_of_window = tuple(before for before, _ in margins) if even else (0,) * self.axes
        # What the window does not add itself, last axis first, as torch wants it.
        self._around = [] if even else [side for margin in reversed(margins) for side in margin]
        self.window = Window(self.kernel_size, self.stride, self.dilation, padding_of_window)
        self.program(seed)

    def _margins(self) -> list[tuple[int, int]]:
        """Padding (before, after) of every axis."""
        if self.padding == "valid":
            return [(0, 0)] * self.axes
        if self.padding == "same":
            # Where the total is odd, torch puts the odd one behind.
            totals = [dilation * (kernel - 1) for dilation, kernel in zip(self.dilation, self.kernel_size, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        return [(padding, padding) for padding in self.padding]

    def _images(self, drives: Tensor) -> Tensor:
        drives = self.grouping.with_empty_channels(drives)
        if not any(self._around):
            return drives
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return functional.pad(drives, self._around, mode=mode)

    def items(self, inputs: Tensor) -> Tensor:
        items = super().items(inputs)
        sizes = items.shape[2:]
        most = {"reflect": [size - 1 for size in sizes], "circular": list(sizes)}.get(self.padding_mode)
        if most is not None and any(max(margin) > limit for margin, limit in zip(self._margins(), most, strict=True)):
            raise InputError(
                "the padding is wider than its input",
                where=self.where,
                value=f"{'x'.join(map(str, sizes))}, padding {self.padding}",
                limit=f"{' and '.join(map(str, most))} with padding_mode={self.padding_mode!r}",
            )
        return items

    def _image_sizes(self, items: Tensor) -> tuple[int, ...]:
        around = self._around or [0] * (2 * self.axes)
        sides = list(zip(around[::2], around[1::2], strict=True))[::-1]
        return tuple(size + before + after for size, (before, after) in zip(items.shape[2:], sides, strict=True))


class AnalogConv1d(_Convolution):
    """A convolution on memristor tiles; arguments and shapes of `torch.nn.Conv1d`.

    Args:
        hardware: tiles, mapping and periphery.
        seed: draws the spread of the cells.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.
    """

    digital_kind = nn.Conv1d


class AnalogConv2d(_Convolution):
    """As `AnalogConv1d`, of `torch.nn.Conv2d`."""

    digital_kind = nn.Conv2d


class AnalogConv3d(_Convolution):
    """As `AnalogConv1d`, of `torch.nn.Conv3d`."""

    digital_kind = nn.Conv3d


class _Transposed(_Sliding):
    def __init__(
        self,
        in_channels: int = 0,
        out_channels: int = 0,
        kernel_size: Size = 1,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        *,
        hardware: Hardware,
        seed: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        digital: AnyConvTranspose | None = None,
    ) -> None:
        if digital is None:
            digital = self.digital_kind(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                output_padding,
                groups,
                bias,
                dilation,
                padding_mode,
                device,
                dtype,
            )
        assert digital is not None
        super().__init__(hardware, digital, digital.weight)
        self.output_padding: tuple[int, ...] = self._by_axis(digital.output_padding)
        self._padding_of_call = self.output_padding
        """`output_padding` of the last call, which its `output_size` determines."""
        self.window = Window(self.kernel_size, (1,) * self.axes, self.dilation, (0,) * self.axes)
        self.program(seed)

    @uncompiled
    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """As torch's; `output_size` chooses among the sizes that a stride allows, in place of `output_padding`."""
        self._batched(input)
        self._padding_of_call = self.output_padding if output_size is None else self._padding_for(input, output_size)
        return super().forward(input)

    def _channels(self, first: int, second: int) -> tuple[int, int]:
        return first, second * self.groups

    def _padding_for(self, inputs: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The `output_padding` that gives `output_size`: the sizes of the axes, or of all dimensions."""
        axes = self.axes
        smallest = [
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for size, stride, padding, dilation, kernel in zip(
                inputs.shape[-axes:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        try:
            sizes = tuple(int(size) for size in output_size)
        except (TypeError, ValueError):
            sizes = ()
        more = tuple(size - least for size, least in zip(sizes[-axes:], smallest, strict=False))
        fits = all(0 <= each < stride for each, stride in zip(more, self.stride, strict=False))
        if len(sizes) not in (axes, inputs.ndim) or not fits:
            raise InputError(
                "the output size cannot come from this input",
                where=self.where,
                value=tuple(output_size) if sizes else output_size,
                limit=" x ".join(
                    f"{least}..{least + stride - 1}" for least, stride in zip(smallest, self.stride, strict=True)
                ),
            )
        return more

    def _matrix(self, groups: int) -> Tensor:
        # (groups, inputs, outputs, *kernel), the kernel turned round, to (groups, inputs x kernel, outputs).
        weight = self.weight.detach().to(torch.float64).unflatten(0, (groups, -1))
        return weight.flip(tuple(range(3, weight.ndim))).movedim(2, -1).flatten(1, -2)

    def _margins(self) -> list[tuple[int, int]]:
        """Zeros (before, after) around the spread input; fewer than none: outputs that are not wanted."""
        return [
            (dilation * (kernel - 1) - padding, dilation * (kernel - 1) - padding + more)
            for dilation, kernel, padding, more in zip(
                self.dilation, self.kernel_size, self.padding, self._padding_of_call, strict=True
            )
        ]

    def _images(self, drives: Tensor) -> Tensor:
        drives = self.grouping.with_empty_channels(drives)
        # stride - 1 zeros between neighbours: rows that rest at 0 V.
        spread = drives.new_zeros(
            (
                *drives.shape[:2],
                *((size - 1) * stride + 1 for size, stride in zip(drives.shape[2:], self.stride, strict=True)),
            )
        )
        spread[(..., *(slice(None, None, stride) for stride in self.stride))] = drives
        return functional.pad(spread, [side for margin in reversed(self._margins()) for side in margin])

    def _image_sizes(self, items: Tensor) -> tuple[int, ...]:
        return tuple(
            (size - 1) * stride + 1 + before + after
            for size, stride, (before, after) in zip(items.shape[2:], self.stride, self._margins(), strict=True)
        )


class AnalogConvTranspose1d(_Transposed):
    """A transposed convolution on memristor tiles; arguments and shapes of `torch.nn.ConvTranspose1d`.

    The input is spread by the stride with zeros between, and read as a convolution with the kernel turned round: every
    output position is one read, in which the rows of the zeros rest at 0 V.

    Args:
        hardware: tiles, mapping and periphery.
        seed: draws the spread of the cells.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.
    """

    digital_kind = nn.ConvTranspose1d


class AnalogConvTranspose2d(_Transposed):
    """As `AnalogConvTranspose1d`, of `torch.nn.ConvTranspose2d`."""

    digital_kind = nn.ConvTranspose2d


class AnalogConvTranspose3d(_Transposed):
    """As `AnalogConvTranspose1d`, of `torch.nn.ConvTranspose3d`."""

    digital_kind = nn.ConvTranspose3d
