"""A Dataset's configuration in words: every value with its unit, corners by what they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from mdls_cosim.characterize import Characterization
from mdls_cosim.config import Config
from mdls_cosim.devices import Device
from mdls_cosim.errors import MdlsError
from mdls_cosim.quantities import Quantity, format_quantity

_ELECTRONVOLT = 1.602176634e-19  # [J], exact in the SI


def readable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a Dataset, values as text with units; what was not run or is empty is left out.

    The file of a user's subcircuit is left out too: `subcircuits` gives it. A configuration that this version cannot
    read stays as it is, SI.
    """
    try:
        found = texts(Characterization(**config))
    except (MdlsError, TypeError):
        found = _known(dict(config))
    tile, corners = found.get("tile"), found.get("corners")
    if isinstance(tile, Mapping) and isinstance(corners, Mapping):
        found["corners"] = {name: _changes(tile, corner) or "as the tile" for name, corner in corners.items()}
    return _without_files(found)


def subcircuits(config: Mapping[str, Any]) -> dict[str, str]:
    """The files of users' subcircuits, by the name of the subcircuit."""
    tiles = [config.get("tile"), *(config.get("corners") or {}).values()]
    cells = [tile["cell"] for tile in tiles if isinstance(tile, Mapping) and isinstance(tile.get("cell"), Mapping)]
    return {cell["subcircuit"]: cell["text"] for cell in cells if cell.get("model") == "subcircuit"}


def texts(config: Config) -> dict[str, Any]:
    """The fields of a configuration by name, quantities as text with units; what is absent is left out."""
    found = {}
    for name, field in type(config).model_fields.items():
        unit = next(_units((*field.metadata, field.annotation)), None)
        value = _text(getattr(config, name), unit)
        if value not in (None, {}, ()):
            found[name] = value
    origin = config.origin if isinstance(config, Device) else None
    return found if origin is None else {**found, "parameter set": origin.name}


def _text(value: Any, unit: str | None) -> Any:
    if isinstance(value, Config):
        return texts(value)
    if isinstance(value, Mapping):
        return {str(key): _text(each, unit) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_text(each, unit) for each in value)
    if unit == "joule" and isinstance(value, float):
        return f"{value / _ELECTRONVOLT:.6g} eV"  # the only energies of a specification are those of activation
    if unit is not None and isinstance(value, float):
        return format_quantity(value, unit)
    return value


def _units(annotations: tuple[Any, ...]) -> Iterator[str]:
    """Units of the quantities among the annotations of a field."""
    for each in annotations:
        if isinstance(each, Quantity):
            yield each.unit
        yield from _units(get_args(each))


def _changes(tile: Mapping[str, Any], corner: Mapping[str, Any]) -> dict[str, Any]:
    """What a corner has otherwise than the tile."""
    found = {}
    for name, value in corner.items():
        before = tile.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and value.get("model") == before.get("model"):
            value = _changes(before, value)
            if value:
                found[name] = value
        elif value != before:
            found[name] = value
    return found | {name: "absent" for name in tile if name not in corner}


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _known(each) for name, each in value.items() if each not in (None, {}, [], ())}
    return value


def _without_files(value: Any) -> Any:
    if isinstance(value, Mapping):
        own = value.get("model") == "subcircuit"
        return {name: _without_files(each) for name, each in value.items() if not (own and name == "text")}
    return value
