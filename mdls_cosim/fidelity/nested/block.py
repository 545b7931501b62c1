"""Blocks of neighboring cells as symmetric hybrid matrices, and the join of two blocks that share lines.

A block is connected to the rest of the tile only at the ends of its pieces of line. The near end of a line is the
driven end of a row line and the sensed end of a column line; the opposite end is the far end. Voltages of column
lines are counted negatively, so each line drives a cell with its own voltage, and rows and columns obey the same
equations. With the near voltages a [V] and the currents c [A] out of the far ends as inputs, a block has the outputs

    near currents = G   a + S c
    far voltages  = S^T a - R c

or (i, v) = H (a, c) with a symmetric H. G is a conductance matrix [S], R a resistance matrix [ohm], and S passes
lines through.

In a join, the far ends of the first block are connected to the near ends of the second block. With the open-circuit
voltages v0 of the first block and the short-circuit currents i0 of the second block at these ends,

    v = v0 - R i,  i = i0 + G v,  so  v = (I + R G)^-1 (v0 - R i0).

Every principal minor of I + R G is positive, so it can be inverted for every circuit: R^-1 and G are conductance
matrices of grounded networks, that is, diagonally dominant with negative off-diagonals, and elimination preserves
this. I + R G is close to I at common wire resistances.

Derivatives: let X_in and X_out give the inputs of a part of the whole as functions of the inputs of the whole and of
those of the reciprocal circuit. A change dH of the part changes the matrix of the whole by X_out^T dH X_in (Tellegen's
theorem), so the cotangent B of the whole becomes the cotangent X_out B X_in^T of the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

ROWS, COLUMNS = 0, 1
"""Axes of a join: blocks side by side share row lines, blocks one above the other share column lines."""
NEAR_ROWS, NEAR_COLUMNS, FAR_ROWS, FAR_COLUMNS = range(4)
"""Sides of a block: the near ends of lines along `axis` are side `axis`, the far ends are side `2 + axis`."""
Ends = tuple[tuple[int, int], ...]
"""(side, line) of each end, in the order of a dimension of a block's matrix."""
Positions = tuple[int, ...]
"""Positions in `Ends`, or sides."""


@lru_cache(maxsize=4096)
def _index(positions: Positions, device: torch.device) -> slice | Tensor:
    """Index of the positions: a slice if they are consecutive, otherwise a tensor."""
    start = positions[0] if positions else 0
    if positions == tuple(range(start, start + len(positions))):
        return slice(start, start + len(positions))
    return torch.tensor(positions, device=device)


def select(matrix: Tensor, dim: int, positions: Positions) -> Tensor:
    """Select entries along dimension 1 or 2 of (batch, outputs, inputs); a view if they are consecutive."""
    index = _index(positions, matrix.device)
    if isinstance(index, slice):
        return matrix[:, index] if dim == 1 else matrix[:, :, index]
    return matrix.index_select(dim, index)


def _assign(matrix: Tensor, dim: int, positions: Positions, entries: Tensor) -> None:
    """Write entries along a dimension in place; the inverse of `select`."""
    index = _index(positions, matrix.device)
    if isinstance(index, slice):
        (matrix[:, index] if dim == 1 else matrix[:, :, index]).copy_(entries)
    else:
        matrix.index_copy_(dim, index, entries)


def sorted_positions(ends: Ends) -> Positions:
    """Positions of the ends, sorted by side and line."""
    return tuple(sorted(range(len(ends)), key=ends.__getitem__))


@dataclass(frozen=True)
class _Junction:
    """Positions of the ends of two blocks in a join, for the outputs or for the inputs.

    Attributes:
        joined: positions in the first and in the second block that are connected, sorted by line.
        free: positions in the first and in the second block that remain.
        slots: where the free ends of the first and of the second block are in the result.
        ends: ends of the result.
    """

    joined: tuple[Positions, Positions]
    free: tuple[Positions, Positions]
    slots: tuple[slice, slice]
    ends: Ends

    def size(self, number: int) -> int:
        """Number of ends of the first (0) or second (1) block."""
        return len(self.joined[number]) + len(self.free[number])

    def cat(self, pieces: tuple[Tensor, Tensor], dim: int) -> Tensor:
        """Concatenate the parts of the first and of the second block in the order of the result."""
        return torch.cat(pieces if self.slots[0].start == 0 else pieces[::-1], dim)


@lru_cache(maxsize=1024)
def _junction(first: Ends, second: Ends, axis: int, lines: int, next_side: int) -> _Junction:
    """Junction of a join along `axis`.

    Args:
        first, second: ends of the two blocks.
        axis: axis of the lines that are connected.
        lines: number of lines of the first block across `axis`; the lines of the second block are counted after them.
        next_side: side of the result that the next join connects. The other ends of the result are consecutive if
            one of the two orders of the blocks allows it.
    """
    joined = tuple(
        tuple(position for position in sorted_positions(ends) if ends[position][0] == side)
        for ends, side in ((first, 2 + axis), (second, axis))
    )
    free = tuple(
        tuple(position for position in range(len(ends)) if position not in connected)
        for ends, connected in zip((first, second), map(set, joined), strict=True)
    )
    one = tuple(first[position] for position in free[0])
    other = tuple(
        (side, line + lines * (side % 2 != axis)) for side, line in (second[position] for position in free[1])
    )
    rest = tuple(position for position, (side, _) in enumerate(one + other) if side != next_side)
    if isinstance(_index(rest, torch.device("cpu")), slice):
        slots, ends = (slice(0, len(one)), slice(len(one), None)), one + other
    else:
        slots, ends = (slice(len(other), None), slice(0, len(other))), other + one
    return _Junction((joined[0], joined[1]), (free[0], free[1]), slots, ends)


