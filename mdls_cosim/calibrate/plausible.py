"""Whether measured quantities have the size that memristive devices show: a wrong unit is found by its factor."""

from __future__ import annotations

import math

import numpy as np

from mdls_cosim.calibrate.measurement import Loop, Measurement
from mdls_cosim.calibrate.table_file import TableFile
from mdls_cosim.errors import InputError
from mdls_cosim.quantities import format_quantity, parse_quantity

_LIMITS = {"ampere": (1e-13, 1.0), "volt": (1e-3, 100.0), "siemens": (1e-14, 100.0)}
"""Between which the largest size of a measurement lies, by unit."""
_USUAL = {"ampere": (1e-9, 0.1), "volt": (0.05, 20.0), "siemens": (1e-10, 0.1)}
"""Between which it usually lies: the unit that is suggested leads there."""
_SYMBOLS = {"ampere": "A", "volt": "V", "siemens": "S"}
_PREFIXES = {"": 0, "m": -3, "u": -6, "n": -9, "p": -12, "k": 3}


def check_measurement(measurement: Measurement, table: TableFile) -> None:
    """Refuse a measurement whose voltages, currents or conductances have a size that no device shows.

    Args:
        table: of the file that it was read from, for the units of its columns.

    Raises:
        InputError: with the unit that the numbers look like.
    """
    declared = {column.name: column.unit for column in table.columns}
    if isinstance(measurement, Loop):
        check_size(measurement.currents, "ampere", "current", table.path, declared.get("current"))
        name = "applied voltage" if measurement.applied else "voltage"
        check_size(measurement.voltages, "volt", name, table.path, declared.get(name))
    elif getattr(measurement, "unit", "S"):
        for name in ("conductances", "on", "off"):
            if (values := getattr(measurement, name, None)) is not None:
                check_size(values, "siemens", "conductance", table.path, declared.get("conductance"))


def check_size(values: np.ndarray, unit: str, name: str, where: str, declared: str | None = None) -> None:
    """Refuse values whose largest size no device has.

    Args:
        values: SI.
        unit: "ampere", "volt" or "siemens".
        name: what the values are, for the message: "current".
        declared: the unit that the file's column carries, "mA"; None: not known.

    Raises:
        InputError: with the unit that the numbers look like.
    """
    known = np.abs(values[np.isfinite(values)])
    largest = float(known.max()) if known.size else 0.0
    least, most = _LIMITS[unit]
    if not largest or least <= largest <= most:
        return
    raise InputError(
        f"a {name} of a size that no memristive device shows: the unit is probably wrong", where=where,
        value=f"up to {format_quantity(largest, unit, 3)}",
        limit=f"{format_quantity(least, unit)} to {format_quantity(most, unit)}",
        hint=_suggestion(largest, unit, name, declared),
    )  # fmt: skip


def _suggestion(largest: float, unit: str, name: str, declared: str | None) -> str:
    low, high = _USUAL[unit]
    symbol = _SYMBOLS[unit]
    scale = parse_quantity(f"1 {declared or symbol}", unit)
    # Of the prefixes that lead to a usual size, the one whose factor is nearest to the declared.
    fitting = [prefix for prefix, power in _PREFIXES.items() if low <= largest / scale * 10.0**power <= high]
    if not fitting:
        return f"No usual unit makes it one: look at the column of the {name}"
    best = min(fitting, key=lambda prefix: abs(_PREFIXES[prefix] - math.log10(scale)))
    return f"The numbers look like {best}{symbol}" + (f", not {declared}" if declared else "")
