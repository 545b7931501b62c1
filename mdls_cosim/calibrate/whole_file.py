"""Write a text file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from mdls_cosim.errors import StoreError


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path`: another file of its folder is written first and renamed, so no half of it is ever seen.

    Raises:
        StoreError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(f"cannot be written ({error.strerror})", where=os.fspath(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
