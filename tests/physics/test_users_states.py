"""The state of users' cells over time: integrated by the tile's capacitor or by one of their own."""

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mdls_cosim.characterize import Characterization, IvPlan, characterize
from mdls_cosim.characterize.pulse import PulsePlan
from mdls_cosim.characterize.transients import pulse_train
from mdls_cosim.characterize.write import WritePlan, WritePoint
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.tiles import SecondState, StateDeclaration, SubcircuitCell, TileSpec, tile_deck

CASES = Path(__file__).parents[1] / "cases/circuit"
SPAN = (5e-5, 4e-4)
TERNARY = (CASES / "01c-ltspice-ternary.sub").read_text()
INTEGRATOR = "Cx XS 0 1\n"


def ternary(text: str, pins=("row", "column", "state")) -> SubcircuitCell:
    return SubcircuitCell(subcircuit="LTMEM", text=text, pins=pins, state=StateDeclaration())


def rate(voltage: float, state: float) -> float:
    """Of the state of the cell in 01c-ltspice-ternary.sub [1/s]."""
    moved = 5e4 * (abs(voltage) - 0.4) * np.sign(voltage) if abs(voltage) >= 0.4 else 0.0
    return moved * (1 - (2 * state - 1) ** 4)


# In the form of the documentation: 1 nA for 1/s, no capacitor.
WITHOUT = TERNARY.replace(INTEGRATOR, "").replace("cur='drive", "cur='1e-9*drive")
FORMS = {
    "none of its own": WITHOUT,
    "1 F": TERNARY,
    "1 F to the other side": TERNARY.replace(INTEGRATOR, "Cx gnd XS 1\n"),
    "1 nF": WITHOUT.replace("Gx", "Cx XS 0 1n\nGx"),
    "of a parameter": TERNARY.replace(INTEGRATOR, "Cx XS 0 {c}\n").replace("k=5e4", "c=0.5 k=2.5e4"),
    "two in parallel": TERNARY.replace(INTEGRATOR, "Cx XS 0 0.25\nCy 0 XS 0.75\n"),
    "in a subcircuit": TERNARY.replace(INTEGRATOR, "Xi 0 XS hold c=1\n") + ".subckt hold a b c=2\nC1 a b {c}\n.ends\n",
}


