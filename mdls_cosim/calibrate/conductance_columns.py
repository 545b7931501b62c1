"""Conductances from the columns of a table: conductances, resistances, or currents at a read voltage."""

from __future__ import annotations

import numpy as np

from mdls_cosim.calibrate.current_sign import Sign, signed_currents
from mdls_cosim.calibrate.table_file import TableFile
from mdls_cosim.errors import ConfigError, InputError

MEASURES = ("conductance", "current", "resistance")
"""Columns that give conductances; the first of these that a table has is used."""


def one_column(table: TableFile, read_voltage: float | None, sign: Sign) -> np.ndarray:
    """The conductances (rows,) [S] of a table with one column of them.

    Raises:
        InputError: there are several, or they carry no unit; see `conductances`.
    """
    values, unit = conductances(table, read_voltage, sign, gaps=False)
    if values.shape[1] != 1 or not unit:
        raise InputError("one column of conductances with a unit is needed", where=table.path)
    return values[:, 0]


def conductances(table: TableFile, read_voltage: float | None, sign: Sign, gaps: bool) -> tuple[np.ndarray, str]:
    """Conductances (rows, columns) [S], or shares, and their unit.

    Args:
        table: of the file.
        read_voltage: of currents [V].
        sign: of currents, see `signed_currents`.
        gaps: several columns may have empty cells.

    Raises:
        ConfigError: conductances with a unit beside others without.
        InputError: no such column, no read voltage, or a resistance that is not above zero.
    """
    for name in MEASURES:
        places = table.places(name)
        if not places:
            continue
        if gaps and len(places) > 1:
            table.check(places, gaps=True)
            values = table.values[:, places]
        else:
            values = table.column(name)[:, None]
        if name == "conductance":
            units = {table.columns[place].unit == "" for place in places}
            if len(units) > 1:
                raise ConfigError("conductances with a unit and without one", where=table.path)
            return values, "" if units == {True} else "S"
        if name == "resistance":
            if (values <= 0).any():
                raise InputError(
                    "a resistance that is not above zero", where=table.path, value=float(np.nanmin(values))
                )
            with np.errstate(over="ignore"):
                return 1 / values, "S"
        if not read_voltage:
            raise InputError(
                "currents without their read voltage", where=table.path, hint='Give it: --read-voltage "0.1 V"'
            )
        return signed_currents(values, np.full(values.shape, read_voltage), sign, table.path) / read_voltage, "S"
    raise InputError(
        "no column for the conductance", where=table.path, value=", ".join(column.name for column in table.columns),
        hint=table.unrecognized
        + 'Name it in the header with its unit, as "conductance [uS]", or declare the columns with --columns',
    )  # fmt: skip
