"""`mdls-cosim doctor`."""

from __future__ import annotations

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.terminal import output, print_line


@app.command()
def doctor() -> None:
    """Say what is installed and what is missing.

    Which ngspice is found, which matrix solver it has, what is missing and how to get it.
    Exits with 1 if the main job (mdls-cosim demo) cannot run here.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mdls_cosim.spice.doctor import checks

    found = checks()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("Check", no_wrap=True)
    table.add_column("Found", overflow="fold")
    for check in found:
        word, style = ("ok", "green") if check.ok else ("MISSING", "red") if check.needed else ("note", "yellow")
        table.add_row(Text(word, style=style), Text(check.name), Text(check.found))
    output().print(table)
    missing = [check for check in found if check.needed and not check.ok]
    # What stops the main job comes alone; what could be better waits until it runs.
    for check in missing or found:
        if not check.ok and check.remedy:
            print_line()
            print_line(f"{check.name}: {check.remedy}", style="bold")
    print_line()
    if missing:
        print_line(f"Not ready: {', '.join(check.name for check in missing)}.", style="red")
        raise typer.Exit(1)
    print_line("Ready: mdls-cosim demo runs here.", style="green")
