"""The first form of series: read from old files, and never fitted any more (`series` has taken its place).

    I = V W + V^3 W3 + V^5 W5 + (V^2 X) * (V W)            (powers and * element by element)

    W3 = A3 alpha^3 beta exp(t0 + t1 ln alpha + t2 ln beta),   W5 = A5 alpha^5 beta exp(t3 + t4 ln alpha + t5 ln beta),
    X = -3 A3 alpha^2 beta (t6 r_sense + t7 (rows - 1 - i) r_column)

for cells of odd current i(w) = g w + A3 w^3 + A5 w^5: alpha is the share of its row's voltage that a cell sees, beta
the share of its current that its column senses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mdls_cosim.fidelity.cell_law import CellLaw, cell_law
from mdls_cosim.fidelity.elimination import Wires, factorise, mirror
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate

# Numbers held at once while tiles are programmed.
_CHUNK = 4_000_000


class SeriesOfEight(Surrogate):
    """`coefficients` holds `third` (t0, t1, t2), `fifth` (t3, t4, t5) and `rise` (t6, t7)."""

    kind: ClassVar[str] = "series"
    forms: ClassVar[Mapping[str, int]] = {"third": 3, "fifth": 3, "rise": 2}

    def _program(self, conductances: Tensor) -> ProgrammedSurrogate:
        return _Programmed(self, conductances)


class _Programmed(ProgrammedSurrogate):
    def __init__(self, surrogate: SeriesOfEight, conductances: Tensor) -> None:
        spec = surrogate.spec
        law = cell_law(spec)
        assert spec.device is not None  # a cell with a law has a memristor
        states = spec.device.state_for(conductances.double(), spec.reference_voltage)
        linear, third, fifth = odd_series(law, states)
        tiles, rows, cols = linear.shape[:-2], spec.rows, spec.cols
        step = max(1, _CHUNK // (rows * cols * max(rows, cols)))
        wires, parts = Wires.of(spec).to(linear), []
        for some in linear.reshape(-1, rows, cols).split(step):
            effective, inputs = factorise(some, wires).responses()
            _, outputs = factorise(mirror(some), wires.mirrored()).responses()
            parts.append((effective, inputs, mirror(outputs)))
        self._effective, alpha, beta = (
            torch.cat(each).reshape(*tiles, rows, cols) for each in zip(*parts, strict=True)
        )
        super().__init__(surrogate, conductances, own_shares=alpha)

        def corrected(name: str) -> Tensor:
            constant, by_alpha, by_beta = surrogate.coefficients[name]
            return beta * (constant + by_alpha * alpha.log() + by_beta * beta.log()).exp()

        powers = (third * alpha**3 * corrected("third"), fifth * alpha**5 * corrected("fifth"))
        self._powers = torch.cat([self._effective, *powers], -2)
        sense, line = surrogate.coefficients["rise"]
        below = torch.arange(rows - 1, -1, -1, dtype=linear.dtype, device=linear.device)[:, None]
        resistance = sense * wires.sense + line * below * wires.column_line
        self._rise = -3 * third * alpha**2 * beta * resistance

    def _currents(self, voltages: Tensor) -> Tensor:
        square = voltages.square()
        cube = square * voltages
        currents = torch.cat([voltages, cube, cube * square], -1) @ self._powers.to(voltages)
        return torch.addcmul(currents, square @ self._rise.to(voltages), voltages @ self._effective.to(voltages))


def odd_series(law: CellLaw, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """g, A3 and A5 of i(w) = g w + A3 w^3 + A5 w^5 + ..., differentiated from the cell's one equation."""
    with torch.enable_grad():
        voltage = torch.zeros_like(states).requires_grad_()
        derivative, found = law.current(voltage, states), []
        for order in range(1, 6):
            if derivative.requires_grad:
                (derivative,) = torch.autograd.grad(derivative.sum(), voltage, create_graph=True)
            else:  # no longer a function of the voltage
                derivative = torch.zeros_like(voltage)
            if order % 2:
                found.append(derivative / math.factorial(order))
    first, third, fifth = found if states.requires_grad else (each.detach() for each in found)
    return first, third, fifth
