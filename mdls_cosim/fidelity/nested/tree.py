"""Division of a tile into leaves, and the order in which blocks are joined until one block is left.

Lines of each axis are cut into `parts` pieces of `leaf * 2**doublings` lines. All leaves are built together. Blocks of
equal size are joined pairwise, one batched join per level, until `parts` x `parts` blocks per tile are left; these are
joined along the rows, then along the columns. Open ends at the edges of the tile are left out.

The matrix of each block is computed once in the forward pass. The backward pass repeats the joins of its tiles to
record what the adjoint needs, so only the conductances are stored between the two passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor
from torch.nn import functional

from mdls_cosim.fidelity.nested.block import (
    COLUMNS,
    FAR_COLUMNS,
    ROWS,
    Block,
    Ends,
    JoinRecord,
    Positions,
    join,
    joined_ends,
    select,
    sorted_positions,
)
from mdls_cosim.fidelity.nested.leaf import LeafBuilder, ends_around

# Numbers in the leaf matrices that are built together: what fits the caches of a processor, and a bound on the memory
# of an accelerator.
_NUMBERS_PER_BUILD = 300_000
_NUMBERS_PER_BUILD_ON_ACCELERATOR = 60_000_000


@dataclass(frozen=True)
class Cut:
    """Cut of the lines of one axis into `parts` pieces of `leaf * 2**doublings` lines; the last lines may be padding.

    Attributes:
        leaf: lines of a leaf.
        doublings: number of pairwise joins across the axis.
        parts: number of pieces, 1 to 3.
    """

    leaf: int
    doublings: int
    parts: int

    @classmethod
    def of(cls, lines: int, leaves: Sequence[int]) -> Cut:
        """The cut of `lines` lines with the least padding, for the leaf sizes `leaves`."""
        if lines <= max(leaves):
            return cls(lines, 0, 1)
        cuts = []
        for leaf in leaves:
            for parts in (2, 3):
                doublings = max(0, math.ceil(math.log2(lines / (leaf * parts))))
                cuts.append(cls(leaf, doublings, parts))
        return min(cuts, key=lambda cut: (cut.lines, -cut.doublings, cut.parts))

    @property
    def lines(self) -> int:
        """Number of lines, with the padding."""
        return self.leaf * self.parts << self.doublings


@dataclass(frozen=True)
class Tree:
    """Elimination of tiles of one size.

    Attributes:
        rows, columns: cuts of the row lines and of the column lines.
        output_sides, input_sides: sides of the tile whose ends the result has as outputs and as inputs.
    """

    rows: Cut
    columns: Cut
    output_sides: Positions
    input_sides: Positions

    def matrix(
        self, conductances: Tensor, along_rows: Tensor, along_columns: Tensor, tape: list[JoinRecord] | None = None
    ) -> Tensor:
        """Compute the hybrid matrix of each tile, (tile, outputs, inputs), both sorted by side and line.

        Args:
            conductances: (tile, rows, cols) [S].
            along_rows, along_columns: resistances of the wire segments on the near side of each cell, on its row
                line and on its column line, (1, rows, cols) [ohm].
            tape: list to which the joins are appended for `_adjoint_of_joins`.
        """
        whole = self._eliminate(self._to_leaves(conductances, along_rows, along_columns), tape)
        return whole.select(sorted_positions(whole.outputs), sorted_positions(whole.inputs)).matrix

    def adjoint(self, cotangent: Tensor, conductances: Tensor, along_rows: Tensor, along_columns: Tensor) -> Tensor:
        """Cotangents of conductances and resistances, (3, tile, rows, cols), from that of `matrix`."""
        leaves = self._to_leaves(conductances, along_rows, along_columns)
        tape: list[JoinRecord] = []
        whole = self._eliminate(leaves, tape)
        if self.output_sides == self.input_sides:  # the matrix is symmetric: only the symmetric part has an effect
            cotangent = 0.5 * (cotangent + cotangent.mT)
        for dim, ends in ((1, whole.outputs), (2, whole.inputs)):
            cotangent = select(cotangent, dim, _inverse(sorted_positions(ends)))
        result = self._adjoint_of_leaves(self._adjoint_of_joins(cotangent, tape), leaves)
        return self._from_leaves(result, conductances.shape)

    # --- leaves -------------------------------------------------------------------------------------------------

    @cached_property
    def _join_axes(self) -> list[int]:
        """Axis of the join of each level, always along the shorter side, then that of the first join of the parts."""
        rows, columns = self.rows, self.columns
        axes, high, wide = [], 0, 0
        while high < rows.doublings or wide < columns.doublings:
            shorter = columns.leaf << wide <= rows.leaf << high
            if high == rows.doublings or (wide < columns.doublings and shorter):
                axes.append(ROWS)
                wide += 1
            else:
                axes.append(COLUMNS)
                high += 1
        return [*axes, ROWS if columns.parts > 1 else COLUMNS]

    @cached_property
    def _factors(self) -> tuple[list[int], list[int]]:
        """Rows and columns of a tile as factors, and the dimensions of (tile, *factors) in the order of the leaves.

        The order is leaf columns, leaf rows, leaves, tile. The first join pairs the first half of the leaves with the
        second half, the next join does the same with the result, and so on.
        """
        rows, columns = self.rows, self.columns
        shape = [rows.parts, *[2] * rows.doublings, rows.leaf, columns.parts, *[2] * columns.doublings, columns.leaf]
        first_row, first_column, last = 1, 3 + rows.doublings, len(shape)
        # The last factor of two of an axis belongs to the first join along it.
        row, column = iter(range(first_column - 2, first_row, -1)), iter(range(last - 1, first_column, -1))
        joined = [next(column) if axis == ROWS else next(row) for axis in self._join_axes[:-1]]
        return shape, [last, first_column - 1, *joined, first_row, first_column, 0]

    def _to_leaves(self, conductances: Tensor, *along: Tensor) -> Tensor:
        """Arrange per-cell numbers by leaf, (3, cells of a leaf, leaves x tiles), with zeros as padding."""
        shape, order = self._factors
        tiles, rows, cols = conductances.shape
        per_cell = torch.stack([conductances, *(resistances.expand(tiles, -1, -1) for resistances in along)])
        padded = functional.pad(per_cell, (0, self.columns.lines - cols, 0, self.rows.lines - rows))
        leaves = padded.reshape(3, tiles, *shape).permute(0, *(1 + dim for dim in order))
        return leaves.reshape(3, self.rows.leaf * self.columns.leaf, -1)

    def _from_leaves(self, leaves: Tensor, shape: Sequence[int]) -> Tensor:
        """The inverse of `_to_leaves`: (3, tile, rows, cols), where `shape` is (tile, rows, cols)."""
        factors, order = self._factors
        sizes = [shape[0], *factors]
        per_cell = leaves.reshape(3, *(sizes[dim] for dim in order)).permute(0, *(1 + dim for dim in _inverse(order)))
        per_cell = per_cell.reshape(3, -1, self.rows.lines, self.columns.lines)
        return per_cell[..., : shape[-2], : shape[-1]]

    def _next_sides(self, level: int) -> Positions:
        """Sides that blocks of a level connect in the next join, for each role.

        There are two roles, first and second block of the join; after the last level there is one, a part.
        """
        axes = self._join_axes
        return (2 + axes[level], axes[level]) if level < len(axes) - 1 else (2 + axes[level],)

    def _builds(self, leaves: Tensor) -> Iterator[tuple[LeafBuilder, slice, list[tuple[int, slice, slice]]]]:
        """Groups of leaves that are built together.

        Yields:
            builder: for the leaves of the group.
            leaves: range of the group in all leaves.
            pieces: for each role in the group its number, its range in the group, and that range in the role.
        """
        count, roles = leaves.shape[-1], len(self._next_sides(0))
        ends = 2 * (self.rows.leaf + self.columns.leaf)
        on_cpu = leaves.device.type == "cpu"
        group = (_NUMBERS_PER_BUILD if on_cpu else _NUMBERS_PER_BUILD_ON_ACCELERATOR) // ends**2
        per_role = count // roles
        builder = None
        for start in range(0, count, group):
            stop = min(start + group, count)
            if builder is None or builder.batch != stop - start:
                builder = LeafBuilder(self.rows.leaf, self.columns.leaf, leaves, stop - start)
            pieces = []
            for role in range(roles):
                first = role * per_role
                low, high = max(start, first), min(stop, first + per_role)
                if low < high:
                    pieces.append((role, slice(low - start, high - start), slice(low - first, high - first)))
            yield builder, slice(start, stop), pieces

    def _entries(self, builder: LeafBuilder, next_side: int, device: torch.device) -> Tensor:
        """Positions in a builder's flattened matrix of the entries in the order of `ends_around`."""
        position = {end: number for number, end in enumerate(builder.ends)}
        ends = ends_around(self.rows.leaf, self.columns.leaf, next_side)
        order = torch.tensor([position[end] for end in ends], device=device)
        return (order[:, None] * len(position) + order).flatten()

    def _leaf_blocks(self, leaves: Tensor) -> list[Block]:
        """Blocks of all leaves, for each role."""
        next_sides, rows, columns = self._next_sides(0), self.rows.leaf, self.columns.leaf
        size = 2 * (rows + columns)
        matrices = leaves.new_empty(len(next_sides), leaves.shape[-1] // len(next_sides), size**2)
        for builder, group, pieces in self._builds(leaves):
            built = builder.build(leaves[:, :, group]).flatten(0, 1)
            for role, in_group, in_role in pieces:
                entries = self._entries(builder, next_sides[role], leaves.device)
                matrices[role, in_role] = built[:, in_group].index_select(0, entries).t()
        ends_by_role = [ends_around(rows, columns, side) for side in next_sides]
        return [
            Block(matrix.unflatten(1, (size, size)), ends, ends, (rows, columns))
            for matrix, ends in zip(matrices, ends_by_role, strict=True)
        ]

    def _adjoint_of_leaves(self, cotangents: list[Tensor], leaves: Tensor) -> Tensor:
        """Cotangents in the shape of `leaves`, from those of the blocks of each role."""
        next_sides, result = self._next_sides(0), torch.empty_like(leaves)
        for builder, group, pieces in self._builds(leaves):
            members = leaves[:, :, group]
            responses = members.new_empty(members.shape[1], len(builder.ends), builder.batch)
            builder.build(members, responses)
            cotangent = torch.empty_like(builder.matrix)
            for role, in_group, in_role in pieces:
                entries = self._entries(builder, next_sides[role], leaves.device)
                cotangent.flatten(0, 1)[entries, in_group] = cotangents[role][in_role].flatten(1).t()
            result[:, :, group] = builder.adjoint(cotangent, members[0], responses)
        return result

    # --- joins --------------------------------------------------------------------------------------------------

    def _eliminate(self, leaves: Tensor, tape: list[JoinRecord] | None) -> Block:
        """The block of the whole tile, with the outputs and inputs of the tree."""
        blocks = self._leaf_blocks(leaves)
        for level, axis in enumerate(self._join_axes[:-1], 1):
            next_sides = self._next_sides(level)
            halves = (block.matrix.chunk(len(next_sides)) for block in blocks)
            first, second = blocks
            blocks = [
                join(
                    Block(one, first.outputs, first.inputs, first.lines),
                    Block(other, second.outputs, second.inputs, second.lines),
                    axis,
                    next_side,
                    tape,
                )
                for one, other, next_side in zip(*halves, next_sides, strict=True)
            ]
        (parts,) = blocks
        grid = parts.matrix.unflatten(0, (self.rows.parts, self.columns.parts, -1))
        bands: list[Block] = []
        for row in range(self.rows.parts):
            band = [
                Block(grid[row, column], parts.outputs, parts.inputs, parts.lines).select(
                    self._needed(parts.inputs, row, column, self.output_sides),
                    self._needed(parts.inputs, row, column, self.input_sides),
                )
                for column in range(self.columns.parts)
            ]
            bands.append(reduce(lambda one, other: join(one, other, ROWS, FAR_COLUMNS, tape), band))
        return reduce(lambda one, other: join(one, other, COLUMNS, FAR_COLUMNS, tape), bands)

    def _adjoint_of_joins(self, cotangent: Tensor, tape: list[JoinRecord]) -> list[Tensor]:
        """Cotangents of the leaf blocks of each role, from that of the whole block; empties the tape."""
        bands = [cotangent]
        for _ in range(self.rows.parts - 1):
            bands[:1] = tape.pop().adjoint(bands[0])
        ends = self._ends_of_parts()
        grid = cotangent.new_zeros(self.rows.parts, self.columns.parts, len(cotangent), len(ends), len(ends))
        for row in reversed(range(self.rows.parts)):
            parts = [bands[row]]
            for _ in range(self.columns.parts - 1):
                parts[:1] = tape.pop().adjoint(parts[0])
            for column, part in enumerate(parts):
                outputs, inputs = (
                    torch.tensor(self._needed(ends, row, column, sides), device=cotangent.device)
                    for sides in (self.output_sides, self.input_sides)
                )
                grid[row, column][:, outputs[:, None], inputs] = part
        # The parts are symmetric: only the symmetric part of the cotangent has an effect.
        cotangents = [(0.5 * (grid + grid.mT)).flatten(0, 2)]
        for _ in self._join_axes[:-1]:
            pairs = [tape.pop().adjoint(of_role) for of_role in reversed(cotangents)]
            cotangents = [torch.cat(halves) for halves in zip(*reversed(pairs), strict=True)]
        return cotangents

    def _needed(self, ends: Ends, row: int, column: int, sides: Positions) -> Positions:
        """Positions of the ends of a part that a join connects or that are on one of `sides` of the tile.

        Sorted by side (near rows, far columns, near columns, far rows) and line.
        """
        at_edge = (column == 0, row == 0, column == self.columns.parts - 1, row == self.rows.parts - 1)
        order = sorted(range(len(ends)), key=lambda position: ((0, 2, 3, 1)[ends[position][0]], ends[position]))
        return tuple(position for position in order if not at_edge[ends[position][0]] or ends[position][0] in sides)

    def _ends_of_parts(self) -> Ends:
        lines = [self.rows.leaf, self.columns.leaf]
        ends = [ends_around(self.rows.leaf, self.columns.leaf, side) for side in self._next_sides(0)]
        for level, axis in enumerate(self._join_axes[:-1], 1):
            first, second = ends
            ends = [joined_ends(first, second, axis, lines[1 - axis], side) for side in self._next_sides(level)]
            lines[1 - axis] *= 2
        return ends[0]


def _inverse(permutation: Sequence[int]) -> Positions:
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))
