"""Reads that are a few matrix products, for whoever wants to lay the products out otherwise: networks do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """A sum over k of f_k(V) M_k, where f_k is a polynomial of each row's voltage without a constant."""

    polynomials: Tensor
    """Coefficients of f_k, (functions, powers), from V^1 on [1/V^(n-1)]; float64, on the CPU."""
    matrices: Tensor
    """M_k, (functions, *tiles, rows, cols)."""
    by_row: Tensor | None = None
    """Factors of every row's V^2 and onwards, (powers - 1, *tiles, 1, rows); None: rows are alike."""

    @classmethod
    def linear(cls, matrix: Tensor) -> Term:
        """V M, with M (*tiles, rows, cols)."""
        return cls(torch.ones((1, 1), dtype=torch.float64), matrix[None])

    @classmethod
    def powers(cls, matrices: dict[int, Tensor]) -> Term:
        """The sum of V^n M_n."""
        polynomials = torch.zeros((len(matrices), max(matrices)), dtype=torch.float64)
        for place, power in enumerate(matrices):
            polynomials[place, power - 1] = 1.0
        return cls(polynomials, torch.stack(list(matrices.values())))

    def shortened(self, amplitude: float, tolerance: float) -> Term:
        """With the fewest functions that leave out less than `tolerance` of the RMS of all cells' own parts.

        The functions are the leading principal components of the cells' polynomials over +-`amplitude` [V]. With a
        tolerance of 0 they are the powers themselves.
        """
        count = self.polynomials.shape[1]
        # (powers, *tiles, rows, cols)
        of_powers = torch.tensordot(self.polynomials.mT.to(self.matrices), self.matrices, 1)
        if self.by_row is not None:
            of_powers[1:] *= self.by_row.mT
        if not tolerance:
            used = {power: each for power, each in enumerate(of_powers, 1) if bool(each.any())}
            return Term.powers(used or {1: of_powers[0]})
        power = torch.arange(1, count + 1, dtype=torch.float64)
        both = power[:, None] + power
        # Products of powers integrated over +-amplitude, whose root turns coefficients into lengths.
        inner = torch.where(both % 2 == 0, amplitude**both / (both + 1), 0.0)
        root = torch.linalg.cholesky(inner).to(of_powers)
        flat = of_powers.flatten(1)
        sizes, directions = torch.linalg.eigh(root.mT @ (flat @ flat.mT) @ root)
        sizes, directions = sizes.flip(0).clamp_min(0), directions.flip(1)
        left_out = sizes.sum() - sizes.cumsum(0)
        wanted = 1 + int((left_out[:-1] > tolerance**2 * sizes.sum()).sum())
        directions = directions[:, :wanted]
        matrices = torch.tensordot(directions.mT @ root.mT, of_powers, 1)
        return Term(torch.linalg.solve_triangular(root.mT, directions, upper=True).mT.double().cpu(), matrices)

    def functions(self, voltages: Tensor) -> list[Tensor]:
        """f_k(V), each of the shape of `voltages`."""
        return evaluated(self.polynomials, voltages, self.by_row)

    def scaled(self, voltage: float, unit: float) -> Term:
        """For voltages in units of `voltage` [V], times `unit`."""
        powers = voltage ** torch.arange(1, self.polynomials.shape[1] + 1).to(self.polynomials)
        functions = self.polynomials * powers
        # What all of a function has in common goes to its matrix: functions of voltages of about 1 are about 1.
        common = functions.abs().amax(1).clamp_min(1e-300)
        factors = (common * unit).to(self.matrices).reshape(-1, *[1] * (self.matrices.ndim - 1))
        matrices = self.matrices * factors
        return Term(functions / common[:, None], matrices, self.by_row)

    def to(self, like: Tensor) -> Term:
        """In the dtype and on the torch device of `like`."""
        by_row = None if self.by_row is None else self.by_row.to(like)
        return Term(self.polynomials, self.matrices.to(like), by_row)


@dataclass(frozen=True)
class Products:
    """A read in the form I = A(V) + R(V) * (S(V) + R(V)^2), element by element.

    A is what rows do on their own, R stands for the rise of the column lines, S for the slopes that it acts on. A
    linear tile has A alone, of one function.
    """

    direct: Term
    rise: Term | None = None
    slope: Term | None = None

    def currents(self, voltages: Tensor) -> Tensor:
        """(*tiles, batch, cols) for voltages (*tiles, batch, rows)."""
        direct = _read(self.direct, voltages)
        if self.rise is None or self.slope is None:
            return direct
        rise, slope = _read(self.rise, voltages), _read(self.slope, voltages)
        # In place on fresh products, which no gradient looks at again.
        return direct.addcmul_(rise, slope.addcmul_(rise, rise))

    def scaled(self, voltage: float, unit: float) -> Products:
        """For voltages in units of `voltage` [V], in currents of 1 / `unit` [A]."""
        if self.rise is None or self.slope is None:
            return Products(self.direct.scaled(voltage, unit))
        return Products(
            self.direct.scaled(voltage, unit),
            self.rise.scaled(voltage, unit ** (1 / 3)),
            self.slope.scaled(voltage, unit ** (2 / 3)),
        )

    def shortened(self, amplitude: float, direct: float, others: float) -> Products:
        """Each term with the fewest functions; see `Term.shortened`."""
        if self.rise is None or self.slope is None:
            return Products(self.direct.shortened(amplitude, direct))
        return Products(
            self.direct.shortened(amplitude, direct),
            self.rise.shortened(amplitude, others),
            self.slope.shortened(amplitude, others),
        )

    def is_like(self, like: Tensor) -> bool:
        """Whether `to` has nothing to do."""
        return (self.direct.matrices.dtype, self.direct.matrices.device) == (like.dtype, like.device)

    def to(self, like: Tensor) -> Products:
        """In the dtype and on the torch device of `like`."""
        parts = (None if each is None else each.to(like) for each in (self.direct, self.rise, self.slope))
        return Products(*parts)  # pyright: ignore[reportArgumentType]


def _read(term: Term, voltages: Tensor) -> Tensor:
    functions = torch.cat(term.functions(voltages), -1) if len(term.polynomials) > 1 else term.functions(voltages)[0]
    matrices = term.matrices.movedim(0, -3)
    return functions @ matrices.flatten(-3, -2)


def evaluated(polynomials: Tensor, voltages: Tensor, by_row: Tensor | None = None) -> list[Tensor]:
    """The functions of a `Term`, each of the shape of `voltages`."""
    powers = {1: voltages}
    found = []
    for coefficients in polynomials.tolist():
        total = None
        for power, factor in enumerate(coefficients, 1):
            if not factor:
                continue
            if by_row is not None and power > 1:
                factors = by_row[power - 2]
                total = (
                    factor * _raised(powers, power) * factors
                    if total is None
                    else total.addcmul(_raised(powers, power), factors, value=factor)
                )
            elif total is None:
                total = _raised(powers, power) if factor == 1 else factor * _raised(powers, power)
            else:
                total = torch.add(total, _raised(powers, power), alpha=factor)
        found.append(torch.zeros_like(voltages) if total is None else total)
    return found


def _raised(powers: dict[int, Tensor], power: int) -> Tensor:
    """`powers[power]`, from lower ones where it is not there yet."""
    if power not in powers:
        powers[power] = _raised(powers, power // 2) * _raised(powers, power - power // 2)
    return powers[power]
