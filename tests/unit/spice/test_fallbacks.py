"""Points that ngspice does not find at once: each fall-back at a circuit that needs it, and a hopeless one."""

import os
import signal
import threading

import numpy as np
import pytest

from mdls_cosim.errors import DeckError, SpiceCrash, SpiceNoConvergence
from mdls_cosim.spice import Deck, NgspiceEngine, fallbacks
from mdls_cosim.spice.probe import known_circuit
from mdls_cosim.spice.process import WorkerProcess

pytestmark = pytest.mark.ngspice


def chain(cells: int, resistance: float, law: str) -> Deck:
    """Cells in series, each with a resistor; V in the law is the voltage across the cell."""
    lines = ["Vin in 0 0"]
    for k in range(cells):
        top, bottom = ("in" if k == 0 else f"m{k}"), ("0" if k + 1 == cells else f"m{k + 1}")
        lines.append(f"R{k} {top} n{k} {resistance:g}")
        lines.append(f"Bcell{k} n{k} {bottom} i={law.replace('V', f'v(n{k},{bottom})')}")
    return Deck("chain", tuple(lines), sources=("Vin",), probes=("i(vin)", "v(n0)"))


# By the strategy of a sweep for the first, whose first way is another than `op`; by the default for the others.
# Found by trying 300 circuits of steep exponentials, threshold switches and latches with ngspice 46.
NEEDS = {
    "afresh": (chain(1, 100, "1e-15*sinh(V/0.002)"), np.linspace(-2, 2, 9)),
    "source stepping": (chain(3, 100, "1e-15*sinh(V/0.002)"), np.array([3.0])),
    "loose then tight": (chain(3, 1e4, "1e-12*(exp(V/0.002)-1)"), np.array([-1.0])),
}


@pytest.mark.parametrize("name", NEEDS)
def test_each_fallback_finds_a_point_that_the_first_way_does_not(engine: NgspiceEngine, name: str):
    if engine.info().solver != "klu":
        pytest.skip("these circuits are hard for ngspice with KLU; without it another way is taken")
    deck, values = NEEDS[name]
    method = "sweep" if name == "afresh" else None
    engine.fallbacks = False
    with pytest.raises(SpiceNoConvergence):
        engine.run(deck, values[:, None], method)
    engine.fallbacks = True
    points = engine.run(deck, values[:, None], method)
    assert points.fallback == name
    # The law of the first resistor ties the current to the voltage behind it, to the rounding of 3 V on 100 ohm.
    resistance = float(deck.by_name["r0"].split()[3])
    np.testing.assert_allclose(
        -points.column("i(vin)"), (values - points.column("v(n0)")) / resistance, rtol=1e-9, atol=1e-15
    )


def test_the_point_found_has_the_tight_tolerances(engine: NgspiceEngine):
    deck, values = NEEDS["source stepping"]
    voltage = engine.run(deck, values[:, None]).column("v(n0)")[0]
    # Three equal cells: 3 V = 3 (100 I + V) with I = 1e-15 sinh(V / 0.002), solved by bisection.
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if 100 * 1e-15 * np.sinh(middle / 0.002) + middle < 1 else (low, middle)
    current = 1e-15 * np.sinh(low / 0.002)
    assert voltage == pytest.approx(3.0 - 100 * current, abs=1e-9)


def test_one_hard_vector_among_many_takes_no_other_with_it(engine: NgspiceEngine):
    deck, values = chain(3, 100, "1e-15*sinh(V/0.002)"), np.linspace(-2, 2, 9)[:, None]
    points = engine.run(deck, values)
    assert points.fallback in fallbacks.FALLBACKS[1:]
    alone = [engine.run(deck, row[None, :]) for row in values]
    np.testing.assert_array_equal(points.values, np.concatenate([each.values for each in alone]))
    assert {each.fallback for each in alone} > {None}


def test_a_circuit_without_any_solution_keeps_its_first_cause_and_says_what_was_tried(
    engine: NgspiceEngine, gives_the_known_current
):
    deck = Deck(
        "no stable point",
        ("Vin in 0 0", "Rin in out 1", "Bload out 0 i=(v(out)>0.25)?1:-1"),
        sources=("Vin",),
        probes=("i(vin)",),
    )
    engine.fallbacks = False
    with pytest.raises(SpiceNoConvergence) as first:
        engine.run(deck, np.array([[0.5], [1.0]]))
    engine.fallbacks = True
    with pytest.raises(SpiceNoConvergence) as caught:
        engine.run(deck, np.array([[0.5], [1.0]]))
    assert first.value.what in str(caught.value)
    assert all(name in str(caught.value) for name in fallbacks.FALLBACKS)
    assert "\n" not in str(caught.value)
    assert caught.value.deck is not None
    gives_the_known_current(engine)


def test_a_bad_deck_has_no_fallback(engine: NgspiceEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fallbacks, "rescued_points", None)
    deck = Deck("bad", ("Vin in 0 0", "Xcell in 0 no_such_cell"), sources=("Vin",), probes=("i(vin)",))
    with pytest.raises(DeckError, match="no_such_cell"):
        engine.run(deck, np.array([[1.0]]))


def test_the_voltages_of_the_loose_solution_reach_the_tight_one(engine: NgspiceEngine):
    # A latch has two stable points; from the voltages of either, Newton stays at it.
    latch = Deck(
        "latch",
        (
            "Vin in 0 0",
            "Ra in a 1000",
            "Rb in b 1000",
            "Ba a 0 i=4e-4*(1+tanh((v(b)-0.6)/0.1))",
            "Bb b 0 i=4e-4*(1+tanh((v(a)-0.6)/0.1))",
        ),
        sources=("Vin",),
        probes=("v(a)", "v(b)"),
    )
    from mdls_cosim.spice import strategy

    values = np.array([[1.0]])
    simulator = engine._simulator(latch)
    for start in ({"a": 1.0, "b": 0.2}, {"a": 0.2, "b": 1.0}):
        header = strategy.started(latch, values, simulator.klu, next(simulator.numbers), start)
        ((a, b),) = simulator.points(latch, header, values)
        assert (a > b + 0.5) == (start["a"] > start["b"])


def test_a_worker_killed_while_busy_is_replaced_once(engine: NgspiceEngine, gives_the_known_current):
    deck, values, current = known_circuit()
    gives_the_known_current(engine)
    worker = engine.worker_pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)  # so that it is busy for sure when it is killed
    killer = threading.Timer(0.3, os.kill, (worker, signal.SIGKILL))
    killer.start()
    assert engine.run(deck, values).column("i(vsense)")[0] == pytest.approx(current, rel=1e-12)
    killer.join()
    assert engine.worker_pid != worker


def test_a_job_that_kills_each_worker_is_an_error(
    engine: NgspiceEngine, gives_the_known_current, monkeypatch: pytest.MonkeyPatch
):
    deck, values, _ = known_circuit()
    honest = WorkerProcess.exchange
    killed: list[int] = []

    def deadly(self, header, sent, deadline):
        os.kill(self.pid, signal.SIGKILL)
        killed.append(self.pid)
        return honest(self, header, sent, deadline)

    with monkeypatch.context() as patch:
        patch.setattr(WorkerProcess, "exchange", deadly)
        with pytest.raises(SpiceCrash, match="SIGKILL"):
            engine.run(deck, values)
    assert len(set(killed)) == 2
    gives_the_known_current(engine)
