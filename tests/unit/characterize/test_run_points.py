"""Points on executors: order, failures as outcomes, defects raised, and the journal through all of it."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from mdls_cosim.characterize import Journal, Point, run_points, workers
from mdls_cosim.characterize import run as run_module
from mdls_cosim.characterize.workers import attempt
from mdls_cosim.errors import ExecutorError, InputError, SpiceCrash, SpiceNoConvergence, SpiceNotFound
from mdls_cosim.spice import Deck, EngineInfo, OperatingPoints

DECK = Deck("resistor", ("Vin in 0 0", "Rin in 0 1000"), sources=("Vin",), probes=("i(vin)",))


@dataclass(frozen=True, eq=False)
class Resistor(Point):
    """The current of 1 kOhm; at 13 V it does not converge, at 14 V it has a defect, at 15 V a wrong shape."""

    experiment: ClassVar[str] = "resistor"

    voltage: float
    decks: int = 1

    def solve(self, engine):
        values = [engine.run(DECK, np.array([[self.voltage]])).values for _ in range(self.decks)]
        if self.voltage == 14.0:
            raise InputError("a defect")
        return {"current": values[-1][0] if self.voltage != 15.0 else values[-1]}

    def blank(self):
        return {"current": np.full(1, np.nan)}

    @property
    def operating_points(self) -> int:
        return self.decks


class FakeEngine:
    """Ohm's law without ngspice; `broken` voltages do not converge, `slow` is how long a deck takes [s]."""

    broken: ClassVar[set[float]] = {13.0}

    def __init__(self, slow: float = 0.0, version: str = "46") -> None:
        self.slow, self.version = slow, version
        self.solved: list[float] = []

    def run(self, deck, values):
        time.sleep(self.slow)
        voltage = float(values[0, 0])
        if voltage == 16.0:
            raise SpiceNotFound("no ngspice library")
        if voltage in self.broken:
            raise SpiceNoConvergence("no operating point", where=deck.title, log="singular matrix")
        self.solved.append(voltage)
        fallback = "source stepping" if voltage == 12.0 else None
        return OperatingPoints(deck.probes, values / 1000, 0.0, fallback)

    def info(self):
        return EngineInfo(self.version, "klu", "1.5", "libngspice.so")

    def close(self):
        pass


@pytest.fixture
def engines(monkeypatch) -> list[FakeEngine]:
    """Every engine that a run starts."""
    started: list[FakeEngine] = []

    def start(_settings):
        started.append(FakeEngine())
        return started[-1]

    monkeypatch.setattr(run_module, "start_engine", start)
    return started


def points(*voltages: float) -> list[Resistor]:
    return [Resistor(f"point {number}", voltage) for number, voltage in enumerate(voltages)]


class Inline(Executor):
    """Runs everything as it is submitted, and counts what is under way: a stand-in for a cluster."""

    def __init__(self, engine: FakeEngine | None = None) -> None:
        self.engine = engine or FakeEngine()
        self.submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        future: Future = Future()
        future.set_result(attempt(args[0], self.engine, args[1]))
        return future


def test_outcomes_come_in_the_order_of_the_plan(engines):
    voltages = [5.0, 1.0, 4.0, 2.0, 3.0]
    outcomes = run_points(points(*voltages), workers=3)
    assert [outcome.results["current"][0] for outcome in outcomes] == [v / 1000 for v in voltages]
    assert [outcome.label for outcome in outcomes] == [f"point {n}" for n in range(5)]


def test_points_of_one_key_are_solved_once(engines):
    calls = []
    outcomes = run_points(points(1.0, 2.0, 1.0, 1.0), workers=2, progress=lambda *call: calls.append(call))
    assert sorted(v for engine in engines for v in engine.solved) == [1.0, 2.0]
    assert [outcome.label for outcome in outcomes] == ["point 0", "point 1", "point 2", "point 3"]
    assert calls[-1] == (2, 2)


def test_a_failure_is_an_outcome_with_cause_and_deck(engines):
    good, bad, last = run_points(points(1.0, 13.0, 2.0), workers=2)
    assert good.done
    assert last.done
    assert (bad.done, bad.results) == (False, None)
    assert "no operating point" in bad.cause
    assert bad.log == "singular matrix"
    assert bad.deck == DECK.standalone(np.array([[13.0]]))


