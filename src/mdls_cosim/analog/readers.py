"""How the tiles of a layer are read: through a tile model, as matrix products, or as convolutions.

Every reader gives the currents of all row tiles before they are converted,

    partials (groups, row_tiles, vectors, conversions, outputs) or (vectors, groups, row_tiles, conversions, outputs),

in units that the caller asks for, and says how what belongs to one converter, (conversions, groups, row_tiles,
outputs), broadcasts to them. Where a read is linear in the voltages, the units are in the matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mdls_cosim.analog.mapping import Mapping
from mdls_cosim.analog.partition import Partition
from mdls_cosim.fidelity import Programmed


@dataclass(frozen=True)
class Layout:
    """Where every weight of a chip is, and which currents one converter gets."""

    partition: Partition
    mapping: Mapping
    rows: Tensor
    columns: Tensor
    analog: bool
    """Planes are subtracted before the converters."""

    def conversions(self, planes: Tensor) -> Tensor:
        """What converters get: (slices, planes, …) to (conversions, …)."""
        if planes.shape[1] == 1:
            return planes[:, 0]
        return planes[:, 0] - planes[:, 1] if self.analog else planes.flatten(0, 1)

    def place_values(self) -> list[float]:
        """What every conversion counts in the digital sum."""
        signs = [1.0] if self.analog or self.mapping.planes == 1 else [1.0, -1.0]
        return [value * sign for value in self.mapping.place_values() for sign in signs]

    def matrix(self, tiles: Tensor) -> Tensor:
        """(arrays, *tiles, rows, cols) to (conversions, groups, row_tiles, inputs_per_tile, outputs), in order."""
        taken = self.mapping.take(tiles, self.partition.outputs_per_tile)
        return self.partition.from_tiles(self.conversions(taken), self.rows, self.columns)

    def currents(self, currents: Tensor) -> Tensor:
        """(arrays, *tiles, vectors, cols) to (conversions, groups, row_tiles, vectors, outputs)."""
        taken = self.mapping.take(currents, self.partition.outputs_per_tile)
        return self.partition.to_outputs(self.conversions(taken), self.columns)


class Reader(ABC):
    """Reads of one layer. `partials` may be called any number of times; it is linear in nothing but its name."""

    tile_dim: int
    """Of the partials: the row tiles. Conversions are dimension 3 of every reader, outputs the last."""
    vector_dim: int
    """Of the results, which are (groups, vectors, outputs) or (vectors, groups, outputs)."""
    held: int
    """Numbers that one vector takes while it is read."""

    def __init__(self, partition: Partition, conversions: int) -> None:
        self._partition, self._conversions = partition, conversions
        places = partition.inputs_per_tile + conversions * partition.outputs
        self.held = partition.groups * partition.row_tiles * places

    def room(self, vectors: int, like: Tensor) -> Tensor:
        """For the results of so many vectors."""
        groups, outputs = self._partition.groups, self._partition.outputs
        return like.new_empty((vectors, groups, outputs) if self.vector_dim == 0 else (groups, vectors, outputs))

    @abstractmethod
    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        """Some row tiles after the other, each with which they are."""

    def spread(self, each: Tensor) -> Tensor:
        """(conversions, groups, row_tiles, outputs) so that it broadcasts to partials of all row tiles, which
        are its dimension 1."""
        return each.permute(1, 2, 0, 3)[:, :, None]

    def as_result(self, each: Tensor) -> Tensor:
        """(groups, 1, outputs) so that it broadcasts to results."""
        return each

    @abstractmethod
    def row_sums(self, drives: Tensor) -> Tensor:
        """Sum of all drives of a read, which broadcasts to results."""


class TileReader(Reader):
    """Any tile model: the layer's vectors become voltages."""

    tile_dim = 1
    vector_dim = 1

    def __init__(
        self,
        layout: Layout,
        programmed: Programmed,
        vectors: Callable[[Tensor], Tensor],
        read_voltage: float,
        scale: Tensor,
    ) -> None:
        super().__init__(layout.partition, len(layout.place_values()))
        self._layout, self._programmed, self._vectors = layout, programmed, vectors
        self._read_voltage, self._scale = read_voltage, scale

    def voltages(self, drives: Tensor) -> Tensor:
        """(groups, row_tiles, vectors, rows) [V]."""
        vectors = self._vectors(drives) * self._read_voltage
        return self._layout.partition.to_rows(vectors, self._layout.rows)

    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        currents = self._layout.currents(self._programmed(self.voltages(drives).unsqueeze(-3)))
        yield currents.movedim(0, 3) * self.spread(self._scale.to(currents)), slice(None)

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._vectors(drives).sum(-1, keepdim=True)


