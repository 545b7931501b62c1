"""Calls of code that is not part of this package: a user's factory, forward, metric, loss or data."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from mdls_cosim.errors import InputError, MdlsError

Result = TypeVar("Result")

_OWN = Path(__file__).resolve().parents[1]
_CALLERS = (__file__, str(_OWN / "network" / "zoo" / "factory.py"))
"""Files that do nothing but call user code: what a built-in raises there is the user's."""
_LIBRARIES = tuple(
    str(Path(each).resolve())
    for each in {*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), Path(torch.__file__).parent}
)
_OF_SHAPES = (RuntimeError, ValueError, IndexError)
"""What torch raises for inputs of a wrong shape or dtype, in any layer."""
_LONGEST, _LONGEST_PATH = 140, 60


def call(
    function: Callable[..., Result],
    *args: Any,
    what: str,
    where: str | None = None,
    hint: str | None = None,
    error: type[MdlsError] = InputError,
    **kwargs: Any,
) -> Result:
    """`function(*args, **kwargs)`; an exception in the user's code becomes one sentence with its file and line.

    An MdlsError is passed on. So is an exception of this package itself (a TypeError, KeyError or AttributeError whose
    innermost line outside libraries is in it), which is a defect and keeps its traceback.

    Args:
        what: subject of the sentence: "the model", "the metric".
        where: the place in the experiment or the data.
        hint: what to try.
        error: class of the error that is raised from the exception.
    """
    try:
        return function(*args, **kwargs)
    except MdlsError:
        raise
    except (Exception, SystemExit) as raised:
        described = described_error(raised)
        if described is None:
            raise
        raise error(f"{what} raised {described}", where=where, hint=hint) from raised


def described_error(raised: BaseException) -> str | None:
    """Type, first line and place of an exception in user code; None for an exception of this package itself."""
    frames = [
        frame
        for frame in traceback.extract_tb(raised.__traceback__)
        if frame.filename not in _CALLERS and not _in_library(frame.filename)
    ]
    if frames and Path(frames[-1].filename).resolve().is_relative_to(_OWN) and not isinstance(raised, _OF_SHAPES):
        return None
    users = [frame for frame in frames if not Path(frame.filename).resolve().is_relative_to(_OWN)]
    lines = str(raised).strip().splitlines() or [""]
    message = lines[0] if len(lines[0]) <= _LONGEST else f"{lines[0][: _LONGEST - 3]}..."
    text = f"{type(raised).__name__}: {message}" if message else type(raised).__name__
    # A SyntaxError has the place in itself: no frame is in the file.
    if isinstance(raised, SyntaxError) and raised.filename:
        return f"{text} ({_shown(raised.filename)}:{raised.lineno})"
    return f"{text} ({_shown(users[-1].filename)}:{users[-1].lineno})" if users else text


def _in_library(file: str) -> bool:
    return file.startswith("<frozen") or (
        not Path(file).resolve().is_relative_to(_OWN) and str(Path(file).resolve()).startswith(_LIBRARIES)
    )


def _shown(file: str) -> str:
    """The path from the working folder where that is shorter, and of a long one its end."""
    try:
        path = min(os.path.relpath(file), file, key=len)
    except ValueError:  # another drive
        path = file
    return path if len(path) <= _LONGEST_PATH else f"...{path[3 - _LONGEST_PATH :]}"
