"""Several places are searched for the ngspice library; most of them are empty on any machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mdls_cosim.spice.worker import library_candidates

TRY = """
from mdls_cosim.spice import worker
real = worker.library_candidates()
worker.library_candidates = lambda: {candidates}
try:
    print("version", worker.Ngspice(print).version)
except worker.LibraryMissing as missing:
    print("missing", missing)
"""


def tried(candidates: str) -> str:
    """What a fresh process says; PySpice can be loaded once in a process."""
    done = subprocess.run(
        [sys.executable, "-c", TRY.format(candidates=candidates)], capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def test_no_candidate_that_loads_is_a_missing_library():
    said = tried("['/nowhere/libngspice.so.0', '/nowhere/libngspice.so']")
    assert "missing /nowhere/libngspice.so.0, /nowhere/libngspice.so, which cannot be loaded" in said
    assert "Traceback" not in said


@pytest.mark.ngspice
def test_candidates_that_do_not_load_are_passed_over():
    said = tried("['/nowhere/libngspice.so.0', '/nowhere/libngspice.so', *real]")
    assert "version" in said
    assert "Traceback" not in said


def test_the_users_choice_is_the_only_candidate(monkeypatch):
    monkeypatch.setenv("NGSPICE_LIBRARY", "/my/own.so")
    assert library_candidates() == ["/my/own.so"]
