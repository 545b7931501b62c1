"""Pulse trains against the state equation: closed forms where the window is flat, scipy's integration elsewhere."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mdls_cosim.characterize.pulse import PulsePlan, PulsePoint
from mdls_cosim.devices import Sinh, Vteam
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.tiles import SelectorCell, StateDeclaration, SubcircuitCell, TileSpec

pytestmark = pytest.mark.ngspice

DEVICE = Vteam(parameters="vteam_example")  # pyright: ignore[reportCallIssue]
TILE = TileSpec(rows=3, cols=2, cell=DEVICE, row_line_resistance=1e3, driver_resistance=1e4, cell_capacitance=1e-15)
SPAN = (2e-5, 4e-4)
PLAN = PulsePlan(potentiation=(0.9, 1.2), depression=(0.6, 0.8), widths=(50e-9, 200e-9), pulses=6)


def resistance(x):
    return 2e3 + 98e3 * x


def rate(volts: float, x: float, p: int = 1) -> float:
    if volts > 0.4:
        return 5e5 * (volts / 0.4 - 1) ** 3 * (1 - x ** (2 * p))
    if volts < -0.5:
        return -3e5 * (volts / -0.5 - 1) ** 2 * (1 - (1 - x) ** (2 * p))
    return 0.0


def train(voltages, width: float, x: float, speed: float = 1.0) -> np.ndarray:
    """States after each pulse, the first before: edges of a tenth of the width, a width of pause."""
    states = [x]
    for volts in voltages:
        for span, start, end in ((0.1 * width, 0, volts), (width, volts, volts), (0.1 * width, volts, 0)):
            moved = solve_ivp(
                lambda t, y, span=span, start=start, end=end: [
                    speed * rate(start + (end - start) * t / span, float(y[0]))
                ],
                (0.0, span),
                [x],
                rtol=1e-9,
                atol=1e-13,
                max_step=span / 20,
            )
            x = moved.y[0, -1]
        states.append(x)
    return np.array(states)


def closed(volts: float, width: float) -> float:
    """Change of the state by one pulse where the window is 1: full voltage, and two edges above the threshold."""
    if volts > 0:
        scale, over, exponent = 5e5, volts / 0.4 - 1, 3
    else:
        scale, over, exponent = -3e5, volts / -0.5 - 1, 2
    edges = 2 * 0.1 * width * over ** (exponent + 1) / ((over + 1) * (exponent + 1))
    return scale * (over**exponent * width + edges)


@pytest.fixture(scope="module")
def found(measure) -> dict[str, np.ndarray]:
    return measure(PLAN, TILE, SPAN)


def test_trains_follow_the_state_equation(found):
    start = (1 / SPAN[0] - 2e3) / 98e3
    assert found["conductances"].shape == (2, 2, 1, 13)
    for amplitude, (up, down) in enumerate(((0.9, 0.6), (1.2, 0.8))):
        for index, width in enumerate((50e-9, 200e-9)):
            states = train([-up] * 6 + [down] * 6, width, start)
            measured = (1 / found["conductances"][amplitude, index, 0] - 2e3) / 98e3
            np.testing.assert_allclose(measured, states, atol=5e-5)
            assert measured[0] == pytest.approx(start, rel=1e-12, abs=0)


def test_potentiation_raises_and_depression_lowers(found):
    steps = np.diff(found["conductances"], axis=-1)
    assert np.all(steps[..., :6] > 0)
    assert np.all(steps[..., 6:] < 0)
    # Larger or longer pulses do more.
    gains = found["conductances"][..., 0, 6] - found["conductances"][..., 0, 0]
    assert np.all(np.diff(gains, axis=0) > 0)
    assert np.all(np.diff(gains, axis=1) > 0)


def test_away_from_the_window_a_pulse_is_a_closed_form(engine):
    """p = 20: 1 - x^40 is 1 to 1e-9 between 0.45 and 0.6."""
    tile = TILE.replace(cell=DEVICE.replace(window_exponent=20)).bare(1, 1)
    voltages = np.array([0.7, -0.8, 0.55, -1.0, 0.39, -0.49])
    width = 60e-9
    point = PulsePoint("", tile, 1 / resistance(0.55), voltages, width, np.ones(1))
    states = (1 / point.solve(engine)["conductances"][0] - 2e3) / 98e3
    expected = 0.55 + np.concatenate([[0.0], np.cumsum([closed(v, width) if abs(v) > 0.5 else 0.0 for v in voltages])])
    assert np.ptp(expected) > 0.01
    assert expected.min() > 0.45
    assert expected.max() < 0.6
    np.testing.assert_allclose(states, expected, atol=2e-5)
    # Below the thresholds nothing moves at all.
    np.testing.assert_allclose(states[-3:], states[-3], atol=1e-9)


def test_speed_is_width(engine):
    """A cell 1.7 times as fast does in a width what another does in 1.7 widths."""
    tile = TILE.bare(1, 3)
    voltages = np.array([-1.0, -1.0, 0.7])
    run = {}
    for width, speeds in ((100e-9, [1.0, 1.7, 0.6]), (170e-9, [1.0, 1.0, 1.0]), (60e-9, [1.0, 1.0, 1.0])):
        run[width] = PulsePoint("", tile, 3e-5, voltages, width, np.array(speeds)).solve(engine)["conductances"]
    np.testing.assert_allclose(run[100e-9][1], run[170e-9][0], rtol=3e-4)
    np.testing.assert_allclose(run[100e-9][2], run[60e-9][0], rtol=3e-4)
    assert run[100e-9][1, 2] > 1.02 * run[100e-9][0, 2] > 1.04 * run[100e-9][2, 2]


def test_cycles_differ_by_seeded_lognormal_speeds(measure):
    plan = PulsePlan(potentiation=(0.9,), depression=(0.6,), widths=(50e-9,), pulses=2, cycles=40, spread=0.3)
    one, again, other = (measure(plan, TILE, SPAN, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one["conductances"], again["conductances"])
    assert np.all(one["speeds"] != other["speeds"])
    logs = np.log(np.concatenate([one["speeds"], other["speeds"]]))
    # 80 draws: 0.034 and 0.024 are one standard error.
    assert abs(logs.mean()) < 0.1
    assert 0.22 < logs.std(ddof=1) < 0.38
    start = (1 / SPAN[0] - 2e3) / 98e3
    for cycle in (0, 17, 39):
        states = train([-0.9, -0.9, 0.6, 0.6], 50e-9, start, one["speeds"][cycle])
        found = (1 / one["conductances"][0, 0, cycle] - 2e3) / 98e3
        np.testing.assert_allclose(found, states, atol=5e-5)
    gains = one["conductances"][0, 0, :, 2]
    assert np.all(np.diff(gains[np.argsort(one["speeds"])]) > 0)


def test_without_spread_all_cycles_are_one(measure):
    plan = PulsePlan(potentiation=(0.9,), depression=(0.6,), widths=(50e-9,), pulses=1, cycles=2)
    found = measure(plan, TILE, SPAN)
    assert found["speeds"].tolist() == [1.0, 1.0]
    np.testing.assert_allclose(found["conductances"][0, 0, 0], found["conductances"][0, 0, 1], rtol=1e-9)


def test_a_selector_takes_its_share_of_the_pulse(measure):
    """1S1R: a selector with 1 uA at 0.1 V steps leaves the cell less, so it moves less."""
    plan = PulsePlan(potentiation=(0.9,), depression=(0.6,), widths=(50e-9,), pulses=3)
    alone = measure(plan, TILE, SPAN)["conductances"][0, 0, 0]
    shared = measure(plan, TILE.replace(cell=SelectorCell(device=DEVICE)), SPAN)["conductances"][0, 0, 0]
    assert shared[0] == pytest.approx(alone[0], rel=1e-9, abs=0)
    np.testing.assert_allclose(shared, shared[0], rtol=1e-6)  # 1 nA selectors: the cell sees millivolts
    assert alone[3] > 1.03 * alone[0]


def test_plans_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="no state that moves"):
        PLAN.make_points(TileSpec(rows=1, cols=1, cell=Sinh()), SPAN, 0)
    with pytest.raises(InputError, match="pair"):
        PLAN.replace(depression=(0.6,)).make_points(TILE, SPAN, 0)


# --- a user's own cell with a state -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def users_vteam() -> SubcircuitCell:
    """The library's text under another name, with DEVICE's numbers; state 0 - 1 falls with conductance."""
    from mdls_cosim.spice.library import read_model

    text = read_model("vteam").replace("vteam", "mine")
    parameters = {"r_on": 2e3, "r_off": 1e5, "v_on": -0.5, "v_off": 0.4, "rate_on": 3e5, "rate_off": 5e5}
    parameters |= {"a_on": 2.0, "a_off": 3.0}
    return SubcircuitCell(
        subcircuit="mine",
        text=text,
        pins=("row", "column", "state"),
        state=StateDeclaration(raised_by="negative"),
        parameters=parameters,
    )


def test_a_users_cell_with_the_same_text_gives_the_same_numbers(found, users_vteam, measure):
    theirs = measure(PLAN.replace(widths=(50e-9,)), TILE.replace(cell=users_vteam), SPAN)
    np.testing.assert_allclose(theirs["conductances"][:, 0], found["conductances"][:, 0], rtol=1e-6)


def test_the_spread_reaches_a_users_cell(users_vteam, measure):
    """Either its cycles differ as `speeds` says, or the plan is refused; equal cycles beside unequal speeds lie."""
    plan = PulsePlan(potentiation=(0.9,), depression=(0.6,), widths=(50e-9,), pulses=2, cycles=3, spread=0.5)
    try:
        found = measure(plan, TILE.replace(cell=users_vteam), SPAN)
    except (ConfigError, InputError):
        return
    assert all(one != other for one, other in pairwise(found["conductances"][0, 0, :, 2]))
