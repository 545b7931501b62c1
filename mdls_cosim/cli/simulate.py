"""`mdls-cosim simulate`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdls_cosim.cli.app import INTERRUPTED, app
from mdls_cosim.cli.cells import print_network_cells
from mdls_cosim.cli.files import check_input, size_of
from mdls_cosim.cli.terminal import log, print_error, print_line, print_table, progress_bar

if TYPE_CHECKING:
    from mdls_cosim.characterize import Journal
    from mdls_cosim.network.experiment import Summary, Work

SHOWN_FAILURES = 3
RESULTS, REPORT, JOURNAL = "results.h5", "report.html", "runs.journal"


@app.command()
def simulate(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.toml", help="Network, data, hardware, and what is swept.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the results; EXPERIMENT-out beside it if not given."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes side by side; one a processor if not given.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="Run on the workers of this dask scheduler instead."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch in each process; more for networks that fill it.")] = 1,
    torch_device: Annotated[
        str,
        typer.Option("--torch-device", metavar="NAME", help="Where torch computes: cpu, cuda, cuda:1 ..."),
    ] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Take the runs that are there, and run the others.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Drop the runs and results that are there.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be run, and end.")] = False,
) -> None:
    """Evaluate a network on memristor hardware, and sweep it.

    Accuracy over seeded chips at the base hardware and at every swept value, errors of the layers, saturation, clipped
    weights and uses outside a surrogate's domain. Writes results.h5 and report.html.

    Every finished run is kept in DIR/runs.journal: after Ctrl-C or a crash, or with more values or runs in the
    experiment, the same command with --resume goes on. Weights that were trained here are kept in DIR and taken again,
    with --force too, while code, data and settings of the training are the same; the output says so. Exits with 1 if
    runs failed (no convergence); they are NaN.

    \b
    Example:
      mdls-cosim simulate examples/experiment.toml --out experiment-out --workers 4
    """
    from mdls_cosim.errors import ConfigError, StoreError

    if resume and force:
        raise ConfigError("--resume keeps what --force drops", hint="Give one of them")
    if scheduler is not None and workers is not None:
        raise ConfigError(
            "--workers is for this machine, and --scheduler has workers of its own", hint="Give one of them"
        )
    check_input(experiment)
    folder = out or experiment.with_name(f"{experiment.stem}-out")
    if folder.exists() and not folder.is_dir():
        raise StoreError("the output must be a folder, and this is a file", where=str(folder))
    results, report = folder / RESULTS, folder / REPORT
    if results.exists() and not (resume or force or plan):
        raise StoreError(
            "the results exist", where=str(results), hint="Choose another folder, or add --resume or --force"
        )
    with log().status("reading the experiment") as status:
        from mdls_cosim.network.experiment import Simulation, Subject, Work
        from mdls_cosim.network.experiment.units import check_torch_device

        def stage(doing: str) -> None:
            status.update(doing)

        here = torch_device if scheduler is None else "cpu"  # with a scheduler it is that of its workers
        check_torch_device(here)
        simulation = Simulation.load(experiment)
        simulation.plan(str(experiment))  # before data are loaded and a network is trained
        subject = Subject.load(simulation, None if plan else folder, str(experiment), stage, here)
        work = Work(simulation, subject, str(experiment), threads, torch_device)
    if plan:
        _tell_plan(work)
        return
    if subject.weights is not None:
        log().print(
            f"weights of an earlier training, of the same code, data and settings: {subject.weights}",
            markup=False,
            soft_wrap=True,
        )
    from mdls_cosim.characterize import Journal, connected
    from mdls_cosim.network.experiment import SimulationResult
    from mdls_cosim.report import render_simulation

    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with ExitStack() as stack:
        executor = None if scheduler is None else stack.enter_context(connected(scheduler))
        journal = stack.enter_context(Journal.open(folder / JOURNAL, resume, force))
        try:
            with progress_bar("simulate", "runs") as progress:
                summary = work.run(
                    folder,
                    workers=workers,
                    executor=executor,
                    journal=journal,
                    progress=progress,
                    stage=lambda doing: log().print(doing, markup=False, soft_wrap=True),
                )
            summary.result.save(results)
            # As the file has it: `mdls-cosim report` writes the same page.
            render_simulation(SimulationResult.load(results), report, RESULTS)
        except KeyboardInterrupt:
            print_error(f"interrupted; {_kept(journal)}")
            raise typer.Exit(INTERRUPTED) from None
        except Exception:
            log().print(_kept(journal), markup=False, soft_wrap=True)
            raise
    _tell(summary, time.perf_counter() - began, folder / JOURNAL)
    print_network_cells(work)
    print_line(f"wrote {results} ({size_of(results)}), {summary.result.content_hash}, and {report}")
    if summary.failed:
        raise typer.Exit(1)


def _kept(journal: Journal) -> str:
    """What is kept of a run that ends early, and how to go on; a journal of nothing is removed."""
    kept = journal.kept()
    if not kept.done and not kept.failed:
        journal.remove()
        return "no run had finished, and no results were written"
    return f"{kept.done} finished runs are kept in {journal.path}; `--resume` goes on with them"


def _tell_plan(work: Work) -> None:
    from mdls_cosim.report import Table

    about, runs = work.subject.about, work.simulation.runs
    shown = f"{len(work.bench.images)} test images of {about['data']}"
    asked = work.simulation.images
    if asked is not None and asked > len(work.bench.images):
        shown += f", all that there are ({asked} were asked for)"
    print_line(f"{about['model']}, {about['parameters']} parameters, on {shown}")
    rows = tuple(
        (str(number), point.label, point.hardware.rung, f"{point.hardware.spec.rows}x{point.hardware.spec.cols}")
        for number, point in enumerate(work.plan.points)
    )
    print_table(Table(("Point", "What differs", "Rung", "Tile"), rows, names=4), "Points")
    print_line(f"{len(rows)} points of {runs} run{'s' if runs > 1 else ''} each")
    if work.fits:
        print_line(f"{len(work.fits)} tiles of non-linear cells: a surrogate is fitted to exact solutions of each")
    print_network_cells(work)


def _tell(summary: Summary, spent: float, journal: Path) -> None:
    from mdls_cosim.report import simulation_tables
    from mdls_cosim.report.wording import seconds

    for title, table in simulation_tables(summary.result).items():
        print_table(table, title)
    print_line()
    counts = [f"{summary.units - summary.failed} of {summary.units} runs done in {seconds(spent)}"]
    if summary.reused:
        counts.append(f"{summary.reused} of them from the journal")
    if summary.surrogates:
        counts.append(f"{summary.surrogates} surrogates fitted")
    if summary.failed:
        counts.append(f"{summary.failed} failed")
    print_line(", ".join(counts))
    for failure in summary.result.failures[:SHOWN_FAILURES]:
        print_line(f"failed: {failure.label}: {failure.cause}", style="red")
    if summary.failed:
        more = len(summary.result.failures) - SHOWN_FAILURES
        rest = f"and {more} more; " if more > 0 else ""
        print_line(f"{rest}`--resume` tries them again ({journal} is kept)")
