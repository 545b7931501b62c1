"""`mdls-cosim validate`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import check_input
from mdls_cosim.cli.terminal import print_line, print_table, progress_bar

if TYPE_CHECKING:
    from mdls_cosim.surrogates import Validation


@app.command()
def validate(
    surrogate: Annotated[Path, typer.Argument(metavar="SURROGATE.h5", help="What `mdls-cosim fit` wrote.")],
    cases: Annotated[int, typer.Option(min=1, help="Fresh random tiles to run in ngspice.")] = 20,
    size: Annotated[
        str | None, typer.Option("--size", metavar="ROWSxCOLS", help="Of the tiles; that of the fit if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the random tiles and inputs.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, help="ngspice processes side by side; one a processor if not given.")
    ] = None,
) -> None:
    """Compare a surrogate with ngspice on fresh tiles.

    Draws tiles and inputs that no fit has seen. Prints the error of every case class relative to the RMS current, with
    a 95 % interval for classes of three tiles or more, and marks the classes that the data of the fit did not hold.
    Exits with 1 if one error is beyond the bound recorded in the surrogate.

    \b
    Example:
      mdls-cosim validate surrogate.h5 --cases 40 --seed 7
      mdls-cosim validate surrogate.h5 --size 16x32
    """
    check_input(surrogate)
    from mdls_cosim.report import class_table
    from mdls_cosim.surrogates import load
    from mdls_cosim.surrogates import validate as run

    model = load(surrogate)
    rows, cols = (None, None) if size is None else _size(size)
    with progress_bar("ngspice", "points") as progress:
        result = run(model, cases=cases, seed=seed, rows=rows, cols=cols, workers=workers, progress=progress)
    table = class_table({"classes": result.classes, "intervals": result.intervals, "unfitted": result.unfitted})
    print_table(table, "RMS error against ngspice, relative to the RMS current")
    print_line()
    if result.unfitted:
        print_line("* not in the data of the fit")
    verdict, passed = _verdict(result)
    print_line(
        f"{verdict} ({result.cases} tiles of {result.size[0]}x{result.size[1]}, seed {seed}).",
        style="green" if passed else "red",
    )
    if missing := result.missing_classes:
        keys = "; ".join(f"{key} += {json.dumps(classes)}" for key, classes in missing.items())
        print_line(f"To cover them, add to the table [read] of the specification: {keys}; characterize and fit again.")
    if not passed:
        raise typer.Exit(1)


def _verdict(result: Validation) -> tuple[str, bool]:
    """The result in one sentence, and whether it is a pass."""
    from mdls_cosim.report.wording import error_percent

    bound = f"the recorded bound is {error_percent(result.bound)}"
    if result.passed:
        return f"Valid: the worst class shows {error_percent(result.worst)}, {bound}", True
    fitted = result.worst_fitted
    if not result.unfitted or (fitted is not None and not fitted <= result.bound):
        return f"Not valid: the worst class shows {error_percent(result.worst)}, {bound}", False
    seen = "no fitted class was drawn" if fitted is None else f"the worst fitted class shows {error_percent(fitted)}"
    unfitted = f"Not valid for classes that were not fitted: the worst of them shows {error_percent(result.worst)}"
    return f"{unfitted}; {seen}, {bound}", False


def _size(text: str) -> tuple[int, int]:
    """Rows and columns of "16x32", or of "16"."""
    from mdls_cosim.errors import ConfigError

    found = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if found is None:
        raise ConfigError("not a size of tiles", where="--size", value=text, limit="ROWSxCOLS, as 16x32")
    return int(found[1]), int(found[2] or found[1])
