"""The unattended matrix of fits: it makes what is missing, keeps what is there, and goes on after a failure."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mdls_cosim.errors import StoreError
from mdls_cosim.surrogates import RowResponses, SeriesSurrogate, fit, load
from mdls_cosim.tiles import SelectorCell, TransistorCell

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "fit_surrogates.py"
SMALL = ["--cells", "ohmic", "--wires", "1", "--sizes", "3", "--tiles", "2"]
NAME = "ohmic_1ohm_3"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_surrogates", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_surrogates"] = module
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, out: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        script.main([str(out), *(arguments or SMALL)])
    return stopped.value.code


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.ngspice
def test_it_makes_what_is_missing_or_cannot_be_read(script, tmp_path, monkeypatch):
    assert run(script, tmp_path) == 0
    result, data, surrogate = (tmp_path / f"{NAME}{end}" for end in (".json", ".h5", "_surrogate.h5"))
    first = json.loads(result.read_text())
    assert first["valid"]
    assert first["fresh"] < 1e-6
    assert load(surrogate).kind == "linear"
    assert "| ohmic_1ohm_3 |" in (tmp_path / "table.md").read_text()
    assert {each.name for each in tmp_path.iterdir()} == {result.name, data.name, surrogate.name, "table.md"}
    simulated, made = [], script.Campaign
    monkeypatch.setattr(script, "Campaign", lambda plan: simulated.append(plan) or made(plan))
    # What is whole stays.
    before = result.read_bytes()
    assert run(script, tmp_path) == 0
    assert result.read_bytes() == before
    # Stopped while it wrote the result: data are there, and fitted again.
    damaged(result)
    assert run(script, tmp_path) == 0
    assert json.loads(result.read_text())["rms"] == pytest.approx(first["rms"], rel=1e-3, abs=1e-12)
    assert not simulated
    # Data and journal that cannot be read.
    damaged(data)
    result.unlink()
    data.with_name(f"{data.name}.journal").write_bytes(b"no journal")
    assert run(script, tmp_path) == 0
    assert len(simulated) == 1
    assert json.loads(result.read_text())["valid"]


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("one case"), StoreError("one case")], ids=lambda error: type(error)
)
def test_a_case_that_fails_does_not_stop_the_others(error, script, tmp_path, monkeypatch):
    whole = {"plan": "", **dict.fromkeys(script.NUMBERS, 0.01), "valid": True}

    def made(case, plan, out):
        if case.size == 3:
            raise error
        return whole

    monkeypatch.setattr(script, "made", made)
    assert run(script, tmp_path, "--cells", "ohmic", "--wires", "1", "--sizes", "3,4") == 1
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "one case" in lines[2]
    assert "yes" in lines[3]
    assert "one case" in json.loads((tmp_path / f"{NAME}.json").read_text())["failed"]
    # The failed one is tried again, the other kept.
    monkeypatch.setattr(script, "made", lambda case, plan, out: whole if case.size == 3 else pytest.fail("made again"))
    kept = json.loads((tmp_path / "ohmic_1ohm_4.json").read_text())
    kept["plan"] = script.canonical_json(script.Case("ohmic", 1.0, 4).plan(6))
    (tmp_path / "ohmic_1ohm_4.json").write_text(json.dumps(kept))
    assert run(script, tmp_path, "--cells", "ohmic", "--wires", "1", "--sizes", "3,4") == 0


@pytest.mark.parametrize(
    ("name", "cell", "kind"),
    [("1s1r_ohmic", SelectorCell, RowResponses), ("1t1r_sinh3", TransistorCell, SeriesSurrogate)],
)
def test_selectors_and_transistors_are_cases_too(name, cell, kind, script, nodal_dataset):
    plan = script.Case(name, 2.0, 6).plan(2)
    assert isinstance(plan.tile.cell, cell)
    # Cells in place of ngspice: that the case can be fitted at all.
    surrogate = fit(nodal_dataset(plan.tile, plan.conductance_range, tiles=2, vectors=2, voltage=plan.read.voltage))
    assert isinstance(surrogate, kind)
    assert max(surrogate.error.classes.values()) <= surrogate.error.bound
