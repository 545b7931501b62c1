"""Selectors with hysteresis in time: they snap at their threshold and let go at their hold voltage."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import brentq

from mdls_cosim.characterize.energy import EnergyPoint
from mdls_cosim.characterize.settle import SettlePoint
from mdls_cosim.devices import ThresholdSelector
from mdls_cosim.spice import NgspiceEngine, Waves
from mdls_cosim.tiles import Ends, SelectorCell, TileSpec, tile_deck

pytestmark = pytest.mark.ngspice

SELECTOR = ThresholdSelector(threshold_voltage=0.5, hold_voltage=0.2, off_resistance=1e8, on_resistance=1e3)
CELL = SelectorCell(selector=SELECTOR)
CAPACITIES = {"row_line_capacitance": 1e-15, "column_line_capacitance": 1e-15}
ENDS = {"driver_resistance": 100.0, "sense_resistance": 100.0}
G = 1e-4


@pytest.fixture(scope="module")
def impatient() -> Iterator[NgspiceEngine]:
    """Gives up at once: what does not converge here goes on for minutes in the fall-backs."""
    with NgspiceEngine(deadline=10.0, fallbacks=False) as engine:
        yield engine


def on_current(volts: float) -> float:
    """The cell in series with the on-branch."""
    return brentq(lambda i: volts - i / G - float(middle(i)), 0, volts * G, xtol=1e-16)


def middle(current: float) -> float:
    """Voltage of the selector on its on-branch."""
    return brentq(lambda v: float(SELECTOR.current(np.array(v), np.array(1.0))) - current, 0, 5, xtol=1e-15)


def test_a_ramp_up_and_down_shows_the_hysteresis(impatient):
    """A triangle to 1 V in 1 us: off below 0.5 V, on until the selector falls to 0.2 V."""
    deck = tile_deck(TileSpec(rows=1, cols=1, cell=CELL), [[G]], transient=True, nodes=True)
    waves = Waves(np.array([0.0, 1e-6, 2e-6]), np.array([[0.0], [1.0], [0.0]]), longest_step=5e-9)
    result = impatient.transient(deck, waves)
    volts = np.interp([0.45e-6, 0.55e-6, 0.9e-6, 1.55e-6, 1.7e-6, 1.85e-6], waves.times, waves.values[:, 0])
    found = result.at([0.45e-6, 0.55e-6, 0.9e-6, 1.55e-6, 1.7e-6, 1.85e-6])[:, result.probes.index("i(vcol0)")]
    expected = [volts[0] * 1e-8, *(on_current(v) for v in volts[1:5]), volts[5] * 1e-8]
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_settling_of_a_selector_that_switches(impatient):
    tile = TileSpec(rows=1, cols=1, cell=CELL, **ENDS, **CAPACITIES)
    found = SettlePoint("", tile, 6, 1e-11, np.array([[G]]), np.array([[0.9]])).solve(impatient)
    assert found["final_currents"][0, 0] == pytest.approx(on_current(0.9), rel=5e-2, abs=0)
    assert 1e-9 < found["settling_time"][0, 0] < 1e-8  # its switching time of 1 ns


def test_energy_of_a_selector_that_switches(impatient):
    tile = TileSpec(rows=1, cols=1, cell=CELL, **ENDS, **CAPACITIES)
    point = EnergyPoint("", tile, np.array([[G]]), np.array([0.9]), Ends.of_read(tile), None, 100e-9)
    found = point.solve(impatient)
    assert abs(found["residual"]) <= 1e-6
    assert found["energy"] == pytest.approx(0.9 * on_current(0.9) * 100e-9, rel=0.1, abs=0)
