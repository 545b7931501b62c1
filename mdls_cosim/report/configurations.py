"""Stored configurations as text: each is built again as it was typed and given to `quantities.describe`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdls_cosim.characterize import Characterization
from mdls_cosim.config import Config
from mdls_cosim.errors import MdlsError
from mdls_cosim.quantities import Quantity, describe, number_text, unit_of
from mdls_cosim.tiles import TileSpec

AS_STORED = "SI values as stored, this version cannot read them"
"""Shown in the entry "units" with a configuration that cannot be built."""


def described(kind: type[Config], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Description of the `kind` of configuration that was stored as `as_dict()`.

    Where this version cannot build it, the values as they are stored, without units, and an entry that says so.
    """
    try:
        return dict(describe(kind(**stored)))
    except (MdlsError, TypeError):
        return _as_stored(stored)


def described_tile(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Description of a stored TileSpec."""
    return described(TileSpec, stored)


def described_dataset(config: Mapping[str, Any]) -> dict[str, Any]:
    """Description of the configuration of a Dataset; of every corner what differs from the tile."""
    found = described(Characterization, config)
    tile, corners = found.get("tile"), found.get("corners")
    if isinstance(tile, Mapping) and isinstance(corners, Mapping):
        found["corners"] = {name: _changes(tile, corner) or "as the tile" for name, corner in corners.items()}
    return found


def subcircuits(config: Mapping[str, Any]) -> dict[str, str]:
    """The files of users' subcircuits, by the name of the subcircuit."""
    tiles = [config.get("tile"), *(config.get("corners") or {}).values()]
    cells = [tile["cell"] for tile in tiles if isinstance(tile, Mapping) and isinstance(tile.get("cell"), Mapping)]
    return {cell["subcircuit"]: cell["text"] for cell in cells if cell.get("model") == "subcircuit"}


def stored_hardware(stored: Mapping[str, Any]) -> Config | None:
    """The Hardware that was stored, with the tile of a surrogate in its place; None where it cannot be built."""
    from mdls_cosim.analog import Hardware  # imports torch

    tile = stored.get("tile")
    try:
        return Hardware(**{**stored, "tile": TileSpec(**(tile.get("spec", tile) if isinstance(tile, Mapping) else {}))})
    except (MdlsError, TypeError):
        return None


def described_hardware(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Description of a stored Hardware, and which surrogate computes its tile."""
    hardware = stored_hardware(stored)
    if hardware is None:
        return _as_stored(stored)
    found: dict[str, Any] = dict(describe(hardware))
    named = {name: stored["tile"][name] for name in ("surrogate", "content_hash") if name in stored["tile"]}
    return {**found, "tile": {**named, **found["tile"]}}


def described_simulation(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Description of a stored Simulation without its sweep, which the tables of points show."""
    from mdls_cosim.network.experiment import Simulation  # imports torch

    found = described(Simulation, stored)
    found.pop("sweep", None)
    return found


def axis_texts(hardware: Config | None, axis: Mapping[str, Any], values: Any) -> list[str]:
    """The values of the axis of a sweep: as the user wrote them, a bare number with the unit of the field that it sets.

    Args:
        hardware: that of the base, `stored_hardware`.
        axis: "name", "texts" and "numeric" as stored.
        values: SI numbers along the axis.
    """
    texts = [str(text) for text in axis["texts"]]
    unit = None if hardware is None else _unit_at(hardware, axis["name"].split(",")[0].strip().split("."))
    if unit is None or isinstance(unit, Quantity) or not axis["numeric"]:  # quantities are written with their unit
        return texts
    return [number_text(float(value), unit) for value in values]


def _unit_at(config: Any, path: list[str]) -> Any:
    """The unit of the field at a dotted path, members of lists by their kind; None where there is no such field."""
    for position, name in enumerate(path):
        if isinstance(config, tuple):
            config = next((each for each in config if getattr(each, "effect", None) == name), None)
        elif not isinstance(config, Config) or name not in type(config).model_fields:
            return None
        elif position == len(path) - 1:
            return unit_of(type(config), name)
        else:
            config = getattr(config, name)
    return None


def _as_stored(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {"units": AS_STORED, **_present(stored)}


def _changes(tile: Mapping[str, Any], corner: Mapping[str, Any]) -> dict[str, Any]:
    """The entries in which a corner differs from the tile."""
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


def _present(value: Any) -> Any:
    """Stored values without those that are absent or empty, and without whole files and parameter sets."""
    if isinstance(value, Mapping):
        own = value.get("model") == "subcircuit"
        return {
            name: _present(each)
            for name, each in value.items()
            if each not in (None, {}, [], ()) and name != "origin" and not (own and name == "text")
        }
    return value
