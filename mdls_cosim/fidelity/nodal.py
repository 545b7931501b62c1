"""Rung 3: the exact Kirchhoff solution of the whole array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mdls_cosim.devices import ROOM_TEMPERATURE, Device
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.fidelity.cell_law import cell_law, law_and_states
from mdls_cosim.fidelity.elimination import Wires, factorise
from mdls_cosim.fidelity.interface import Programmed, TileModel, check_voltages
from mdls_cosim.fidelity.krylov import Room
from mdls_cosim.fidelity.line_modes import Lines
from mdls_cosim.fidelity.memory import keep_freed_memory
from mdls_cosim.fidelity.nested import drawn_conductances, effective_conductances
from mdls_cosim.fidelity.nonlinear import (
    Cells,
    Found,
    Linearised,
    factorised_newton,
    implicit_step,
    refuse_unconverged,
    solve,
)
from mdls_cosim.tiles import TileSpec

# Numbers held at once in the largest intermediate array: a quarter of a gigabyte with the copies of the solver.
_CHUNK = 1_000_000
# Cells times inputs that a non-linear solve carries at once: what its arrays keep in a processor's caches, or what
# keeps an accelerator busy.
_CELLS_PER_THREAD = 131_072
_CELLS_ON_ACCELERATOR = 8_000_000
# Inputs that tell how much cells conduct on average.
_SAMPLE = 8


class NodalTile(TileModel):
    """Kirchhoff's laws at every node, with linear or non-linear cells.

    Answers in the dtype of its inputs, whatever it computes in. Ohmic cells: `program` computes the exact effective
    conductance matrix (`nested`), and a read is one matmul; rows may be driven at both ends. Other cells: every
    read is solved iteratively (`nonlinear.py`) to `tolerance`, the largest violation of Kirchhoff's current law at
    any node relative to the largest cell current. Differentiable in conductances and voltages on both ways.

    Args:
        precision: "float32" programs ohmic cells in single precision, within 1e-5 of the RMS current.

    Raises:
        InputError: a tolerance out of range, or float32 for cells that are solved to a tolerance.
    """

    def __init__(
        self, spec: TileSpec, tolerance: float = 1e-10, precision: Literal["float64", "float32"] = "float64"
    ) -> None:
        if not 1e-14 <= tolerance <= 1e-2:
            raise InputError("tolerance is out of range", value=tolerance, limit="1e-14 to 1e-2")
        if precision not in ("float64", "float32"):
            raise InputError("unknown precision", value=precision, limit="float64 or float32")
        if precision == "float32" and not getattr(spec.cell, "linear", False):
            raise InputError(
                "only ohmic cells are programmed in float32", value=precision, hint='leave precision at "float64"'
            )
        keep_freed_memory()
        self.spec = spec
        self.tolerance = tolerance
        self.precision = precision

    takes_devices: ClassVar[bool] = True

    def program(self, conductances: Tensor, devices: Device | None = None) -> ProgrammedNodal:
        """As `TileModel.program`; of ohmic cells the result has `effective_conductances`."""
        self.check(conductances, devices)
        return self._program(conductances, devices)

    def _program(self, conductances: Tensor, devices: Device | None = None) -> ProgrammedNodal:
        if devices is not None or not cell_law(self.spec).linear:
            return _solved_by_steps(self.spec, conductances, self.tolerance, devices)
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        return _Linear(self.spec, conductances, self.tolerance, dtype)


class ProgrammedNodal(Programmed):
    """Tiles with their cells set, solved exactly."""

    def __init__(self, spec: TileSpec, conductances: Tensor, tolerance: float, devices: Device | None = None) -> None:
        super().__init__(spec, conductances)
        self.tolerance = tolerance
        self._wires = Wires.of(spec)
        self._law, self._states = law_and_states(spec, conductances, devices)
        # Behind an amplifier of finite gain -v_out/R_f falls short of the column's current.
        self._gain = 1.0 if spec.amplifier is None else spec.amplifier.sensed_share

    @property
    def effective_conductances(self) -> Tensor:
        """The exact W with I = V W, (*tiles, rows, cols) [S], in the tile's precision.

        Raises:
            NotAvailable: the cells are not ohmic, so the currents are not linear in the voltages.
        """
        raise NotAvailable(
            f"tiles of {self.spec.cell.model} cells have no effective conductance matrix",
            hint="their currents are not linear in the voltages; use a Surrogate, or Ohmic() cells",
        )

    def transposed_currents(self, voltages: Tensor) -> Tensor:
        """Currents into the drivers' ends of the rows, (*tiles, batch, rows) [A], under voltages at the sense ends of
        the columns, (*tiles, batch, cols) [V]: V W^T by reciprocity, every resistance where it is.

        With the drivers moved to the columns it is another circuit: a TileSpec of its own.

        Raises:
            NotAvailable: the cells are not ohmic, or the columns end in amplifiers.
        """
        check_voltages(self.spec.bare(self.spec.cols, self.spec.rows), self.conductances.shape[:-2], voltages)
        if self.spec.amplifier is not None:
            raise NotAvailable("an amplifier reads one way only", hint="Ask a tile without `amplifier`.")
        return voltages @ self.effective_conductances.mT.to(voltages)

    def cell_voltages(self, voltages: Tensor) -> Tensor:
        return self._solution(voltages)[0].to(voltages)

    def power(self, voltages: Tensor) -> Tensor:
        # All current that a driver delivers flows through the cells of its row.
        cell_voltages, _ = self._solution(voltages)
        states = self._states[..., None, :, :]
        drawn = self._law.current(cell_voltages, states).sum(-1)
        return (drawn * voltages.double()).sum(-1).to(voltages)

    def _solution(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        """Cell voltages (*tiles, batch, rows, cols) and column currents (*tiles, batch, cols), float64."""
        raise NotImplementedError


class _Linear(ProgrammedNodal):
    def __init__(self, spec: TileSpec, conductances: Tensor, tolerance: float, dtype: torch.dtype) -> None:
        super().__init__(spec, conductances, tolerance)
        # Of a linear cell I/V is the same at every voltage, whatever its state is.
        self._double = conductances.double()
        if spec.temperature != ROOM_TEMPERATURE:
            self._double = self._law.current(torch.ones_like(self._states), self._states)
        self._dtype = dtype
        self._effective = self._matrix_of(effective_conductances, cols_too=True)
        self._drawn: Tensor | None = None  # what power() needs, from its first call on

    @property
    def effective_conductances(self) -> Tensor:
        return self._gain * self._effective

    @property
    def matrix(self) -> Tensor:
        return self.effective_conductances

    def power(self, voltages: Tensor) -> Tensor:
        if self._drawn is None or (torch.is_grad_enabled() and self.conductances.requires_grad):
            self._drawn = self._matrix_of(drawn_conductances, cols_too=False)
        driven = voltages.double()
        return ((driven @ self._drawn.to(driven)) * driven).sum(-1).to(voltages)

    def _matrix_of(self, compute: Callable[[Tensor, Wires], Tensor], cols_too: bool) -> Tensor:
        """What `compute` makes of the part of the tiles that conducts, zero elsewhere: exact, because no current flows
        in lines that nothing is connected to.

        Args:
            compute: (*tiles, rows, cols) to (*tiles, rows, cols), or to (*tiles, rows, rows).
            cols_too: the second dimension of the result are the columns, not the rows.
        """
        cells = self._double.to(self._dtype)
        first, end = _conducting(cells, self.spec)
        if (first, end) == (0, self.spec.cols):
            return compute(cells, self._wires)
        if first == self.spec.rows:
            return cells.new_zeros((*cells.shape[:-1], self.spec.cols if cols_too else self.spec.rows))
        part = self.spec.replace(rows=self.spec.rows - first, cols=end)
        found = compute(cells[..., first:, :end].contiguous(), Wires.of(part))
        before, behind = (0, self.spec.cols - end) if cols_too else (first, 0)
        return functional.pad(found, (before, behind, first, 0))

    def _currents(self, voltages: Tensor) -> Tensor:
        return voltages @ self.effective_conductances.to(voltages)

    def _solution(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        if self._wires.far_driver is not None:  # the sweep knows one driven end
            return _solved_by_steps(self.spec, self.conductances, self.tolerance)._solution(voltages)
        tiles = torch.broadcast_shapes(self._double.shape[:-2], voltages.shape[:-2])
        driven = voltages.double().mT.expand(*tiles, -1, -1)
        if self._double.shape[:-2] != tiles or not tiles.numel():  # few tiles for many voltages: factorised once
            return self._swept(self._double, driven)
        rows, cols = self.spec.rows, self.spec.cols
        cells, driven = self._double.reshape(-1, rows, cols), driven.reshape(-1, rows, driven.shape[-1])
        pieces = _pieces(len(cells), max(1, _CHUNK // (rows**2 * cols)))
        found = [self._swept(cells[some], driven[some]) for some in pieces]
        over_cells, currents = (torch.cat(each) for each in zip(*found, strict=True))
        return over_cells.reshape(*tiles, *over_cells.shape[1:]), currents.reshape(*tiles, *currents.shape[1:])

    def _swept(self, cells: Tensor, driven: Tensor) -> tuple[Tensor, Tensor]:
        """Cell voltages and column currents of tiles and inputs (*tiles, rows, batch), factorised side by side."""
        injected = driven.new_zeros((*driven.shape[:-2], self.spec.cols, self.spec.rows, driven.shape[-1]))
        cell_voltages, currents = factorise(cells, self._wires).solve(driven, injected)
        return _batch_first(cell_voltages), currents.mT


class _Nonlinear(ProgrammedNodal):
    def __init__(self, spec: TileSpec, conductances: Tensor, tolerance: float, devices: Device | None = None) -> None:
        super().__init__(spec, conductances, tolerance, devices)
        self._lines = Lines.of(self._wires, spec.rows, spec.cols, self._states)

    def _currents(self, voltages: Tensor) -> Tensor:
        return self._gain * self._solution(voltages)[1].to(voltages)

    def _solution(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        rows, cols, batch = self.spec.rows, self.spec.cols, voltages.shape[-2]
        tiles = torch.broadcast_shapes(self._states.shape[:-2], voltages.shape[:-2])
        # Solved as (tiles, rows, batch, cols): products along either kind of line are then one for all inputs.
        states = self._states.expand(*tiles, rows, cols).reshape(tiles.numel(), rows, 1, cols)
        driven = voltages.double().expand(*tiles, batch, rows).reshape(tiles.numel(), batch, rows).mT
        cells = Cells(self._law, states)
        with torch.no_grad():
            cell_voltages, currents, residual = self._solve(states.detach(), driven.detach())
        refuse_unconverged(residual, self.tolerance)
        if torch.is_grad_enabled() and (states.requires_grad or driven.requires_grad):
            cell_voltages = implicit_step(cells, self._lines, self._wires, driven, cell_voltages)
            passed = cells.current(cell_voltages).sum(1)
            currents = currents + (passed - passed.detach())
        return (
            cell_voltages.transpose(1, 2).reshape(*tiles, batch, rows, cols),
            currents.reshape(*tiles, batch, cols),
        )

    def _solve(self, states: Tensor, driven: Tensor) -> Found:
        """As `nonlinear.solve`, chunk by chunk; states (tiles, rows, 1, cols), driven (tiles, rows, batch)."""
        tiles, rows, batch = driven.shape
        cols = self.spec.cols
        found = (
            driven.new_empty((tiles, rows, batch, cols)),
            driven.new_empty((tiles, batch, cols)),
            driven.new_empty((tiles, batch)),
        )
        if not batch:
            return found
        cell_voltages, currents, residual = found
        at_once, room = _cells_at_once(driven), Room()
        inputs = min(batch, max(1, at_once // (rows * cols)))
        for some in _pieces(tiles, max(1, at_once // (rows * cols * inputs))):
            cells = Cells(self._law, states[some])
            linear = Linearised.of(cells, self._lines, driven[some, :, :: max(1, batch // _SAMPLE)])
            for part in _pieces(batch, inputs):
                cell_voltages[some, :, part], currents[some, part], residual[some, part] = solve(
                    cells, self._lines, linear, driven[some, :, part], self.tolerance, room
                )
        self._settle(states, driven, found)
        return found

    def _settle(self, states: Tensor, driven: Tensor, found: Found) -> None:
        """Solves the inputs that are left over with factorisations of their own, in place."""
        cell_voltages, currents, residual = found
        tile, number = (~(residual <= self.tolerance)).nonzero(as_tuple=True)
        for some in _pieces(len(tile), max(1, _CHUNK // (self.spec.rows**2 * self.spec.cols))):
            these, those = tile[some], number[some]
            cells = Cells(self._law, states[these].permute(0, 3, 1, 2))
            across, passed, left = factorised_newton(
                cells, self._wires, driven[these, :, those][..., None], self.tolerance
            )
            cell_voltages[these, :, those], currents[these, those] = across[..., 0].mT, passed[:, 0]
            residual[these, those] = left[:, 0]


class _OnUnequalLines(ProgrammedNodal):
    """Factorised for every input and step: what `line_modes` makes use of, lines that are alike, is not there."""

    def __init__(self, spec: TileSpec, conductances: Tensor, tolerance: float, devices: Device | None = None) -> None:
        super().__init__(spec, conductances, tolerance, devices)
        if self._wires.far_driver is not None:
            raise NotAvailable(
                "voltages of cells, and cells that are not ohmic, on lines that differ and are driven at both ends",
                hint="Run this tile on SpiceTile, or give each kind of line one resistance for all.",
            )

    def _currents(self, voltages: Tensor) -> Tensor:
        return self._gain * self._solution(voltages)[1].to(voltages)

    def _solution(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        rows, cols, batch = self.spec.rows, self.spec.cols, voltages.shape[-2]
        tiles = torch.broadcast_shapes(self._states.shape[:-2], voltages.shape[:-2])
        # Solved as (inputs, cols, rows, 1), every input a tile of its own.
        states = self._states[..., None, :, :].expand(*tiles, batch, rows, cols).reshape(-1, rows, cols).mT[..., None]
        driven = voltages.double().expand(*tiles, batch, rows).reshape(-1, rows, 1)
        if not len(driven):
            return driven.new_zeros((*tiles, batch, rows, cols)), driven.new_zeros((*tiles, batch, cols))
        pieces = _pieces(len(driven), max(1, _CHUNK // (rows**2 * cols)))
        found = [self._solved(states[some], driven[some]) for some in pieces]
        over_cells, currents, residual = (torch.cat(each) for each in zip(*found, strict=True))
        refuse_unconverged(residual.reshape(tiles.numel(), batch), self.tolerance)
        return over_cells[..., 0].mT.reshape(*tiles, batch, rows, cols), currents.reshape(*tiles, batch, cols)

    def _solved(self, states: Tensor, driven: Tensor) -> Found:
        cells = Cells(self._law, states)
        with torch.no_grad():
            across, currents, residual = factorised_newton(
                Cells(self._law, states.detach()), self._wires, driven.detach(), self.tolerance
            )
        if torch.is_grad_enabled() and (states.requires_grad or driven.requires_grad):
            # One more step of Newton's has the derivatives of the solution: its own, by where it starts, are zero.
            slope = cells.current_and_slope(across)[1]
            across, currents = factorise(slope[..., 0].mT, self._wires).solve(
                driven, cells.current(across) - slope * across
            )
        return across, currents.flatten(1), residual


def _conducting(cells: Tensor, spec: TileSpec) -> tuple[int, int]:
    """The first row and the end of the columns that hold all conductances of all tiles: (0, cols) for whole tiles.

    Rows are sensed below the last row and driven at column 0, so the lines outside end in nothing. That is so neither
    for columns of rows that are driven at both ends, nor where the derivative by a conductance of zero is asked for.
    """
    if cells.requires_grad or not spec.equal_lines or not cells.numel():
        return 0, spec.cols
    held = (cells != 0).flatten(0, -3).any(0) if cells.ndim > 2 else cells != 0
    rows, cols = held.any(1), held.any(0)
    if not bool(rows.any()):
        return spec.rows, 0
    first = int(rows.int().argmax())
    end = spec.cols if spec.drive == "double" else spec.cols - int(cols.flip(0).int().argmax())
    return first, end


def _solved_by_steps(
    spec: TileSpec, conductances: Tensor, tolerance: float, devices: Device | None = None
) -> ProgrammedNodal:
    return (_Nonlinear if spec.equal_lines else _OnUnequalLines)(spec, conductances, tolerance, devices)


def _batch_first(cell_voltages: Tensor) -> Tensor:
    """(…, cols, rows, batch) as (…, batch, rows, cols)."""
    return cell_voltages.movedim(-1, -3).mT


def _cells_at_once(like: Tensor) -> int:
    return _CELLS_PER_THREAD * torch.get_num_threads() if like.device.type == "cpu" else _CELLS_ON_ACCELERATOR


def _pieces(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
