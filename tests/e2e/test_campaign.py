"""Campaigns in ngspice, through the command line and on every executor: nothing is lost, nothing is done twice."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mdls_cosim import cli
from mdls_cosim.characterize import Campaign, Characterization, DeckPoint, Journal, characterize, connected, run_points
from mdls_cosim.dataset import Dataset
from mdls_cosim.errors import SpiceError
from mdls_cosim.spice import Deck

pytestmark = pytest.mark.ngspice

PLAN = """
seed = 3
seeds = 4
[tile]
rows = 2
cols = 2
row_line_resistance = "1 ohm"
column_line_resistance = "2 ohm"
sense_resistance = "12 ohm"
cell = { model = "sinh", nonlinearity = "3 / V" }
[read]
tiles = 100
vectors = 1
conductance_classes = ["uniform"]
input_classes = ["signed"]
"""
POINTS = 400
# A cell that is no number where its conductance is above 90 uS.
BROKEN = ".subckt broken p n g=1e-6\nRcell p n {g > 90e-6 ? 0/0 : 1/g}\n.ends broken\n"
MENDED = BROKEN.replace("g > 90e-6 ? 0/0 : ", "")
DECLARED = 'pins = ["row", "column"]\nstate = { parameter = "g", quantity = "conductance" }\n'


def program(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "mdls_cosim", *(str(each) for each in arguments)]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mdls-cosim ARGUMENTS`, in this process."""
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def whole() -> Dataset:
    """The campaign, uninterrupted."""
    return characterize(plan())


def plan() -> Characterization:
    return Characterization.from_text_dict(tomllib.loads(PLAN))


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "campaign.toml"
    path.write_text(PLAN)
    return path


def kept(journal: Path) -> set[str]:
    """The keys of the points in a journal whose process has died, read from a copy."""
    copy = journal.with_name("copy")
    for suffix in ("", "-wal"):
        if (source := Path(f"{journal}{suffix}")).exists():
            shutil.copy(source, f"{copy}{suffix}")
    try:
        connection = sqlite3.connect(copy)
        found = {key for (key,) in connection.execute("SELECT key FROM points WHERE status = 'done'")}
        connection.close()
    except sqlite3.OperationalError:
        found = set()  # died before it had its tables
    for leftover in journal.parent.glob("copy*"):
        leftover.unlink()
    return found


def written(process: subprocess.Popen, journal: Path, writes: int) -> None:
    """Waits until the process has written about so often to the journal, or has ended."""
    log, last = Path(f"{journal}-wal"), -1
    while process.poll() is None and writes:
        now = log.stat().st_mtime_ns if log.exists() else last
        writes -= now != last
        last = now
        time.sleep(0.001)


