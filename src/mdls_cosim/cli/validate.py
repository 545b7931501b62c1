"""`mdls-cosim validate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import check_input
from mdls_cosim.cli.terminal import print_line, print_table, progress_bar


@app.command()
def validate(
    surrogate: Annotated[Path, typer.Argument(metavar="SURROGATE.h5", help="What `mdls-cosim fit` wrote.")],
    cases: Annotated[int, typer.Option(min=1, help="Fresh random tiles to run in ngspice.")] = 20,
    size: Annotated[
        str | None, typer.Option("--size", metavar="ROWSxCOLS", help="Of the tiles; that of the fit if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random tiles and inputs.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, help="ngspice processes side by side; one a processor if not given.")
    ] = None,
) -> None:
    """Compare a surrogate with ngspice on fresh tiles.

    Tiles and inputs are random ones that no fit has seen. Prints the error of every case class as a share of the
    RMS current, and where a class has two tiles or more its 95 % interval, which narrows with more tiles. Exits with 1
    if one error is beyond the bound recorded in the surrogate.

    \b
    Example:
      mdls-cosim validate surrogate.h5 --cases 40 --seed 7
      mdls-cosim validate surrogate.h5 --size 16x32
    """
    check_input(surrogate)
    from mdls_cosim.report import class_table
    from mdls_cosim.report.wording import error_percent
    from mdls_cosim.surrogates import load
    from mdls_cosim.surrogates import validate as run

    model = load(surrogate)
    rows, cols = (None, None) if size is None else _size(size)
    with progress_bar("ngspice", "points") as progress:
        result = run(model, cases=cases, seed=seed, rows=rows, cols=cols, workers=workers, progress=progress)
    print_table(
        class_table({"classes": result.classes, "intervals": result.intervals}),
        "RMS error against ngspice, of the RMS current",
    )
    print_line()
    said = f"the worst class shows {error_percent(result.worst)}, the recorded bound is {error_percent(result.bound)}"
    drawn = f"{result.cases} tiles of {result.size[0]}x{result.size[1]}, seed {seed}"
    if not result.passed:
        print_line(f"Not valid: {said} ({drawn}).", style="red")
        raise typer.Exit(1)
    print_line(f"Valid: {said} ({drawn}).", style="green")


def _size(text: str) -> tuple[int, int]:
    """Rows and columns of "16x32", or of "16"."""
    from mdls_cosim.errors import ConfigError

    found = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if found is None:
        raise ConfigError("not a size of tiles", where="--size", value=text, limit="ROWSxCOLS, as 16x32")
    return int(found[1]), int(found[2] or found[1])
