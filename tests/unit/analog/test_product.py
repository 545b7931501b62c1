"""Products whose second factor is written to tiles for every input."""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mdls_cosim.analog import (
    Adc,
    AnalogMultiheadAttention,
    AnalogProduct,
    BitSerialDac,
    Dac,
    Hardware,
    IdealDac,
    MatrixProduct,
    Moment,
    PulseWidthDac,
)
from mdls_cosim.analog import product as product_module
from mdls_cosim.devices import Sinh
from mdls_cosim.devices.variability import Drift, ProgrammingError, ReadNoise, Variability
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.tiles import TileSpec

MAPPINGS = ("pair", "interleaved_pair", "offset_column", "digital_offset")
LOWEST, HIGHEST, READ = 1e-6, 100e-6, 0.2
WIRED = TileSpec(
    rows=4,
    cols=5,
    row_line_resistance=30.0,
    column_line_resistance=70.0,
    driver_resistance=150.0,
    sense_resistance=90.0,
)
NOISY = Variability(effects=(ProgrammingError(relative=0.1),))


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer_of(seed=0, **changes):
    return AnalogProduct(hardware=Hardware(**{"tile": TileSpec(rows=4, cols=5), **changes}), seed=seed)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_is_the_product_in_the_ideal_limit(data):
    draw = data.draw
    batch = draw(st.sampled_from([(), (3,), (2, 3), (1, 2, 2)]))
    vectors, inputs, outputs = (draw(st.integers(1, 9)) for _ in range(3))
    seed = draw(st.integers(0, 99))
    hardware = Hardware(
        tile=TileSpec(rows=4, cols=5),
        mapping=draw(st.sampled_from(MAPPINGS)),
        states=2**15,
        slices=2,
        scaling=draw(st.sampled_from(["layer", "column"])),
        placement=draw(st.sampled_from(["linear", "permuted"])),
        subtraction=draw(st.sampled_from(["analog", "digital"])),
        dac=draw(st.sampled_from([IdealDac(), Dac(bits=30), BitSerialDac(bits=16), PulseWidthDac(bits=16)])),
        adc=Adc(bits=32),
    )
    x, w = normal(*batch, vectors, inputs, seed=seed), normal(*batch, inputs, outputs, seed=seed + 1)
    found = AnalogProduct(hardware=hardware)(x, w)
    expected = x @ w
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    # A DAC of 16 bits signed leaves 2^-16 of the largest input on every row.
    tolerance = 2.0**-15 * float(x.abs().max()) * float(w.abs().max()) * inputs
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_every_matrix_is_read_on_tiles_of_its_own_with_wires():
    """Against NodalTile, matrix by matrix and tile by tile: a pair, five inputs on two row tiles, bottom rows first."""
    x, w = normal(2, 3, 5, seed=1), normal(2, 5, 7, seed=2)
    found = layer_of(tile=WIRED, rung="nodal")(x, w)
    tile, expected = NodalTile(WIRED), torch.zeros(2, 3, 7, dtype=torch.float64)
    peak = x.abs().max()
    for number in range(2):
        scale = w[number].abs().max()
        for rows in (slice(0, 3), slice(3, 5)):
            for columns in (slice(0, 4), slice(4, 7)):
                part = w[number, rows, columns] / scale
                used, width = part.shape
                voltages = torch.zeros(3, 4, dtype=torch.float64)
                voltages[:, 4 - used :] = READ * x[number, :, rows] / peak
                for sign in (1, -1):
                    cells = torch.full((4, 5), LOWEST, dtype=torch.float64)
                    cells[4 - used :, :width] = LOWEST + (HIGHEST - LOWEST) * (sign * part).clamp(min=0)
                    currents = tile.program(cells)(voltages)[:, :width]
                    expected[number, :, columns] += sign * currents * peak * scale / (READ * (HIGHEST - LOWEST))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert float((found - x @ w).norm() / (x @ w).norm()) > 0.01


