"""Kirchhoff's laws with non-linear cells: chord iteration on a factorised linear tile, Newton for what resists.

A cell of current i(w) is split into a linear one, g w, and the rest, n = i(w) - g w, which the linear tile sees as a
current source. Given n, the factorised tile yields all cell voltages w exactly, wires included (`Sweep.solve`); given
w, the cells yield n. The residual of Kirchhoff's current law is what n still changes by.

*Chord*: g is one conductance a cell for all inputs, in the middle between the cell's smallest and largest slope over
the voltage range; then an iteration contracts at least by (k - 1)/(k + 1), k being the ratio of the two. Anderson's
acceleration (10.1145/321296.321305) with a short memory about halves the number of steps.

*Newton*: g is the slope of every cell at every input: one factorisation an input and step, with a line search. Since
the cells' currents rise with voltage the circuit has one solution and the search always finds a descent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdls_cosim.devices import Device
from mdls_cosim.errors import ConvergenceError
from mdls_cosim.fidelity.elimination import Sweep, Wires, factorise

_MEMORY = 2  # Anderson's depth: more costs more than it gains at these contraction rates.
_CHORD_STEPS = 40
_NEWTON_STEPS = 60
_HALVINGS = 30
_LARGEST_RATIO = 100.0
_LARGEST_RISE = 1e4


@dataclass(frozen=True)
class Cells:
    """The cells of a tile in the sweep's layout: states (*tiles, cols, rows, 1) broadcast against the batch."""

    device: Device
    states: Tensor

    def current(self, voltages: Tensor) -> Tensor:
        return self.device.current(voltages, self.states)

    def slope(self, voltages: Tensor) -> Tensor:
        """di/dv [S], differentiated from the device's one equation."""
        with torch.enable_grad():
            voltages = voltages.detach().requires_grad_()
            current = self.device.current(voltages, self.states.detach())
            return torch.autograd.grad(current.sum(), voltages)[0]

    def middle_slope(self, amplitude: float) -> Tensor:
        """Halfway between the smallest and the largest slope within +-amplitude [V], (*tiles, cols, rows) [S]."""
        samples = torch.linspace(-amplitude, amplitude, 9, dtype=self.states.dtype, device=self.states.device)
        slopes = self.slope(samples.expand(*self.states.shape[:-1], -1))
        smallest = slopes.amin(-1)
        # Beyond such a ratio no chord converges; the bound keeps an absurd input from spoiling the tile for the others.
        return (smallest + torch.minimum(slopes.amax(-1), _LARGEST_RATIO * smallest)) / 2

    def bounded_slope(self, voltages: Tensor, largest: float) -> Tensor:
        """`slope`, within what a factorisation bears: Newton's wild first steps may reach any voltage."""
        return self.slope(voltages).nan_to_num(nan=0.0, posinf=torch.inf).clamp(max=largest)


def _residual(mismatch: Tensor, currents: Tensor) -> Tensor:
    """Largest violation of Kirchhoff's current law relative to the largest cell current, (*tiles, batch)."""
    scale = currents.abs().amax((-3, -2)).clamp_min(torch.finfo(currents.dtype).tiny)
    return mismatch.abs().amax((-3, -2)) / scale


