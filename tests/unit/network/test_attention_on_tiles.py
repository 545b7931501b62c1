"""A network whose attention is on tiles: conversion, calibration, evaluation, audit, injection, compensation."""

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, AnalogProduct, Dac, Hardware, MatrixProduct
from mdls_cosim.devices.variability import Drift, ProgrammingError, Variability
from mdls_cosim.errors import ConfigError
from mdls_cosim.fidelity import IdealTile, NodalTile
from mdls_cosim.network import (
    analog_layers,
    audit,
    calibrate_columns,
    compensate_drift,
    convert,
    evaluate,
    on_rung,
)
from mdls_cosim.network.injection import injected

PRODUCTS = ("block.self_attn.scores", "block.self_attn.mixture")


class Transformer(nn.Module):
    """Rows of an image as tokens, one encoder layer, the mean, a linear layer."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, images):
        return self.head(self.block(images[:, 0]).mean(1))


@pytest.fixture
def transformer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Transformer().eval()


@pytest.fixture
def hardware(wired):
    return Hardware(tile=wired, dac=Dac(bits=6), adc=Adc(bits=8), attention="tiles")


def test_conversion_puts_products_on_tiles_and_says_so(transformer, images, hardware):
    model, report = convert(transformer, hardware, calibration=images)
    assert [layer.name for layer in report.converted if layer.kind == "AnalogProduct"] == list(PRODUCTS)
    assert "AnalogProduct" in str(report)
    assert all(layer.calibrated for layer in analog_layers(model).values())
    model, report = convert(transformer, hardware.replace(attention="digital"))
    assert {layer.name: layer.reason for layer in report.skipped if layer.kind == "MatrixProduct"} == dict.fromkeys(
        PRODUCTS, "attention='digital'"
    )
    rules = {"*.mixture": None, "block.self_attn": {"scaling": "column"}}
    model, report = convert(transformer, hardware, rules)
    assert {layer.name: layer.reason for layer in report.skipped if layer.kind == "MatrixProduct"} == {
        PRODUCTS[1]: "by rule '*.mixture'"
    }
    assert isinstance(model.get_submodule(PRODUCTS[1]), MatrixProduct)
    assert analog_layers(model)[PRODUCTS[0]].hardware.scaling == "column"
    model, _ = convert(transformer, hardware.replace(attention="digital"), {"*.scores": {"attention": "tiles"}})
    assert [name for name, each in analog_layers(model).items() if isinstance(each, AnalogProduct)] == [PRODUCTS[0]]
    with pytest.raises(ConfigError, match="network"):
        convert(transformer, hardware.replace(scaling="network"))
    rules = {pattern: {"scaling": "layer"} for pattern in ("*.scores", "*.mixture")}
    convert(transformer, hardware.replace(scaling="network"), rules)


def test_runs_follow_from_the_seed(transformer, images, hardware):
    noisy = hardware.replace(variability=Variability(effects=(ProgrammingError(relative=0.3),)))
    rules = {"block.linear*": None, "head": None, "*_proj": None}  # nothing else is random
    model, _ = convert(transformer, noisy, rules, calibration=images)
    first, again = (evaluate(model, images, runs=3, seed=1, batch_size=32) for _ in range(2))
    assert first.runs == again.runs
    assert first.std > 0
    assert not first.unread
    outputs = []
    for seed in (1, 1, 2):
        for name, layer in analog_layers(model).items():
            layer.program(seed + len(name))
        with torch.no_grad():
            outputs.append(model(images[0]))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2], rtol=1e-3)


def test_another_rung_is_the_same_chip(transformer, images, hardware):
    model, _ = convert(transformer, hardware, calibration=images)
    with torch.no_grad():
        torch.testing.assert_close(on_rung(model, "nodal")(images[0]), model(images[0]), rtol=1e-3, atol=1e-3)
        assert not torch.allclose(on_rung(model, "ideal")(images[0]), model(images[0]), rtol=1e-2, atol=1e-2)


def test_audit_and_injection_take_batches_of_any_size(transformer, images, hardware):
    model, _ = convert(transformer, hardware.replace(rung="ideal"), calibration=images)
    report = audit(model, images, samples=7, reference=NodalTile, injections=1)
    found = {layer.name: layer for layer in report.layers}
    for name in PRODUCTS:
        assert 0.001 < found[name].error.rms < 0.5
        # Seven images of two heads; 6 tokens on 6 columns, 3 or 6 inputs on ten rows.
        assert found[name].tiles == found[name].tiles_of == 14
    assert found[PRODUCTS[0]].currents == 2 * 14 * 7 * 6
    report = audit(model, images, samples=4, tiles=2, reference=IdealTile, injections=1)
    assert report.rms < 1e-6
    assert report.accuracy.changed == 0
    with injected(model, report.residuals), torch.no_grad():
        for count in (1, 4, 9):
            assert model(images[0][:count]).shape == (count, 3)
    exact, _ = convert(transformer, hardware.replace(rung="nodal"), calibration=images)
    assert audit(exact, images, samples=3, reference=NodalTile, injections=0).rms < 1e-6


def test_compensation_leaves_products_as_they_are(transformer, images, hardware):
    drifting = hardware.replace(variability=Variability(effects=(Drift(exponent=0.1),)))
    model, _ = convert(transformer, drifting, calibration=images)
    later = model.at(time="1 day")
    others = [name for name in analog_layers(model) if name not in PRODUCTS]
    assert list(calibrate_columns(later, images)) == others
    assert list(compensate_drift(later)) == others
