"""Non-linear tiles: the exact linear part, a series for each row alone, and the rise of the column lines.

For cells of current i(w) = sum of A_n w^n, n = 1 ... 5 (`cell_series`), perturbation about the linear tile gives

    I_add = V W + sum of V^n W_n,                           each row on its own, n = 2 ... 5
    r     = (V + rho_2 V^2 + rho_3 V^3) Y                   rise of each column line
    I     = I_add - r * (V X_2 + V^2 X_3) + r^2 * (q_2 + q_3 kappa r)

(powers and * element by element): what a row does on its own, and what the rows take off each other's cells. All
matrices follow from two responses of the linear tile, both exact, sneak paths and row lines included: T, the voltage
over every cell under each input, and B, the share of a current through every cell that each output senses.

- W_n = B c_n: the excess current c_n V^n of every cell under its own row's input (`driven_series`).
- The cells of row i react to another input k by their slope's excess, s_n V_i^(n-1), times T_k. Summed over the row's
  cells with B, that is for each output one matrix (i, k). Its closest product of a factor of i and a factor of k,
  which a few power iterations find, gives Y (of k, scaled to volts) and X_n (of i): a line's resistance is mostly
  common to its cells.
- Excess currents raise the column lines too: rho_n is the row's excess in proportion to its linear current.
- q_2 and q_3 are the second order of the rise, q_3 that of the current I_add, which is about kappa r; what a product
  with r counts of a row's own input is taken off W_n.

For odd laws all even matrices are zero and are left out: five matmuls a read. The polynomials of all cells are nearly
alike, so networks read with a few functions of V in place of the powers (`Term.shortened`). Ten numbers are fitted to
SPICE. All are 1 in perturbation theory and stay near it; they stand for the orders left out. Everything is bounded at
g = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mdls_cosim.devices import Device
from mdls_cosim.fidelity.cell_law import law_and_states
from mdls_cosim.fidelity.elimination import Sweep, Wires, factorise, mirror
from mdls_cosim.fidelity.interface import check_voltages
from mdls_cosim.fidelity.products import Products, Term
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
# Of the amplitude: where kappa is taken, and how much of a column's own share of R^3 is enough to divide S by.
_TYPICAL = 0.9
_LEAST_CUBE = 1e-9
# What may be left out of the functions of I_add, of the surrogate's own error on held-out data; and how much more of
# those of r and S, whose product is some hundredths of I_add.
_SPARED_OF_ERROR, _OF_CORRECTION = 0.1, 25.0


class SeriesSurrogate(Surrogate):
    """The series above; `coefficients` as in `START`, and `amplitude` [V]."""

    kind: ClassVar[str] = "series_2"
    forms: ClassVar[Mapping[str, int]] = {**{name: len(values) for name, values in START.items()}, "amplitude": 1}

    takes_devices: ClassVar[bool] = True

    def _program(self, conductances: Tensor, devices: Device | None = None) -> ProgrammedSurrogate:
        return _ProgrammedSeries(self, conductances, devices)


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

    def __init__(self, spec: TileSpec, conductances: Tensor, amplitude: float, devices: Device | None = None) -> None:
        law, states = law_and_states(spec, conductances, devices)
        cell = cell_series(law, states, amplitude)
        self.even = any(bool(cell[order - 1].any()) for order in (2, 4))
        self._amplitude = amplitude
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

    def products(self, coefficients: Mapping[str, Any]) -> Products:
        """With coefficients as in `START`: numbers, or tensors where they are fitted.

        I = I_add + R (S + R^2), with R = lambda r and S = (q_2 r - V X_2 - V^2 X_3) / lambda, lambda^3 = q_3 kappa.
        """
        own = {
            order: self.direct[order] + (coefficients["feedback"][order - 3] * self.feedback[order] if order > 2 else 0)
            for order in range(2, ORDER + 1)
        }
        own[5] = own[5] + (coefficients["fifth"][0] - 1) * self.direct[5]
        second, third, fifth = (each * self.slopes[place] for place, each in enumerate(coefficients["slope"]))
        third = third + fifth
        rise, (by_square, by_cube) = (
            self.rise,
            (each * self.row_excess[place].mT for place, each in enumerate(coefficients["rise"])),
        )
        rises = {1: rise, 2: by_square * rise, 3: by_cube * rise} if self.even else {1: rise, 3: by_cube * rise}
        by_rise, cubic = (each * self.squares[place] for place, each in enumerate(coefficients["square"]))
        cubic = cubic * self._current_for_rise({1: self.effective, **own}, rises)
        # The rise is that of the other rows: what the products count of a row's own input is taken off.
        reduced = second - 2 * by_rise * rise
        own[2] = own[2] + (second - by_rise * rise) * rise
        own[3] = own[3] + (third - cubic * rise.square() + reduced * by_square) * rise
        own[4] = own[4] + (third * by_square + reduced * by_cube) * rise
        own[5] = own[5] + third * by_cube * rise
        orders = range(2, ORDER + 1) if self.even else range(3, ORDER + 1, 2)
        direct = {1: self.effective, **{order: own[order] for order in orders}}
        scale = _signed_cube_root(cubic)
        slopes = {2: -third / scale}
        if self.even:
            slopes = {power: by_rise * each / scale for power, each in rises.items()}
            slopes[1], slopes[2] = slopes[1] - second / scale, slopes[2] - third / scale
        drive = torch.tensor([[1.0, 1.0, 1.0] if self.even else [1.0, 0.0, 1.0]], dtype=torch.float64)
        return Products(
            Term.powers(direct),
            Term(drive, (scale * rise)[None], torch.stack([by_square.mT, by_cube.mT])),
            Term.powers(slopes),
        )

    def _current_for_rise(self, direct: Mapping[int, Tensor], rises: Mapping[int, Tensor]) -> Tensor:
        """kappa, (*tiles, 1, cols) [A/V]: of all rows at a voltage where the third order counts."""
        voltage = _TYPICAL * self._amplitude
        current, rise = (
            sum(voltage**power * each.sum(-2, keepdim=True) for power, each in some.items()) for some in (direct, rises)
        )
        assert isinstance(current, Tensor)
        assert isinstance(rise, Tensor)
        return torch.where(rise.abs() > _TINY, current / torch.where(rise.abs() > _TINY, rise, 1.0), 0.0)


def _signed_cube_root(cubes: Tensor) -> Tensor:
    """lambda; where a column has next to none of what the others have, just enough to divide by."""
    size = cubes.abs()
    least = size.detach().amax((-2, -1), keepdim=True).clamp_min(_TINY) * _LEAST_CUBE
    return torch.where(cubes < 0, -1.0, 1.0) * torch.maximum(size, least).pow(1 / 3)


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
    def __init__(self, surrogate: SeriesSurrogate, conductances: Tensor, devices: Device | None = None) -> None:
        amplitude = surrogate.coefficients["amplitude"][0]
        terms = Terms(surrogate.spec, conductances, amplitude, devices)
        self._devices = devices
        super().__init__(surrogate, conductances, own_shares=terms.alpha)
        self._all = terms.products(surrogate.coefficients)
        self._amplitude = amplitude
        self._shares, self._effective = terms.alpha, terms.effective
        self._power: SeriesPower | None = None  # from the first call on
        self._cast: Products | None = None
        # Behind an amplifier of finite gain -v_out/R_f falls short of the column's current.
        amplifier = surrogate.spec.amplifier
        self._gain = None if amplifier is None else amplifier.sensed_share

    @property
    def products(self) -> Products:
        """The read with as few functions as leave a tenth of the surrogate's own error."""
        error = self._surrogate.error
        spared = 0.0 if error is None else _SPARED_OF_ERROR * error.rms
        few = self._all.shortened(self._amplitude, spared, _OF_CORRECTION * spared)
        return few if self._gain is None else few.scaled(1.0, self._gain)

    def _currents(self, voltages: Tensor) -> Tensor:
        currents = self._series(voltages)
        return currents if self._gain is None else self._gain * currents

    def _series(self, voltages: Tensor) -> Tensor:
        if self._cast is None or not self._cast.is_like(voltages):
            # A first read without gradients must not take them from the next.
            with torch.inference_mode(False), torch.enable_grad():
                self._cast = self._all.to(voltages)
        return self._cast.currents(voltages)

    def power(self, voltages: Tensor) -> Tensor:
        largest = check_voltages(self.spec, self.conductances.shape[:-2], voltages)
        currents = self._series(voltages)
        self.watch(voltages, currents if self._gain is None else self._gain * currents, largest)
        if self._power is None or (torch.is_grad_enabled() and self.conductances.requires_grad):
            self._power = SeriesPower(
                self.spec, self.conductances, self._amplitude, self._shares, self._effective, self._devices
            )
        return self._power(voltages, currents)
