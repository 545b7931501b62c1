"""A device card: all that a parameter set says, as tables and a picture; and the sets behind stored results."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mdls_cosim.devices import AnyDevice, Device, DynamicDevice
from mdls_cosim.devices.lifetime import lifetime_warnings, lifetimes
from mdls_cosim.devices.parameter_files import parameter_path, parameter_set_names, read_parameter_file
from mdls_cosim.devices.validity import QUANTITIES, ParameterOrigin
from mdls_cosim.devices.variability import Variability
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import describe, format_quantity, parse_quantity
from mdls_cosim.report.loop_tables import BRANCHES, SPREADS, STATES, branch_table, spread_table, state_table
from mdls_cosim.report.page import as_picture, write_figures, write_page
from mdls_cosim.report.tables import Table, settings_table
from mdls_cosim.report.wording import capital, error_percent, words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READ_VOLTAGE = 0.2
"""Default of `Hardware.read_voltage` [V]: lifetimes are given at it."""
_STATES = 5
_POINTS = 201
_UNKNOWN_REACH = 0.3
"""Voltage of the picture where the set states none [V]."""


@dataclass(frozen=True)
class DeviceCard:
    """A parameter set in words."""

    title: str
    equation: str
    """What the model computes, from its documentation."""
    tables: dict[str, Table]
    """By caption."""
    notes: tuple[str, ...]
    device: Device
    origin: ParameterOrigin


def device_card(name: str) -> DeviceCard:
    """The card of a parameter set: of the package by its name, or in a TOML file.

    Raises:
        ConfigError: there is no such set, or it is none.
    """
    content = read_parameter_file(os.path.abspath(name) if name not in parameter_set_names() else name)
    model = content["device"].get("model")
    table = {"model": model, "parameters": str(parameter_path(name).resolve())}
    try:
        device = TypeAdapter(AnyDevice).validate_python(table, context={"text": True, "folder": ""})
    except ValidationError as error:
        raise ConfigError("no device of a known model", where=name, value=str(error.errors()[0]["msg"])) from None
    origin = device.origin
    assert origin is not None
    calibration = content.get("calibration")
    calibration = calibration if isinstance(calibration, Mapping) else {}
    alive = lifetimes(device, READ_VOLTAGE)
    found = {
        "Where it came from": origin_table(origin.as_dict()),
        "Parameters": settings_table(_parameters(device)),
        "Calibrated values with 95 % intervals": _values(calibration.get("values")),
        "Errors of the calibration": _errors(calibration),
        **_loop_tables(calibration, name),
        "Validity: ranges of the measurements, which uses are checked against": _validity(origin),
        "Lifetime of the state at 300 K": _lifetimes(alive),
        "Variability": settings_table(_effects(content.get("variability"), name)),
    }
    warned = lifetime_warnings(alive)
    told = [each for each in calibration.get("notes", ()) if isinstance(each, str) and each not in warned]
    notes = (*(f"warning: {each}" for each in warned), *told)
    tables = {caption: each for caption, each in found.items() if each is not None}
    title = origin.title or origin.name
    return DeviceCard(title, inspect.getdoc(type(device)) or "", tables, notes, device, origin)


def render_card(name: str, path: Path, figures: Path | None = None) -> None:
    """Writes the card as one self-contained HTML file.

    Args:
        figures: folder for the picture as a PNG file besides.
    """
    card = device_card(name)
    said = "Current against voltage in five states from the least to the highest conductance"
    pictures = {"iv": as_picture(draw_card(card), said)}
    if figures is not None:
        write_figures(pictures, figures)
    write_page(path, "device.html.j2", card=card, name=card.origin.name, pictures=pictures)


def draw_card(card: DeviceCard) -> Figure:
    """Static I-V curves in states from the least to the highest conductance, within the voltages that were measured."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from mdls_cosim.report.figures import ramp, scaled
    from mdls_cosim.report.style import STYLE

    device = card.device
    low, high = card.origin.validity.voltage or (-_UNKNOWN_REACH, _UNKNOWN_REACH)
    voltages = np.linspace(min(low, 0.0), max(high, 0.0), _POINTS)
    with rc_context(STYLE):
        figure = Figure(figsize=(6.8, 4.1), layout="constrained")
        axes = figure.subplots()
        states = _states(card)
        currents = [np.asarray(device.current(voltages, np.full(voltages.shape, state))) for state in states]
        scale, prefix = scaled(np.concatenate(currents))
        for state, current, colour in zip(states, currents, ramp(len(states)), strict=True):
            conductance = float(np.asarray(device.conductance(np.asarray(state))))
            axes.plot(voltages, current / scale, color=colour, label=format_quantity(conductance, "siemens", 3))
        axes.set_xlabel("Voltage over the device (V)")
        axes.set_ylabel(f"Current ({prefix}A)")
        axes.grid()
        axes.legend(loc="best", title="Conductance at 0 V")
        return figure


def _states(card: DeviceCard) -> np.ndarray:
    if isinstance(card.device, DynamicDevice):
        return np.linspace(0.0, 1.0, _STATES)
    low, high = card.origin.validity.conductance or card.device.conductance_range()
    low, high = (low, high) if np.isfinite(high) else (1e-6, 1e-4)
    return np.array([float(np.asarray(card.device.state_for(each))) for each in np.linspace(low, high, _STATES)])


