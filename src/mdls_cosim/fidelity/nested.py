"""Nested elimination of a tile of linear cells: the exact currents at its ends as a function of the voltages there.

A block of neighbouring cells touches the rest of the tile only at the ends of its pieces of line. The near end of a
line is the driven end of a row line and the sensed end of a column line; voltages of column lines count negatively,
so that every line drives a cell with its own voltage and rows and columns obey the same equations. With the near
voltages a and the currents c that leave at the far ends as inputs, a block answers by a symmetric matrix H with the
currents into its near ends and the voltages at its far ends:

    near currents = G a + S c
    far voltages  = S^T a - R c

G is a conductance matrix, R a resistance matrix, S passes lines through. Leaves of a few cells grow cell by cell: a
cell g between the far ends p and q of its lines sees the voltage h^T inputs, h = H e with e = e_p + e_q, behind the
resistance r = -e^T h, and changes H by the current that it passes,

    H + g/(1 + g r) h h^T.

Two blocks that share lines join into one: where the far voltages of the first, v = ... - R i, meet the near currents
of the second, i = ... + G v,

    v = (I + R G)^-1 (v with i = 0  -  R (i with v = 0)).

Every principal minor of I + R G is positive, so the equation has a solution whatever the circuit: R^-1 and G are
conductance matrices of grounded networks, that is, diagonally dominant with negative off-diagonals, and so is what
elimination leaves of them. At ordinary wires the matrix is close to I. Only resistances of wires enter, never their
conductances: zero ohm is no special case.

Leaves are laid out side by side, every number of theirs one vector over all of them; then blocks join pairwise, all
of a size in batched calls, until one is left: about 50 N^3 multiplications for N x N cells. The ends of a block are
listed around it, from the middle of the side that its next join hides: what remains is in one piece, and the result's
matrix is two by two pieces. Each cell carries the segment of wire on the near side of it on both lines, drivers and
sense resistances included, so each segment may have its own resistance.

Derivatives in conductances and resistances are explicit. All inputs of a part, a block in a join or a cell and its
wires in a leaf, follow from those of the whole as X inputs; by reciprocity (Tellegen's theorem) a change dH of the
part changes the whole by X_answers^T dH X_inputs, so what the whole is worth, B, makes X_answers B X_inputs^T for the
part. A backward pass repeats the joins of its chunk of tiles to know the X, so that between the two passes only the
conductances are kept. There are no second derivatives.

It leaves out everything but linear two-terminal cells: no shorts between lines, no far ends but those driven.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import torch
from torch import Tensor

from mdls_cosim.errors import NotAvailable
from mdls_cosim.fidelity.elimination import Ohms, Wires

ROWS, COLUMNS = 0, 1
NEAR_ROWS, NEAR_COLUMNS, FAR_ROWS, FAR_COLUMNS = range(4)
Ends = tuple[tuple[int, int], ...]
"""(side, line) of the ends of a block, in the order of its matrix."""
Places = tuple[int, ...]

# Numbers in the blocks of one chunk of tiles, and of the leaves that grow together: what suits the caches of a
# processor, and the memory of a graphics card.
_HELD = 1_100_000
_GROWN = 300_000
_HELD_ON_ACCELERATOR = 60_000_000
# A block of (n, n) cells is a matrix of (4 n)^2 numbers.
_NUMBERS_A_CELL = 16
_LEAF_ROWS = (3, 4, 5)
_LEAF_COLUMNS = (6, 7, 8, 9, 10)


@lru_cache(maxsize=4096)
def _index(places: Places, device: torch.device) -> slice | Tensor:
    """A slice if the places are in one piece."""
    start = places[0] if places else 0
    if places == tuple(range(start, start + len(places))):
        return slice(start, start + len(places))
    return torch.tensor(places, device=device)


def _pick(matrix: Tensor, dim: int, places: Places) -> Tensor:
    """The entries at some places of a dimension of (batch, answers, inputs), a view if they are in one piece."""
    index = _index(places, matrix.device)
    if isinstance(index, slice):
        return matrix[:, index] if dim == 1 else matrix[:, :, index]
    return matrix.index_select(dim, index)


def _put(matrix: Tensor, dim: int, places: Places, entries: Tensor) -> None:
    """The reverse of `_pick`, in place."""
    index = _index(places, matrix.device)
    if isinstance(index, slice):
        (matrix[:, index] if dim == 1 else matrix[:, :, index]).copy_(entries)
    else:
        matrix.index_copy_(dim, index, entries)


def _ordered(ends: Ends) -> Places:
    """The places of the ends by side and line."""
    return tuple(sorted(range(len(ends)), key=ends.__getitem__))


@dataclass(frozen=True)
class _Meeting:
    """Which ends of two blocks meet when the blocks are joined, by line, and where the rest of them goes."""

    hidden: tuple[Places, Places]  # of the first and of the second block
    kept: tuple[Places, Places]
    parts: tuple[slice, slice]  # where what each block keeps is in the result
    ends: Ends  # of the result

    def size(self, number: int) -> int:
        return len(self.hidden[number]) + len(self.kept[number])

    def cat(self, pieces: tuple[Tensor, Tensor], dim: int) -> Tensor:
        """What belongs to the first and to the second block's ends, in the order of the result."""
        return torch.cat(pieces if self.parts[0].start == 0 else pieces[::-1], dim)


