"""Files that commands read and write, checked before the work begins rather than after."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdls_cosim.errors import MdlsError, StoreError, brief

if TYPE_CHECKING:
    from mdls_cosim.characterize import Characterization

Force = Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")]
Cell = Annotated[
    Path | None,
    typer.Option("--cell", metavar="FILE.sub", help="A subcircuit of your own as the cell; FILE.toml declares it."),
]


def check_input(path: Path) -> Path:
    """`path` if it is a regular file.

    Raises:
        StoreError: it is missing, a folder, a named pipe or a device.
    """
    if path.is_dir():
        raise StoreError("a file is needed, and this is a folder", where=str(path))
    if not path.exists():
        raise StoreError("no such file", where=str(path))
    if not path.is_file():
        raise StoreError("a regular file is needed, and this is a pipe or a device", where=str(path))
    return path


@contextmanager
def content_of(path: Path) -> Iterator[None]:
    """Context in which the content of a file is shown; readers check its form, and not every value in it.

    Raises:
        StoreError: in place of a KeyError, TypeError, ValueError or the like, whose cause it is: what was shown is
            missing or of another type or shape.
    """
    try:
        yield
    except (MdlsError, UnicodeError):  # not of the content: one line already, or an output that cannot encode it
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(
            "content that cannot be shown", where=str(path), value=f"{type(error).__name__}: {brief(error)}",
            hint="The file was altered or is of another version; `mdls-cosim --debug` gives the traceback",
        ) from error  # fmt: skip


def parameter_set(path: Path) -> bool:
    """Whether `path` is a parameter file (TOML), or the name of a set that comes with the package.

    Raises:
        StoreError: a TOML file that is missing, or no regular file.
    """
    if path.suffix.lower() == ".toml":
        check_input(path)
        return True
    if path.exists():
        return False
    from mdls_cosim.devices.parameter_files import parameter_set_names

    return str(path) in parameter_set_names()


def check_output(path: Path, force: bool, source: Path | None = None) -> Path:
    """`path` if a file may be written there.

    Args:
        force: an existing file may be replaced.
        source: the command's input, which is never replaced.

    Raises:
        StoreError: its folder is missing or cannot be written to; or it exists, and `force` is not given.
    """
    folder = path.parent
    if not folder.is_dir():
        raise StoreError("the output folder does not exist", where=str(folder), hint=f"Create it: mkdir -p {folder}")
    if path.is_dir():
        raise StoreError("the output must be a file, and this is a folder", where=str(path))
    if source is not None and path.exists() and path.samefile(source):
        raise StoreError("the output would replace the input", where=str(path), hint="Choose another name")
    if path.exists() and not force:
        raise StoreError("the output file exists", where=str(path), hint="Choose another name, or add --force")
    if not os.access(folder, os.W_OK):
        raise StoreError("the output folder cannot be written to", where=str(folder))
    return path


def load_plan(spec: Path, cell: Path | None = None) -> Characterization:
    """The specification in `spec`, with the subcircuit in the file `cell` at every crossing, if there is one.

    Raises:
        ConfigError: it is not one; the message names the field.
    """
    from mdls_cosim.characterize import Characterization
    from mdls_cosim.config import read_toml

    raw = read_toml(spec)
    if cell is not None:
        check_input(cell)
        tile = raw.get("tile")
        if isinstance(tile, dict):
            raw["tile"] = {**tile, "cell": {"model": "subcircuit", "file": str(cell.resolve())}}
    return Characterization.from_text_dict(raw, str(spec), folder=str(spec.resolve().parent))


def size_of(path: Path) -> str:
    """The size of a file, for a reader."""
    size = float(path.stat().st_size)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
