"""Conversion: rules, report, and the same function as the float model."""

import copy

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, AnalogConv2d, AnalogLinear, Dac, Hardware, ProgrammingError
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.network import analog_layers, calibrate, convert
from mdls_cosim.surrogates import HeldOutError, LinearSurrogate


def test_many_states_and_bits_reproduce_the_float_model(classifier, images, ohmic):
    hardware = Hardware(tile=ohmic, states=2**20, dac=Dac(bits=24), adc=Adc(bits=24))
    before = copy.deepcopy(classifier.state_dict())
    model, report = convert(classifier, hardware)
    expected = classifier(images[0]).detach()
    result = model(images[0])
    # The second call of the layer used twice reaches beyond the range of its first input: calibrate on both.
    calibrate(model, images[0])
    result = model(images[0])
    # Single precision, and cancellation of 2 x 99 uS against small weights, through five layers.
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert [layer.name for layer in report.converted] == ["features.0", "features.3", "hidden", "head"]
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert type(classifier.hidden) is nn.Linear


def test_surrogates_of_different_origin_in_one_network_are_told(classifier, ohmic):
    errors = {"p99": 0.01, "classes": {}, "bound": 0.02}
    first = LinearSurrogate(ohmic, parents=("sha256:a",), error=HeldOutError(rms=0.001, **errors))
    second = LinearSurrogate(ohmic.replace(sense_resistance=3.0), parents=("sha256:b",))
    hardware = Hardware(tile=first)
    _, report = convert(classifier, hardware)
    assert list(report.surrogates.values()) == [["features.0", "features.3", "hidden", "head"]]
    assert "different origin" not in str(report)
    _, report = convert(
        classifier, hardware, rules={"features.*": {"tile": second}, "head": {"rung": "nodal"}, "hidden": {"states": 4}}
    )
    assert list(report.surrogates.values()) == [["features.0", "features.3"], ["hidden"]]
    lines = str(report).splitlines()
    place = lines.index("2 surrogates of different origin")
    assert lines[place + 1] == f"  features.0, features.3: {second.provenance.content_hash} from sha256:b"
    assert lines[place + 2] == f"  hidden: {first.provenance.content_hash} from sha256:a, error 0.1 %"
    # What nothing was fitted for has no origin.
    assert not convert(classifier, Hardware(tile=ohmic))[1].surrogates


def test_shared_layers_stay_shared(classifier, ideal):
    model, report = convert(classifier, ideal)
    assert isinstance(model.hidden, AnalogLinear)
    assert model.again is model.hidden
    assert sum(layer.name in ("hidden", "again") for layer in report.converted) == 1


def test_first_matching_rule_counts(classifier, ideal):
    other = ideal.replace(rung="nodal")
    model, report = convert(
        classifier, ideal, rules={"features.0": other, "features.*": None, "again": {"states": 6}, "h*": {"states": 4}}
    )
    assert model.features[0].hardware is other
    assert type(model.features[3]) is nn.Conv2d
    assert model.hidden.hardware == ideal.replace(states=6)
    assert model.head.hardware == ideal.replace(states=4)
    reasons = {layer.name: layer.reason for layer in report.skipped}
    assert reasons["features.3"] == "by rule 'features.*'"
    assert "BatchNorm2d" in reasons["features.1"]
    assert set(reasons) == {"features.1", "features.3"}


def test_report_counts_cells_and_arrays(classifier, ohmic):
    hardware = Hardware(
        tile=ohmic, rung="nodal", weight_clip=1.0, programming_error=ProgrammingError(absolute=5e-6, maximum=90e-6)
    )
    model, report = convert(classifier, hardware, seed=2)
    first, second, hidden, _ = report.converted
    assert (first.kind, first.shape) == ("AnalogConv2d", (4, 1, 3, 3))
    assert (first.arrays, first.cells_used, first.cells) == (2, 2 * 36, 2 * 60)
    # Two groups of 18 inputs, 2 outputs: 2 row tiles each.
    assert (second.arrays, second.cells_used, second.cells) == (8, 2 * 72, 8 * 60)
    # 16 x 16: 2 row tiles, 3 column tiles.
    assert (hidden.arrays, hidden.cells_used, hidden.cells) == (12, 2 * 256, 12 * 60)
    weights = classifier.hidden.weight.detach().double()
    assert hidden.clipped_weights == int((weights.abs() > weights.square().mean().sqrt()).sum()) > 0
    assert hidden.clipped_conductances == int((model.hidden.conductances == 0).sum()) + int(
        (model.hidden.conductances == 90e-6).sum()
    )
    assert report.clipped == sum(layer.clipped_weights + layer.clipped_conductances for layer in report.converted)
    table = str(report)
    for word in ("features.3", "nodal", "512/720", "BatchNorm2d", "converted 4, skipped 1"):
        assert word in table
    assert report.as_dict()["converted"][2]["cells"] == 720


