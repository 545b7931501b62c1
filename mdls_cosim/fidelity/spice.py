"""Rung 4: ngspice itself behind the interface of a tile."""

from __future__ import annotations

from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mdls_cosim.characterize import ReadPoint, first_deck, read_tiles
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.fidelity.interface import Programmed, TileModel, check_conductances, check_voltages
from mdls_cosim.spice import Engine
from mdls_cosim.tiles import TileSpec


class SpiceTile(TileModel):
    """The circuit of the tile, solved by ngspice for every tile and input. Not differentiable.

    Args:
        spec: the circuit.
        engine: solves everything; absent: `workers` ngspice processes are started for each read.
        workers: processes side by side; one a processor if absent.
        read_time: columns are measured so long after the rows step from 0 V [s]; absent: at rest, as on every rung.

    Raises:
        ConfigError: a read_time of a tile that has no capacitance and no amplifier to wait for.
    """

    any_circuit: ClassVar[bool] = True

    def __init__(
        self,
        spec: TileSpec,
        engine: Engine | None = None,
        workers: int | None = None,
        read_time: float | None = None,
    ) -> None:
        if read_time is not None and not spec.settles:
            raise ConfigError(
                "a tile without capacitance settles at once",
                where="read_time",
                value=f"{read_time:g} s",
                limit="row_line_capacitance, column_line_capacitance or cell_capacitance above 0 F, or an amplifier",
            )
        self.spec, self.read_time = spec, read_time
        self.engine = engine
        self.workers = workers

    def _program(self, conductances: Tensor) -> Programmed:
        return _Spice(self, conductances)

    def deck(self, conductances: ArrayLike | Tensor, voltages: ArrayLike | Tensor) -> str:
        """A complete SPICE file of one tile at rest for `ngspice -b`, which prints the column currents of every input.

        The states of a user's cell and the branches of selectors with hysteresis are found in ngspice first.

        Args:
            conductances: (rows, cols) [S].
            voltages: (rows,) or (batch, rows) [V].

        Raises:
            InputError: wrong shapes, negative or non-finite values.
        """
        programmed = torch.as_tensor(conductances).detach().cpu().double()
        if programmed.ndim != 2:
            raise InputError(
                "a deck holds one tile", value=tuple(programmed.shape), limit=f"({self.spec.rows}, {self.spec.cols})"
            )
        inputs = torch.atleast_2d(torch.as_tensor(voltages).detach().cpu().double())
        check_conductances(self.spec, programmed)
        check_voltages(self.spec, programmed.shape[:-2], inputs)
        return first_deck(ReadPoint("deck", self.spec, programmed.numpy(), inputs.numpy()), self.engine)


class _Spice(Programmed):
    def __init__(self, model: SpiceTile, conductances: Tensor) -> None:
        super().__init__(model.spec, conductances)
        self._model = model

    def _currents(self, voltages: Tensor) -> Tensor:
        rows, cols, batch = self.spec.rows, self.spec.cols, voltages.shape[-2]
        tiles = torch.broadcast_shapes(self.conductances.shape[:-2], voltages.shape[:-2])
        if not tiles.numel() or not batch:
            return voltages.new_zeros((*tiles, batch, cols))
        conductances = self.conductances.detach().cpu().double().expand(*tiles, rows, cols).reshape(-1, rows, cols)
        driven = voltages.detach().cpu().double().expand(*tiles, batch, rows).reshape(-1, batch, rows)
        model = self._model
        cells, inputs = conductances.numpy(), driven.numpy()
        currents = read_tiles(self.spec, cells, inputs, model.workers, engine=model.engine, read_time=model.read_time)
        return torch.as_tensor(currents).reshape(*tiles, batch, cols).to(voltages)