def test_strict_raises_it(engines):
    with pytest.raises(SpiceNoConvergence, match="no operating point"):
        run_points(points(1.0, 13.0, 2.0), workers=1, strict=True)


def test_fallbacks_are_counted(engines):
    outcomes = run_points([Resistor("a", 12.0, decks=2), Resistor("b", 1.0)], workers=1)
    assert [outcome.fallbacks for outcome in outcomes] == [("source stepping",) * 2, ()]


def test_a_defect_is_raised_and_the_journal_keeps_what_had_finished(engines, tmp_path):
    with Journal.open(tmp_path / "j") as journal:
        with pytest.raises(InputError, match="a defect"):
            run_points(points(1.0, 2.0, 13.0, 14.0, 3.0), workers=1, journal=journal)
        kept = journal.kept()
    assert 2 <= kept.done <= 3  # the last point may have been solved as the defect was seen
    assert kept.failed == 1


def test_arrays_other_than_announced_are_a_defect(engines):
    with pytest.raises(InputError, match=r"other arrays than it said at point 0: got .*\(1, 1\).*allowed .*\(1,\)"):
        run_points(points(15.0), workers=1)


def test_no_ngspice_ends_the_run_at_once(engines):
    with pytest.raises(SpiceNotFound):
        run_points(points(16.0, *range(100)), workers=1)
    assert len(engines[0].solved) < 10


def test_every_deck_is_kept_by_the_name_of_its_point(engines, tmp_path):
    run_points([Resistor("read 2x2, seed 1/tile 0", 1.0, decks=2)], workers=1, keep_decks=tmp_path / "decks")
    files = sorted(path.name for path in (tmp_path / "decks").iterdir())
    assert files == ["read_2x2_seed_1_tile_0-deck0.cir", "read_2x2_seed_1_tile_0-deck1.cir"]
    assert (tmp_path / "decks" / files[0]).read_text() == DECK.standalone(np.array([[1.0]]))


def test_an_interrupt_keeps_what_had_finished_and_ends_the_rest(monkeypatch, tmp_path):
    started: list[FakeEngine] = []

    def start(_settings):
        started.append(FakeEngine(slow=0.002))
        return started[-1]

    monkeypatch.setattr(run_module, "start_engine", start)

    def interrupted(finished: int, planned: int) -> None:
        if finished == 10:
            raise KeyboardInterrupt

    plan = points(*np.linspace(20.0, 30.0, 1000))
    with Journal.open(tmp_path / "j") as journal:
        with pytest.raises(KeyboardInterrupt):
            run_points(plan, workers=2, journal=journal, progress=interrupted)
        kept = journal.kept().done
    assert 10 <= kept < 30
    assert not any(thread.name.startswith("ngspice") for thread in threading.enumerate())
    solved = sum(len(engine.solved) for engine in started)
    assert solved < 40
    with Journal.open(tmp_path / "j", resume=True) as journal:
        outcomes = run_points(plan, workers=2, journal=journal)
    assert sum(outcome.reused for outcome in outcomes) == kept
    assert sum(len(engine.solved) for engine in started) == solved + 1000 - kept
    np.testing.assert_allclose([o.results["current"][0] for o in outcomes], np.linspace(20.0, 30.0, 1000) / 1000)


