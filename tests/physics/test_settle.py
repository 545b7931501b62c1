"""Settling against the matrix exponential of state spaces written here, Elmore's delay, and a single pole."""

from itertools import pairwise

import numpy as np
import pytest
from network import GROUND, Network, crossbar

from mdls_cosim.characterize.settle import SettlePlan, SettlePoint
from mdls_cosim.devices import Sinh
from mdls_cosim.errors import ConfigError
from mdls_cosim.tiles import TileSpec, TransimpedanceAmplifier

pytestmark = pytest.mark.ngspice

RISE = 1e-13


def settled(times: np.ndarray, miss: np.ndarray, band: float) -> float:
    """The last time outside the band, interpolated."""
    outside = np.flatnonzero(miss > band)
    if not len(outside):
        return 0.0
    k = outside[-1]
    return float(times[k] + (times[k + 1] - times[k]) * (miss[k] - band) / (miss[k] - miss[k + 1]))


def capacitors(network: Network, spec: TileSpec) -> None:
    for i in range(spec.rows):
        for j in range(spec.cols):
            for one, other, farad in (
                (("u", i, j), GROUND, spec.row_line_capacitance),
                (("v", i, j), GROUND, spec.column_line_capacitance),
                (("u", i, j), ("v", i, j), spec.cell_capacitance),
            ):
                if farad:
                    network.capacitor(one, other, farad)


def state_space(spec: TileSpec, conductances: np.ndarray, voltages: np.ndarray) -> Network:
    network = Network()
    for i, volts in enumerate(voltages):
        network.hold(("row", i), float(volts))
    for j in range(spec.cols):
        network.hold(("col", j), 0.0)
    crossbar(
        network,
        spec.rows,
        spec.cols,
        lambda i, j, u, v: network.conductor(u, v, float(conductances[i, j])),
        row_line=spec.row_line_resistance,
        column_line=spec.column_line_resistance,
        driver=spec.driver_resistance,
        sense=spec.sense_resistance,
        double=spec.drive == "double",
    )
    capacitors(network, spec)
    return network


# --- one line ---------------------------------------------------------------------------------------------------

LINE = TileSpec(rows=1, cols=5, row_line_resistance=800.0, driver_resistance=2e3, row_line_capacitance=3e-15)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_line_is_an_rc_ladder(bits, engine):
    """Ideal columns; cells of 1 nS do not load it. Outputs are G u_j(t)."""
    found = SettlePoint("", LINE, bits, RISE, np.full((1, 5), 1e-9), np.array([[0.3]])).solve(engine)
    network = state_space(LINE, np.full((1, 5), 1e-9), np.array([0.3]))
    times = np.linspace(0, 1.2 * found["settling_time"].max(), 3000)
    along = network.step_response(times, [("u", 0, j) for j in range(5)]) * 1e-9
    final = found["final_currents"][0]
    np.testing.assert_allclose(final, 3e-10, rtol=1e-4)
    expected = [settled(times, np.abs(along[:, j] - final[j]), 3e-10 / 2 ** (bits + 1)) for j in range(5)]
    np.testing.assert_allclose(found["settling_time"][0], expected, rtol=4e-3)
    assert np.all(np.diff(found["settling_time"][0]) > 0)


def test_elmores_delay(engine):
    """The area above the step response of the far end is the sum of R_k C_k: each capacitor's charge through it."""
    found = SettlePoint("", LINE, 14, RISE, np.full((1, 5), 1e-9), np.array([[0.3]])).solve(engine)
    times, wave = found["waveform_times"][0], found["waveforms"][0]
    area = np.trapezoid(1 - wave / wave[-1], times)
    elmore = sum((2e3 + 800.0 * k) * 3e-15 for k in range(5))
    assert area == pytest.approx(elmore, rel=5e-3, abs=0)


def test_time_grows_as_the_square_of_the_line(engine):
    """N segments: N times the resistance of N times the capacitance."""
    times = []
    for cols in (4, 8, 16):
        tile = LINE.replace(cols=cols, driver_resistance=0.0)
        point = SettlePoint("", tile, 6, RISE, np.full((1, cols), 1e-9), np.array([[0.3]]))
        times.append(point.solve(engine)["settling_time"].max())
    # N - 1 segments and N - 1 free nodes, of N (N - 1)/2 each.
    ratio = [later / earlier for earlier, later in pairwise(times)]
    assert ratio[0] == pytest.approx(8 * 7 / (4 * 3), rel=0.1, abs=0)
    assert ratio[1] == pytest.approx(16 * 15 / (8 * 7), rel=0.1, abs=0)


