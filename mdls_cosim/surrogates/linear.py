"""Ohmic tiles: the exact effective conductance matrix, one matmul a read."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor

from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate
from mdls_cosim.tiles import TileSpec


class LinearSurrogate(Surrogate):
    """I = V W(G) with the exact W of the fitted resistances; the only error left is the fit's."""

    kind: ClassVar[str] = "linear"

    @classmethod
    def exact(cls, spec: TileSpec) -> Self:
        """The surrogate of an ohmic tile whose resistances are known: nothing to fit, no error.

        Raises:
            InputError: the cells are not ohmic.
        """
        if not cell_law(spec).linear:
            raise InputError(
                "only ohmic cells have an exact surrogate",
                value=spec.cell.model,
                hint="fit one instead: mdls-cosim characterize SPEC.toml --out DATA.h5, then "
                "mdls-cosim fit DATA.h5 --out SURROGATE.h5",
            )
        return cls(spec, reference_spec=spec)

    def _program(self, conductances: Tensor) -> ProgrammedSurrogate:
        return _ProgrammedLinear(self, conductances)


class _ProgrammedLinear(ProgrammedSurrogate):
    def __init__(self, surrogate: LinearSurrogate, conductances: Tensor) -> None:
        super().__init__(surrogate, conductances, own_shares=None)
        self._exact = NodalTile(surrogate.spec).program(conductances)

    @property
    def effective_conductances(self) -> Tensor:
        """The exact W with I = V W, (*tiles, rows, cols) [S]."""
        return self._exact.effective_conductances

    @property
    def matrix(self) -> Tensor:
        return self.effective_conductances

    def _currents(self, voltages: Tensor) -> Tensor:
        return self._exact(voltages)

    def cell_voltages(self, voltages: Tensor) -> Tensor:
        self.watch(voltages, None)
        return self._exact.cell_voltages(voltages)

    def power(self, voltages: Tensor) -> Tensor:
        self.watch(voltages, None)
        return self._exact.power(voltages)
