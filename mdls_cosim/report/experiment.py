"""A simulation's report: accuracy against everything that was swept, and what happened in the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdls_cosim.devices.lifetime import duration_text, lifetimes
from mdls_cosim.errors import MdlsError
from mdls_cosim.quantities import describe_value, format_quantity
from mdls_cosim.report.configurations import axis_texts, described_hardware, described_simulation, stored_hardware
from mdls_cosim.report.device_card import origin_table, origins
from mdls_cosim.report.page import Picture, as_picture, write_figures, write_page
from mdls_cosim.report.tables import Table, settings_table, tool_table
from mdls_cosim.report.wording import Level, capital, error_percent, finite, metric_words, words
from mdls_cosim.tiles import TileSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mdls_cosim.network.experiment import SimulationResult
    from mdls_cosim.store import Array

SHOWN_FAILURES = 10
_LOGARITHMIC = 15.0  # times the lowest value, from which an axis is
_MOST_TICKS = 12


def render_simulation(result: SimulationResult, path: Path, name: str, figures: Path | None = None) -> None:
    """Writes all that a simulation found as one self-contained HTML file.

    Args:
        path: the HTML file; replaced if it exists.
        name: of the result's file.
        figures: folder for the figures as PNG files besides; made if it does not exist.
    """
    pictures = _pictures(result)
    if figures is not None:
        write_figures(pictures, figures)
    config, origin = result.config, result.provenance
    write_page(
        path,
        "experiment.html.j2",
        name=name,
        about=config["subject"],
        images=config["images"],
        asked=asked if (asked := config["simulation"].get("images") or 0) > config["images"] else None,
        runs=config["simulation"]["runs"],
        float_accuracy=_float_accuracy(result),
        base=_accuracy(result, result.base, ()),
        measured=_measured(result),
        pictures=pictures,
        sweeps=[
            (f"sweep{k}", capital(" and ".join(map(field_words, sweep))), _sweep_table(result, name))
            for k, (name, sweep) in enumerate(_sweeps(result))
        ],
        layers=_layer_table(result),
        limits=_limit_table(result),
        lifetimes=_lifetime_table(result),
        skipped=_skipped_table(result),
        surrogates=_surrogate_table(result),
        failures=result.failures,
        most_failures=SHOWN_FAILURES,
        specification=settings_table(described_simulation(config["simulation"])),
        hardware=settings_table(described_hardware(config["hardware"])),
        parameter_sets=[(name, origin_table(origin)) for name, origin in origins(config)],
        origin=settings_table(
            {
                "content hash": origin.content_hash,
                "network": config["subject"]["model_hash"],
                "data": config["subject"]["data_hash"],
                "parents": ", ".join(origin.parents) or "none",
                "seed": origin.seed,
                "made (UTC)": origin.created_utc,
            }
        ),
        tools=tool_table(origin.tools),
    )


def simulation_tables(result: SimulationResult) -> dict[str, Table | None]:
    """Every table of numbers, by its title."""
    rows = (("Float network", _float_accuracy(result)), ("Base hardware", _accuracy(result, result.base, ())))
    tables: dict[str, Table | None] = {capital(_metric(result)): Table(("", _measured(result)), rows)}
    for name, _ in _sweeps(result):
        tables[f"Swept: {name}"] = _sweep_table(result, name)
    tables["Layers at the base hardware"] = _layer_table(result)
    tables["Lifetime of the cells' state, by the device's own equation"] = _lifetime_table(result)
    tables[
        "Outside the domain of a surrogate, held at the range of the device, or beyond the measurements of a set"
    ] = _limit_table(result)
    return tables


def field_words(name: str) -> str:
    """ "tile.row_line_resistance, tile.column_line_resistance" in words, what holds both once."""
    paths = [each.strip().removeprefix("variability.effects.").split(".") for each in name.split(",")]
    shared = all(path[:-1] == paths[0][:-1] for path in paths)
    return " and ".join(words(" ".join(path[-1:] if shared and k else path)) for k, path in enumerate(paths))


def _sweeps(result: SimulationResult) -> Iterator[tuple[str, list[str]]]:
    """Names of sweeps, and of their axes."""
    for name, axes in result.config["sweeps"].items():
        yield name, [axis["name"] for axis in axes]


def _axis_texts(result: SimulationResult, name: str) -> list[list[str]]:
    """The values along every axis of a sweep as text."""
    hardware, arrays = stored_hardware(result.config["hardware"]), result.sweeps[name]
    return [axis_texts(hardware, axis, arrays[axis["name"]].values) for axis in result.config["sweeps"][name]]


# ---- Tables -----------------------------------------------------------------------------------------------------


def _metric(result: SimulationResult) -> str:
    """ "accuracy", or the metric that takes its place in all arrays of that name."""
    return metric_words(result.config["simulation"])


def _measured(result: SimulationResult) -> str:
    return f"Test {_metric(result)}"


def _float_accuracy(result: SimulationResult) -> str:
    return Level(float(result.base["float_accuracy"].values), metric=_metric(result)).text


def _accuracy(result: SimulationResult, arrays: Mapping[str, Array], place: tuple[int, ...]) -> str:
    """Mean and spread at one point."""
    mean, std = (float(arrays[f"accuracy_{name}"].values[place]) for name in ("mean", "std"))
    if finite(mean) is None:
        return "–"
    if finite(std) is not None and _metric(result) == "accuracy":
        return f"{mean * 100:.1f}\u00a0±\u00a0{std * 100:.1f}\u00a0%"
    return Level(mean, finite(std), metric=_metric(result)).text


def _sweep_table(result: SimulationResult, name: str) -> Table:
    arrays, axes = result.sweeps[name], result.config["sweeps"][name]
    texts, rows = _axis_texts(result, name), []
    for place in np.ndindex(arrays["accuracy_mean"].values.shape):
        values = [own[index] for own, index in zip(texts, place, strict=True)]
        rows.append(
            (
                *values,
                _accuracy(result, arrays, place),
                *(error_percent(arrays[f"{each}_saturation"].values[place]) for each in ("dac", "adc")),
                *(_count(arrays[f"clipped_{each}_per_chip"].values[place]) for each in ("weights", "conductances")),
                _count(arrays["outside_total"].values[place]),
            )
        )
    headings = tuple(capital(field_words(axis["name"])) for axis in axes)
    told = (
        _measured(result), "DAC saturated", "ADC saturated", "Weights clipped", "Cells clipped", "Outside domain",
    )  # fmt: skip
    return Table((*headings, *told), tuple(rows), names=len(axes))


def _lifetime_table(result: SimulationResult) -> Table | None:
    """At 0 V and at plus and minus the read voltage of the base hardware."""
    hardware = result.config["hardware"]
    tile = hardware["tile"]
    try:
        spec = TileSpec(**tile.get("spec", tile))
    except MdlsError:  # a stored tile of another version
        return None
    found = lifetimes(spec.device, hardware["read_voltage"], spec.temperature)
    rows = tuple(
        (format_quantity(each.voltage, "volt"), f"{each.start:.3g} to {each.end:.3g}", duration_text(each.seconds))
        if math.isfinite(each.seconds)
        else (format_quantity(each.voltage, "volt"), "no state by a tenth of the range", "–")
        for each in found
    )
    return Table(("Voltage", "State moves", "In"), rows) if rows else None


def _layer_table(result: SimulationResult) -> Table | None:
    base, names = result.base, result.config["layers"]
    rows = tuple(
        (
            layer or "(model)",
            *(error_percent(base[each].values[k]) for each in ("layer_error", "layer_error_in_network")),
            *(error_percent(base[f"{each}_saturation_by_layer"].values[k]) for each in ("dac", "adc")),
            *(_count(base[f"clipped_{each}_per_chip_by_layer"].values[k]) for each in ("weights", "conductances")),
        )
        for k, layer in enumerate(names)
    )
    headings = (
        "Layer", "Error alone", "In the network", "DAC saturated", "ADC saturated", "Weights clipped", "Cells clipped",
    )  # fmt: skip
    return Table(headings, rows) if rows else None


def _limit_table(result: SimulationResult) -> Table | None:
    """By layer and limit; None where nothing was outside."""
    limits, outside = result.config["limits"], result.base["outside_by_layer"].values
    if not limits or not np.nansum(outside):
        return None
    rows = tuple((layer or "(model)", *map(_count, outside[k])) for k, layer in enumerate(result.config["layers"]))
    return Table(("Layer", *map(capital, limits)), rows)


def _skipped_table(result: SimulationResult) -> Table | None:
    rows = tuple((name or "(model)", kind, reason) for name, kind, reason in result.config["skipped"])
    return Table(("Layer", "Kind", "Why"), rows, names=3) if rows else None


def _surrogate_table(result: SimulationResult) -> Table | None:
    found = result.config["surrogates"]
    rows = []
    for each in found:
        spec, error = each["spec"], each["error"] or {}
        wires = " / ".join(
            describe_value(TileSpec, name, spec[name]) for name in ("row_line_resistance", "column_line_resistance")
        )
        rows.append(
            (
                f"{spec['rows']}x{spec['cols']}, {words(spec['cell']['model'])} cells",
                wires,
                error_percent(error.get("rms")),
                error_percent(max((error.get("classes") or {}).values(), default=None)),
                each["content_hash"][7:19],
            )
        )
    headings = ("Tile", "Row / column line", "RMS error", "Worst class", "Content hash")
    return Table(headings, tuple(rows)) if rows else None


def _count(value: Any) -> str:
    number = finite(value)
    return "–" if number is None else f"{number:,.0f}".replace(",", "\u202f")


# ---- Figures ----------------------------------------------------------------------------------------------------


def _pictures(result: SimulationResult) -> dict[str, Picture]:
    # Imported here: matplotlib takes longer than all the rest, and who reads tables alone does without.
    pictures = {}
    for k, (name, axes) in enumerate(_sweeps(result)):
        if len(axes) <= 2:
            said = f"{_measured(result)} against {' and '.join(map(field_words, axes))}"
            pictures[f"sweep{k}"] = as_picture(draw_sweep(result, name), said)
    if len(result.config["layers"]):
        pictures["layers"] = as_picture(draw_layers(result), "Error of every layer's outputs")
    return pictures


def draw_sweep(result: SimulationResult, name: str) -> Figure:
    """Accuracy against the first axis, a line for every value of the second; float and base as lines across."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from mdls_cosim.report.figures import accuracy_axis, ramp
    from mdls_cosim.report.style import BLUE, COLOURS, MARKERS, SERIES, STYLE, VERMILLION

    arrays, axes_of = result.sweeps[name], result.config["sweeps"][name]
    means, spreads = (arrays[f"accuracy_{each}"].values for each in ("mean", "std"))
    float_accuracy, base = (float(result.base[each].values) for each in ("float_accuracy", "accuracy_mean"))
    with rc_context(STYLE):
        figure = Figure(figsize=(6.8, 4.1), layout="constrained")
        axes = figure.subplots()
        places, texts = arrays[axes_of[0]["name"]], _axis_texts(result, name)
        shown, order = _horizontal(axes, places, {**axes_of[0], "texts": texts[0]})
        several = means.ndim == 2
        lines = [(means[:, k], spreads[:, k]) for k in range(means.shape[1])] if several else [(means, spreads)]
        labels = texts[1] if several else ["on this hardware"]
        colours = [VERMILLION]
        if several:  # kinds have colours of their own, where there are enough
            kinds = SERIES[1:] if not axes_of[1]["numeric"] and len(lines) < len(SERIES) else ramp(len(lines))
            colours = list(kinds)
        for k, (mean, spread) in enumerate(lines):
            axes.errorbar(
                shown[order],
                mean[order],
                yerr=None if np.isnan(spread).all() else np.nan_to_num(spread[order]),
                color=colours[k],
                marker=MARKERS[k % len(MARKERS)],
                capsize=4,
                elinewidth=1.2,
                linestyle="-" if axes_of[0]["numeric"] else "none",
                label=labels[k],
            )
        across = [("float network", float_accuracy, COLOURS["float"], (2, 2)), ("base hardware", base, BLUE, (6, 2))]
        for label, level, colour, dashes in across:
            if np.isfinite(level):
                shown_level = f"{level * 100:.1f} %" if _metric(result) == "accuracy" else f"{level:.4g}"
                axes.axhline(level, color=colour, dashes=dashes, linewidth=1.4, label=f"{label}, {shown_level}")
        if _metric(result) == "accuracy":
            known = means - np.nan_to_num(spreads)
            lowest = min([float_accuracy, *known[np.isfinite(known)].tolist()])
            bottom = max(0.0, float(np.floor((lowest - 0.03) * 20) / 20))
            accuracy_axis(axes, bottom, 1.0 + 0.03 * (1 - bottom))
        else:
            axes.set_ylabel(_measured(result))
        axes.grid()
        title = capital(field_words(axes_of[1]["name"])) if several else None
        axes.legend(loc="best", title=title)
        return figure


