"""A Dataset's report: one HTML file with a chapter for every experiment, that needs nothing beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdls_cosim.dataset import Dataset, Failure
from mdls_cosim.report.configurations import described_dataset, subcircuits
from mdls_cosim.report.device_card import origin_table, origins, outside_table
from mdls_cosim.report.page import Picture, as_picture, write_figures, write_page
from mdls_cosim.report.tables import Table, array_table, settings_table, tool_table
from mdls_cosim.report.wording import ACRONYMS, capital, words

if TYPE_CHECKING:
    from mdls_cosim.report.experiments import Drawing

SHOWN_FAILURES = 10


@dataclass(frozen=True)
class Section:
    """A chapter with its figures drawn."""

    name: str
    title: str
    sentence: str
    drawings: list[Drawing]
    tables: list[tuple[str, Table]]
    failures: list[Failure]


def render_dataset(dataset: Dataset, path: Path, name: str, figures: Path | None = None) -> None:
    """Writes all that a Dataset holds as one self-contained HTML file.

    An experiment without a chapter of its own gets a list of its arrays.

    Args:
        path: the HTML file; replaced if it exists.
        name: of the Dataset's file, for the title.
        figures: folder for the figures as PNG files besides; made if it does not exist.
    """
    sections = _sections(dataset)
    pictures: dict[str, Picture] = {}
    for section in sections:
        for drawing in section.drawings:
            pictures[drawing.name] = as_picture(drawing.figure, f"{section.title}: {drawing.caption}")
    if figures is not None:
        write_figures(pictures, figures)
    origin = dataset.provenance
    write_page(
        path,
        "dataset.html.j2",
        name=name,
        lead=_lead(dataset),
        chapters=sections,
        pictures=pictures,
        most_failures=SHOWN_FAILURES,
        specification=settings_table(described_dataset(dataset.config)),
        subcircuits=subcircuits(dataset.config),
        parameter_sets=[(name, origin_table(origin)) for name, origin in origins(dataset.config)],
        outside=outside_table(dataset.outside),
        origin=settings_table(
            {
                "content hash": origin.content_hash,
                "parents": ", ".join(origin.parents) or "none",
                "seed": origin.seed,
                "made (UTC)": origin.created_utc,
            }
        ),
        tools=tool_table(origin.tools),
    )


def _sections(dataset: Dataset) -> list[Section]:
    # Imported here: matplotlib takes longer than all the rest, and who reads tables alone does without.
    from mdls_cosim.report.experiments import CHAPTERS, Study

    found = dict.fromkeys(group.partition(" ")[0] for group in dataset.experiments)
    sections = []
    for name in (*(name for name in CHAPTERS if name in found), *(name for name in found if name not in CHAPTERS)):
        failures = [failure for failure in dataset.failures if failure.experiment == name]
        if name not in CHAPTERS:
            arrays = {group: each for group, each in dataset.experiments.items() if group.partition(" ")[0] == name}
            listed = array_table(arrays)
            tables = [("Arrays", listed)] if listed else []
            sections.append(Section(name, capital(words(name)), "", [], tables, failures))
            continue
        chapter, study = CHAPTERS[name], Study.of(dataset, name)
        drawings, tables = chapter.drawings(study), chapter.tabulate(study)
        sections.append(Section(name, chapter.title, chapter.sentence, drawings, tables, failures))
    return sections


def _lead(dataset: Dataset) -> str:
    """What was simulated, in one or two sentences."""
    config, tools = dataset.config, dataset.provenance.tools
    tile = config.get("tile") or {}
    sizes = [
        f"{each}x{each}" if isinstance(each, int) else f"{each[0]}x{each[1]}" for each in config.get("sizes") or ()
    ]
    if not sizes and "rows" in tile:
        sizes = [f"{tile['rows']}x{tile['cols']}"]
    parts = [f"{_listed(sizes)} tiles" if sizes else "Tiles"]
    cell: dict[str, Any] = tile.get("cell") or {}
    if cell:
        parts.append(f"of {words(str(cell.get('subcircuit') or cell.get('model')))} cells")
    if "ngspice" in tools:
        solver = ACRONYMS.get(str(tools.get("solver")), tools.get("solver"))
        parts.append(f"in ngspice {tools['ngspice']}" + (f" ({solver} solver)" if solver else ""))
    more = []
    if len(config.get("corners") or {}) > 1:
        more.append(f"corners {_listed(list(config['corners']))}")
    if (config.get("seeds") or 1) > 1:
        more.append(f"{config['seeds']} seeds")
    if dataset.failures:
        more.append(f"{len(dataset.failures)} failed simulations")
    return " ".join(parts) + (f"; {', '.join(more)}" if more else "") + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
