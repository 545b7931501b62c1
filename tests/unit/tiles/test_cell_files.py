"""Files of a user's subcircuit: encodings, line ends, and what is no file to read."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.characterize import Characterization
from mdls_cosim.errors import ConfigError
from mdls_cosim.spice import NgspiceEngine
from mdls_cosim.tiles import SubcircuitCell, TileSpec, tile_deck


@pytest.fixture(scope="module")
def engine() -> Iterator[NgspiceEngine]:
    with NgspiceEngine() as engine:
        yield engine


CASES = Path(__file__).parents[2] / "cases" / "circuit"


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("name", "conductance"),
    [
        ("07-bom-crlf", 50e-6),
        ("07b-cp1252", 50e-6),
        ("07c-cr", 50e-6),
        ("07d-bom-sub", 50e-6),
        ("07e-crlf", 50e-6),
        ("13-quoted-default", 50e-6),
        ("15-slash-comment", 50e-6),
        ("04b-tabs-comments", 1e-4),  # r_off = 10 kohm
    ],
)
def test_a_cell_written_on_another_system_carries_its_current(
    name: str, conductance: float, engine: NgspiceEngine, tmp_path: Path
):
    """50 uS carry 5 uA at 0.1 V, 10 kohm 10 uA; in the engine, and in the exported deck alone."""
    spec = TileSpec(rows=1, cols=1, cell=SubcircuitCell(file=str(CASES / f"{name}.sub")))
    deck = tile_deck(spec, [[conductance]])
    found = engine.run(deck, np.array([[0.1]]))
    np.testing.assert_allclose(found.values[0, 0], 0.1 * conductance, rtol=1e-9)
    program = shutil.which("ngspice")
    if program is not None:
        (tmp_path / "t.cir").write_text(deck.standalone(np.array([[0.1]])))
        alone = [program, "-b", str(tmp_path / "t.cir")]
        said = subprocess.run(alone, capture_output=True, text=True, timeout=60, check=False).stdout
        (current,) = re.findall(r"i\(vcol0\) = (\S+)", said)
        np.testing.assert_allclose(float(current), 0.1 * conductance, rtol=1e-9)


def test_a_specification_with_a_byte_order_mark_is_read():
    assert Characterization.load_toml(CASES / "07f-tile-bom.toml").tile.cols == 4


def test_only_regular_files_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.sub")
    (tmp_path / "large.sub").write_bytes(b"*" * 1_000_001)
    (tmp_path / "own.sub").write_text(".subckt own p n g=1\nGown p n p n {g}\n.ends\n")
    os.mkfifo(tmp_path / "own.toml")
    for name, message in (
        ("pipe.sub", "named pipe"),
        ("large.sub", "too large"),
        ("/dev/zero", "a device"),
        ("own.sub", "pins and state cannot be read .a named pipe"),
    ):
        with pytest.raises(ConfigError, match=message):
            SubcircuitCell(file=str(tmp_path / name))
