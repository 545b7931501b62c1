"""The demo's report: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined

from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.configurations import described_tile
from mdls_cosim.report.style import LABELS
from mdls_cosim.report.tables import Table, class_table, fit_table, layer_table, settings_table, time_table, tool_table
from mdls_cosim.report.wording import ACRONYMS, Level, error_percent, finite, levels, percent, wire_levels
from mdls_cosim.tiles import TileSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure inside the page."""

    source: str
    alt: str
    width: int
    height: int


def render_demo(
    results: dict[str, Any], curves: dict[str, dict[str, Any]], path: Path, figures: Path | None = None
) -> None:
    """Writes the report of a demo as one self-contained HTML file.

    Whatever `results` or `curves` do not hold is left out of the page.

    Args:
        results: the content of results.json; accuracies and errors are fractions.
        curves: arrays behind the plots, SI: "iv", "ir_drop" and "scatter" (see `figures.py`).
        path: the HTML file; replaced if it exists.
        figures: folder for the figures as PNG files besides; made if it does not exist.
    """
    accuracies = levels(results.get("accuracy"))
    accuracies = {name: accuracies[name] for name in LABELS if name in accuracies}
    pictures = {name: as_picture(figure, alt) for name, (figure, alt) in _figures(results, curves, accuracies).items()}
    if figures is not None:
        write_figures(pictures, figures)
    words = _words(results, accuracies)
    write_page(path, "demo.html.j2", accuracies=accuracies, pictures=pictures, **words, **_tables(results))


def write_page(path: Path, template: str, **content: Any) -> None:
    """Writes `template`, filled with `content`, as one HTML file."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path.write_text(environment.get_template(template).render(**content), encoding="utf-8")


def write_figures(pictures: Mapping[str, Picture], folder: Path) -> None:
    """Writes pictures as PNG files into `folder`, made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(base64.b64decode(picture.source.partition(",")[2]))


def _template(name: str) -> str:
    return resources.files("mdls_cosim.report").joinpath(name).read_text(encoding="utf-8")


def _figures(
    results: Mapping[str, Any], curves: Mapping[str, Any], accuracies: Mapping[str, Level]
) -> dict[str, tuple[Figure, str]]:
    """Every figure that there is data for, with its text for those who do not see it."""
    # Imported here: matplotlib takes longer than all the rest, and who reads tables alone does without.
    from mdls_cosim.report import figures as draw

    found: dict[str, tuple[Figure, str]] = {}
    if accuracies:
        said = ", ".join(f"{name} {value.text}" for name, value in accuracies.items())
        found["accuracy"] = draw.draw_accuracy(accuracies), f"Bars of test accuracy: {said}"
    if points := wire_levels(results.get("wire_sweep")):
        said = ", ".join(f"{name} {value.text}" for _, name, value in points)
        found["wire_sweep"] = draw.draw_wire_sweep(points, accuracies), f"Accuracy against wire resistance: {said}"
    if _holds(curves, "iv", "conductances", "voltages", "spice", "fitted"):
        found["iv"] = draw.draw_current_voltage(curves["iv"]), "Current against voltage of single cells"
    if _holds(curves, "ir_drop", "cell_voltages", "applied"):
        found["ir_drop"] = draw.draw_ir_drop(curves["ir_drop"]), "Map of the voltage across every cell of a tile"
    if _holds(curves, "scatter", "spice", "surrogate"):
        audit = results.get("audit") or {}
        found["scatter"] = draw.draw_scatter(curves["scatter"], audit), "Currents of the surrogate against ngspice's"
    return found


def _holds(curves: Mapping[str, Any], name: str, *arrays: str) -> bool:
    entry = curves.get(name)
    return bool(entry) and all(array in entry and np.size(entry[array]) for array in arrays)


def as_picture(figure: Figure, alt: str) -> Picture:
    """The figure as a PNG inside the page."""
    from mdls_cosim.report.figures import to_png

    png = to_png(figure)
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    return Picture(f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}", alt, width, height)


def _words(results: Mapping[str, Any], accuracies: Mapping[str, Level]) -> dict[str, str]:
    """The sentences that depend on what the results hold; empty where there is nothing to say."""
    lost, runs, tool = "", "", ""
    if "ideal" in accuracies and "surrogate" in accuracies:
        points = (accuracies["ideal"].mean - accuracies["surrogate"].mean) * 100
        lost = f"{points:.1f}" if points >= 0.05 else ""
    counts = {value.runs for value in accuracies.values() if value.runs and value.runs > 1}
    if counts:
        runs = f"{max(counts)}"
    tools = results.get("tool") or {}
    if "ngspice" in tools:
        tool = f"ngspice {tools['ngspice']}" + (
            f" ({ACRONYMS.get(tools['solver'], tools['solver'])} solver)" if "solver" in tools else ""
        )
    audit = results.get("audit") or {}
    return {
        "lost": lost,
        "runs": runs,
        "tool": tool or "ngspice",
        "audit_rms": error_percent(audit["rms"]) if finite(audit.get("rms")) is not None else "",
        "audit_p99": error_percent(audit["p99"]) if finite(audit.get("p99")) is not None else "",
        "audit_vectors": str(audit.get("vectors", "")),
        "bound": error_percent((results.get("validation") or {}).get("bound")),
        "paired": _paired_words(results.get("paired") or {}),
    }


def _paired_words(paired: Mapping[str, Any]) -> str:
    surrogate, nodal = finite(paired.get("surrogate")), finite(paired.get("nodal"))
    if surrogate is None or nodal is None:
        return ""
    return (
        f"{percent(surrogate)} on the surrogate and {percent(nodal)} on the exact solution of every tile, "
        f"a difference of {abs(surrogate - nodal) * 100:.1f} points"
    )


def _hardware_table(hardware: Mapping[str, Any]) -> Table | None:
    """The tile of the demo with units, and what else is said of its hardware."""
    if not hardware:
        return None
    tile = {name: value for name, value in hardware.items() if name in TileSpec.model_fields}
    more = {name: value for name, value in hardware.items() if name not in tile}
    if finite(more.get("read_voltage")) is not None:
        more["read_voltage"] = format_quantity(more["read_voltage"], "volt")
    return settings_table({**described_tile(tile), **more})


def _tables(results: Mapping[str, Any]) -> dict[str, Table | None]:
    makers: dict[str, tuple[str, Callable[[Any], Table | None]]] = {
        "fit": ("fit", fit_table),
        "classes": ("validation", class_table),
        "layers": ("audit", layer_table),
        "hardware": ("hardware", _hardware_table),
        "tools": ("tool", tool_table),
        "times": ("seconds", time_table),
    }
    return {f"{name}_table": make(results.get(key) or {}) for name, (key, make) in makers.items()}
