"""Transfer matrices of tiles from their elimination, with explicit first derivatives.

The tiles are mirrored top to bottom for the elimination, because the sensed ends of the column lines are below the
last row and `block` counts lines and cells from the near ends.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mdls_cosim.errors import NotAvailable
from mdls_cosim.fidelity.elimination import Ohms, Wires
from mdls_cosim.fidelity.nested.block import FAR_ROWS, NEAR_COLUMNS, NEAR_ROWS
from mdls_cosim.fidelity.nested.tree import Cut, Tree

# Numbers in the blocks of the tiles that are eliminated together: what fits the caches of a processor, and a bound on
# the memory of an accelerator.
_NUMBERS_PER_CHUNK = 1_100_000
_NUMBERS_PER_CHUNK_ON_ACCELERATOR = 60_000_000
# A block of n x n cells has a matrix of (4 n)^2 numbers.
_NUMBERS_PER_CELL = 16
_LEAF_ROWS = (3, 4, 5)
_LEAF_COLUMNS = (6, 7, 8, 9, 10)


def effective_conductances(conductances: Tensor, wires: Wires) -> Tensor:
    """Effective conductance matrix W: row voltages V give the sensed currents I = V W.

    Computed in the dtype of `conductances`. The relative error of each entry is about 1e-14 in float64 and 1e-6 in
    float32. Differentiable once in conductances and resistances.

    Args:
        conductances: (*tiles, rows, cols) [S].
        wires: resistances of the tiles [ohm].

    Returns:
        (*tiles, rows, cols) [S].
    """
    return _transfer_matrices(conductances, wires, of_drivers=False)


def drawn_conductances(conductances: Tensor, wires: Wires) -> Tensor:
    """Driver conductance matrix Y: row voltages V draw the currents Y V and the power V^T Y V from the drivers.

    With drivers at both ends of the rows, the currents are the sums of both ends. Differentiable once in conductances
    and resistances.

    Args:
        conductances: (*tiles, rows, cols) [S].
        wires: resistances of the tiles [ohm].

    Returns:
        (*tiles, rows, rows) [S], symmetric.
    """
    return _transfer_matrices(conductances, wires, of_drivers=True)


class _Elimination(torch.autograd.Function):
    """`Tree.matrix` with its explicit first derivatives."""

    @staticmethod
    def forward(ctx: Any, tree: Tree, conductances: Tensor, along_rows: Tensor, along_columns: Tensor) -> Tensor:
        ctx.tree = tree
        ctx.save_for_backward(conductances, along_rows, along_columns)
        return tree.matrix(conductances, along_rows, along_columns)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *_Adjoint.apply(ctx.tree, *cotangents, *ctx.saved_tensors)  # pyright: ignore[reportReturnType]


class _Adjoint(torch.autograd.Function):
    """`Tree.adjoint` as a function of its own, so that a second derivative raises NotAvailable."""

    @staticmethod
    def forward(ctx: Any, tree: Tree, cotangent: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        cells, *along = tree.adjoint(cotangent, *inputs)
        return cells, *(of_tiles.sum(0, keepdim=True) for of_tiles in along)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        raise NotAvailable(
            "effective conductances have no second derivatives", hint="take differences of the first derivatives"
        )


def _near_resistances(wires: Wires, conductances: Tensor) -> tuple[Tensor, Tensor]:
    """Resistances on the near side of each cell, on its row line and on its column line, each (rows, cols) [ohm].

    Those of the first cells of the lines are the driver and sense resistances.
    """
    rows, cols = conductances.shape[-2:]

    def expanded(resistance: Ohms, shape: tuple[int, int], axis: int) -> Tensor:
        values = torch.as_tensor(resistance, dtype=conductances.dtype, device=conductances.device)
        return (values.unsqueeze(axis) if values.ndim == 1 else values).expand(shape)

    row = torch.cat([expanded(wires.driver, (rows, 1), -1), expanded(wires.row_line, (rows, cols - 1), -1)], 1)
    column = torch.cat([expanded(wires.column_line, (rows - 1, cols), 0), expanded(wires.sense, (1, cols), 0)], 0)
    return row, column


def _far_driver_currents(matrix: Tensor, wires: Wires, rows: int, outputs: int, inputs: int) -> Tensor:
    """Currents f of the far drivers per row voltage, (tile, inputs, inputs) [S].

    The far ends of the row lines are at S^T V + R f and at V - r_far f, so (r_far + R) f = V - S^T V.

    Args:
        matrix: hybrid matrix of each tile, whose last `inputs` outputs and inputs are the far ends.
        rows: number of rows without padding.
        outputs, inputs: positions in the matrix at which the far ends begin.
    """
    loop = -matrix[:, outputs:, inputs:]
    one = torch.eye(inputs).to(loop)
    far = torch.as_tensor(wires.far_driver).to(loop)
    if far.ndim:  # one resistance per line; zero for the padding
        far = functional.pad(far.flip(0), (0, inputs - rows))
    loop = loop + far * one
    # On a line without any resistance, both drivers are at the same node, and the far one delivers no current.
    loop = loop + torch.diag_embed((loop.diagonal(dim1=-2, dim2=-1) == 0).to(loop))
    return torch.linalg.solve_ex(loop, one - matrix[:, outputs:, :inputs])[0]


def _transfer_matrix(
    tree: Tree, wires: Wires, along: tuple[Tensor, Tensor], conductances: Tensor, *, of_drivers: bool
) -> Tensor:
    """Y if `of_drivers`, otherwise W, of one chunk of mirrored tiles (tile, rows, cols)."""
    rows, cols = conductances.shape[-2:]
    matrix: Tensor = _Elimination.apply(tree, conductances, *along)  # pyright: ignore[reportAssignmentType]
    outputs, inputs = (tree.rows if of_drivers else tree.columns).lines, tree.rows.lines
    result = matrix[:, :outputs, :inputs]
    if wires.far_driver is not None:
        delivered = _far_driver_currents(matrix, wires, rows, outputs, inputs)
        result = result - matrix[:, :outputs, inputs:] @ delivered
        if of_drivers:
            result = result + delivered
    return result[:, :rows, :rows].flip(-1, -2) if of_drivers else result[:, :cols, :rows].mT.flip(-2)


def _transfer_matrices(conductances: Tensor, wires: Wires, *, of_drivers: bool) -> Tensor:
    """Y if `of_drivers`, otherwise W, of all tiles (*tiles, rows, cols), chunk by chunk."""
    *tiles, rows, cols = conductances.shape
    if not conductances.numel():
        return conductances.new_zeros((*tiles, rows, rows if of_drivers else cols))
    mirrored = conductances.reshape(-1, rows, cols).flip(-2)
    row, column = (resistances.flip(0)[None] for resistances in _near_resistances(wires, mirrored))
    far = () if wires.far_driver is None else (FAR_ROWS,)
    output_side = NEAR_ROWS if of_drivers else NEAR_COLUMNS
    tree = Tree(Cut.of(rows, _LEAF_ROWS), Cut.of(cols, _LEAF_COLUMNS), (output_side, *far), (NEAR_ROWS, *far))
    numbers = _NUMBERS_PER_CHUNK if mirrored.device.type == "cpu" else _NUMBERS_PER_CHUNK_ON_ACCELERATOR
    chunks = mirrored.split(max(1, numbers // (_NUMBERS_PER_CELL * tree.rows.lines * tree.columns.lines)))
    results = [_transfer_matrix(tree, wires, (row, column), chunk, of_drivers=of_drivers) for chunk in chunks]
    return torch.cat(results).reshape(*tiles, rows, -1)