class MatrixReader(Reader):
    """Linear tiles: one product for all tiles, of (groups, row_tiles, inputs, conversions x outputs)."""

    tile_dim = 1
    vector_dim = 1

    def __init__(self, layout: Layout, matrix: Tensor, vectors: Callable[[Tensor], Tensor]) -> None:
        super().__init__(layout.partition, matrix.shape[0])
        self._layout, self._vectors = layout, vectors
        self._matrix = matrix.permute(1, 2, 3, 0, 4).flatten(3).contiguous()

    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        products = self._layout.partition.to_places(self._vectors(drives)) @ self._matrix
        yield products.unflatten(-1, (-1, self._layout.partition.outputs)), slice(None)

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._vectors(drives).sum(-1, keepdim=True)


@dataclass(frozen=True)
class Window:
    """A convolution of images (images, channels, *axes)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    """Zeros on both sides of every axis."""

    def pad(self, images: Tensor) -> Tensor:
        """With the zeros around them."""
        margins = [margin for padding in reversed(self.padding) for margin in (padding, padding)]
        return functional.pad(images, margins) if any(margins) else images

    def convolve(self, images: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
        """(images, outputs, *positions), channels last in memory: oneDNN's grouped kernels are fastest so."""
        stride, padding, dilation = self.stride, self.padding, self.dilation
        if len(self.kernel) == 3:
            return functional.conv3d(self.channels_last(images), kernel, None, stride, padding, dilation, groups)
        if len(self.kernel) == 1:  # channels last is for two axes and more
            stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
        found = functional.conv2d(self.channels_last(images), kernel, None, stride, padding, dilation, groups)
        return found[:, :, 0] if len(self.kernel) == 1 else found

    def channels_last(self, images: Tensor) -> Tensor:
        """The same numbers, pixel by pixel in memory; one axis becomes two."""
        if len(self.kernel) == 1:
            images = images[:, :, None]
        last = torch.channels_last_3d if len(self.kernel) == 3 else torch.channels_last
        return images.contiguous(memory_format=last)

    def sizes(self, images: Tensor) -> tuple[int, ...]:
        """Output positions along every axis."""
        return tuple(
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation, padding in zip(
                images.shape[2:], self.kernel, self.stride, self.dilation, self.padding, strict=True
            )
        )

    def shifted(self, padded: Tensor, tap: int, sizes: tuple[int, ...]) -> Tensor:
        """What one tap of the kernel sees of padded images (images, *axes, channels), at every output position."""
        places: list[Any] = [slice(None)]
        offsets = torch.unravel_index(torch.tensor(tap), self.kernel)
        for offset, size, stride, dilation in zip(offsets, sizes, self.stride, self.dilation, strict=True):
            start = int(offset) * dilation
            places.append(slice(start, start + (size - 1) * stride + 1, stride))
        return padded[tuple(places)]

    def row_sums(self, images: Tensor, groups: int) -> Tensor:
        """Sum over every window of every group, (images, groups, 1, positions)."""
        sums = images.unflatten(1, (groups, -1)).sum(2).flatten(0, 1)[:, None]
        found = self.convolve(sums, self.channels_last(images.new_ones((1, 1, *self.kernel))))
        return found.reshape(len(images), groups, 1, -1)

    def vectors(self, images: Tensor, groups: int) -> Tensor:
        """All windows as vectors, (groups, images x positions, inputs)."""
        windows = self.pad(images)
        for axis, (kernel, stride, dilation) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True), start=2
        ):
            windows = windows.unfold(axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
        axes = len(self.kernel)
        # (images, channels, *positions, *kernel) -> (groups, images, *positions, channels of the group, *kernel)
        split = windows.unflatten(1, (groups, -1)).movedim(1, 0).movedim(2, 2 + axes)
        return split.flatten(2 + axes).flatten(1, -2)


class ConvolutionReader(Reader):
    """Linear tiles of whole channels: all row tiles in one grouped convolution, (vectors, groups, row_tiles, …)."""

    tile_dim = 2
    vector_dim = 0

    def __init__(self, layout: Layout, matrix: Tensor, window: Window) -> None:
        part = layout.partition
        super().__init__(part, matrix.shape[0])
        self._window = window
        # (conversions, groups, row_tiles, channels x taps, outputs) to
        # (groups row_tiles conversions outputs, channels, *kernel)
        kernel = matrix.permute(1, 2, 0, 4, 3).unflatten(-1, (part.channels_per_tile, *window.kernel))
        self._kernel = window.channels_last(kernel.flatten(0, 3))

    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        part, window = self._partition, self._window
        drives = _filled(drives, part.groups, part.row_tiles * part.channels_per_tile)
        found = window.convolve(drives, self._kernel, part.groups * part.row_tiles)
        shape = (part.groups, part.row_tiles, self._conversions, part.outputs)
        yield found.movedim(1, -1).reshape(-1, *shape), slice(None)

    def spread(self, each: Tensor) -> Tensor:
        return each.permute(1, 2, 0, 3)

    def as_result(self, each: Tensor) -> Tensor:
        return each[:, 0]

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._window.row_sums(drives, self._partition.groups).permute(0, 3, 1, 2).flatten(0, 1)


class TapReader(Reader):
    """Linear tiles of channels at one tap: tap after tap one product for all tiles, as of `MatrixReader`."""

    tile_dim = 1
    vector_dim = 1

    def __init__(self, layout: Layout, matrix: Tensor, window: Window) -> None:
        part = layout.partition
        super().__init__(part, matrix.shape[0])
        self._window, self._blocks = window, part.row_tiles // part.taps
        self.held //= part.taps  # one after the other
        # (conversions, groups, taps x blocks, channels, outputs) to
        # (taps, groups, blocks, channels, conversions outputs)
        split = matrix.unflatten(2, (part.taps, self._blocks)).permute(2, 1, 3, 4, 0, 5)
        self._matrices = split.flatten(4).contiguous()

    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        part, sizes = self._partition, self._window.sizes(drives)
        padded = self._window.pad(_filled(drives, part.groups, self._blocks * part.channels_per_tile)).movedim(1, -1)
        for tap, matrix in enumerate(self._matrices):
            seen = self._window.shifted(padded, tap, sizes).unflatten(-1, (part.groups, self._blocks, -1))
            found = seen.flatten(0, -4).movedim(0, 2) @ matrix
            yield found.unflatten(-1, (-1, part.outputs)), slice(tap * self._blocks, (tap + 1) * self._blocks)

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._window.row_sums(drives, self._partition.groups).permute(1, 0, 3, 2).flatten(1, 2)


def _filled(images: Tensor, groups: int, channels: int) -> Tensor:
    """Channels of zeros behind those of every group, up to so many."""
    missing = channels - images.shape[1] // groups
    if not missing:
        return images
    return functional.pad(images.unflatten(1, (groups, -1)), (0, 0) * (images.ndim - 2) + (0, missing)).flatten(1, 2)
