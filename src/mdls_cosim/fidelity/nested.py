"""Nested elimination of a tile of linear cells: the exact currents at its ends as a function of the voltages there.

A block of neighbouring cells touches the rest of the tile only at the ends of its pieces of line. The near end of a
line is the driven end of a row line and the sensed end of a column line; voltages of column lines count negatively,
so that every line drives a cell with its own voltage and rows and columns obey the same equations. With the near
voltages a and the currents c that leave at the far ends as inputs, a block answers with the currents into its near
ends and the voltages at its far ends:

    near currents = G a + S c
    far voltages  = S^T a - R c

G is a conductance matrix, R a resistance matrix, S passes lines through. Two blocks that share lines join into one:
where the far voltages of the first, v = ... - R i, meet the near currents of the second, i = ... + G v,

    v = (I + R G)^-1 (v with i = 0  -  R (i with v = 0)).

Every principal minor of I + R G is positive, so the equation has a solution whatever the circuit: R^-1 and G are
conductance matrices of grounded networks, that is, diagonally dominant with negative off-diagonals, and so is what
elimination leaves of them. At ordinary wires the matrix is close to I. Only resistances of wires enter, never their
conductances: zero ohm is no special case.

Leaves of a few cells are solved in one piece, then blocks join pairwise, all of a size in one batched call, until one
is left: about 50 N^3 multiplications and 2 log2 N steps for N x N cells. Each cell carries the segment of wire on the
near side of it on both lines, drivers and sense resistances included, so each segment may have its own resistance.
Differentiable in conductances and resistances; a backward pass recomputes its chunk of tiles, so that between the two
passes only the conductances are kept.

It leaves out everything but linear two-terminal cells: no shorts between lines, no far ends but those driven.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mdls_cosim.fidelity.elimination import Ohms, Wires

ROWS, COLUMNS = 0, 1
Ports = tuple[int, int, int, int]
"""Lines at the four sides of a block: near rows, near columns, far rows, far columns."""

# Numbers in the blocks of one chunk of tiles: what suits the caches of a processor, and the memory of a graphics card.
_HELD = 500_000
_HELD_ON_ACCELERATOR = 60_000_000
# A block of (n, n) cells is a matrix of (4 n)^2 numbers.
_NUMBERS_A_CELL = 16
_LEAF = (3, 4, 5)


def _order(axis: int) -> tuple[int, int, int, int]:
    """Sides in the order that suits a join along `axis`: its near side first, its far side last."""
    return axis, 1 - axis, 3 - axis, 2 + axis


def _places(sides: Ports, axis: int) -> dict[int, slice]:
    """Where each side is in a matrix ordered for a join along `axis`."""
    places, start = {}, 0
    for side in _order(axis):
        places[side] = slice(start, start + sides[side])
        start += sides[side]
    return places


@dataclass(frozen=True)
class Block:
    """Answers as a matrix times inputs; sides that nothing is connected to, or nobody asks for, have no lines."""

    matrix: Tensor  # (batch, answers, inputs)
    answers: Ports
    inputs: Ports
    axis: int  # of the join that it is ordered for

    def part(self, answer: int, given: int) -> Tensor:
        """What one side answers to the inputs of another."""
        answers, inputs = _places(self.answers, self.axis), _places(self.inputs, self.axis)
        return self.matrix[:, answers[answer], inputs[given]]

    def without(self, unasked: Sequence[int], unfed: Sequence[int]) -> Block:
        """Drops the answers and the inputs of some sides."""
        answers, inputs = _places(self.answers, self.axis), _places(self.inputs, self.axis)
        kept = [side for side in _order(self.axis) if side not in unasked]
        fed = [side for side in _order(self.axis) if side not in unfed]
        rows = torch.cat([self.matrix[:, answers[side]] for side in kept], 1)
        return Block(
            torch.cat([rows[..., inputs[side]] for side in fed], 2),
            _ports({side: self.answers[side] for side in kept}),
            _ports({side: self.inputs[side] for side in fed}),
            self.axis,
        )


def _ports(lines: dict[int, int]) -> Ports:
    return lines.get(0, 0), lines.get(1, 0), lines.get(2, 0), lines.get(3, 0)


def join(first: Block, second: Block, then: int) -> Block:
    """The far ends of the first block's lines onto the near ends of the second's.

    Args:
        first, second: ordered for the same axis, along which they are joined.
        then: axis that the result is ordered for.
    """
    axis = first.axis
    near, far, crossing = axis, 2 + axis, (1 - axis, 3 - axis)
    ours, theirs = _places(first.inputs, axis), _places(second.inputs, axis)
    far_rows = first.matrix[:, _places(first.answers, axis)[far]]
    near_rows = second.matrix[:, _places(second.answers, axis)[near]]
    resistance, conductance = far_rows[..., ours[far]], near_rows[..., theirs[near]]  # -R and G
    loop = -(resistance @ conductance)
    loop.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # Voltages and currents where the two meet, by inputs of the first and of the second.
    voltages = torch.linalg.solve_ex(loop, far_rows)[0]
    currents = conductance @ voltages
    their_voltages = voltages[..., ours[far]] @ near_rows
    their_currents = torch.baddbmm(near_rows, conductance, their_voltages)

    pieces: list[tuple[bool, int]] = []  # (of the first?, side) in the order of the result
    for side in _order(then):
        pieces += [(True, side)] * (side != far) + [(False, side)] * (side != near)
    columns = [ours[side] if mine else theirs[side] for mine, side in pieces]
    choose = [(mine, column) for (mine, _), column in zip(pieces, columns, strict=True)]
    met = torch.cat([(currents if mine else their_currents)[..., column] for mine, column in choose], 2)
    met_voltages = torch.cat([(voltages if mine else their_voltages)[..., column] for mine, column in choose], 2)

    # Near lines come first and far lines last, so what remains of each block's answers is in one piece.
    first_rows = first.matrix[:, : first.matrix.shape[1] - first.answers[far]]
    second_rows = second.matrix[:, second.answers[near] :]
    first_answers = first_rows[..., ours[far]] @ met
    second_answers = second_rows[..., theirs[near]] @ met_voltages
    start = 0
    for mine, column in choose:
        stop = start + column.stop - column.start
        answers, rows = (first_answers, first_rows) if mine else (second_answers, second_rows)
        answers[..., start:stop] += rows[..., column]
        start = stop

    mine_at = _places(first.answers, axis)
    their_at = _places(_ports({side: lines for side, lines in enumerate(second.answers) if side != near}), axis)
    answers = [first_answers[:, mine_at[side]] if mine else second_answers[:, their_at[side]] for mine, side in pieces]

    def sides(one: Ports, other: Ports) -> Ports:
        return _ports(
            {near: one[near], far: other[far]} | {side: one[side] + other[side] for side in crossing},
        )

    return Block(torch.cat(answers, 1), sides(first.answers, second.answers), sides(first.inputs, second.inputs), then)


@dataclass(frozen=True)
class _Grid:
    """How lines of one kind are cut: `parts` pieces of `leaf * 2**doublings` lines, the last ones perhaps empty."""

    leaf: int
    doublings: int
    parts: int

    @classmethod
    def of(cls, lines: int) -> _Grid:
        """The cut with the fewest lines too many."""
        if lines <= max(_LEAF):
            return cls(lines, 0, 1)
        cuts = []
        for leaf in _LEAF:
            for parts in (2, 3):
                doublings = max(0, math.ceil(math.log2(lines / (leaf * parts))))
                cuts.append(cls(leaf, doublings, parts))
        return min(cuts, key=lambda cut: (cut.lines, -cut.doublings, cut.parts))

    @property
    def lines(self) -> int:
        return self.leaf * self.parts << self.doublings


@dataclass(frozen=True)
class _Leaves:
    """The wires of all leaves, (leaf, ...); a leaf has p x q cells and 2 (p + q) ends.

    Cells of voltages w pass currents i; the wires alone make w = drives @ inputs - between @ i.
    """

    rows: _Grid
    columns: _Grid
    drives: Tensor  # (leaf, cells, ends)
    between: Tensor  # (leaf, cells, cells) [ohm]
    through: Tensor  # (leaf, ends, ends), the block without any cells

    @classmethod
    def of(cls, along_rows: Tensor, along_columns: Tensor) -> _Leaves:
        """From the resistance on the near side of each cell, (rows, cols), near ends first [ohm]."""
        rows, columns = (_Grid.of(lines) for lines in along_rows.shape)
        p, q, axis = rows.leaf, columns.leaf, _axes(rows, columns)[0]
        # From the near side of the leaf to each cell.
        row_path = _cut(along_rows, rows, columns).cumsum(-1)
        column_path = _cut(along_columns, rows, columns).cumsum(-2)
        one_row, one_column = (torch.eye(lines).to(along_rows) for lines in (p, q))
        shared_rows = torch.minimum(row_path[..., :, None], row_path[..., None, :])
        shared_columns = torch.minimum(column_path.mT[..., :, None], column_path.mT[..., None, :])
        between = torch.einsum("zijl,ik->zijkl", shared_rows, one_row)
        between = between + torch.einsum("zjik,jl->zijkl", shared_columns, one_column)
        ends = {
            0: one_row[:, None, :].expand(len(row_path), p, q, p),
            1: one_column[None, :, :].expand(len(row_path), p, q, q),
            2: -row_path[..., None] * one_row[:, None, :],
            3: -column_path[..., None] * one_column[None, :, :],
        }
        sizes = (p, q, p, q)
        place = _places(sizes, axis)
        through = along_rows.new_zeros(len(row_path), 2 * (p + q), 2 * (p + q))
        for near, total in ((ROWS, row_path[..., -1]), (COLUMNS, column_path[..., -1, :])):
            for one, other in ((near, near + 2), (near + 2, near)):
                through[:, place[one], place[other]] = torch.eye(sizes[near]).to(through)
            through[:, place[near + 2], place[near + 2]] = torch.diag_embed(-total)
        drives = torch.cat([ends[side] for side in _order(axis)], -1).reshape(-1, p * q, 2 * (p + q))
        return cls(rows, columns, drives, between.reshape(-1, p * q, p * q), through)

    def solve(self, conductances: Tensor) -> Tensor:
        """Blocks (leaf, tile, ends, ends) of conductances (tile, rows, cols) [S].

        From i = D w with the cells' conductances D: currents = (D^-1 + between)^-1 drives, written with D^1/2 so that
        the matrix is symmetric and open cells are allowed.
        """
        tiles = len(conductances)
        cells = _cut(conductances, self.rows, self.columns).flatten(-2).reshape(tiles, len(self.drives), -1)
        if cells.requires_grad:  # the smallest number keeps the derivative of the root finite at open cells
            cells = cells + torch.finfo(cells.dtype).tiny
        root = cells.transpose(0, 1).sqrt()[..., None]
        matrix = self.between[:, None] * root * root.mT
        matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
        factor = torch.linalg.cholesky_ex(matrix)[0]
        passed = torch.linalg.solve_triangular(factor, self.drives[:, None] * root, upper=False)
        return self.through[:, None] + passed.mT @ passed


def _cut(per_cell: Tensor, rows: _Grid, columns: _Grid) -> Tensor:
    """(..., rows, cols) padded with zeros at the far ends and cut into leaves, (... x leaf, leaf rows, leaf cols).

    Leaves that are joined in the same step follow each other at a distance: the first join pairs the first half of
    the leaves with the second.
    """
    padding = (0, columns.lines - per_cell.shape[-1], 0, rows.lines - per_cell.shape[-2])
    padded = torch.nn.functional.pad(per_cell, padding)
    split = [rows.parts, *[2] * rows.doublings, rows.leaf, columns.parts, *[2] * columns.doublings, columns.leaf]
    leaves = padded.reshape(-1, *split)
    first_row, first_column, last = 1, 3 + rows.doublings, leaves.ndim - 1
    # The last factor of two of a number of leaves is joined first.
    row, column = iter(range(first_column - 2, first_row, -1)), iter(range(last - 1, first_column, -1))
    joined = [next(column) if axis == ROWS else next(row) for axis in _axes(rows, columns)[:-1]]
    order = (0, *joined, first_row, first_column, first_column - 1, last)
    return leaves.permute(order).reshape(-1, rows.leaf, columns.leaf)


def _axes(rows: _Grid, columns: _Grid) -> list[int]:
    """Axes of the joins of equal blocks, always along the shorter side, and of the first join of the parts."""
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


def _joined(leaves: _Leaves, conductances: Tensor, *, drawn: bool, double: bool) -> Block:
    """The whole tile as one block: answers of the sense side (and of the drivers), inputs of the drivers."""
    rows, columns = leaves.rows, leaves.columns
    axes = _axes(rows, columns)
    tiles = len(conductances)
    matrix = leaves.solve(conductances).flatten(0, 1)
    sides: Ports = (rows.leaf, columns.leaf, rows.leaf, columns.leaf)
    for axis, then in pairwise(axes):
        first, second = (Block(half, sides, sides, axis) for half in matrix.chunk(2))
        block = join(first, second, then)
        matrix, sides = block.matrix, block.answers
    blocks = matrix.unflatten(0, (rows.parts, columns.parts, tiles))

    def at(row: int, column: int) -> Block:
        # What nothing is connected to at the edges of the tile, and what nobody asks for.
        unasked, unfed = [], []
        if column == 0 and not drawn:
            unasked.append(0)
        if row == 0:
            unfed.append(1)
        if column == columns.parts - 1 and not double:
            unasked.append(2)
            unfed.append(2)
        if row == rows.parts - 1:
            unasked.append(3)
            unfed.append(3)
        return Block(blocks[row, column], sides, sides, axes[-1]).without(unasked, unfed)

    lines = []
    for row in range(rows.parts):
        first, *others = (at(row, column) for column in range(columns.parts))
        for column, other in enumerate(others, 2):
            first = join(first, other, ROWS if column < columns.parts else COLUMNS)
        lines.append(first)
    return reduce(partial(join, then=COLUMNS), lines)


def _near_resistances(wires: Wires, conductances: Tensor) -> tuple[Tensor, Tensor]:
    """Resistance on the near side of each cell, on its row line and on its column line, (rows, cols) [ohm]."""
    rows, cols = conductances.shape[-2:]

    def lines(resistance: Ohms, shape: tuple[int, int], axis: int) -> Tensor:
        given = torch.as_tensor(resistance, dtype=conductances.dtype, device=conductances.device)
        return (given.unsqueeze(axis) if given.ndim == 1 else given).expand(shape)

    row = torch.cat([lines(wires.driver, (rows, 1), -1), lines(wires.row_line, (rows, cols - 1), -1)], 1)
    column = torch.cat([lines(wires.column_line, (rows - 1, cols), 0), lines(wires.sense, (1, cols), 0)], 0)
    return row, column


def _transfer(leaves: _Leaves, wires: Wires, conductances: Tensor, *, drawn: bool) -> Tensor:
    """W, or Y if `drawn`, of one chunk of tiles (tile, rows, cols) with the sensed ends of the columns first."""
    rows, cols = conductances.shape[-2:]
    asked = 0 if drawn else 1
    block = _joined(leaves, conductances, drawn=drawn, double=wires.far_driver is not None)
    answer = block.part(asked, 0)
    if wires.far_driver is not None:
        # The far drivers deliver f: (r_far + R) f = V - S^T V.
        loop = -block.part(2, 2)
        one = torch.eye(loop.shape[-1]).to(loop)
        loop = loop + torch.as_tensor(wires.far_driver).to(loop) * one
        # Between drivers without any resistance the far one has nothing to add.
        loop = loop + torch.diag_embed((loop.diagonal(dim1=-2, dim2=-1) == 0).to(loop))
        delivered = torch.linalg.solve_ex(loop, one - block.part(2, 0))[0]
        answer = answer - block.part(asked, 2) @ delivered
        if drawn:
            answer = answer + delivered
    return answer[:, :rows, :rows].flip(-1, -2) if drawn else answer[:, :cols, :rows].mT.flip(-2)


def _transfers(conductances: Tensor, wires: Wires, *, drawn: bool) -> Tensor:
    *tiles, rows, cols = conductances.shape
    if not conductances.numel():
        return conductances.new_zeros((*tiles, rows, rows if drawn else cols))
    flat = conductances.reshape(-1, rows, cols).flip(-2)
    row, column = _near_resistances(wires, flat)
    leaves = _Leaves.of(row.flip(0), column.flip(0))
    solve = partial(_transfer, leaves, wires, drawn=drawn)
    held = _HELD if flat.device.type == "cpu" else _HELD_ON_ACCELERATOR
    chunks = flat.split(max(1, held // (_NUMBERS_A_CELL * leaves.rows.lines * leaves.columns.lines)))
    if torch.is_grad_enabled() and (flat.requires_grad or leaves.between.requires_grad):
        answers = [checkpoint(solve, chunk, use_reentrant=False) for chunk in chunks]
    else:
        answers = [solve(chunk) for chunk in chunks]
    return torch.cat(answers).reshape(*tiles, rows, -1)


def effective_conductances(conductances: Tensor, wires: Wires) -> Tensor:
    """The exact W with I = V W.

    In the precision of its argument: float64 is right to about 1e-14 of every single W, float32 to about 1e-6 of it.

    Args:
        conductances: (*tiles, rows, cols) [S].

    Returns:
        (*tiles, rows, cols) [S].
    """
    return _transfers(conductances, wires, drawn=False)


def drawn_conductances(conductances: Tensor, wires: Wires) -> Tensor:
    """The exact Y of the drivers: they deliver the currents Y V and the power V^T Y V.

    Args:
        conductances: (*tiles, rows, cols) [S].

    Returns:
        (*tiles, rows, rows) [S], symmetric.
    """
    return _transfers(conductances, wires, drawn=True)
