"""Examples and documentation: specifications that can be read, chapters for what they run, pictures that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from mdls_cosim.characterize import Campaign
from mdls_cosim.characterize.characterization import experiment_names
from mdls_cosim.cli.files import load_plan
from mdls_cosim.report.experiments import CHAPTERS
from mdls_cosim.tiles import SubcircuitCell, TileSpec

ROOT = Path(__file__).parents[3]
EXAMPLES = [*sorted((ROOT / "examples/experiments").glob("*.toml")), ROOT / "examples/experiments/own_cell/tile.toml"]
CELLS = (ROOT / "docs/cells.md").read_text(encoding="utf-8")
EXPERIMENTS = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")


def test_every_experiment_has_a_chapter_and_a_section() -> None:
    assert set(CHAPTERS) == set(experiment_names())
    assert set(re.findall(r"^## (\w+):", EXPERIMENTS, re.M)) == set(experiment_names())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_planned_and_say_their_command(path: Path) -> None:
    assert Campaign(load_plan(path)).points
    assert f"mdls-cosim characterize {path.relative_to(ROOT)} --out" in path.read_text(encoding="utf-8")


def test_examples_run_every_experiment() -> None:
    run = {name for path in EXAMPLES for name in load_plan(path).experiments}
    assert run == set(experiment_names())


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", CELLS, re.S))
def test_settings_in_the_documentation_are_tiles(block: str) -> None:
    TileSpec.from_text_dict({"rows": 2, "cols": 2, **tomllib.loads(block)}, "docs/cells.md")


def test_the_documented_subcircuit_is_that_of_the_example() -> None:
    folder = ROOT / "examples/experiments/own_cell"
    documented = [block for block in CELLS.split("```")[1::2] if block.startswith("\n")]
    assert documented[0].strip() in (folder / "gap.sub").read_text(encoding="utf-8")
    assert tomllib.loads(documented[1]) == tomllib.loads((folder / "gap.toml").read_text(encoding="utf-8"))
    assert isinstance(load_plan(folder / "tile.toml").tile.cell, SubcircuitCell)


def test_the_documented_fault_is_a_circuit() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", CELLS, re.S)
    said: list[str] = []
    exec(program, {"print": said.append})
    assert "row2_col1" in said[0]


@pytest.mark.parametrize("text", [CELLS, EXPERIMENTS], ids=["cells", "experiments"])
def test_pictures_are_there_and_small(text: str) -> None:
    for name in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert 0 < (ROOT / "docs" / name).stat().st_size < 100_000
