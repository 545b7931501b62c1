"""Converters that users register for their own layers."""

import re

import pytest
import torch
from torch import nn

from mdls_cosim.analog import AnalogLayer, AnalogLinear, Hardware
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.network import (
    analog_layers,
    check,
    convert,
    program,
    register_converter,
    to_torch,
    unregister_converter,
)
from mdls_cosim.tiles import TileSpec


class Transposed(nn.Module):
    """x W + b, with the weights (inputs, outputs), as GPT-2 holds them."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.kernel = nn.Parameter(0.3 * torch.randn(inputs, outputs, dtype=torch.float64))
        self.offset = nn.Parameter(torch.ones(outputs, dtype=torch.float64))
        self.note = "kept"

    def forward(self, x):
        return x @ self.kernel + self.offset


class LowRank(nn.Module):
    """x A B of two matrices, with a recurrent layer that stays with its converter."""

    def __init__(self, inputs, rank, outputs):
        super().__init__()
        self.down = nn.Parameter(torch.randn(inputs, rank, dtype=torch.float64))
        self.up = nn.Parameter(torch.randn(rank, outputs, dtype=torch.float64))
        self.memory = nn.RNN(outputs, outputs, dtype=torch.float64)

    def forward(self, x):
        return torch.tanh(x @ self.down) @ self.up


class AnalogLowRank(nn.Module):
    def __init__(self, down, up):
        super().__init__()
        self.down, self.up = down, up

    def forward(self, x):
        return self.up(torch.tanh(self.down(x)))


class Further(Transposed):
    pass


def linear(kernel, offset=None):
    made = nn.Linear(*kernel.shape, bias=offset is not None, dtype=kernel.dtype)
    with torch.no_grad():
        made.weight.copy_(kernel.mT)
        if offset is not None:
            made.bias.copy_(offset)
    return made


def convert_transposed(layer, hardware, seed):
    return AnalogLinear.from_linear(linear(layer.kernel, layer.offset), hardware, seed)


def convert_low_rank(layer, hardware, seed):
    assert type(layer) is LowRank
    assert type(layer.memory) is nn.RNN
    return AnalogLowRank(*(AnalogLinear.from_linear(linear(each), hardware, seed) for each in (layer.down, layer.up)))


@pytest.fixture(autouse=True)
def registered():
    register_converter(Transposed, convert_transposed)
    register_converter(LowRank, convert_low_rank)
    yield
    for each in (Transposed, LowRank):
        unregister_converter(each)


def hardware(**changes):
    return Hardware(tile=TileSpec(rows=8, cols=6), rung="ideal", **changes)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Sequential(Transposed(10, 7), nn.ReLU(), LowRank(7, 2, 5), nn.Linear(5, 4, dtype=torch.float64))
        return first.eval()


@pytest.fixture
def inputs():
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_users_layers_are_converted_and_reported_part_by_part(model, inputs):
    check(model, hardware())
    analog, report = convert(model, hardware(), calibration=inputs)
    torch.testing.assert_close(analog(inputs), model(inputs), rtol=1e-10, atol=1e-10)
    assert [layer.name for layer in report.converted] == ["0", "2.down", "2.up", "3"]
    assert [layer.label for layer in analog_layers(analog).values()] == ["0", "2.down", "2.up", "3"]
    assert report.calibrated
    assert not report.unread
    assert analog[0].note == "kept"
    assert not analog.training
    assert not any(layer.training for layer in analog_layers(analog).values())
    assert type(model[0]) is Transposed
    plain = to_torch(analog)
    torch.testing.assert_close(plain(inputs), analog(inputs), rtol=1e-10, atol=1e-10)
    assert type(plain[2]) is AnalogLowRank
    assert not any(isinstance(part, AnalogLayer) for part in plain.modules())


def test_rules_hold_for_the_whole_layer(model):
    analog, report = convert(model, hardware(), rules={"0": None, "2": {"states": 16}, "3": {"states": 4}})
    assert type(analog[0]) is Transposed
    assert [(layer.name, layer.reason) for layer in report.skipped if layer.name == "0"] == [("0", "by rule '0'")]
    assert analog[2].down.hardware.states == analog[2].up.hardware.states == 16
    assert analog[3].hardware.states == 4
    with pytest.raises(ConfigError, match="matches no layer"):
        convert(model, hardware(), rules={"2.memory": None})


def test_one_seed_is_one_chip_by_whichever_way(model):
    errors = hardware(variability=Variability(effects=[ProgrammingError(absolute=2e-6)]), scaling="network")
    first, _ = convert(model, errors, seed=5)
    second, _ = convert(model, errors, seed=6)
    assert not torch.equal(first[2].down.conductances, second[2].down.conductances)
    program(second, 5)
    for one, other in zip(analog_layers(first).values(), analog_layers(second).values(), strict=True):
        assert torch.equal(one.conductances, other.conductances)
    assert float(first[2].up.weight_scale.max()) == float(first[0].weight_scale.max())


def test_products_in_a_registered_forward_are_left_to_its_converter(model):
    _, report = convert(model, hardware(attention="tiles"))
    assert not report.untraced
    assert [layer.name for layer in report.converted] == ["0", "2.down", "2.up", "3"]


def test_the_class_is_matched_exactly_and_altered_layers_are_refused(model):
    with pytest.raises(NotAvailable, match=r"\(Further\): a subclass that may compute something else"):
        convert(nn.Sequential(Further(3, 2)), hardware())
    model[0].register_forward_hook(lambda *each: None)
    with pytest.raises(NotAvailable, match=r"0 \(Transposed\): carries hooks"):
        check(model, hardware())
    model[0]._forward_hooks.clear()
    model[2].forward = lambda x: x
    with pytest.raises(NotAvailable, match=r"2 \(LowRank\): its forward was replaced"):
        check(model, hardware())
    del model[2].forward
    with torch.no_grad():
        model[2].memory.weight_ih_l0[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"not finite.*2\.memory\.weight_ih_l0"):
        check(model, hardware())


def test_without_a_converter_the_layer_is_refused(model):
    unregister_converter(LowRank)
    try:
        with pytest.raises(NotAvailable, match=r"2 \(LowRank\): its matrix is in no layer"):
            convert(model, hardware())
    finally:
        register_converter(LowRank, convert_low_rank)


@pytest.mark.parametrize("wrong", [lambda *_: None, lambda layer, *_: layer, lambda layer, *_: nn.Linear(10, 7)])
def test_a_converter_that_returns_no_layer_on_tiles(model, wrong):
    register_converter(Transposed, wrong, replace=True)
    with pytest.raises(InputError, match=r"converter of Transposed must return .* at 0: got"):
        convert(model, hardware())
    register_converter(Transposed, convert_transposed, replace=True)


def test_what_cannot_be_registered():
    register_converter(Transposed, convert_transposed)  # the same again: nothing changes
    with pytest.raises(ConfigError, match=r"another converter is registered.*Transposed.*replace=True"):
        register_converter(Transposed, convert_low_rank)
    for kind in (nn.Linear, nn.LSTM, nn.MultiheadAttention):
        with pytest.raises(ConfigError, match=rf"built-in converter.*{re.escape(kind.__name__)}"):
            register_converter(kind, convert_transposed, replace=True)
    for kind in (nn.Module, AnalogLinear):
        with pytest.raises(ConfigError, match="no converter can be registered"):
            register_converter(kind, convert_transposed)
    with pytest.raises(InputError, match="subclass of torch"):
        register_converter(Transposed(2, 2), convert_transposed)
    with pytest.raises(InputError, match="expected a function"):
        register_converter(Further, 3)
    with pytest.raises(InputError, match=r"no converter is registered.*Further"):
        unregister_converter(Further)