def origins(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The parameter sets behind a stored configuration, each once, by name; entries are those of `ParameterOrigin`."""
    seen: dict[str, Mapping[str, Any]] = {}
    for found in _origins(config):
        seen.setdefault(f"{found.get('file_hash')}{found.get('changed')}", found)
    for found in seen.values():
        yield str(found.get("name")), found


def _origins(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        origin = config.get("origin")
        if isinstance(origin, Mapping) and "model" in config:
            yield origin
        for each in config.values():
            yield from _origins(each)
    elif isinstance(config, list | tuple):
        for each in config:
            yield from _origins(each)


def without_origins(settings: Any) -> Any:
    """Settings with the names of parameter sets in place of all that is known of them, which has tables of its own."""
    if not isinstance(settings, Mapping):
        return settings
    found = {name: without_origins(value) for name, value in settings.items() if name != "origin"}
    origin = settings.get("origin")
    return found | {"parameter set": origin.get("name")} if isinstance(origin, Mapping) else found


def origin_table(origin: Mapping[str, Any]) -> Table | None:
    """Name, source, hash, errors and validity of a parameter set."""
    try:
        known = ParameterOrigin(**origin)
    except (ConfigError, TypeError):
        return settings_table({"parameter set": origin.get("name")})
    ranges = "; ".join(f"{each} {known.validity.text(each)}" for each in QUANTITIES if getattr(known.validity, each))
    rows = {
        "parameter set": known.name,
        "title": known.title,
        "source": known.source,
        "hash of the file": known.file_hash,
        "error": _share(known.error),
        "held-out error": _share(known.held_out_error),
        "error is": known.error_meaning,
        "validity": known.validity_text,
        "checked ranges": ranges or "none stated",
        "changed parameters": ", ".join(known.changed),
    }
    return settings_table({name: value for name, value in rows.items() if value})


def outside_table(outside: Mapping[str, Mapping[str, int]]) -> Table | None:
    """Uses beyond the measurements, by experiment and quantity."""
    rows = tuple((name, quantity, f"{count}") for name, counts in outside.items() for quantity, count in counts.items())
    return Table(("Experiment", "Quantity", "Uses beyond"), rows, names=2) if rows else None


def _share(error: float | None) -> str:
    return "" if error is None else error_percent(error)


def _values(values: Any) -> Table | None:
    rows: list[tuple[str, ...]] = []
    if not isinstance(values, Mapping):
        return None
    for name, each in values.items():
        if not isinstance(each, Mapping):
            continue
        unit, determined = str(each.get("unit", "")), each.get("determined", True)
        ends = [_number(each.get(key), unit) for key in ("low", "high")] if determined else ["not determined", ""]
        rows.append((capital(words(str(name))), _number(each.get("value"), unit), *ends))
    return Table(("Parameter", "Value", "95 % from", "to"), tuple(rows)) if rows else None


def _number(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, float | int):
        return f"{value:.4g}"
    try:
        return format_quantity(parse_quantity(str(value), unit), unit, 4) if unit else str(value)
    except ConfigError:
        return str(value)


def _errors(calibration: Mapping[str, Any]) -> Table | None:
    rows = []
    for use, key in (("fitted", "errors"), ("held out", "held_out")):
        errors = calibration.get(key)
        if isinstance(errors, Mapping):
            rows += [(str(name), use, error_percent(error)) for name, error in errors.items()]
    return Table(("Measurement", "Use", "Error"), tuple(rows), names=2) if rows else None


def _loop_tables(calibration: Mapping[str, Any], where: str) -> dict[str, Table | None]:
    """Branches of loops and spread between devices, as `calibrate` prints them.

    Raises:
        ConfigError: they are not what `calibrate` writes.
    """
    from mdls_cosim.calibrate.agreement import Branch
    from mdls_cosim.calibrate.random_effects import ParameterSpread

    errors, held_out, branches, spread = (
        calibration.get(name) or {} for name in ("errors", "held_out", "branches", "spread")
    )
    tables = (errors, held_out, branches, spread, *(branches.values() if isinstance(branches, Mapping) else ()))
    if not all(isinstance(each, Mapping) for each in tables):
        raise ConfigError("not a parameter file of a calibration", where=where, hint="mdls-cosim calibrate writes them")
    found = {
        name: tuple(Branch.from_text_dict(each, where) for each in signs.values()) for name, signs in branches.items()
    }
    spreads = {name: ParameterSpread.from_text_dict(each, where) for name, each in spread.items()}
    return {
        BRANCHES: branch_table(found, errors, held_out),
        STATES: state_table(found, errors, held_out),
        SPREADS: spread_table(spreads),
    }


def _validity(origin: ParameterOrigin) -> Table | None:
    rows = tuple((capital(each), origin.validity.text(each)) for each in QUANTITIES)
    return Table(("Quantity", "Measured"), rows, names=2)


def _lifetimes(alive: list[Any]) -> Table | None:
    rows = tuple((format_quantity(each.voltage, "volt"), str(each)) for each in alive)
    return Table(("Voltage", "A tenth of the range"), rows, names=2) if rows else None


def _parameters(device: Device) -> dict[str, Any]:
    return {name: text for name, text in describe(device).items() if name not in ("model", "parameter set")}


def _effects(table: Any, where: str) -> dict[str, Any]:
    """The effects of the table [variability] of a parameter set, by their kinds."""
    if not isinstance(table, Mapping):
        return {}
    found = describe(Variability.from_text_dict(table, where)).get("effects", {})
    return found if isinstance(found, dict) else {}
