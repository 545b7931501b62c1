"""The main job, whole but small: every stage of `mdls-cosim demo` on few chips, images and vectors."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from mdls_cosim.cli import app
from mdls_cosim.cli import demo as demo_command
from mdls_cosim.dataset import Dataset
from mdls_cosim.surrogates import load

# One worker runs the demo once for all tests of this file: see tests/conftest.py.
pytestmark = pytest.mark.ngspice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "made" / "by the demo"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RUNS": 2,
            "SWEEP_RUNS": 2,
            "WIRE_SWEEP": (0.0, 5.0),
            "PAIRED_IMAGES": 20,
            "PAIRED_RUNS": 1,
            "AUDIT_VECTORS": 3,
            "EPOCHS": 10,
        }.items():
            patch.setattr(demo_command, name, value)
        result = CliRunner().invoke(app, ["demo", "--out", str(out), "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_results_have_the_contract_s_keys(results):
    for name in ("float", "ideal", "surrogate"):
        found = results["accuracy"][name]
        assert len(found["runs"]) == 2
        assert found["mean"] == pytest.approx(np.mean(found["runs"]))
        assert found["std"] == pytest.approx(np.std(found["runs"], ddof=1))
    assert set(results["paired"]) >= {"surrogate", "nodal", "images"}
    assert list(results["wire_sweep"]) == ["0 ohm", "5 ohm"]
    assert results["wire_sweep"]["5 ohm"] == results["accuracy"]["surrogate"]["mean"]
    assert set(results["audit"]) >= {"vectors", "layers", "rms", "p99"}
    assert set(results["tool"]) >= {"ngspice", "solver"}


def test_wires_cost_accuracy_and_ideal_wires_give_it_back(results):
    accuracy = {name: found["mean"] for name, found in results["accuracy"].items()}
    assert accuracy["float"] > 0.93  # ten epochs of twenty
    assert accuracy["float"] >= accuracy["ideal"] > accuracy["surrogate"] + 0.02
    assert results["wire_sweep"]["0 ohm"] > results["wire_sweep"]["5 ohm"] + 0.02


def test_the_audit_reaches_every_layer_and_its_error_is_within_the_recorded_bound(results):
    audit = results["audit"]
    assert audit["layers"] == 4
    assert audit["unreached"] == []
    assert audit["vectors"] == 3
    assert audit["reference"] == "SpiceTile"
    # Every occupied column of both arrays: 1, 9, 4 and 1 row tiles of 32, 32, 32 and 10 outputs.
    assert [layer["currents"] for layer in audit["by_layer"]] == [2 * 3 * n for n in (32, 9 * 32, 4 * 32, 10)]
    assert 0 < audit["rms"] < results["held_out_error"]["bound"]


def test_the_fit_recovers_what_ngspice_simulated(results):
    for name, pair in results["fit"].items():
        assert pair["fitted"] == pytest.approx(pair["true"], rel=1e-3, abs=1e-3), name


def test_the_report_needs_nothing_beside_it(folder):
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|\#)""", page)


def test_the_files_of_the_demo_can_be_used_again(folder):
    dataset, surrogate = Dataset.load(folder / "tile.h5"), load(folder / "surrogate.h5")
    assert surrogate.provenance.parents == (dataset.content_hash,)
    assert surrogate.domain.conductances is not None
