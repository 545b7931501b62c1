"""The states that cells are set to: given, or found for conductances."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.tiles.cells import SubcircuitCell
from mdls_cosim.tiles.spec import TileSpec

Floats = NDArray[np.float64]


def cell_states(spec: TileSpec, conductances: ArrayLike | None, states: ArrayLike | None) -> Floats:
    """The state of every cell (rows, cols): the given ones, or those that show the given conductances."""
    if (conductances is None) == (states is None):
        raise InputError("a deck is made of conductances or of states, one of them")
    given = np.asarray(conductances if states is None else states, dtype=np.float64)
    what = "conductances" if states is None else "states"
    if given.shape != (spec.rows, spec.cols):
        raise InputError(f"{what} have the wrong shape", value=given.shape, limit=f"({spec.rows}, {spec.cols})")
    allowed = np.isfinite(given) & ((given >= 0) | (states is not None))
    if not allowed.all():
        row, col = (int(index) for index in np.argwhere(~allowed)[0])
        raise InputError(
            f"{np.count_nonzero(~allowed)} {what} are {'negative or ' if states is None else ''}not finite",
            where=f"row {row}, column {col}",
            value=f"{given[row, col]} {'S' if states is None else ''}".strip(),
            limit="0 S or more, finite" if states is None else "finite",
        )
    if states is not None:
        return given
    if isinstance(spec.cell, SubcircuitCell):
        return _subcircuit_states(spec.cell, given)
    assert spec.device is not None
    spec.device.check_range(given, spec.reference_voltage)
    return np.asarray(spec.device.state_for(given, spec.reference_voltage), dtype=np.float64)


def _subcircuit_states(cell: SubcircuitCell, conductances: Floats) -> Floats:
    if cell.state.quantity == "state":
        raise NotAvailable(
            f"the state of {cell.subcircuit} for a conductance is found by measuring it in ngspice",
            hint="characterize.program does; or give states.",
        )
    if cell.state.quantity == "conductance":
        return conductances
    if not conductances.all():
        row, col = (int(index) for index in np.argwhere(conductances == 0)[0])
        raise InputError(
            f"conductances that no resistance of {cell.subcircuit} has",
            where=f"row {row}, column {col}",
            value="0 S",
            limit="above 0 S",
        )
    return 1 / conductances
