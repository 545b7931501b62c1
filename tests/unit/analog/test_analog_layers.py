"""Layers on tiles against the torch layers whose weights they hold."""

import copy
import gc
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mdls_cosim.analog import Adc, AnalogConv2d, AnalogLinear, AnalogMatrix, Dac, Hardware
from mdls_cosim.analog import layer as layer_module
from mdls_cosim.devices import Sinh
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.surrogates import SeriesSurrogate
from mdls_cosim.surrogates.series import START
from mdls_cosim.tiles import TileSpec

SMALL = TileSpec(rows=5, cols=4)  # so small that nearly every layer is cut into tiles
FINE = Hardware(tile=SMALL, states=2**30, dac=Dac(bits=30), adc=Adc(bits=30))
WIRED = SMALL.replace(
    row_line_resistance=5.0, column_line_resistance=5.0, driver_resistance=20.0, sense_resistance=20.0
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def linear(inputs=12, outputs=7, bias=True, seed=0, dtype=torch.float64):
    layer = nn.Linear(inputs, outputs, bias, dtype=dtype)
    fill(layer, seed)
    return layer


def fill(layer, seed):
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=100 * seed + index))


def assert_same(result, expected):
    """To 1e-5 of the largest output: 2^30 states and 30 bits leave 1e-9 of the largest products that add up to it."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()) + 1e-12)


@settings(deadline=None, max_examples=40)
@given(
    inputs=st.integers(1, 17),
    outputs=st.integers(1, 11),
    bias=st.booleans(),
    batch=st.sampled_from([(), (1,), (6,), (2, 3)]),
    subtraction=st.sampled_from(["analog", "digital"]),
    positive=st.booleans(),
    seed=st.integers(0, 99),
)
def test_linear_reproduces_torch(inputs, outputs, bias, batch, subtraction, positive, seed):
    digital = linear(inputs, outputs, bias, seed)
    x = normal(*batch, inputs, seed=seed)
    x = x.abs() if positive else x
    layer = AnalogLinear.from_linear(digital, FINE.replace(subtraction=subtraction))
    assert_same(layer(x), digital(x))


# torch warns that its own convolution copies the input where "same" needs unequal margins.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_convolution_reproduces_torch(data):
    draw = data.draw
    groups = draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from(["same", "valid"])))
    stride = (1, 1) if padding == "same" else draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    digital = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        draw(st.booleans()),
        draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        dtype=torch.float64,
    )
    seed = draw(st.integers(0, 99))
    fill(digital, seed)
    batch = draw(st.sampled_from([(), (1,), (3,)]))
    x = normal(*batch, digital.in_channels, draw(st.integers(5, 7)), draw(st.integers(5, 7)), seed=seed)
    layer = AnalogConv2d.from_conv(digital, FINE.replace(subtraction=draw(st.sampled_from(["analog", "digital"]))))
    assert_same(layer(x), digital(x))


def test_depthwise_and_many_tiles_in_float32():
    digital = nn.Conv2d(6, 12, 3, padding=1, groups=6)
    fill(digital, 1)
    x = normal(4, 6, 8, 8, dtype=torch.float32)
    layer = AnalogConv2d.from_conv(digital, FINE)
    assert layer.conductances.shape == (2, 6, 2, 1, 5, 4)
    assert_same(layer(x), digital(x))


def test_half_precision_inputs_are_read_in_single_and_given_back_in_half():
    digital = linear(dtype=torch.float32)
    x = normal(3, 12, dtype=torch.float32)
    layer = AnalogLinear.from_linear(digital, FINE)
    result = layer(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), layer(x.bfloat16().float()), rtol=2**-8, atol=0)


def test_chunks_give_the_same(monkeypatch):
    digital = nn.Conv2d(3, 5, 3, dtype=torch.float64)
    x = normal(7, 3, 6, 6)
    hardware = FINE.replace(dac=Dac(bits=4), adc=Adc(bits=5))
    whole = AnalogConv2d.from_conv(digital, hardware)
    expected = whole(x)
    monkeypatch.setattr(layer_module, "READ_ELEMENTS", 1)
    chunked = AnalogConv2d.from_conv(digital, hardware)
    result = chunked(x)
    # Products of other shapes may round differently in the last bit, hardly ever across a step of the ADC.
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    assert chunked.counters == whole.counters
    assert whole.counters.reads == 7 * 16


def test_empty_batch():
    layer = AnalogLinear.from_linear(linear(), FINE)
    assert layer(torch.zeros(0, 12, dtype=torch.float64)).shape == (0, 7)
    conv = AnalogConv2d(2, 3, 3, hardware=FINE)
    assert conv(torch.zeros(0, 2, 5, 5)).shape == (0, 3, 3, 3)
    assert not conv.calibrated


def test_inputs_of_nothing_but_zeros_give_the_bias():
    digital = linear()
    layer = AnalogLinear.from_linear(digital, FINE)
    result = layer(torch.zeros(2, 12, dtype=torch.float64))
    assert torch.equal(result, digital.bias.expand(2, -1))
    assert not layer.calibrated


def test_states_leave_six_conductances_on_the_chip():
    layer = AnalogLinear.from_linear(linear(20, 20), FINE.replace(states=6))
    assert len(layer.conductances.unique()) == 6


def test_unmapped_cells_hold_the_declared_conductance():
    hardware = FINE.replace(unmapped_conductance=33e-6)
    layer = AnalogLinear.from_linear(linear(3, 3), hardware)
    assert torch.all(layer.conductances[..., :2, :] == 33e-6)  # 3 inputs: the last three rows of five
    assert torch.all(layer.conductances[..., :, 3:] == 33e-6)
    assert not torch.any(layer.conductances[..., 2:, :3] == 33e-6)
    lowest = AnalogLinear.from_linear(linear(3, 3), FINE)
    assert torch.all(lowest.conductances[..., :2, :] == 1e-6)


def test_row_voltages_reach_the_tiles_as_declared():
    hardware = FINE.replace(dac=Dac(bits=4, full_scale=2.0), read_voltage=0.3)
    layer = AnalogLinear.from_linear(linear(7, 3), hardware)
    x = torch.tensor([[2.0, -2.0, 1.0, 0.0, 0.1, 9.0, -9.0]], dtype=torch.float64)
    layer(x)
    step = 0.3 / 7
    codes = torch.tensor([[0, 7, -7, 4, 0], [0, 0, 0, 7, -7]], dtype=torch.float64)  # 1.0 is code 3.5: ties to even
    voltages = layer.row_voltages(x)
    assert voltages.shape == (1, 2, 1, 5)
    torch.testing.assert_close(voltages[0, :, 0], codes * step, rtol=1e-12, atol=0)


def test_saturation_is_counted_exactly():
    hardware = Hardware(tile=SMALL, rung="ideal", dac=Dac(bits=6, full_scale=1.0), adc=Adc(bits=6, full_scale=1e-6))
    digital = nn.Linear(5, 4, bias=False)
    with torch.no_grad():
        digital.weight.copy_(torch.eye(4, 5))
    layer = AnalogLinear.from_linear(digital, hardware)
    layer(torch.tensor([[1.0, -1.0, 0.0, 1.5, -3.0], [0.0, 0.0, 0.0, 0.0, 0.0]]))
    # DAC: 1.5 and -3. ADC: the columns of 1, -1 and 1.5 (clipped to 1) carry 0.2 V * 99 uS = 20 uA against 1 uA.
    assert (layer.counters.dac_conversions, layer.counters.dac_saturated) == (10, 2)
    assert (layer.counters.adc_conversions, layer.counters.adc_saturated) == (8, 3)
    assert layer.counters.reads == 2


def test_a_calibrated_batch_saturates_nothing_and_a_larger_one_does():
    layer = AnalogLinear.from_linear(linear(), FINE.replace(dac=Dac(bits=6), adc=Adc(bits=6)))
    x = normal(20, 12)
    layer(x)
    assert layer.calibrated
    assert layer.counters.dac_saturated == layer.counters.adc_saturated == 0
    layer(2 * x)
    assert layer.counters.dac_saturated > 0
    peak = float(layer.input_peak)
    assert layer.counters.dac_saturated == int((2 * x.abs() > peak * (1 + 0.5 / 31)).sum())


def test_unsigned_inputs_get_every_code():
    x = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    layer = AnalogLinear.from_linear(linear(1, 1), FINE.replace(dac=Dac(bits=3)))
    layer(x)
    assert len(layer.row_voltages(x).unique()) == 8
    signed = AnalogLinear.from_linear(linear(1, 1), FINE.replace(dac=Dac(bits=3)))
    signed(2 * x - 1)
    assert len(signed.row_voltages(2 * x - 1).unique()) == 7


def test_where_currents_are_subtracted_matters_to_a_coarse_adc_only():
    x, digital = normal(300, 15), linear(15)  # fifteen inputs fill three tiles
    ideal = Hardware(tile=WIRED, rung="nodal")

    def result(subtraction, **changes):
        layer = AnalogLinear.from_linear(digital, ideal.replace(subtraction=subtraction, **changes))
        return layer(x), layer.counters

    analog, digital_result = result("analog")[0], result("digital")[0]
    torch.testing.assert_close(analog, digital_result, rtol=1e-12, atol=1e-12)
    (coarse_analog, one), (coarse_digital, two) = (result(kind, adc=Adc(bits=4)) for kind in ("analog", "digital"))
    assert two.adc_conversions == 2 * one.adc_conversions
    # Two coarse readings at the larger range of single arrays are worse than one of the difference.
    assert (coarse_digital - analog).square().mean() > 1.2 * (coarse_analog - analog).square().mean()
    assert not torch.equal(coarse_analog, coarse_digital)


def test_adc_works_on_every_tile_before_the_sum():
    digital = nn.Linear(10, 4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        digital.weight.fill_(1.0)
    layer = AnalogLinear.from_linear(
        digital, Hardware(tile=SMALL, rung="ideal", dac=Dac(bits=16, full_scale=1.0), adc=Adc(bits=3, full_scale=99e-6))
    )
    # One input at 0.4 of full scale in each row tile: 0.4 * 0.2 V * 99 uS = 7.92 uA, below half a step of 33 uA.
    x = torch.zeros(1, 10, dtype=torch.float64)
    x[0, [0, 9]] = 0.4
    assert torch.equal(layer(x), torch.zeros(1, 4, dtype=torch.float64))
    # Summed before a single ADC they would still be zero; five inputs of a tile at 1 are 99 uA: three steps.
    full = torch.zeros(1, 10, dtype=torch.float64)
    full[0, :5] = 1.0
    torch.testing.assert_close(layer(full), torch.full((1, 4), 5.0, dtype=torch.float64), rtol=1e-4, atol=0)


def test_wires_take_current_away():
    digital = nn.Linear(15, 8, bias=False, dtype=torch.float64)
    with torch.no_grad():
        digital.weight.copy_(normal(8, 15).abs())
    x = normal(10, 15).abs()
    ideal = AnalogLinear.from_linear(digital, Hardware(tile=WIRED, rung="ideal"))(x)
    wired = AnalogLinear.from_linear(digital, Hardware(tile=WIRED, rung="nodal"))(x)
    assert torch.all(wired < ideal)
    assert torch.all(wired > 0.5 * ideal)
    tiles = NodalTile(WIRED)
    layer = AnalogLinear.from_linear(digital, Hardware(tile=WIRED, rung="nodal"))
    layer(x)
    currents = tiles.program(layer.conductances)(layer.row_voltages(x).unsqueeze(-3))
    by_hand = (currents[0] - currents[1]).transpose(-3, -2).flatten(-2)[0, :, :, :8].sum(0)
    by_hand = by_hand * float(x.max()) / 0.2 * float(digital.weight.detach().max()) / 99e-6
    torch.testing.assert_close(wired, by_hand, rtol=1e-12, atol=0)


def test_seeds_draw_the_same_chip_on_every_rung():
    noisy = Hardware(
        tile=WIRED, rung="ideal", states=6, variability=Variability(effects=(ProgrammingError(relative=0.1),))
    )
    first = AnalogLinear.from_linear(linear(), noisy, seed=3)
    again = AnalogLinear.from_linear(linear(), noisy.replace(rung="nodal"), seed=3)
    other = AnalogLinear.from_linear(linear(), noisy, seed=4)
    assert torch.equal(first.conductances, again.conductances)
    assert not torch.equal(first.conductances, other.conductances)
    other.program(3)
    assert torch.equal(first.conductances, other.conductances)


def test_programmed_tiles_are_neither_pickled_nor_copied():
    layer = AnalogLinear.from_linear(linear(), Hardware(tile=WIRED, rung="nodal"))
    before = pickle.dumps(layer)
    layer.programmed()
    assert len(pickle.dumps(layer)) == len(before)


@pytest.mark.parametrize("way", ["state_dict", "save", "deepcopy"])
def test_copies_are_the_same_chip(way):
    hardware = Hardware(
        tile=WIRED,
        rung="nodal",
        states=6,
        dac=Dac(bits=5),
        adc=Adc(bits=5),
        variability=Variability(effects=(ProgrammingError(relative=0.1),)),
    )
    model = nn.Sequential(AnalogConv2d(2, 4, 3, hardware=hardware, seed=1), nn.Flatten(), nn.ReLU())
    model.append(AnalogLinear(36, 3, hardware=hardware, seed=2))
    x = normal(6, 2, 5, 5, dtype=torch.float32)
    expected = model(x)
    if way == "state_dict":
        other = nn.Sequential(AnalogConv2d(2, 4, 3, hardware=hardware, seed=8), nn.Flatten(), nn.ReLU())
        other.append(AnalogLinear(36, 3, hardware=hardware, seed=9))
        other(x)  # its tiles are programmed by now, with another chip
        assert not torch.equal(other(x), expected)
        other.load_state_dict(model.state_dict())
    elif way == "save":
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        other = torch.load(buffer, weights_only=False)
    else:
        other = copy.deepcopy(model)
    assert torch.equal(other(x), expected)
    assert other[0].conductances is not model[0].conductances


def test_tiles_are_programmed_once_and_again_after_a_change():
    layer = AnalogLinear.from_linear(linear(), FINE)
    x = normal(2, 12)
    before = layer(x)
    tiles = layer.programmed()
    layer(x)
    assert layer.programmed() is tiles
    with torch.no_grad():
        layer.conductances[0].mul_(0.5)  # a fault put in by hand
    assert layer.programmed() is not tiles
    assert not torch.equal(layer(x), before)
    tiles = layer.programmed()
    layer.hardware = layer.hardware.replace(rung="ideal")
    assert layer.programmed() is not tiles


def test_the_chip_keeps_double_precision_when_the_network_changes_its_own():
    layer = AnalogLinear.from_linear(linear(), FINE, seed=1)
    conductances = layer.conductances.clone()
    layer.float()
    assert layer.weight.dtype == torch.float32
    assert layer.conductances.dtype == torch.float64
    layer.bfloat16().double()
    assert torch.equal(layer.conductances, conductances)


@pytest.mark.parametrize("bounds", [(1e-6, 1e-4), (3e-7, 7e-5), (1.1e-6, 1.3e-4)])
def test_a_chip_of_single_precision_stays_within_its_range(bounds):
    # Rounding to float32 would carry some of these bounds outside, where a surrogate's domain ends.
    lowest, highest = bounds
    layer = AnalogLinear.from_linear(linear().float(), FINE.replace(conductance_range=bounds))
    assert layer.conductances.dtype == torch.float32
    found = layer.conductances.double()
    assert lowest <= float(found.min()) <= lowest * (1 + 1e-6)
    assert highest * (1 - 1e-6) <= float(found.max()) <= highest
    layer.double()
    assert layer.conductances.dtype == torch.float32


@pytest.mark.parametrize("cell", [None, Sinh(nonlinearity=6.0)], ids=["ohmic", "sinh"])
def test_a_read_leaves_no_tensor_to_the_garbage_collector(cell):
    # What refers to itself keeps its tensors until the collector comes by: memory would grow from read to read.
    tile = WIRED.replace(rows=20, cols=6)
    if cell is not None:
        tile = SeriesSurrogate(tile.replace(cell=cell), coefficients={**START, "amplitude": (0.2,)})
    layer = AnalogConv2d(2, 3, 3, hardware=Hardware(tile=tile, read_voltage=0.2))
    x = torch.rand(2, 2, 6, 6)
    with torch.inference_mode():
        layer(x)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            layer(x)
            gc.collect()
            left = [each for each in gc.garbage if isinstance(each, torch.Tensor)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not left


@pytest.mark.filterwarnings("ignore:weights on tiles get no gradient")  # backward() asks all leaves
def test_first_read_in_inference_mode_does_not_spoil_gradients():
    layer = AnalogLinear.from_linear(linear(), FINE)
    x = normal(2, 12)
    with torch.inference_mode():
        layer(x)
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    # Straight through the converters: the gradient of the digital layer, but where an extreme sits on the last code.
    torch.testing.assert_close(x.grad, layer.weight.detach().sum(0).expand(2, -1), rtol=0, atol=1e-4)


def test_large_inputs_whose_sum_overflows_are_finite():
    layer = AnalogLinear(4, 2, bias=False, hardware=Hardware(tile=SMALL))
    x = torch.tensor([[3e38, 3e38, -3e38, -3e38], [3e38, 3e38, 3e38, 3e38]])
    with torch.no_grad():
        layer.weight.mul_(1e-6)
        layer.program()
        torch.testing.assert_close(layer(x), x @ layer.weight.T)
    x[0, 0], x[0, 2] = float("inf"), float("-inf")
    with pytest.raises(InputError, match="not finite"):
        layer(x)


def test_wrong_inputs_say_what_is_wrong():
    layer = AnalogLinear.from_linear(linear(), FINE)
    with pytest.raises(InputError, match=r"wrong shape.*\(3, 5\).*12"):
        layer(torch.zeros(3, 5))
    with pytest.raises(InputError, match="floating point"):
        layer(torch.zeros(3, 12, dtype=torch.int64))
    with pytest.raises(InputError, match="not finite"):
        layer(torch.full((3, 12), float("nan")))
    assert not layer.calibrated
    conv = AnalogConv2d(2, 3, 3, hardware=FINE)
    with pytest.raises(InputError, match="wrong shape"):
        conv(torch.zeros(1, 3, 5, 5))
    with pytest.raises(InputError, match="kernel"):
        conv(torch.zeros(1, 2, 2, 5))
    broken = linear()
    with torch.no_grad():
        broken.weight[0, 0] = float("inf")
    with pytest.raises(InputError, match="weights that are not finite"):
        AnalogLinear.from_linear(broken, FINE)


def test_a_matrix_takes_arrays():
    weights, x = np.arange(6.0).reshape(2, 3), np.array([1.0, -2.0, 0.5])
    matrix = AnalogMatrix(weights, Hardware(tile=SMALL))
    found = matrix @ x
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, weights @ x)
    np.testing.assert_allclose(matrix @ np.eye(3), weights, atol=1e-12)
    with pytest.raises(InputError, match="wrong shape"):
        matrix @ np.ones((2, 2))
    with pytest.raises(InputError, match="floating point inputs"):
        matrix @ np.ones(3, dtype=np.int64)
