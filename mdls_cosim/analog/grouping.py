"""Groups of a grouped layer side by side on one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

GroupTiles = Literal["shared", "separate"]


@dataclass(frozen=True)
class Grouping:
    """How many groups of a layer share a tile, as the blocks of a block-diagonal matrix.

        a a . . . .      rows: the inputs of group a, then of b, then of c; columns: their outputs.
        . . b b . .      The cells between the blocks hold the weight zero: they conduct, and add to the drop along
        . . . . c c      the lines, as every cell of a tile does.

    All groups of a tile are read at once. Where the groups do not fill the last tile, empty ones follow.
    """

    groups: int
    """Of the layer."""
    shared: int = 1
    """Groups on one tile; 1: every group has tiles of its own."""

    @classmethod
    def of(cls, groups: int, rows_of_group: int, outputs: int, rows: int, cols: int) -> Grouping:
        """As many groups on a tile as fit, spread evenly over the tiles that they need.

        Args:
            groups: of the layer.
            rows_of_group: rows that a group takes of a row tile.
            outputs: of a group.
            rows, cols: rows of a tile, and outputs that its columns hold.
        """
        room = max(1, min(groups, rows // max(1, rows_of_group), cols // max(1, outputs)))
        return cls(groups, -(-groups // -(-groups // room)) if groups else 1)

    @property
    def blocks(self) -> int:
        """Sets of groups that share tiles: what a `Partition` sees as groups."""
        return -(-self.groups // self.shared)

    @property
    def empty(self) -> int:
        """Empty groups at the end."""
        return self.blocks * self.shared - self.groups

    def block_diagonal(self, matrix: Tensor, between: Tensor | float) -> Tensor:
        """(…, groups, inputs, outputs) to (…, blocks, shared inputs, shared outputs).

        Args:
            between: of the cells outside of the blocks and of empty groups; broadcasts to the result.
        """
        if self.shared == 1:
            return matrix
        inputs, outputs = matrix.shape[-2:]
        split = self._whole(matrix, -3).unflatten(-3, (self.blocks, self.shared))
        # (…, blocks, shared, inputs, shared, outputs), of which the diagonal of both shared dimensions is filled.
        laid = split.new_zeros((*split.shape[:-2], inputs, self.shared, outputs))
        laid.diagonal(dim1=-4, dim2=-2).copy_(split.movedim(-3, -1))
        held = torch.eye(self.shared, dtype=torch.bool, device=matrix.device)[:, None, :, None]
        real = torch.arange(self.blocks * self.shared, device=matrix.device) < self.groups
        held = held & real.unflatten(0, (self.blocks, self.shared))[:, :, None, None, None]
        held = held.expand(laid.shape[-5:]).flatten(-4, -3).flatten(-2)
        laid = laid.flatten(-4, -3).flatten(-2)
        return torch.where(held, laid, torch.as_tensor(between, dtype=laid.dtype, device=laid.device))

    def side_by_side(self, each: Tensor, empty: float) -> Tensor:
        """What belongs to every output, (groups, 1, outputs), to (blocks, 1, shared outputs).

        Args:
            empty: of the outputs of empty groups.
        """
        if self.shared == 1:
            return each
        whole = functional.pad(each, (0, 0, 0, 0, 0, self.empty), value=empty)
        return whole.reshape(self.blocks, 1, -1)

    def with_empty_channels(self, images: Tensor) -> Tensor:
        """Images (images, channels, …) with channels of zeros for the empty groups behind them."""
        missing = images.shape[1] // self.groups * self.empty
        if not missing:
            return images
        return torch.cat([images, images.new_zeros((len(images), missing, *images.shape[2:]))], 1)

    def _whole(self, each: Tensor, dim: int) -> Tensor:
        """With zeros for the empty groups along `dim`, counted from the end."""
        return functional.pad(each, (0, 0) * (-dim - 1) + (0, self.empty)) if self.empty else each
