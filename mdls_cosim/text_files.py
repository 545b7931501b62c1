"""Text files that users supply: regular files only, of bounded size, in the encodings that programs write."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from dataclasses import dataclass

from mdls_cosim.errors import MdlsError, StoreError

MEGABYTE = 1_000_000

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True)
class TextFile:
    """The content of a text file."""

    path: str
    text: str
    """The text; every line ends in a line feed, a byte order mark is removed."""
    content_hash: str
    """sha256 of the bytes."""


def read_text_file(
    path: str | os.PathLike[str],
    what: str = "the file",
    *,
    largest: int = MEGABYTE,
    error: type[MdlsError] = StoreError,
) -> TextFile:
    """Read the text of a file; see `read_bytes` and `decoded` for what is accepted.

    Args:
        path: of the file.
        what: the file is, for the messages: "the table".
        largest: size accepted [bytes].
        error: the class of the errors raised.
    """
    where = os.fspath(path)
    content = read_bytes(where, what, largest=largest, error=error)
    text = decoded(content, where, what, error=error)
    return TextFile(where, text, f"sha256:{hashlib.sha256(content).hexdigest()}")


def read_bytes(
    path: str | os.PathLike[str],
    what: str = "the file",
    *,
    largest: int = MEGABYTE,
    error: type[MdlsError] = StoreError,
) -> bytes:
    """Read all bytes of a regular file of at most `largest` bytes.

    A named pipe, a device or a socket is refused before anything is read from it.

    Raises:
        error: there is no such file, it is not a regular file, it is too large, or it cannot be read.
    """
    where = os.fspath(path)
    try:
        # Opening a named pipe waits for a writer, and opening some devices has an effect; the check after the opening
        # covers a file that was exchanged in between.
        _check_kind(os.stat(where), where, what, error)
        with open(os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as stream:
            status = os.fstat(stream.fileno())
            _check_kind(status, where, what, error)
            # The size that is stated may be 0 where the content is not (/proc), and may grow.
            content = b"" if status.st_size > largest else stream.read(largest + 1)
    except MdlsError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{what} cannot be read: no such file", where=where) from None
    except OSError as cause:
        raise error(f"{what} cannot be read ({cause.strerror})", where=where) from None
    except ValueError:  # a zero byte in the path
        raise error(f"{what} cannot be read (not a path)", where=where) from None
    if status.st_size > largest or len(content) > largest:
        size = f"{status.st_size} bytes" if status.st_size > largest else f"more than {largest} bytes"
        raise error(f"{what} is too large", where=where, value=size, limit=f"at most {largest} bytes")
    return content


def decoded(content: bytes, where: str, what: str = "the file", *, error: type[MdlsError] = StoreError) -> str:
    """Decode the bytes of a text file; every line of the result ends in a line feed.

    A byte order mark decides between UTF-8, UTF-16 and UTF-32; without one the text is UTF-8, or else Windows-1252,
    which is where older programs keep the micro sign. Line ends may be LF, CR LF or CR.

    Raises:
        error: the bytes are not text, or contain a zero.
    """
    marked = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise error(f"{what} is not a text file", where=where, limit="text in UTF-8, UTF-16 or Windows-1252")


def _check_kind(status: os.stat_result, where: str, what: str, error: type[MdlsError]) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        raise error(f"{what} cannot be read ({kind})", where=where, limit="a regular file")
