"""Files of a user's subcircuit: encodings, line ends, and what is no file to read."""

import os
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.characterize import Characterization
from mdls_cosim.errors import ConfigError
from mdls_cosim.spice import NgspiceEngine
from mdls_cosim.tiles import SubcircuitCell, TileSpec, tile_deck

CASES = Path(__file__).parents[2] / "cases" / "circuit"


@pytest.mark.ngspice
@pytest.mark.parametrize("name", ["07-bom-crlf", "07b-cp1252", "07c-cr", "07d-bom-sub", "07e-crlf"])
def test_a_cell_written_on_another_system_carries_its_current(name: str):
    """50 uS carry 5 uA at 0.1 V."""
    spec = TileSpec(rows=1, cols=1, cell=SubcircuitCell(file=str(CASES / f"{name}.sub")))
    with NgspiceEngine() as engine:
        found = engine.run(tile_deck(spec, [[50e-6]]), np.array([[0.1]]))
    np.testing.assert_allclose(found.values[0, 0], 5e-6, rtol=1e-9)


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
