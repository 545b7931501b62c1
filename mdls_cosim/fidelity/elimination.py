"""Exact block elimination of a tile of linear cells: one factorisation, every input.

N row lines, M column lines, nodes u_ij (row line) and v_ij (column line), cells of conductance g_ij between them.

1. Column lines. Column line j is a ladder of its wire segments with the sense resistance at its end. With the row
   line nodes u_j as given, v_j = K_j (D_j u_j + n_j), where D_j = diag(g_.j), n_j are currents that a source injects
   from u_j into v_j, and K_j is the ladder's resistance matrix. What is left for the row-line nodes is the dense
   admittance S_j = D_j - D_j K_j D_j, and the sensed current is I_j = tau_j (D_j u_j + n_j), tau_ij being the share
   of a current into node i that reaches the sense node.
2. Row lines. The columns are joined by wires of one resistance r_w, so seen from the driver side the tile is a
   block ladder: Y_j = S_j + Y_{j+1} Q_{j+1} with Q_{j+1} = (I + r_w Y_{j+1})^-1, u_{j+1} = Q_{j+1} u_j, and at the
   driver u_0 = (I + r_d Y_0)^-1 V.

Everything is written with resistances, never with wire conductances: zero resistance is the exact limit of the same
formulas (Q = I, K = 0, tau = 1) and needs neither merged nodes nor large numbers. The ladder is a chain of sums,
products and quotients of positive numbers, so nothing cancels. About 3 M N^3 multiplications in dense batched
kernels. Differentiable in the conductances and in the resistances.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.tiles import RESISTANCES, TileSpec

Ohms = float | Tensor


@dataclass(frozen=True)
class Wires:
    """The resistances of a tile [ohm]; tensors where they are differentiated or differ.

    One for all lines, or one for each, (rows,) or (cols,); `nested` also takes one for each segment of the lines'
    wires, (rows, cols - 1) and (rows - 1, cols).
    """

    row_line: Ohms
    column_line: Ohms
    driver: Ohms
    sense: Ohms
    far_driver: Ohms | None = None
    """Of a second driver of the same voltage at the far end of each row line; None: there is none."""

    @classmethod
    def of(cls, spec: TileSpec) -> Wires:
        """At the tile's temperature; an amplifier's input resistance R_f/(1 + gain) counts to the sense side."""
        row_line, column_line, driver, sense = (
            torch.tensor(given, dtype=torch.float64) if isinstance(given, tuple) else given
            for given in (getattr(spec, name) for name in RESISTANCES)
        )
        return cls(
            row_line * spec.wire_factor,
            column_line * spec.wire_factor,
            driver,
            sense + (spec.amplifier.input_resistance if spec.amplifier is not None else 0.0),
            driver if spec.drive == "double" else None,
        )

    def to(self, like: Tensor) -> Wires:
        """Where, and in the dtype in which, `like` is."""
        found = (getattr(self, field.name) for field in fields(self))
        return Wires(*(each.to(like) if isinstance(each, Tensor) else each for each in found))

    def mean_rise(self, rows: int, like: Tensor) -> Tensor:
        """R_i [ohm]: by how much a column's current raises its line at row i, if it enters evenly; (rows, 1), or
        (rows, cols) of columns that differ.

        The sense resistance and half of the wire below the row.
        """
        below = torch.arange(rows - 1, -1, -1, dtype=like.dtype, device=like.device)[:, None]
        here = self.to(like)
        return here.sense + 0.5 * below * here.column_line

    def mirrored(self) -> Wires:
        """Of the tile read the other way round: rows as columns, drivers as sense nodes."""
        four = (self.column_line, self.row_line, self.sense, self.driver)
        return Wires(*(each.flip(0) if isinstance(each, Tensor) and each.ndim else each for each in four))


def mirror(per_cell: Tensor) -> Tensor:
    """(…, rows, cols) seen from the sense side: (…, cols, rows), the sensed end first and the driven end last."""
    return per_cell.flip(-1, -2).transpose(-1, -2)


@dataclass(frozen=True)
class ColumnLines:
    """The eliminated column lines of a tile; column index before row index throughout.

    A ladder's resistance matrix has two generators: K_ab = rising_a * falling_b for a <= b, and K is symmetric.
    """

    conductances: Tensor  # D_j, (*tiles, cols, rows) [S]
    rising: Tensor  # (*tiles, cols, rows)
    falling: Tensor  # (*tiles, cols, rows) [ohm]
    own: Tensor  # diagonal of S_j, (*tiles, cols, rows) [S]
    shares: Tensor  # tau, (*tiles, cols, rows)

    @cached_property
    def rising_currents(self) -> Tensor:
        return self.conductances * self.rising

    @cached_property
    def falling_currents(self) -> Tensor:
        return self.conductances * self.falling

    @property
    def outputs(self) -> Tensor:
        """The sensed current as a function of the row-line voltages alone: I_j = outputs_j . u_j [S]."""
        return self.shares * self.conductances

    def reshape(self, *tiles: int) -> ColumnLines:
        """The same columns with other leading dimensions."""
        return ColumnLines(
            *(
                each.reshape(*tiles, *each.shape[-2:])
                for each in (self.conductances, self.rising, self.falling, self.own, self.shares)
            )
        )

    def resistances(self) -> Tensor:
        """K_j of every column, (*tiles, cols, rows, rows) [ohm]."""
        upper = (self.rising[..., :, None] * self.falling[..., None, :]).triu()
        return upper + upper.triu(1).mT

    def admittance(self, col: int) -> Tensor:
        """S_j of one column, (*tiles, rows, rows) [S]: S_ab = -g_a K_ab g_b, and `own` on the diagonal."""
        rising, falling = self.rising_currents.select(-2, col), self.falling_currents.select(-2, col)
        # K_ab is the smaller of rising_a * falling_b and rising_b * falling_a, as falling / rising falls along a line.
        admittance = torch.maximum(
            -rising[..., :, None] * falling[..., None, :], falling[..., :, None] * -rising[..., None, :]
        )
        admittance.diagonal(dim1=-2, dim2=-1).copy_(self.own.select(-2, col))
        return admittance


# Along a column line of long, resistive wire voltages decay exponentially, and the generators span the inverse of
# that decay. Half of float64's range either way is far beyond any circuit that could be read.
_LARGEST_DECAY = 1300.0


def eliminate_column_lines(conductances: Tensor, segment: Ohms, sense: Ohms) -> ColumnLines:
    """Step 1 for every column at once.

    Args:
        conductances: (*tiles, cols, rows) [S].
        segment, sense: wire segment and sense resistance [ohm], of all columns or (cols,).

    Raises:
        InputError: a column line so resistive that its far end is cut off.
    """
    shunts = conductances.unbind(-1)
    zero = torch.zeros_like(shunts[0])
    # Looking away from the sense node: admittance of what lies above a node, and the ratio v_a / v_{a+1} when the
    # current enters at or below a + 1.
    above = [zero]
    ratios = [torch.ones_like(zero)]
    for shunt in shunts[:-1]:
        through = above[-1] + shunt
        ratio = 1 / (1 + segment * through)
        above.append(through * ratio)
        ratios.append(ratio)
    # Looking towards the sense node: resistance of what lies below, and the share of a current that gets past a node.
    below = [zero + sense]
    passing = [torch.ones_like(zero)]
    for shunt in reversed(shunts[1:]):
        share = 1 / (1 + shunt * below[-1])
        passing.append(share)
        below.append(segment + below[-1] * share)
    above = torch.stack(above, -1)
    below = torch.stack(below[::-1], -1)
    at_node = 1 / (1 + (above + conductances) * below)
    shares = at_node * torch.stack(passing, -1).cumprod(-1).flip(-1)
    # K_aa = below * at_node, and K_ab = K_bb * (product of the ratios between a and b) for a <= b.
    decay = torch.stack(ratios, -1).log().cumsum(-1)
    largest = float(-decay.detach().min()) if decay.numel() else 0.0
    if largest > _LARGEST_DECAY:
        raise InputError(
            "a column line cuts its far end off: the voltage along it decays by a factor beyond double precision",
            value=f"exp({largest:.0f})",
            limit=f"exp({_LARGEST_DECAY:.0f})",
            hint="check the wire resistance and the conductances for a wrong unit",
        )
    decay = decay - decay[..., -1:] / 2
    return ColumnLines(
        conductances=conductances,
        rising=(-decay).exp(),
        falling=below * at_node * decay.exp(),
        # g_a - g_a^2 K_aa without the subtraction.
        own=conductances * (1 + above * below) * at_node,
        shares=shares,
    )


# Above this size LU is faster than Cholesky on a CPU, in spite of twice the arithmetic.
_CHOLESKY_SIZE = 64


def _spread(resistance: Ohms, admittance: Tensor) -> Tensor:
    """(I + r Y)^-1 for symmetric, positive semidefinite Y (tiles, n, n): positive definite at every r >= 0.

    Of lines that differ, r is (n, 1) and what is inverted has no symmetry.
    """
    matrix = _shifted(resistance, admittance)
    if matrix.shape[-1] > _CHOLESKY_SIZE or (isinstance(resistance, Tensor) and resistance.ndim):
        return torch.linalg.inv_ex(matrix)[0]
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix)[0])


def _shifted(resistance: Ohms, admittance: Tensor) -> Tensor:
    """I + r Y."""
    matrix = admittance * resistance
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
    return matrix


@dataclass(frozen=True)
class Sweep:
    """A factorised tile of linear cells: solves any row voltages and cell current sources by matrix products."""

    wires: Wires  # of rows that differ as (rows, 1)
    columns: ColumnLines
    resistances: Tensor  # K_j, (*tiles, cols, rows, rows)
    onwards: Tensor  # Q_j, (cols, *tiles, rows, rows), symmetric where rows are equal; Q_0 is behind the drivers

    def solve(self, voltages: Tensor, injected: Tensor) -> tuple[Tensor, Tensor]:
        """Cell voltages and column currents.

        Args:
            voltages: (*tiles, rows, batch) [V].
            injected: (*tiles, cols, rows, batch) [A], drawn from the row line and given to the column line.

        Returns:
            u - v (*tiles, cols, rows, batch) [V] and I (*tiles, cols, batch) [A].
        """
        lines, wires = self.columns, self.wires
        conductances = lines.conductances[..., None]
        lifted = self.resistances @ injected
        drawn = injected - conductances * lifted
        # From the far end to the drivers: what the injected currents draw beyond each column.
        beyond = [drawn.select(-3, -1)]
        for col in range(drawn.shape[-3] - 2, -1, -1):
            beyond.append(drawn.select(-3, col) + self.onwards[col + 1].mT @ beyond[-1])
        beyond.reverse()
        # And back, with the row-line voltages.
        nodes = [self.onwards[0] @ (voltages - wires.driver * beyond[0])]
        for onward, draws in zip(self.onwards[1:], beyond[1:], strict=True):
            nodes.append(onward @ (nodes[-1] - wires.row_line * draws))
        rows = torch.stack(nodes, -3)
        through = conductances * rows
        cell_voltages = rows - self.resistances @ through - lifted
        currents = (lines.shares[..., None] * (through + injected)).sum(-2)
        return cell_voltages, currents

    def responses(self) -> tuple[Tensor, Tensor]:
        """What each input does on its own, both (*tiles, rows, cols).

        Returns:
            the effective conductances W [S], and the share of input i's voltage that lies over cell (i, j) when the
            other rows are at 0 V.
        """
        lines = self.columns
        nodes, effective, shares = None, [], []
        for col, onward in enumerate(self.onwards):
            nodes = onward if nodes is None else onward @ nodes  # row-line voltages at this column, by input
            effective.append((lines.outputs.select(-2, col)[..., None] * nodes).sum(-2))
            through = self.resistances.select(-3, col) * lines.conductances.select(-2, col)[..., None, :]
            # diag(u - K D u)
            shares.append(nodes.diagonal(dim1=-2, dim2=-1) - (through * nodes.mT).sum(-1))
        return torch.stack(effective, -1), torch.stack(shares, -1)


def factorise(conductances: Tensor, wires: Wires) -> Sweep:
    """Everything that `Sweep` needs, for conductances (*tiles, rows, cols) [S].

    Raises:
        NotAvailable: rows driven at both ends, or segments of one line that differ.
    """
    wires = wires.to(conductances)
    four = (wires.row_line, wires.column_line, wires.driver, wires.sense)
    if wires.far_driver is not None or any(isinstance(each, Tensor) and each.ndim > 1 for each in four):
        raise NotAvailable(
            "the sweep along the columns knows lines of equal segments, driven at one end only",
            hint="of ohmic cells the currents and the power are available",
        )
    # Of rows that differ, a column: it scales what stands in rows.
    row_line, driver = (
        each[:, None] if isinstance(each, Tensor) and each.ndim else each for each in (wires.row_line, wires.driver)
    )
    wires = replace(wires, row_line=row_line, driver=driver)
    *tiles, rows, cols = conductances.shape
    flat = conductances.reshape(-1, rows, cols)
    columns = eliminate_column_lines(flat.mT, wires.column_line, wires.sense)
    admittance, onwards = columns.admittance(cols - 1), []
    for col in range(cols - 2, -1, -1):
        onwards.append(_spread(wires.row_line, admittance))
        admittance = columns.admittance(col).baddbmm_(admittance, onwards[-1])
    onwards.append(_spread(wires.driver, admittance))
    return Sweep(
        wires,
        columns.reshape(*tiles),
        columns.resistances().reshape(*tiles, cols, rows, rows),
        torch.stack(onwards[::-1]).reshape(cols, *tiles, rows, rows),
    )