def chord(cells: Cells, sweep: Sweep, voltages: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Solves all inputs with the one factorisation that `sweep` holds.

    Args:
        voltages: (*tiles, rows, batch) [V].
        tolerance: on the residual of Kirchhoff's current law, relative to the largest cell current.

    Returns:
        cell voltages (*tiles, cols, rows, batch), column currents (*tiles, cols, batch) and residuals
        (*tiles, batch), which exceed the tolerance where the iteration did not converge.
    """
    conductances = sweep.columns.conductances[..., None]
    rows, cols = conductances.shape[-2], conductances.shape[-3]
    injected = torch.zeros((*voltages.shape[:-2], cols, rows, voltages.shape[-1])).to(voltages)
    past: list[tuple[Tensor, Tensor]] = []  # differences of iterates and of their mismatches, newest last
    last: tuple[Tensor, Tensor] | None = None
    step = 0
    while True:
        cell_voltages, currents = sweep.solve(voltages, injected)
        cell_currents = cells.current(cell_voltages)
        wanted = cell_currents - conductances * cell_voltages
        mismatch = wanted - injected
        residual = _residual(mismatch, cell_currents).nan_to_num(nan=torch.inf)
        step += 1
        if step == _CHORD_STEPS or bool((residual <= tolerance).all()):
            return cell_voltages, currents, residual
        if last is not None:
            past = [*past, (injected - last[0], mismatch - last[1])][-_MEMORY:]
        last = (injected, mismatch)
        injected = wanted - _accelerate(past, mismatch)


def _accelerate(past: list[tuple[Tensor, Tensor]], mismatch: Tensor) -> Tensor | float:
    """Anderson's correction: the combination of past steps whose mismatches best cancel the present one."""
    if not past:
        return 0.0
    changes = torch.stack([change for _, change in past])
    gram = torch.einsum("k...crb,l...crb->...bkl", changes, changes)
    against = torch.einsum("k...crb,...crb->...bk", changes, mismatch)
    # Scaled to a unit diagonal, so that one tiny ridge keeps finished (all but singular) inputs harmless.
    scale = gram.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(torch.finfo(gram.dtype).tiny)
    gram = gram / (scale[..., :, None] * scale[..., None, :])
    gram = gram + 1e-12 * torch.eye(len(past), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve_ex(gram, (against / scale)[..., None])[0][..., 0] / scale
    weights = weights.nan_to_num(0.0, 0.0, 0.0)
    correction: Tensor | float = 0.0
    for index, (iterate, change) in enumerate(past):
        correction = correction + weights[..., index][..., None, None, :] * (iterate + change)
    return correction


def newton(
    cells: Cells, wires: Wires, voltages: Tensor, start: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Solves every input with a factorisation of its own; every argument carries one input a tile.

    Args:
        voltages: (tiles, rows, 1) [V].
        start: cell voltages (tiles, cols, rows, 1) to begin from [V].

    Returns:
        as `chord`.
    """
    largest = _LARGEST_RISE * float(cells.slope(torch.zeros_like(start)).amax())
    slope = cells.bounded_slope(start, largest)
    sweep = factorise(slope[..., 0].mT, wires)
    # Any such pair obeys the linear network; steps between two of them do too.
    cell_voltages, currents = sweep.solve(voltages, cells.current(start) - slope * start)
    assigned = cells.current(start) + slope * (cell_voltages - start)
    step_count = 0
    lost = torch.zeros_like(voltages[..., 0, :], dtype=torch.bool)
    while True:
        cell_currents = cells.current(cell_voltages)
        residual = _residual(cell_currents - assigned, cell_currents).nan_to_num(nan=torch.inf)
        # An input whose currents overflow has no descent to follow: it rests at zero, and its residual tells.
        lost = lost | torch.isinf(residual)
        residual = residual.masked_fill(lost, torch.inf)
        finished = (residual <= tolerance) | lost
        if step_count == _NEWTON_STEPS or bool(finished.all()):
            return cell_voltages, currents, residual
        step_count += 1
        resting = lost[..., None, None, :]
        cell_voltages, assigned, cell_currents = (
            torch.where(resting, 0.0, each) for each in (cell_voltages, assigned, cell_currents)
        )
        slope = cells.bounded_slope(cell_voltages, largest)
        sweep = factorise(slope[..., 0].mT, wires)
        source = cell_currents - slope * cell_voltages
        target, target_currents = sweep.solve(voltages, source)
        step, step_currents = target - cell_voltages, target_currents - currents
        step_assigned = source + slope * target - assigned
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
        currents = currents + share[..., 0, :] * step_currents
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
