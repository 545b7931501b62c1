"""What commands print with: tables, a progress bar, one-line errors. rich is loaded at first use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mdls_cosim.cli.streams import end_quietly
from mdls_cosim.errors import without_controls

if TYPE_CHECKING:
    from rich.console import Console

    from mdls_cosim.report import Table


def output() -> Console:
    """Standard output: results."""
    console = _console()
    # Files and pipes have no width: rich's 80 columns would fold what a reader may search for.
    return console if console.is_terminal else _console(width=200)


def log() -> Console:
    """Standard error: progress and errors."""
    return _console(stderr=True)


def _console(**options: Any) -> Console:
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            end_quietly()

    return Quiet(highlight=False, emoji=False, **options)  # ":100:" in the text of a user is no emoji


def print_error(message: str) -> None:
    """One red line on standard error, however long."""
    log().print(f"error: {' '.join(message.split())}", style="red", markup=False, soft_wrap=True)


def print_warning(message: str) -> None:
    """One yellow line on standard error."""
    log().print(f"warning: {' '.join(without_controls(message).split())}", style="yellow", markup=False, soft_wrap=True)


def print_line(message: str = "", style: str | None = None) -> None:
    """A line of results; not wrapped, so that it can be searched."""
    output().print(without_controls(message), style=style, markup=False, soft_wrap=True)


def print_table(table: Table | None, title: str) -> None:
    """A table of the report room under its title; nothing where there is none."""
    if table is None:
        return
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, heading in enumerate(table.headings):
        shown.add_column(
            Text(without_controls(heading)), justify="left" if place < table.names else "right", overflow="fold"
        )
    for row in table.rows:
        shown.add_row(*(Text(without_controls(cell)) for cell in row))
    print_title(title)
    output().print(shown)


def print_pairs(table: Table | None, title: str) -> None:
    """A table of names and values as lines that do not wrap, hashes among them."""
    if table is None:
        return
    print_title(title)
    width = max(len(row[0]) for row in table.rows)
    for name, value in table.rows:
        print_line(f"{name:<{width}}  {value}")


def print_title(title: str) -> None:
    """What comes next, after an empty line."""
    print_line()
    print_line(title, style="bold")


_EVERY = 10.0
"""Seconds between lines of progress where standard error is no terminal."""


@contextmanager
def progress_bar(task: str, unit: str | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar with time left, and with counts and rate where the work has a `unit`; else with percents.

    Yields what to call with (finished, planned). In a log the same as a line now and then.
    """
    if not log().is_terminal:
        yield _progress_lines(task, unit)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g} {unit}/s" if speed else f"– {unit}/s", style="cyan")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *((MofNCompleteColumn(), Rate()) if unit else (TaskProgressColumn(),)),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=log()) as progress:
        bar = progress.add_task(task, total=None)

        def advance(finished: int, planned: int) -> None:
            progress.update(bar, completed=finished, total=planned, visible=True)

        # An error before the work began leaves no empty bar behind.
        progress.update(bar, visible=False)
        yield advance


def _progress_lines(task: str, unit: str | None) -> Callable[[int, int], None]:
    """What prints a line every ten seconds."""
    began = told = time.monotonic()

    def advance(finished: int, planned: int) -> None:
        nonlocal told
        now = time.monotonic()
        if not finished or (now - told < _EVERY and finished < planned):
            return
        told = now
        taken = now - began
        done = f"{finished} of {planned} {unit}" if unit else f"{finished / planned:.0%}"
        left = f"{timedelta(seconds=round(taken * (planned - finished) / finished))} left"
        if finished >= planned:
            left = f"in {timedelta(seconds=round(taken))}"
        log().print(f"{task}: {done}, {left}", markup=False, soft_wrap=True)

    return advance
