"""`mdls-cosim characterize`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdls_cosim.cli.app import INTERRUPTED, app
from mdls_cosim.cli.files import Cell, check_input, check_output, load_plan, size_of
from mdls_cosim.cli.terminal import log, print_error, print_line, progress_bar

if TYPE_CHECKING:
    from mdls_cosim.characterize import Journal, Summary
    from mdls_cosim.store import Array

SHOWN_FAILURES = 3


@app.command()
def characterize(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC.toml", help="What to run: [tile], and a table for each experiment.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DATA.h5", help="The Dataset to write.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="ngspice processes side by side; one a processor if not given.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="Run on the workers of this dask scheduler instead."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the journal of a run that did not finish, or had failures.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output file if it exists; drop the journal of an older run.")
    ] = False,
    keep_decks: Annotated[
        Path | None,
        typer.Option("--keep-decks", metavar="DIR", help="Write every deck that is simulated; each runs alone."),
    ] = None,
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="Take sizes that need minutes where ngspice has no KLU solver.")
    ] = False,
    deadline: Annotated[str, typer.Option("--deadline", help="For one job of ngspice; then it has failed.")] = "120 s",
    cell: Cell = None,
) -> None:
    """Run a campaign of experiments in ngspice.

    What ngspice said is written as a Dataset (HDF5), whole or not at all. Finished points are kept in DATA.h5.journal
    until then: after Ctrl-C or a crash the same command with --resume goes on. Points that failed are NaN in the
    Dataset, which tells their causes and decks; --resume tries them again. Exits with 1 if there are any.

    In SPEC.toml every dimensioned value carries its unit: "1 ohm", "25 uS", "0.3 V", "3 / V".

    \b
    Example:
      mdls-cosim characterize examples/tile.toml --out tile.h5 --workers 4
    """
    from mdls_cosim.errors import ConfigError

    if resume and force:
        raise ConfigError("--resume keeps what --force drops", hint="Give one of them")
    if scheduler is not None and workers is not None:
        raise ConfigError(
            "--workers is for this machine, and --scheduler has workers of its own", hint="Give one of them"
        )
    check_input(spec)
    kept_at = out.with_name(f"{out.name}.journal")
    check_output(out, force or (resume and kept_at.exists()), source=spec)
    from mdls_cosim.characterize import Campaign, EngineSettings, Journal, connected
    from mdls_cosim.quantities import parse_quantity

    limit = parse_quantity(deadline, "second")
    if not limit > 0:
        raise ConfigError("an impossible deadline", where="--deadline", value=deadline, limit="above 0 s")
    folder = None
    if keep_decks is not None:
        keep_decks.mkdir(parents=True, exist_ok=True)
        folder = str(keep_decks.resolve())
    campaign = Campaign(load_plan(spec, cell))
    settings = EngineSettings(deadline=limit, allow_slow=allow_slow, keep_decks=folder)
    start = time.perf_counter()
    with ExitStack() as stack:
        executor = None if scheduler is None else stack.enter_context(connected(scheduler))
        journal = stack.enter_context(Journal.open(kept_at, resume, force))
        try:
            if resume:
                _tell_resumed(journal.count(campaign.points), len(campaign.points), kept_at)
            with progress_bar("ngspice", "points") as progress:
                summary = campaign.run(
                    executor=executor, workers=workers, journal=journal, progress=progress, settings=settings
                )
            spent = time.perf_counter() - start
            summary.dataset.save(out)
        except KeyboardInterrupt:
            print_error(f"interrupted; {_kept(journal, len(campaign.points))}")
            raise typer.Exit(INTERRUPTED) from None
        except Exception:
            log().print(_kept(journal, len(campaign.points)), markup=False, soft_wrap=True)
            raise
        if not summary.failed:
            journal.remove()
    _tell(summary, spent, kept_at)
    print_line(f"wrote {out} ({size_of(out)}), {summary.dataset.content_hash}")
    if summary.failed:
        raise typer.Exit(1)


def _tell_resumed(known: int, planned: int, journal: Path) -> None:
    print_line(f"{known} of {planned} points are in {journal}; {planned - known} are run")


def _kept(journal: Journal, planned: int) -> str:
    """What is kept of a run that ends early, and how to go on; a journal of nothing is removed."""
    kept = journal.kept()
    if not kept.done and not kept.failed:
        journal.remove()
        return "no point had finished, and no file was written"
    return f"{kept.done} finished points of {planned} are kept in {journal.path}; `--resume` goes on with them"


def _tell(summary: Summary, spent: float, journal: Path) -> None:
    from mdls_cosim.report.wording import seconds, words

    dataset = summary.dataset
    for name, arrays in dataset.experiments.items():
        print_line(f"{name}: " + ", ".join(f"{key} {_shape(array)} {array.units}" for key, array in arrays.items()))
    counts = [f"{summary.points - summary.failed} of {summary.points} points done"]
    if summary.reused:
        counts.append(f"{summary.reused} of them from the journal")
    if summary.failed:
        counts.append(f"{summary.failed} failed")
    print_line(", ".join(counts))
    for failure in dataset.failures[:SHOWN_FAILURES]:
        print_line(f"failed: {failure.label}: {failure.cause}", style="red")
    if summary.failed:
        more = len(dataset.failures) - SHOWN_FAILURES
        rest = f"and {more} more; " if more > 0 else ""
        print_line(f"{rest}`mdls-cosim info` shows them, `--resume` tries them again ({journal} is kept)")
    for name, count in sorted(summary.fallbacks.items()):
        print_line(f'fall-back "{name}": {count} decks')
    tools = dataset.provenance.tools
    simulator = f"ngspice {tools['ngspice']} ({words(tools['solver'])} solver)"
    rate = summary.operating_points / max(spent, 1e-9)
    print_line(f"{summary.operating_points} operating points in {seconds(spent)}, {rate:.3g} /s, with {simulator}")


def _shape(array: Array) -> str:
    return "x".join(str(length) for length in array.values.shape)
