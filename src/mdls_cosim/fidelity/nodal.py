"""Rung 3: the exact Kirchhoff solution of the whole array."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.fidelity.elimination import Wires, effective_conductances, factorise
from mdls_cosim.fidelity.interface import Programmed, TileModel, check_conductances
from mdls_cosim.fidelity.nonlinear import Cells, chord, newton, refuse_unconverged
from mdls_cosim.tiles import TileSpec

# Numbers held at once in the largest intermediate array: a quarter of a gigabyte with the copies of the solver.
_CHUNK = 1_000_000


class NodalTile(TileModel):
    """Kirchhoff's laws at every node, with linear or non-linear cells.

    Computes in float64 whatever the dtype of the inputs, and answers in theirs. Ohmic cells: `program` computes the
    exact effective conductance matrix, and a read is one matmul. Other cells: every read is solved iteratively
    (`nonlinear.py`) to `tolerance`, the largest violation of Kirchhoff's current law at any node relative to the
    largest cell current. Differentiable in conductances and voltages on both ways.
    """

    def __init__(self, spec: TileSpec, tolerance: float = 1e-10) -> None:
        if not 1e-14 <= tolerance <= 1e-2:
            raise InputError("tolerance is out of range", value=tolerance, limit="1e-14 to 1e-2")
        self.spec = spec
        self.tolerance = tolerance

    def program(self, conductances: Tensor) -> ProgrammedNodal:
        """As `TileModel.program`; of ohmic cells the result has `effective_conductances`."""
        check_conductances(self.spec, conductances)
        return self._program(conductances)

    def _program(self, conductances: Tensor) -> ProgrammedNodal:
        return (_Linear if self.spec.passive_cell.linear else _Nonlinear)(self.spec, conductances, self.tolerance)


class ProgrammedNodal(Programmed):
    """Tiles with their cells set, solved exactly."""

    def __init__(self, spec: TileSpec, conductances: Tensor, tolerance: float) -> None:
        super().__init__(spec, conductances)
        self.tolerance = tolerance
        self._wires = Wires.of(spec)
        self._states = spec.passive_cell.state_for(conductances.double(), spec.reference_voltage)

    @property
    def effective_conductances(self) -> Tensor:
        """The exact W with I = V W, (*tiles, rows, cols) [S], float64.

        Raises:
            NotAvailable: the cells are not ohmic, so the currents are not linear in the voltages.
        """
        raise NotAvailable(
            f"tiles of {self.spec.passive_cell.spice_model} cells have no effective conductance matrix",
            hint="their currents are not linear in the voltages; use a Surrogate, or Ohmic() cells",
        )

    def cell_voltages(self, voltages: Tensor) -> Tensor:
        return self._solution(voltages)[0].to(voltages)

    def power(self, voltages: Tensor) -> Tensor:
        # All current that a driver delivers flows through the cells of its row.
        cell_voltages, _ = self._solution(voltages)
        states = self._states[..., None, :, :]
        drawn = self.spec.passive_cell.current(cell_voltages, states).sum(-1)
        return (drawn * voltages.double()).sum(-1).to(voltages)

    def _solution(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        """Cell voltages (*tiles, batch, rows, cols) and column currents (*tiles, batch, cols), float64."""
        raise NotImplementedError


class _Linear(ProgrammedNodal):
    def __init__(self, spec: TileSpec, conductances: Tensor, tolerance: float) -> None:
        super().__init__(spec, conductances, tolerance)
        tiles = conductances.shape[:-2]
        # Of a linear cell I/V is the same at every voltage, whatever its state is.
        self._double = conductances.double()
        flat = self._double.reshape(-1, spec.rows, spec.cols)
        step = max(1, _CHUNK // (spec.rows * spec.cols * min(spec.rows, spec.cols)))
        chunks = [effective_conductances(chunk, self._wires) for chunk in flat.split(step)]
        self._effective = torch.cat(chunks).reshape(*tiles, spec.rows, spec.cols)

    @property
    def effective_conductances(self) -> Tensor:
        return self._effective

    def _currents(self, voltages: Tensor) -> Tensor:
        return voltages @ self._effective.to(voltages)

    def _solution(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        sweep = factorise(self._double, self._wires)
        driven = voltages.double().mT
        tiles = torch.broadcast_shapes(self._double.shape[:-2], driven.shape[:-2])
        driven = driven.expand(*tiles, -1, -1)
        injected = driven.new_zeros((*tiles, self.spec.cols, self.spec.rows, driven.shape[-1]))
        cell_voltages, currents = sweep.solve(driven, injected)
        return _batch_first(cell_voltages), currents.mT


class _Nonlinear(ProgrammedNodal):
    def _currents(self, voltages: Tensor) -> Tensor:
        return self._solution(voltages)[1].to(voltages)

    def _solution(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        rows, cols, batch = self.spec.rows, self.spec.cols, voltages.shape[-2]
        tiles = torch.broadcast_shapes(self._states.shape[:-2], voltages.shape[:-2])
        states = self._states.expand(*tiles, rows, cols).reshape(tiles.numel(), rows, cols)
        driven = voltages.double().expand(*tiles, batch, rows).reshape(tiles.numel(), batch, rows)
        needs_gradient = torch.is_grad_enabled() and (states.requires_grad or driven.requires_grad)
        with torch.no_grad():
            cell_voltages, currents, residual = self._solve(states.detach(), driven.detach())
        refuse_unconverged(residual, self.tolerance)
        if needs_gradient:
            cell_voltages, currents = self._with_gradient(states, driven, cell_voltages)
        return cell_voltages.reshape(*tiles, batch, rows, cols), currents.reshape(*tiles, batch, cols)

    def _solve(self, states: Tensor, driven: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """states (tiles, rows, cols), driven (tiles, batch, rows): chunk by chunk, so that memory stays bounded."""
        tiles, batch, rows = driven.shape
        cols = self.spec.cols
        cell_voltages = driven.new_empty((tiles, batch, rows, cols))
        currents = driven.new_empty((tiles, batch, cols))
        residual = driven.new_empty((tiles, batch))
        if not batch or not tiles:
            return cell_voltages, currents, residual
        amplitude = self._amplitude(driven)
        for some in _pieces(tiles, max(1, _CHUNK // (cols * rows * max(rows, 16)))):
            cells = Cells(self.spec.passive_cell, states[some].mT[..., None])
            sweep = factorise(cells.middle_slope(amplitude).mT, self._wires)
            for part in _pieces(batch, max(1, _CHUNK // (len(states[some]) * rows * cols))):
                inputs = driven[some, part].mT
                found = chord(cells, sweep, inputs, self.tolerance)
                found = self._settle(cells, inputs, *found)
                cell_voltages[some, part] = _batch_first(found[0])
                currents[some, part] = found[1].mT
                residual[some, part] = found[2]
        return cell_voltages, currents, residual

    def _settle(
        self, cells: Cells, inputs: Tensor, cell_voltages: Tensor, currents: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Newton for the inputs that the chord iteration left over."""
        tile, column = (~(residual <= self.tolerance)).nonzero(as_tuple=True)
        size = max(1, _CHUNK // (self.spec.rows**2 * self.spec.cols))
        for some in _pieces(len(tile), size):
            where = (tile[some], slice(None), slice(None), column[some])
            one = Cells(cells.device, cells.states[tile[some]])
            driven = inputs[tile[some], :, column[some]][..., None]
            start = torch.zeros_like(cell_voltages[where])[..., None]
            voltages, current, left = newton(one, self._wires, driven, start, self.tolerance)
            cell_voltages[where] = voltages[..., 0]
            currents[tile[some], :, column[some]] = current[..., 0]
            residual[tile[some], column[some]] = left[..., 0]
        return cell_voltages, currents, residual

    def _amplitude(self, driven: Tensor) -> float:
        """Bound on the cell voltages for the middle slope [V]: the input amplitude, rounded up in steps of 25 %.

        With inputs of both signs a cell may see more than the amplitude; the iteration then contracts more slowly.
        """
        largest = float(driven.abs().max())
        if not largest:
            return 0.0
        return 1.25 ** math.ceil(math.log(largest) / math.log(1.25))

    def _with_gradient(self, states: Tensor, driven: Tensor, solved: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable Newton step at the solution: it stays there, and has the solution's exact gradient.

        (Implicit function theorem: the factorised Jacobian at the solution needs no gradient of its own.)
        """
        tiles, batch, rows, cols = solved.shape
        one_input = states[:, None].expand(-1, batch, -1, -1).reshape(-1, rows, cols)
        cells = Cells(self.spec.passive_cell, one_input.mT[..., None])
        at = solved.reshape(-1, rows, cols).mT[..., None]
        slope = cells.slope(at)
        with torch.no_grad():
            sweep = factorise(slope[..., 0].mT, self._wires)
        source = cells.current(at) - slope * at
        cell_voltages, currents = sweep.solve(driven.reshape(-1, rows, 1), source)
        return (
            cell_voltages[..., 0].mT.reshape(tiles, batch, rows, cols),
            currents[..., 0].reshape(tiles, batch, cols),
        )


def _batch_first(cell_voltages: Tensor) -> Tensor:
    """(…, cols, rows, batch) as (…, batch, rows, cols)."""
    return cell_voltages.movedim(-1, -3).mT


def _pieces(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
