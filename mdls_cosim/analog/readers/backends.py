"""Readers: the ways to compute the currents of a layer's tiles before their conversion.

A reader computes the partials, the currents of all row tiles, in the shape

    (groups, row_tiles, vectors, conversions, outputs) or (vectors, groups, row_tiles, conversions, outputs)

in units that its maker chooses; a reader by matrix products has the units in its matrices. It also brings numbers of
converters, (conversions, groups, row_tiles, outputs), into a shape that broadcasts to the partials.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mdls_cosim.analog.partition import Partition
from mdls_cosim.analog.readers.layout import LaidTerm, Layout
from mdls_cosim.analog.readers.window import Window
from mdls_cosim.fidelity import Programmed


class Reader(ABC):
    """Reads of one layer. `partials` has no side effects and may be called repeatedly; it need not be linear.

    Attributes:
        tile_dim: dimension of the partials that counts the row tiles.
        vector_dim: dimension of the results that counts the vectors; the results are (groups, vectors, outputs) or
            (vectors, groups, outputs).
        held: numbers (inputs and currents) that the read of one vector holds; temporaries take up to twice as many.
    """

    tile_dim: int
    vector_dim: int
    held: int

    def __init__(self, partition: Partition, conversions: int) -> None:
        self._partition, self._conversions = partition, conversions
        numbers = partition.inputs_per_tile + conversions * partition.outputs
        self.held = partition.groups * partition.row_tiles * numbers

    def room(self, vectors: int, like: Tensor) -> Tensor:
        """Allocate the results of a number of vectors, uninitialized."""
        groups, outputs = self._partition.groups, self._partition.outputs
        return like.new_empty((vectors, groups, outputs) if self.vector_dim == 0 else (groups, vectors, outputs))

    @abstractmethod
    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        """Yield partials of consecutive row tiles, each with the range of its row tiles."""

    def spread(self, each: Tensor) -> Tensor:
        """Reshape (conversions, groups, row_tiles, outputs) to broadcast to the partials of all row tiles.

        Dimension 1 of the result counts the row tiles.
        """
        return each.permute(1, 2, 0, 3)[:, :, None]

    def as_result(self, each: Tensor) -> Tensor:
        """Reshape (groups, 1, outputs) to broadcast to the results."""
        return each

    @abstractmethod
    def row_sums(self, drives: Tensor) -> Tensor:
        """Sum of the drives of each vector, in a shape that broadcasts to the results."""


class TileReader(Reader):
    """Reads through any tile model, with the vectors of the layer as voltages.

    Args:
        layout: positions of the weights.
        programmed: the tiles.
        vectors: from drives to (groups, vectors, inputs).
        read_voltage: voltage of a drive of 1 [V].
        scale: factors of the currents [1/A], broadcasting to (conversions, groups, row_tiles, outputs).
    """

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
        """Row voltages, (groups, row_tiles, vectors, rows) [V]."""
        vectors = self._vectors(drives) * self._read_voltage
        return self._layout.partition.to_rows(vectors, self._layout.rows)

    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        currents = self._layout.currents(self._programmed(self.voltages(drives).unsqueeze(-3)))
        yield currents.movedim(0, 3) * self.spread(self._scale.to(currents)), slice(None)

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._vectors(drives).sum(-1, keepdim=True)


class ProductReader(Reader):
    """Reads that are matrix products (`fidelity.products`).

    With the terms A, R and S the currents are I = A + R (S + R^2), element by element.

    Args:
        layout: positions of the weights.
        terms: the term A alone, of a tile that is linear in functions of its inputs; or A, R and S.
    """

    def __init__(self, layout: Layout, terms: Sequence[LaidTerm]) -> None:
        part = layout.partition
        super().__init__(part, terms[0].matrices.shape[1])
        self._layout = layout
        self._functions = [term.functions for term in terms]
        self._direct = self._arranged(terms[0].matrices)
        # R and S are not sums over cells: they are computed plane by plane, and those of one plane are as large as A.
        paired = layout.analog and layout.mapping.planes == 2
        planes = [(slice(0, None, 2), 1.0), (slice(1, None, 2), -1.0)] if paired else [(slice(None), 1.0)]
        self._planes = [
            (*(self._arranged(term.matrices[:, plane]) for term in terms[1:]), sign)
            for plane, sign in planes
            if len(terms) > 1
        ]
        functions = sum(term.matrices.shape[0] for term in terms)
        numbers = functions * self._inputs_per_function + self._conversions * part.outputs
        self.held = part.groups * part.row_tiles * numbers // len(self._steps)

    @property
    def _inputs_per_function(self) -> int:
        """Numbers of one vector in one row tile that a function is evaluated at."""
        return self._partition.inputs_per_tile

    @property
    def _steps(self) -> Sequence[slice]:
        """Ranges of row tiles that are read together."""
        return (slice(None),)

    def partials(self, drives: Tensor) -> Iterator[tuple[Tensor, slice]]:
        inputs = self._laid(drives)
        direct, *others = [self._stacked(functions(inputs)) for functions in self._functions]
        for step, row_tiles in enumerate(self._steps):
            current = self._product(drives, direct, self._direct, step)
            for of_rise, of_slope, sign in self._planes:
                rise, slope = (
                    self._product(drives, stacked, matrix, step)
                    for stacked, matrix in zip(others, (of_rise, of_slope), strict=True)
                )
                # A + R (S + R^2), in place.
                current.addcmul_(rise, slope.addcmul_(rise, rise), value=sign)
            yield current, row_tiles

    @abstractmethod
    def _arranged(self, matrices: Tensor) -> Tensor:
        """Matrices of a term in the form that `_product` needs."""

    @abstractmethod
    def _laid(self, drives: Tensor) -> Tensor:
        """Drives in the form at which functions are evaluated."""

    @abstractmethod
    def _stacked(self, functions: list[Tensor]) -> Tensor:
        """Values of the functions of a term in one tensor, in the order of the arranged matrices."""

    @abstractmethod
    def _product(self, drives: Tensor, stacked: Tensor, matrix: Tensor, step: int) -> Tensor:
        """Partials of the row tiles of a step, newly allocated."""


class MatrixReader(ProductReader):
    """One matrix product for all tiles, with matrices (groups, row_tiles, inputs, conversions x outputs)."""

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


class ConvolutionReader(ProductReader):
    """One grouped convolution for all row tiles, which hold whole channels; the vectors come first in partials."""

    tile_dim = 2
    vector_dim = 0

    def __init__(self, layout: Layout, terms: Sequence[LaidTerm], window: Window) -> None:
        self._window = window
        super().__init__(layout, terms)

    @property
    def _inputs_per_function(self) -> int:
        return self._partition.channels_per_tile  # per position of the window: images are not unfolded

    def _arranged(self, matrices: Tensor) -> Tensor:
        # To (groups row_tiles conversions outputs, channels functions, *kernel).
        kernel = matrices.permute(2, 3, 1, 5, 4, 0).unflatten(4, (self._partition.channels_per_tile, -1))
        kernel = kernel.flatten(0, 3).transpose(2, 3).flatten(1, 2)
        return self._window.channels_last(kernel.unflatten(-1, self._window.kernel))

    def _laid(self, drives: Tensor) -> Tensor:
        part = self._partition
        filled = _filled(drives, part.groups, part.row_tiles * part.channels_per_tile)
        # Functions keep the memory format of their argument, so it is set here, once for all of them.
        return filled if len(self._window.kernel) == 1 else self._window.channels_last(filled)

    def _stacked(self, functions: list[Tensor]) -> Tensor:
        if len(functions) == 1:
            return functions[0]
        # Channels are last in memory already.
        return torch.stack([values.movedim(1, -1) for values in functions], -1).flatten(-2).movedim(-1, 1)

    def _product(self, drives: Tensor, stacked: Tensor, matrix: Tensor, step: int) -> Tensor:
        part = self._partition
        result = self._window.convolve(stacked, matrix, part.groups * part.row_tiles).movedim(1, -1)
        return result.reshape(-1, part.groups, part.row_tiles, result.shape[-1] // self._outputs, part.outputs)

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
    """One matrix product per tap of the kernel; each row tile holds channels at one tap."""

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
        at_tap = self._window.shifted(stacked, step, self._window.sizes(drives))
        at_tap = at_tap.unflatten(-1, (self._partition.groups, self._blocks, -1))
        return (at_tap.flatten(0, -4).movedim(0, 2) @ matrix[step]).unflatten(-1, (-1, self._partition.outputs))

    def row_sums(self, drives: Tensor) -> Tensor:
        return self._window.row_sums(drives, self._partition.groups).permute(1, 0, 3, 2).flatten(1, 2)


def _filled(images: Tensor, groups: int, channels: int) -> Tensor:
    """Pad the channels of each group with zeros to `channels`."""
    missing = channels - images.shape[1] // groups
    if not missing:
        return images
    return functional.pad(images.unflatten(1, (groups, -1)), (0, 0) * (images.ndim - 2) + (0, missing)).flatten(1, 2)
