"""The same chip on another rung."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.network import analog_layers, convert, on_rung
from mdls_cosim.tiles import TileSpec

SPEC = TileSpec(rows=8, cols=8, cell=Ohmic(), row_line_resistance=5.0, column_line_resistance=5.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    hardware = Hardware(
        tile=SPEC,
        rung="ideal",
        states=6,
        dac=Dac(bits=5),
        adc=Adc(bits=5),
        variability=Variability(effects=(ProgrammingError(relative=0.02),)),
    )
    converted, _ = convert(nn.Sequential(nn.Linear(12, 10)), hardware, calibration=torch.rand(64, 12))
    return converted


def test_chip_and_converter_ranges_stay(model):
    moved = on_rung(model, "surrogate")
    before, after = analog_layers(model)["0"], analog_layers(moved)["0"]
    assert torch.equal(before.conductances, after.conductances)
    assert before.adc_step == after.adc_step
    assert (before.hardware.rung, after.hardware.rung) == ("ideal", "surrogate")


def test_only_the_physics_of_the_tiles_differs(model):
    inputs = torch.rand(16, 12)
    ideal, exact, nodal = model(inputs), on_rung(model, "surrogate")(inputs), on_rung(model, "nodal")(inputs)
    assert torch.equal(exact, nodal)  # of ohmic tiles both are the exact matrix
    assert not torch.equal(ideal, exact)
    without_wires = on_rung(model, "nodal", SPEC.replace(row_line_resistance=0.0, column_line_resistance=0.0))
    # To one code: a sum in another order may round the other way.
    step = float((without_wires(inputs) - ideal).detach().abs().max())
    assert step <= 1.001 * _output_step(model)


def test_the_original_stays(model):
    inputs = torch.rand(4, 12)
    before = model(inputs)
    on_rung(model, "nodal")
    assert torch.equal(model(inputs), before)


def test_a_tile_of_another_size_is_refused(model):
    with pytest.raises(InputError, match="8x9"):
        on_rung(model, "nodal", SPEC.replace(cols=9))


def test_a_rung_that_cannot_compute_the_tile_is_refused(model):
    with pytest.raises(ConfigError, match="Sinh"):
        on_rung(model, "surrogate", SPEC.replace(cell=Sinh()))


def _output_step(model) -> float:
    """One ADC code in units of the output."""
    layer = analog_layers(model)["0"]
    hardware = layer.hardware
    low, high = hardware.conductance_range
    scale = float(layer.weight_scale[0, 0, 0])  # the same for all outputs
    return float(layer.adc_step * layer.input_peak / hardware.read_voltage * scale / (high - low))
