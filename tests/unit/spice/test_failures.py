"""Every way in which ngspice fails, often silently: one clear error, and the next good deck gives its known current."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.errors import (
    ConfigError,
    DeckError,
    InputError,
    KirchhoffError,
    SpiceCrash,
    SpiceError,
    SpiceNoConvergence,
    SpiceNotFound,
    SpiceTimeout,
)
from mdls_cosim.spice import Deck, NgspiceEngine, strategy
from mdls_cosim.spice.probe import known_circuit
from mdls_cosim.spice.process import WorkerProcess

pytestmark = pytest.mark.ngspice

Recovers = Callable[[NgspiceEngine], None]
TWO_POINTS = np.array([[0.5], [1.0]])


def circuit(*lines: str) -> Deck:
    """A source of current into the lines under test."""
    return Deck("bad circuit", ("Vin in 0 0", *lines), sources=("Vin",), probes=("i(vin)",))


class Sabotaged(Deck):
    """A deck whose text is not what its checks have seen."""

    replacement: tuple[str, str] = ("", "")

    def assembled(self, *arguments):
        return super().assembled(*arguments).replace(*self.replacement)


def sabotaged(old: str, new: str) -> Deck:
    """The known circuit with a piece of its text replaced."""
    deck, _, _ = known_circuit()
    names = ("title", "elements", "sources", "probes", "balance")
    bad = Sabotaged(**{name: getattr(deck, name) for name in names})
    object.__setattr__(bad, "replacement", (old, new))
    return bad


BAD = {
    "unknown subcircuit": (circuit("Xcell in 0 no_such_cell"), DeckError, "no_such_cell"),
    "undefined parameter": (circuit("Iload in 0 {missing*2}"), DeckError, "missing"),
    "undefined function": (circuit("Bload in 0 i=no_such(v(in))"), DeckError, "refused"),
    "malformed expression": (circuit("Bload in 0 i=sinh(v(in)*/2"), DeckError, "refused"),
    "unknown parameter of a cell": (
        replace(circuit("Xcell in 0 sinh conductance=resistivity"), models=("sinh",)),
        DeckError,
        "resistivity",
    ),
    "a model's own mistake": (
        replace(circuit("Xa in 0 own"), models=(".subckt own p n\nBa p n i=nosuch(v(p,n))\n.ends\n",)),
        DeckError,
        "refused",
    ),
    "wrong number of pins": (replace(circuit("Xa in 0 in sinh"), models=("sinh",)), DeckError, "Too many"),
    "a device without its model": (circuit("Da in 0 nosuch"), DeckError, "nosuch.*valid modelname"),
    "loop of voltage sources": (circuit("Vother in 0 2"), SpiceNoConvergence, "singular"),
    "no stable point": (circuit("Rin in out 1", "Bload out 0 i=(v(out)>0.25)?1:-1"), SpiceNoConvergence, "bad circuit"),
    "floating net": (circuit("Rin in 0 1", "Rfloat a b 1"), SpiceNoConvergence, "singular"),
    "floating net with a current into it": (circuit("Rin in 0 1", "Iin 0 a 1", "Ca a 0 1"), SpiceNoConvergence, "bad"),
    "division by zero": (circuit("Rin in out 1", "Bload out 0 i=1/(v(out)-v(out))"), SpiceError, "no possible value"),
    "a command to quit": (sabotaged(".end", ".control\nquit\n.endc\n.end"), DeckError, "quit"),
    "an empty circuit": (sabotaged("Rtop in middle", ".end\nRtop in middle"), SpiceError, "known|vector|no |aborted"),
    "a vector that is not there": (sabotaged("v(middle)", "v(muddle)"), SpiceError, "middle"),
}


@pytest.mark.parametrize("method", ["alter", "sweep"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_circuit_is_one_clear_error_and_the_next_deck_is_right(
    one_engine: NgspiceEngine, gives_the_known_current: Recovers, name: str, method: strategy.Strategy
):
    deck, error, says = BAD[name]
    with pytest.raises(error, match=says) as caught:
        one_engine.run(deck, TWO_POINTS, method)
    assert deck.title in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.deck.startswith(f"* {deck.title}\n")
    assert isinstance(caught.value.log, str)
    gives_the_known_current(one_engine)


def test_a_compiled_model_that_is_none_is_an_error_with_its_file(
    engine: NgspiceEngine, gives_the_known_current: Recovers, tmp_path: Path
):
    file = tmp_path / "cell.osdi"
    file.write_text("this is no library")
    deck = replace(circuit("Rin in 0 1"), osdi=(str(file),))
    with pytest.raises(DeckError, match=r"cell\.osdi"):
        engine.run(deck, TWO_POINTS)
    gives_the_known_current(engine)
    file.unlink()
    with pytest.raises(DeckError, match="no compiled Verilog-A model"):
        replace(deck)


def test_a_resistor_of_zero_reaches_no_engine():
    with pytest.raises(DeckError, match="1 mOhm"):
        circuit("Rin in 0 0")


def test_a_current_that_leaves_beside_the_balance_breaks_kirchhoffs_law(
    engine: NgspiceEngine, gives_the_known_current: Recovers
):
    deck, values, _ = known_circuit()
    leaking = replace(deck, elements=(*deck.elements, "Rleak middle 0 1e9"))
    with pytest.raises(KirchhoffError, match="does not close"):
        engine.run(leaking, values)
    gives_the_known_current(engine)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_not_even_sent(
    engine: NgspiceEngine, gives_the_known_current: Recovers, value: float
):
    gives_the_known_current(engine)
    worker = engine.worker_pid
    deck, _, _ = known_circuit()
    with pytest.raises(InputError, match="finite"):
        engine.run(deck, np.array([[value]]))
    assert engine.worker_pid == worker
    gives_the_known_current(engine)


@pytest.mark.parametrize("method", ["alter", "sweep"])
def test_the_answer_of_a_stale_circuit_is_not_taken(
    engine: NgspiceEngine, gives_the_known_current: Recovers, monkeypatch: pytest.MonkeyPatch, method
):
    deck, _, _ = known_circuit()
    engine.run(deck, TWO_POINTS, method)
    honest, before = strategy.jobs, strategy.jobs(deck, TWO_POINTS, method, False, 1)[0].header["circuit"]

    def stale(*arguments):
        jobs = honest(*arguments)
        jobs[0].header["circuit"] = before
        return jobs

    with monkeypatch.context() as patch:
        patch.setattr(strategy, "jobs", stale)
        with pytest.raises(SpiceError, match="mdls_"):
            engine.run(deck, TWO_POINTS, method)
    gives_the_known_current(engine)


def test_a_marker_of_another_job_is_not_taken(
    engine: NgspiceEngine, gives_the_known_current: Recovers, monkeypatch: pytest.MonkeyPatch
):
    deck, _, _ = known_circuit()
    honest = strategy.jobs

    def mistaken(*arguments):
        jobs = honest(*arguments)
        jobs[0].header["marker"]["values"] = [99]
        return jobs

    with monkeypatch.context() as patch:
        patch.setattr(strategy, "jobs", mistaken)
        with pytest.raises(SpiceError, match="another circuit"):
            engine.run(deck, TWO_POINTS, "alter")
    gives_the_known_current(engine)


@pytest.mark.parametrize("points", [1, 3])
def test_a_sweep_of_the_wrong_length_is_not_taken(
    engine: NgspiceEngine, gives_the_known_current: Recovers, monkeypatch: pytest.MonkeyPatch, points: int
):
    deck, _, _ = known_circuit()
    honest = strategy.jobs

    def short(*arguments):
        jobs = honest(*arguments)
        verb, source, start, _, step = jobs[0].header["command"].split()
        jobs[0].header["command"] = f"{verb} {source} {start} {int(start) + points - 1} {step}"
        return jobs

    with monkeypatch.context() as patch:
        patch.setattr(strategy, "jobs", short)
        with pytest.raises(SpiceError, match=f"gave {points} of 2 values"):
            engine.run(deck, TWO_POINTS, "sweep")
    gives_the_known_current(engine)


def test_an_answer_of_the_wrong_size_is_not_taken(
    engine: NgspiceEngine, gives_the_known_current: Recovers, monkeypatch: pytest.MonkeyPatch
):
    deck, values, _ = known_circuit()
    honest = WorkerProcess.exchange

    def short(*arguments):
        header, flat = honest(*arguments)
        return header, flat[:-1]

    with monkeypatch.context() as patch:
        patch.setattr(WorkerProcess, "exchange", short)
        with pytest.raises(SpiceError, match="wrong length"):
            engine.run(deck, values)
    gives_the_known_current(engine)


def test_noise_on_standard_output_does_not_reach_the_pipe(engine: NgspiceEngine):
    deck = sabotaged(".end", ".control\nshell echo noise\necho noise\n.endc\n.end")
    assert engine.run(deck, np.array([[2.0]])).column("i(vsense)")[0] == pytest.approx(5e-4, rel=1e-12)


def test_a_worker_that_does_not_answer_is_killed_at_the_deadline(
    engine: NgspiceEngine, gives_the_known_current: Recovers
):
    deck, values, _ = known_circuit()
    gives_the_known_current(engine)
    worker = engine.worker_pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    engine.deadline = 0.3
    with pytest.raises(SpiceTimeout, match=r"divider.*0\.3 s"):
        engine.run(deck, values)
    engine.deadline = 60.0
    assert engine.worker_pid is None
    gives_the_known_current(engine)


def test_a_job_that_hangs_is_killed_at_the_deadline(engine: NgspiceEngine, gives_the_known_current: Recovers):
    gives_the_known_current(engine)
    engine.deadline = 0.3
    with pytest.raises(SpiceTimeout, match="deadline"):
        engine.run(sabotaged(".end", ".control\nwhile 1\nlet a = 1\nend\n.endc\n.end"), TWO_POINTS)
    engine.deadline = 60.0
    gives_the_known_current(engine)


def test_a_job_too_long_for_the_deadline_is_killed_in_the_middle(
    engine: NgspiceEngine, gives_the_known_current: Recovers, sinh_tile
):
    engine.info()
    engine.deadline = 0.2
    with pytest.raises(SpiceTimeout, match="deadline"):
        engine.run(sinh_tile(32), np.random.default_rng(0).uniform(-0.3, 0.3, (200, 32)))
    engine.deadline = 60.0
    gives_the_known_current(engine)


def test_a_worker_killed_while_idle_is_replaced_without_an_error(
    engine: NgspiceEngine, gives_the_known_current: Recovers
):
    gives_the_known_current(engine)
    worker = engine.worker_pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    while engine.worker_pid is not None:
        time.sleep(0.01)
    gives_the_known_current(engine)


def test_a_worker_killed_while_busy_is_an_error_without_fallbacks(
    engine: NgspiceEngine, gives_the_known_current: Recovers
):
    engine.fallbacks = False
    deck, values, _ = known_circuit()
    gives_the_known_current(engine)
    worker = engine.worker_pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)  # so that it is busy for sure when it is killed
    killer = threading.Timer(0.3, os.kill, (worker, signal.SIGKILL))
    killer.start()
    with pytest.raises(SpiceCrash, match="SIGKILL"):
        engine.run(deck, values)
    killer.join()
    gives_the_known_current(engine)


def test_an_interrupt_leaves_no_half_finished_job_behind(
    engine: NgspiceEngine, gives_the_known_current: Recovers, monkeypatch: pytest.MonkeyPatch
):
    deck, values, _ = known_circuit()
    engine.info()
    honest = WorkerProcess.exchange

    def interrupted(self, header, sent, deadline):
        honest(self, header, sent, deadline)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WorkerProcess, "exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.run(deck, values)
    assert engine.worker_pid is None
    gives_the_known_current(engine)


@pytest.mark.parametrize("content", [None, "this is no library"])
def test_a_library_that_is_not_there_says_how_to_get_one(
    engine: NgspiceEngine,
    gives_the_known_current: Recovers,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str | None,
):
    deck, values, _ = known_circuit()
    file = tmp_path / "libngspice.so"
    if content is not None:
        file.write_text(content)
    with monkeypatch.context() as patch:
        patch.setenv("NGSPICE_LIBRARY", str(file))
        with pytest.raises(SpiceNotFound, match="doctor") as caught:
            engine.run(deck, values)
        assert str(file) in str(caught.value)
    gives_the_known_current(engine)
    with pytest.raises(SpiceNotFound, match="NGSPICE_LIBRARY"):
        NgspiceEngine(library=str(file)).info()


def test_sizes_that_take_minutes_without_klu_are_refused_unless_asked(
    engine: NgspiceEngine, monkeypatch: pytest.MonkeyPatch
):
    cells = tuple(f"Gcell{k} in 0 in 0 1e-6" for k in range(48 * 48 + 1))
    deck = circuit(*cells)
    old = replace(engine.info(), solver="sparse", version="39")
    monkeypatch.setattr(NgspiceEngine, "info", lambda _self: old)
    with pytest.raises(SpiceError, match="allow_slow"):
        engine.run(deck, TWO_POINTS)
    engine.allow_slow = True
    np.testing.assert_allclose(engine.run(deck, TWO_POINTS).column("i(vin)"), -TWO_POINTS[:, 0] * 2305e-6, rtol=1e-9)


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deadline_is_a_positive_time(deadline: float):
    with pytest.raises(ConfigError, match="deadline"):
        NgspiceEngine(deadline=deadline)
