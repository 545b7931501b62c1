"""Every command: what it prints and what it answers, on a small tile."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mdls_cosim import cli, spice, surrogates
from mdls_cosim.characterize import Characterization
from mdls_cosim.dataset import Array, Dataset
from mdls_cosim.devices import Sinh
from mdls_cosim.spice.doctor import Check
from mdls_cosim.surrogates import SeriesSurrogate, Validation, load
from mdls_cosim.surrogates.domain import Domain, HeldOutError
from mdls_cosim.surrogates.series import START
from mdls_cosim.tiles import TileSpec

EXAMPLE = Path(__file__).parents[3] / "examples" / "tile.toml"

SMALL = """
seed = 3
[tile]
rows = 5
cols = 4
row_line_resistance = "1 ohm"
column_line_resistance = "2 ohm"
driver_resistance = "10 ohm"
sense_resistance = "12 ohm"
cell = { model = "sinh", nonlinearity = "3 / V" }
[iv]
points = 11
cells = 3
[read]
tiles = 3
vectors = 2
"""


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mdls-cosim ARGUMENTS`."""
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout.replace("\u00a0", " "), result.stderr


def squeezed(said: str) -> list[str]:
    """Its lines, one space between words."""
    return [" ".join(line.split()) for line in said.splitlines()]


@pytest.fixture(scope="module")
def dataset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "data.h5"
    experiments = {"iv": {"conductances": Array(np.array([1e-6, 1e-4]), "S", ("cell",))}}
    tile = TileSpec(
        rows=5, cols=4, row_line_resistance=1.5, row_line_capacitance=1e-15, wire_temperature_coefficient=0.0039
    )
    config = Characterization.model_validate({"tile": tile, "iv": {}}).as_dict()
    Dataset.create(experiments, config, seed=11, tools={"ngspice": "46", "solver": "klu"}, parents=("sha256:aa",)).save(
        path
    )
    return path


@pytest.fixture(scope="module")
def surrogate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("surrogate") / "surrogate.h5"
    spec = TileSpec(rows=5, cols=4, cell=Sinh(nonlinearity=3.01), row_line_resistance=1.001)
    SeriesSurrogate(
        spec,
        reference_spec=TileSpec(rows=5, cols=4, cell=Sinh(nonlinearity=3.0), row_line_resistance=1.0),
        domain=Domain(rows=5, cols=4, conductances=(1e-6, 1e-4), input_voltage=0.3),
        error=HeldOutError(rms=0.001, p99=0.003, classes={"uniform / dense": 0.0012}, bound=0.0024),
        coefficients={**START, "amplitude": (0.3,)},
        seed=5,
    ).save(path)
    return path


class TestDoctor:
    @pytest.fixture
    def found(self, monkeypatch: pytest.MonkeyPatch) -> list[Check]:
        checks = [Check("Python", True, True, "3.11.2")]
        monkeypatch.setattr("mdls_cosim.spice.doctor.checks", lambda: checks)
        return checks

    def test_ready(self, found: list[Check]) -> None:
        found.append(Check("matrix solver", False, False, "Sparse 1.3", "Install a newer one."))
        code, said, _ = run("doctor")
        assert code == 0
        assert "Sparse 1.3" in said
        assert "matrix solver: Install a newer one." in said
        assert said.splitlines()[-1].startswith("Ready")

    def test_not_ready_says_how(self, found: list[Check]) -> None:
        found.append(Check("ngspice library", False, True, "no [red] library", "Install ngspice."))
        code, said, _ = run("doctor")
        assert code == 1
        assert "no [red] library" in said  # brackets are text, not markup
        assert "ngspice library: Install ngspice." in said
        assert said.splitlines()[-1] == "Not ready: ngspice library."


