"""Attention that users write by hand, with its products on tiles."""

import copy
import inspect
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mdls_cosim.analog import AnalogProduct, Hardware, MatrixProduct
from mdls_cosim.network import analog_layers, at, convert, evaluate, on_rung, product_forms
from mdls_cosim.tiles import TileSpec

TILES = Hardware(tile=TileSpec(rows=10, cols=6), rung="ideal", attention="tiles")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def halved(q, k):
    """A function of the user's module, not of its class."""
    return torch.matmul(q, k.transpose(-2, -1)) / 2


class Attention(nn.Module):
    """Two heads over (batch, steps, 8); the products as `ways` writes them."""

    def __init__(self, way="at"):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.way, self.dropout, self.scale, self.flag = way, 0.0, 0.5, True
        self.register_buffer("mask", torch.ones(9, 9, dtype=torch.bool).tril(), persistent=False)

    def forward(self, x, extra=None, causal: bool = False):
        batch, steps, width = x.size()
        q, k, v = self.qkv(x).split(width, dim=2)
        q, k, v = (part.view(batch, steps, 2, width // 2).transpose(1, 2) for part in (q, k, v))
        y = getattr(self, self.way)(q, k, v, steps, causal)
        return self.out(y.transpose(1, 2).contiguous().view(batch, steps, width))

    def at(self, q, k, v, steps, causal):
        return functional.dropout((q @ k.mT * self.scale).softmax(-1), self.dropout, self.training) @ v

    def masked(self, q, k, v, steps, causal):
        scores = halved(q, k).masked_fill(~self.mask[:steps, :steps], float("-inf"))
        return torch.matmul(scores.softmax(dim=-1), v)

    def einsum(self, q, k, v, steps, causal):
        weights = torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1)
        return torch.einsum("...qk, ...kd -> ...qd", weights, v)

    def bmm(self, q, k, v, steps, causal):
        q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        bias = torch.ones(1, 1, 1, dtype=q.dtype)
        scores = torch.baddbmm(bias, q, k.mT, beta=2, alpha=0.5)
        return torch.bmm(scores.softmax(-1), v).unflatten(0, (-1, 2))

    def fused(self, q, k, v, steps, causal):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)

    def fused_mask(self, q, k, v, steps, causal):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask[:steps, :steps])

    def branch(self, q, k, v, steps, causal):
        if causal:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return (q.matmul(k.mT)).softmax(-1).matmul(v)

    def heads(self, q, k, v, steps, causal):
        return torch.stack([(q[:, h] @ k[:, h].mT).softmax(-1) @ v[:, h] for h in range(2)], 1)


WAYS = {
    "at": 2, "masked": 2, "einsum": 2, "bmm": 2, "fused": 2, "fused_mask": 2, "branch": 2, "heads": 2,
}  # fmt: skip


