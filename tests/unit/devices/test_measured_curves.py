"""Cells known by their curves: between the points, beyond them, and curves that are refused."""

import numpy as np
import pytest
import torch

from mdls_cosim.devices import MeasuredCurves, Sinh
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import TileSpec

SPAN = (2e-6, 1e-4)
VOLTAGES = np.linspace(-0.5, 0.5, 41)
CONDUCTANCES = np.linspace(*SPAN, 7)


def filament(voltage, conductance):
    """A barrier that bends more the less it conducts, and more under negative voltages; G is I/V at 0 V."""
    bend = 6 - 2e4 * conductance
    return conductance * (np.sinh(bend * voltage) / bend) * (1 - 0.3 * np.tanh(voltage))


def curves(law=filament, voltages=VOLTAGES, conductances=CONDUCTANCES) -> MeasuredCurves:
    currents = law(voltages, conductances[:, None])
    return MeasuredCurves(
        conductances=tuple(conductances), voltages=tuple(voltages), currents=tuple(map(tuple, currents))
    )


def test_between_the_points():
    generator = np.random.default_rng(0)
    voltages, conductances = generator.uniform(-0.5, 0.5, (40, 25)), generator.uniform(*SPAN, 25)
    device = curves()
    found, true = device.current(voltages, conductances), filament(voltages, conductances)
    # Between the lowest two curves, which are ninefold apart.
    np.testing.assert_allclose(found, true, rtol=2e-2)
    assert np.sqrt(np.mean((found - true) ** 2) / np.mean(true**2)) < 1e-3
    apart = conductances > CONDUCTANCES[1]
    np.testing.assert_allclose(found[:, apart], true[:, apart], rtol=1e-3)
    same = device.current(torch.as_tensor(voltages), torch.as_tensor(conductances))
    np.testing.assert_allclose(same.numpy(), found, rtol=1e-12)
    np.testing.assert_allclose(
        device.current(VOLTAGES, CONDUCTANCES[2]), filament(VOLTAGES, CONDUCTANCES[2]), rtol=1e-9
    )


@pytest.mark.parametrize("count", [2, 3])
def test_few_curves(count):
    conductances = np.linspace(*SPAN, count)
    device = curves(lambda v, g: g * np.sinh(4 * v) / 4, conductances=conductances)
    found = device.current(np.array([0.33, -0.21]), np.array([5e-5, 3e-6]))
    np.testing.assert_allclose(
        found, Sinh(nonlinearity=4.0).current(np.array([0.33, -0.21]), np.array([5e-5, 3e-6])), rtol=1e-5
    )


def test_beyond_the_points_it_rises_on():
    device = curves()
    voltages = np.linspace(-1.5, 1.5, 601)
    assert (np.diff(device.current(voltages, 3e-5)) > 0).all()
    assert device.current(0.0, 3e-5) == 0
    inside, edge, outside = device.current(np.array([0.49999, 0.5, 0.50001]), 3e-5)
    assert outside - edge == pytest.approx(edge - inside, rel=2e-3)
    saturating = curves(lambda v, g: g * 0.2 * np.tanh(v / 0.2))
    assert (np.diff(saturating.current(voltages, 3e-5)) > 0).all()


def test_derivatives():
    voltages = torch.tensor([0.31, -0.44, 0.05, 0.7], dtype=torch.float64, requires_grad=True)
    states = torch.tensor([3.0, 40.0, 99.0, 17.0], dtype=torch.float64, requires_grad=True)
    device = curves()
    assert torch.autograd.gradcheck(lambda v, g: 1e6 * device.current(v, 1e-6 * g), (voltages, states))


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (lambda v, g: g * np.sin(5 * v), "falls with the voltage"),
        (lambda v, g: -g * v, "against their voltage"),
        (lambda v, g: g * (v + 0.1), "against their voltage"),
    ],
    ids=["falling", "reversed", "offset"],
)
def test_curves_of_no_cell_are_refused(law, message):
    with pytest.raises(ConfigError, match=message):
        curves(law)


def test_points_that_do_not_rise_are_refused():
    with pytest.raises(ConfigError, match=r"conductances.*each above"):
        curves(conductances=CONDUCTANCES[::-1])


def test_a_tile_of_sinh_curves_is_a_sinh_tile():
    wires = {
        "row_line_resistance": 20.0,
        "column_line_resistance": 30.0,
        "driver_resistance": 9.0,
        "sense_resistance": 8.0,
    }
    spec = TileSpec(rows=5, cols=4, cell=curves(lambda v, g: g * np.sinh(5 * v) / 5), **wires)
    generator = torch.Generator().manual_seed(2)
    conductances = 2e-6 + 9e-5 * torch.rand(5, 4, dtype=torch.float64, generator=generator)
    voltages = 0.8 * torch.rand(6, 5, dtype=torch.float64, generator=generator) - 0.4
    found = NodalTile(spec).program(conductances)(voltages)
    true = NodalTile(spec.replace(cell=Sinh(nonlinearity=5.0))).program(conductances)(voltages)
    torch.testing.assert_close(found, true, rtol=0, atol=2e-6 * float(true.abs().max()))
    with pytest.raises(InputError, match="no state of measured_curves"):
        NodalTile(spec).program(torch.full((5, 4), 1e-3, dtype=torch.float64))
    with pytest.raises(NotAvailable, match="no SPICE circuit"):
        SpiceTile(spec).deck(conductances, voltages)
    assert TileSpec(**spec.as_dict()) == spec
