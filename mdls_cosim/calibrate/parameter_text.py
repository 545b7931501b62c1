"""Configurations and results as TOML text that reads back to the very same numbers, quantities with their units."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from mdls_cosim import quantities
from mdls_cosim.config import Config
from mdls_cosim.errors import InputError
from mdls_cosim.quantities import Quantity, format_quantity, parse_quantity

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def quantity_text(value: float, unit: str) -> str:
    """`value` [`unit`] with a prefix, in as many digits as it takes to read back exactly: "25 uS"."""
    if abs(value) > 1e290:  # three digits of it may be no float
        return f"{value!r} {symbol_of(unit)}"
    # format_quantity chooses the prefix and the symbol; the digits are those of the float itself.
    rounded = format_quantity(value, unit, 3)
    number, _, symbol = rounded.partition(" ")
    if float(number) and value:
        shift = round(math.log10(abs(float(number)) / abs(value)))
        number = f"{Decimal(repr(float(value))).scaleb(shift).normalize()}"
    text = f"{_plain(number)} {symbol.replace('µ', 'u')}"
    return text if parse_quantity(text, unit) == value else f"{value!r} {symbol_of(unit)}"


def config_table(config: Config) -> dict[str, Any]:
    """The TOML table of `config`: `type(config).from_text_dict(table)` equals it; absent values are left out."""
    # What tells its kind comes first.
    names = sorted(type(config).model_fields, key=lambda name: name not in ("model", "effect"))
    values = {name: getattr(config, name) for name in names}
    return {name: _told(value, unit_of(config, name)) for name, value in values.items() if value is not None}


def unit_of(config: Config, name: str) -> str | None:
    """The unit of the quantity in the field `name`, as its annotation has it; None for a plain number or no number."""
    unit = quantities.unit_of(type(config), name)
    return unit.unit if isinstance(unit, Quantity) else None


def symbol_of(unit: str) -> str:
    """The symbol of a unit without prefix: "S" of "siemens"."""
    return format_quantity(0.0, unit).partition(" ")[2]


def toml_text(tables: Mapping[str, Any]) -> str:
    """`tables` as a TOML document; sub-tables under their own headings, lists of tables as [[heading]]."""
    lines: list[str] = []  # of what is None or empty there is no line
    _write(tables, (), lines)
    return "\n".join(lines).strip() + "\n"


def _told(value: Any, unit: str | None) -> Any:
    if isinstance(value, Config):
        return config_table(value)
    if isinstance(value, tuple | list):
        return [_told(item, unit) for item in value]
    if isinstance(value, Mapping):
        return {key: _told(item, unit) for key, item in value.items()}
    if isinstance(value, float | int) and not isinstance(value, bool) and unit is not None:
        return quantity_text(float(value), unit)
    return value


def _plain(number: str) -> str:
    """1.5E+2 as 150 where that is short."""
    text = f"{Decimal(number):f}"
    return text if len(text) < 24 else number


def _write(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    table = {key: value for key, value in table.items() if value is not None and value != {} and value != []}
    below = {key: value for key, value in table.items() if _is_table(value) or _is_tables(value)}
    for key, value in table.items():
        if key not in below:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in below.items():
        heading = ".".join(map(_key, (*path, key)))
        for each in [value] if _is_table(value) else value:
            lines += ["", f"[{heading}]" if _is_table(value) else f"[[{heading}]]"]
            _write(each, (*path, key), lines)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(map(_is_table, value))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for the one control character that JSON lets through.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    raise InputError("no TOML for this type", value=type(value).__name__)