class TestInfo:
    def test_dataset(self, dataset_file: Path) -> None:
        code, said, _ = run("info", dataset_file)
        assert code == 0
        lines = squeezed(said)
        assert "iv/conductances cell 2 S float64 1e-06 0.0001" in lines
        for pair in (
            "Tile rows 5",
            "Tile row line resistance 1.5 ohm",
            "Tile row line capacitance 1 fF",
            "Tile wire temperature coefficient 0.0039 1/K",
            "Seed 11",
            "Parents sha256:aa",
            "ngspice 46",
        ):
            assert pair in lines
        assert f"Content hash  {Dataset.load(dataset_file).content_hash}" in said

    def test_surrogate(self, surrogate_file: Path) -> None:
        code, said, _ = run("info", surrogate_file)
        assert code == 0
        lines = squeezed(said)
        assert "Row line resistance 1 ohm 1.0010 ohm" in lines
        assert "Nonlinearity 3 1/V 3.0100 1/V" in lines
        assert "Conductances 1 µS, 100 µS" in lines
        assert "Temperature any" in lines
        assert "Uniform 0.120 %" in lines
        assert "Bound 0.240 %" in lines
        assert f"Content hash  {load(surrogate_file).provenance.content_hash}" in said

    @pytest.mark.parametrize("damage", ["truncated", "altered", "foreign", "missing"])
    def test_bad_file_is_one_line(self, damage: str, dataset_file: Path, tmp_path: Path) -> None:
        content = bytearray(dataset_file.read_bytes())
        path = tmp_path / "bad.h5"
        if damage == "altered":
            content[-100] ^= 1
        if damage != "missing":
            path.write_bytes({"truncated": content[:-50], "foreign": b"a,b\n1,2\n"}.get(damage, content))
        code, said, complaint = run("info", path)
        assert (code, said) == (2, "")
        assert complaint.count("\n") == 1
        assert str(path) in complaint