@pytest.mark.ngspice
@pytest.mark.parametrize("name", FORMS)
def test_a_loop_follows_the_equation_of_the_state(name, measure):
    """Against LSODA; at the quarters of the period 0.99987, 1.00000, 0.99987 and 0.0769, from 0.0769."""
    plan = IvPlan(voltage=0.3, points=3, cells=1, frequencies=(2e3,), amplitudes=(1.0,), loop_cycles=1)
    found = measure(plan, TileSpec(rows=1, cols=1, cell=ternary(FORMS[name])), SPAN)["loop_states"].ravel()
    start = (SPAN[0] - 1 / 80e3) / (1 / 2e3 - 1 / 80e3)
    times = np.linspace(0, 5e-4, len(found))
    applied = np.sin(2 * np.pi * 2e3 * times)  # straight between the samples
    exact = solve_ivp(
        lambda t, x: [rate(np.interp(t, times, applied), x[0])],
        (0, 5e-4),
        [start],
        t_eval=times,
        method="LSODA",
        rtol=1e-9,
        atol=1e-12,
        max_step=1e-6,
    ).y[0]
    # The second half leaves the state 1, from which it is the farther away the larger the error of the first half.
    np.testing.assert_allclose(found[:120], exact[:120], atol=2e-5)
    np.testing.assert_allclose(found, exact, atol=4e-3)
    quarters = found[[len(found) // 4, len(found) // 2, 3 * len(found) // 4]]
    np.testing.assert_allclose(quarters, [0.99987, 1.0, 0.99987], atol=2e-4)


@pytest.mark.ngspice
def test_the_tile_that_lost_its_state_is_characterized(engine):
    spec = Characterization.load_toml(CASES / "01-loop.toml")
    spec = spec.replace(tile=spec.tile.replace(cell=ternary(TERNARY)))
    experiments = characterize(spec, engine=engine).experiments
    states = experiments["iv"]["loop_states"].values.ravel()
    np.testing.assert_allclose(states[[0, 50, 100, 150, 200]], [0.0769, 0.99987, 1.0, 0.99987, 0.0769], atol=4e-3)
    pulsed = experiments["pulse"]["conductances"].values.ravel()
    assert pulsed[0] == pytest.approx(SPAN[0], rel=1e-6)
    assert (np.diff(pulsed[:6]) > 0).all()
    assert (np.diff(pulsed[5:]) < 0).all()


@pytest.mark.ngspice
def test_pulses_and_writes_are_the_same_in_either_form(measure):
    plans = (
        PulsePlan(potentiation=(0.8,), depression=(0.8,), widths=(2e-5,), pulses=3, cycles=2),
        WritePlan(raising=0.8, lowering=0.8, width=2e-5, pulses=4, targets=1),
    )
    for plan in plans:
        own, tiles = (
            measure(plan, TileSpec(rows=2, cols=2, cell=ternary(text), driver_resistance=20.0), SPAN, 1)
            for text in (TERNARY, WITHOUT)
        )
        for name in own:
            np.testing.assert_allclose(own[name], tiles[name], rtol=1e-4, atol=1e-9, err_msg=name)


@pytest.mark.ngspice
def test_an_exported_transient_starts_at_the_state(engine):
    deck = tile_deck(TileSpec(rows=1, cols=1, cell=ternary(TERNARY)), states=[[0.25]], transient=True, nodes=True)
    assert deck.initial == (("state0_0", 0.25),)
    assert not any(line.startswith("Cstate") for line in deck.elements)
    assert tile_deck(TileSpec(rows=1, cols=1, cell=ternary(TERNARY)), states=[[0.25]]).initial == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Cx XS 0 1 ic=0.3", r"initial voltage.*Cx XS 0 1 ic=0\.3.*no ic="),
        ("Cx XS 0 1 IC = 0.3", "initial voltage"),
        ("Cx XS 0 1 ic={0.3}", "initial voltage"),
        ("Cx XS BE 1", "not ground"),
        ("Cx XS inner 1\nRx inner 0 1k", "not ground"),
    ],
)
def test_a_capacitor_that_would_not_start_at_the_state_is_refused(line, message):
    with pytest.raises(ConfigError, match=message):
        ternary(TERNARY.replace(INTEGRATOR, line + "\n"))


def test_a_capacitor_to_a_pin_at_ground_is_an_integrator():
    text = TERNARY.replace("TE BE XS", "TE BE XS G").replace(INTEGRATOR, "Cx XS G 1\n")
    assert ternary(text, ("row", "column", "state", "ground")).integrates("state")
    with pytest.raises(ConfigError, match="not ground"):
        ternary(text.replace("Cx XS G", "Cx XS TE"), ("row", "column", "state", "ground"))


@pytest.mark.ngspice
def test_a_start_that_another_element_sets_is_found_out(measure):
    """A large capacitor behind a small resistor is at 0 V at the start, and takes the state with it."""
    text = WITHOUT.replace("Gx", "Rx XS inner 1u\nCx inner 0 1\nGx")
    plan = IvPlan(voltage=0.3, points=3, cells=1, frequencies=(2e3,), amplitudes=(1.0,), loop_cycles=1)
    with pytest.raises(InputError, match="does not start where it was set"):
        measure(plan, TileSpec(rows=1, cols=1, cell=ternary(text)), SPAN)


# --- two states -------------------------------------------------------------------------------------------------

# A gap x that opens the faster the larger a slow quantity y is, which rises with the power and decays.
TWO = """.subckt own p n x y
Bcell p n I=2e-4*V(p,n)*(0.05+V(x))*(1+V(y))
Bx 0 x I=1e-9*2e4*V(p,n)*abs(V(p,n))*(0.2+V(y))*V(x)*(1-V(x))*4
By 0 y I=1e-9*(3e4*V(p,n)*V(p,n)*(0.05+V(x))-5e3*(V(y)-0.1))
.ends own
"""


def conductance(x, y):
    return 2e-4 * (0.05 + x) * (1 + y)


def rates(voltage: float, x: float, y: float) -> list[float]:
    return [
        2e4 * voltage * abs(voltage) * (0.2 + y) * x * (1 - x) * 4,
        3e4 * voltage**2 * (0.05 + x) - 5e3 * (y - 0.1),
    ]


