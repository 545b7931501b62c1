"""Transient analyses against solutions that owe ngspice nothing: the matrix exponential, scipy's ODE solver."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from mdls_cosim.errors import InputError, KirchhoffError, SpiceError, SpiceNoConvergence, SpiceTimeout
from mdls_cosim.spice import Deck, NgspiceEngine, Waves, strategy
from mdls_cosim.spice.worker import JobFailed

STAGES, RESISTANCE, CAPACITANCE = 10, 100.0, 1e-15
SLOWEST = STAGES**2 * RESISTANCE * CAPACITANCE / 2


def ladder(capacitance: float = CAPACITANCE, initial: str = "") -> Deck:
    """A source into a ladder of resistors, each with a capacitor to a net that a source holds at 0 V."""
    lines = ["Vin in 0 0", "Vground g 0 0"]
    for stage in range(STAGES):
        lines.append(f"R{stage} {f'n{stage - 1}' if stage else 'in'} n{stage} {RESISTANCE}")
        lines.append(f"C{stage} n{stage} g {capacitance}{initial}")
    return Deck(
        "ladder",
        tuple(lines),
        sources=("Vin",),
        probes=(*(f"v(n{stage})" for stage in range(STAGES)), "i(vground)"),
        balance=("vin", "vground"),
    )


def exact_ladder(waves: Waves, times: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Voltages of the ladder, (times, stages), by the matrix exponential from point to point."""
    rate = 1 / (RESISTANCE * CAPACITANCE)
    # State: the voltages, the input, and its slope.
    matrix = np.zeros((STAGES + 2, STAGES + 2))
    for stage in range(STAGES):
        matrix[stage, stage] = -2 * rate if stage + 1 < STAGES else -rate
        matrix[stage, stage - 1 if stage else STAGES] = rate
        if stage + 1 < STAGES:
            matrix[stage, stage + 1] = rate
    matrix[STAGES, STAGES + 1] = 1
    state, present, result = np.concatenate([start, [0, 0]]), 0.0, {}
    for time in np.union1d(times, waves.times):
        knot = min(max(int(np.searchsorted(waves.times, present, side="right")) - 1, 0), len(waves.times) - 2)
        slope = np.diff(waves.values[knot : knot + 2, 0])[0] / np.diff(waves.times[knot : knot + 2])[0]
        state[STAGES] = waves.values[knot, 0] + slope * (present - waves.times[knot])
        state[STAGES + 1] = slope
        state = expm(matrix * (time - present)) @ state
        present = time
        result[time] = state[:STAGES].copy()
    return np.array([result[time] for time in times])


EDGES = {
    "slow edges": ([0, SLOWEST / 50, SLOWEST, 1.02 * SLOWEST, 3 * SLOWEST], [0, 1, 1, 0.3, 0.3]),
    "fast edges": ([0, 1e-5 * SLOWEST, SLOWEST, 1.00001 * SLOWEST, 3 * SLOWEST], [0, 1, 1, 0.3, 0.3]),
    "on at once": ([0, 3 * SLOWEST], [1, 1]),
    "a ramp": ([0, 2 * SLOWEST], [0, 1]),
}


@pytest.mark.ngspice
@pytest.mark.parametrize("tolerance", [1e-5, 1e-3])
@pytest.mark.parametrize("name", EDGES)
def test_a_ladder_follows_the_matrix_exponential(one_engine: NgspiceEngine, name: str, tolerance: float):
    times, values = EDGES[name]
    waves = Waves(np.array(times), np.array(values)[:, None], SLOWEST / 20, tolerance=tolerance)
    found = one_engine.transient(ladder(), waves)
    some = np.linspace(0, len(found.times) - 1, 80).astype(int)
    error = np.abs(found.values[some, :STAGES] - exact_ladder(waves, found.times[some], np.zeros(STAGES))).max()
    assert error < 3 * tolerance  # of 1 V; 0.7 was measured
    assert found.fallback is None
    assert found.times[0] == 0
    assert found.times[-1] == waves.stop


