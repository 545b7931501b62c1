"""Kirchhoff's laws with non-linear cells: Newton's method for all inputs side by side.

Unknown are the cells' currents j. The wires turn them into cell voltages, w = V - R j, exactly (`line_modes`), and
cells at these voltages pass i(w). What is left, m = i(w) - j, is the violation of Kirchhoff's current law at the
cells' nodes; Newton's step makes up for it (`krylov`). The first steps are taken in single precision. Once that is
exhausted, j and m are double and only the making up stays single (iterative refinement), so that the last residual is
a checked one.

Every input has its own residual, its own step length and its own end: a step that does not lessen the mismatch is
shortened, and finished inputs leave the batch. What makes no headway is left to `factorised_newton`: a factorisation
(`elimination`) for every input and step. Where the cells' currents rise with voltage the circuit has one solution,
and Newton's direction always leads downhill.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mdls_cosim.errors import ConvergenceError
from mdls_cosim.fidelity.cell_law import CellLaw
from mdls_cosim.fidelity.elimination import Wires, factorise
from mdls_cosim.fidelity.krylov import Room, largest, make_up, make_up_exactly
from mdls_cosim.fidelity.line_modes import Bare, Lines, Modes, Response

_STEPS = 40
_SINGLE_STEPS = 12
# Residuals: where single precision ends, and from where one more of its steps leads there.
_SINGLE_FLOOR = 1e-6
_NEARLY_SINGLE = 2e-2
# Share of the inputs that has to be there: the others follow in double, few by then.
_MOST = 0.875
# Of a step's mismatch at least, and for the first steps, whose linearisation is no better.
_LARGEST_REDUCTION = 0.1
_SHORTER = 0.25
_SHORTEST = 1e-3
_LEAST_VOLTAGE = 1e-6
# What cells feel of the wires, as `Lines.felt` tells, up to which their response need not be known beforehand.
_HARDLY_FELT = 1.7
_LARGEST_RISE = 100.0
_LARGEST_CONDUCTANCE = 1e30
# Of the gradient, in derivatives.
_EXACT = 1e-12
_FACTORISED_STEPS = 60
_HALVINGS = 30
_LARGEST_FACTORISED_RISE = 1e4


Found = tuple[Tensor, Tensor, Tensor]
"""Cell voltages [V], column currents [A] and residuals."""


@dataclass(frozen=True)
class Cells:
    """The cells of a tile, their states in a layout that broadcasts against the voltages."""

    law: CellLaw
    states: Tensor

    def single(self) -> Cells:
        return Cells(self.law, self.states.float())

    def current(self, voltages: Tensor) -> Tensor:
        return self.law.current(voltages, self.states)

    def current_and_slope(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        """i [A] and di/dv [S], differentiated from the cell's one equation."""
        with torch.enable_grad():
            voltages = voltages.detach().requires_grad_()
            current = self.law.current(voltages, self.states.detach())
            slope = torch.autograd.grad(current, voltages, torch.ones_like(current))[0]
        return current.detach(), slope

    def slope(self, voltages: Tensor, most: float | Tensor) -> Tensor:
        """di/dv [S] within 0 and `most`: wild first steps may reach any voltage."""
        slopes = self.current_and_slope(voltages)[1].nan_to_num(nan=0.0, posinf=torch.inf).clamp_min(0.0)
        return torch.minimum(slopes, torch.as_tensor(most).to(slopes))


def _residual(mismatch: Tensor, currents: Tensor) -> Tensor:
    """Of each input's largest mismatch and largest cell current, their ratio; infinite for what is no number."""
    return (mismatch / currents.clamp_min(torch.finfo(currents.dtype).tiny)).nan_to_num(nan=torch.inf)


@dataclass(frozen=True)
class Linearised:
    """Tiles of ohmic cells that are not far from the real ones, all inputs alike."""

    alike: Response
    chords: Tensor
    """I/V of every cell about where it is driven, (tiles, rows, 1, cols) [S]; single precision."""

    @classmethod
    def of(cls, cells: Cells, lines: Lines, voltages: Tensor) -> Linearised:
        """For cells under `voltages` (tiles, rows, inputs) [V]."""
        driven = voltages[..., None]
        typical = driven.abs().flatten(1).quantile(0.75, 1).clamp_min(_LEAST_VOLTAGE)[:, None, None, None]
        chords = (cells.current(typical) - cells.current(-typical)) / (2 * typical)
        chords = chords.nan_to_num(nan=0.0, posinf=torch.inf).clamp(0.0, _LARGEST_CONDUCTANCE)
        if lines.felt(chords[:, :, 0]) < _HARDLY_FELT:
            return cls(Bare(lines.single), chords.float())
        first = cls(Modes.of(lines, chords[:, :, 0]), chords.float())
        linear = first.currents(driven.contiguous(), Room())
        slopes = cells.slope(lines.voltages(driven, linear.to(driven)), _LARGEST_RISE * chords)
        return cls(Modes.of(lines, slopes.mean(2)), chords.float())

    def currents(self, driven: Tensor, room: Room) -> Tensor:
        """About the cells' currents (tiles, rows, inputs, cols) [A] under driven (tiles, rows, inputs, 1) [V]."""
        conductances = self.alike.conductances
        if conductances is None:
            unhindered = self.chords * driven.float()
            slopes = self.chords.expand_as(unhindered).contiguous()
            return make_up(self.alike, slopes, unhindered, largest(unhindered), _LARGEST_REDUCTION, _MOST, room)
        unhindered = conductances * driven.float()
        response, *others = room.arrays(3, unhindered)
        return unhindered - conductances * self.alike.respond(unhindered, response, others)