@lru_cache(maxsize=1024)
def _meet(first: Ends, second: Ends, axis: int, lines: int, hides: int) -> _Meeting:
    """Of a join along `axis`.

    Args:
        lines: of the first block across the joined ones: those of the second follow.
        hides: the side that the next join hides; if possible the rest of the ends is left in one piece.
    """
    hidden = tuple(
        tuple(place for place in _ordered(ends) if ends[place][0] == side)
        for ends, side in ((first, 2 + axis), (second, axis))
    )
    kept = tuple(
        tuple(place for place in range(len(ends)) if place not in met)
        for ends, met in zip((first, second), map(set, hidden), strict=True)
    )
    one = tuple(first[place] for place in kept[0])
    other = tuple((side, line + lines * (side % 2 != axis)) for side, line in (second[place] for place in kept[1]))
    rest = tuple(place for place, (side, _) in enumerate(one + other) if side != hides)
    if isinstance(_index(rest, torch.device("cpu")), slice):
        parts, ends = (slice(0, len(one)), slice(len(one), None)), one + other
    else:
        parts, ends = (slice(len(other), None), slice(0, len(other))), other + one
    return _Meeting((hidden[0], hidden[1]), (kept[0], kept[1]), parts, ends)


@dataclass(frozen=True)
class Block:
    """Answers as a matrix times inputs; sides that nothing is connected to, or nobody asks for, have no ends."""

    matrix: Tensor  # (batch, answers, inputs)
    answers: Ends
    inputs: Ends
    lines: tuple[int, int]  # rows and columns

    def only(self, answers: Places, inputs: Places) -> Block:
        """With these answers and inputs alone, in this order."""
        return Block(
            _pick(_pick(self.matrix, 1, answers), 2, inputs),
            tuple(self.answers[place] for place in answers),
            tuple(self.inputs[place] for place in inputs),
            self.lines,
        )