class TestValidate:
    @pytest.fixture
    def answer(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """`validate` finds `answer["worst"]` without ngspice; what it was asked for comes back in `answer`."""
        answer: dict[str, Any] = {"worst": 0.002}

        def validate(surrogate: object, **asked: Any) -> Validation:
            asked["progress"](4, 4)
            answer.update(asked)
            classes, domain = (
                {"uniform / dense": answer["worst"], **answer.get("more", {})},
                answer.get("domain", Domain()),
            )
            return Validation(classes, bound=0.0024, cases=asked["cases"], size=(16, 32), domain=domain)

        monkeypatch.setattr(surrogates, "validate", validate)
        return answer

    def test_within_the_bound(self, answer: dict[str, Any], surrogate_file: Path) -> None:
        code, said, _ = run(
            "validate", surrogate_file, "--cases", "6", "--seed", "7", "--workers", "2", "--size", "16x32"
        )
        assert code == 0
        assert (answer["cases"], answer["seed"], answer["workers"]) == (6, 7, 2)
        assert (answer["rows"], answer["cols"]) == (16, 32)
        assert "6 tiles of 16x32, seed 7" in said
        code, _, error = run("validate", surrogate_file, "--size", "16by32")
        assert code == 2
        assert "not a size of tiles" in error
        assert said.splitlines()[-1].startswith("Valid: the worst class shows 0.200 %, the recorded bound is 0.240 %")

    @pytest.mark.parametrize("worst", [0.0025, math.nan])
    def test_beyond_the_bound(self, worst: float, answer: dict[str, Any], surrogate_file: Path) -> None:
        answer["worst"] = worst
        code, said, _ = run("validate", surrogate_file)
        assert code == 1
        assert said.splitlines()[-1].startswith("Not valid: ")

    def test_classes_that_were_not_fitted(self, answer: dict[str, Any], surrogate_file: Path) -> None:
        answer |= {"more": {"clustered / dense": 0.012}, "domain": Domain(conductance_classes=("uniform",))}
        code, said, _ = run("validate", surrogate_file)
        text = " ".join(said.split())
        assert code == 1
        assert "1.20 % *" in text.replace("\u00a0", " ")
        assert "Not valid for classes that were not fitted: the worst of them shows 1.20 %" in text.replace(
            "\u00a0", " "
        )
        assert 'conductance_classes += ["clustered"]' in text

    def test_dataset_is_no_surrogate(self, dataset_file: Path) -> None:
        code, _, complaint = run("validate", dataset_file)
        assert code == 2
        assert "wrong kind of file" in complaint

    @pytest.mark.parametrize("option", ["--cases", "--workers"])
    def test_impossible_numbers_name_the_option(self, option: str, surrogate_file: Path) -> None:
        code, _, complaint = run("validate", surrogate_file, option, "0")
        assert code == 2
        assert option in complaint
        assert "1" in complaint


class TestFit:
    def test_surrogate_is_no_dataset(self, surrogate_file: Path, tmp_path: Path) -> None:
        code, _, complaint = run("fit", surrogate_file, "--out", tmp_path / "out.h5")
        assert code == 2
        assert "wrong kind of file" in complaint
        assert list(tmp_path.iterdir()) == []

    def test_output_is_checked_first(self, dataset_file: Path, tmp_path: Path) -> None:
        code, _, complaint = run("fit", dataset_file, "--out", tmp_path / "absent" / "out.h5")
        assert code == 2
        assert "the output folder does not exist" in complaint


class TestCharacterize:
    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ('row_line_resistance = "1 ohm"', "row_line_resistance = 1", ["tile.row_line_resistance", "2 ohm"]),
            ("row_line_resistance", "row_resistance", ["tile.row_resistance", "Did you mean row_line_resistance?"]),
            ('"1 ohm"', '"1 V"', ["tile.row_line_resistance", '"1 V"', "ohm"]),
            ("rows = 5", "rows = 0", ["tile.rows", "0", "1"]),
            ('"sinh"', '"cosh"', ["tile.cell.model", "cosh", "sinh"]),
            ("[read]", "[reads]", ["reads", "read"]),
            ("seed = 3", "seed = ", ["line 2"]),
        ],
    )
    def test_bad_specification_names_the_field(self, old: str, new: str, told: list[str], tmp_path: Path) -> None:
        spec = tmp_path / "spec.toml"
        spec.write_text(SMALL.replace(old, new, 1))
        code, said, complaint = run("characterize", spec, "--out", tmp_path / "data.h5")
        assert (code, said) == (2, "")
        assert complaint.count("\n") == 1
        for part in (str(spec), *told):
            assert part in complaint
        assert not (tmp_path / "data.h5").exists()

    def test_existing_output_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(spice, "NgspiceEngine", None)  # nothing may be simulated before that is known
        (tmp_path / "spec.toml").write_text(SMALL)
        (tmp_path / "data.h5").write_text("mine")
        code, _, complaint = run("characterize", tmp_path / "spec.toml", "--out", tmp_path / "data.h5")
        assert code == 2
        assert "--force" in complaint
        assert (tmp_path / "data.h5").read_text() == "mine"

    def test_shipped_campaign_can_be_planned(self) -> None:
        code, said, _ = run("deck", EXAMPLE.with_name("campaign.toml"))
        assert code == 0
        points = said.splitlines()
        # Nine tiles with two seeds, of four reads each; single cells are the same at every size, seed and wire.
        assert len(points) == 9 * 2 * 4 + 5 * 2
        assert points[-1] == "81  read 32x16 steep, seed 1, tile 3 (8 operating points)"

    def test_shipped_example_loads(self) -> None:
        from mdls_cosim.characterize import Characterization

        plan = Characterization.load_toml(EXAMPLE)
        assert plan.tile == TileSpec(
            rows=32,
            cols=32,
            cell=Sinh(nonlinearity=3.0),
            row_line_resistance=1.0,
            column_line_resistance=1.0,
            driver_resistance=10.0,
            sense_resistance=10.0,
        )
        assert plan.conductance_range == (1e-6, 100e-6)
        assert plan.iv is not None
        assert plan.read is not None
        assert plan.read.voltage == 0.3


@pytest.mark.ngspice
def test_chain_from_specification_to_validated_surrogate(tmp_path: Path) -> None:
    spec, data, surrogate = (tmp_path / name for name in ("spec.toml", "data.h5", "surrogate.h5"))
    spec.write_text(SMALL)
    data.write_text("old")
    code, said, progress = run("characterize", spec, "--out", data, "--workers", "1", "--force")
    assert code == 0
    # 3 cells of 11 voltages; 5 classes of 3 tiles, each with 4 classes of 2 inputs.
    assert "153 of 153 points" in progress
    assert "153 operating points" in said
    assert "currents 15x8x4 A" in said
    dataset = Dataset.load(data)
    assert dataset.content_hash in said

    code, said, _ = run("fit", data, "--out", surrogate)
    assert code == 0
    lines = squeezed(said)
    assert "Column line resistance 2 ohm 2.0000 ohm" in lines
    assert "Nonlinearity 3 1/V 3.0000 1/V" in lines
    assert load(surrogate).provenance.parents == (dataset.content_hash,)

    code, said, _ = run("validate", surrogate, "--cases", "5", "--workers", "1")
    assert code == 0
    assert "Valid: " in said
