"""`mdls-cosim validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import check_input
from mdls_cosim.cli.terminal import print_line, print_table, progress_bar


@app.command()
def validate(
    surrogate: Annotated[Path, typer.Argument(metavar="SURROGATE.h5", help="What `mdls-cosim fit` wrote.")],
    cases: Annotated[int, typer.Option(min=1, help="Fresh random tiles to run in ngspice.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the random tiles and inputs.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, help="ngspice processes side by side; one a processor if not given.")
    ] = None,
) -> None:
    """Compare a surrogate with ngspice on fresh tiles.

    Tiles and inputs are random ones that no fit has seen. Prints the error of every case class as a share of the
    RMS current. Exits with 1 if one is beyond the bound recorded in the surrogate.

    \b
    Example:
      mdls-cosim validate surrogate.h5 --cases 20 --seed 7
    """
    check_input(surrogate)
    from mdls_cosim.report import class_table
    from mdls_cosim.report.wording import error_percent
    from mdls_cosim.surrogates import load
    from mdls_cosim.surrogates import validate as run

    model = load(surrogate)
    with progress_bar("ngspice", "points") as progress:
        result = run(model, cases=cases, seed=seed, workers=workers, progress=progress)
    print_table(class_table({"classes": result.classes}), "RMS error against ngspice, of the RMS current")
    print_line()
    said = f"the worst class shows {error_percent(result.worst)}, the recorded bound is {error_percent(result.bound)}"
    if not result.passed:
        print_line(f"Not valid: {said} ({result.cases} tiles, seed {seed}).", style="red")
        raise typer.Exit(1)
    print_line(f"Valid: {said} ({result.cases} tiles, seed {seed}).", style="green")
