"""Refusals without a conversion, and the names that they give."""

import re

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.devices import Sinh
from mdls_cosim.errors import ConfigError, ConversionWarning, InputError, NotAvailable
from mdls_cosim.network import analog_layers, check, convert


class Positions(nn.Module):
    """A vision transformer's position embedding as a parameter of the model itself."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Linear(4, 6)
        self.pos_embed = nn.Parameter(torch.randn(1, 3, 6))

    def forward(self, x):
        return self.patch(x) + self.pos_embed


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: nn.ModuleDict({"block[0]": model})])
def test_the_name_in_the_message_is_the_rule_that_helps(ideal, wrap):
    model = wrap(Positions())
    with pytest.raises(NotAvailable) as caught:
        convert(model, ideal)
    name = re.search(r'the rule "(.+?)": None', str(caught.value))[1]
    assert f"for {name} (Positions)" in str(caught.value)
    assert len(str(caught.value)) < 300
    _, report = convert(model, ideal, rules={name: None})
    assert len(report.converted) == 1
    assert report.skipped[0].reason == f"by rule {name!r}"


def test_the_model_itself_has_two_names(ideal):
    for name in ("", "(model)"):
        tiles, _ = convert(nn.Linear(3, 2), ideal, rules={name: {"states": 4}})
        assert tiles.hardware.states == 4
    assert convert(nn.LSTM(3, 2), ideal, rules={"(model)": None})[1].converted == ()


def test_many_refusals_are_counted(ideal):
    model = nn.ModuleList(nn.Bilinear(3, 3, 3) for _ in range(40))
    with pytest.raises(NotAvailable, match=r"2 \(Bilinear\).*; and 37 more") as caught:
        convert(model, ideal)
    assert len(str(caught.value)) < 400


def test_check_raises_what_convert_would(ideal, monkeypatch):
    model = nn.Sequential(nn.Linear(3, 3), nn.Bilinear(3, 3, 3), nn.LSTM(3, 3))

    def programs(*arguments):
        raise AssertionError("a check programs nothing")

    monkeypatch.setattr("mdls_cosim.analog.layer.AnalogLayer.program", programs)
    cases = [
        (lambda: check(model, ideal), NotAvailable, r"1 \(Bilinear\)"),
        (lambda: check(model, ideal, {"2": None}), NotAvailable, r"1 \(Bilinear\)"),
        (lambda: check(model, ideal, {"1": None, "none": None}), ConfigError, "a rule matches no layer"),
        (lambda: check(model, ideal, {"1": None, "0": {"stats": 3}}), ConfigError, "stats"),
        (lambda: check(model, ideal.tile), InputError, "Hardware"),
        (lambda: check(model, Hardware(tile=ideal.spec.replace(cell=Sinh())), {"1": None}), ConfigError, "fitted one"),
        (lambda: check(model, ideal, [("1", None)]), InputError, "a dict of layer-name patterns"),
        (lambda: check(model, ideal, {1: None}), InputError, "a pattern of layer names, a string"),
        (lambda: check({"a": model}, ideal), InputError, r"a torch.nn.Module at model: got \"dict\""),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()
    assert check(model, ideal, {"1": None}) is None
    assert [type(layer) for layer in model] == [nn.Linear, nn.Bilinear, nn.LSTM]


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(ideal, part, value):
    model = nn.ModuleDict({f"layer{i}": nn.Linear(4, 4) for i in range(9)})
    getattr(model["layer5"], part).data.view(-1)[0] = value
    with pytest.raises(InputError, match=rf"not finite cannot be programmed at layer5\.{part} \(1 of"):
        convert(model, ideal)
    convert(model, ideal, rules={"layer5": None})


def test_weights_and_inputs_that_stop_being_finite_are_refused_by_name(ideal):
    model = nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"inner": nn.LSTM(3, 3)})["inner"])
    tiles, _ = convert(model, ideal)
    with pytest.raises(InputError, match=r"the input is not finite at 0 \(AnalogLinear\)"):
        tiles(torch.full((2, 3), float("nan")))
    with pytest.raises(InputError, match=r"the input is not finite at 1\.hh_l0 \(AnalogLinear\)"):
        tiles[1](torch.zeros(2, 3), (torch.full((1, 3), float("inf")), torch.zeros(1, 3)))
    with torch.no_grad():
        tiles[0].bias[1] = float("inf")
    with pytest.raises(InputError, match=r"biases that are not finite cannot be programmed at 0 \(AnalogLinear\)"):
        tiles[0].program(1)


def test_a_model_without_matrices_warns(ideal):
    for model in (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)), nn.Identity(), nn.Embedding(3, 3)):
        with pytest.warns(ConversionWarning, match=f"{type(model).__name__} has no layer with a weight matrix"):
            assert convert(model, ideal)[1].converted == ()
    # Chosen by a rule, or converted already: no mistake.
    convert(nn.Linear(3, 3), ideal, rules={"*": None})
    convert(convert(nn.Linear(3, 3), ideal)[0], ideal)


def test_layers_that_saw_only_zeros_have_no_range(ideal):
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3))
    model[0].weight.data.abs_()
    hardware = ideal.replace(dac=Dac(bits=6), adc=Adc(bits=6))
    tiles, report = convert(model, hardware, calibration=-torch.rand(32, 6))
    assert [name for name, layer in analog_layers(tiles).items() if not layer.calibrated] == ["2"]
    assert not report.calibrated
    assert report.unranged == ("2",)
    assert "converters without a range, the calibration reached them with zeros only: 2" in str(report)
    _, report = convert(model, hardware, calibration=torch.rand(32, 6))
    assert report.calibrated
    assert report.unranged == ()
    assert "without a range" not in str(report)