def test_killed_at_ten_random_moments_it_ends_with_the_same_data(spec: Path, whole: Dataset) -> None:
    out = spec.with_name("data.h5")
    journal = spec.with_name("data.h5.journal")
    generator = random.Random(7)
    counts = []
    before: set[str] = set()
    for _ in range(10):
        process = subprocess.Popen(
            program("characterize", spec, "--out", out, "--resume", "--workers", "2"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        written(process, journal, generator.randrange(60))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        after = kept(journal)
        assert before <= after, "a finished point was lost"
        before = after
        counts.append(len(after))
    assert not out.exists()
    assert 0 < counts[-1] < POINTS
    assert len(set(counts)) >= 5, f"hardly a kill hit a running campaign: {counts}"
    code, said, _ = run("characterize", spec, "--out", out, "--resume")
    assert code == 0
    assert f"{counts[-1]} of {POINTS} points are in" in said
    assert f"{POINTS - counts[-1]} operating points in" in said  # none twice
    assert Dataset.load(out).content_hash == whole.content_hash
    assert sorted(path.name for path in spec.parent.iterdir()) == ["campaign.toml", "data.h5"]


def ngspice_of(pid: int) -> list[int]:
    """The running children of a process."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_cleanly_and_says_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    spec = tmp_path / "campaign.toml"
    spec.write_text(PLAN.replace("tiles = 100", "tiles = 10000").replace("seeds = 4", ""))
    out = tmp_path / "data.h5"
    journal = tmp_path / "data.h5.journal"
    process = subprocess.Popen(program("characterize", spec, "--out", out), stderr=subprocess.PIPE, text=True)
    written(process, journal, 50)
    workers = ngspice_of(process.pid)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    count = len(kept(journal))
    assert count > 0
    said = complaint.splitlines()[-1]
    assert said.startswith(f"error: interrupted; {count} finished points of 10000 are kept in {journal}; `--resume`")
    assert workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert not out.exists()


@pytest.fixture(params=["processes", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "processes":
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
        return
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, connected(cluster.scheduler_address) as pool:
        yield pool


def test_every_executor_gives_the_data_of_the_threads(executor: Executor, whole: Dataset) -> None:
    calls = []
    campaign = Campaign(plan())
    summary = campaign.run(executor=executor, progress=lambda *call: calls.append(call))
    assert summary.dataset.content_hash == whole.content_hash
    assert summary.dataset.provenance.tools == whole.provenance.tools
    assert calls[-1] == (POINTS, POINTS)


def test_one_engine_gives_the_data_of_the_threads(engine, whole: Dataset) -> None:
    assert characterize(plan(), engine=engine).content_hash == whole.content_hash


def test_failures_on_an_executor_come_back_with_deck_and_log(executor: Executor) -> None:
    deck = Deck("bad", ("Vin in 0 0", "Rin in 0 1", "Rfloat a b 1"), sources=("Vin",), probes=("i(vin)",))
    good = Deck("good", ("Vin in 0 0", "Rin in 0 1"), sources=("Vin",), probes=("i(vin)",))
    plan = [DeckPoint(f"{each.title} {n}", each, np.array([[float(n)]])) for n in (1, 2) for each in (deck, good)]
    outcomes = run_points(plan, executor=executor)
    assert [outcome.done for outcome in outcomes] == [False, True, False, True]
    assert outcomes[3].results["values"] == pytest.approx(-2.0)
    assert "alter Vin dc = 2" in outcomes[2].deck
    assert outcomes[2].log
    assert isinstance(outcomes[2].error, SpiceError)


class TestFailedPoints:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "plan.toml").write_text(
            PLAN.replace("seeds = 4", "").replace("tiles = 100", "tiles = 12").replace("rows = 2", "rows = 3")
        )
        (tmp_path / "broken.sub").write_text(BROKEN)
        (tmp_path / "broken.toml").write_text(DECLARED)
        return tmp_path

    def test_stored_shown_written_out_and_tried_again(self, folder: Path) -> None:
        spec, data, journal = folder / "plan.toml", folder / "data.h5", folder / "data.h5.journal"
        ask = ("characterize", spec, "--out", data, "--cell", folder / "broken.sub", "--workers", "1")
        code, said, _ = run(*ask, "--keep-decks", folder / "decks")
        assert code == 1
        dataset = Dataset.load(data)
        lost = np.isnan(dataset.experiments["read"]["currents"].values).all(axis=(1, 2))
        hot = (dataset.experiments["read"]["conductances"].values > 90e-6).any(axis=(1, 2))
        assert 0 < hot.sum() < 12
        np.testing.assert_array_equal(lost, hot)
        assert len(dataset.failures) == hot.sum()
        assert f"{12 - hot.sum()} of 12 points done, {hot.sum()} failed" in said
        first = dataset.failures[0]
        assert f"failed: {first.label}: {first.cause}" in said
        assert journal.exists()
        kept = {path.name for path in (folder / "decks").iterdir()}
        assert "declared-deck0.cir" in kept  # the measurement of the declared conductance, before the points
        assert len(kept) == 12 + 1

        code, said, _ = run("info", data)
        assert code == 0
        assert f"Failed points: {hot.sum()}, NaN in the arrays" in said
        assert f"{first.label}: {first.cause}" in said

        code, said, _ = run("deck", data, "--point", first.label, "--out", folder / "failed.cir")
        assert code == 0
        assert (folder / "failed.cir").read_text() == first.deck
        code, listed, _ = run("deck", data)
        assert listed.count(", failed") == hot.sum()

        code, _, complaint = run(*ask)
        assert code == 2
        assert "the output file exists" in complaint

        code, said, _ = run(*ask, "--resume")
        assert code == 1
        assert f"{12 - hot.sum()} of 12 points are in {journal}; {hot.sum()} are run" in said
        assert {failure.attempts for failure in Dataset.load(data).failures} == {2}

        # With the cell mended these are other points: the old ones are not taken for them.
        (folder / "broken.sub").write_text(MENDED)
        code, said, _ = run(*ask, "--resume")
        assert code == 0
        assert f"0 of 12 points are in {journal}; 12 are run" in said
        assert not journal.exists()
        assert Dataset.load(data).failures == ()

    @pytest.mark.skipif(shutil.which("ngspice") is None, reason="no ngspice program")
    def test_decks_run_alone(self, folder: Path) -> None:
        spec = folder / "plan.toml"
        assert run("deck", spec, "--point", "read, tile 3", "--out", folder / "tile3.cir")[0] == 0
        alone = subprocess.run(["ngspice", "-b", folder / "tile3.cir"], capture_output=True, text=True, timeout=60)
        found = [float(line.split("=")[1]) for line in alone.stdout.splitlines() if line.startswith("i(vcol")]
        assert run("characterize", spec, "--out", folder / "d.h5", "--keep-decks", folder / "decks")[0] == 0
        currents = Dataset.load(folder / "d.h5").experiments["read"]["currents"].values[3, 0]
        np.testing.assert_allclose(found, currents, rtol=1e-6)
        kept = (folder / "decks" / "read_tile_3-deck0.cir").read_text()
        assert kept == (folder / "tile3.cir").read_text()


def test_a_point_that_does_not_exist(spec: Path) -> None:
    for wanted in ("400", "-1", "tile 3", "nonsense"):
        code, _, complaint = run("deck", spec, "--point", wanted)
        assert code == 2
        assert "no such point at --point" in complaint
        assert complaint.count("\n") == 1
    code, said, _ = run("deck", spec, "--point", "399")
    assert code == 0
    assert said.startswith("* tile 2x2")


PLANS = {
    "an unknown table": (("[read]", "[reads]"), "Did you mean read"),
    "an unknown key": (("vectors = 1", "vector = 1"), "read.vector"),
    "a number without unit": (('"1 ohm"', "1"), "tile.row_line_resistance"),
    "a wrong unit": (('"1 ohm"', '"1 V"'), "tile.row_line_resistance"),
    "no such cell": (('"sinh"', '"cosh"'), "tile.cell.model"),
    "no points": (("tiles = 100", "tiles = 0"), "read.tiles"),
    "no seeds": (("seeds = 4", "seeds = 0"), "seeds"),
    "a size twice": (("seeds = 4", "sizes = [2, [2, 2]]"), "a size is given twice"),
    "a bad corner": (("[read]", '[corners.hot]\ntemperature = "-5 K"\n[read]'), "corners.hot.temperature"),
    "a bad name of a corner": (("[read]", '[corners."a b"]\n[read]'), "not a name for a corner"),
    "a falling range": (("seed = 3", 'seed = 3\nconductance_range = ["2 uS", "1 uS"]'), "conductance_range must rise"),
    "no TOML": (("seeds = 4", "seeds = "), "TOML syntax"),
}
OPTIONS = {
    "both ways on": (["--resume", "--force"], "--resume keeps what --force drops"),
    "two kinds of workers": (["--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "--workers is for this machine"),
    "neither way on": ([], "left its journal"),
    "no deadline": (["--resume", "--deadline", "0 s"], "--deadline"),
    "a deadline without unit": (["--resume", "--deadline", "30"], "30"),
    "no such cell file": (["--resume", "--cell", "absent.sub"], "absent.sub"),
    "no scheduler there": (["--resume", "--scheduler", "tcp://127.0.0.1:9"], "no dask scheduler answers at tcp://127"),
    "no address": (["--resume", "--scheduler", "nonsense::"], "no dask scheduler answers at nonsense"),
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the journal of a campaign that stopped half-way."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "plan.toml").write_text(PLAN.replace("tiles = 100", "tiles = 2"))
    campaign = Campaign(Characterization.load_toml(folder / "plan.toml"))

    def stop(finished: int, planned: int) -> None:
        if finished == 4:
            raise KeyboardInterrupt

    with Journal.open(folder / "data.h5.journal") as journal, pytest.raises(KeyboardInterrupt):
        campaign.run(workers=1, journal=journal, progress=stop)
    return folder


@pytest.mark.parametrize("name", [*PLANS, *OPTIONS])
def test_a_bad_plan_is_one_clear_error_and_nothing_is_lost(
    name: str, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(interrupted)
    journal = interrupted / "data.h5.journal"
    before = kept(journal)
    assert len(before) >= 4
    if name in PLANS:
        (old, new), told = PLANS[name]
        text = (interrupted / "plan.toml").read_text().replace("tiles = 2", "tiles = 100")
        assert old in text
        (interrupted / "bad.toml").write_text(text.replace(old, new, 1))
        code, said, complaint = run("characterize", "bad.toml", "--out", "data.h5", "--resume")
    else:
        options, told = OPTIONS[name]
        code, said, complaint = run("characterize", "plan.toml", "--out", "data.h5", *options)
    assert (code, said) == (2, "")
    assert told in complaint
    assert [line for line in complaint.splitlines() if line.startswith("error: ")] == complaint.splitlines()[-1:]
    assert len(complaint.splitlines()) == 1
    assert kept(journal) == before
    assert not (interrupted / "data.h5").exists()


def test_without_dask_the_way_to_it_is_said(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, complaint = run("characterize", spec, "--out", spec.with_name("d.h5"), "--scheduler", "tcp://127.0.0.1:1")
    assert code == 2
    assert "pip install 'mdls_cosim[cluster]'" in complaint
    assert not spec.with_name("d.h5.journal").exists()


def test_without_ngspice_no_journal_is_left(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSPICE_LIBRARY", os.devnull)
    code, _, complaint = run("characterize", spec, "--out", spec.with_name("d.h5"))
    assert code == 2
    assert "error: no ngspice library" in complaint
    assert sorted(path.name for path in spec.parent.iterdir()) == ["campaign.toml"]
