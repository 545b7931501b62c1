"""nn.Conv2d on tiles."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.errors import InputError

Size = int | tuple[int, int]


class AnalogConv2d(AnalogLayer):
    """A convolution on memristor tiles; arguments and shapes of `torch.nn.Conv2d`.

    The kernel positions of the input channels are the rows, the output channels the columns, and every output
    position is one read. Groups sit on tiles of their own.

    Args:
        hardware: tiles, mapping and periphery.
        seed: draws the programming error.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        hardware: Hardware,
        seed: int | torch.Generator = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        digital: nn.Conv2d | None = None,
    ) -> None:
        if digital is None:
            digital = nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                dilation,
                groups,
                bias,
                padding_mode,  # pyright: ignore[reportArgumentType]  torch checks the word
                device,
                dtype,
            )
        super().__init__(hardware, digital, groups=digital.groups)
        self.in_channels = digital.in_channels
        self.out_channels = digital.out_channels
        self.kernel_size = _pair(digital.kernel_size)
        self.stride = _pair(digital.stride)
        self.padding = digital.padding
        self.dilation = _pair(digital.dilation)
        self.groups = digital.groups
        self.padding_mode = digital.padding_mode
        self.program(seed)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, hardware: Hardware, seed: int | torch.Generator = 0) -> AnalogConv2d:
        """The same weights on tiles; `conv` stays as it is."""
        layer = cls(
            conv.in_channels, conv.out_channels, _pair(conv.kernel_size), hardware=hardware, seed=seed, digital=conv
        )
        return layer.train(conv.training)

    def forward(self, inputs: Float[Tensor, "*batch channels height width"]) -> Float[Tensor, "*batch outputs h w"]:
        outputs = self._run(self.items(inputs))
        return outputs if inputs.ndim == 4 else outputs[0]

    def items(self, inputs: Tensor) -> Tensor:
        items = inputs[None] if inputs.ndim == 3 else inputs
        if items.ndim != 4 or items.shape[1] != self.in_channels:
            raise InputError(
                "the input of AnalogConv2d has the wrong shape",
                value=tuple(inputs.shape),
                limit=f"(batch, {self.in_channels}, height, width), or without the batch",
            )
        height, width = self._output_size(items)
        if height < 1 or width < 1:
            raise InputError(
                "the kernel of AnalogConv2d is larger than its padded input",
                value=f"{items.shape[2]}x{items.shape[3]}",
                limit=f"kernel {self.kernel_size}, dilation {self.dilation}, padding {self.padding}",
            )
        return items

    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Padding (before, after) of height and of width."""
        if isinstance(self.padding, str):
            if self.padding == "valid":
                return (0, 0), (0, 0)
            # "same": where the total is odd, torch puts the odd one behind.
            totals = [dilation * (kernel - 1) for dilation, kernel in zip(self.dilation, self.kernel_size, strict=True)]
            before_after = [(total // 2, total - total // 2) for total in totals]
            return before_after[0], before_after[1]
        height, width = self.padding
        return (height, height), (width, width)

    def _output_size(self, items: Tensor) -> tuple[int, int]:
        sizes = [
            (size + sum(margin) - dilation * (kernel - 1) - 1) // stride + 1
            for size, margin, dilation, kernel, stride in zip(
                items.shape[2:], self._margins(), self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]
        return sizes[0], sizes[1]

    def _vectors_per_item(self, items: Tensor) -> int:
        height, width = self._output_size(items)
        return height * width

    def _vectors(self, items: Tensor) -> Tensor:
        (top, bottom), (left, right) = self._margins()
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        if top or bottom or left or right:
            items = functional.pad(items, (left, right, top, bottom), mode=mode)
        columns = functional.unfold(items, self.kernel_size, self.dilation, 0, self.stride)
        # (images, groups * inputs, positions) -> (groups, images * positions, inputs)
        return columns.unflatten(1, (self.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)

    def _assemble(self, results: Tensor, items: Tensor) -> Tensor:
        height, width = self._output_size(items)
        # (groups, images * positions, outputs) -> (images, groups * outputs, height, width)
        outputs = results.unflatten(1, (items.shape[0], height * width)).permute(1, 0, 3, 2)
        outputs = outputs.reshape(items.shape[0], self.out_channels, height, width)
        return outputs if self.bias is None else outputs + self.bias.to(outputs.dtype)[:, None, None]

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, {super().extra_repr()}"
        )


def _pair(size: tuple[int, ...]) -> tuple[int, int]:
    height, width = size
    return height, width
