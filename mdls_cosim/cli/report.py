"""`mdls-cosim report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import Force, check_input, check_output, content_of, parameter_set, size_of
from mdls_cosim.cli.terminal import print_line


@app.command()
def report(
    data: Annotated[Path, typer.Argument(metavar="FILE", help="A Dataset, results, audit.json, or a parameter file.")],
    out: Annotated[Path, typer.Option("--out", metavar="REPORT.html", help="The page to write.")],
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write the figures as PNG files besides.")
    ] = None,
    force: Force = False,
) -> None:
    """Show what a file holds on one page of figures and tables.

    The file is a Dataset, the results of a simulation or an audit, or a parameter set.

    For each experiment what it shows, figures, tables and failed points; then the specification and where the data
    came from. Of a parameter set, by its file or its name: equation, values with intervals, errors, lifetime, validity,
    I-V curves. The page is one HTML file that needs nothing beside it.

    \b
    Example:
      mdls-cosim report tile.h5 --out tile.html
    """
    known = parameter_set(data)
    check_output(out, force, source=data if known else check_input(data))
    with content_of(data):
        if known:
            from mdls_cosim.report.device_card import render_card

            render_card(str(data), out, figures)
        else:
            _render(data, out, figures)
    print_line(f"wrote {out} ({size_of(out)})")


def _render(data: Path, out: Path, figures: Path | None) -> None:
    from mdls_cosim import store
    from mdls_cosim.report import read_audit, render_audit, render_dataset, render_simulation

    # torch, which a simulation's results bring along, is left out where a Dataset is shown.
    if data.suffix == ".json":
        render_audit(read_audit(data), out, figures)
    elif store.read(data).encoding_type == "mdls_cosim.simulation":
        from mdls_cosim.network.experiment import SimulationResult

        render_simulation(SimulationResult.load(data), out, data.name, figures)
    else:
        from mdls_cosim.dataset import Dataset

        render_dataset(Dataset.load(data), out, data.name, figures)
