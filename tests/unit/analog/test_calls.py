"""Calls of analog layers in every form that torch's own take: keywords, `output_size`, and what is no tensor."""

import copy
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mdls_cosim.analog import AnalogLayer, Composite, Hardware
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.network import analog_layers, audit, calibrate_columns, convert
from mdls_cosim.tiles import TileSpec

IDEAL = Hardware(tile=TileSpec(rows=10, cols=6), rung="ideal")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


KINDS = {
    "linear": (nn.Linear(4, 3), normal(5, 4)),
    "conv1d": (nn.Conv1d(2, 3, 3), normal(2, 2, 7)),
    "conv2d": (nn.Conv2d(2, 3, 3), normal(2, 2, 7, 6)),
    "conv3d": (nn.Conv3d(2, 3, 2), normal(1, 2, 4, 5, 3)),
    "transposed1d": (nn.ConvTranspose1d(2, 3, 3), normal(2, 2, 7)),
    "transposed2d": (nn.ConvTranspose2d(2, 3, 3), normal(2, 2, 7, 6)),
    "transposed3d": (nn.ConvTranspose3d(2, 3, 2), normal(1, 2, 4, 5, 3)),
    "rnn": (nn.RNN(4, 3), normal(5, 2, 4)),
    "lstm": (nn.LSTM(4, 3), normal(5, 2, 4)),
    "gru": (nn.GRU(4, 3), normal(5, 2, 4)),
    "rnn cell": (nn.RNNCell(4, 3), normal(2, 4)),
    "lstm cell": (nn.LSTMCell(4, 3), normal(2, 4)),
    "gru cell": (nn.GRUCell(4, 3), normal(2, 4)),
    "encoder layer": (nn.TransformerEncoderLayer(4, 2, 8, 0.0), normal(5, 2, 4)),
    "attention": (nn.MultiheadAttention(4, 2), normal(5, 2, 4)),
}
ARGUMENTS = {"encoder layer": ("src",), "attention": ("query", "key", "value")}


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("kind", list(KINDS))
def test_arguments_by_keyword(kind):
    digital, x = KINDS[kind]
    digital = copy.deepcopy(digital).double().eval()
    tiles, _ = convert(digital, IDEAL)
    names = ARGUMENTS.get(kind, ("input",))
    torch.testing.assert_close(
        first(tiles(**dict.fromkeys(names, x))), first(digital(**dict.fromkeys(names, x))), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_parameters_of_forward_are_those_of_torch(kind):
    digital, _ = KINDS[kind]
    tiles, _ = convert(digital, IDEAL)
    assert isinstance(tiles, AnalogLayer | Composite)
    assert list(inspect.signature(tiles.forward).parameters) == list(inspect.signature(digital.forward).parameters)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("wrong", [[1.0, 2.0], None, 3.0, "x", torch.ones(0, dtype=torch.float64), torch.ones(3, 9, 9)])
def test_what_is_no_input_is_refused_by_name(kind, wrong):
    model = nn.ModuleDict({"it": copy.deepcopy(KINDS[kind][0]).double()})
    tiles, _ = convert(model, IDEAL)
    with pytest.raises(InputError, match=r" at it[ .]"):
        tiles["it"](**dict.fromkeys(ARGUMENTS.get(kind, ("input",)), wrong))


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_output_size_is_that_of_torch(data):
    draw = data.draw
    axes = draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    stride, dilation = sizes(1, 3), sizes(1, 2)
    digital = kind(2, 3, sizes(2, 3), stride, sizes(0, 1), 0, dilation=dilation).double()
    batch = draw(st.sampled_from([(), (2,)]))
    x = normal(*batch, 2, *sizes(2, 4))
    smallest = digital(x).shape[-axes:]
    asked = [size + draw(st.integers(0, each - 1)) for size, each in zip(smallest, stride, strict=True)]
    given_size = draw(st.sampled_from([asked, torch.Size(asked), torch.Size([*batch, 5, *asked])]))
    tiles, _ = convert(digital, IDEAL)
    expected = digital(x, output_size=list(given_size))
    result = tiles(x, output_size=given_size)
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-8)
    # Another call is not bound to it.
    torch.testing.assert_close(tiles(x), digital(x), rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", [(5, 5), (30, 30), (14,), (1, 1, 1, 14, 14), "14", 14, (14, None), ()])
def test_an_impossible_output_size_is_refused(size):
    tiles, _ = convert(nn.ModuleDict({"up": nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1)}), IDEAL)
    with pytest.raises(InputError, match=r"the output size cannot come from this input at up .*13\.\.14 x 13\.\.14"):
        tiles["up"](torch.rand(2, 8, 7, 7), output_size=size)


class Up(nn.Module):
    """A U-Net's way up, and layers that are called by keyword."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ConvTranspose2d(4, 1, 3, stride=2, padding=1)
        self.head = nn.Linear(36, 3)

    def forward(self, x):
        x = x + self.up(input=self.down(input=x), output_size=x.size())
        return self.head(input=x.flatten(1))


def test_a_network_of_such_calls_is_calibrated_audited_and_compensated():
    model, x = Up(), torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    wired = Hardware(tile=TileSpec(rows=10, cols=6, row_line_resistance=5.0, sense_resistance=20.0))
    tiles, report = convert(model, wired, calibration=x)
    assert report.calibrated
    assert set(calibrate_columns(tiles, x)) == set(analog_layers(tiles))
    torch.testing.assert_close(tiles(x), model(x), rtol=0, atol=0.05)
    found = audit(tiles, x, samples=3, reference=NodalTile, injections=0)
    assert [layer.name for layer in found.layers] == ["down", "up", "head"]
    assert found.rms < 1e-5