# --- tiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drive", ["single", "double"])
@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (3, 1)], ids=str)
def test_small_tiles_are_linear_state_spaces(shape, drive, engine):
    spec = TileSpec(
        rows=shape[0],
        cols=shape[1],
        row_line_resistance=300.0,
        column_line_resistance=500.0,
        driver_resistance=1e3,
        sense_resistance=700.0,
        row_line_capacitance=2e-15,
        column_line_capacitance=3e-15,
        cell_capacitance=0.5e-15,
        drive=drive,
    )
    generator = np.random.default_rng([*shape])
    conductances = generator.uniform(1e-5, 3e-4, shape)
    voltages = generator.uniform(-0.3, 0.3, (2, shape[0]))
    found = SettlePoint("", spec, 6, RISE, conductances, voltages).solve(engine)
    ends = [("v", shape[0] - 1, j) for j in range(shape[1])]
    networks = [state_space(spec, conductances, each) for each in voltages]
    finals = np.array([[network.solve().voltage(end) / 700.0 for end in ends] for network in networks])
    np.testing.assert_allclose(found["final_currents"], finals, rtol=1e-8)
    band = np.abs(finals).max() / 2**7
    for vector, network in enumerate(networks):
        times = np.linspace(0, 1.3 * found["settling_time"].max(), 1500)
        currents = network.step_response(times, ends) / 700.0
        expected = [settled(times, np.abs(currents[:, j] - finals[vector, j]), band) for j in range(shape[1])]
        np.testing.assert_allclose(found["settling_time"][vector], expected, rtol=5e-3, atol=2 * RISE)
        slowest = int(np.argmax(expected))
        shown = found["waveform_times"][vector]
        wave = network.step_response(shown, ends)[:, slowest] / 700.0
        late = shown > 10 * RISE
        np.testing.assert_allclose(
            found["waveforms"][vector][late], wave[late], atol=2e-3 * np.abs(finals).max() + 3 * RISE * 1e8
        )


def test_an_output_within_the_band_from_the_start_takes_no_time(engine):
    tile = TileSpec(rows=1, cols=2, driver_resistance=1e3, row_line_capacitance=1e-15)
    found = SettlePoint("", tile, 4, RISE, np.array([[1e-4, 1e-8]]), np.array([[0.3]])).solve(engine)
    assert found["settling_time"][0, 1] == 0
    tau = 2e-15 / (1e-3 + 1e-4)
    final = 0.3 * 1e-4 / 1.1
    assert found["final_currents"][0, 0] == pytest.approx(final, rel=1e-4, abs=0)
    assert found["settling_time"][0, 0] == pytest.approx(tau * np.log(32) + RISE / 2, rel=3e-3, abs=0)


def test_the_band_is_of_the_largest_current_of_the_tile(engine):
    """A small input settles earlier: its band is that of the full scale."""
    tile = TileSpec(rows=1, cols=1, driver_resistance=1e3, row_line_capacitance=1e-15)
    voltages = np.array([[0.3], [0.03], [-0.3], [0.0]])
    found = SettlePoint("", tile, 6, RISE, np.array([[1e-6]]), voltages).solve(engine)["settling_time"][:, 0]
    tau = 1e-15 / (1e-3 + 1e-6)
    np.testing.assert_allclose(found[[0, 2]], tau * np.log(128) + RISE / 2, rtol=3e-3)
    assert found[1] == pytest.approx(tau * np.log(12.8) + RISE / 2, rel=3e-3, abs=0)
    assert found[3] == 0


def test_a_slow_line_is_waited_for(engine):
    """Driver and wires are ideal; the column charges through the cell alone, which no estimate of wires knows."""
    tile = TileSpec(rows=1, cols=1, sense_resistance=1e6, column_line_capacitance=1e-12)
    found = SettlePoint("", tile, 6, 1e-11, np.array([[1e-8]]), np.array([[0.3]])).solve(engine)
    tau = 1e-12 / (1e-6 + 1e-8)
    assert found["settling_time"][0, 0] == pytest.approx(tau * np.log(128), rel=3e-3, abs=0)


def test_steep_cells_settle_to_their_operating_point(measure):
    tile = TileSpec(
        rows=3,
        cols=2,
        cell=Sinh(nonlinearity=6.0),
        driver_resistance=1e3,
        sense_resistance=500.0,
        row_line_capacitance=1e-15,
        column_line_capacitance=1e-15,
    )
    found = measure(SettlePlan(rise=1e-12), tile)
    assert found["settling_time"].shape == (1, 4, 2)
    last = found["waveforms"][0, :, -1]
    slowest = found["settling_time"][0].argmax(axis=1)
    expected = found["final_currents"][0, np.arange(4), slowest]
    band = np.abs(found["final_currents"]).max() / 2**7
    assert np.all(np.abs(last - expected) < band)


@pytest.mark.parametrize("gain", [20.0, 1e4])
def test_an_amplifier_is_a_single_pole(gain, engine):
    """v_out = -A(s) v_in, A(s) = A/(1 + s A/(2 pi GBW)); node: G (V - v_in) = (v_in - v_out)/R_f."""
    amplifier = TransimpedanceAmplifier(feedback_resistance=1e4, gain=gain, gain_bandwidth=1e8)
    tile = TileSpec(rows=1, cols=1, amplifier=amplifier, row_line_capacitance=1e-15)
    found = SettlePoint("", tile, 6, 1e-11, np.array([[5e-5]]), np.array([[0.3]])).solve(engine)
    load = 5e-5 * 1e4
    tau = gain / (2 * np.pi * 1e8) * (1 + load) / (1 + load + gain)
    assert found["final_currents"][0, 0] == pytest.approx(0.3 * 5e-5 * gain / (1 + load + gain), rel=1e-6, abs=0)
    assert found["settling_time"][0, 0] == pytest.approx(tau * np.log(128), rel=5e-3, abs=0)


def test_a_tile_without_capacitance_is_refused():
    with pytest.raises(ConfigError, match="without capacitance"):
        SettlePlan().make_points(TileSpec(rows=1, cols=1), (1e-6, 1e-4), 0)
