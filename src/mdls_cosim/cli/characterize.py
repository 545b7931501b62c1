"""`mdls-cosim characterize`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import Force, check_input, check_output, size_of
from mdls_cosim.cli.terminal import print_line, progress_bar

if TYPE_CHECKING:
    from mdls_cosim.store import Array


@app.command()
def characterize(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to run: tables [tile], [iv] and [read].")],
    out: Annotated[Path, typer.Option("--out", metavar="DATA.h5", help="The Dataset to write.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="ngspice processes side by side; one a processor if not given.")
    ] = None,
    force: Force = False,
) -> None:
    """Run a tile's experiments in ngspice.

    What ngspice said is written as a Dataset (HDF5), whole or not at all.

    In SPEC.toml every dimensioned value carries its unit: "1 ohm", "25 uS", "0.3 V", "3 / V".

    \b
    Example:
      mdls-cosim characterize examples/tile.toml --out tile.h5 --workers 4
    """
    check_input(spec)
    check_output(out, force, source=spec)
    from mdls_cosim.characterize import Characterization
    from mdls_cosim.characterize import characterize as run
    from mdls_cosim.report.wording import seconds, words

    plan = Characterization.load_toml(spec)
    start = time.perf_counter()
    with progress_bar("ngspice", "points") as progress:
        count = 0

        def advance(finished: int, planned: int) -> None:
            nonlocal count
            count = planned
            progress(finished, planned)

        dataset = run(plan, workers, advance)
    spent = time.perf_counter() - start
    dataset.save(out)
    for name, arrays in dataset.experiments.items():
        print_line(f"{name}: " + ", ".join(f"{key} {_shape(array)} {array.units}" for key, array in arrays.items()))
    tools = dataset.provenance.tools
    simulator = f"ngspice {tools['ngspice']} ({words(tools['solver'])} solver)"
    print_line(f"{count} operating points in {seconds(spent)} with {simulator}")
    print_line(f"wrote {out} ({size_of(out)}), {dataset.content_hash}")


def _shape(array: Array) -> str:
    return "x".join(str(length) for length in array.values.shape)