def test_same_seed_same_chip_on_every_rung(classifier, ideal):
    noisy = ideal.replace(programming_error=ProgrammingError(relative=0.1))
    one = analog_layers(convert(classifier, noisy, seed=1)[0])
    same = analog_layers(convert(classifier, noisy.replace(rung="nodal"), seed=1)[0])
    other = analog_layers(convert(classifier, noisy, seed=2)[0])
    for name, layer in one.items():
        assert torch.equal(layer.conductances, same[name].conductances)
        assert not torch.equal(layer.conductances, other[name].conductances)
    # Layers of one shape do not share their draws.
    twins = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    twins[1].load_state_dict(twins[0].state_dict())
    converted, _ = convert(twins, noisy)
    assert not torch.equal(converted[0].conductances, converted[1].conductances)


def test_pattern_without_a_layer_names_close_ones(classifier, ideal):
    with pytest.raises(ConfigError, match=r"matches no layer.*heed.*head"):
        convert(classifier, ideal, rules={"heed": None})
    with pytest.raises(ConfigError, match=r"feature\.\*.*features\.0"):
        convert(classifier, ideal, rules={"feature.*": None})


def test_wrong_rules_are_refused(classifier, ideal):
    with pytest.raises(ConfigError, match="stats"):
        convert(classifier, ideal, rules={"head": {"stats": 6}})
    with pytest.raises(InputError, match="head"):
        convert(classifier, ideal, rules={"head": 6})


def test_a_model_that_is_a_layer(ideal):
    digital = nn.Linear(4, 3)
    model, report = convert(digital, ideal)
    assert isinstance(model, AnalogLinear)
    assert report.converted[0].name == ""
    assert "(model)" in str(report)
    assert type(convert(digital, ideal, rules={"*": None})[0]) is nn.Linear


def test_what_cannot_be_converted_faithfully_stays_digital_and_says_why(ideal):
    class Doubled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.doubled = Doubled(3, 3)
            self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.hooked = nn.Linear(3, 3)
            self.hooked.register_forward_hook(lambda module, args, output: output + 1)
            self.embedding = nn.Embedding(3, 3)
            self.plain = nn.Linear(3, 3)
            self.analog = AnalogConv2d(1, 1, 1, hardware=ideal)

    model, report = convert(Model(), ideal)
    reasons = {layer.name: layer.reason for layer in report.skipped}
    assert "subclass" in reasons["doubled"]
    assert "without calling" in reasons["encoder.linear1"]
    assert "hooks" in reasons["hooked"]
    assert "Embedding" in reasons["embedding"]
    assert reasons["analog"] == "already analog"
    assert [layer.name for layer in report.converted] == ["plain"]
    assert type(model.encoder.linear1) is nn.Linear


def test_calibration_data_sets_every_range(classifier, images, ohmic):
    hardware = Hardware(tile=ohmic, rung="ideal", dac=Dac(bits=6), adc=Adc(bits=6))
    model, report = convert(classifier, hardware, calibration=images)
    assert report.calibrated
    assert all(layer.calibrated for layer in analog_layers(model).values())
    ranges = [float(layer.input_peak) for layer in analog_layers(model).values()]
    model(10 * images[0])
    assert [float(layer.input_peak) for layer in analog_layers(model).values()] == ranges
    # Both calls of the layer used twice are within range.
    fresh, _ = convert(classifier, hardware, calibration=images)
    fresh(images[0])
    assert fresh.hidden.counters.dac_saturated == 0
    assert ranges[0] == float(images[0].abs().max())


def test_modes_and_frozen_parameters_are_kept(classifier, ideal):
    classifier.train()
    classifier.head.eval()
    classifier.head.weight.requires_grad_(False)
    model, _ = convert(classifier, ideal)
    assert model.hidden.training
    assert not model.head.training
    assert not model.head.weight.requires_grad


def test_hardware_that_cannot_be_computed_fails_at_once(classifier, ohmic):
    from mdls_cosim.devices import Sinh

    with pytest.raises(ConfigError, match="need a fitted one"):
        convert(classifier, Hardware(tile=ohmic.replace(cell=Sinh())))
