"""examples/: what the README tells a new user to run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mdls_cosim.devices import Ohmic
from mdls_cosim.surrogates import LinearSurrogate
from mdls_cosim.tiles import TileSpec

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "quickstart.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_model_of_ones_own_runs_on_a_surrogate_file(tmp_path):
    spec = TileSpec(rows=32, cols=32, cell=Ohmic(), row_line_resistance=1.0, column_line_resistance=1.0)
    LinearSurrogate.exact(spec).save(tmp_path / "surrogate.h5")
    result = run(folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "converted 2, skipped 0" in result.stdout
    accuracies = [float(line.split()[1]) for line in result.stdout.splitlines() if line.startswith(("float", "tiles"))]
    assert len(accuracies) == 2
    assert min(accuracies) > 80.0  # percent


def test_a_missing_surrogate_is_one_clear_error(tmp_path):
    result = run("nowhere.h5", folder=tmp_path)
    assert result.returncode != 0
    assert "StoreError" in result.stderr.splitlines()[-1]
    assert "nowhere.h5" in result.stderr.splitlines()[-1]


def test_the_quickstart_is_twenty_lines():
    code = (EXAMPLES / "quickstart.py").read_text().split('"""')[2]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 20