@pytest.mark.ngspice
def test_every_knot_is_a_time_point_and_is_met_exactly(one_engine: NgspiceEngine):
    times = np.cumsum([0, *np.random.default_rng(0).uniform(0.01, 1, 30)]) * SLOWEST
    values = np.random.default_rng(1).uniform(-1, 1, (31, 1))
    deck = replace(ladder(), probes=("v(in)",))
    found = one_engine.transient(deck, Waves(times, values, SLOWEST / 3, tolerance=1e-3))
    assert set(times) <= set(found.times)
    np.testing.assert_allclose(found.at(times), values, rtol=1e-9)
    between = (times[3] + times[4]) / 2
    assert found.at([between])[0, 0] == pytest.approx((values[3, 0] + values[4, 0]) / 2, rel=1e-9)


@pytest.mark.ngspice
def test_from_rest_capacitors_start_at_their_initial_voltage(one_engine: NgspiceEngine):
    waves = Waves(np.array([0, SLOWEST]), np.zeros((2, 1)), SLOWEST / 20)
    found = one_engine.transient(ladder(initial=" ic=0.5"), waves)
    some = np.linspace(0, len(found.times) - 1, 50).astype(int)
    exact = exact_ladder(waves, found.times[some], np.full(STAGES, 0.5))
    np.testing.assert_allclose(found.values[some, :STAGES], exact, rtol=0, atol=2e-5)
    assert found.column("v(n5)")[0] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.ngspice
def test_not_from_rest_it_starts_at_the_operating_point(one_engine: NgspiceEngine):
    waves = Waves(np.array([0, SLOWEST, 2 * SLOWEST]), np.array([[0.7], [0.7], [0.1]]), SLOWEST / 20, from_rest=False)
    found = one_engine.transient(ladder(initial=" ic=0.5"), waves)
    before = found.times <= SLOWEST
    np.testing.assert_allclose(found.values[before, :STAGES], 0.7, rtol=1e-9)
    assert found.column("v(n0)")[-1] < 0.3
    # A settled circuit is where too tight an abstol makes ngspice crawl: 20000 steps and more.
    assert len(found.times) < 1000


@pytest.mark.ngspice
@pytest.mark.parametrize(("width", "amplitude"), [(1e-3, 0.9), (1e-6, 3.0)])
def test_the_state_of_a_threshold_cell_follows_its_equation(one_engine: NgspiceEngine, width, amplitude):
    """dx/dt = k ((V/v0 - 1)^3 for V > v0, -(-V/v0 - 1)^3 for V < -v0) (1 - x^2), the state a voltage on 1 F."""
    rate, threshold, start = 5e4, 0.5, 0.05
    deck = Deck(
        "threshold cell",
        (
            "Vin in 0 0",
            "Rseries in a 100",
            "Bcell a 0 i=v(a)*(1e-6+v(x)*1e-4)",
            f"Bstate 0 x i={rate}*(pow(max(v(a)/{threshold}-1,0),3)-pow(max(-v(a)/{threshold}-1,0),3))*(1-v(x)*v(x))",
            f"Cstate x 0 1 ic={start}",
        ),
        sources=("Vin",),
        probes=("v(x)", "i(vin)"),
        balance=(),
    )
    times = np.array([0, 0.25, 0.75, 1.25, 1.75, 2.0]) * width
    values = amplitude * np.array([0, 1.0, -1.0, 1.0, -1.0, 0.0])
    found = one_engine.transient(deck, Waves(times, values[:, None], width / 200))

    def slope(time, state):
        cell = np.interp(time, times, values) / (1 + 100 * (1e-6 + state * 1e-4))
        return rate * (max(cell / threshold - 1, 0) ** 3 - max(-cell / threshold - 1, 0) ** 3) * (1 - state**2)

    exact = solve_ivp(
        slope, (0, times[-1]), [start], method="LSODA", rtol=1e-10, atol=1e-12, max_step=width / 500, t_eval=found.times
    )
    assert np.ptp(exact.y[0]) > 0.2
    np.testing.assert_allclose(found.column("v(x)"), exact.y[0], rtol=0, atol=1e-4)


