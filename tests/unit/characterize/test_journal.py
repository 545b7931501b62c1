"""The journal: what went in comes out, one process at a time, and whatever is wrong with it is one clear error."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.characterize import DeckPoint, Journal, Outcome
from mdls_cosim.errors import SpiceNoConvergence, StoreError
from mdls_cosim.spice import Deck

DECK = Deck("r", ("Vin in 0 0", "Rin in 0 1000"), sources=("Vin",), probes=("i(vin)",))
TOOLS = {"ngspice": "46", "solver": "klu"}


def point(voltage: float) -> DeckPoint:
    return DeckPoint(f"at {voltage} V", DECK, np.array([[voltage]]))


def done(voltage: float) -> Outcome:
    results = {"file": np.array([[voltage / 1000]]), "times": np.linspace(0, 1, 7), "scalar": np.array(voltage)}
    return Outcome(f"at {voltage} V", results, seconds=0.5, fallbacks=("gear",))


def failed() -> Outcome:
    return Outcome("bad", None, SpiceNoConvergence("no operating point", log="singular"), deck="* the deck\n.end\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with two points done and one failed."""
    path = tmp_path / "data.h5.journal"
    with Journal.open(path) as journal:
        journal.begin("sha256:plan", TOOLS)
        for voltage in (1.0, 2.0):
            journal.keep(point(voltage), done(voltage))
        journal.keep(point(3.0), failed())
    return path


def test_outcomes_come_back(path):
    with Journal.open(path, resume=True) as journal:
        known = journal.known(point(2.0))
        assert known is not None
        assert known.reused
        assert (known.seconds, known.attempts, known.fallbacks) == (0.5, 1, ("gear",))
        assert known.results is not None
        for name, array in (done(2.0).results or {}).items():
            np.testing.assert_array_equal(known.results[name], array, strict=True)
        assert journal.known(point(3.0)) is None  # failed: to be tried again
        assert journal.known(point(4.0)) is None
        assert journal.count([point(1.0), point(3.0), point(4.0)]) == 1
        assert (journal.kept().done, journal.kept().failed) == (2, 1)


def test_a_failed_point_keeps_cause_deck_and_log(path):
    import zlib

    row = sqlite3.connect(path).execute("SELECT cause, deck, log FROM points WHERE status = 'failed'").fetchone()
    assert row[0] == "no operating point"
    assert zlib.decompress(row[1]).decode() == "* the deck\n.end\n"
    assert row[2] == "singular"


def test_without_resume_it_is_neither_used_nor_lost(path):
    with pytest.raises(StoreError, match=r"did not finish.*2 finished and 1 failed points.*--resume.*--force"):
        Journal.open(path)
    with Journal.open(path, resume=True) as journal:
        assert journal.kept().done == 2


def test_starting_over_drops_it(path):
    with Journal.open(path, start_over=True) as journal:
        assert (journal.kept().done, journal.kept().failed) == (0, 0)
        journal.begin("sha256:plan", {"ngspice": "other"})


def test_one_without_points_is_as_good_as_none(tmp_path):
    Journal.open(tmp_path / "j").close()
    (tmp_path / "empty").touch()
    for name in ("j", "empty"):
        with Journal.open(tmp_path / name) as journal:
            assert journal.kept().done == 0


def test_other_tools_are_refused_by_name(path):
    with Journal.open(path, resume=True) as journal:
        journal.begin("sha256:another plan", TOOLS)
        with pytest.raises(
            StoreError, match=r"other tools .*got \"ngspice 47\", allowed ngspice 46\. .*--force"
        ) as told:
            journal.begin("sha256:plan", TOOLS | {"ngspice": "47"})
        assert "solver" not in str(told.value)


def test_another_process_is_kept_out(path):
    program = (
        "import sys\nfrom mdls_cosim.characterize import Journal\n"
        "journal = Journal.open(sys.argv[1], resume=True)\nprint('open', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    try:
        for options in ({"resume": True}, {"start_over": True}):
            with pytest.raises(StoreError, match="another process is at work on this journal"):
                Journal.open(path, **options)
    finally:
        holder.kill()
        holder.communicate()
    with Journal.open(path, resume=True) as journal:
        assert journal.kept().done == 2


def test_a_second_one_in_this_process_too(path):
    with Journal.open(path, resume=True), pytest.raises(StoreError, match="another process"):
        Journal.open(path, resume=True)


def spoil(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "no database":
        path.write_bytes(b"a,b\n1,2\n" * 1000)
    elif kind == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "overwritten":
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    else:
        connection = sqlite3.connect(path)
        key = point(2.0).key
        (results,) = connection.execute("SELECT results FROM points WHERE key = ?", (key,)).fetchone()
        changed = bytearray(results)
        changed[results.index(np.array([[2.0 / 1000]]).tobytes())] ^= 1
        new = {"a flipped bit": bytes(changed), "half a result": results[: len(results) // 2], "nothing": b""}[kind]
        connection.execute("UPDATE points SET results = ? WHERE key = ?", (new, key))
        connection.commit()
        connection.close()


@pytest.mark.parametrize("kind", ["no database", "cut off", "overwritten", "a flipped bit", "half a result", "nothing"])
def test_a_damaged_one_is_one_clear_error_and_can_be_started_over(kind, path):
    spoil(path, kind)
    with pytest.raises(StoreError, match=r"the journal is damaged .*--force") as told:  # noqa: SIM117
        with Journal.open(path, resume=True) as journal:
            journal.known(point(2.0))
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    with Journal.open(path, start_over=True) as journal:
        assert journal.kept().done == 0
        journal.keep(point(1.0), done(1.0))


def test_a_database_of_somebody_else_is_left_alone(tmp_path):
    path = tmp_path / "theirs"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE points (x)")
    connection.execute("INSERT INTO points VALUES (1)")
    connection.commit()
    connection.close()
    for options in ({}, {"resume": True}, {"start_over": True}):
        with pytest.raises(StoreError, match="not a journal of mdls_cosim"):
            Journal.open(path, **options)
    assert sqlite3.connect(path).execute("SELECT x FROM points").fetchall() == [(1,)]


def test_one_of_another_version_is_refused(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"journal of another version .*got 99, allowed 1"):
        Journal.open(path, resume=True)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="cannot be used"):
        Journal.open(tmp_path / "absent" / "j")


def test_removed_without_a_trace(path):
    journal = Journal.open(path, resume=True)
    journal.remove()
    assert list(path.parent.iterdir()) == []
