"""`mdls-cosim simulate`: what it writes, what it answers, and what is left when it is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.errors import ConvergenceError
from mdls_cosim.network.experiment import SimulationResult
from mdls_cosim.network.experiment import units as experiment_units

EXPERIMENT = """
runs = 2
seed = 1
images = 50
layer_images = 8
[model]
name = "mlp"
options = { hidden = [16] }
[train]
epochs = 2
[hardware]
tile = { rows = 32, cols = 16, row_line_resistance = "2 ohm", wire_temperature_coefficient = "0.0039 / K" }
adc = { kind = "uniform", bits = 5, integral_nonlinearity = 0.5 }
variability = { effects = [{ effect = "programming_error", relative = 0.02, absolute = "10 uS" }] }
[sweep]
adc.bits = [3, 4]
"tile.row_line_resistance" = ["0 ohm", "20 ohm"]
"""


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mdls-cosim simulate ARGUMENTS`."""
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout.replace("\u00a0", " "), result.stderr


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulate") / "experiment.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def done(experiment: Path) -> tuple[Path, str]:
    """The folder of a simulation that has run, and what the command printed."""
    code, said, _ = run("simulate", experiment, "--workers", "1")
    assert code == 0
    return experiment.with_name("experiment-out"), said


class TestDone:
    def test_settings_have_the_units_of_their_fields(self, done: tuple[Path, str]) -> None:
        folder, _ = done
        page = (folder / "report.html").read_text()
        code, said, _ = run("info", folder / "results.h5")
        assert code == 0
        for name, text in (
            ("Tile wire temperature coefficient", "0.0039 1/K"),
            ("ADC integral nonlinearity", "0.5 steps"),
            ("Variability effects programming error relative", "2 %"),
            ("Variability effects programming error absolute", "10 µS"),
        ):
            assert re.search(rf"{name}</th>\s*<td[^>]*>{text}<|{name}</td>\s*<td[^>]*>{text}<", page), name
            assert re.search(rf"^{name} +{text}$", said, re.MULTILINE), name
        assert "{&#39;" not in page
        assert "{'" not in said

    def test_writes_results_and_report(self, done: tuple[Path, str]) -> None:
        folder, said = done
        result = SimulationResult.load(folder / "results.h5")
        assert result.content_hash in said
        assert f"Float network          {100 * float(result.base['float_accuracy'].values):.1f} %" in said
        assert "Swept: adc.bits" in said
        assert "10 of 10 runs done" not in said  # the base, four other points, and its layers
        assert "11 of 11 runs done" in said
        assert "<html" in (folder / "report.html").read_text()

    def test_info_and_report_know_the_file(self, done: tuple[Path, str], tmp_path: Path) -> None:
        folder, _ = done
        code, said, _ = run("info", folder / "results.h5")
        assert code == 0
        assert "mdls_cosim.simulation, version 1" in said
        assert re.search(r"sweeps/adc\.bits/accuracy +adc\.bits 2, run 2", said)
        assert re.search(r"ADC bits +3, 4", said)
        code, _, _ = run("report", folder / "results.h5", "--out", tmp_path / "again.html")
        assert code == 0
        assert (tmp_path / "again.html").read_text() == (folder / "report.html").read_text()

    def test_is_not_replaced_unasked(self, done: tuple[Path, str], experiment: Path) -> None:
        code, _, said = run("simulate", experiment)
        assert code == 2
        assert "the results exist" in said
        assert "--resume or --force" in said

    def test_resume_takes_everything(self, done: tuple[Path, str], experiment: Path) -> None:
        before = SimulationResult.load(done[0] / "results.h5").content_hash
        code, said, _ = run("simulate", experiment, "--resume", "--workers", "1")
        assert code == 0
        assert "11 of them from the journal" in said
        assert SimulationResult.load(done[0] / "results.h5").content_hash == before

    def test_resume_with_another_experiment(self, done: tuple[Path, str], experiment: Path) -> None:
        other = experiment.with_name("other.toml")
        other.write_text(EXPERIMENT.replace("seed = 1", "seed = 2"))
        code, _, said = run("simulate", other, "--out", done[0], "--resume", "--workers", "1")
        assert code == 2
        error = [line for line in said.splitlines() if line.startswith("error")]
        assert len(error) == 1
        assert "the journal holds runs of another experiment" in error[0]


def test_plan_runs_nothing(experiment: Path, tmp_path: Path) -> None:
    code, said, _ = run("simulate", experiment, "--plan", "--out", tmp_path / "out")
    assert code == 0
    assert "5 points of 2 runs each" in said
    assert "tile.row_line_resistance = 20 ohm" in said
    assert "on 50 test images of digits\n" in said
    assert not (tmp_path / "out").exists()


