"""Settings of the user that ngspice must not take: start-up files and environment variables change results."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

__all__ = ["plain_environment", "without_user_settings"]

_OURS = {"NGSPICE_LIBRARY"}


def plain_environment() -> dict[str, str]:
    """This process's environment without the variables that ngspice reads (SPICE_SCRIPTS, NGSPICE_INPUT_DIR, ...).

    NGSPICE_LIBRARY remains: it is this package's own.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _OURS or not name.upper().startswith(("SPICE_", "NGSPICE_"))
    }


@contextlib.contextmanager
def without_user_settings() -> Iterator[None]:
    """Make a folder with an empty `.spiceinit` the working folder while ngspice starts.

    ngspice sources `.spiceinit` of the working folder, or else of the user's home as the system's list of users has it.
    """
    before = os.open(".", os.O_RDONLY)
    try:
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, ".spiceinit"), "w", encoding="ascii") as file:
                file.write("* nothing\n")
            os.chdir(folder)
            try:
                yield
            finally:
                os.fchdir(before)
    finally:
        os.close(before)