@dataclass(frozen=True)
class _Joined:
    """A join as its adjoint needs it: currents and voltages where the blocks meet, (batch, lines, inputs)."""

    answers: _Meeting
    inputs: _Meeting
    given: tuple[Tensor, Tensor]
    asked: tuple[Tensor, Tensor]
    """Of the reciprocal circuit: with what is answered as inputs."""

    def adjoint(self, worth: Tensor) -> tuple[Tensor, Tensor]:
        """What the entries of the two blocks are worth, X_answers B X_inputs^T, given B of the result's."""
        first, second = (self._of_one(number, worth) for number in (0, 1))
        return first, second

    def _of_one(self, number: int, worth: Tensor) -> Tensor:
        answers, inputs = self.answers, self.inputs
        hidden_rows = self.asked[number] @ worth
        corner = hidden_rows @ self.given[number].mT
        # What is answered to the same ends is symmetric, and so is what it is worth.
        hidden_columns = hidden_rows.mT if answers is inputs else worth @ self.given[number].mT
        out, into = answers.parts[number], inputs.parts[number]
        found = worth.new_empty(len(worth), answers.size(number), inputs.size(number))
        for places, kept, hidden in (
            (answers.kept[number], worth[:, out, into], hidden_columns[:, out]),
            (answers.hidden[number], hidden_rows[:, :, into], corner),
        ):
            index = _index(places, worth.device)
            rows = (
                found[:, index]
                if isinstance(index, slice)
                else found.new_empty(len(worth), len(places), found.shape[2])
            )
            _put(rows, 2, inputs.kept[number], kept)
            _put(rows, 2, inputs.hidden[number], hidden)
            if not isinstance(index, slice):
                found.index_copy_(1, index, rows)
        return found


def join(first: Block, second: Block, axis: int, hides: int, tape: list[_Joined] | None = None) -> Block:
    """The far ends of the first block's lines onto the near ends of the second's.

    Args:
        axis: of the lines that are joined.
        hides: the side that the next join of the result hides.
        tape: gets what the adjoint needs.
    """
    across = first.lines[1 - axis]
    inputs = _meet(first.inputs, second.inputs, axis, across, hides)
    symmetric = first.answers == first.inputs and second.answers == second.inputs
    answers = inputs if symmetric else _meet(first.answers, second.answers, axis, across, hides)
    far, near = _pick(first.matrix, 1, answers.hidden[0]), _pick(second.matrix, 1, answers.hidden[1])
    resistance, conductance = _pick(far, 2, inputs.hidden[0]), _pick(near, 2, inputs.hidden[1])  # -R and G
    loop = -(resistance @ conductance)
    loop.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # Few numbers a matrix and many right-hand sides: products with the inverse are faster than solves.
    inverse = torch.linalg.inv_ex(loop)[0]

    def meet(far: Tensor, near: Tensor, meeting: _Meeting) -> tuple[Tensor, Tensor]:
        """Currents and voltages where the blocks meet, by inputs of the first and of the second."""
        voltages, their_currents = inverse @ far, inverse.mT @ near
        return (
            meeting.cat((conductance @ voltages, their_currents), 2),
            meeting.cat((voltages, resistance @ their_currents), 2),
        )

    far, near = _pick(far, 2, inputs.kept[0]), _pick(near, 2, inputs.kept[1])
    currents, voltages = meet(far, near, inputs)
    if symmetric:
        far_columns, near_columns = far.mT, near.mT
    else:
        far_columns = _pick(_pick(first.matrix, 2, inputs.hidden[0]), 1, answers.kept[0])
        near_columns = _pick(_pick(second.matrix, 2, inputs.hidden[1]), 1, answers.kept[1])
    matrix = answers.cat((far_columns @ currents, near_columns @ voltages), 1)
    for number, block in enumerate((first, second)):
        rest = _pick(_pick(block.matrix, 1, answers.kept[number]), 2, inputs.kept[number])
        matrix[:, answers.parts[number], inputs.parts[number]].add_(rest)
    if tape is not None:
        given = currents, voltages
        tape.append(
            _Joined(answers, inputs, given, given if symmetric else meet(far_columns.mT, near_columns.mT, answers))
        )
    rows, columns = first.lines
    lines = (rows, columns + second.lines[1]) if axis == ROWS else (rows + second.lines[0], columns)
    return Block(matrix, answers.ends, inputs.ends, lines)


@dataclass(frozen=True)
class _Grid:
    """How lines of one kind are cut: `parts` pieces of `leaf * 2**doublings` lines, the last ones perhaps empty."""

    leaf: int
    doublings: int
    parts: int

    @classmethod
    def of(cls, lines: int, leaves: Sequence[int]) -> _Grid:
        """The cut with the fewest lines too many."""
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
        return self.leaf * self.parts << self.doublings


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


