"""Layers whose computation was changed on the instance, and matrices that torch does not know."""

import functools
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mdls_cosim.analog import AnalogLinear
from mdls_cosim.errors import NotAvailable
from mdls_cosim.network import analog_layers, convert, on_rung


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def ten_times(self, x):
    return 10 * functional.linear(x, self.weight, self.bias)


def bound(layer):
    layer.forward = types.MethodType(ten_times, layer)
    return layer


def partial(layer):
    """As the hooks of Hugging Face accelerate replace it."""
    layer._old_forward = layer.forward
    layer.forward = functools.update_wrapper(functools.partial(ten_times, layer), layer._old_forward)
    return layer


def closed_over(layer):
    layer.forward = lambda x: ten_times(layer, x)
    return layer


def own_feed_forward():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    layer._ff_block = lambda x: 3 * x
    return layer


def own_kernel():
    layer = nn.Conv2d(3, 3, 1)
    layer._conv_forward = lambda x, weight, bias: functional.conv2d(x, 2 * weight, bias)
    return layer


PATCHED = {
    "bound method": lambda: bound(nn.Linear(3, 3)),
    "partial": lambda: partial(nn.Linear(3, 3)),
    "closure": lambda: closed_over(nn.Linear(3, 3)),
    "convolution": lambda: own_kernel(),
    "lstm": lambda: bound(nn.LSTM(3, 3)),
    "attention": lambda: bound(nn.MultiheadAttention(4, 2)),
    "feed forward of an encoder layer": own_feed_forward,
}


@pytest.mark.parametrize("case", list(PATCHED))
def test_methods_replaced_on_the_instance_are_refused(ideal, case):
    model = nn.ModuleDict({"other": nn.Linear(3, 3), "it": PATCHED[case]()})
    with pytest.raises(NotAvailable, match=r"it \(.*was replaced, which would be lost"):
        convert(model, ideal)
    # A rule keeps the layer as it is, with its own method.
    kept, report = convert(model, ideal, rules={"it": None})
    assert [layer.name for layer in report.converted] == ["other"]
    assert type(kept["it"]) is type(model["it"])


def test_a_kept_layer_computes_with_its_own_weights(ideal):
    for make in (bound, partial, closed_over):
        model = nn.Sequential(make(nn.Linear(3, 3)), nn.Linear(3, 2))
        kept, _ = convert(model, ideal, rules={"0": None})
        x = normal(5, 3)
        expected = model(x).detach()
        torch.testing.assert_close(kept(x), expected, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            model[0].weight.zero_()  # the copy must not see it
        torch.testing.assert_close(kept(x), expected, rtol=1e-4, atol=1e-5)


def test_methods_replaced_on_a_class_of_torch_are_refused(ideal, monkeypatch):
    @functools.wraps(nn.Linear.forward)
    def forward(self, input):
        return 10 * functional.linear(input, self.weight, self.bias)

    convert(nn.Sequential(nn.Linear(3, 3)), ideal)
    monkeypatch.setattr(nn.Linear, "forward", forward)
    with pytest.raises(NotAvailable, match=r"0 \(Linear\): its Linear.forward was replaced"):
        convert(nn.Sequential(nn.Linear(3, 3)), ideal)
    monkeypatch.undo()
    monkeypatch.setattr(nn.RNNBase, "check_input", lambda *arguments: None)
    with pytest.raises(NotAvailable, match=r"it \(GRU\): its RNNBase.check_input was replaced"):
        convert(nn.ModuleDict({"it": nn.GRU(3, 3)}), ideal)


def test_methods_that_do_not_compute_may_be_replaced(ideal):
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].extra_repr = lambda: "mine"
    model[0].state_dict = functools.partial(nn.Linear.state_dict, model[0])
    assert [layer.name for layer in convert(model, ideal)[1].converted] == ["0"]


