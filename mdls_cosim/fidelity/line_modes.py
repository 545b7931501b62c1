"""The wires of a tile alone: what drops along its lines, and the modes in which they and near-uniform cells separate.

Let j_ik be the current of the cell at row i and column k. Row line i carries it from the driver, column line k to the
sense node, so the cell sees

    w = V - R j,    (R j)_ik = sum_l P_kl j_il + sum_m Q_im j_mk,
    P_kl = r_d + r_w min(k, l),    Q_im = r_s + r_c min(N-1-i, N-1-m)        [ohm]

(of rows driven at both ends P_kl = a_min b_max/(a + b), a and b being the resistances from a cell to either driver)

exactly, zero resistances included: R is P on the row lines and Q on the column lines, side by side.

Cells of conductance 1/(alpha_i + beta_k) keep that form: R + diag(alpha_i + beta_k) is P + diag(beta) on the row
lines and Q + diag(alpha) on the column lines, and the eigenvectors of these two small matrices diagonalise it. Real
cells are not of that form; as the preconditioner of those that are, it is all but as good as their exact
factorisation, at the price of four small matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from mdls_cosim.fidelity.elimination import Wires


def on_rows(currents: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """Along the row lines: x_ik -> sum_l x_il M_lk, of (tiles, rows, inputs, cols)."""
    torch.bmm(currents.flatten(1, 2), matrix, out=out.view(len(out), -1, out.shape[-1]))
    return out


def on_columns(matrix: Tensor, currents: Tensor, out: Tensor) -> Tensor:
    """Along the column lines: x_ik -> sum_m M_im x_mk, of (tiles, rows, inputs, cols)."""
    torch.bmm(matrix, currents.flatten(2), out=out.view(*out.shape[:2], -1))
    return out


@dataclass(frozen=True)
class Lines:
    """R, the same for all tiles of a spec."""

    along_rows: Tensor  # P, (cols, cols) [ohm]
    along_columns: Tensor  # Q, (rows, rows) [ohm]

    @classmethod
    def of(cls, wires: Wires, rows: int, cols: int, like: Tensor) -> Lines:
        place = torch.arange(max(rows, cols)).to(like)
        from_start = torch.minimum(place[:, None], place)
        along_rows = wires.driver + wires.row_line * from_start[:cols, :cols]
        if wires.far_driver is not None:
            near = wires.driver + wires.row_line * place[:cols]
            far = wires.far_driver + wires.row_line * (cols - 1 - place[:cols])
            both = torch.minimum(near[:, None], near) * torch.minimum(far[:, None], far)
            along_rows = both / (near + far).clamp_min(torch.finfo(near.dtype).tiny)
        return cls(
            along_rows,
            wires.sense + wires.column_line * from_start[:rows, :rows].flip(0, 1),
        )

    @cached_property
    def single(self) -> Lines:
        """In single precision."""
        return Lines(self.along_rows.float(), self.along_columns.float())

    def drops(self, currents: Tensor, out: Tensor | None = None) -> Tensor:
        """R j [V] of cell currents (tiles, rows, inputs, cols) [A]; to `out` if given."""
        along = torch.matmul(currents, self.along_rows, out=out)
        return self._add_columns(along.flatten(2), currents, 1.0)

    def voltages(self, driven: Tensor, currents: Tensor) -> Tensor:
        """V - R j [V] over the cells, driven (tiles, rows, inputs, 1) [V]."""
        left = torch.addmm(driven.reshape(-1, 1), currents.reshape(-1, currents.shape[-1]), self.along_rows, alpha=-1)
        return self._add_columns(left.view(*currents.shape[:2], -1), currents, -1.0)

    def _add_columns(self, start: Tensor, currents: Tensor, factor: float) -> Tensor:
        along = self.along_columns.expand(len(currents), -1, -1)
        return start.baddbmm_(along, currents.flatten(2), alpha=factor).view(currents.shape)

    def felt(self, conductances: Tensor) -> float:
        """The largest eigenvalue of R g, about, of cells that conduct `conductances` (tiles, rows, cols) [S]: how much
        they feel of the wires."""
        means = (float(conductances.mean(over).amax()) for over in (-1, -2))
        return sum(eigenvalue * mean for eigenvalue, mean in zip(self._largest, means, strict=True))

    @cached_property
    def _largest(self) -> tuple[float, float]:
        """Eigenvalues of P and Q [ohm]."""
        of_rows, of_columns = (float(torch.linalg.eigvalsh(each)[-1]) for each in (self.along_rows, self.along_columns))
        return of_rows, of_columns


class Response(Protocol):
    """T = (1/R + g)^-1 of cells that conduct g, in single precision: what conjugate gradients are preconditioned by."""

    @property
    def conductances(self) -> Tensor | None:
        """g [S]; None: 0."""
        ...

    def respond(self, currents: Tensor, out: Tensor, room: Sequence[Tensor]) -> Tensor:
        """T x [V] of x (tiles, rows, inputs, cols) [A].

        Args:
            out, room: three tensors like `currents` to write to; nothing is allocated.
        """
        ...


@dataclass(frozen=True)
class Bare:
    """T = R: without any cells. Half the products of `Modes`, and as good where cells hardly feel the wires."""

    lines: Lines  # in single precision
    conductances: None = None

    def respond(self, currents: Tensor, out: Tensor, room: Sequence[Tensor]) -> Tensor:
        return self.lines.drops(currents, out)


# Least conductance of a line's cells on average, relative to the tile's, and of the tile's [S]: open cells count so.
_LEAST_SHARE = 1e-3
_LEAST_CONDUCTANCE = 1e-30
# Of the mean cell resistance that either kind of line has at least, so that both stay positive.
_LEAST_PART = 0.05


@dataclass(frozen=True)
class Modes:
    """A `Response` for g_ik = 1/(alpha_i + beta_k)."""

    resistances: Tensor  # alpha_i + beta_k, (tiles, rows, 1, cols) [ohm]
    conductances: Tensor  # their inverse g [S]
    filter: Tensor  # 1/eigenvalues of R + alpha_i + beta_k, (tiles, rows, 1, cols) [S]
    of_rows: Tensor  # eigenvectors along the row lines, (tiles, cols, cols)
    of_columns: Tensor  # along the column lines, (tiles, rows, rows)

    @classmethod
    def of(cls, lines: Lines, conductances: Tensor) -> Modes:
        """For cells that conduct about `conductances` (tiles, rows, cols) [S]: the lines' means are kept."""
        overall = conductances.mean((-2, -1), keepdim=True).clamp_min(_LEAST_CONDUCTANCE)
        alpha, beta = (
            (1 / torch.maximum(conductances.mean(over, keepdim=True), _LEAST_SHARE * overall) - 0.5 / overall).maximum(
                _LEAST_PART / overall
            )
            for over in (-1, -2)
        )
        along_rows, of_rows = torch.linalg.eigh(lines.along_rows + torch.diag_embed(beta[..., 0, :]))
        along_columns, of_columns = torch.linalg.eigh(lines.along_columns + torch.diag_embed(alpha[..., 0]))
        resistances = (alpha + beta)[..., :, None, :]
        eigenvalues = along_columns[..., :, None, None] + along_rows[..., None, None, :]
        return cls(*(each.float() for each in (resistances, 1 / resistances, 1 / eigenvalues, of_rows, of_columns)))

    def respond(self, currents: Tensor, out: Tensor, room: Sequence[Tensor]) -> Tensor:
        """T x = rho x - rho (R + rho)^-1 rho x, rho = alpha_i + beta_k."""
        one, other = room
        torch.mul(self.resistances, currents, out=out)
        on_rows(out, self.of_rows, one)
        on_columns(self.of_columns.mT, one, other).mul_(self.filter)
        on_columns(self.of_columns, other, one)
        on_rows(one, self.of_rows.mT, other)
        return out.addcmul_(self.resistances, other, value=-1)
