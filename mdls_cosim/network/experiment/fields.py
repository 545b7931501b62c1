"""Fields of nested tables and configurations by dotted paths ("adc.bits"), as sweeps and rules name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdls_cosim.config import Config
from mdls_cosim.devices.parameter_files import parameter_set_names
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Quantity, format_quantity, unit_of

CROSS = " x "
"""Between fields of a sweep of all combinations of their values."""


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of whatever is no table: `adc.bits = […]` without quotation marks is a table in a table."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def paths(key: str) -> list[list[str]]:
    """The fields that a key of a sweep names."""
    return [name.strip().split(".") for name in key.split(",")]


def changed(table: Mapping[str, Any], path: list[str], value: Any, where: str) -> dict[str, Any]:
    """`table` with the value at `path`; a member of a list is named by its kind ("programming_error")."""
    name, *rest = path
    if not rest:
        return {**table, name: value}
    inner = table.get(name, {})
    if isinstance(inner, list | tuple):
        kind, *rest = rest
        kinds = [_kind(each) for each in inner]
        if not rest or kinds.count(kind) != 1:
            raise ConfigError(
                "no such member of the list, or no field of it",
                where=where,
                value=".".join((name, kind, *rest)),
                limit=", ".join(f"{name}.{each}.FIELD" for each in kinds if each) or "an empty list has none",
            )
        return {**table, name: [changed(each, rest, value, where) if _kind(each) == kind else each for each in inner]}
    if not isinstance(inner, Mapping):
        hint = None
        if name == "tile":
            hint = (
                "A surrogate stands for one tile: give the tile as a table, and its points get surrogates of their own"
            )
        raise ConfigError("a field that has no fields of its own", where=where, value=name, hint=hint)
    return {**table, name: changed(inner, rest, value, where)}


def merged(nominal: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`nominal` with `changes`, table by table; a table of another kind replaces the whole."""
    found = dict(nominal)
    for name, value in changes.items():
        before = found.get(name)
        found[name] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            found[name] = merged(before, value) if _kind(value) in (None, _kind(before)) else value
    return found


def absolute(table: Any, folder: Path) -> Any:
    """A table whose keys `file`, and `parameters` where it is no set of the package, name absolute paths."""
    if not isinstance(table, Mapping):
        return table
    return {
        name: str(folder / value) if _is_path(name, value) else absolute(value, folder) for name, value in table.items()
    }


def _is_path(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return name == "file" or (name == "parameters" and value not in parameter_set_names())


def value_at(config: Any, path: list[str]) -> tuple[Any, str]:
    """The value at `path` of a configuration, and its unit; None where there is no such field."""
    unit = ""
    for name in path:
        if isinstance(config, tuple):
            config = next((each for each in config if _kind(each) == name), None)
            continue
        field = type(config).model_fields.get(name) if isinstance(config, Config) else None
        if field is None:
            return None, ""
        mark = unit_of(type(config), name)
        config = getattr(config, name)
        unit = _symbol(mark.unit) if isinstance(mark, Quantity) else ""
    return config, unit


def _kind(config: Any) -> str | None:
    """What tells a table, or a configuration, from others of its union."""
    tags = ("model", "kind", "effect")
    found = (config.get(tag) if isinstance(config, Mapping) else getattr(config, tag, None) for tag in tags)
    return next((tag for tag in found if isinstance(tag, str)), None)


def _symbol(unit: str) -> str:
    return format_quantity(1.0, unit).partition(" ")[2]
