"""Standard streams and signals of the command line: any encoding, a reader that leaves early, a request to end."""

from __future__ import annotations

import codecs
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

READER_LEFT = 141
"""Exit code where the reader of standard output has closed it, as of a program that SIGPIPE ends."""

_PLAIN = {
    "\u00a0": " ",
    "\u202f": " ",
    "–": "-",
    "—": "-",
    "−": "-",
    "±": "+-",
    "×": "x",
    "·": ".",
    "…": "...",
    "µ": "u",
    "μ": "u",
    "Ω": "ohm",
    "°": "deg",
    "²": "^2",
    "³": "^3",
    "√": "sqrt ",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "•": "*",
}
_HANDLER = "mdls_cosim.plain"


def prepare() -> None:
    """Make standard streams take any text, and SIGTERM end a command as Ctrl-C does.

    What the encoding of a stream does not have is written as plain ASCII ("+-" for "±"), or as "?".
    """
    codecs.register_error(_HANDLER, _in_plain_text)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # there may be no stream, or that of a test
        if reconfigure is not None:
            reconfigure(errors=_HANDLER)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)


def end_quietly() -> NoReturn:
    """End a program whose reader has left, without a word at the last flush.

    Raises:
        SystemExit: with `READER_LEFT`.
    """
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        pass  # a stream without a descriptor of its own
    finally:
        os.close(sink)
    raise SystemExit(READER_LEFT)


def _in_plain_text(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(_PLAIN.get(each, "?") for each in error.object[error.start : error.end])
    return text, error.end


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
