"""`mdls-cosim fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.files import Force, check_input, check_output, size_of
from mdls_cosim.cli.terminal import log, print_line, print_table


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(metavar="DATA.h5", help="A Dataset with reads of whole tiles.")],
    out: Annotated[Path, typer.Option("--out", metavar="SURROGATE.h5", help="The surrogate to write.")],
    force: Force = False,
) -> None:
    """Fit a surrogate to a Dataset.

    What is fitted: the tile's four resistances [ohm] and its cell's I-V shape [/V], from conductances, voltages and
    currents alone. Cells neither ohmic nor a sinh are taken as recorded, or as their I-V curves; so are the ends where
    rows are driven, and the amplifier. Prints what it found, and the error on tiles that it did not see as a share of
    the RMS current.

    \b
    Example:
      mdls-cosim fit tile.h5 --out surrogate.h5
    """
    check_input(data)
    check_output(out, force, source=data)
    with log().status("fitting"):
        from mdls_cosim.dataset import Dataset
        from mdls_cosim.report import class_table, fit_table, fitted_parameters
        from mdls_cosim.report.wording import error_percent
        from mdls_cosim.surrogates import fit as run
        from mdls_cosim.surrogates import left_out

        dataset = Dataset.load(data)
        surrogate = run(dataset)
        surrogate.save(out)
    for name, count in left_out(dataset).items():
        print_line(f"left out: {count} {'tiles' if name == 'read' else 'cells'} of {name}, whose points failed")
    reference = surrogate.reference_spec
    parameters = fitted_parameters(surrogate.spec.as_dict(), None if reference is None else reference.as_dict())
    print_table(fit_table(parameters), f"Fitted tile, {surrogate.kind} surrogate")
    if surrogate.error is not None:
        error = surrogate.error
        print_table(class_table({"classes": error.classes}), "RMS error on held-out tiles, of the RMS current")
        print_line()
        print_line(
            f"over all classes {error_percent(error.rms)} RMS, {error_percent(error.p99)} at the 99th percentile; "
            f"recorded bound {error_percent(error.bound)}"
        )
    print_line(f"wrote {out} ({size_of(out)}), {surrogate.provenance.content_hash}")
