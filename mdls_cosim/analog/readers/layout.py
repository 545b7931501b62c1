"""Positions of the weights of a layer on its tiles, and the currents that each converter receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mdls_cosim.analog.mapping import Mapping
from mdls_cosim.analog.partition import Partition
from mdls_cosim.fidelity.products import Products, evaluated

CONVERSIONS = 3
"""Dimension of all partials that counts the conversions; the last dimension counts the outputs."""


@dataclass(frozen=True)
class Layout:
    """Position of each weight of a chip, and the columns whose currents one converter receives.

    Attributes:
        partition: division of the weight matrix into tiles.
        mapping: representation of a weight by cells.
        rows, columns: positions on the tiles, as of `Partition.linear_rows` and `Partition.linear_columns`.
        analog: whether the two planes of a weight are subtracted before the converters.
    """

    partition: Partition
    mapping: Mapping
    rows: Tensor
    columns: Tensor
    analog: bool

    def conversions(self, planes: Tensor) -> Tensor:
        """Inputs of the converters: (slices, planes, …) to (conversions, …)."""
        if planes.shape[1] == 1:
            return planes[:, 0]
        return planes[:, 0] - planes[:, 1] if self.analog else planes.flatten(0, 1)

    def place_values(self) -> list[float]:
        """Weight of each conversion in the digital sum."""
        signs = [1.0] if self.analog or self.mapping.planes == 1 else [1.0, -1.0]
        return [value * sign for value in self.mapping.place_values() for sign in signs]

    def matrix(self, tiles: Tensor) -> Tensor:
        """Arrange numbers per cell by input and output.

        (arrays, *tiles, rows, cols) to (conversions, groups, row_tiles, inputs_per_tile, outputs).
        """
        taken = self.mapping.take(tiles, self.partition.outputs_per_tile)
        return self.partition.from_tiles(self.conversions(taken), self.rows, self.columns)

    def currents(self, currents: Tensor) -> Tensor:
        """Arrange numbers per column by output.

        (arrays, *tiles, vectors, cols) to (conversions, groups, row_tiles, vectors, outputs).
        """
        taken = self.mapping.take(currents, self.partition.outputs_per_tile)
        return self.partition.to_outputs(self.conversions(taken), self.columns)

    @property
    def each_plane(self) -> Layout:
        """The same layout with a conversion for each plane."""
        return replace(self, analog=False)

    def products(self, products: Products, like: Tensor) -> list[LaidTerm]:
        """Terms of a `ProductReader`, in the dtype and on the torch device of `like`.

        The direct term is a sum over cells, so its planes may be subtracted in advance; the others keep each plane.
        """
        terms = [(products.direct, self)]
        terms += [(term, self.each_plane) for term in (products.rise, products.slope) if term is not None]
        return [
            LaidTerm(
                partial(evaluated, term.polynomials),
                torch.stack([layout.matrix(matrix).to(like) for matrix in term.matrices]),
            )
            for term, layout in terms
        ]


class LaidTerm(NamedTuple):
    """A `Term` whose matrices are arranged by `Layout.matrix`.

    Attributes:
        functions: functions f_k of the drives.
        matrices: (functions, conversions, groups, row_tiles, inputs_per_tile, outputs).
    """

    functions: Callable[[Tensor], list[Tensor]]
    matrices: Tensor

    @classmethod
    def linear(cls, matrix: Tensor) -> LaidTerm:
        """The term V M, with M (conversions, groups, row_tiles, inputs_per_tile, outputs)."""
        return cls(lambda drives: [drives], matrix[None])