def _horizontal(axes: Axes, array: Array, axis: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Sets the horizontal axis up; gives the places of the values on it, and their rising order."""
    from matplotlib.ticker import NullLocator

    from mdls_cosim.report.figures import scaled

    values = np.asarray(array.values, dtype=float)
    label = capital(field_words(axis["name"]))
    if not axis["numeric"]:
        axes.set_xticks(range(len(values)), [str(text) for text in axis["texts"]])
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_xlabel(label)
        return values, np.arange(len(values))
    unit = "" if array.units == "1" else array.units
    if unit == "s":  # as they were given: nobody reads "1 year" in seconds
        later = values[values > 0]
        if later.size and later.max() / later.min() >= _LOGARITHMIC:
            axes.set_xscale("symlog", linthresh=later.min())
        axes.set_xticks(values, [str(text) for text in axis["texts"]])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(label)
        return values, np.argsort(values, kind="stable")
    scale, prefix = scaled(values) if unit not in ("", "ohm", "K") else (1.0, "")
    shown = values / scale
    if len(shown) > 2 and shown.min() > 0 and shown.max() / shown.min() >= _LOGARITHMIC:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        if len(shown) <= _MOST_TICKS:
            axes.set_xticks(np.unique(shown), [f"{each:.4g}" for each in np.unique(shown)])
    elif len(shown) <= _MOST_TICKS and np.array_equal(shown, shown.round()) and np.ptp(shown) < 3 * _MOST_TICKS:
        axes.set_xticks(np.unique(shown))
    axes.set_xlabel(f"{label} ({prefix}{unit})" if unit else label)
    return shown, np.argsort(shown, kind="stable")


def draw_layers(result: SimulationResult) -> Figure:
    """Error of every layer, alone and in the network."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from mdls_cosim.report.style import BLUE, STYLE, VERMILLION

    names = result.config["layers"]
    series: Sequence[tuple[str, str, str, str]] = (
        ("layer_error", "on the inputs of the float network", BLUE, "o"),
        ("layer_error_in_network", "in the network, with the errors before it", VERMILLION, "s"),
    )
    with rc_context(STYLE):
        figure = Figure(figsize=(6.8, max(2.2, 0.34 * len(names) + 1.4)), layout="constrained")
        axes = figure.subplots()
        for array, label, colour, marker in series:
            values = result.base[array].values
            axes.plot(values, np.arange(len(names)), marker, color=colour, markersize=7, label=label)
        axes.set_yticks(range(len(names)), [name or "(model)" for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set_xlabel("Error of the outputs (RMS, of the float outputs' RMS)")
        axes.grid()
        figure.legend(loc="outside upper left", ncols=2)
        return figure
