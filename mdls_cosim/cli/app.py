"""The application that commands add themselves to, and what it does with their errors.

Exit codes: 0 done; 1 the answer is no (`validate` beyond the bound, `doctor` not ready, `characterize` with failed
points); 2 it cannot be done as asked, said in one line; 3 a defect of this program, with its traceback; 130
interrupted; 141 the reader of the output has left.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mdls_cosim.cli.streams import end_quietly, prepare
from mdls_cosim.cli.terminal import print_error, print_warning
from mdls_cosim.errors import DomainWarning, MdlsError, SpiceError

CANNOT, DEFECT, INTERRUPTED = 2, 3, 130

ORDER = (
    "doctor",
    "demo",
    "calibrate",
    "characterize",
    "report",
    "deck",
    "fit",
    "validate",
    "simulate",
    "audit",
    "info",
)
"""Of the commands in the help text: as a newcomer meets them. Others follow."""


class Commands(TyperGroup):
    """Runs a command; says what it cannot do in one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MdlsError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
                if isinstance(error, SpiceError) and error.log:
                    sys.stderr.write(f"ngspice said:\n{error.log}\n")
            print_error(str(error))
        except BrokenPipeError:
            end_quietly()
        except OSError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            place = f" at {error.filename}" if error.filename else ""
            print_error(f"{error.strerror or error}{place}")
        except KeyboardInterrupt:  # Ctrl-C or SIGTERM
            print_error("interrupted; no file was written")
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(CANNOT)


app = typer.Typer(
    cls=Commands,
    # Plain help: it loads fast, pipes well, and leaves [tile] and [iv] in the texts alone.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mdls-cosim {version('mdls_cosim')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error and what ngspice said.")
    ] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Memristor co-simulation: what will a network really do on this memristor hardware?

    \b
    The chain, step by step:
      mdls-cosim characterize examples/tile.toml --out tile.h5
      mdls-cosim fit tile.h5 --out surrogate.h5
      mdls-cosim validate surrogate.h5

    Or all of it, to the accuracy of a network: mdls-cosim demo

    Exit codes: 0 done; 1 the answer is no (not valid, not ready, failed points); 2 cannot be done as asked;
    130 interrupted (Ctrl-C or SIGTERM); 141 the reader of the output has left.
    """


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """A use outside a fit's domain as one line; other warnings are for programmers, and stay as they are."""
    if issubclass(category, DomainWarning):
        print_warning(str(message))
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))


def main() -> None:
    """Runs the command line; the entry point of the installed program."""
    warnings.showwarning = _show_warning
    prepare()
    try:
        try:
            app(prog_name="mdls-cosim")
        finally:
            if sys.stdout is not None:  # here, where its error can be handled, and not when Python ends
                sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()
    except Exception:
        # Not an error of the user's, so one line would not do; and never exit code 1, which is an answer.
        traceback.print_exc()
        print_error("this is a defect of mdls-cosim; please report it with the lines above")
        sys.exit(DEFECT)