def solve(
    cells: Cells, lines: Lines, linear: Linearised, voltages: Tensor, tolerance: float, room: Room | None = None
) -> Found:
    """Newton's method without a factorisation.

    Args:
        cells: states (tiles, rows, 1, cols).
        linear: cells that conduct about as much as these do under `voltages`.
        voltages: (tiles, rows, inputs) [V].
        tolerance: on the residual, the largest mismatch relative to the largest cell current.
        room: to work in, where there is some already.

    Returns:
        w (tiles, rows, inputs, cols) [V], the column currents that the wires carry (tiles, inputs, cols) [A], and the
        residuals (tiles, inputs), which exceed the tolerance where the method made no headway.
    """
    tiles, rows, inputs = voltages.shape
    cols = cells.states.shape[-1]
    cell_voltages = voltages.new_empty((tiles, rows, inputs, cols))
    column_currents = voltages.new_empty((tiles, inputs, cols))
    residuals = voltages.new_full((tiles, inputs), torch.inf)
    single_cells, single_lines = cells.single(), lines.single
    numbers, driven = torch.arange(inputs, device=voltages.device), voltages.contiguous()[..., None]
    room = room or Room()
    currents = linear.currents(driven, room)
    overall = torch.zeros_like(driven[:, :1], dtype=torch.float32)
    # Where the last step began, its direction, how much of it was taken, and the largest mismatch before it.
    began, step = currents, torch.zeros_like(currents)
    share = torch.ones_like(driven[:, :1], dtype=torch.float32)
    before = torch.full_like(driven[:, :1], torch.inf)
    for count in range(_STEPS + 1):
        double = currents.dtype == torch.float64
        at = (lines if double else single_lines).voltages(driven.to(currents.dtype), currents)
        # Of double, slopes follow for the inputs that stay.
        passed, slopes = (cells.current(at), at) if double else single_cells.current_and_slope(at)
        mismatch = passed - currents
        size = largest(mismatch)
        if double or not count:
            overall = largest(passed)
        residual = _residual(size, overall)
        if double:
            ended = (residual <= tolerance) | (share < _SHORTEST) | (count == _STEPS)
            leaving = ended.all(0).flatten()
            if bool(leaving.any()):
                gone, stay = numbers[leaving], ~leaving
                cell_voltages[:, :, gone], residuals[:, gone] = at[:, :, leaving], residual[:, 0, leaving, 0]
                column_currents[:, gone] = currents[:, :, leaving].sum(1)
                if len(gone) == len(numbers):
                    break
                numbers, driven = numbers[stay], driven[:, :, stay]
                currents, began, step, share, before = (
                    each[:, :, stay] for each in (currents, began, step, share, before)
                )
                at, mismatch, size, residual, overall = (
                    each[:, :, stay] for each in (at, mismatch, size, residual, overall)
                )
            slopes = single_cells.current_and_slope(at.float())[1]
        floor = tolerance if double else _SINGLE_FLOOR
        worse = ~(size < before) & (residual > (floor if double else 10 * floor))
        aim = torch.maximum(residual, floor / residual).clamp_max(_LARGEST_REDUCTION)
        if stumbled := bool(worse.any()):
            mismatch, slopes = mismatch.masked_fill(worse, 0.0), slopes.masked_fill(worse, 0.0)
        # A falling current counts as flat: the system stays positive.
        onwards = make_up(linear.alike, slopes.clamp_min_(0.0), mismatch, size, aim.float(), _MOST, room)
        onwards = onwards.to(currents.dtype)
        if stumbled:
            began, step = torch.where(worse, began, currents), torch.where(worse, step, onwards)
            before, share = torch.where(worse, before, size.to(before)), torch.where(worse, _SHORTER * share, 1.0)
            currents = began + share * step
        else:
            began, step, before, share = currents, onwards, size.to(before), torch.ones_like(share)
            currents = began + step
        if not double and (float((residual <= _NEARLY_SINGLE).double().mean()) >= _MOST or count == _SINGLE_STEPS):
            began = currents = currents.double()
            step, share, before = (
                torch.zeros_like(currents),
                torch.ones_like(before),
                torch.full_like(before, torch.inf),
            )
    return cell_voltages, column_currents, residuals


