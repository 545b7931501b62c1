"""What commands print with: tables, a progress bar, one-line errors. rich is loaded at first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mdls_cosim.report import Table


def output() -> Console:
    """Standard output: results."""
    from rich.console import Console

    console = Console(highlight=False)
    # Files and pipes have no width: rich's 80 columns would fold what a reader may search for.
    return console if console.is_terminal else Console(highlight=False, width=200)


def log() -> Console:
    """Standard error: progress and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_error(message: str) -> None:
    """One red line on standard error, however long."""
    log().print(f"error: {' '.join(message.split())}", style="red", markup=False, soft_wrap=True)


def print_line(message: str = "", style: str | None = None) -> None:
    """A line of results; not wrapped, so that it can be searched."""
    output().print(message, style=style, markup=False, soft_wrap=True)


def print_table(table: Table | None, title: str) -> None:
    """A table of the report room under its title; nothing where there is none."""
    if table is None:
        return
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, heading in enumerate(table.headings):
        shown.add_column(Text(heading), justify="left" if place < table.names else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
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


@contextmanager
def progress_bar(task: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left; yields what to call with (finished, planned)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
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
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=log()) as progress:
        bar = progress.add_task(task, total=None)

        def advance(finished: int, planned: int) -> None:
            progress.update(bar, completed=finished, total=planned)

        yield advance
