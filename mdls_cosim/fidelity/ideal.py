"""Rung 1: a tile without wires whose cells obey Ohm's law."""

from __future__ import annotations

from torch import Tensor

from mdls_cosim.fidelity.interface import Programmed, TileModel
from mdls_cosim.tiles import TileSpec


class IdealTile(TileModel):
    """I = V G: what an algorithm designer assumes. Ignores every resistance and the non-linearity of the cell."""

    def __init__(self, spec: TileSpec) -> None:
        self.spec = spec

    def _program(self, conductances: Tensor) -> Programmed:
        return _Ideal(self.spec, conductances)


class _Ideal(Programmed):
    @property
    def matrix(self) -> Tensor:
        return self.conductances

    def _currents(self, voltages: Tensor) -> Tensor:
        return voltages @ self.conductances.to(voltages)

    def cell_voltages(self, voltages: Tensor) -> Tensor:
        # Every cell of a row sees the whole row voltage.
        full = voltages[..., None].expand(*voltages.shape, self.spec.cols)
        tiles = self.conductances.shape[:-2]
        return full + full.new_zeros((*tiles, 1, 1, 1))

    def power(self, voltages: Tensor) -> Tensor:
        return (voltages.square() @ self.conductances.to(voltages)).sum(-1)
