"""What attributes held is there again."""

import random
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mdls_cosim.analog import Hardware
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.network import convert, evaluate
from mdls_cosim.network.kept_values import kept_value
from mdls_cosim.tiles import TileSpec


@dataclass
class Cache:
    keys: list = field(default_factory=lambda: [torch.zeros(2)])
    length: int = 0


def grow(cache):
    cache.length += 1
    cache.keys[0].add_(1)
    cache.keys.append(torch.ones(1))
    cache.more = 3


def added(each):
    each += 1


VALUES = {
    "tensor": (torch.zeros(3), added, lambda each: each.tolist()),
    "array": (np.zeros(3), added, lambda each: each.tolist()),
    "list": ([1, [2]], lambda each: each[1].append(3), str),
    "deque": (deque([1]), lambda each: each.append(2), str),
    "set": ({1}, lambda each: each.add(2), str),
    "dict": ({"a": np.zeros(2)}, lambda each: added(each["a"]), str),
    "ordered": (OrderedDict(a=1), lambda each: each.update(b=2), str),
    "namespace": (SimpleNamespace(steps=0), lambda each: setattr(each, "steps", 5), str),
    "dataclass": (Cache(), grow, lambda each: str(vars(each))),
    "torch generator": (
        torch.Generator().manual_seed(1),
        lambda each: torch.rand(1, generator=each),
        lambda each: each.get_state().tolist(),
    ),
    "numpy generator": (
        np.random.default_rng(1),
        lambda each: each.random(),
        lambda each: str(each.bit_generator.state),
    ),
    "random state": (np.random.RandomState(1), lambda each: each.rand(), lambda each: str(each.get_state())),
    "python": (random.Random(1), lambda each: each.random(), lambda each: each.getstate()),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_same_object_with_its_content(name):
    value, change, content = VALUES[name]
    before, restore = content(value), kept_value(value)
    change(value)
    assert content(value) != before
    assert restore() is value
    assert content(value) == before


def test_runs_start_from_the_state_at_the_call():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.steps = nn.Linear(6, 2), np.zeros(1)
            self.generator = torch.Generator().manual_seed(0)

        def forward(self, x):
            self.steps += 1
            seen.append((float(self.steps[0]), float(torch.rand(1, generator=self.generator))))
            return self.linear(x)

    seen: list[tuple[float, float]] = []
    chips = Variability(effects=(ProgrammingError(relative=0.1),))
    tiles, _ = convert(Noisy(), Hardware(tile=TileSpec(rows=8, cols=8), rung="ideal", variability=chips))
    evaluate(tiles, (torch.randn(4, 6), torch.zeros(4).long()), runs=2)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert float(tiles.steps[0]) == 0
