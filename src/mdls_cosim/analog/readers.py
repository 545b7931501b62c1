"""How the tiles of a layer are read: through a tile model, as matrix products, or as convolutions.

Every reader gives the currents of all row tiles before they are converted,

    partials (groups, row_tiles, vectors, conversions, outputs) or (vectors, groups, row_tiles, conversions, outputs),

in units that the caller asks for, and says how what belongs to one converter, (conversions, groups, row_tiles,
outputs), broadcasts to them. Where a read is matrix products, the units are in the matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mdls_cosim.analog.mapping import Mapping
from mdls_cosim.analog.partition import Partition
from mdls_cosim.fidelity import Programmed
from mdls_cosim.fidelity.products import Products, evaluated

CONVERSIONS = 3
"""The dimension of all partials; outputs are the last."""


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

    @property
    def each_plane(self) -> Layout:
        """The same, planes one by one."""
        return replace(self, analog=False)

    def products(self, products: Products, like: Tensor) -> list[LaidTerm]:
        """What a `ProductReader` needs, in the dtype and on the torch device of `like`."""
        terms = [(products.direct, self)]  # sums: planes may be subtracted before
        terms += [(each, self.each_plane) for each in (products.rise, products.slope) if each is not None]
        return [
            LaidTerm(
                partial(evaluated, term.polynomials),
                torch.stack([layout.matrix(each).to(like) for each in term.matrices]),
            )
            for term, layout in terms
        ]


class LaidTerm(NamedTuple):
    """A `Term` where its weights belong."""

    functions: Callable[[Tensor], list[Tensor]]
    matrices: Tensor
    """(functions, conversions, groups, row_tiles, inputs_per_tile, outputs)."""

    @classmethod
    def linear(cls, matrix: Tensor) -> LaidTerm:
        """Of (conversions, groups, row_tiles, inputs_per_tile, outputs)."""
        return cls(lambda drives: [drives], matrix[None])


class Reader(ABC):
    """Reads of one layer. `partials` may be called any number of times; it is linear in nothing but its name."""

    tile_dim: int
    """Of the partials: the row tiles."""
    vector_dim: int
    """Of the results, which are (groups, vectors, outputs) or (vectors, groups, outputs)."""
    held: int
    """Inputs and currents of one vector while it is read; what is worked with besides takes up to twice as much."""

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


class ProductReader(Reader):
    """Tiles whose reads are matrix products (`fidelity.products`), laid out as suits the layer.

    Args:
        terms: one, of a tile that is linear in functions of its inputs; or those of A, R and S.
    """

    def __init__(self, layout: Layout, terms: Sequence[LaidTerm]) -> None:
        part = layout.partition
        super().__init__(part, terms[0].matrices.shape[1])
        self._layout = layout
        self._functions = [term.functions for term in terms]
        self._direct = self._arranged(terms[0].matrices)
        # What is not a sum is read plane by plane: R and S of one plane take no more room than A.
        paired = layout.analog and layout.mapping.planes == 2
        planes = [(slice(0, None, 2), 1.0), (slice(1, None, 2), -1.0)] if paired else [(slice(None), 1.0)]
        self._planes = [
            (*(self._arranged(term.matrices[:, plane]) for term in terms[1:]), sign)
            for plane, sign in planes
            if len(terms) > 1
        ]
        places = sum(term.matrices.shape[0] for term in terms) * self._input_places + self._conversions * part.outputs
        self.held = part.groups * part.row_tiles * places // len(self._steps)

    @property
    def _input_places(self) -> int:
        """Numbers of a vector that a function takes in one row tile."""
        return self._partition.inputs_per_tile

    @property
    def _steps(self) -> Sequence[slice]:
        """The row tiles that are read together."""
        return (slice(None),)

    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        laid = self._laid(drives)
        direct, *others = [self._stacked(functions(laid)) for functions in self._functions]
        for step, where in enumerate(self._steps):
            current = self._product(drives, direct, self._direct, step)
            for of_rise, of_slope, sign in self._planes:
                rise, slope = (
                    self._product(drives, each, matrix, step)
                    for each, matrix in zip(others, (of_rise, of_slope), strict=True)
                )
                # I = A + R (S + R^2), in place.
                current.addcmul_(rise, slope.addcmul_(rise, rise), value=sign)
            yield current, where

    @abstractmethod
    def _arranged(self, matrices: Tensor) -> Tensor:
        """The matrices of a term as `_product` takes them."""

    @abstractmethod
    def _laid(self, drives: Tensor) -> Tensor:
        """The drives as `_stacked` takes functions of them."""

    @abstractmethod
    def _stacked(self, functions: list[Tensor]) -> Tensor:
        """As the matrices have them."""

    @abstractmethod
    def _product(self, drives: Tensor, stacked: Tensor, matrix: Tensor, step: int) -> Tensor:
        """Partials of the row tiles of this step, in memory of their own."""


class MatrixReader(ProductReader):
    """One product for all tiles, of (groups, row_tiles, inputs, conversions x outputs)."""

    tile_dim = 1
    vector_dim = 1

    def __init__(self, layout: Layout, terms: Sequence[LaidTerm], vectors: Callable[[Tensor], Tensor]) -> None:
        super().__init__(layout, terms)
        self._vectors = vectors

    def _arranged(self, matrices: Tensor) -> Tensor:
        return matrices.permute(2, 3, 0, 4, 1, 5).flatten(4).flatten(2, 3).contiguous()

    def _laid(self, drives: Tensor) -> Tensor:
        return self._partition.to_places(self._vectors(drives))

    def _stacked(self, functions: list[Tensor]) -> Tensor:
        return functions[0] if len(functions) == 1 else torch.cat(functions, -1)

    def _product(self, drives: Tensor, stacked: Tensor, matrix: Tensor, step: int) -> Tensor:
        return (stacked @ matrix).unflatten(-1, (-1, self._partition.outputs))

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


class ConvolutionReader(ProductReader):
    """Tiles of whole channels: all row tiles in one grouped convolution, (vectors, groups, row_tiles, …)."""

    tile_dim = 2
    vector_dim = 0

    def __init__(self, layout: Layout, terms: Sequence[LaidTerm], window: Window) -> None:
        self._window = window
        super().__init__(layout, terms)

    @property
    def _input_places(self) -> int:
        return self._partition.channels_per_tile  # of every position: images are not unfolded

    def _arranged(self, matrices: Tensor) -> Tensor:
        # To (groups row_tiles conversions outputs, channels functions, *kernel).
        kernel = matrices.permute(2, 3, 1, 5, 4, 0).unflatten(4, (self._partition.channels_per_tile, -1))
        kernel = kernel.flatten(0, 3).transpose(2, 3).flatten(1, 2)
        return self._window.channels_last(kernel.unflatten(-1, self._window.kernel))

    def _laid(self, drives: Tensor) -> Tensor:
        part = self._partition
        filled = _filled(drives, part.groups, part.row_tiles * part.channels_per_tile)
        # As the convolutions want it, before functions are taken: all of them then are.
        return filled if len(self._window.kernel) == 1 else self._window.channels_last(filled)

    def _stacked(self, functions: list[Tensor]) -> Tensor:
        if len(functions) == 1:
            return functions[0]
        # Channels are last in memory already.
        return torch.stack([each.movedim(1, -1) for each in functions], -1).flatten(-2).movedim(-1, 1)

    def _product(self, drives: Tensor, stacked: Tensor, matrix: Tensor, step: int) -> Tensor:
        part = self._partition
        found = self._window.convolve(stacked, matrix, part.groups * part.row_tiles).movedim(1, -1)
        return found.reshape(-1, part.groups, part.row_tiles, found.shape[-1] // self._outputs, part.outputs)

    @property
    def _outputs(self) -> int:
        return self._partition.groups * self._partition.row_tiles * self._partition.outputs

    def spread(self, each: Tensor) -> Tensor:
        return each.permute(1, 2, 0, 3)

    def as_result(self, each: Tensor) -> Tensor:
        return each[:, 0]

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._window.row_sums(drives, self._partition.groups).permute(0, 3, 1, 2).flatten(0, 1)


class TapReader(ProductReader):
    """Tiles of channels at one tap: tap after tap one product for all tiles, as of `MatrixReader`."""

    tile_dim = 1
    vector_dim = 1

    def __init__(self, layout: Layout, terms: Sequence[LaidTerm], window: Window) -> None:
        self._window, self._blocks = window, layout.partition.row_tiles // layout.partition.taps
        super().__init__(layout, terms)

    @property
    def _steps(self) -> Sequence[slice]:
        return [slice(tap * self._blocks, (tap + 1) * self._blocks) for tap in range(self._partition.taps)]

    def _arranged(self, matrices: Tensor) -> Tensor:
        # To (taps, groups, blocks, channels functions, conversions outputs).
        split = matrices.unflatten(3, (self._partition.taps, self._blocks)).permute(3, 2, 4, 5, 0, 1, 6)
        return split.flatten(5).flatten(3, 4).contiguous()

    def _laid(self, drives: Tensor) -> Tensor:
        part = self._partition
        return self._window.pad(_filled(drives, part.groups, self._blocks * part.channels_per_tile)).movedim(1, -1)

    def _stacked(self, functions: list[Tensor]) -> Tensor:
        return functions[0] if len(functions) == 1 else torch.stack(functions, -1).flatten(-2)

    def _product(self, drives: Tensor, stacked: Tensor, matrix: Tensor, step: int) -> Tensor:
        seen = self._window.shifted(stacked, step, self._window.sizes(drives))
        seen = seen.unflatten(-1, (self._partition.groups, self._blocks, -1))
        return (seen.flatten(0, -4).movedim(0, 2) @ matrix[step]).unflatten(-1, (-1, self._partition.outputs))

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._window.row_sums(drives, self._partition.groups).permute(1, 0, 3, 2).flatten(1, 2)


def _filled(images: Tensor, groups: int, channels: int) -> Tensor:
    """Channels of zeros behind those of every group, up to so many."""
    missing = channels - images.shape[1] // groups
    if not missing:
        return images
    return functional.pad(images.unflatten(1, (groups, -1)), (0, 0) * (images.ndim - 2) + (0, missing)).flatten(1, 2)