def test_an_interrupt_ends_a_deck_of_a_point_of_many(monkeypatch):
    engine = FakeEngine(slow=0.01)
    monkeypatch.setattr(run_module, "start_engine", lambda _settings: engine)

    def interrupted(finished: int, planned: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_points([Resistor("short", 1.0), Resistor("long", 2.0, decks=1000)], workers=1, progress=interrupted)
    assert len(engine.solved) < 20


def test_an_interrupt_ends_a_running_simulation(monkeypatch):
    began, codes = threading.Event(), []

    class Sleeper(FakeEngine):
        """Its ngspice is a process that sleeps."""

        worker_pid = None

        def run(self, deck, values):
            if values[0, 0] == 1.0:
                return super().run(deck, values)
            process = subprocess.Popen(["sleep", "30"])
            self.worker_pid = process.pid
            began.set()
            codes.append(process.wait())
            raise SpiceCrash("ngspice died")

    monkeypatch.setattr(run_module, "start_engine", lambda _settings: Sleeper())

    def interrupted(finished: int, planned: int) -> None:
        began.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_points(points(1.0, 2.0), workers=1, progress=interrupted)
    assert codes == [-signal.SIGKILL]


def test_few_points_are_under_way_at_once(engines):
    executor, seen = Inline(), []

    def lazy(finished: int, planned: int) -> None:
        seen.append(executor.submitted - finished)

    run_points(points(*np.linspace(20.0, 30.0, 2000)), executor=executor, progress=lazy)
    assert max(seen) <= 512
    assert executor.submitted == 2000


def test_failed_points_are_tried_again_and_attempts_count(tmp_path, monkeypatch):
    engine = FakeEngine()
    for tries in (1, 2):
        with Journal.open(tmp_path / "j", resume=True) as journal:
            good, bad = run_points(points(1.0, 13.0), engine=engine, journal=journal)
        assert bad.attempts == tries
        assert good.reused is (tries == 2)
    monkeypatch.setattr(FakeEngine, "broken", set())
    with Journal.open(tmp_path / "j", resume=True) as journal:
        good, bad = run_points(points(1.0, 13.0), engine=engine, journal=journal)
        assert (journal.kept().done, journal.kept().failed) == (2, 0)
    assert bad.done
    assert bad.attempts == 3
    assert engine.solved == [1.0, 13.0]


class Broken(Inline):
    def submit(self, fn, /, *args, **kwargs):
        if self.submitted == 3:
            raise BrokenProcessPool("a child died")
        return super().submit(fn, *args, **kwargs)


class Cancelled(Inline):
    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        if self.submitted == 3:
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


@pytest.mark.parametrize("executor", [Broken(), Cancelled()])
def test_lost_workers_are_one_clear_error(executor, tmp_path):
    with Journal.open(tmp_path / "j") as journal:
        with pytest.raises(ExecutorError, match=r"lost its workers.*--resume"):
            run_points(points(1.0, 2.0, 3.0, 4.0, 5.0), executor=executor, journal=journal)
        assert journal.kept().done >= 2


def test_workers_with_different_simulators_are_refused():
    executor = Inline()

    def change(finished: int, planned: int) -> None:
        executor.engine.version = "45"

    with pytest.raises(ExecutorError, match=r"different simulators.*ngspice 45 with klu.*ngspice 46 with klu"):
        run_points(points(*np.linspace(20.0, 30.0, 600)), executor=executor, progress=change)


def test_any_executor_and_an_engine_give_the_same(engines):
    plan = points(1.0, 13.0, 2.0)
    with ThreadPoolExecutor(2) as pool:
        pool.submit = Inline().submit
        runs = [run_points(plan, executor=pool), run_points(plan, workers=2), run_points(plan, engine=FakeEngine())]
    for outcomes in runs:
        assert [outcome.done for outcome in outcomes] == [True, False, True]
        assert [outcome.results["current"][0] for outcome in outcomes if outcome.done] == [0.001, 0.002]


def test_an_engine_without_names_for_itself_is_enough(tmp_path: Path):
    engine = SimpleNamespace(run=lambda deck, values: SimpleNamespace(values=values / 1000))
    (outcome,) = run_points(points(1.0), engine=engine)
    assert outcome.results["current"][0] == 0.001


def test_engines_without_work_end_their_ngspice(monkeypatch):
    closed = threading.Event()

    class Idle(FakeEngine):
        def close(self):
            closed.set()

    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(workers, "_engines", workers._Engines())
    monkeypatch.setattr(workers, "start_engine", lambda _settings: Idle())
    assert workers.solve_point(points(1.0)[0], workers.EngineSettings()).done
    assert closed.wait(30)


def test_a_thread_keeps_its_engine_from_point_to_point(monkeypatch):
    started = []

    def start(settings):
        started.append(FakeEngine())
        return started[-1]

    monkeypatch.setattr(workers, "_engines", workers._Engines())
    monkeypatch.setattr(workers, "start_engine", start)
    with ThreadPoolExecutor(2) as pool:
        outcomes = run_points(points(*np.linspace(20.0, 30.0, 50)), executor=pool)
    assert all(outcome.done for outcome in outcomes)
    assert 1 <= len(started) <= 2