def test_nonlinear_cells_are_solved_as_they_are_driven():
    spec = WIRED.replace(cell=Sinh(nonlinearity=4.0))
    x, w = normal(1, 2, 3, seed=1), normal(1, 3, 4, seed=2)
    layer = layer_of(tile=spec, rung="nodal")
    found = layer(x, w)
    voltages = torch.zeros(2, 4, dtype=torch.float64)
    voltages[:, 1:] = READ * x[0] / x.abs().max()
    currents = NodalTile(spec).program(layer.conductances[:, 0, 0, 0])(voltages)
    expected = (currents[0] - currents[1])[:, :4] * x.abs().max() * w.abs().max() / (READ * (HIGHEST - LOWEST))
    torch.testing.assert_close(found[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("states", [2, 5, 16])
def test_quantization_stays_within_half_a_level(states):
    x, w = normal(3, 4, 6, seed=1), normal(3, 6, 5, seed=2)
    error = (layer_of(states=states)(x, w) - x @ w).abs()
    bound = x.abs().sum(-1, keepdim=True) * w.abs().amax((1, 2), keepdim=True) / (2 * (states - 1))
    assert bool((error <= bound * (1 + 1e-9)).all())
    assert float((error / bound).max()) > 0.2


def test_matrices_do_not_depend_on_the_rest_of_the_batch():
    x, w = normal(3, 4, 6, seed=1), normal(3, 6, 5, seed=2)
    layer = layer_of(tile=WIRED, states=6, dac=Dac(bits=6), adc=Adc(bits=6))
    whole = layer(x, w)  # finds the ranges
    for number in range(3):
        other = w * (torch.arange(3) == number)[:, None, None] + 5 * normal(3, 6, 5, seed=3)
        other[number] = w[number]
        torch.testing.assert_close(layer(x, other)[number], whole[number], rtol=1e-12, atol=0)
        torch.testing.assert_close(layer(x[[number]], w[[number]])[0], whole[number], rtol=1e-12, atol=0)


def test_every_write_is_drawn_anew_and_follows_from_the_seed():
    x, w = normal(2, 3, 4, seed=1), normal(2, 4, 5, seed=2)
    layer = layer_of(variability=NOISY, seed=7)
    first, second = layer(x, w), layer(x, w)
    assert not torch.allclose(first, second, rtol=1e-3)
    assert not torch.allclose(layer.conductances[:, 0], layer.conductances[:, 1], rtol=1e-3)
    layer.program(7)
    assert torch.equal(layer(x, w), first)
    assert torch.equal(layer(x, w), second)
    layer.read_at(Moment())
    assert torch.equal(layer(x, w), first)
    layer.program(8)
    assert not torch.allclose(layer(x, w), first, rtol=1e-3)


def test_cells_are_read_at_once():
    x, w = normal(2, 3, 4, seed=1), normal(2, 4, 5, seed=2)
    layer = layer_of(variability=Variability(effects=(Drift(exponent=0.1),)))
    expected = layer(x, w)
    layer.read_at(Moment(time=86400.0))
    assert torch.equal(layer(x, w), expected)


def test_read_noise_is_new_with_every_write():
    x, w = normal(1, 1, 4, seed=1).expand(100, 1, 4), normal(1, 4, 5, seed=2).expand(100, 4, 5)
    layer = layer_of(variability=Variability(effects=(ReadNoise(relative=0.05),)))
    found = torch.cat([layer(x, w), layer(x, w)])[:, 0]
    assert len(found.unique(dim=0)) == 200
    layer.program()
    torch.testing.assert_close(layer(x, w)[:, 0], found[:100], rtol=0, atol=0)
    # Independent cells: the variance is the sum of (V sigma G)^2 over both of every pair.
    scale = w.abs().max()
    cells = LOWEST + (HIGHEST - LOWEST) * torch.stack([w[0], -w[0]]).clamp(min=0) / scale
    sigma = (x[0, 0, :, None] * 0.05 * cells).square().sum((0, 1)).sqrt() * scale / (HIGHEST - LOWEST)
    np.testing.assert_allclose(found.std(0) / sigma, 1.0, atol=0.25)


def test_counts():
    hardware = {"dac": Dac(bits=4), "adc": Adc(bits=4), "weight_clip": 1.0}
    x, w = normal(2, 3, 6, seed=1), normal(2, 6, 7, seed=2)
    layer = layer_of(**hardware)
    for calls in (1, 2):
        layer(x, w)
        counters = layer.counters
        assert counters.reads == calls * 2 * 3
        assert counters.dac_conversions == calls * x.numel()
        assert counters.adc_conversions == calls * 2 * 3 * 2 * 7  # two row tiles
        beyond = w.abs() > w.square().mean((1, 2), keepdim=True).sqrt()
        assert layer.clipped_weights == calls * int(beyond.sum())
    assert counters.dac_saturated == 0
    layer(3 * x, w)
    assert layer.counters.dac_saturated == int((3 * x.abs() > x.abs().max() * (1 + 0.5 / 7)).sum()) > 0
    layer.program()
    assert layer.clipped_weights == 0


def test_gradients_are_those_of_the_product_and_stop_at_the_clip():
    found = []
    for product in (MatrixProduct(), layer_of()):
        x, w = normal(2, 3, 6, seed=1).requires_grad_(), normal(2, 6, 5, seed=2).requires_grad_()
        (product(x, w) * normal(2, 3, 5, seed=3)).sum().backward()
        found.append((x.grad, w.grad))
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    layer, w = layer_of(weight_clip=1.0), normal(2, 6, 5, seed=2).requires_grad_()
    layer(normal(2, 3, 6, seed=1), w).sum().backward()
    clipped = w.detach().abs() > w.detach().square().mean((1, 2), keepdim=True).sqrt()
    assert bool((w.grad[clipped] == 0).all())
    assert bool((w.grad[~clipped] != 0).all())


def test_files_and_copies_go_on_where_it_was_and_a_state_dict_begins_anew():
    x, w = normal(2, 3, 4, seed=1), normal(2, 4, 5, seed=2)
    hardware = {"variability": NOISY, "dac": Dac(bits=5), "adc": Adc(bits=6, range=99.0, noise=0.1)}
    layer = layer_of(**hardware, seed=3)
    first = layer(x, w)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    others = [copy.deepcopy(layer), torch.load(file, weights_only=False)]
    second = layer(x, w)
    assert not torch.equal(first, second)
    assert all(torch.equal(each(x, w), second) for each in others)
    loaded = layer_of(**hardware)
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded(x, w), first)
    # A batch of another size is another chip, not another model.
    layer(x[:1], w[:1])
    loaded.load_state_dict(layer.state_dict())


def test_runs_in_inference_mode_and_then_with_gradients():
    layer, x, w = layer_of(tile=WIRED), normal(2, 3, 4, dtype=torch.float32), normal(2, 4, 5, dtype=torch.float32)
    with torch.inference_mode():
        expected = layer(x.clone(), w.clone())
    x.requires_grad_()
    found = layer(x, w)
    torch.testing.assert_close(found.detach(), expected.clone())
    found.sum().backward()
    assert x.grad is not None
    assert layer(x[:, :0], w).shape == (2, 0, 5)
    assert layer(x[:0], w[:0]).shape == (0, 3, 5)


def test_wrong_factors_and_scales_are_refused():
    layer = layer_of()
    for x, w in ((normal(2, 3, 4), normal(3, 4, 5)), (normal(2, 3, 4), normal(2, 5, 4)), (normal(4), normal(4))):
        with pytest.raises(InputError, match=r"wrong shapes.*\*batch, inputs, outputs"):
            layer(x, w)
    with pytest.raises(InputError, match="not finite"):
        layer(normal(3, 4), torch.full((4, 5), torch.nan, dtype=torch.float64))
    with pytest.raises(ConfigError, match="network"):
        layer_of(scaling="network")


def attention(**changes):
    digital = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for index, parameter in enumerate(digital.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=index))
    hardware = Hardware(**{"tile": WIRED, "attention": "tiles", **changes})
    return digital, AnalogMultiheadAttention.from_digital(digital, hardware)


