"""Products that a model computes past its layers are named in the report of a conversion with calibration data."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from mdls_cosim.network import analog_layers, convert


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Step(torch.autograd.Function):
    """A spike: torch does not show custom functions to modes."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx, slope):
        return slope


class Own(nn.Module):
    """A model that does `work(self, x)`."""

    def __init__(self, work):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.embedding = nn.Embedding(3, 4)
        self.matrix = normal(4, 4)
        self.several = {"a": [normal(4, 4)]}
        self.array = np.eye(4, dtype=np.float32)
        self.hidden = [nn.Linear(4, 4)]
        self.lora = nn.ModuleDict({"down": nn.Linear(4, 2, bias=False), "up": nn.Linear(2, 4, bias=False)})
        self.work = work

    def forward(self, x):
        return self.work(self, self.fc(x))


CASES = {
    "attribute": (lambda self, x: x @ self.matrix, ("matrix",)),
    "in a dict": (lambda self, x: x @ self.several["a"][0].T, ("several",)),
    "array": (lambda self, x: x @ torch.from_numpy(self.array), ("array",)),
    "module in a list": (lambda self, x: self.hidden[0](x), ("hidden.weight",)),
    "made in the forward": (lambda self, x: x @ torch.ones(4, 4), ("a tensor (4, 4) in (model)",)),
    "tied to an embedding": (lambda self, x: functional.linear(x, self.embedding.weight), ("embedding.weight",)),
    "computed from a weight": (lambda self, x: x @ (self.fc.weight * 2).tril().T, ("fc.weight",)),
    "merged adapters": (
        lambda self, x: functional.linear(x, self.fc.weight + self.lora["up"].weight @ self.lora["down"].weight),
        ("fc.weight", "lora.down.weight", "lora.up.weight"),
    ),
    "after a custom function": (lambda self, x: Step.apply(x) @ self.matrix, ("matrix",)),
    "in place": (lambda self, x: x @ torch.zeros(4, 4).copy_(self.matrix), ("matrix",)),
    "activations": (lambda self, x: (x @ x.mT).softmax(-1) @ x, ()),
    "no product": (lambda self, x: x * self.matrix[0] + self.embedding.weight[0], ()),
    "layers called by forward": (lambda self, x: self.lora["up"].forward(self.lora["down"].forward(x)), ()),
}


@pytest.mark.parametrize("case", list(CASES))
def test_tensors_that_are_multiplied_by_are_named(ideal, case):
    work, expected = CASES[case]
    _, report = convert(Own(work), ideal, calibration=normal(5, 4))
    assert report.digital_products == expected
    assert not any(module._forward_hooks for module in convert(Own(work), ideal, calibration=normal(5, 4))[0].modules())


def test_a_reference_to_the_float_model_is_named(ideal):
    float_model = nn.Sequential(nn.Linear(4, 4))

    def forward(x, keep={"model": float_model}):  # noqa: B006
        return globals()["_FLOAT"][0](x) if "_FLOAT" in globals() else keep["model"][0](x)

    globals()["_FLOAT"] = float_model
    try:
        float_model.forward = forward
        tiles, report = convert(float_model, ideal, calibration=normal(5, 4))
        assert report.digital_products == ("0.weight of the float model",)
        assert report.unread == ("0",)
    finally:
        del globals()["_FLOAT"]
    # By a default argument it is the copy.
    before = analog_layers(tiles)["0"].counters.reads
    tiles(normal(5, 4))
    assert analog_layers(tiles)["0"].counters.reads == before + 5


def test_weights_that_a_rule_keeps_digital_are_no_surprise(ideal):
    class Scaled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    model = nn.ModuleList([nn.Linear(4, 4), nn.Bilinear(4, 4, 4), nn.Linear(4, 4), nn.LSTM(4, 4)])
    parametrize.register_parametrization(model[2], "weight", Scaled())
    model.forward = lambda x: model[3](model[2](model[1](x, model[0](x))))[0]
    rules = {"1": None, "2": None, "3": None}
    assert convert(model, ideal, rules, calibration=normal(5, 4))[1].digital_products == ()
