"""A weight matrix cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Partition:
    """Where every weight of (groups, inputs, outputs) sits on tiles of rows x cols cells.

        row tile 0:  . . . .       unused rows come first: rows are sensed below the last row,
                     a b c .       unused columns come last: rows are driven at column 0,
        row tile 1:  d e f .       so the occupied cells sit nearest driver and sense.
                     g h i .

    Inputs fill the row tiles in order, outputs the column tiles; only the first row tile and the last column tile of
    a group have cells that no weight maps to. Groups never share a tile.
    """

    groups: int
    inputs: int
    outputs: int
    rows: int
    cols: int

    @property
    def row_tiles(self) -> int:
        return -(-self.inputs // self.rows)

    @property
    def col_tiles(self) -> int:
        return -(-self.outputs // self.cols)

    @property
    def tiles(self) -> tuple[int, int, int]:
        """(groups, row tiles, column tiles)."""
        return self.groups, self.row_tiles, self.col_tiles

    @property
    def unused_rows(self) -> int:
        """Of the first row tile."""
        return self.row_tiles * self.rows - self.inputs

    @property
    def unused_cols(self) -> int:
        """Of the last column tile."""
        return self.col_tiles * self.cols - self.outputs

    @property
    def cells_used(self) -> int:
        """Cells of one array of the pair that hold a weight."""
        return self.groups * self.inputs * self.outputs

    @property
    def cells(self) -> int:
        """Cells of one array of the pair."""
        return self.groups * self.row_tiles * self.col_tiles * self.rows * self.cols

    def to_tiles(
        self, matrix: Float[Tensor, "*pair groups inputs outputs"], fill: float
    ) -> Float[Tensor, "*pair groups row_tiles col_tiles rows cols"]:
        """Lays the matrix out on tiles; cells that nothing maps to hold `fill`."""
        padded = functional.pad(matrix, (0, self.unused_cols, self.unused_rows, 0), value=fill)
        split = padded.unflatten(-1, (self.col_tiles, self.cols)).unflatten(-3, (self.row_tiles, self.rows))
        return split.transpose(-3, -2)

    def to_rows(
        self, vectors: Float[Tensor, "groups vectors inputs"]
    ) -> Float[Tensor, "groups row_tiles vectors rows"]:
        """Hands every row tile its part of the inputs; unused rows get zero."""
        padded = functional.pad(vectors, (self.unused_rows, 0))
        return padded.unflatten(-1, (self.row_tiles, self.rows)).transpose(-3, -2)

    def to_outputs(
        self, currents: Float[Tensor, "*pair groups row_tiles col_tiles vectors cols"]
    ) -> Float[Tensor, "*pair groups row_tiles vectors outputs"]:
        """Gathers the occupied columns of all column tiles."""
        return currents.transpose(-3, -2).flatten(-2)[..., : self.outputs]
