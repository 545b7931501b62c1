"""`mdls-cosim deck`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import Cell, Force, check_input, check_output, load_plan, size_of
from mdls_cosim.cli.terminal import print_line
from mdls_cosim.errors import InputError

if TYPE_CHECKING:
    from mdls_cosim.characterize import Point
    from mdls_cosim.dataset import Dataset

_FILE_STARTS = (b"mdls_cosim store", b"\x89HDF\r\n\x1a\n")


@app.command()
def deck(
    source: Annotated[Path, typer.Argument(metavar="SPEC.toml|DATA.h5", help="A specification, or a Dataset.")],
    point: Annotated[
        str | None, typer.Option("--point", metavar="N|LABEL", help="Which point; without, all are listed.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to; standard output if absent.")] = (
        None
    ),
    cell: Cell = None,
    force: Force = False,
) -> None:
    """Write the circuit of a point.

    The file is plain SPICE, models included, and runs alone: ngspice -b FILE. Of a specification it is the first
    circuit behind the results of the point; ngspice runs only where that circuit depends on simulations (the states of
    a cell of your own, the branches of threshold selectors). Of a Dataset it is the circuit that failed, or of a point
    that did not fail the first one of its specification.

    \b
    Example:
      mdls-cosim deck examples/tile.toml --point "read, tile 0" --out tile0.cir
    """
    check_input(source)
    if out is not None:
        check_output(out, force, source=source)
    from mdls_cosim.characterize import Campaign, Characterization, first_deck
    from mdls_cosim.dataset import Dataset
    from mdls_cosim.spice.stored_circuit import checked_circuit
    from mdls_cosim.tiles import SubcircuitCell

    with source.open("rb") as stream:
        stored = stream.read(16).startswith(_FILE_STARTS)
    dataset = Dataset.load(source) if stored else None
    spec = load_plan(source, cell) if dataset is None else Characterization(**dataset.config)
    points = Campaign(spec).points
    if point is None:
        print_line("\n".join(_listed(points, dataset)))
        return
    chosen = _chosen(points, point)
    failed = {} if dataset is None else {failure.label: failure.deck for failure in dataset.failures}
    if text := failed.get(chosen.label):
        own = spec.tile.cell
        text = checked_circuit(text, str(source), own.osdi if isinstance(own, SubcircuitCell) else None)
    else:
        text = first_deck(chosen)
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    print_line(f"wrote {out} ({size_of(out)}): {chosen.label}")


def _listed(points: Sequence[Point], dataset: Dataset | None) -> list[str]:
    """A line for every point: number, label, operating points, and whether it failed."""
    failed = {failure.label for failure in (() if dataset is None else dataset.failures)}
    width = len(str(len(points)))
    return [
        f"{number:>{width}}  {each.label} ({each.operating_points} operating points)"
        + (", failed" if each.label in failed else "")
        for number, each in enumerate(points)
    ]


def _chosen(points: Sequence[Point], wanted: str) -> Point:
    """The point of a number or a label."""
    for each in points:
        if each.label == wanted:
            return each
    if wanted.isdecimal() and int(wanted) < len(points):
        return points[int(wanted)]
    raise InputError(
        "no such point",
        where="--point",
        value=wanted,
        limit=f"0 to {len(points) - 1}, or a label",
        hint="Without --point all are listed",
    )