@pytest.mark.ngspice
def test_a_deck_runs_alone_over_time_in_plain_ngspice(one_engine: NgspiceEngine, tmp_path: Path):
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("there is no ngspice program, only the library")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    if f"ngspice-{one_engine.info().version}" not in said:
        pytest.skip("the ngspice program is of another version than the library")
    waves = Waves(np.array([0, SLOWEST / 50, SLOWEST]), np.array([[0], [1], [1]]), SLOWEST / 20, tolerance=1e-3)
    deck = replace(ladder(), probes=("v(n3)", "i(vground)"))
    file = tmp_path / "ladder.cir"
    file.write_text(deck.standalone_transient(waves))
    done = subprocess.run([program, "-b", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    rows = np.array([row.split() for row in re.findall(r"^\d+\t\S+\t\S+", done.stdout, re.MULTILINE)], dtype=float)
    voltage, current = np.split(rows, np.flatnonzero(rows[1:, 0] == 0) + 1)
    found = one_engine.transient(deck, waves)
    np.testing.assert_allclose(
        found.at(np.minimum(voltage[1:, 1], waves.stop))[:, 0], voltage[1:, 2], rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        found.at(np.minimum(current[1:, 1], waves.stop))[:, 1], current[1:, 2], rtol=0, atol=1e-6 * current[:, 2].max()
    )


SETTLED = Waves(np.array([0, SLOWEST]), np.array([[1.0], [1.0]]), SLOWEST / 20, tolerance=1e-3)


@pytest.mark.ngspice
def test_a_circuit_that_cannot_go_on_is_one_error_with_its_time(engine: NgspiceEngine, gives_the_known_current):
    # A conductance that jumps with its own voltage: between the branches there is no solution at all.
    deck = Deck(
        "jump",
        ("Vin in 0 0", "Rin in a 1e4", "Bjump a 0 i=(v(a)>0.5)?1e-4*v(a):1e-8*v(a)"),
        sources=("Vin",),
        probes=("v(a)",),
    )
    waves = Waves(np.array([0, 1e-6]), np.array([[0.0], [1.5]]), 1e-8)
    with pytest.raises(SpiceNoConvergence, match=r"jump.*") as caught:
        engine.transient(deck, waves)
    assert "imestep too small" in str(caught.value)
    assert "shorter steps" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "PWL(" in caught.value.deck
    gives_the_known_current(engine)


@pytest.mark.ngspice
def test_a_transient_that_fails_is_run_again_with_shorter_steps(engine: NgspiceEngine):
    if engine.info().solver != "klu":
        pytest.skip("this circuit is hard for ngspice with KLU; without it another way is taken")
    # A voltage across so steep an exponential must not jump.
    steep = Deck(
        "steep",
        ("Vin in 0 0", "Rin in a 100", "Bcell a 0 i=1e-15*sinh(v(a)/0.0005)"),
        sources=("Vin",),
        probes=("i(vin)", "v(a)"),
    )
    waves = Waves(np.array([0, 1e-9, 1e-6, 2e-6]), np.array([[0], [3], [3], [-3]]), 1e-6, tolerance=1e-4)
    found = engine.transient(steep, waves)
    assert found.fallback == "shorter steps"
    drive = np.interp(found.times, waves.times, waves.values[:, 0])
    np.testing.assert_allclose(-found.column("i(vin)") * 100, drive - found.column("v(a)"), atol=1e-9)
    engine.fallbacks = False
    with pytest.raises(SpiceNoConvergence) as caught:
        engine.transient(steep, waves)
    assert "shorter" not in str(caught.value)


@pytest.mark.ngspice
def test_a_transient_that_takes_too_long_is_killed_at_the_deadline(engine: NgspiceEngine, gives_the_known_current):
    engine.info()
    engine.deadline = 0.3
    with pytest.raises(SpiceTimeout, match="deadline"):
        engine.transient(ladder(), replace(SETTLED, longest_step=SLOWEST / 1e6))
    engine.deadline = 60.0
    gives_the_known_current(engine)


@pytest.mark.ngspice
def test_a_current_that_leaves_beside_the_balance_is_seen_at_its_time(engine: NgspiceEngine):
    deck = replace(ladder(), elements=(*ladder().elements, "Cleak n3 0 1e-16"))
    with pytest.raises(KirchhoffError, match=r"point at \S+ s"):
        engine.transient(deck, SETTLED)


@pytest.mark.ngspice
@pytest.mark.parametrize("what", ["circuit", "stop"])
def test_the_waveforms_of_a_stale_circuit_are_not_taken(
    engine: NgspiceEngine, gives_the_known_current, monkeypatch: pytest.MonkeyPatch, what: str
):
    engine.transient(ladder(), SETTLED)
    honest = strategy.transient
    other = replace(SETTLED, times=np.array([0, 2 * SLOWEST]) if what == "stop" else SETTLED.times, longest_step=1e-12)

    def stale(deck, waves, klu, number):
        header = honest(deck, waves, klu, number)
        return header | {key: honest(deck, other, klu, 1)[key] for key in ("circuit", "command")}

    with monkeypatch.context() as patch:
        patch.setattr(strategy, "transient", stale)
        with pytest.raises(SpiceError):
            engine.transient(ladder(), SETTLED)
    gives_the_known_current(engine)


@pytest.mark.ngspice
def test_the_waveforms_of_other_waves_are_not_taken(engine: NgspiceEngine, monkeypatch: pytest.MonkeyPatch):
    asked = Waves(np.array([0, 0.5, 1]) * SLOWEST, np.array([[0.0], [1.0], [1.0]]), SLOWEST / 20, tolerance=1e-3)
    other = replace(asked, times=np.array([0, 0.6, 1]) * SLOWEST)
    honest = strategy.transient
    monkeypatch.setattr(strategy, "transient", lambda deck, _waves, klu, number: honest(deck, other, klu, number))
    with pytest.raises(SpiceError, match="waves differ"):
        engine.transient(ladder(), asked)


def test_a_run_that_stopped_early_is_no_result():
    from mdls_cosim.spice import worker

    class Stopped:
        def load(self, *_): ...
        def analyse(self, *_): ...
        def complaint(self):
            return "Timestep too small"

        def vector(self, _name, _length=None):
            return np.array([0.0, 0.5])

    with pytest.raises(JobFailed, match=r"Timestep too small, at 0\.5 s of 1 s"):
        worker.transient(
            Stopped(),  # pyright: ignore[reportArgumentType]
            {"marker": {"name": "m"}, "circuit": "", "osdi": [], "command": "", "vectors": [], "whole": False},
            np.array([0.0, 1.0]),
        )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"times": [0.0]}, "knots of waves"),
        ({"times": [[0.0, 1.0]]}, "knots of waves"),
        ({"values": [0.0, 1.0]}, "knots of waves"),
        ({"values": [[0.0], [1.0], [2.0]]}, "knots of waves"),
        ({"values": [[0.0], [np.nan]]}, "finite"),
        ({"times": [0.0, np.inf]}, "finite"),
        ({"times": [1.0, 2.0]}, "knot 0"),
        ({"times": [0.0, 1.0, 1.0], "values": np.zeros((3, 1))}, "knot 2.*width"),
        ({"times": [0.0, 1.0, 0.5], "values": np.zeros((3, 1))}, "knot 2"),
        ({"times": [0.0, 1.0, 1.0 + 1e-12], "values": np.zeros((3, 1))}, "knot 2"),
        ({"longest_step": 0.0}, "longest_step"),
        ({"longest_step": -1.0}, "longest_step"),
        ({"longest_step": np.nan}, "longest_step"),
        ({"longest_step": 1e-8}, "longest_step.*at most"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": 0.5}, "tolerance"),
    ],
)
def test_waves_that_are_no_waves_are_refused(changes, says: str):
    good = {"times": [0.0, 1.0], "values": [[0.0], [1.0]], "longest_step": 0.1}
    Waves(**good)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=says):
        Waves(**(good | changes))


def test_waves_fit_the_sources_of_the_deck():
    waves = Waves(np.array([0.0, 1.0]), np.zeros((2, 2)), 0.1)
    with pytest.raises(InputError, match="ladder"):
        ladder().standalone_transient(waves)


@pytest.mark.ngspice
def test_times_outside_of_the_run_have_no_value(engine: NgspiceEngine):
    found = engine.transient(ladder(), SETTLED)
    with pytest.raises(InputError, match="times of waveforms"):
        found.at([2 * SLOWEST])
    with pytest.raises(InputError, match="not a probe"):
        found.column("v(nowhere)")
