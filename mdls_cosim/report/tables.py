"""Every table of a report: results in, headings and rows of text out; None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mdls_cosim.devices import Sinh
from mdls_cosim.quantities import Quantity, describe_value, format_quantity, unit_of
from mdls_cosim.report.wording import ACRONYMS, capital, digits, error_percent, finite, flat, seconds, words
from mdls_cosim.tiles import RESISTANCES, TileSpec

if TYPE_CHECKING:
    from mdls_cosim.store import Array


@dataclass(frozen=True)
class Table:
    """Rows of text; all columns but the first `names` hold numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


def class_table(validation: Mapping[str, Any]) -> Table | None:
    """RMS error by case class, with its interval if there is one, and a star for `unfitted` classes.

    Names of the form "conductances / inputs" make a grid.
    """
    classes = validation.get("classes") or {}
    if not classes:
        return None
    intervals, unfitted = validation.get("intervals") or {}, validation.get("unfitted") or ()
    texts = {
        name: with_interval(error, intervals.get(name)) + " *" * (name in unfitted) for name, error in classes.items()
    }
    pairs = {tuple(name.split(" / ", 1)): text for name, text in texts.items()}
    if any(len(pair) != 2 for pair in pairs):
        return Table(("Case class", "RMS error"), tuple((words(name), text) for name, text in texts.items()))
    tiles, inputs = (tuple(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    rows = [(capital(words(tile)), *(pairs.get((tile, each), "–") for each in inputs)) for tile in tiles]
    return Table(("Conductances", *(f"{capital(words(each))} inputs" for each in inputs)), tuple(rows))


def with_interval(error: float, interval: Sequence[float] | None) -> str:
    """An error, and the 95 % interval behind it."""
    if interval is None:
        return error_percent(error)
    low, high = (error_percent(end) for end in interval)
    return f"{error_percent(error)} ({low.removesuffix('%').strip()} – {high.removesuffix('%').strip()})"


def fitted_parameters(spec: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Name -> {"true", "fitted"} of the parameters that `surrogates.fit` determines from reads and I-V curves: the four
    resistances, and the nonlinearity of a sinh cell. The parameters of other cells are taken as recorded.

    `spec` and `reference` are `as_dict()` of a TileSpec, SI. "true" is None where the reference does not have it.
    """
    cell = spec.get("cell", {})
    fitted = {name: spec[name] for name in RESISTANCES if name in spec}
    if cell.get("model") == "sinh" and "nonlinearity" in cell:
        fitted["nonlinearity"] = cell["nonlinearity"]
    known = {**(reference or {}), **(reference or {}).get("cell", {})}
    return {name: {"true": known.get(name), "fitted": value} for name, value in fitted.items()}


def fit_table(fit: Mapping[str, Any]) -> Table | None:
    """True and fitted parameters beside each other."""
    rows = [
        (capital(words(name)), _parameter(name, entry.get("true")), _parameter(name, entry.get("fitted"), 5))
        for name, entry in fit.items()
        if isinstance(entry, Mapping)
    ]
    return Table(("Parameter", "In the simulated circuit", "Found by the fit"), tuple(rows)) if rows else None


def _parameter(name: str, value: Any, count: int | None = None) -> str:
    """A parameter of a tile or of its cell with its unit; a fitted one with `count` digits, zeros too: "1.0000 ohm".

    From 1 mohm to 10 kohm without a prefix, so that 0.9998 ohm and 1 ohm compare at a glance.
    """
    owner = TileSpec if name in TileSpec.model_fields else Sinh
    unit, number = unit_of(owner, name), finite(value)
    if number is None or not isinstance(unit, Quantity):
        return describe_value(owner, name, value)
    if unit.unit in ("ohm", "1/volt") and (not number or 1e-3 <= abs(number) < 1e4):
        text = f"{number:.5g}" if count is None else digits(number, count)
        return f"{text}\u00a0{format_quantity(0.0, unit.unit).partition(' ')[2]}"
    return format_quantity(number, unit.unit, 5)


def layer_table(audit: Mapping[str, Any]) -> Table | None:
    """Error by layer of the network; "layers" may be their number alone, with the list under "by_layer"."""
    layers = next((each for each in (audit.get("layers"), audit.get("by_layer")) if _is_list(each)), [])
    if not layers:
        return None
    rows = [
        (
            str(layer.get("name", "?")),
            str(layer.get("vectors", "–")),
            error_percent(layer.get("rms")),
            error_percent(layer.get("p99")),
        )
        for layer in layers
    ]
    rows.append(("All", "", error_percent(audit.get("rms")), error_percent(audit.get("p99"))))
    return Table(("Layer", "Input vectors", "RMS error", "99th percentile"), tuple(rows))


def settings_table(settings: Mapping[str, Any]) -> Table | None:
    """Settings as name and value."""
    rows = tuple((capital(name), value) for name, value in flat(settings))
    return Table(("Setting", "Value"), rows, names=2) if rows else None


def tool_table(tools: Mapping[str, Any]) -> Table | None:
    """Programs and packages with their versions, by their own names."""
    rows = tuple(
        (ACRONYMS.get(str(name), str(name)), ACRONYMS.get(str(value), str(value))) for name, value in tools.items()
    )
    return Table(("Tool", "Version"), rows, names=2) if rows else None


def array_table(experiments: Mapping[str, Mapping[str, Array]]) -> Table | None:
    """Arrays of experiments with their axes and units."""
    rows = tuple(
        (
            f"{group}/{name}",
            ", ".join(map(" ".join, zip(array.dims, map(str, array.values.shape), strict=True))),
            array.units,
        )
        for group, arrays in experiments.items()
        for name, array in arrays.items()
    )
    return Table(("Array", "Axes", "Unit"), rows, names=3) if rows else None


def time_table(stages: Mapping[str, Any]) -> Table | None:
    """How long every stage took."""
    rows = [
        (capital(words(name)), seconds(value)) for name, entry in stages.items() if (value := finite(entry)) is not None
    ]
    return Table(("Stage", "Time"), tuple(rows)) if rows else None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
