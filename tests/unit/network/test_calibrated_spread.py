"""From loops of several devices to a network: the calibrated spread between devices changes the outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mdls_cosim.analog import Hardware
from mdls_cosim.calibrate import Loop
from mdls_cosim.calibrate.statistics import calibrate_devices
from mdls_cosim.devices import LinearIonDrift, evolve
from mdls_cosim.network import convert
from mdls_cosim.tiles import TileSpec


# A drawn device may lie beyond the three that were measured, which is warned of.
@pytest.mark.filterwarnings("ignore::mdls_cosim.errors.DomainWarning")
def test_a_network_draws_from_the_spread_of_measured_devices(tmp_path: Path):
    times = np.arange(50) / 250
    volts = 1.6 * np.sin(10 * np.pi * times)
    devices = {}
    for number, off in enumerate((10e3, 16e3, 25e3)):
        device = LinearIonDrift(on_resistance=1e3, off_resistance=off, mobility=1e-14)
        currents = device.current(volts, evolve(device, np.asarray(0.1), times, volts))
        currents = currents + 0.003 * np.ptp(currents) * np.random.default_rng(number).normal(size=50)
        devices[str(number)] = [Loop(str(number), times, volts, currents)]
    found = calibrate_devices(devices, "linear_ion_drift", candidates=64)
    path = tmp_path / "mine.toml"
    found.save(path)
    kinds = {(each.effect, getattr(each, "parameter", "")) for each in found.variability.effects}  # pyright: ignore[reportOptionalMemberAccess]
    assert ("device_to_device", "off_resistance") in kinds
    cell = {"model": "linear_ion_drift", "parameters": str(path)}
    table = {"tile": {"rows": 6, "cols": 6, "cell": cell}, "variability": {"parameters": str(path)}}
    model = nn.Sequential(nn.Linear(8, 3)).eval()
    given = Hardware.from_text_dict({**table, "tile": TileSpec.from_text_dict(table["tile"])})
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    outputs = [convert(model, given, seed=seed)[0](inputs) for seed in (0, 1, 0)]
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.allclose(outputs[0], outputs[1], rtol=1e-3)