@pytest.fixture
def attention():
    def make(way="at"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Attention(way).double().eval()

    return make


@pytest.mark.parametrize("way", list(WAYS))
def test_products_are_on_tiles_and_the_same(attention, way):
    model, x = nn.Sequential(attention(way)), normal(3, 5, 8)
    tiles, report = convert(model, TILES, calibration=x)
    products = {name: layer for name, layer in analog_layers(tiles).items() if isinstance(layer, AnalogProduct)}
    assert len(products) == WAYS[way]
    assert all(layer.counters.reads for layer in products.values())
    assert (report.untraced, report.digital_products, report.unread) == ({}, (), ())
    assert "its forward is digital but for " in str(report)
    torch.testing.assert_close(tiles(x), model(x), rtol=0, atol=1e-8)
    assert type(tiles[0]) is Attention
    assert not any("forward" in vars(module) for module in model.modules())
    assert str(inspect.signature(tiles[0].forward)) == "(x, extra=None, causal: bool = False)"


def test_code_and_attributes_stay_alive(attention):
    model = attention()
    tiles, _ = convert(model, TILES)
    x = normal(2, 5, 8)
    model.scale = tiles.scale = 2.0
    torch.testing.assert_close(tiles(x), model(x), rtol=0, atol=1e-8)
    tiles.dropout = 0.5
    torch.testing.assert_close(tiles(x), model(x), rtol=0, atol=1e-8)  # eval mode: as model
    tiles.train()
    assert not torch.allclose(tiles(x), model(x), rtol=1e-2)


def test_copies_and_files(attention):
    tiles, _ = convert(attention(), TILES)
    x = normal(2, 5, 8)
    expected = tiles(x)
    for other in (copy.deepcopy(tiles), pickle.loads(pickle.dumps(tiles)), on_rung(tiles, "nodal"), at(tiles, 1.0)):
        assert other.forward.module is other
        before = [layer.counters.reads for layer in analog_layers(other).values()]
        torch.testing.assert_close(other(x), expected, rtol=0, atol=1e-8)
        after = [layer.counters.reads for layer in analog_layers(other).values()]
        assert all(b > a for a, b in zip(before, after, strict=True))


def test_rules_reach_products(attention):
    model, x = nn.ModuleDict({"one": attention(), "two": attention("fused")}), normal(2, 5, 8)
    tiles, report = convert(model, TILES, rules={"one.matmul": None, "two.*": {"attention": "digital"}})
    assert isinstance(tiles["one"].matmul, MatrixProduct)
    assert isinstance(tiles["one"].matmul_1, AnalogProduct)
    reasons = {layer.name: layer.reason for layer in report.skipped}
    assert reasons["one.matmul"] == "by rule 'one.matmul'"
    assert reasons["two.scores"] == reasons["two.mixture"] == "attention='digital'"
    for name, each in tiles.items():
        torch.testing.assert_close(each(x), model[name](x), rtol=0, atol=1e-8)
    # By default nothing is opened.
    digital, _ = convert(model, TILES.replace(attention="digital"))
    assert not any("forward" in vars(module) for module in digital.modules())
    some, _ = convert(model, TILES.replace(attention="digital"), rules={"one.*": {"attention": "tiles"}})
    assert isinstance(some["one"].matmul, AnalogProduct)
    assert isinstance(some["two"].scores, MatrixProduct)


class Flow(nn.Module):
    """Control flow that depends on the data."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        y = self.fc(x)
        return y @ y.mT if y.sum() > 1e9 else (y @ y.mT) @ y


def test_what_torch_fx_cannot_see_is_told():
    x = normal(2, 5, 8)
    _, report = convert(Flow().double(), TILES, calibration=x)
    assert list(report.untraced) == ["(model)"]
    assert "TraceError: symbolically traced variables cannot be used" in report.untraced["(model)"]
    assert "not traced by torch.fx" in str(report)
    assert report.digital_products == ("matmul in (model)",)
    patched = nn.Sequential(Attention().double())
    patched[0].forward = lambda x: x
    assert convert(patched, TILES)[1].untraced == {"0": "its forward was replaced on the instance"}


class Nested(nn.Module):
    """A module within one of its own class."""

    def __init__(self, depth):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.inner = Nested(depth - 1) if depth else nn.Identity()

    def forward(self, x):
        y = self.fc(x)
        return self.inner((y @ y.mT / 8) @ y)


def test_modules_within_modules_of_one_class():
    x = normal(2, 5, 8)
    model = Nested(2).double()
    tiles, _ = convert(model, TILES, calibration=x)
    torch.testing.assert_close(tiles(x), model(x), rtol=0, atol=1e-8)
    reads = [layer.counters.reads for name, layer in analog_layers(tiles).items() if isinstance(layer, AnalogProduct)]
    assert len(reads) == 6
    assert len(set(reads)) == 1


def test_weights_and_masks_are_no_activations():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)
            self.register_buffer("table", normal(8, 8))

        def forward(self, x):
            y = self.fc(x) @ self.table
            return torch.einsum("bij,jk->bik", y, self.fc.weight) + torch.eye(8) @ self.table

    tiles, report = convert(Mixed().double(), TILES)
    assert not any(isinstance(layer, AnalogProduct) for layer in analog_layers(tiles).values())
    assert report.untraced == {}


def test_evaluation_on_noisy_tiles(attention):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = attention("masked"), nn.Linear(8, 3).double()

        def forward(self, x):
            return self.head(self.attention(x).mean(1))

    tiles, _ = convert(Head(), TILES.replace(states=8), calibration=normal(4, 5, 8))
    found = evaluate(tiles, (normal(6, 5, 8), torch.zeros(6, dtype=torch.int64)), runs=2)
    assert not found.unread


EQUATIONS = [
    "ij,jk->ik",
    "bij,bkj->bik",
    "bhqd,bhkd->bhqk",
    "bhqk,bkhd->bqhd",
    "...ij,...jk",
    "i,i->",
    "i,j->ij",
    "ij,jk",
    "bij,jk->bik",
    "ij,bjk->bik",
    "abc,cde->abde",
    "ab,cd->",
    "b...i,bi->b...",
    "ijk,jk->i",
    "bn,bm->bnm",
    "ba,ab->b",
]


@settings(deadline=None, max_examples=40)
@given(equation=st.sampled_from(EQUATIONS), sizes=st.lists(st.integers(1, 4), min_size=26, max_size=26))
def test_einsum_is_that_of_torch(equation, sizes):
    shapes = []
    for text in equation.partition("->")[0].split(","):
        before, dots, after = text.partition("...")
        inner = [3, 2] if dots else []
        shapes.append([*(sizes[ord(c) - 97] for c in before), *inner, *(sizes[ord(c) - 97] for c in after)])
    if equation == "b...i,bi->b...":
        shapes[0][1:3] = [3, 2]
    factors = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    assert product_forms.takes(equation, *factors)
    torch.testing.assert_close(
        product_forms.einsum(MatrixProduct(), equation, *factors), torch.einsum(equation, *factors)
    )


def test_equations_that_are_not_taken():
    for equation in ("ii,ij->j", "ij,jk,kl->il", "ij->ji", [0, 1]):
        assert not product_forms.takes(equation, 1, 2) or equation == "ij,jk,kl->il"
    assert not product_forms.takes("ij,jk,kl->il", 1, 2, 3)
    assert not product_forms.takes(normal(2, 2), [0, 1])


@settings(deadline=None, max_examples=40)
@given(
    shapes=st.sampled_from(
        [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)), ((4, 2, 3), (3, 2)),
         ((2, 3), (4, 3, 2)), ((5, 1, 2, 3), (4, 3, 2)), ((2, 2, 3), (2, 3, 2))]
    )
)  # fmt: skip
def test_matmul_broadcasts_as_that_of_torch(shapes):
    first, second = (normal(*shape, seed=seed) for seed, shape in enumerate(shapes))
    torch.testing.assert_close(product_forms.matmul(MatrixProduct(), first, second), first @ second)


@pytest.mark.parametrize("mask", ["none", "bool", "float", "batch", "causal", "grouped"])
def test_fused_attention_is_that_of_torch(mask):
    q, k, v = normal(2, 4, 3, 5), normal(2, 4, 6, 5, seed=1), normal(2, 4, 6, 2, seed=2)
    options = {
        "none": {},
        "bool": {"attn_mask": torch.arange(6) < 4},
        "float": {"attn_mask": normal(3, 6, seed=3)},
        "batch": {"attn_mask": torch.ones(2, 1, 3, 6, dtype=torch.bool).tril(2)},
        "causal": {"is_causal": True, "scale": 0.2},
        "grouped": {"enable_gqa": True},
    }[mask]
    if mask == "grouped":
        k, v = k[:, :2], v[:, :2]
    elif mask == "bool":
        options["attn_mask"] = options["attn_mask"].expand(3, 6)
    torch.testing.assert_close(
        product_forms.scaled_dot_product_attention(MatrixProduct(), MatrixProduct(), q, k, v, **options),
        functional.scaled_dot_product_attention(q, k, v, **options),
    )
