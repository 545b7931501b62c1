"""An audit's report: how wrong the tiles of every layer are on what reaches them, and what that means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdls_cosim.errors import StoreError, brief
from mdls_cosim.provenance import parse_json
from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.configurations import described_tile
from mdls_cosim.report.page import Picture, as_picture, write_figures, write_page
from mdls_cosim.report.tables import Table, settings_table, with_interval
from mdls_cosim.report.wording import Level, capital, error_percent, finite, metric_words
from mdls_cosim.text_files import MEGABYTE, read_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 7  # layers that a scatter plot can tell apart
_PARTS = (("fit", "Fit"), ("model", "Model"))

LARGEST_AUDIT = 100 * MEGABYTE
"""Size of a file audit.json that is read [bytes]."""


def read_audit(path: Path) -> dict[str, Any]:
    """What `mdls-cosim audit` left in a file audit.json.

    Raises:
        StoreError: it holds something else.
    """
    try:
        found = parse_json(read_bytes(path, "the audit", largest=LARGEST_AUDIT))
    except ValueError as error:
        raise StoreError(f"not JSON ({brief(error)})", where=str(path)) from None
    if not isinstance(found, dict) or not {"by_layer", "pairs", "subject"} <= found.keys():
        hint = "mdls-cosim audit EXPERIMENT.toml writes one: audit.json"
        raise StoreError("not the results of an audit", where=str(path), hint=hint)
    return found


def render_audit(found: Mapping[str, Any], path: Path, figures: Path | None = None) -> None:
    """Writes all that an audit found as one self-contained HTML file.

    Args:
        found: `AuditReport.as_dict()`, with its `pairs_as_dict()` as "pairs", and as "subject" what was audited:
            "model", "data", "parameters" and other settings. A file audit.json holds this.
        path: the HTML file; replaced if it exists.
        figures: folder for the figures as PNG files besides; made if it does not exist.
    """
    pictures = _pictures(found)
    if figures is not None:
        write_figures(pictures, figures)
    accuracy, richer, about = found["accuracy"], found["reference_tile"] or {}, found["subject"]
    tables, layers = audit_tables(found), found["by_layer"]
    write_page(
        path,
        "audit.html.j2",
        about=about,
        vectors=found["vectors"],
        reference="ngspice" if found["reference"] == "SpiceTile" else found["reference"],
        richer=bool(richer),
        split=PARTS in tables,
        read_time=None if found["read_time"] is None else format_quantity(found["read_time"], "second"),
        at_rest=AT_REST if found["settling_left_out"] else None,
        rms=error_percent(found["rms"]),
        p99=error_percent(found["p99"]),
        worst=max(layers, key=lambda layer: layer["rms"])["name"] or "(model)",
        as_is=None if accuracy is None else _as_is(accuracy),
        injected=None if accuracy is None else _injected(accuracy),
        changed=None if accuracy is None or accuracy["changed"] is None else error_percent(accuracy["changed"]),
        measured=metric_words(accuracy),
        runs=0 if accuracy is None else len(accuracy["runs"]),
        images=0 if accuracy is None else accuracy["images"],
        some_tiles=any(layer["tiles"] < layer["tiles_of"] for layer in layers),
        unreached=", ".join(found["unreached"]),
        pictures=pictures,
        errors=tables[ERRORS],
        parts=tables.get(PARTS),
        settings=settings_table({**about, "seed": found["seed"]}),
        tile=settings_table(_shown_tile(richer)),
    )


AT_REST = (
    "The circuit has capacitances or an amplifier with its pole, and was read at rest: how it settles does not show. "
    "A read time (--read-time) tells."
)
ERRORS, PARTS = "Errors of the column currents, with 95 % intervals", "Fit and model"


def audit_tables(audit: Mapping[str, Any]) -> dict[str, Table | None]:
    """Every table of an `AuditReport.as_dict()`, by its title."""
    layers = audit["by_layer"]
    tables: dict[str, Table | None] = {ERRORS: _error_table(layers, audit)}
    if any(layer.get("fit") for layer in layers):
        tables[PARTS] = _part_table(layers)
    if accuracy := audit["accuracy"]:
        rows = (("As it is", _as_is(accuracy)), ("With the errors injected", _injected(accuracy)))
        if accuracy["changed"] is not None:
            rows += (("Items of another class", error_percent(accuracy["changed"])),)
        tables[capital(metric_words(accuracy))] = Table(
            ("", f"{accuracy['images']} items, {len(accuracy['runs'])} injections"), rows
        )
    return tables


def _shown_tile(tile: Mapping[str, Any]) -> dict[str, Any]:
    """Description of the reference tile without what is zero, and without its size, which is each layer's own."""
    if not tile:
        return {}
    return {
        name: text
        for name, text in described_tile(tile).items()
        if name not in ("rows", "cols") and tile.get(name, text) != 0.0
    }


