"""Leaves: blocks of a few cells whose matrices are built cell by cell.

A cell of conductance g between the far ends p and q of its row line and column line sees the voltage h^T x for inputs
x of the leaf, with h = H e and e = e_p + e_q, behind the resistance r = -e^T h. Its current changes the leaf's matrix
by a symmetric rank-one update (Sherman and Morrison, Ann. Math. Stat. 21, 124, 1950):

    H + g / (1 + g r) h h^T.

Before the update, the wire segments on the near side of the cell add their resistances to the diagonal of H. Many
leaves are built at the same time, with the leaves in the last dimension, so each number of a leaf is a vector.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mdls_cosim.fidelity.nested.block import FAR_COLUMNS, FAR_ROWS, NEAR_COLUMNS, NEAR_ROWS, Ends


class LeafBuilder:
    """Builds the matrices of `batch` leaves of rows x columns cells, column after column, row after row in each.

    Attributes:
        ends: ends of the matrices. Row line ends come first, then the two ends of each column line: a cell changes
            only entries in one leading square of the matrix.
        matrix: workspace for H, (ends, ends, batch).
    """

    def __init__(self, rows: int, columns: int, like: Tensor, batch: int) -> None:
        self.rows, self.batch = rows, batch
        self.ends: Ends = (
            *((NEAR_ROWS, i) for i in range(rows)),
            *((FAR_ROWS, i) for i in range(rows)),
            *((side, j) for j in range(columns) for side in (NEAR_COLUMNS, FAR_COLUMNS)),
        )
        size = len(self.ends)
        self.matrix = like.new_zeros(size, size, batch)
        self._one, self._scratch = like.new_ones(batch), like.new_empty(batch)
        self._response, self._current = like.new_empty(2, size, batch)
        opposite = [self.ends.index((side ^ 2, line)) for side, line in self.ends]
        self._through = [self.matrix[position, other] for position, other in enumerate(opposite)]

    def build(self, leaves: Tensor, responses: Tensor | None = None) -> Tensor:
        """Compute H, (ends, ends, batch), in the workspace; the next call overwrites it.

        Args:
            leaves: (3, cells, batch): conductances [S], then the resistances of the wire segments on the near side
                of each cell on its row line and on its column line [ohm].
            responses: (cells, ends, batch), receives each cell's voltage per input, with the cell in place.
        """
        self.matrix.zero_()
        for entry in self._through:
            entry.fill_(1.0)
        conductances, along_rows, along_columns = (part.unbind() for part in leaves)
        scratch, response_at = self._scratch, self._response.unbind()
        for column in range(len(conductances) // self.rows):
            # These steps are short: one unbind is cheaper than many selects.
            far_column, size = 2 * (self.rows + column) + 1, 2 * (self.rows + column + 1)
            present, response, current = self.matrix[:size, :size], self._response[:size], self._current[:size]
            lines, diagonal = present.unbind(), present.diagonal().unbind(-1)
            for row in range(self.rows):
                cell, far_row = column * self.rows + row, self.rows + row
                diagonal[far_row].sub_(along_rows[cell])
                diagonal[far_column].sub_(along_columns[cell])
                torch.add(lines[far_row], lines[far_column], out=response)
                # scratch = 1 + g r
                torch.add(response_at[far_row], response_at[far_column], out=scratch)
                torch.addcmul(self._one, conductances[cell], scratch, value=-1.0, out=scratch)
                if responses is not None:
                    torch.div(response, scratch, out=responses[cell, :size])
                torch.mul(response, torch.div(conductances[cell], scratch, out=scratch), out=current)
                present.addcmul_(current[:, None], response[None])
        return self.matrix

    def adjoint(self, cotangent: Tensor, conductances: Tensor, responses: Tensor) -> Tensor:
        """Cotangents of conductances and resistances, (3, cells, batch).

        With the response w of a cell, the cotangent B of H gives dL/dg = w^T B w. The current g w of the cell is a
        further input of both of its lines, which carries B back to the H before the cell.

        Args:
            cotangent: of H, (ends, ends, batch), symmetric; overwritten, as is the workspace.
            conductances: (cells, batch) [S].
            responses: as `build` wrote them.
        """
        result = conductances.new_empty(3, *conductances.shape)
        diagonal = cotangent.diagonal().unbind(-1)
        for cell in reversed(range(len(conductances))):
            column, row = divmod(cell, self.rows)
            far_row, far_column, size = self.rows + row, 2 * (self.rows + column) + 1, 2 * (self.rows + column + 1)
            conductance, response = conductances[cell], responses[cell, :size]
            products = torch.mul(cotangent[:size, :size], response, out=self.matrix[:size, :size])
            weighted = torch.sum(products, 1, out=self._current[:size])
            torch.sum(torch.mul(weighted, response, out=self._response[:size]), 0, out=result[0, cell])
            weighted *= conductance
            half = 0.5 * conductance.square() * result[0, cell]
            weighted[far_row].add_(half)
            weighted[far_column].add_(half)
            for line in (far_row, far_column):
                cotangent[line, :size].add_(weighted)
                cotangent[:size, line].add_(weighted)
            torch.neg(diagonal[far_row], out=result[1, cell])
            torch.neg(diagonal[far_column], out=result[2, cell])
        return result


@lru_cache(maxsize=64)
def ends_around(rows: int, columns: int, next_side: int) -> Ends:
    """Ends of a leaf in clockwise order, starting in the middle of the side that its first join connects.

    In this order the free ends of a join are consecutive, so the matrices are copied in few pieces.
    """
    clockwise = {
        NEAR_COLUMNS: [(NEAR_COLUMNS, j) for j in range(columns)],
        FAR_ROWS: [(FAR_ROWS, i) for i in range(rows)],
        FAR_COLUMNS: [(FAR_COLUMNS, j) for j in reversed(range(columns))],
        NEAR_ROWS: [(NEAR_ROWS, i) for i in reversed(range(rows))],
    }
    sides = list(clockwise)
    start, middle = sides.index(next_side), len(clockwise[next_side]) // 2
    ends = [end for side in sides[start:] + sides[:start] for end in clockwise[side]]
    return tuple(ends[middle:] + ends[:middle])
