"""The journal of a campaign: every finished point, in a SQLite file beside the Dataset, safe from kill -9.

Each point is one transaction in SQLite's write-ahead log: it is there whole or not at all. The file is locked by the
process that writes it, and by no other; the lock goes with the process. Points are found by their key, so a plan that
was changed takes what it shares with the old one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from mdls_cosim.characterize.point import Results
from mdls_cosim.characterize.workers import Outcome
from mdls_cosim.errors import MdlsError, StoreError, brief

SCHEMA_VERSION = 1

_APPLICATION = 0x6D646C73  # "mdls", in SQLite's own field for this
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE points (key TEXT PRIMARY KEY, label TEXT NOT NULL,"
    " status TEXT NOT NULL CHECK (status IN ('done', 'failed')), results BLOB, cause TEXT, deck BLOB, log TEXT,"
    " attempts INTEGER NOT NULL, seconds REAL NOT NULL, fallbacks TEXT NOT NULL)",
)
_START_OVER = "`--force` starts over"


class Keyed(Protocol):
    """A piece of work that a journal keeps: a point of a campaign, a run of a simulation."""

    @property
    def key(self) -> Any:
        """A string that no other piece of work has; a property, or a cached one."""

    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class Kept:
    """How many points a journal holds."""

    done: int
    failed: int


class Journal:
    """The outcomes of a campaign, kept at `path`. A context manager; `open` makes it or goes on with it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: str | os.PathLike[str], resume: bool = False, start_over: bool = False) -> Self:
        """The journal at `path`, locked for this process.

        Args:
            resume: go on with the one that is there, if there is one.
            start_over: drop what it holds.

        Raises:
            StoreError: another process writes it; it is damaged, no journal or of another version; or it holds points,
                and neither `resume` nor `start_over` says what to do with them.
        """
        place = Path(path)
        with _told(place):
            connection = sqlite3.connect(place, timeout=0.5, isolation_level=None)
        journal = cls(place, connection)
        try:
            with _told(place):
                journal._prepare(start_over)
        except _Damaged:
            connection.close()
            if not start_over:
                raise
            _delete(place)
            return cls.open(path, resume)
        except BaseException:
            connection.close()
            raise
        try:
            kept = journal.kept()
            if (kept.done or kept.failed) and not resume:
                raise StoreError(
                    "a campaign that did not finish left its journal",
                    where=str(place),
                    value=f"{kept.done} finished and {kept.failed} failed points",
                    hint=f"`--resume` goes on with it, {_START_OVER}",
                )
        except BaseException:
            connection.close()
            raise
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def remove(self) -> None:
        """Closes it and deletes the file."""
        # Emptied first: a process that waits for the lock must not find points that are about to go.
        with _told(self.path):
            self._connection.execute("DELETE FROM points")
        self.close()
        _delete(self.path)

    def begin(self, plan: str, tools: Mapping[str, str]) -> None:
        """States the plan (a hash) and the versions of all that shapes the numbers.

        Raises:
            StoreError: the points that are there were made with others.
        """
        with _told(self.path):
            rows = dict(self._connection.execute("SELECT name, value FROM meta"))
            before = json.loads(rows.get("tools", "{}"))
        if before and before != dict(tools):
            names = sorted(name for name in before.keys() | dict(tools).keys() if before.get(name) != tools.get(name))
            raise StoreError(
                "the journal's points were made with other tools",
                where=str(self.path),
                value="; ".join(f"{name} {tools.get(name, 'none')}" for name in names),
                limit="; ".join(f"{name} {before.get(name, 'none')}" for name in names),
                hint=f"Go on with the tools of then, or {_START_OVER}",
            )
        stated = {"plan": plan, "tools": json.dumps(dict(tools), sort_keys=True)}
        with _told(self.path):
            self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", stated.items())

    @property
    def plan(self) -> str | None:
        """The plan that `begin` was last called with; None before."""
        with _told(self.path):
            row = self._connection.execute("SELECT value FROM meta WHERE name = 'plan'").fetchone()
        return None if row is None else row[0]

    def kept(self) -> Kept:
        """How many points there are."""
        with _told(self.path):
            found = dict(self._connection.execute("SELECT status, COUNT(*) FROM points GROUP BY status"))
        return Kept(found.get("done", 0), found.get("failed", 0))

    def count(self, points: Iterable[Keyed]) -> int:
        """How many of `points` are done."""
        with _told(self.path):
            done = {key for (key,) in self._connection.execute("SELECT key FROM points WHERE status = 'done'")}
        return sum(point.key in done for point in points)

    def known(self, point: Keyed) -> Outcome | None:
        """The outcome of a point that is done; failed ones are for trying again."""
        with _told(self.path):
            row = self._connection.execute(
                "SELECT results, attempts, seconds, fallbacks FROM points WHERE key = ? AND status = 'done'",
                (point.key,),
            ).fetchone()
        if row is None:
            return None
        results, attempts, seconds, fallbacks = row
        with _told(self.path):
            return Outcome(
                point.label,
                _unpacked(results),
                seconds=seconds,
                attempts=attempts,
                fallbacks=tuple(json.loads(fallbacks)),
                reused=True,
            )

    def keep(self, point: Keyed, outcome: Outcome) -> Outcome:
        """Commits the outcome of a point; gives it back with the attempts of earlier runs counted."""
        with _told(self.path):
            row = self._connection.execute("SELECT attempts FROM points WHERE key = ?", (point.key,)).fetchone()
            outcome = replace(outcome, attempts=outcome.attempts + (row[0] if row else 0))
            self._connection.execute(
                "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    point.key,
                    point.label,
                    "done" if outcome.done else "failed",
                    None if outcome.results is None else _packed(outcome.results),
                    outcome.cause or None,
                    zlib.compress(outcome.deck.encode()) if outcome.deck else None,
                    outcome.log or None,
                    outcome.attempts,
                    outcome.seconds,
                    json.dumps(outcome.fallbacks),
                ),
            )
        return outcome

    def _prepare(self, start_over: bool) -> None:
        """Locks the file, and makes or checks what is in it."""
        run = self._connection.execute
        # Exclusive before the first access: the log then needs no memory shared between processes.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN EXCLUSIVE")
        application, version = run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and (application != _APPLICATION or version != SCHEMA_VERSION):
            known = application == _APPLICATION
            raise StoreError(
                "a journal of another version" if known else "not a journal of mdls_cosim",
                where=str(self.path),
                value=version if known else None,
                limit=SCHEMA_VERSION if known else None,
                hint="Delete it, or name another output",
            )
        if not tables:
            for statement in _SCHEMA:
                run(statement)
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif start_over:
            run("DELETE FROM points")
            run("DELETE FROM meta")
        run("COMMIT")
        found = run("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)


class _Damaged(StoreError):
    """A journal that cannot be read as one."""


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors, and those of damaged results, as StoreError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_BUSY", "SQLITE_LOCKED"):
            raise StoreError(
                "another process is at work on this journal",
                where=str(path),
                hint="Wait until it ends, or name another output",
            ) from error
        raise StoreError(f"the journal cannot be used ({brief(error)})", where=str(path)) from error
    except Exception as error:  # numpy lets those of zipfile, zlib, tokenize and its own through
        if isinstance(error, MdlsError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise _Damaged(
            f"the journal is damaged ({brief(error)})",
            where=str(path),
            hint=f"Take a copy that is whole; or {_START_OVER}, and all of its points are run again",
        ) from error


def _packed(results: Results) -> bytes:
    stream = io.BytesIO()
    # With a CRC of each array, which SQLite has not. Marked: "file" is an argument of savez.
    np.savez(stream, allow_pickle=False, **{f"_{name}": array for name, array in results.items()})
    return stream.getvalue()


def _unpacked(content: bytes) -> Results:
    with contextlib.closing(np.load(io.BytesIO(content), allow_pickle=False)) as stored:
        return {name.removeprefix("_"): stored[name] for name in stored.files}