def test_what_padded_positions_hold_reaches_nothing():
    _, layer = attention(states=8)
    x, padding = normal(2, 4, 6), torch.tensor([[False, False, True, True], [False, False, False, True]])
    y = torch.where(padding[..., None], 1e3 * x, x)
    query = x[:, :2]
    layer(x, y, y)  # the DACs' full scale
    expected, weights = layer(query, x, x, key_padding_mask=padding)
    found, _ = layer(query, y, y, key_padding_mask=padding)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert bool((weights.movedim(1, -1)[padding] == 0).all())


def test_large_batches_are_written_in_parts(monkeypatch):
    _, layer = attention()
    x = normal(5, 3, 6)
    expected, _ = layer(x, x, x)
    assert layer.scores.writes == 1
    monkeypatch.setattr(
        product_module, "WRITTEN_CELLS", 2 * 2 * 2 * 20
    )  # two sequences, of two heads, in pairs of one tile
    layer.scores.read_at(Moment())
    torch.testing.assert_close(layer(x, x, x)[0], expected, rtol=1e-12, atol=0)
    assert layer.scores.writes == 3
    assert layer.scores.counters.reads == 2 * 5 * 2 * 3


@pytest.mark.filterwarnings("ignore:weights on tiles get no gradient")  # backward() asks all leaves
def test_gradients_reach_queries_keys_and_values():
    digital, layer = attention(tile=TileSpec(rows=4, cols=5))
    found = []
    for each in (digital, layer):
        parts = [normal(2, 3, 6, seed=seed).requires_grad_() for seed in range(3)]
        (each(*parts)[0] * normal(2, 3, 6, seed=9)).sum().backward()
        found.append([part.grad for part in parts])
    for ours, expected in zip(found[1], found[0], strict=True):
        assert float(expected.abs().max()) > 1e-3
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
