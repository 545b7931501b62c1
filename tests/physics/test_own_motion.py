"""The device's own motion after the programming, against scipy's solution of its rate equation."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from mdls_cosim.analog import AnalogLinear, Hardware, Moment
from mdls_cosim.devices import DynamicDevice, JartVcm, LinearIonDrift, MetastableSwitch, Ohmic, Vteam
from mdls_cosim.devices.lifetime import KEEPS, lifetime, lifetime_warnings, lifetimes
from mdls_cosim.devices.variability import (
    Cells,
    CycleToCycle,
    DeviceToDevice,
    Lognormal,
    OwnRetention,
    ReadDisturb,
    Stuck,
    Variability,
)
from mdls_cosim.errors import ConfigError
from mdls_cosim.tiles import TileSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*beyond the measurements:mdls_cosim.errors.DomainWarning")
FORGETFUL = MetastableSwitch(parameters="knowm_sdc_m1_5k")


def by_scipy(
    device: DynamicDevice, conductance: float, voltage: float, duration: float, kelvin: float = 300.0
) -> float:
    """The conductance after `duration` at constant voltage, to a tolerance of 1e-9."""

    def rate(_time: float, state: np.ndarray) -> np.ndarray:
        return device.state_rate(np.full(1, voltage), np.clip(state, 0.0, 1.0), kelvin)

    start = np.atleast_1d(device.state_for(np.asarray(conductance)))
    found = solve_ivp(rate, (0.0, duration), start, method="LSODA", rtol=1e-9, atol=1e-12)
    assert found.success
    return float(device.conductance(np.clip(found.y[:, -1], 0.0, 1.0))[0])


def cells_between(device: DynamicDevice, count: int = 7) -> np.ndarray:
    low, high = device.conductance_range()
    return np.linspace(low + 0.02 * (high - low), high - 0.02 * (high - low), count)


@pytest.mark.parametrize("duration", [1e-5, 3e-3, 2.0])
@pytest.mark.parametrize("kelvin", [300.0, 340.0])
def test_retention_at_rest(duration: float, kelvin: float):
    cells = cells_between(FORGETFUL)
    span = FORGETFUL.conductance_range()
    kept = Variability(effects=(OwnRetention(),)).at(cells, span, 1, duration, kelvin, cells=Cells(FORGETFUL))
    expected = [by_scipy(FORGETFUL, cell, 0.0, duration, kelvin) for cell in cells]
    np.testing.assert_allclose(kept.conductances, expected, rtol=2e-6)


@pytest.mark.parametrize(
    ("device", "voltage", "reads"),
    [
        (FORGETFUL, 0.2, 300.0),
        (FORGETFUL, -0.2, 20.0),
        (LinearIonDrift(), 0.3, 3e4),
        (JartVcm(), -0.45, 1e3),
        (Vteam(), 1.0, 50.0),
    ],
    ids=lambda each: getattr(each, "spice_model", str(each)),
)
def test_reads_disturb(device: DynamicDevice, voltage: float, reads: float):
    cells = cells_between(device, 3)
    effect = ReadDisturb(reads=reads, read_time=1e-6, voltage=voltage)
    found = Variability(effects=(effect,)).at(cells, device.conductance_range(), 1, cells=Cells(device))
    expected = [by_scipy(device, cell, voltage, reads * 1e-6) for cell in cells]
    np.testing.assert_allclose(found.conductances, expected, rtol=1e-5)
    assert not np.allclose(found.conductances, cells, rtol=1e-3)


def test_spreads_act_on_the_motion():
    """Each cell moves by its own time constant, from its own conductance, at its own speed."""
    effects = (
        OwnRetention(),
        DeviceToDevice(parameter="time_constant", distribution=Lognormal(sigma=0.7)),
        DeviceToDevice(parameter="on_resistance", distribution=Lognormal(sigma=0.3)),
        CycleToCycle(distribution=Lognormal(sigma=0.5)),
    )
    spread, where = Variability(effects=effects), Cells(FORGETFUL)
    targets, span = torch.as_tensor(cells_between(FORGETFUL)), FORGETFUL.conductance_range()
    written = spread.programmed(targets, span, 3, cells=where).conductances
    found = spread.at(written, span, 3, 3e-3, cells=where).conductances
    own, speed = spread.parameters(FORGETFUL, (7,), 3), spread.factors((7,), 3)
    for place in range(7):
        mine = FORGETFUL.replace(**{name: float(values[place]) for name, values in own.items()})
        state = FORGETFUL.state_for(targets[place].numpy())
        assert float(written[place]) == pytest.approx(float(mine.conductance(state)), rel=1e-9)
        expected = by_scipy(mine, float(written[place]), 0.0, 3e-3 * speed[place])
        assert float(found[place]) == pytest.approx(expected, rel=1e-5)


def test_reversed_devices_are_disturbed_by_the_other_sign():
    cells, turned = cells_between(FORGETFUL), FORGETFUL.replace(reversed=True)
    span = FORGETFUL.conductance_range()

    def after(device: DynamicDevice, voltage: float) -> np.ndarray:
        effects = (ReadDisturb(reads=50.0, read_time=1e-6, voltage=voltage),)
        return Variability(effects=effects).at(cells, span, 1, cells=Cells(device)).conductances

    np.testing.assert_allclose(after(turned, -0.2), after(FORGETFUL, 0.2), rtol=1e-9)
    assert not np.allclose(after(turned, 0.2), after(FORGETFUL, 0.2), rtol=1e-3)


def test_stuck_cells_do_not_move():
    where, span = Cells(FORGETFUL), FORGETFUL.conductance_range()
    chip = Variability(effects=(Stuck(on=0.5), OwnRetention()))
    written = chip.programmed(np.full((40,), 1e-4), span, 2, cells=where).conductances
    later = chip.at(written, span, 2, 1.0, cells=where).conductances
    stuck = written == span[1]
    assert 5 < stuck.sum() < 35
    np.testing.assert_array_equal(later[stuck], span[1])
    assert np.all(later[~stuck] != written[~stuck])


def test_nothing_moves_in_no_time():
    where, span = Cells(FORGETFUL), FORGETFUL.conductance_range()
    cells = cells_between(FORGETFUL)
    for effect in (OwnRetention(), ReadDisturb(reads=0.0, read_time=1e-6)):
        np.testing.assert_array_equal(
            Variability(effects=(effect,)).at(cells, span, 1, cells=where).conductances, cells
        )


def test_it_needs_a_device_that_moves():
    for cells in (None, Cells(Ohmic())):
        with pytest.raises(ConfigError, match="own_retention"):
            Variability(effects=(OwnRetention(),)).at(np.array([1e-5]), (1e-6, 1e-4), 1, 1.0, cells=cells)


@pytest.mark.parametrize("rung", ["ideal", "nodal"])
def test_a_layer_forgets(rung: str):
    span = FORGETFUL.conductance_range()
    inside = (1.5 * span[0], 0.9 * span[1])
    spec = TileSpec(rows=4, cols=4, cell=FORGETFUL)
    given = Hardware(tile=spec, rung=rung, conductance_range=inside, variability=Variability(effects=(OwnRetention(),)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layer = AnalogLinear(4, 2, bias=False, hardware=given, dtype=torch.float64)
    cells = layer.conductances.flatten().tolist()[::7]
    for time, kelvin in ((1e-3, None), (10.0, 330.0)):
        layer.read_at(Moment(time, kelvin))
        expected = [by_scipy(FORGETFUL, cell, 0.0, time, kelvin or 300.0) for cell in cells]
        np.testing.assert_allclose(layer.present_conductances().flatten().numpy()[::7], expected, rtol=1e-5)
    # After ten seconds all cells are alike: the pairs subtract to nothing.
    assert float(layer(torch.ones(1, 4, dtype=torch.float64)).abs().max()) < 1e-6


class TestLifetimes:
    @pytest.mark.parametrize("voltage", [0.0, 0.2, -0.2])
    def test_the_fastest_tenth_of_the_range(self, voltage: float):
        found = lifetime(FORGETFUL, voltage)
        assert found is not None

        def rate(_time: float, state: np.ndarray) -> np.ndarray:
            return FORGETFUL.state_rate(np.full(1, voltage), state)

        # From the state that it names, and from others, by scipy.
        arrivals = []
        for start in (found.start, 0.0, 0.3, 0.5, 0.7, 1.0):

            def reached(_time, state, start=start):
                return abs(state[0] - start) - 0.1

            reached.terminal = True
            run = solve_ivp(rate, (0.0, 50 * found.seconds), [start], rtol=1e-9, atol=1e-12, events=reached)
            arrivals.append(run.t_events[0][0] if len(run.t_events[0]) else np.inf)
        assert found.seconds == pytest.approx(arrivals[0], rel=1e-3)
        assert min(arrivals) >= found.seconds * (1 - 1e-3)

    def test_known_sets(self):
        held = lifetime(MetastableSwitch(parameters="knowm_sdc_m1_47k"), -0.2)
        assert held is not None
        assert held.seconds == pytest.approx(0.6e-6, rel=0.1)
        assert held.short
        at_rest = lifetime(Vteam(), 0.0)
        assert at_rest is not None
        assert at_rest.seconds == np.inf
        assert not at_rest.short
        assert "no state moves by 10 %" in str(at_rest)

    def test_without_a_rate_equation_there_is_none(self):
        assert lifetime(Ohmic(), 0.0) is None
        assert lifetimes(Ohmic(), 0.2) == []
        assert lifetimes(None, 0.2) == []

    def test_only_short_ones_are_warned_of(self):
        told = lifetime_warnings(lifetimes(FORGETFUL, 0.2))
        assert len(told) == 2
        assert "forgets" in told[0]
        assert "own_retention" in told[0]
        assert "-200 mV" in told[1]
        assert "read_disturb" in told[1]
        assert lifetime_warnings(lifetimes(Vteam(), 0.1)) == []

    def test_heat_shortens_them(self):
        cold, hot = (lifetime(JartVcm(), 0.2, kelvin) for kelvin in (300.0, 500.0))
        assert cold is not None
        assert hot is not None
        assert hot.seconds < 1e-3 * cold.seconds
        assert cold.seconds < KEEPS
