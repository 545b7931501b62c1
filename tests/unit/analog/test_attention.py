"""Attention and encoder layers on tiles against torch's."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mdls_cosim.analog import (
    Adc,
    AnalogLayer,
    AnalogLinear,
    AnalogMultiheadAttention,
    AnalogProduct,
    AnalogTransformerEncoderLayer,
    Dac,
    Hardware,
)
from mdls_cosim.errors import InputError
from mdls_cosim.tiles import TileSpec

FINE = Hardware(tile=TileSpec(rows=5, cols=4), states=2**30, dac=Dac(bits=30), adc=Adc(bits=30))
PLAIN = Hardware(tile=TileSpec(rows=16, cols=16), rung="ideal")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module, seed):
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=100 * seed + index))
    return module


def assert_same(result, expected):
    """To 1e-5: 2^30 states and 30 bits leave 1e-9 of every product, and softmax multiplies scores of tens."""
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()) + 1e-12)


def masks(draw, rows, queries, keys, batch, heads):
    """An attention mask and a padding mask of one type, which leave the first key to everyone."""
    floating = draw(st.booleans())
    seed = draw(st.integers(0, 99))
    attn = padding = None
    if rows != "none":
        shape = (queries, keys) if rows == "shared" else ((batch or 1) * heads, queries, keys)
        attn = normal(*shape, seed=seed) if floating else normal(*shape, seed=seed) > 0.5
        attn[..., 0] = 0
    if draw(st.booleans()):
        shape = (batch, keys) if batch else (keys,)
        padding = normal(*shape, seed=seed + 1) if floating else normal(*shape, seed=seed + 1) > 0.5
        padding[..., 0] = 0
    return attn, padding


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_attention_reproduces_torch(data):
    draw = data.draw
    heads = draw(st.integers(1, 3))
    width = heads * draw(st.integers(1, 3))
    same = draw(st.booleans())
    kdim, vdim = (width, width) if same else (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    options = {name: draw(st.booleans()) for name in ("bias", "add_bias_kv", "add_zero_attn", "batch_first")}
    seed = draw(st.integers(0, 99))
    dims = {} if same else {"kdim": kdim, "vdim": vdim}
    digital = filled(nn.MultiheadAttention(width, heads, **options, **dims, dtype=torch.float64), seed)
    digital.train(draw(st.booleans()))
    batch, queries, keys = draw(st.sampled_from([None, 1, 3])), draw(st.integers(1, 4)), draw(st.integers(1, 4))

    def sequence(length, size, offset):
        shape = (length,) if batch is None else (batch, length) if options["batch_first"] else (length, batch)
        return normal(*shape, size, seed=seed + offset)

    query, key, value = sequence(queries, width, 1), sequence(keys, kdim, 2), sequence(keys, vdim, 3)
    if same and queries == keys and draw(st.booleans()):
        key = value = query
    attn, padding = masks(draw, draw(st.sampled_from(["none", "shared", "own"])), queries, keys, batch, heads)
    asked = {"need_weights": draw(st.booleans()), "average_attn_weights": draw(st.booleans())}
    where = draw(st.sampled_from(["digital", "tiles"]))
    layer = AnalogMultiheadAttention.from_digital(digital, FINE.replace(attention=where))
    kinds = [type(part) for part in layer.children() if isinstance(part, AnalogLayer)]
    assert kinds == [AnalogLinear] * 4 + [AnalogProduct] * (2 if where == "tiles" else 0)
    expected = digital(query, key, value, padding, attn_mask=attn, **asked)
    result = layer(query, key, value, padding, attn_mask=attn, **asked)
    assert_same(result[0], expected[0])
    assert (result[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        assert_same(result[1], expected[1])


def test_causal_mask_and_total_dropout():
    digital = filled(nn.MultiheadAttention(4, 2, dropout=1.0, dtype=torch.float64), 1)
    layer = AnalogMultiheadAttention.from_digital(digital, FINE)
    x, mask = normal(5, 2, 4), nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    for needed in (False, True):
        for training in (False, True):  # in training everything is dropped
            digital.train(training)
            layer.train(training)
            ours = layer(x, x, x, attn_mask=mask, is_causal=True, need_weights=needed)[0]
            assert_same(ours, digital(x, x, x, attn_mask=mask, is_causal=True, need_weights=needed)[0])


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_encoder_layer_reproduces_torch(data):
    draw = data.draw
    heads = draw(st.integers(1, 2))
    width = heads * draw(st.integers(1, 3))
    options = {name: draw(st.booleans()) for name in ("norm_first", "batch_first", "bias")}
    activation = draw(st.sampled_from(["relu", "gelu", torch.tanh, nn.SiLU()]))
    seed = draw(st.integers(0, 99))
    digital = nn.TransformerEncoderLayer(width, heads, 5, 0.0, activation, **options, dtype=torch.float64)
    filled(digital, seed).train(draw(st.booleans()))
    batch, length = draw(st.sampled_from([None, 3])), draw(st.integers(1, 4))
    shape = (length,) if batch is None else (batch, length) if options["batch_first"] else (length, batch)
    x = normal(*shape, width, seed=seed)
    attn, padding = masks(draw, draw(st.sampled_from(["none", "shared", "own"])), length, length, batch, heads)
    where = draw(st.sampled_from(["digital", "tiles"]))
    layer = AnalogTransformerEncoderLayer.from_digital(digital, FINE.replace(attention=where))
    names = [name for name, part in layer.named_modules() if isinstance(part, AnalogLinear)]
    assert sorted(names) == sorted([f"self_attn.{w}_proj" for w in ("q", "k", "v", "out")] + ["linear1", "linear2"])
    expected = digital(x, attn, padding)  # with gradients: torch's own slow path
    assert_same(layer(x, attn, padding), expected)
    with torch.no_grad():
        assert_same(layer(x, attn, padding), expected.detach())
    assert type(digital.linear1) is nn.Linear
    assert type(digital.self_attn) is nn.MultiheadAttention


def test_encoder_layers_are_read_in_eval_mode():
    """Where torch would run its fused kernel, other conductances still give other outputs."""
    layer = AnalogTransformerEncoderLayer(4, 2, 8, batch_first=True, hardware=PLAIN).eval()
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = layer(x)
        for name, part in layer.named_modules():
            if isinstance(part, AnalogLinear):
                chip = part.chip()
                part.conductances.copy_(part.conductances.flip(0))  # the weights with the other sign
                assert not torch.allclose(layer(x), before, atol=1e-4), name
                part.restore(chip)
        torch.testing.assert_close(layer(x), before)
    assert all(part.counters.reads for part in layer.modules() if isinstance(part, AnalogLinear))


def test_a_stack_of_analog_layers():
    layer = AnalogTransformerEncoderLayer(4, 2, 8, batch_first=True, hardware=PLAIN)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x, padding = torch.ones(2, 3, 4), torch.tensor([[False, False, True], [False, False, False]])
    with torch.no_grad():
        assert encoder(x, src_key_padding_mask=padding).shape == x.shape
        assert encoder(x, nn.Transformer.generate_square_subsequent_mask(3)).shape == x.shape


@pytest.mark.filterwarnings("ignore:weights on tiles get no gradient")  # backward() asks all leaves
def test_gradients_reach_the_inputs_and_the_digital_parameters():
    digital = filled(nn.TransformerEncoderLayer(6, 2, 5, 0.0, dtype=torch.float64), 2)
    digital.self_attn.in_proj_weight.requires_grad_(False)
    layer = AnalogTransformerEncoderLayer.from_digital(digital, PLAIN)
    assert not layer.self_attn.q_proj.weight.requires_grad
    assert layer.self_attn.q_proj.bias.requires_grad
    found = []
    for each in (digital, layer):
        x = normal(4, 2, 6).requires_grad_()
        (each(x) * normal(4, 2, 6, seed=1)).sum().backward()
        found.append((x.grad, each.norm1.weight.grad))
    assert float(found[0][0].abs().max()) > 1e-3
    for ours, expected in zip(found[1], found[0], strict=True):
        assert_same(ours, expected)
    layer.zero_grad()


def test_state_dict_and_deepcopy_round_trip():
    options = {"dtype": torch.float64, "hardware": FINE, "dropout": 0.0}
    layer = AnalogTransformerEncoderLayer(4, 2, 5, **options, seed=1)
    x = normal(3, 2, 4)
    expected = layer(x)
    other = AnalogTransformerEncoderLayer(4, 2, 5, **options)
    other.load_state_dict(layer.state_dict())
    for each in (other, copy.deepcopy(layer)):
        torch.testing.assert_close(each(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((2, 3, 4), (2, 3, 4), (2, 2, 4)), {}, "as many values as keys"),
        (((2, 3, 4), (3, 4), (3, 4)), {}, "one batch"),
        (((2, 3, 4), (1, 3, 4), (1, 3, 4)), {}, "one batch"),
        (((2, 3, 5),) * 3, {}, r"AnalogLinear.*\(2, 3, 5\)"),
        (((2, 3, 4),) * 3, {"attn_mask": torch.zeros(2, 3)}, r"attn_mask.*\(2, 3\).*\(3, 3\) or \(4, 3, 3\)"),
        (((2, 3, 4),) * 3, {"key_padding_mask": torch.zeros(3, 2)}, r"key_padding_mask.*\(3, 2\).*\(2, 3\)"),
        (((2, 3, 4),) * 3, {"attn_mask": torch.zeros(3, 3, dtype=torch.int64)}, "boolean"),
        (((2, 3, 4),) * 3, {"is_causal": True}, "causal mask"),
    ],
)
def test_wrong_inputs_are_refused(shapes, options, message):
    layer = AnalogMultiheadAttention(4, 2, batch_first=True, hardware=PLAIN)
    with pytest.raises(InputError, match=message):
        layer(*(torch.ones(shape) for shape in shapes), **options)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused():
    nested = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)])
    with pytest.raises(InputError, match="nested"):
        AnalogMultiheadAttention(4, 2, batch_first=True, hardware=PLAIN)(nested, nested, nested)