class Closures(nn.Module):
    """Calls its layers through everything but its own attributes."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Linear(4, 4) for _ in range(5))
        self.stages = [self.a, {"b": self.b}]
        self.bound = self.c.forward
        self.partial = functools.partial(self.apply_to, self.d)
        last = self.e
        self.closure = lambda x: last(x)

    @staticmethod
    def apply_to(layer, x):
        return layer(x)

    def forward(self, x):
        x = self.stages[1]["b"](self.stages[0](x))
        return self.closure(self.partial(self.bound(x)))


def test_layers_in_lists_methods_partials_and_closures_are_those_on_tiles(ideal):
    model, x = Closures(), normal(6, 4)
    tiles, report = convert(model, ideal, calibration=x)
    assert report.unread == ()
    assert report.digital_products == ()
    torch.testing.assert_close(tiles(x), model(x), rtol=1e-4, atol=1e-5)
    for moved in (tiles, on_rung(tiles, "nodal"), tiles.at(time="1 day")):
        before = [layer.counters.reads for layer in analog_layers(moved).values()]
        moved(x)
        after = [layer.counters.reads for layer in analog_layers(moved).values()]
        assert [b - a for a, b in zip(before, after, strict=True)] == [6] * 5
    assert type(model.stages[0]) is nn.Linear
    assert model.closure.__closure__[0].cell_contents is model.e


def test_a_forward_of_the_model_itself_that_closes_over_it(ideal):
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), normal(5, 3)
    model.forward = lambda x: torch.relu(model[1](torch.tanh(model[0](x))))
    tiles, report = convert(model, ideal, calibration=x)
    assert report.unread == ()
    torch.testing.assert_close(tiles(x), model(x), rtol=1e-4, atol=1e-5)


class Plain(nn.Module):
    """Matrices and layers that torch does not register."""

    def __init__(self):
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.matrix = normal(4, 4)
        self.several = [normal(4, 4), {"deep": (normal(4, 4),)}]
        self.array = np.ones((4, 4))
        self.layers = [nn.Linear(4, 4)]
        closed = normal(4, 4)
        self.function = lambda x: x @ closed
        self.vector, self.number, self.counts, self.words = normal(4), 3.0, torch.ones(4, 4, dtype=torch.int64), ["a"]
        self.listed = [self.used, self.used.weight]

    def forward(self, x):
        return self.function(self.layers[0](self.used(x) @ self.matrix))


def test_matrices_that_torch_does_not_register_are_listed(ideal):
    _, report = convert(nn.Sequential(Plain()), ideal)
    assert [(layer.name, layer.reason) for layer in report.skipped] == [
        (
            "0",
            "Plain holds matrix, several, array, layers, function outside torch's registers: "
            "what it multiplies by them is digital",
        )
    ]


def test_a_layer_with_other_parts_is_refused(ideal):
    lora = nn.Linear(3, 3)
    lora.register_parameter("lora_a", nn.Parameter(torch.ones(3, 1)))
    masked = nn.Linear(3, 3)
    masked.register_buffer("mask", torch.ones(3, 3))
    whole = nn.LSTM(3, 3)
    whole.adapter = nn.Linear(3, 3)
    for layer, name in ((lora, "lora_a"), (masked, "mask"), (whole, "adapter")):
        with pytest.raises(NotAvailable, match=f"{name} was added to it, which would be lost"):
            convert(nn.ModuleDict({"it": layer}), ideal)
    dropped = nn.Linear(3, 3)
    weight = dropped._parameters.pop("weight")
    dropped.raw = nn.Parameter(weight.detach())
    dropped.weight = 2 * dropped.raw
    with pytest.raises(NotAvailable, match="its weight is no parameter, but computed elsewhere"):
        convert(nn.ModuleDict({"it": dropped}), ideal)
    sparse = nn.Linear(3, 3)
    sparse.weight = nn.Parameter(torch.eye(3).to_sparse())
    with pytest.raises(NotAvailable, match=r"cannot be copied \(RuntimeError.* at it \(Linear\)"):
        convert(nn.ModuleDict({"it": sparse}), ideal)


def test_attributes_that_users_put_on_layers_stay(ideal):
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 4), nn.MultiheadAttention(4, 2))
    model[0].tag, model[1].tag = "first", [1, 2]
    tiles, _ = convert(model, ideal)
    assert isinstance(tiles[0], AnalogLinear)
    assert (tiles[0].tag, tiles[1].tag, tiles[2].head_dim, tiles[1].mode) == ("first", [1, 2], 2, "LSTM")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch is about to drop it
def test_scripted_parts_are_refused(ideal):
    model = nn.ModuleDict({"other": nn.Linear(3, 3), "it": torch.jit.script(nn.Sequential(nn.Linear(3, 3)))})
    with pytest.raises(NotAvailable, match=r"it.*compiled by torch.jit"):
        convert(model, ideal)


def test_a_model_that_cannot_be_copied(ideal):
    model = nn.Sequential(nn.Linear(3, 3))
    model.stream = (each for each in [1])  # a generator
    with pytest.raises(NotAvailable, match=r"the model cannot be copied \(TypeError: cannot pickle 'generator'"):
        convert(model, ideal)
