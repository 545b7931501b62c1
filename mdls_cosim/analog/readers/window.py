"""The sliding window of a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Window:
    """Window of a convolution over images (images, channels, *axes) of one, two or three axes.

    Attributes:
        kernel, stride, dilation: as of torch's convolutions, one number for each axis.
        padding: zeros on both sides of each axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]

    def pad(self, images: Tensor) -> Tensor:
        """Add the zeros on both sides of each axis."""
        margins = [margin for padding in reversed(self.padding) for margin in (padding, padding)]
        return functional.pad(images, margins) if any(margins) else images

    def convolve(self, images: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
        """Convolve, (images, outputs, *positions), with channels last in memory, as oneDNN's kernels are fastest."""
        stride, padding, dilation = self.stride, self.padding, self.dilation
        if len(self.kernel) == 3:
            return functional.conv3d(self.channels_last(images), kernel, None, stride, padding, dilation, groups)
        if len(self.kernel) == 1:  # the channels-last format exists for two and three axes only
            stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
        result = functional.conv2d(self.channels_last(images), kernel, None, stride, padding, dilation, groups)
        return result[:, :, 0] if len(self.kernel) == 1 else result

    def channels_last(self, images: Tensor) -> Tensor:
        """The same images with channels last in memory; images of one axis get a second axis of length 1."""
        if len(self.kernel) == 1:
            images = images[:, :, None]
        last = torch.channels_last_3d if len(self.kernel) == 3 else torch.channels_last
        return images.contiguous(memory_format=last)

    def sizes(self, images: Tensor) -> tuple[int, ...]:
        """Number of window positions along each axis."""
        return tuple(
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation, padding in zip(
                images.shape[2:], self.kernel, self.stride, self.dilation, self.padding, strict=True
            )
        )

    def shifted(self, padded: Tensor, tap: int, sizes: tuple[int, ...]) -> Tensor:
        """Values at one tap of the kernel for all window positions, (images, *positions, channels); a view.

        Args:
            padded: images with channels last, (images, *axes, channels).
            tap: position in the flattened kernel.
            sizes: as of `sizes`.
        """
        index: list[Any] = [slice(None)]
        offsets = torch.unravel_index(torch.tensor(tap), self.kernel)
        for offset, size, stride, dilation in zip(offsets, sizes, self.stride, self.dilation, strict=True):
            start = int(offset) * dilation
            index.append(slice(start, start + (size - 1) * stride + 1, stride))
        return padded[tuple(index)]

    def row_sums(self, images: Tensor, groups: int) -> Tensor:
        """Sum over each window of each group, (images, groups, 1, positions)."""
        sums = images.unflatten(1, (groups, -1)).sum(2).flatten(0, 1)[:, None]
        result = self.convolve(sums, self.channels_last(images.new_ones((1, 1, *self.kernel))))
        return result.reshape(len(images), groups, 1, -1)

    def vectors(self, images: Tensor, groups: int) -> Tensor:
        """Windows as vectors, (groups, images x positions, inputs)."""
        windows = self.pad(images)
        for axis, (kernel, stride, dilation) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True), start=2
        ):
            windows = windows.unfold(axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
        axes = len(self.kernel)
        # (images, channels, *positions, *kernel) -> (groups, images, *positions, channels of the group, *kernel)
        split = windows.unflatten(1, (groups, -1)).movedim(1, 0).movedim(2, 2 + axes)
        return split.flatten(2 + axes).flatten(1, -2)
