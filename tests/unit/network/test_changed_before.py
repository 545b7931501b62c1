"""Layers of torch whose weights or options were changed after they were made, before the conversion."""

import pytest
import torch
from torch import nn

from mdls_cosim.analog import AnalogLSTM, Hardware
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.network import convert, program
from mdls_cosim.tiles import TileSpec

IDEAL = Hardware(tile=TileSpec(rows=32, cols=32), rung="ideal")


def changed(layer: nn.Module, **options) -> nn.Module:
    for name, value in options.items():
        setattr(layer, name, value)
    return layer


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: changed(nn.Linear(6, 3), weight=parameter(2, 6), bias=parameter(2)), (8, 6)),
        (lambda: changed(nn.Linear(6, 3), weight=parameter(3, 4)), (8, 4)),
        (lambda: changed(nn.Conv2d(4, 4, 3, groups=2), weight=parameter(2, 2, 2, 2), bias=None), (1, 4, 6, 6)),
        (
            lambda: changed(nn.ConvTranspose2d(4, 4, 3, groups=2), weight=parameter(4, 3, 2, 2), bias=parameter(6)),
            (1, 4, 6, 6),
        ),
        (lambda: changed(nn.Conv2d(4, 4, 3), groups=2), (1, 8, 6, 6)),
    ],
)
def test_weights_that_were_replaced_by_smaller_ones(make, shape):
    """As by pruning: torch computes with the shape of the weights, not with the sizes that the layer was made with."""
    torch.manual_seed(0)
    digital, x = make(), torch.randn(shape)
    tiles, _ = convert(digital, IDEAL)
    torch.testing.assert_close(tiles(x), digital(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"dilation": 2},
        {"padding": 0},
        {"padding": "same"},
        {"padding_mode": "circular"},
        {"padding_mode": "reflect", "padding": (2, 2)},  # torch pads by what it noted when the layer was made
    ],
)
def test_options_of_a_convolution(options):
    torch.manual_seed(0)
    digital, x = changed(nn.Conv2d(2, 3, 3, padding=1), **options), torch.randn(2, 2, 6, 6)
    tiles, _ = convert(digital, IDEAL)
    torch.testing.assert_close(tiles(x), digital(x), rtol=1e-4, atol=1e-5)


def test_output_padding_as_one_number():
    digital, x = changed(nn.ConvTranspose2d(2, 2, 3, stride=2), output_padding=1), torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(convert(digital, IDEAL)[0](x), digital(x), rtol=1e-4, atol=1e-5)


def test_the_mode_of_an_rnn():
    torch.manual_seed(0)
    digital, x = changed(nn.RNN(6, 3), mode="RNN_RELU"), torch.randn(4, 2, 6)
    torch.testing.assert_close(convert(digital, IDEAL)[0](x)[0], digital(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: changed(nn.LSTM(6, 3), num_layers=2), "does not fit its weights"),
        (lambda: changed(nn.GRU(6, 3, bidirectional=True), bidirectional=False), "does not fit its weights"),
        (lambda: changed(nn.MultiheadAttention(6, 2), out_proj=nn.Identity()), "out_proj was replaced by a Identity"),
        (lambda: changed(nn.Linear(6, 3), weight=parameter(6)), "2 dimensions"),
        (lambda: changed(nn.Linear(6, 3), bias=parameter(2)), r"its bias \(2,\)"),
        (lambda: changed(nn.Conv2d(3, 4, 3), groups=3), "in 3 groups"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(make, message):
    model = nn.ModuleDict({"odd": make()})
    with pytest.raises(NotAvailable, match=f"odd.*{message}"):
        convert(model, IDEAL)
    convert(model, IDEAL, rules={"odd": None})


@pytest.mark.parametrize(
    "option",
    [{"num_layers": 2}, {"bidirectional": True}, {"proj_size": 2}, {"hidden_size": 5}, {"mode": "GRU"}],
    ids=lambda each: next(iter(each)),
)
def test_the_layout_of_a_recurrent_layer_is_fixed(option):
    layer = convert(nn.LSTM(6, 3), IDEAL)[0]
    assert isinstance(layer, AnalogLSTM)
    with pytest.raises(ConfigError, match=f"{next(iter(option))} of a layer on tiles cannot be changed"):
        changed(layer, **option)
    changed(layer, hidden_size=3)  # to what it is


def test_digital_parameters_of_opened_layers_are_finite():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2, add_bias_kv=True)})
    assert model["attention"].bias_k is not None
    with torch.no_grad():
        model["attention"].bias_k.fill_(float("nan"))
    with pytest.raises(InputError, match=r"attention\.bias_k"):
        convert(model, IDEAL)
    convert(model, IDEAL, rules={"attention": None})


@torch.no_grad()
def test_larger_weights_give_the_network_a_larger_scale():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)), torch.randn(5, 6)
    tiles, _ = convert(model, IDEAL.replace(scaling="network"))
    for network in (model, tiles):
        network[0].weight.mul_(3.0)
    program(tiles, seed=1)
    torch.testing.assert_close(tiles(x), model(x), rtol=1e-4, atol=1e-5)
    assert tiles[0].clipped_weights == 0
    assert float(tiles[1].weight_scale.max()) == pytest.approx(float(model[0].weight.abs().max()))