def joined_ends(first: Ends, second: Ends, axis: int, lines: int, next_side: int) -> Ends:
    """Ends of the block that `join` makes of blocks with these ends; `lines` as in the first block across `axis`."""
    return _junction(first, second, axis, lines, next_side).ends


@dataclass(frozen=True)
class Block:
    """Hybrid matrix H of a block of cells; ends that are open or not needed are left out.

    Attributes:
        matrix: H, (batch, outputs, inputs).
        outputs, inputs: ends of the two dimensions.
        lines: number of row lines and of column lines.
    """

    matrix: Tensor
    outputs: Ends
    inputs: Ends
    lines: tuple[int, int]

    def select(self, outputs: Positions, inputs: Positions) -> Block:
        """The block with these outputs and inputs only, in this order."""
        return Block(
            select(select(self.matrix, 1, outputs), 2, inputs),
            tuple(self.outputs[position] for position in outputs),
            tuple(self.inputs[position] for position in inputs),
            self.lines,
        )


@dataclass(frozen=True)
class JoinRecord:
    """Quantities of a join that its adjoint needs.

    Attributes:
        outputs, inputs: the junctions of the two dimensions.
        direct: currents and voltages at the connected ends by inputs of the result, each (batch, lines, inputs):
            the rows of X_in for the first and for the second block.
        reciprocal: the same for the reciprocal circuit, whose inputs are the outputs of the result: rows of X_out.
    """

    outputs: _Junction
    inputs: _Junction
    direct: tuple[Tensor, Tensor]
    reciprocal: tuple[Tensor, Tensor]

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Cotangents X_out B X_in^T of the matrices of both blocks from the cotangent B of the result's matrix."""
        first, second = (self._adjoint_of(number, cotangent) for number in (0, 1))
        return first, second

    def _adjoint_of(self, number: int, cotangent: Tensor) -> Tensor:
        outputs, inputs = self.outputs, self.inputs
        joined_rows = self.reciprocal[number] @ cotangent
        corner = joined_rows @ self.direct[number].mT
        # With the same ends as outputs and inputs, the matrix and its cotangent are symmetric.
        joined_columns = joined_rows.mT if outputs is inputs else cotangent @ self.direct[number].mT
        rows_of, columns_of = outputs.slots[number], inputs.slots[number]
        result = cotangent.new_empty(len(cotangent), outputs.size(number), inputs.size(number))
        for positions, free, joined in (
            (outputs.free[number], cotangent[:, rows_of, columns_of], joined_columns[:, rows_of]),
            (outputs.joined[number], joined_rows[:, :, columns_of], corner),
        ):
            index = _index(positions, cotangent.device)
            rows = (
                result[:, index]
                if isinstance(index, slice)
                else result.new_empty(len(cotangent), len(positions), result.shape[2])
            )
            _assign(rows, 2, inputs.free[number], free)
            _assign(rows, 2, inputs.joined[number], joined)
            if not isinstance(index, slice):
                result.index_copy_(1, index, rows)
        return result


def join(first: Block, second: Block, axis: int, next_side: int, tape: list[JoinRecord] | None = None) -> Block:
    """Connect the far ends of the first block's lines to the near ends of the second block's lines.

    Args:
        first, second: blocks with the same lines along `axis`.
        axis: axis of the lines that are connected.
        next_side: side of the result that the next join connects; it decides the order of the ends.
        tape: list to which the record for the adjoint is appended.
    """
    across = first.lines[1 - axis]
    inputs = _junction(first.inputs, second.inputs, axis, across, next_side)
    symmetric = first.outputs == first.inputs and second.outputs == second.inputs
    outputs = inputs if symmetric else _junction(first.outputs, second.outputs, axis, across, next_side)
    far, near = select(first.matrix, 1, outputs.joined[0]), select(second.matrix, 1, outputs.joined[1])
    minus_resistance, conductance = select(far, 2, inputs.joined[0]), select(near, 2, inputs.joined[1])
    loop = -(minus_resistance @ conductance)
    loop.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # The matrices are small and the right-hand sides many: products with the inverse are faster than solves.
    inverse = torch.linalg.inv_ex(loop)[0]

    def at_junction(far: Tensor, near: Tensor, junction: _Junction) -> tuple[Tensor, Tensor]:
        """Currents and voltages at the connected ends by free inputs of the first and of the second block."""
        voltages, currents = inverse @ far, inverse.mT @ near
        return (
            junction.cat((conductance @ voltages, currents), 2),
            junction.cat((voltages, minus_resistance @ currents), 2),
        )

    far, near = select(far, 2, inputs.free[0]), select(near, 2, inputs.free[1])
    direct = at_junction(far, near, inputs)
    if symmetric:
        far_columns, near_columns = far.mT, near.mT
    else:
        far_columns = select(select(first.matrix, 2, inputs.joined[0]), 1, outputs.free[0])
        near_columns = select(select(second.matrix, 2, inputs.joined[1]), 1, outputs.free[1])
    currents, voltages = direct
    matrix = outputs.cat((far_columns @ currents, near_columns @ voltages), 1)
    for number, block in enumerate((first, second)):
        unchanged = select(select(block.matrix, 1, outputs.free[number]), 2, inputs.free[number])
        matrix[:, outputs.slots[number], inputs.slots[number]].add_(unchanged)
    if tape is not None:
        reciprocal = direct if symmetric else at_junction(far_columns.mT, near_columns.mT, outputs)
        tape.append(JoinRecord(outputs, inputs, direct, reciprocal))
    rows, columns = first.lines
    lines = (rows, columns + second.lines[1]) if axis == ROWS else (rows + second.lines[0], columns)
    return Block(matrix, outputs.ends, inputs.ends, lines)