class _Implicit(torch.autograd.Function):
    """x = (1 + R s)^-1 f where f is zero but for its derivatives: forwards zero, backwards the transposed response."""

    @staticmethod
    def forward(ctx: Any, unfulfilled: Tensor, cells: Cells, lines: Lines, wires: Wires, at: Tensor) -> Tensor:
        ctx.cells, ctx.lines, ctx.wires = cells, lines, wires
        ctx.save_for_backward(at)
        return torch.zeros_like(unfulfilled)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (at,) = ctx.saved_tensors
        slopes = ctx.cells.current_and_slope(at)[1]
        found, left = make_up_exactly(ctx.lines, Modes.of(ctx.lines, slopes.mean(2)), slopes, gradient)
        for tile, number in (~(left <= _EXACT)).nonzero().tolist():
            found[tile, :, number] = _made_up_by_factorisation(
                slopes[tile, :, number], gradient[tile, :, number], ctx.wires
            )
        return found, None, None, None, None


def _made_up_by_factorisation(slopes: Tensor, mismatch: Tensor, wires: Wires) -> Tensor:
    """x of (1 + s R) x = m, all (rows, cols): the currents of a linear tile into whose cells m is injected."""
    source = mismatch.mT[..., None]
    across, _ = factorise(slopes, wires).solve(source.new_zeros((len(slopes), 1)), source)
    return mismatch + slopes * across[..., 0].mT


def implicit_step(cells: Cells, lines: Lines, wires: Wires, voltages: Tensor, solved: Tensor) -> Tensor:
    """The cell voltages `solved` with their exact derivatives by states and `voltages` (implicit function theorem).

    Of V - R i(w) - w = 0: dw = (1 + R s)^-1 (dV - R di). Memory is that of a few arrays like `solved`.
    """
    unfulfilled = voltages[..., None] - lines.drops(cells.current(solved)) - solved
    return solved + _Implicit.apply(unfulfilled, cells, lines, wires, solved)


def factorised_newton(cells: Cells, wires: Wires, voltages: Tensor, tolerance: float) -> Found:
    """Newton's method with an exact factorisation and a line search; every argument carries one input a tile.

    Args:
        cells: states (tiles, cols, rows, 1).
        voltages: (tiles, rows, 1) [V].

    Returns:
        as `solve`, of (tiles, cols, rows, 1), (tiles, 1, cols) and (tiles, 1).
    """
    slope = cells.slope(torch.zeros_like(cells.states), torch.inf)
    most = _LARGEST_FACTORISED_RISE * float(slope.amax())
    cell_voltages, _ = factorise(slope[..., 0].mT, wires).solve(voltages, cells.current(torch.zeros_like(slope)))
    # The cells' currents as the linear network has them: any such pair obeys it, and steps between two pairs do too.
    assigned = slope * cell_voltages
    step_count = 0
    lost = torch.zeros_like(voltages[..., 0, :], dtype=torch.bool)
    while True:
        cell_currents = cells.current(cell_voltages)
        residual = _residual(*(each.abs().amax((-3, -2)) for each in (cell_currents - assigned, cell_currents)))
        # An input whose currents overflow has no descent to follow: it rests at zero, and its residual tells.
        lost = lost | torch.isinf(residual)
        residual = residual.masked_fill(lost, torch.inf)
        finished = (residual <= tolerance) | lost
        if step_count == _FACTORISED_STEPS or bool(finished.all()):
            return cell_voltages, assigned.sum(-2).mT, residual
        step_count += 1
        resting = lost[..., None, None, :]
        cell_voltages, assigned, cell_currents = (
            torch.where(resting, 0.0, each) for each in (cell_voltages, assigned, cell_currents)
        )
        slope = cells.slope(cell_voltages, most)
        source = cell_currents - slope * cell_voltages
        target, _ = factorise(slope[..., 0].mT, wires).solve(voltages, source)
        step, step_assigned = target - cell_voltages, source + slope * target - assigned
        now = (cell_currents - assigned).square().sum((-3, -2), keepdim=True)
        share = torch.ones_like(now)
        for _ in range(_HALVINGS):
            moved = cells.current(cell_voltages + share * step) - (assigned + share * step_assigned)
            worse = ~(moved.square().sum((-3, -2), keepdim=True) < now)
            if not bool(worse.any()):
                break
            share = torch.where(worse, share / 2, share)
        share = torch.where(finished[..., None, None, :], 0.0, share)
        cell_voltages = cell_voltages + share * step
        assigned = assigned + share * step_assigned


def refuse_unconverged(residual: Tensor, tolerance: float) -> None:
    """Says which inputs have no solution, (tiles, batch).

    Raises:
        ConvergenceError: its `failed` lists (tile, input) pairs.
    """
    failed = [tuple(int(index) for index in pair) for pair in (~(residual <= tolerance)).nonzero()]
    if failed:
        shown = ", ".join(str(pair) for pair in failed[:5]) + (", ..." if len(failed) > 5 else "")
        raise ConvergenceError(
            f"the non-linear solve did not converge for {len(failed)} of {residual.numel()} inputs",
            where=f"(tile, input) {shown}",
            value=f"residual {float(residual.max()):.2g}",
            limit=f"{tolerance:.2g} of the largest cell current",
            hint="check these inputs' amplitude against the cell's non-linearity",
            failed=failed,
        )
