"""The current of a cell as a power series of its voltage, and of the input voltage that drives it through its lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdls_cosim.fidelity.cell_law import CellLaw

ORDER = 5
"""Highest power of the voltage."""

# Voltages of either sign at which a cell's law is sampled; two coefficients of each parity are found from them.
_SAMPLES = 6


def cell_series(law: CellLaw, states: Tensor, amplitude: float) -> list[Tensor]:
    """A_1 ... A_5 of i(w) = sum of A_n w^n, each of the shape of `states` [A/V^n].

    A_1 is the exact slope at 0 V. The others are the least-squares fit to the law at Chebyshev nodes within
    +-`amplitude` [V], so that what lies beyond the fifth power is carried by the lower ones, and a law needs no
    higher derivatives. Odd laws have even coefficients of exactly zero. Differentiable in the states.
    """
    with torch.enable_grad():
        zero = torch.zeros_like(states).requires_grad_()
        (slope,) = torch.autograd.grad(law.current(zero, states).sum(), zero, create_graph=states.requires_grad)
    nodes = [amplitude * math.cos(math.pi * (index + 0.5) / (2 * _SAMPLES)) for index in range(_SAMPLES)]
    up, down = (
        torch.stack([law.current(torch.full_like(states, sign * node), states) for node in nodes], -1)
        for sign in (1, -1)
    )
    at = states.new_tensor(nodes)
    second, fourth = _fitted((up + down) / 2, at, (2, 4))
    third, fifth = _fitted((up - down) / 2 - slope[..., None] * at, at, (3, 5))
    return [slope, second, third, fourth, fifth]


def _fitted(samples: Tensor, at: Tensor, orders: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Coefficients of two powers, by least squares over the last dimension."""
    scale = at.max()
    found = samples @ torch.linalg.pinv(torch.stack([(at / scale) ** order for order in orders], -1)).mT
    first, second = (found[..., place] / scale**order for place, order in enumerate(orders))
    return first, second


def driven_series(cell: Sequence[Tensor], shares: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Excess current over A_1 w, and cell voltage, as series of the voltage V of the cells' own row.

        w = alpha V - alpha (1 - alpha) e,     e = sum of n(w) / sum of A_1 alpha along the row,
        n(w) = sum over n >= 2 of A_n w^n

    alpha is the share of V that lies over a cell in the linear tile, so 1 - alpha is what its lines lose. The row's
    excess current makes them lose more: exact for one cell in series with a resistor, and for a row of equal cells
    on a common resistor.

    Args:
        cell: A_1 ... A_5, each (..., cols) [A/V^n].
        shares: alpha, (..., cols).

    Returns:
        coefficients of V^1 ... V^5 of n (the first is zero) and of w.
    """
    # A row that conducts nothing has no excess either.
    carried = (cell[0] * shares).sum(-1, keepdim=True).clamp_min(1e-60)
    excess, voltage = [torch.zeros_like(shares)], [shares]
    for order in range(2, ORDER + 1):
        excess.append(_composed(cell, voltage, order))
        voltage.append(-shares * (1 - shares) * excess[-1].sum(-1, keepdim=True) / carried)
    return excess, voltage


def _composed(cell: Sequence[Tensor], voltage: Sequence[Tensor], order: int) -> Tensor:
    """The coefficient of V^order in the sum over n >= 2 of A_n w^n, for w known up to the order before."""
    total = torch.zeros_like(voltage[0])
    power = {place + 1: each for place, each in enumerate(voltage)}  # w^n, by power of V
    for coefficient in cell[1:order]:
        raised: dict[int, Tensor] = {}
        for low, left in power.items():
            for place, right in enumerate(voltage, 1):
                if low + place <= order:
                    raised[low + place] = raised.get(low + place, 0) + left * right
        power = raised
        total = total + coefficient * power[order]
    return total
