"""A weight matrix cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

RowOrder = Literal["auto", "channels", "taps", "dense"]


@dataclass(frozen=True)
class Partition:
    """Which input and output meets at which cell, for (groups, inputs, outputs) on tiles of rows x outputs.

    Inputs are channel by channel, each with `taps` kernel positions (1 without a kernel). A row tile holds

        channels    whole channels with all their taps
        taps        channels at one tap of the kernel
        dense       inputs in their order, whatever boundary they cross

    each spread evenly over as few tiles as they need. In the first two the partial sums of all row tiles are one
    grouped convolution. Groups never share a tile here: those that do are one group (`grouping.py`).

        . . . .       unused rows come first: rows are sensed below the last row,
        a b c .       unused columns come last: rows are driven at column 0,
        d e f .       so the occupied cells sit nearest driver and sense.
    """

    groups: int
    inputs: int
    outputs: int
    rows: int
    cols: int
    """Outputs that fit on the columns of a tile."""
    taps: int = 1
    order: Literal["channels", "taps", "dense"] = "dense"

    @classmethod
    def of(
        cls, groups: int, inputs: int, outputs: int, rows: int, cols: int, taps: int = 1, order: RowOrder = "auto"
    ) -> Partition:
        """With the row order asked for ("channels" that no tile holds whole: "dense"); "auto": the fewest tiles, of
        equal ones the first named above."""
        if order != "auto":
            whole = order != "channels" or taps <= rows
            return cls(groups, inputs, outputs, rows, cols, taps, order if whole else "dense")
        orders = ("channels", "taps", "dense") if taps <= rows else ("taps", "dense")
        cuts = [cls(groups, inputs, outputs, rows, cols, taps, order) for order in orders]
        return min(cuts, key=lambda cut: cut.row_tiles)

    @property
    def channels(self) -> int:
        return self.inputs // self.taps

    @cached_property
    def channels_per_tile(self) -> int:
        """Of the orders that keep channels whole."""
        room = self.rows // self.taps if self.order == "channels" else self.rows
        return _evenly(self.channels, room)

    @cached_property
    def inputs_per_tile(self) -> int:
        """Places for inputs on a row tile; a tile at the end may use fewer."""
        match self.order:
            case "channels":
                return self.channels_per_tile * self.taps
            case "taps":
                return self.channels_per_tile
            case "dense":
                return _evenly(self.inputs, self.rows)

    @property
    def row_tiles(self) -> int:
        match self.order:
            case "channels":
                return -(-self.channels // self.channels_per_tile)
            case "taps":
                return -(-self.channels // self.channels_per_tile) * self.taps
            case "dense":
                return -(-self.inputs // self.inputs_per_tile)

    @property
    def col_tiles(self) -> int:
        return -(-self.outputs // self.outputs_per_tile)

    @cached_property
    def outputs_per_tile(self) -> int:
        """Places for outputs on a column tile; the last tile may use fewer."""
        return _evenly(self.outputs, self.cols)

    @property
    def tiles(self) -> tuple[int, int, int]:
        """(groups, row tiles, column tiles)."""
        return self.groups, self.row_tiles, self.col_tiles

    @cached_property
    def inputs_of_tile(self) -> Tensor:
        """Input at every place of every row tile, (row_tiles, inputs_per_tile); `inputs` itself where there is none."""
        per_tile = self.inputs_per_tile
        if self.order == "taps":
            blocks = self.row_tiles // self.taps
            channel = torch.arange(blocks * per_tile).reshape(blocks, per_tile)
            found = channel * self.taps + torch.arange(self.taps)[:, None, None]
            return torch.where(channel < self.channels, found, self.inputs).reshape(-1, per_tile)
        return torch.arange(self.row_tiles * per_tile).clamp(max=self.inputs).reshape(-1, per_tile)

    def linear_rows(self) -> Tensor:
        """The row of every place, (groups, row_tiles, inputs_per_tile): the last rows, in order."""
        used = (self.inputs_of_tile < self.inputs).sum(-1, keepdim=True)
        place = torch.arange(self.inputs_per_tile)
        rows = torch.where(place < used, self.rows - used + place, self.rows - 1 - place)
        return rows.expand(self.groups, -1, -1).contiguous()

    def linear_columns(self) -> Tensor:
        """The column place of every output, (groups, col_tiles, outputs_per_tile): in order."""
        return torch.arange(self.outputs_per_tile).expand(self.groups, self.col_tiles, -1).contiguous()

    def permuted(self, load: Float[Tensor, "groups inputs outputs"]) -> tuple[Tensor, Tensor]:
        """Rows and columns sorted by their load: the strongest rows nearest the sense side, columns nearest the driver.

        Current that enters near the sense side crosses little of the column line, current drawn near the driver little
        of the row line; both lower the drop that all others see. Only the order within a tile changes.

        Returns:
            rows and columns as `linear_rows` and `linear_columns`.
        """
        natural = self.by_tile(load, 0.0)  # (groups, row_tiles, col_tiles, inputs_per_tile, outputs_per_tile)
        valid = (self.inputs_of_tile < self.inputs).expand(self.groups, -1, -1).to(load)
        # One order for all column tiles, whose inputs are the same; and for all row tiles.
        of_row = natural.sum((2, 4)) + valid * (1 + natural.sum())
        rank = of_row.argsort(dim=-1, stable=True).argsort(-1)
        rows = rank + (self.rows - self.inputs_per_tile)
        columns = natural.sum((1, 3)).argsort(dim=-1, descending=True, stable=True).argsort(-1)
        return rows, columns

    def by_tile(self, matrix: Tensor, fill: float) -> Tensor:
        """(…, groups, inputs, outputs) to (…, groups, row_tiles, col_tiles, inputs_per_tile, outputs_per_tile)."""
        wide = self.col_tiles * self.outputs_per_tile - self.outputs
        padded = functional.pad(matrix, (0, wide, 0, 1), value=fill)
        picked = padded[..., self.inputs_of_tile.to(matrix.device), :]
        return picked.unflatten(-1, (self.col_tiles, self.outputs_per_tile)).movedim(-2, -4).transpose(-3, -4)

    def to_tiles(self, matrix: Tensor, rows: Tensor, columns: Tensor, fill: float) -> Tensor:
        """(…, groups, inputs, outputs) to (…, groups, row_tiles, col_tiles, rows, outputs_per_tile).

        Args:
            rows, columns: where every place sits, as `linear_rows` and `linear_columns`.
            fill: of cells that nothing maps to.
        """
        natural = self.by_tile(matrix, fill)
        laid = natural.new_full((*natural.shape[:-2], self.rows, natural.shape[-1]), fill)
        laid.scatter_(-2, rows[:, :, None, :, None].expand_as(natural), natural)
        return torch.empty_like(laid).scatter_(-1, columns[:, None, :, None, :].expand_as(laid), laid)

    def from_tiles(self, tiles: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The inverse of `to_tiles`: to (…, groups, row_tiles, inputs_per_tile, outputs).

        What reaches the places that hold no input is left in: nothing drives them.
        """
        shape = (*tiles.shape[:-2], self.inputs_per_tile, tiles.shape[-1])
        placed = tiles.gather(-2, rows[:, :, None, :, None].expand(shape))
        return self.to_outputs(placed, columns)

    def to_places(self, vectors: Float[Tensor, "groups vectors inputs"]) -> Tensor:
        """Every row tile's inputs in order, (groups, row_tiles, vectors, inputs_per_tile); zero where there is none."""
        if self.row_tiles * self.inputs_per_tile == self.inputs and self.order != "taps":
            return vectors.unflatten(-1, (self.row_tiles, -1)).transpose(-2, -3)
        padded = functional.pad(vectors, (0, 1))
        return padded[..., self.inputs_of_tile.to(vectors.device)].transpose(-2, -3)

    def to_rows(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Hands every row its input, (groups, row_tiles, vectors, rows); unused rows get zero."""
        placed = self.to_places(vectors)
        driven = placed.new_zeros((*placed.shape[:-1], self.rows))
        return driven.scatter(-1, rows[:, :, None].expand_as(placed), placed)

    def to_outputs(self, currents: Tensor, columns: Tensor) -> Tensor:
        """In order: (…, row_tiles, col_tiles, any, outputs_per_tile) to (…, row_tiles, any, outputs)."""
        ordered = currents.gather(-1, columns[:, None, :, None, :].expand_as(currents))
        return ordered.transpose(-2, -3).flatten(-2)[..., : self.outputs]


def _evenly(count: int, room: int) -> int:
    """How many each of the fewest parts takes that hold no more than `room`."""
    parts = -(-count // room) or 1
    return max(1, -(-count // parts))
