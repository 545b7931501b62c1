"""Any encoding, a reader that leaves early, no terminal, no home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdls_cosim.cli.terminal import print_error, print_line
from mdls_cosim.dataset import Dataset

COMMAND = [sys.executable, "-m", "mdls_cosim"]
PYTHON = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "NGSPICE_LIBRARY") if name in os.environ}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, nodal_dataset, tile_spec) -> Path:
    """A Dataset whose tables need characters beyond ASCII."""
    path = tmp_path_factory.mktemp("streams") / "é.h5"
    dataset: Dataset = nodal_dataset(tile_spec(3, 2), tiles=2, vectors=1)
    dataset.save(path)
    return path


@pytest.mark.parametrize(
    "environment",
    [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii:strict", "COLUMNS": "20"}],
    ids=["C", "latin-1", "narrow"],
)
def test_what_an_encoding_lacks_is_written_in_plain_text(environment: dict[str, str], file: Path) -> None:
    found = subprocess.run([*COMMAND, "info", file], env=PYTHON | environment, capture_output=True)
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"column_line_resistance" in found.stdout or b"Tile column line resistance" in found.stdout
    refused = subprocess.run([*COMMAND, "info", "–µ.h5"], env=PYTHON | environment, capture_output=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"error: no such file at ")
    assert refused.stderr.count(b"\n") == 1


def test_a_reader_that_leaves_ends_a_command_quietly(file: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run([*COMMAND, "info", str(file)], env=PYTHON, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (found.returncode, found.stderr) == (141, b"")


def test_closed_streams_are_no_reason_to_fail(file: Path) -> None:
    command = " ".join([*COMMAND, "info", f"'{file}'"])
    assert subprocess.run(f"exec {command} >&- 2>&- <&-", shell=True, env=PYTHON).returncode == 0


def test_names_between_colons_are_no_emojis(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("no such function at metric, net:zzz: got 1")
    print_line("a:x: b")
    told = capsys.readouterr()
    assert "net:zzz: got" in told.err
    assert "a:x: b" in told.out