def two(text: str = TWO, pins=("row", "column", "state", "second_state"), value: float | None = 0.1) -> SubcircuitCell:
    second = None if value is None else SecondState(value=value)
    return SubcircuitCell(subcircuit="own", text=text, pins=pins, state=StateDeclaration(), second_state=second)


def solved(times: np.ndarray, applied: np.ndarray, start: float, at: np.ndarray) -> np.ndarray:
    """x and y, (2, at), from conductance `start` [S] at y = 0.1, under the voltage (times, applied)."""
    first = [start / 2e-4 / 1.1 - 0.05, 0.1]
    return solve_ivp(
        lambda t, s: rates(np.interp(t, times, applied), *s),
        (0, times[-1]),
        first,
        t_eval=at,
        method="LSODA",
        rtol=1e-9,
        atol=1e-12,
        max_step=np.diff(times).min(),
    ).y


@pytest.mark.ngspice
@pytest.mark.parametrize("text", [TWO, TWO.replace("I=1e-9*(3e4", "I=(3e4").replace(".ends", "Cy y 0 1\n.ends")])
def test_a_loop_of_a_cell_of_two_states(text, measure):
    plan = IvPlan(voltage=0.1, points=3, cells=2, frequencies=(1e4,), amplitudes=(1.0,), loop_cycles=1)
    found = measure(plan, TileSpec(rows=1, cols=1, cell=two(text)), SPAN_OF_TWO)
    np.testing.assert_allclose(found["currents"][1], SPAN_OF_TWO[1] * found["voltages"][1], rtol=1e-8, atol=1e-18)
    voltages = found["loop_voltages"].ravel()
    times = np.linspace(0, 1e-4, len(voltages))
    x, y = solved(times, voltages, SPAN_OF_TWO[0], times)
    np.testing.assert_allclose(found["loop_states"].ravel(), x, atol=1e-4)
    np.testing.assert_allclose(found["loop_currents"].ravel(), conductance(x, y) * voltages, atol=1e-3 * 2e-4)


SPAN_OF_TWO = (3e-5, 1.2e-4)


@pytest.mark.ngspice
def test_the_second_state_goes_on_from_pulse_to_pulse(measure, engine):
    """In one transient, and from one to the next."""
    spec, width, count = TileSpec(rows=1, cols=1, cell=two()), 1e-5, 4
    waves, ends = pulse_train(np.full((count, 1), 0.8), width)
    x, y = solved(waves.times, waves.values[:, 0], SPAN_OF_TWO[0], np.array([0.0, *ends]))
    expected = conductance(x, y)
    plan = PulsePlan(potentiation=(0.8,), depression=(0.8,), widths=(width,), pulses=count, cycles=1)
    pulsed = measure(plan, spec, SPAN_OF_TWO)["conductances"].ravel()
    np.testing.assert_allclose(pulsed[: count + 1], expected, rtol=2e-4)
    plan = WritePlan(raising=0.8, lowering=0.8, step=0.0, width=width, pulses=count, targets=1)
    start = np.full((1, 1), SPAN_OF_TWO[0])
    point = WritePoint("write", spec, plan, SPAN_OF_TWO, start, (0, 0), 1.0)
    np.testing.assert_allclose(point.solve(engine)["history"], expected, rtol=2e-4)
    again = solved(waves.times[:5], waves.values[:5, 0], expected[1], ends[:1])  # the second pulse, from y = 0.1
    assert abs(conductance(*again[:, 0]) / expected[2] - 1) > 2e-3


def test_declarations_of_second_states_that_do_not_fit_are_refused():
    for pins, value in ((("row", "column", "state", "second_state"), None), (("row", "column", "state"), 0.1)):
        text = (
            TWO if "second_state" in pins else TWO.replace(" x y\n", " x\n").replace("V(y)", "0").replace("0 y", "0 x")
        )
        with pytest.raises(ConfigError, match="a second state has a pin and a table"):
            two(text, pins, value)
    with pytest.raises(ConfigError, match="one second state"):
        two(TWO, ("row", "column", "second_state", "second_state"))
    with pytest.raises(ConfigError, match="initial voltage"):
        two(TWO.replace(".ends", "Cy y 0 1 ic=0\n.ends"))
    assert "second_state" not in ternary(TERNARY).as_dict()
    assert SubcircuitCell(**two().as_dict()) == two()
