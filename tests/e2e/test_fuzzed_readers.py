"""Damaged and hostile input to every reader, as of tools/fuzz_readers.py: 2,000 inputs each."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fuzz_readers.py"
_spec = importlib.util.spec_from_file_location("fuzz_readers", TOOL)
assert _spec is not None
assert _spec.loader is not None
fuzz = importlib.util.module_from_spec(_spec)
sys.modules["fuzz_readers"] = fuzz  # dataclasses look their module up
_spec.loader.exec_module(fuzz)

READERS = list(fuzz.cases(Path()))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, TOOL, *words], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("names", [READERS[0::3], READERS[1::3], READERS[2::3]], ids=["first", "second", "third"])
def test_every_reader_accepts_its_input_or_raises_one_short_error(names: list[str]) -> None:
    found = run("--inputs", "2000", "--seed", "1", *(word for name in names for word in ("--reader", name)))
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count(" 2000 inputs, 0 failures") == len(names)


def test_what_readers_must_not_do_is_seen(tmp_path: Path) -> None:
    """The harness itself: other exceptions, long messages, memory, time and files left behind."""

    def hang(_path: Path) -> None:
        while True:
            pass

    def fail(_path: Path) -> None:
        raise KeyError("x")

    def ramble(_path: Path) -> None:
        raise fuzz.MdlsError("x" * 100, where="y" * 20).__class__("x")

    class Long(fuzz.MdlsError):
        def __str__(self) -> str:
            return "x" * 400

    def long(_path: Path) -> None:
        raise Long("x")

    path = tmp_path / "in" / "x"
    path.parent.mkdir()
    fuzz.SECONDS, before = 1, fuzz.SECONDS
    try:
        assert "took more than 1 s" in fuzz.problem_of(hang, path)
    finally:
        fuzz.SECONDS = before
    assert "KeyError" in fuzz.problem_of(fail, path)
    assert "400 characters" in fuzz.problem_of(long, path)
    assert fuzz.problem_of(ramble, path) is None