def _error_table(layers: Sequence[Mapping[str, Any]], audit: Mapping[str, Any]) -> Table:
    rows = [
        (
            layer["name"] or "(model)",
            f"{layer['tiles']} of {layer['tiles_of']}",
            _sized(layer, "rms"),
            _sized(layer, "p99"),
            _steps(layer),
        )
        for layer in layers
    ]
    rows.append(("All", "", error_percent(audit["rms"]), error_percent(audit["p99"]), ""))
    return Table(("Layer", "Tiles", "RMS error", "99th percentile", "RMS, ADC steps"), tuple(rows))


def _part_table(layers: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            layer["name"] or "(model)",
            *(_sized(layer[part], "rms") for part, _ in _PARTS),
            *(_steps(layer[part]) for part, _ in _PARTS),
        )
        for layer in layers
    )
    headings = [f"{title}, {of}" for of in ("RMS error", "ADC steps") for _, title in _PARTS]
    return Table(("Layer", *headings), rows)


NO_INTERVAL = "no interval"


def _sized(error: Mapping[str, Any], name: str) -> str:
    """An error with its interval, or that it has none."""
    told = with_interval(error[name], error[f"{name}_interval"])
    return told if error[f"{name}_interval"] is not None else f"{told} ({NO_INTERVAL})"


def _steps(error: Mapping[str, Any]) -> str:
    """In steps of the ADC, with the interval."""
    steps = finite(error["adc_steps"])
    if steps is None:
        return "–"
    interval = error["adc_steps_interval"]
    between = NO_INTERVAL if interval is None else f"{interval[0]:.3g} – {interval[1]:.3g}"
    return f"{steps:.3g} ({between})"


def _as_is(accuracy: Mapping[str, Any]) -> str:
    return Level(accuracy["as_is"], metric=metric_words(accuracy)).text


def _injected(accuracy: Mapping[str, Any]) -> str:
    return Level(accuracy["mean"], accuracy["std"], len(accuracy["runs"]), metric_words(accuracy)).text


def _pictures(found: Mapping[str, Any]) -> dict[str, Picture]:
    # Imported here: matplotlib takes longer than all the rest, and who reads tables alone does without.
    from mdls_cosim.report.figures import draw_scatter

    layers, pairs = found["by_layer"], found["pairs"]
    named = len(layers) <= _NAMED
    curves = {
        "surrogate": pairs["own"],
        "spice": pairs["reference"],
        "layer": [layers[place]["name"] or "(model)" for place in pairs["layer"]] if named else None,
    }
    scatter = draw_scatter(curves, found)
    return {
        "layers": as_picture(draw_errors(layers), "Error of every layer with its interval"),
        "scatter": as_picture(scatter, "Currents of the network's tiles against the reference's"),
    }


def draw_errors(layers: Sequence[Mapping[str, Any]]) -> Figure:
    """RMS error of every layer with its interval; of fit and model too, where they are told apart."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from mdls_cosim.report.style import BLACK, BLUE, STYLE, VERMILLION

    series = [("whole", layers, BLACK, "o")]
    for (part, title), colour, marker in zip(_PARTS, (BLUE, VERMILLION), ("s", "^"), strict=True):
        if all(layer[part] is not None for layer in layers):
            series.append((title.lower(), [layer[part] for layer in layers], colour, marker))
    names = [layer["name"] or "(model)" for layer in layers]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.8, max(2.2, 0.34 * len(names) + 1.4)), layout="constrained")
        axes = figure.subplots()
        for number, (label, errors, colour, marker) in enumerate(series):
            middle = np.array([error["rms"] for error in errors])
            ends = np.array([error["rms_interval"] or (error["rms"], error["rms"]) for error in errors])
            # The bootstrap's percentiles need not hold the value itself.
            sides = np.abs([np.minimum(ends[:, 0] - middle, 0), np.maximum(ends[:, 1] - middle, 0)])
            height = np.arange(len(names)) + 0.18 * (number - (len(series) - 1) / 2)
            axes.errorbar(
                middle,
                height,
                xerr=sides,
                fmt=marker,
                color=colour,
                markersize=6,
                capsize=3,
                elinewidth=1.2,
                label=label,
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set_xlabel("RMS error of the column currents (of their RMS)")
        axes.grid()
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=3)
        return figure
