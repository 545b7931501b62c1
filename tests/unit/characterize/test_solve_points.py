"""Points side by side: their order, their progress, and the end of everything when one fails."""

import os
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mdls_cosim.characterize import DeckPoint, solve_points
from mdls_cosim.characterize import run as run_module
from mdls_cosim.errors import InputError, SpiceError, SpiceNoConvergence
from mdls_cosim.spice import Deck, NgspiceEngine

RESISTOR = Deck(
    title="resistor",
    elements=("Vin in 0 0", "Rin in out 1000", "Vout out 0 0"),
    sources=("Vin",),
    probes=("i(vout)",),
    balance=("vin", "vout"),
)
BROKEN = replace(RESISTOR, title="broken", elements=(*RESISTOR.elements, "Rfloat x y 1"))


def point(voltage: float, count: int = 1, deck: Deck = RESISTOR) -> DeckPoint:
    return DeckPoint(deck.title, deck, np.full((count, 1), voltage))


class Resistor:
    """An engine without ngspice: 1 kOhm, slower the larger the voltage; fails at negative ones."""

    def __init__(self) -> None:
        self.solved, self.running, self.closed = 0, 0, False

    def run(self, deck, values):
        self.running += 1
        assert self.running == 1, "an engine was used by two threads at once"
        time.sleep(float(np.abs(values).max()) / 100)
        self.running -= 1
        self.solved += 1
        if values.min() < 0:
            raise SpiceError("negative")
        return SimpleNamespace(values=values / 1000)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engines(monkeypatch) -> list[Resistor]:
    started = []

    def start(_settings) -> Resistor:
        started.append(Resistor())
        return started[-1]

    monkeypatch.setattr(run_module, "start_engine", start)
    return started


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_are_in_the_order_of_the_plan(workers, engines):
    voltages = [5.0, 1.0, 3.0, 0.5, 4.0, 2.0, 0.1]  # the first takes longest
    results = solve_points([point(voltage) for voltage in voltages], workers)
    assert [float(result["values"][0, 0]) for result in results] == [voltage / 1000 for voltage in voltages]
    assert len(engines) == workers
    assert all(engine.closed for engine in engines)


def test_no_more_workers_than_jobs(engines):
    solve_points([point(1.0), point(2.0)], workers=16)
    assert len(engines) == 2


def test_progress_counts_operating_points(engines):
    calls = []
    solve_points([point(1.0, 3), point(1.0, 2), point(1.0, 5)], 2, lambda *call: calls.append(call))
    assert [planned for _, planned in calls] == [10, 10, 10]
    assert calls[-1][0] == 10
    assert [finished for finished, _ in calls] == sorted(finished for finished, _ in calls)


def test_nothing_to_do(engines):
    assert solve_points([]) == []


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers):
    with pytest.raises(InputError, match=r"workers.*1 or more"):
        solve_points([point(1.0)], workers)


def test_a_given_engine_is_used_and_left_open():
    engine = Resistor()
    assert len(solve_points([point(1.0), point(2.0)], engine=engine)) == 2
    assert engine.solved == 2
    assert not engine.closed


def test_a_failure_drops_what_has_not_begun(engines):
    points = [point(-1.0), *(point(1.0) for _ in range(300))]
    with pytest.raises(SpiceError, match="negative"):
        solve_points(points, 2)
    assert sum(engine.solved for engine in engines) < 150
    assert all(engine.closed for engine in engines)
    assert all(engine.running == 0 for engine in engines)


def test_an_exception_in_the_progress_callback_ends_the_run(engines):
    def interrupted(finished: int, planned: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve_points([point(1.0) for _ in range(300)], 2, interrupted)
    assert sum(engine.solved for engine in engines) < 150
    assert all(engine.closed for engine in engines)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def workers_seen(monkeypatch) -> set[int]:
    """Process ids of all ngspice workers that solve_points starts."""
    seen = set()

    class Watched(NgspiceEngine):
        def run(self, *arguments):
            self.info()
            seen.add(self.worker_pid)
            return super().run(*arguments)

    monkeypatch.setattr(run_module, "start_engine", lambda _settings: Watched())
    return seen


@pytest.mark.ngspice
def test_workers_end_with_the_run(workers_seen):
    results = solve_points([point(float(voltage), 2) for voltage in range(1, 7)], workers=2)
    np.testing.assert_allclose(
        [result["values"][:, 0] for result in results], [[v / 1000] * 2 for v in range(1, 7)], rtol=1e-12
    )
    assert 1 <= len(workers_seen) <= 2
    assert not any(is_alive(pid) for pid in workers_seen)


@pytest.mark.ngspice
def test_workers_end_with_a_failed_run(workers_seen):
    points = [point(1.0), point(1.0, deck=BROKEN), *(point(1.0) for _ in range(20))]
    with pytest.raises(SpiceNoConvergence, match="broken"):
        solve_points(points, workers=2)
    assert workers_seen
    assert not any(is_alive(pid) for pid in workers_seen)
