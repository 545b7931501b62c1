"""Non-linear tiles: the exact linear part, a series for each row alone, and the rise of the column lines.

For cells of current i(w) = sum of A_n w^n, n = 1 ... 5 (`cell_series`), perturbation about the linear tile gives

    I_add = V W + sum of V^n W_n,                           each row on its own, n = 2 ... 5
    r     = (V + rho_2 V^2 + rho_3 V^3) Y                   rise of each column line
    I     = I_add - r * (V X_2 + V^2 X_3) + r^2 * (q_2 + q_3 I_add)

(powers and * element by element): what a row does on its own, and what the rows take off each other's cells. All
matrices follow from two responses of the linear tile, both exact, sneak paths and row lines included: T, the voltage
over every cell under each input, and B, the share of a current through every cell that each output senses.

- W_n = B c_n: the excess current c_n V^n of every cell under its own row's input (`driven_series`).
- The cells of row i react to another input k by their slope's excess, s_n V_i^(n-1), times T_k. Summed over the row's
  cells with B, that is for each output one matrix (i, k). Its closest product of a factor of i and a factor of k,
  which a few power iterations find, gives Y (of k, scaled to volts) and X_n (of i): a line's resistance is mostly
  common to its cells.
- Excess currents raise the column lines too: rho_n is the row's excess in proportion to its linear current.
- q_2 and q_3 are the second order of the rise; what a product with r counts of a row's own input is taken off W_n.

For odd laws all even matrices are zero and are left out: five matmuls a read. Ten numbers are fitted to SPICE. All
are 1 in perturbation theory and stay near it; they stand for the orders left out. Everything is bounded at g = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mdls_cosim.errors import InputError
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.fidelity.elimination import Sweep, Wires, factorise, mirror
from mdls_cosim.fidelity.interface import check_voltages
from mdls_cosim.surrogates.cell_series import ORDER, cell_series, driven_series
from mdls_cosim.surrogates.series_power import SeriesPower
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate
from mdls_cosim.tiles import TileSpec

START = {
    "fifth": (1.0,),  # the direct part of W_5
    "feedback": (1.0, 1.0, 1.0),  # what the excess current's own drop adds to W_3, W_4, W_5
    "slope": (1.0, 1.0, 1.0),  # X_2, X_3, and the fifth order's part of X_3
    "rise": (1.0, 1.0),  # rho_2, rho_3
    "square": (1.0, 1.0),  # q_2, q_3
}
"""Coefficients of plain perturbation theory, before any fit. `amplitude`, the largest voltage [V], comes to them."""

# Numbers held in one array while tiles are programmed.
_CHUNK = 4_000_000
# Each gains a factor of the ratio of the first two singular values squared, ten or more.
_POWER_ITERATIONS = 3
# Keeps quotients of zeros zero, far below any square of a conductance, and their derivatives finite.
_TINY = 1e-60


class SeriesSurrogate(Surrogate):
    """The series above; `coefficients` as in `START`, and `amplitude` [V]."""

    kind: ClassVar[str] = "series_2"

    def __init__(self, spec: TileSpec, *, coefficients: Mapping[str, tuple[float, ...]], **arguments: Any) -> None:
        expected = {**{name: len(values) for name, values in START.items()}, "amplitude": 1}
        if {name: len(values) for name, values in coefficients.items()} != expected:
            raise InputError(
                "coefficients of another form of series",
                value=", ".join(f"{name} ({len(values)})" for name, values in coefficients.items()) or "none",
                limit=", ".join(f"{name} ({count})" for name, count in expected.items()),
                hint="fit the surrogate again: mdls-cosim fit DATA.h5 --out SURROGATE.h5",
            )
        super().__init__(spec, coefficients=coefficients, **arguments)

    def _program(self, conductances: Tensor) -> ProgrammedSurrogate:
        return _ProgrammedSeries(self, conductances)


@dataclass(frozen=True)
class Matrices:
    """All that a read needs; powers of V are stacked along the rows."""

    even: bool  # all powers of V, not only the odd ones
    additive: Tensor  # W, W_2 ... W_5, (*tiles, powers rows, cols)
    rise: Tensor  # Y, (*tiles, rows, cols)
    excess: tuple[Tensor, Tensor]  # rho_2 [1/V] and rho_3 [1/V^2], (*tiles, 1, rows)
    slope: Tensor  # -X_2 and -X_3, (*tiles, powers rows, cols)
    squares: tuple[Tensor, Tensor]  # q_2 [A/V^2] and q_3 [1/V^2], (*tiles, 1, cols)

    def to(self, like: Tensor) -> Matrices:
        """In the dtype and on the torch device of `like`."""
        return Matrices(
            self.even,
            self.additive.to(like),
            self.rise.to(like),
            (self.excess[0].to(like), self.excess[1].to(like)),
            self.slope.to(like),
            (self.squares[0].to(like), self.squares[1].to(like)),
        )

    def currents(self, voltages: Tensor) -> Tensor:
        """The series for voltages (*tiles, batch, rows): (*tiles, batch, cols)."""
        square = voltages.square()
        cube = square * voltages
        drive = torch.addcmul(voltages, cube, self.excess[1])
        if self.even:
            powers = torch.cat([voltages, square, cube, square.square(), cube * square], -1)
            drive = torch.addcmul(drive, square, self.excess[0])
            slope = powers[..., : 2 * voltages.shape[-1]] @ self.slope
        else:
            powers = torch.cat([voltages, cube, cube * square], -1)
            slope = square @ self.slope
        additive = powers @ self.additive
        rise = drive @ self.rise
        # In place on fresh products, which no gradient looks at again.
        slope.addcmul_(rise * additive, self.squares[1])
        if self.even:
            slope.addcmul_(rise, self.squares[0])
        return torch.addcmul(additive, rise, slope)


class Terms:
    """What the matrices are made of, before any coefficient: exact, from the linear tile.

    Attributes:
        effective: W, (*tiles, rows, cols) [S].
        alpha: share of row i's voltage over cell (i, j) when the other rows are at 0 V.
        direct, feedback: the two parts of W_2 ... W_5, by order.
        rise: Y.
        slopes: X_2, X_3 and the fifth order's part of X_3.
        row_excess: rho_2 and rho_3.
        squares: q_2 and q_3.
    """

    def __init__(self, spec: TileSpec, conductances: Tensor, amplitude: float) -> None:
        law = cell_law(spec)
        assert spec.device is not None  # else there is no law
        states = spec.device.state_for(conductances.double(), spec.reference_voltage)
        cell = cell_series(law, states, amplitude)
        self.even = any(bool(cell[order - 1].any()) for order in (2, 4))
        tiles, rows, cols = states.shape[:-2], spec.rows, spec.cols
        step = max(1, _CHUNK // (rows * cols * max(rows, cols)))
        wires = Wires.of(spec)
        flat = torch.stack(cell).reshape(ORDER, -1, rows, cols)
        parts = [torch.stack(_some_terms(part, wires, amplitude)) for part in flat.split(step, 1)]
        found = torch.cat(parts, 1)
        found = found.reshape(len(found), *tiles, rows, cols)
        self.effective, self.alpha, beta, self.rise = found[:4]
        self.direct, self.feedback, self.slopes = (
            dict(zip(range(2, ORDER + 1), found[4:8], strict=True)),
            dict(zip(range(2, ORDER + 1), found[8:12], strict=True)),
            tuple(found[12:15]),
        )
        by_row = self.effective.sum(-1).clamp_min(_TINY)
        self.row_excess = tuple((self.direct[order].sum(-1) / by_row)[..., None, :] for order in (2, 3))
        by_col = self.effective.sum(-2, keepdim=True).clamp_min(_TINY)
        self.squares = (
            (cell[1] * beta).sum(-2, keepdim=True),
            3 * (cell[2] * beta * self.alpha).sum(-2, keepdim=True) / by_col,
        )

    def matrices(self, coefficients: Mapping[str, Any]) -> Matrices:
        """With coefficients as in `START`: numbers, or tensors where they are fitted."""
        own = {
            order: self.direct[order] + (coefficients["feedback"][order - 3] * self.feedback[order] if order > 2 else 0)
            for order in range(2, ORDER + 1)
        }
        own[5] = own[5] + (coefficients["fifth"][0] - 1) * self.direct[5]
        second, third, fifth = (each * self.slopes[place] for place, each in enumerate(coefficients["slope"]))
        third = third + fifth
        excess = tuple(each * self.row_excess[place] for place, each in enumerate(coefficients["rise"]))
        squares = tuple(each * self.squares[place] for place, each in enumerate(coefficients["square"]))
        # The rise is that of the other rows: what the products count of a row's own input is taken off.
        rise, (by_square, by_cube) = self.rise, (each.mT for each in excess)
        reduced = second - 2 * squares[0] * rise
        own[2] = own[2] + (second - squares[0] * rise) * rise
        own[3] = own[3] + (third - squares[1] * rise * self.effective + reduced * by_square) * rise
        own[4] = own[4] + (third * by_square + reduced * by_cube) * rise
        own[5] = own[5] + third * by_cube * rise
        orders, slopes = (range(2, ORDER + 1), (second, third)) if self.even else (range(3, ORDER + 1, 2), (third,))
        return Matrices(
            self.even,
            torch.cat([self.effective, *(own[order] for order in orders)], -2),
            rise,
            (excess[0], excess[1]),
            -torch.cat(slopes, -2),
            (squares[0], squares[1]),
        )


def _some_terms(cell: Tensor, wires: Wires, amplitude: float) -> list[Tensor]:
    """The terms (15, tiles, rows, cols) of cells whose coefficients are (order, tiles, rows, cols)."""
    # (tile, row, col, input) [V/V] and (tile, row, col, output) [A/A]: by reciprocity, the voltages over the cells
    # of the tile read the other way round are the shares of their currents.
    voltages, effective = _responses(factorise(cell[0], wires))
    shares, _ = _responses(factorise(mirror(cell[0]), wires.mirrored()))
    shares = shares.transpose(1, 2).flip(1, 2, 3)
    alpha, beta = voltages.diagonal(dim1=1, dim2=3).mT, shares.diagonal(dim1=2, dim2=3)
    excess, across = driven_series(cell.unbind(), alpha)
    direct = [cell[order - 1] * alpha**order for order in range(1, ORDER + 1)]
    # Slope of the excess current at its own row's input, by power of V.
    slopes = [
        2 * cell[1] * alpha,
        3 * cell[2] * alpha**2,
        amplitude**2 * (5 * cell[4] * alpha**4 + 6 * cell[2] * alpha * across[2]),
    ]
    weight = torch.stack(
        [order * direct[order - 1].abs() * amplitude ** (order - 1) for order in range(2, ORDER + 1)]
    ).sum(0)
    weight = weight / alpha

    rows = alpha.shape[-2]
    others = 1 - torch.eye(rows, dtype=alpha.dtype, device=alpha.device)
    foreign = voltages * others[:, None, :]
    rise = _rise(shares.mT @ (weight[..., None] * foreign), others, (weight * beta).sum(1))
    # Each cell's voltage under the other inputs, in proportion to the rise of each output's line: negative.
    seen = (foreign @ rise[:, None]) / (others @ rise.square()).clamp_min(_TINY)[:, :, None]
    feedback = [each - plain for each, plain in zip(excess[1:], direct[1:], strict=True)]
    return [
        effective,
        alpha,
        beta,
        rise,
        # What each output senses of currents through the cells of each row.
        *(shares.mT @ torch.stack([*direct[1:], *feedback], -1)).unbind(-1),
        *(-(shares * seen).mT @ torch.stack(slopes, -1)).unbind(-1),
    ]


def _rise(reaction: Tensor, others: Tensor, weight: Tensor) -> Tensor:
    """Y (tile, rows, cols): the factor of the driving input in each output's reaction (tile, row, col, input).

    The other factor x, of the reacting row, is scaled to the sum `weight` (tile, cols), what a rise of 1 V does: so
    Y is in V/V. Pairs of a row with itself do not count.
    """
    by_output = reaction.transpose(1, 2).contiguous()
    row = by_output.sum(-1)  # (tile, col, row), as `driving` is (tile, col, input)
    driving = row
    for _ in range(_POWER_ITERATIONS):
        driving = (row[..., None, :] @ by_output)[..., 0, :] / (row.square() @ others).clamp_min(_TINY)
        row = (by_output @ driving[..., None])[..., 0] / (driving.square() @ others).clamp_min(_TINY)
    return -(driving * (row.sum(-1) / weight.clamp_min(_TINY))[..., None]).mT


def _responses(sweep: Sweep) -> tuple[Tensor, Tensor]:
    """Voltages over all cells under one volt at each input, (tile, row, col, input), and W (tile, rows, cols)."""
    lines, nodes = sweep.columns, None
    over_cells, effective = [], []
    for col, onward in enumerate(sweep.onwards):
        nodes = onward if nodes is None else onward @ nodes  # row-line voltages at this column, by input
        through = lines.conductances.select(-2, col)[..., None] * nodes
        over_cells.append(nodes - sweep.resistances.select(-3, col) @ through)
        effective.append((lines.shares.select(-2, col)[..., None] * through).sum(-2))
    return torch.stack(over_cells, -2), torch.stack(effective, -1)


class _ProgrammedSeries(ProgrammedSurrogate):
    def __init__(self, surrogate: SeriesSurrogate, conductances: Tensor) -> None:
        terms = Terms(surrogate.spec, conductances, surrogate.coefficients["amplitude"][0])
        super().__init__(surrogate, conductances, own_shares=terms.alpha)
        self.matrices = terms.matrices(surrogate.coefficients)
        self._amplitude = surrogate.coefficients["amplitude"][0]
        self._shares, self._effective = terms.alpha, terms.effective
        self._power: SeriesPower | None = None  # from the first call on
        self._cast: Matrices | None = None
        # Behind an amplifier of finite gain -v_out/R_f falls short of the column's current.
        amplifier = surrogate.spec.amplifier
        self._gain = None if amplifier is None else amplifier.sensed_share

    def _currents(self, voltages: Tensor) -> Tensor:
        currents = self._series(voltages)
        return currents if self._gain is None else self._gain * currents

    def _series(self, voltages: Tensor) -> Tensor:
        if self._cast is None or (self._cast.rise.dtype, self._cast.rise.device) != (voltages.dtype, voltages.device):
            # A first read without gradients must not take them from the next.
            with torch.inference_mode(False), torch.enable_grad():
                self._cast = self.matrices.to(voltages)
        return self._cast.currents(voltages)

    def power(self, voltages: Tensor) -> Tensor:
        check_voltages(self.spec, self.conductances.shape[:-2], voltages)
        if self._power is None or (torch.is_grad_enabled() and self.conductances.requires_grad):
            self._power = SeriesPower(self.spec, self.conductances, self._amplitude, self._shares, self._effective)
        return self._power(voltages, self._series(voltages))
