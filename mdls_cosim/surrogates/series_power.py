"""Power that the drivers deliver into a tile of non-linear cells, by the same perturbation as its currents."""

from __future__ import annotations

import torch
from torch import Tensor

from mdls_cosim.devices import Device
from mdls_cosim.fidelity.cell_law import law_and_states
from mdls_cosim.fidelity.elimination import Wires
from mdls_cosim.fidelity.nested import drawn_conductances
from mdls_cosim.surrogates.cell_series import ORDER, cell_series, driven_series
from mdls_cosim.tiles import TileSpec


class SeriesPower:
    """Of cells i(w) = sum of A_n w^n, with the excess currents c_n V^n of `driven_series`,

        P = V^T Y V + sum of V^(n+1) p_n - sum of (V^n C_n) . I,    n = 2 ... 5

    Y is exact, of the linear tile. By reciprocity the excess current of a cell draws its share alpha at the driver of
    its own row: p_n = sum over the row's cells of alpha c_n. Under the column's current I_j its line rises by R_i I_j,
    R_i being the sense resistance and half of the wire below row i, and lessens what the cell takes:
    C_n = (n + 1) A_n alpha^n R_i. What that counts of a row's own current is put back into p_n. Nothing is fitted.

    Args:
        spec: the tile.
        conductances: (*tiles, rows, cols) [S].
        amplitude: largest cell voltage of either sign [V], for the series of the cells.
        alpha: share of each row's voltage over its cells in the linear tile.
        effective: W of the linear tile, (*tiles, rows, cols) [S].
        devices: the memristor of every cell, where they differ.
    """

    def __init__(
        self,
        spec: TileSpec,
        conductances: Tensor,
        amplitude: float,
        alpha: Tensor,
        effective: Tensor,
        devices: Device | None = None,
    ) -> None:
        cell = cell_series(*law_and_states(spec, conductances, devices), amplitude)
        wires = Wires.of(spec)
        excess, _ = driven_series(cell, alpha)
        rise = wires.mean_rise(spec.rows, alpha)
        orders = range(2, ORDER + 1)
        lessened = [(order + 1) * cell[order - 1] * alpha**order * rise for order in orders]
        self._drawn = drawn_conductances(cell[0], wires)
        self._own = torch.cat(
            [
                (alpha * excess[order - 1] + less * effective).sum(-1)
                for order, less in zip(orders, lessened, strict=True)
            ],
            -1,
        )
        self._lessened = torch.cat(lessened, -2)

    def __call__(self, voltages: Tensor, currents: Tensor) -> Tensor:
        """(*tiles, batch) [W] under `voltages` (*tiles, batch, rows) [V]; `currents` are those of the columns [A]."""
        driven = voltages.double()
        powers = torch.cat([driven**order for order in range(2, ORDER + 1)], -1)
        onwards = torch.cat([driven] * (ORDER - 1), -1) * powers
        found = ((driven @ self._drawn) * driven).sum(-1) + (onwards * self._own[..., None, :]).sum(-1)
        return (found - ((powers @ self._lessened) * currents.double()).sum(-1)).to(voltages)
