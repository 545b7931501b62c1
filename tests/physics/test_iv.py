"""I-V of single cells: closed forms at rest, scipy's integration of the state equation in loops."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mdls_cosim.characterize import IvPlan
from mdls_cosim.devices import ExponentialSelector, Nmos, Ohmic, Sinh, ThresholdSelector, Vteam
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell

pytestmark = pytest.mark.ngspice

SPAN = (1e-5, 1e-3)
RAISED = Vteam(
    on_resistance=1e3,
    off_resistance=1e5,
    on_voltage=-0.4,
    off_voltage=0.3,
    on_rate=4e3,
    off_rate=6e3,
    on_exponent=2.0,
    off_exponent=1.0,
)


def rate(volts: float, x: float) -> float:
    if volts > 0.3:
        return 6e3 * (volts / 0.3 - 1) * (1 - x**2)
    if volts < -0.4:
        return -4e3 * (volts / -0.4 - 1) ** 2 * (1 - (1 - x) ** 2)
    return 0.0


def current(volts, x):
    return volts / (1e3 + 99e3 * x)


# Wires, ends and drives of the tile must not matter to a single cell.
WIRED = {"row_line_resistance": 1e4, "sense_resistance": 1e5, "driver_resistance": 1e5, "column_line_capacitance": 1e-9}


@pytest.mark.parametrize("cell", [Ohmic(), Sinh(nonlinearity=6.0), RAISED], ids=lambda cell: cell.model)
def test_at_rest(cell, measure):
    tile = TileSpec(rows=7, cols=5, cell=cell, **WIRED, drive="double", reference_voltage=0.2)
    found = measure(IvPlan(voltage=1.5, points=31, cells=4), tile, SPAN)
    volts = np.linspace(-1.5, 1.5, 31)
    np.testing.assert_allclose(found["conductances"], [1e-5, 3.4e-4, 6.7e-4, 1e-3], rtol=1e-12)
    np.testing.assert_allclose(found["voltages"], np.tile(volts, (4, 1)), atol=1e-15)
    # Through (0.2 V, 0.2 V G) each.
    shape = 0.2 * np.sinh(6 * volts) / np.sinh(1.2) if cell.model == "sinh" else volts
    np.testing.assert_allclose(found["currents"], np.outer(found["conductances"], shape), rtol=1e-9, atol=1e-18)
    assert set(found) == {"conductances", "voltages", "currents"}


def test_a_selector_hides_the_cell_below_its_voltage(measure):
    tile = TileSpec(rows=2, cols=2, cell=SELECTED)
    found = measure(IvPlan(voltage=1.0, points=21, cells=2), tile, (1e-4, 1e-2))
    assert np.all(np.abs(found["currents"] + found["currents"][:, ::-1]) <= 1e-9 * np.abs(found["currents"]).max())
    # Both cells in series carry one current: V = I/G + V_s asinh(I/I_s).
    volts = found["currents"] / found["conductances"][:, None] + 0.1 * np.arcsinh(found["currents"] / 1e-9)
    np.testing.assert_allclose(volts, found["voltages"], atol=1e-7)


SELECTED = SelectorCell(selector=ExponentialSelector(saturation_current=1e-9, slope_voltage=0.1))


def test_a_threshold_selector_snaps_where_its_voltage_says(measure):
    selector = ThresholdSelector(threshold_voltage=0.7, hold_voltage=0.3, off_resistance=1e8, on_resistance=2e3)
    found = measure(
        IvPlan(voltage=1.2, points=25, cells=2), TileSpec(rows=1, cols=1, cell=SelectorCell(selector=selector)), SPAN
    )
    for g, volts, currents in zip(found["conductances"], found["voltages"], found["currents"], strict=True):
        on = np.abs(volts) * 1e8 / (1e8 + 1 / g) > 0.7
        assert on.sum() in (10, 12)
        expected = (np.abs(volts[on]) - 0.3) / (1 / g + 2e3)
        np.testing.assert_allclose(np.abs(currents[on]), expected, rtol=1e-2)
        np.testing.assert_allclose(currents[~on], volts[~on] / (1e8 + 1 / g), rtol=1e-7, atol=1e-20)


def test_a_transistor_limits_the_current(measure):
    fet = Nmos(threshold_voltage=0.5, transconductance=1e-4, width=2e-6)
    tile = TileSpec(rows=1, cols=1, cell=TransistorCell(transistor=fet, gate_voltage=1.0))
    found = measure(IvPlan(voltage=3.0, points=3, cells=1), tile, (1e-2, 1.1e-2))
    assert found["currents"][0, -1] == pytest.approx(1e-4 * 2 / 2 * 0.5**2, rel=1e-6, abs=0)


# --- loops ------------------------------------------------------------------------------------------------------

FREQUENCIES, AMPLITUDES = (200.0, 2e3, 1e5), (0.35, 0.9)
LOOPS = IvPlan(
    cells=1, points=3, frequencies=FREQUENCIES, amplitudes=AMPLITUDES, loop_cycles=2, loop_points=100, voltage=0.1
)


@pytest.fixture(scope="module")
def loops(measure) -> dict[str, np.ndarray]:
    return measure(LOOPS, TileSpec(rows=3, cols=2, cell=RAISED, **WIRED), (2e-5, 1e-3))


def integrated(frequency: float, amplitude: float, x: float) -> np.ndarray:
    """States at the samples, by LSODA in pieces: none bridges the kink at a threshold for long."""
    times = np.arange(201) / (100 * frequency)
    states = [x]
    for start, end in pairwise(times):
        found = solve_ivp(
            lambda t, y: [rate(amplitude * np.sin(2 * np.pi * frequency * t), y[0])],
            (start, end),
            states[-1:],
            rtol=1e-9,
            atol=1e-12,
        )
        states.append(found.y[0, -1])
    return np.array(states)


@pytest.mark.parametrize(("f", "a"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)])
def test_loops_follow_the_state_equation(f, a, loops):
    expected = integrated(FREQUENCIES[f], AMPLITUDES[a], (1 / 2e-5 - 1e3) / 99e3)
    # The wave is straight between 100 samples a period: 5e-4 of the amplitude below the sine.
    np.testing.assert_allclose(loops["loop_states"][f, a], expected, atol=2e-3)
    # Exactly the device at that state and voltage, at every sample.
    volts = loops["loop_voltages"][f, a]
    np.testing.assert_allclose(volts, AMPLITUDES[a] * np.sin(2 * np.pi * np.arange(201) / 100), atol=1e-14)
    exact = current(volts, loops["loop_states"][f, a])
    np.testing.assert_allclose(loops["loop_currents"][f, a], exact, atol=2e-4 * np.abs(exact).max())


def test_loops_are_pinched(loops):
    volts, currents = loops["loop_voltages"], loops["loop_currents"]
    zero = np.abs(volts) < 1e-12
    assert zero.sum() == 5 * len(FREQUENCIES) * len(AMPLITUDES)
    assert np.abs(currents[zero]).max() < 1e-12
    assert np.all(volts * currents >= -1e-15)


def test_loops_shrink_with_frequency(loops):
    volts, currents = loops["loop_voltages"][:, 1, 100:], loops["loop_currents"][:, 1, 100:]
    lobes = [abs(np.trapezoid(i[:51], v[:51])) for v, i in zip(volts, currents, strict=True)]
    assert lobes[2] < 0.2 * lobes[1]
    assert loops["frequencies"].tolist() == list(FREQUENCIES)
    assert loops["amplitudes"].tolist() == list(AMPLITUDES)


def test_below_the_thresholds_a_loop_is_a_line(measure):
    plan = LOOPS.replace(amplitudes=(0.29,), frequencies=(1e3,))
    found = measure(plan, TileSpec(rows=1, cols=1, cell=RAISED), (2e-5, 1e-3))
    assert np.ptp(found["loop_states"]) < 1e-9
    np.testing.assert_allclose(found["loop_currents"], 2e-5 * found["loop_voltages"], atol=1e-5 * 2e-5)


def test_loops_of_a_cell_without_a_state_are_refused():
    with pytest.raises(ConfigError, match="no state that moves"):
        LOOPS.make_points(TileSpec(rows=1, cols=1, cell=Sinh()), SPAN, 0)
    with pytest.raises(ConfigError, match="loops need both"):
        IvPlan(frequencies=(1e3,))


def test_conductances_that_the_device_does_not_have_are_refused(measure):
    """R_off is 100 kohm: no state shows 1 uS. One beyond the end (x = 10) would move backwards."""
    with pytest.raises(InputError):
        measure(IvPlan(cells=2), TileSpec(rows=1, cols=1, cell=RAISED), (1e-6, 1e-3))
