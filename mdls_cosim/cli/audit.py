"""`mdls-cosim audit`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import Force, check_input
from mdls_cosim.cli.terminal import log, print_line, print_table, progress_bar

RESULTS, REPORT, SURROGATES = "audit.json", "audit.html", "surrogates"


@app.command()
def audit(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.toml", help="Network, data and hardware, as of `simulate`.")
    ],
    samples: Annotated[int, typer.Option(min=1, help="Input vectors of every layer.")] = 20,
    tiles: Annotated[
        int, typer.Option(min=0, metavar="N", help="Tiles of every layer, drawn by seed; 0: all; 1 tells no interval.")
    ] = 4,
    reference_tile: Annotated[
        Path | None,
        typer.Option(
            "--reference-tile", metavar="SPEC.toml", help="A richer circuit to compare with: its table [tile]."
        ),
    ] = None,
    read_time: Annotated[
        str | None,
        typer.Option("--read-time", metavar="TIME", help='Measure the columns so long after their rows step: "20 ns".'),
    ] = None,
    injections: Annotated[int, typer.Option(min=0, help="Seeds with which the errors are injected; 0: none.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the results; EXPERIMENT-out beside it if not given."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="ngspice processes side by side; one a processor if not given.")
    ] = None,
    force: Force = False,
) -> None:
    """Re-run a network's own tiles in ngspice.

    How wrong is the simulation on what really reaches every layer, and does it matter for the accuracy?

    The network of the experiment runs on its base hardware. Of what reaches each layer, vectors are drawn and put to
    tiles of the layer in ngspice. Gives the error of every layer with its 95 % interval, and the accuracy of the
    network with errors of that size and structure injected. Writes audit.json and audit.html.

    With --reference-tile (transistors, an amplifier, a subcircuit of your own) the error is told apart: that of the
    fit, of the layer against the circuit that it stands for, and that of the model, of this against the richer one.
    Its rows and columns are those of each layer's tiles. Reads are at rest, where capacitances do not show; with
    --read-time each is a transient from 0 V, and what has not settled at its end is part of the model's error.

    Weights and surrogates that `simulate` left in DIR are taken.

    \b
    Example:
      mdls-cosim audit examples/experiment.toml --out experiment-out --samples 20
    """
    check_input(experiment)
    if reference_tile is not None:
        check_input(reference_tile)
    from mdls_cosim.errors import StoreError

    folder = out or experiment.with_name(f"{experiment.stem}-out")
    if folder.exists() and not folder.is_dir():
        raise StoreError("the output must be a folder, and this is a file", where=str(folder))
    results, page = folder / RESULTS, folder / REPORT
    if results.exists() and not force:
        raise StoreError("the results exist", where=str(results), hint="Choose another folder, or add --force")

    def stage(doing: str) -> None:
        log().print(doing, markup=False, soft_wrap=True)

    from mdls_cosim.network.experiment import Simulation, Subject, Work
    from mdls_cosim.network.experiment_audit import audit_base, read_tile
    from mdls_cosim.quantities import Quantity
    from mdls_cosim.report import render_audit

    when = None if read_time is None else Quantity("second", gt=0).check(read_time)
    richer = None if reference_tile is None else read_tile(reference_tile)
    simulation = Simulation.load(experiment)
    simulation.plan(str(experiment))  # before data are loaded and a network is trained
    subject = Subject.load(simulation, folder, str(experiment), stage)
    work = Work(simulation, subject, str(experiment))
    with progress_bar("audit", "layers") as progress:
        found = audit_base(
            work,
            folder / SURROGATES,
            samples=samples,
            tiles=tiles or None,
            reference_tile=richer,
            read_time=when,
            injections=injections,
            workers=workers,
            progress=progress,
            stage=stage,
        )
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        **subject.about,
        "experiment": experiment.name,
        **{f"{name}_hash": each for name, each in subject.hashes.items()},
    }
    record = {**found.as_dict(), "subject": told, "pairs": found.pairs_as_dict()}
    results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    render_audit(record, page)
    print_audit(record)
    print_line(f"wrote {results} and {page}")


def print_audit(found: Mapping[str, Any]) -> None:
    """The tables of an audit, as its audit.json has it."""
    from mdls_cosim.report import AT_REST, audit_tables

    for title, table in audit_tables(found).items():
        print_table(table, title)
    if found["unreached"]:
        print_line(f"never called: {', '.join(found['unreached'])}")
    if found["settling_left_out"]:
        print_line(AT_REST)
    print_line()
