"""Where a parameter set was measured, and which set a device was made of."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import model_validator

from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError, DomainWarning
from mdls_cosim.quantities import SHARE, Conductance, Current, Temperature, Time, Voltage, format_quantity

Quantity = Literal["voltage", "current", "time", "temperature", "conductance"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
_UNITS = {
    "voltage": "volt", "current": "ampere", "time": "second", "temperature": "kelvin", "conductance": "siemens",
}  # fmt: skip
_EDGE = 1e-3
"""Share of a range by which a value may lie beyond it: measured extremes are known no better."""
_KELVIN = 1.0
"""Temperatures within this of the measured ones count as equal [K]."""


class Validity(Config):
    """Ranges of the measurements that a device was fitted to; None: not known, so not checked."""

    voltage: tuple[Voltage, Voltage] | None = None
    """Over the device [V], as it is mounted."""
    current: tuple[Current, Current] | None = None
    """Of the device [A]."""
    time: tuple[Time, Time] | None = None
    """Step between readings, or width of a pulse, and the longest measurement [s]."""
    temperature: tuple[Temperature, Temperature] | None = None
    """[K]"""
    conductance: tuple[Conductance, Conductance] | None = None
    """Of the states that the device was in [S], in the small-signal limit."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in QUANTITIES:
            span = getattr(self, name)
            if span is not None and span[0] > span[1]:
                raise ConfigError("a range whose ends are swapped", where=name, value=self.text(name))
        return self

    @classmethod
    def of_table(cls, table: Any, where: str) -> Self:
        """The ranges of the table [calibration.validity] of a parameter file, its other keys left out."""
        if not isinstance(table, Mapping):
            return cls()
        return cls.from_text_dict({name: table[name] for name in QUANTITIES if name in table}, where)

    def text(self, quantity: Quantity) -> str:
        """The range in words, "-640 mV to 300 mV"; "not known"."""
        span = getattr(self, quantity)
        return "not known" if span is None else _span_text(quantity, *span)

    def outside(self, quantity: Quantity, values: Any) -> np.ndarray:
        """Which of `values` (SI) lie beyond the range; none where it is not known."""
        numbers = np.asarray(values, dtype=np.float64)
        span = getattr(self, quantity)
        if span is None:
            return np.zeros(numbers.shape, dtype=bool)
        low, high = span
        edge = _KELVIN if quantity == "temperature" else _EDGE * max(abs(low), abs(high))
        if quantity == "time":  # over decades
            return (numbers < low * (1 - _EDGE)) | (numbers > high * (1 + _EDGE))
        return (numbers < low - edge) | (numbers > high + edge)


class ParameterOrigin(Config):
    """The parameter set that a device was made of: part of the provenance of all that is computed with the device."""

    name: str
    """Of the set, or of its file without the folder."""
    title: str = ""
    """What device it is."""
    source: str = ""
    """DOI, or the measurement."""
    file_hash: str = ""
    """sha256 of the file."""
    error: Annotated[float, SHARE] | None = None
    """Of the calibration on what was fitted, a share; see `error_meaning`."""
    held_out_error: Annotated[float, SHARE] | None = None
    """The same on what was held out."""
    error_meaning: str = ""
    """What the error is of and relative to."""
    validity_text: str = ""
    """The sentence of the set."""
    validity: Validity = Validity()
    """Ranges that uses are checked against."""
    variability: dict[str, Any] | None = None
    """Table [variability] of the set, as text."""
    changed: tuple[str, ...] = ()
    """Parameters that are not those of the set."""

    @classmethod
    def of_file(cls, name: str, content: Mapping[str, Any], file_hash: str) -> Self:
        """The origin that the content of a parameter file describes."""
        calibration = content.get("calibration")
        calibration = calibration if isinstance(calibration, Mapping) else {}

        def said(table: Mapping[str, Any], key: str) -> str:
            value = table.get(key)
            return value if isinstance(value, str) else ""

        def number(key: str) -> float | None:
            value = calibration.get(key)
            return float(value) if isinstance(value, float | int) and np.isfinite(value) else None

        spread = content.get("variability")
        return cls(
            name=name,
            title=said(content, "title"),
            source=said(content, "source"),
            file_hash=file_hash,
            error=number("error"),
            held_out_error=number("held_out_error"),
            error_meaning=said(calibration, "error_meaning"),
            validity_text=said(content, "validity"),
            validity=Validity.of_table(calibration.get("validity"), f"{name}: calibration.validity"),
            variability=dict(spread) if isinstance(spread, Mapping) else None,
        )

    def with_changed(self, names: Mapping[str, Any]) -> Self:
        """This origin of a device that has other values of some parameters."""
        return self.replace(changed=tuple(sorted({*self.changed, *names}))) if names else self


_warned: set[tuple[str, str, str]] = set()


def warn_outside(origin: ParameterOrigin, uses: Mapping[Quantity, Any], who: str) -> dict[Quantity, int]:
    """Numbers of uses beyond the measurements of a parameter set, without zeros; a DomainWarning where they are new.

    Each quantity is warned of once for each file and `who`.

    Args:
        uses: values (SI) by quantity.
        who: uses them, as "a network" or "the experiment pulse".
    """
    counts: dict[Quantity, int] = {}
    said = []
    for quantity, given in uses.items():
        values = np.asarray(given, dtype=np.float64)
        outside = origin.validity.outside(quantity, values)
        if not outside.any():
            continue
        counts[quantity] = int(outside.sum())
        key = (origin.file_hash or origin.name, quantity, who)
        if key not in _warned:
            _warned.add(key)
            beyond = values[outside]
            reached = _span_text(quantity, float(beyond.min()), float(beyond.max()))
            said.append(f"{quantity} {reached}, {counts[quantity]} times (measured: {origin.validity.text(quantity)})")
    if said:
        # The file may hold a title of any length; its name is enough.
        warnings.warn(
            f"{who} goes beyond the measurements of the parameter set {origin.name}: {'; '.join(said)}. "
            "Its error does not hold there. Further uses are counted.",
            DomainWarning,
            stacklevel=3,
        )
    return counts


def forget_warnings() -> None:
    """Warn again of uses that a warning was given of."""
    _warned.clear()


def _span_text(quantity: str, low: float, high: float) -> str:
    first, last = (format_quantity(each, _UNITS[quantity], 3) for each in (low, high))
    return first if first == last else f"{first} to {last}"