class _Growth:
    """Leaves that grow cell by cell, row after row down each column, side by side in the last dimension."""

    def __init__(self, rows: int, columns: int, like: Tensor, batch: int) -> None:
        self.rows, self.batch = rows, batch
        # Cells reach the ends in this order, so that all that a cell changes is in one piece.
        self.ends: Ends = (
            *((NEAR_ROWS, i) for i in range(rows)),
            *((FAR_ROWS, i) for i in range(rows)),
            *((side, j) for j in range(columns) for side in (NEAR_COLUMNS, FAR_COLUMNS)),
        )
        size = len(self.ends)
        self.matrix = like.new_zeros(size, size, batch)
        self._one, self._scratch = like.new_ones(batch), like.new_empty(batch)
        self._response, self._passed = like.new_empty(2, size, batch)
        opposite = [self.ends.index((side ^ 2, line)) for side, line in self.ends]
        self._through = [self.matrix[place, other] for place, other in enumerate(opposite)]

    def grow(self, leaves: Tensor, responses: Tensor | None = None) -> Tensor:
        """H, (ends, ends, batch), overwritten by the next call.

        Args:
            leaves: conductances and the resistances before each cell on its lines, (3, cells, batch).
            responses: (cells, ends, batch), gets the cells' voltages by inputs of what is there with them.
        """
        self.matrix.zero_()
        for each in self._through:
            each.fill_(1.0)
        conductances, along_rows, along_columns = (each.unbind() for each in leaves)
        scratch, each_response = self._scratch, self._response.unbind()
        for column in range(len(conductances) // self.rows):
            # One unbind is cheaper than many selects: these steps are short.
            far_column, size = 2 * (self.rows + column) + 1, 2 * (self.rows + column + 1)
            grown, response, passed = self.matrix[:size, :size], self._response[:size], self._passed[:size]
            lines, ends = grown.unbind(), grown.diagonal().unbind(-1)
            for row in range(self.rows):
                cell, far_row = column * self.rows + row, self.rows + row
                ends[far_row].sub_(along_rows[cell])
                ends[far_column].sub_(along_columns[cell])
                torch.add(lines[far_row], lines[far_column], out=response)
                # 1 + g r
                torch.add(each_response[far_row], each_response[far_column], out=scratch)
                torch.addcmul(self._one, conductances[cell], scratch, value=-1.0, out=scratch)
                if responses is not None:
                    torch.div(response, scratch, out=responses[cell, :size])
                torch.mul(response, torch.div(conductances[cell], scratch, out=scratch), out=passed)
                grown.addcmul_(passed[:, None], response[None])
        return self.matrix

    def adjoint(self, worth: Tensor, conductances: Tensor, responses: Tensor) -> Tensor:
        """What conductances and resistances are worth, (3, cells, batch); what H is worth and H are overwritten."""
        found = conductances.new_empty(3, *conductances.shape)
        ends = worth.diagonal().unbind(-1)
        for cell in reversed(range(len(conductances))):
            column, row = divmod(cell, self.rows)
            far_row, far_column, size = self.rows + row, 2 * (self.rows + column) + 1, 2 * (self.rows + column + 1)
            # The cell is worth w^T B w; its current g w is a further input of both lines.
            conductance, response = conductances[cell], responses[cell, :size]
            products = torch.mul(worth[:size, :size], response, out=self.matrix[:size, :size])
            through = torch.sum(products, 1, out=self._passed[:size])
            torch.sum(torch.mul(through, response, out=self._response[:size]), 0, out=found[0, cell])
            through *= conductance
            half = 0.5 * conductance.square() * found[0, cell]
            through[far_row].add_(half)
            through[far_column].add_(half)
            for line in (far_row, far_column):
                worth[line, :size].add_(through)
                worth[:size, line].add_(through)
            torch.neg(ends[far_row], out=found[1, cell])
            torch.neg(ends[far_column], out=found[2, cell])
        return found


@lru_cache(maxsize=64)
def _around(rows: int, columns: int, hides: int) -> Ends:
    """The ends of a leaf clockwise, from the middle of the side that its first join hides."""
    clockwise = {
        NEAR_COLUMNS: [(NEAR_COLUMNS, j) for j in range(columns)],
        FAR_ROWS: [(FAR_ROWS, i) for i in range(rows)],
        FAR_COLUMNS: [(FAR_COLUMNS, j) for j in reversed(range(columns))],
        NEAR_ROWS: [(NEAR_ROWS, i) for i in reversed(range(rows))],
    }
    sides = list(clockwise)
    start, middle = sides.index(hides), len(clockwise[hides]) // 2
    ends = [end for side in sides[start:] + sides[:start] for end in clockwise[side]]
    return tuple(ends[middle:] + ends[:middle])


@dataclass(frozen=True)
class _Tree:
    """How a tile of some size is cut into leaves and joined; which ends of the whole are asked, and which are fed."""

    rows: _Grid
    columns: _Grid
    asked: Places  # sides
    fed: Places

    def matrix(
        self, conductances: Tensor, along_rows: Tensor, along_columns: Tensor, tape: list[_Joined] | None = None
    ) -> Tensor:
        """Answers of the asked ends to the fed ones, both by side and line, (tile, answers, inputs).

        Args:
            conductances: (tile, rows, cols) [S].
            along_rows, along_columns: resistance on the near side of each cell, (1, rows, cols) [ohm].
        """
        whole = self._whole(self._cut(conductances, along_rows, along_columns), tape)
        return whole.only(_ordered(whole.answers), _ordered(whole.inputs)).matrix

    def adjoint(self, worth: Tensor, conductances: Tensor, along_rows: Tensor, along_columns: Tensor) -> Tensor:
        """What conductances and resistances are worth, (3, tile, rows, cols), given what the matrix is worth."""
        leaves = self._cut(conductances, along_rows, along_columns)
        tape: list[_Joined] = []
        whole = self._whole(leaves, tape)
        if self.asked == self.fed:  # a symmetric matrix: only the symmetric part of what it is worth counts
            worth = 0.5 * (worth + worth.mT)
        for dim, ends in ((1, whole.answers), (2, whole.inputs)):
            order = _ordered(ends)
            worth = _pick(worth, dim, tuple(sorted(range(len(order)), key=order.__getitem__)))
        found = self._adjoint_of_leaves(self._adjoint_of_joins(worth, tape), leaves)
        shape, order = self._split()
        sizes = [len(conductances), *shape]
        back = sorted(range(len(order)), key=order.__getitem__)
        per_cell = found.reshape(3, *(sizes[dim] for dim in order)).permute(0, *(1 + dim for dim in back))
        per_cell = per_cell.reshape(3, -1, self.rows.lines, self.columns.lines)
        return per_cell[..., : conductances.shape[-2], : conductances.shape[-1]]

    def _split(self) -> tuple[list[int], list[int]]:
        """A tile's rows and columns as factors, and the order (leaf columns, leaf rows, leaves, tile) of the leaves.

        Leaves that are joined in the same step follow each other at a distance: the first join pairs the first half
        of the leaves with the second.
        """
        rows, columns = self.rows, self.columns
        shape = [rows.parts, *[2] * rows.doublings, rows.leaf, columns.parts, *[2] * columns.doublings, columns.leaf]
        first_row, first_column, last = 1, 3 + rows.doublings, len(shape)
        # The last factor of two of a number of leaves is joined first.
        row, column = iter(range(first_column - 2, first_row, -1)), iter(range(last - 1, first_column, -1))
        joined = [next(column) if axis == ROWS else next(row) for axis in _axes(rows, columns)[:-1]]
        return shape, [last, first_column - 1, *joined, first_row, first_column, 0]

    def _cut(self, conductances: Tensor, *along: Tensor) -> Tensor:
        """(3, cells of a leaf, leaves x tiles), padded with zeros at the far ends."""
        shape, order = self._split()
        tiles, rows, cols = conductances.shape
        given = torch.stack([conductances, *(each.expand(tiles, -1, -1) for each in along)])
        padded = torch.nn.functional.pad(given, (0, self.columns.lines - cols, 0, self.rows.lines - rows))
        leaves = padded.reshape(3, tiles, *shape).permute(0, *(1 + dim for dim in order))
        return leaves.reshape(3, self.rows.leaf * self.columns.leaf, -1)

    def _roles(self, level: int) -> Places:
        """The sides that blocks of a level hide in the next join: first ones and second ones, or the parts."""
        axes = _axes(self.rows, self.columns)
        return (2 + axes[level], axes[level]) if level < len(axes) - 1 else (2 + axes[level],)

    def _pieces(self, leaves: Tensor) -> Iterator[tuple[_Growth, slice, list[tuple[int, slice, slice]]]]:
        """Leaves that grow together: their range, and by role the range within and that of the role's blocks."""
        count, roles = leaves.shape[-1], len(self._roles(0))
        ends = 2 * (self.rows.leaf + self.columns.leaf)
        at_once = (_GROWN if leaves.device.type == "cpu" else _HELD_ON_ACCELERATOR) // ends**2
        each = count // roles
        growth = None
        for start in range(0, count, at_once):
            stop = min(start + at_once, count)
            if growth is None or growth.batch != stop - start:
                growth = _Growth(self.rows.leaf, self.columns.leaf, leaves, stop - start)
            parts = []
            for role in range(roles):
                low, high = max(start, role * each), min(stop, (role + 1) * each)
                if low < high:
                    parts.append((role, slice(low - start, high - start), slice(low - role * each, high - role * each)))
            yield growth, slice(start, stop), parts

    def _entries(self, growth: _Growth, role: int, device: torch.device) -> Tensor:
        """Where the numbers of a leaf's matrix are in one that grew."""
        place = {end: number for number, end in enumerate(growth.ends)}
        order = torch.tensor([place[end] for end in _around(self.rows.leaf, self.columns.leaf, role)], device=device)
        return (order[:, None] * len(place) + order).flatten()

    def _leaves(self, leaves: Tensor) -> list[Block]:
        """Blocks by role."""
        roles, rows, columns = self._roles(0), self.rows.leaf, self.columns.leaf
        size = 2 * (rows + columns)
        found = leaves.new_empty(len(roles), leaves.shape[-1] // len(roles), size**2)
        for growth, here, parts in self._pieces(leaves):
            grown = growth.grow(leaves[:, :, here]).flatten(0, 1)
            for role, within, there in parts:
                entries = self._entries(growth, roles[role], leaves.device)
                found[role, there] = grown[:, within].index_select(0, entries).t()
        orders = [_around(rows, columns, hides) for hides in roles]
        return [
            Block(matrix.unflatten(1, (size, size)), order, order, (rows, columns))
            for matrix, order in zip(found, orders, strict=True)
        ]

    def _adjoint_of_leaves(self, worth: list[Tensor], leaves: Tensor) -> Tensor:
        """As `leaves`, from what the blocks of each role are worth."""
        roles, found = self._roles(0), torch.empty_like(leaves)
        for growth, here, parts in self._pieces(leaves):
            some = leaves[:, :, here]
            responses = some.new_empty(some.shape[1], len(growth.ends), growth.batch)
            growth.grow(some, responses)
            change = torch.empty_like(growth.matrix)
            for role, within, there in parts:
                entries = self._entries(growth, roles[role], leaves.device)
                change.flatten(0, 1)[entries, within] = worth[role][there].flatten(1).t()
            found[:, :, here] = growth.adjoint(change, some[0], responses)
        return found

    def _kept(self, ends: Ends, row: int, column: int, wanted: Places) -> Places:
        """Not what nothing is connected to at the edges of the tile, and what nobody asks for; near rows first."""
        edge = (column == 0, row == 0, column == self.columns.parts - 1, row == self.rows.parts - 1)
        order = sorted(range(len(ends)), key=lambda place: ((0, 2, 3, 1)[ends[place][0]], ends[place]))
        return tuple(place for place in order if not edge[ends[place][0]] or ends[place][0] in wanted)

    def _whole(self, leaves: Tensor, tape: list[_Joined] | None) -> Block:
        blocks = self._leaves(leaves)
        for level, axis in enumerate(_axes(self.rows, self.columns)[:-1], 1):
            roles = self._roles(level)
            halves = (each.matrix.chunk(len(roles)) for each in blocks)
            first, second = blocks
            blocks = [
                join(
                    Block(one, first.answers, first.inputs, first.lines),
                    Block(other, second.answers, second.inputs, second.lines),
                    axis,
                    hides,
                    tape,
                )
                for one, other, hides in zip(*halves, roles, strict=True)
            ]
        (all_parts,) = blocks
        grid = all_parts.matrix.unflatten(0, (self.rows.parts, self.columns.parts, -1))
        lines: list[Block] = []
        for row in range(self.rows.parts):
            parts = []
            for column in range(self.columns.parts):
                block = Block(grid[row, column], all_parts.answers, all_parts.inputs, all_parts.lines)
                parts.append(
                    block.only(*(self._kept(block.inputs, row, column, wanted) for wanted in (self.asked, self.fed)))
                )
            lines.append(reduce(lambda one, other: join(one, other, ROWS, FAR_COLUMNS, tape), parts))
        return reduce(lambda one, other: join(one, other, COLUMNS, FAR_COLUMNS, tape), lines)

    def _adjoint_of_joins(self, worth: Tensor, tape: list[_Joined]) -> list[Tensor]:
        """What the leaves of each role are worth."""
        lines = [worth]
        for _ in range(self.rows.parts - 1):
            lines[:1] = tape.pop().adjoint(lines[0])
        ends = self._ends_of_parts()
        grid = worth.new_zeros(self.rows.parts, self.columns.parts, len(worth), len(ends), len(ends))
        for row in reversed(range(self.rows.parts)):
            parts = [lines[row]]
            for _ in range(self.columns.parts - 1):
                parts[:1] = tape.pop().adjoint(parts[0])
            for column, part in enumerate(parts):
                answers, inputs = (
                    torch.tensor(self._kept(ends, row, column, wanted), device=worth.device)
                    for wanted in (self.asked, self.fed)
                )
                grid[row, column][:, answers[:, None], inputs] = part
        # Blocks are symmetric, so only the symmetric part counts.
        found = [(0.5 * (grid + grid.mT)).flatten(0, 2)]
        for _ in _axes(self.rows, self.columns)[:-1]:
            pairs = [tape.pop().adjoint(each) for each in reversed(found)]
            found = [torch.cat(each) for each in zip(*reversed(pairs), strict=True)]
        return found

    def _ends_of_parts(self) -> Ends:
        lines = [self.rows.leaf, self.columns.leaf]
        ends = [_around(*lines, hides) for hides in self._roles(0)]
        for level, axis in enumerate(_axes(self.rows, self.columns)[:-1], 1):
            ends = [_meet(*ends, axis, lines[1 - axis], hides).ends for hides in self._roles(level)]
            lines[1 - axis] *= 2
        return ends[0]


class _Elimination(torch.autograd.Function):
    """`_Tree.matrix` with its explicit derivatives."""

    @staticmethod
    def forward(ctx: Any, tree: _Tree, conductances: Tensor, along_rows: Tensor, along_columns: Tensor) -> Tensor:
        ctx.tree = tree
        ctx.save_for_backward(conductances, along_rows, along_columns)
        return tree.matrix(conductances, along_rows, along_columns)

    @staticmethod
    def backward(ctx: Any, *worth: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *_Adjoint.apply(ctx.tree, *worth, *ctx.saved_tensors)  # pyright: ignore[reportReturnType]


class _Adjoint(torch.autograd.Function):
    """`_Tree.adjoint`; a function of its own because there the derivatives end."""

    @staticmethod
    def forward(ctx: Any, tree: _Tree, worth: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        cells, *along = tree.adjoint(worth, *given)
        return cells, *(each.sum(0, keepdim=True) for each in along)

    @staticmethod
    def backward(ctx: Any, *worth: Tensor) -> tuple[Tensor | None, ...]:
        raise NotAvailable(
            "effective conductances have no second derivatives", hint="take differences of the first derivatives"
        )


def _near_resistances(wires: Wires, conductances: Tensor) -> tuple[Tensor, Tensor]:
    """Resistance on the near side of each cell, on its row line and on its column line, (rows, cols) [ohm]."""
    rows, cols = conductances.shape[-2:]

    def lines(resistance: Ohms, shape: tuple[int, int], axis: int) -> Tensor:
        given = torch.as_tensor(resistance, dtype=conductances.dtype, device=conductances.device)
        return (given.unsqueeze(axis) if given.ndim == 1 else given).expand(shape)

    row = torch.cat([lines(wires.driver, (rows, 1), -1), lines(wires.row_line, (rows, cols - 1), -1)], 1)
    column = torch.cat([lines(wires.column_line, (rows - 1, cols), 0), lines(wires.sense, (1, cols), 0)], 0)
    return row, column


def _transfer(tree: _Tree, wires: Wires, along: tuple[Tensor, Tensor], conductances: Tensor, *, drawn: bool) -> Tensor:
    """W, or Y if `drawn`, of one chunk of tiles (tile, rows, cols) with the sensed ends of the columns first."""
    rows, cols = conductances.shape[-2:]
    matrix: Tensor = _Elimination.apply(tree, conductances, *along)  # pyright: ignore[reportAssignmentType]
    asked, fed = (tree.rows if drawn else tree.columns).lines, tree.rows.lines
    answer = matrix[:, :asked, :fed]
    if wires.far_driver is not None:
        # The far drivers deliver f: (r_far + R) f = V - S^T V.
        loop = -matrix[:, asked:, fed:]
        one = torch.eye(fed).to(loop)
        far = torch.as_tensor(wires.far_driver).to(loop)
        if far.ndim:  # of drivers that differ, with nothing at the lines that fill the tree
            far = torch.nn.functional.pad(far.flip(0), (0, fed - rows))
        loop = loop + far * one
        # Between drivers without any resistance the far one has nothing to add.
        loop = loop + torch.diag_embed((loop.diagonal(dim1=-2, dim2=-1) == 0).to(loop))
        delivered = torch.linalg.solve_ex(loop, one - matrix[:, asked:, :fed])[0]
        answer = answer - matrix[:, :asked, fed:] @ delivered
        if drawn:
            answer = answer + delivered
    return answer[:, :rows, :rows].flip(-1, -2) if drawn else answer[:, :cols, :rows].mT.flip(-2)


def _transfers(conductances: Tensor, wires: Wires, *, drawn: bool) -> Tensor:
    *tiles, rows, cols = conductances.shape
    if not conductances.numel():
        return conductances.new_zeros((*tiles, rows, rows if drawn else cols))
    flat = conductances.reshape(-1, rows, cols).flip(-2)
    row, column = (each.flip(0)[None] for each in _near_resistances(wires, flat))
    far = () if wires.far_driver is None else (FAR_ROWS,)
    asked = NEAR_ROWS if drawn else NEAR_COLUMNS
    tree = _Tree(_Grid.of(rows, _LEAF_ROWS), _Grid.of(cols, _LEAF_COLUMNS), (asked, *far), (NEAR_ROWS, *far))
    held = _HELD if flat.device.type == "cpu" else _HELD_ON_ACCELERATOR
    chunks = flat.split(max(1, held // (_NUMBERS_A_CELL * tree.rows.lines * tree.columns.lines)))
    answers = [_transfer(tree, wires, (row, column), chunk, drawn=drawn) for chunk in chunks]
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