def test_more_images_than_there_are_is_said(experiment: Path, tmp_path: Path) -> None:
    much = tmp_path / "much.toml"
    much.write_text(EXPERIMENT.replace("images = 50", "images = 99999", 1))
    code, said, _ = run("simulate", much, "--plan")
    assert code == 0
    assert "on 450 test images of digits, all that there are (99999 were asked for)" in said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"mlp"', '"mpl"', "no such model"),
        ("adc.bits", "adc.bist", "Did you mean bits?"),
        ('"20 ohm"', "20", "a number without its unit"),
        ("[3, 4]", "[]", "an empty sweep"),
        ("[train]", "[data]\nname = 'npz'\npath = 'none.npz'\n[train]", "none.npz"),
        ("[sweep]", "[sweep", "TOML syntax"),
    ],
)
def test_mistakes_are_one_line(before: str, after: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(EXPERIMENT.replace(before, after))
    code, _, told = run("simulate", tmp_path / "wrong.toml")
    assert code == 2
    assert len(told.splitlines()) == 1
    assert "wrong.toml" in told or "none.npz" in told
    assert said in told
    assert not (tmp_path / "wrong-out").exists()


@pytest.mark.parametrize(
    "arguments", [("--resume", "--force"), ("--workers", "2", "--scheduler", "tcp://nowhere:1")], ids=" ".join
)
def test_options_that_exclude_each_other(arguments: tuple[str, ...], experiment: Path) -> None:
    code, _, said = run("simulate", experiment, *arguments)
    assert code == 2
    assert "Give one of them" in said


def test_torch_device_that_is_not_here(experiment: Path, tmp_path: Path) -> None:
    for name, reason in (("cuda:99", "cuda"), ("tpu", "tpu"), ("meta", "meta")):
        code, _, told = run("simulate", experiment, "--out", tmp_path / "out", "--torch-device", name)
        assert code == 2
        assert len(told.splitlines()) == 1
        assert "torch cannot compute here at --torch-device" in told
        assert reason in told.lower()
    assert not (tmp_path / "out").exists()


def test_failed_runs_exit_with_one_and_are_tried_again(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = experiment_units.evaluate

    def diverges(model: Any, data: Any, runs: int, seed: int, *more: Any, **named: Any) -> Any:
        if seed == 2:
            raise ConvergenceError("Newton did not converge", where="layer head")
        return evaluate(model, data, runs, seed, *more, **named)

    arguments = ("simulate", experiment, "--out", tmp_path, "--workers", "1")
    with monkeypatch.context() as context:
        context.setattr(experiment_units, "evaluate", diverges)
        code, said, _ = run(*arguments)
    assert code == 1
    assert "6 of 11 runs done" in said
    assert "failed: base, run 1: Newton did not converge at layer head" in said
    code, said, _ = run("info", tmp_path / "results.h5")
    assert "Failed points: 5, NaN in the arrays" in said
    assert "mdls-cosim deck" not in said
    code, said, _ = run(*arguments, "--resume")
    assert code == 0
    assert "6 of them from the journal" in said


def test_killed_processes_leave_and_their_runs_go_on(tmp_path: Path) -> None:
    """Two processes, and a network whose class is in a module beside the experiment; nothing is trained."""
    text = "from torch import nn\n\nclass Own(nn.Sequential):\n    pass\n\n\ndef make(width):\n"
    text += "    return Own(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))\n"
    (tmp_path / "network_of_a_killed_test.py").write_text(text)
    inputs, labels = np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32), np.arange(60) % 10
    images = tmp_path / "images.npz"
    np.savez(images, train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)
    (tmp_path / "own.toml").write_text(
        EXPERIMENT.replace('name = "mlp"', 'factory = "network_of_a_killed_test:make"')
        .replace("hidden = [16]", "width = 16")
        .replace("[train]\nepochs = 2", '[data]\nname = "npz"\npath = "images.npz"')
        .replace("runs = 2", "runs = 6")
    )
    arguments = ["simulate", str(tmp_path / "own.toml"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mdls_cosim", *arguments, "--workers", "2"], stderr=subprocess.DEVNULL
    )
    journal, until = tmp_path / "out" / "runs.journal", time.monotonic() + 300
    while not _kept(journal) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.002)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "results.h5").exists()
    assert len(children) >= 2
    while any(_runs(child) for child in children) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(_runs(child) for child in children)

    code, _, said = run(*arguments)
    assert code == 2  # neither --resume nor --force
    assert "--resume" in said
    code, said, _ = run(*arguments, "--resume", "--workers", "1")
    assert code == 0
    assert int(re.search(r"(\d+) of them from the journal", said)[1]) >= 1  # pyright: ignore[reportOptionalSubscript]
    code, _, _ = run("simulate", tmp_path / "own.toml", "--out", tmp_path / "whole", "--workers", "1")
    found = [SimulationResult.load(tmp_path / folder / "results.h5").content_hash for folder in ("out", "whole")]
    assert found[0] == found[1]


def _runs(pid: str) -> bool:
    """Whether a process computes; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _kept(journal: Path) -> bool:
    """Whether something was committed: SQLite's log has grown by more than the tables."""
    log = Path(f"{journal}-wal")
    return log.exists() and log.stat().st_size > 40_000


def test_workers_of_a_scheduler_find_the_same(done: tuple[Path, str], experiment: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    local = SimulationResult.load(done[0] / "results.h5").content_hash
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None)
    with cluster:
        code, said, trouble = run(
            "simulate", experiment, "--out", tmp_path / "out", "--scheduler", cluster.scheduler_address
        )
    assert code == 0, trouble
    assert "11 of 11 runs done" in said
    assert SimulationResult.load(tmp_path / "out/results.h5").content_hash == local
