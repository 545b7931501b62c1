"""Every layer with every option on tiles without errors against the torch layer whose weights it holds.

Weights and activations are whole numbers that the cells and converters have codes for, so that nothing is left but
the rounding of floating point numbers.
"""

import copy
import math
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mdls_cosim.analog import (
    Accumulator,
    Adc,
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv3d,
    AnalogConvTranspose1d,
    AnalogConvTranspose2d,
    AnalogConvTranspose3d,
    AnalogLinear,
    AnalogMatrix,
    BitSerialDac,
    Counters,
    Dac,
    Hardware,
    IdealDac,
    PulseWidthDac,
)
from mdls_cosim.analog import layer as layer_module
from mdls_cosim.analog.readers import ConvolutionReader, MatrixReader, TapReader, TileReader
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.tiles import TileSpec

MAPPINGS = ("pair", "interleaved_pair", "offset_column", "digital_offset")
WIRES = {
    "row_line_resistance": 40.0,
    "column_line_resistance": 60.0,
    "driver_resistance": 200.0,
    "sense_resistance": 100.0,
}
DACS = {"ideal": IdealDac, "uniform": Dac, "pulse_width": PulseWidthDac, "bit_serial": BitSerialDac}
KINDS = {
    "linear": (nn.Linear, AnalogLinear, 0),
    "conv1d": (nn.Conv1d, AnalogConv1d, 1),
    "conv2d": (nn.Conv2d, AnalogConv2d, 2),
    "conv3d": (nn.Conv3d, AnalogConv3d, 3),
    "transposed1d": (nn.ConvTranspose1d, AnalogConvTranspose1d, 1),
    "transposed2d": (nn.ConvTranspose2d, AnalogConvTranspose2d, 2),
    "transposed3d": (nn.ConvTranspose3d, AnalogConvTranspose3d, 3),
}
# torch warns that its own convolution copies the input where "same" needs unequal margins.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


@dataclass
class Case:
    """A torch layer with whole weights, whole activations for it, and hardware that has codes for both."""

    digital: nn.Module
    inputs: torch.Tensor
    hardware: Hardware

    def on_tiles(self, **changes):
        hardware = self.hardware.replace(**changes)
        if isinstance(self.digital, nn.Linear):
            return AnalogLinear.from_linear(self.digital, hardware, seed=3)
        analog = next(analog for digital, analog, _ in KINDS.values() if type(self.digital) is digital)
        return analog.from_conv(self.digital, hardware, seed=3)


def whole(shape, highest, seed, lowest=None):
    generator = torch.Generator().manual_seed(seed)
    lowest = -highest if lowest is None else lowest
    return torch.randint(lowest, highest + 1, shape, generator=generator).double()


def highest_code(hardware):
    """Of a weight: continuous cells have any."""
    if hardware.states is None:
        return 9
    levels = hardware.states**hardware.slices - 1
    return levels if hardware.mapping in ("pair", "interleaved_pair") else levels // 2


@st.composite
def hardwares(draw, signed=True, **fixed):
    states, slices = draw(st.sampled_from([(None, 1), (4, 8), (2, 3), (3, 1), (5, 2), (16, 1)]))
    kind = draw(st.sampled_from(list(DACS)))
    dac = {} if kind == "ideal" else {"bits": 4, "full_scale": 7.0 if signed else 15.0}
    chosen = {
        "tile": TileSpec(rows=draw(st.integers(1, 9)), cols=draw(st.integers(2, 6))),
        "rung": "ideal",
        "mapping": draw(st.sampled_from(MAPPINGS)),
        "states": states,
        "slices": slices,
        "scaling": draw(st.sampled_from(["layer", "column", "network"])),
        "row_order": draw(st.sampled_from(["auto", "channels", "taps", "dense"])),
        "placement": draw(st.sampled_from(["linear", "permuted"])),
        "subtraction": draw(st.sampled_from(["analog", "digital"])),
        "dac": DACS[kind](phases=draw(st.sampled_from(["bipolar", "separate"])), **dac),
    }
    return Hardware(**{**chosen, **fixed})


@st.composite
def cases(draw, kinds=tuple(KINDS), most_axes=3, **fixed):
    signed = draw(st.booleans())
    hardware = draw(hardwares(signed, **fixed))
    digital = draw(layers(draw(st.sampled_from([kind for kind in kinds if KINDS[kind][2] <= most_axes]))))
    seed = draw(st.integers(0, 99))
    with torch.no_grad():
        top = highest_code(hardware)
        weight = whole(digital.weight.shape, top, seed)
        transposed = isinstance(digital, nn.modules.conv._ConvTransposeNd)
        # The largest weight, of every column, is the last code; that of the layer is then the same.
        (weight[0] if transposed else weight[:, 0]).fill_(top)
        if transposed:
            weight[:: weight.shape[0] // digital.groups] = top
        digital.weight.copy_(weight)
        if digital.bias is not None:
            digital.bias.copy_(whole(digital.bias.shape, 50, seed + 1))
    shape = sizes_for(draw, digital)
    inputs = whole(shape, 7, seed, -7) if signed else whole(shape, 15, seed, 0)
    inputs.view(-1)[0] = -7.0 if signed else 15.0
    return Case(digital, inputs, hardware)


@st.composite
def layers(draw, kind):
    digital, _, axes = KINDS[kind]
    bias = draw(st.booleans())
    if not axes:
        return digital(draw(st.integers(1, 14)), draw(st.integers(1, 9)), bias, dtype=torch.float64)
    each = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(axes))  # noqa: E731
    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    if "transposed" in kind:
        more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        padding = each(0, 2)
        return digital(*channels, kernel, stride, padding, more, groups, bias, dilation, dtype=torch.float64)
    padding = draw(st.one_of(st.just(each(0, 2)), st.sampled_from(["same", "valid"])))
    stride = (1,) * axes if padding == "same" else stride
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    return digital(*channels, kernel, stride, padding, dilation, groups, bias, mode, dtype=torch.float64)


def sizes_for(draw, digital):
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    if isinstance(digital, nn.Linear):
        return (*draw(st.sampled_from([(), (1,), (3,), (2, 2)])), digital.in_features)
    axes = digital.weight.ndim - 2
    # Room for the dilated kernel, and for a reflection of the largest padding.
    return (*batch, digital.in_channels, *(draw(st.integers(5, 7 - (axes == 3))) for _ in range(axes)))


def assert_rounding_only(found, expected, dtype=torch.float64):
    """Codes are whole and weights and activations exact: what is left is the rounding of currents, which come back
    from a range of conductances around a common mode that may be some hundred times the result."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == dtype
    scale = float(expected.detach().abs().max()) + 1
    torch.testing.assert_close(found, expected, rtol=0, atol=scale * (1e-9 if dtype == torch.float64 else 1e-3))


@pytest.mark.parametrize("kind", list(KINDS))
@settings(deadline=None, max_examples=45)
@given(data=st.data())
def test_layer_is_the_torch_layer(kind, data):
    case = data.draw(cases((kind,)))
    assert_rounding_only(case.on_tiles()(case.inputs), case.digital(case.inputs))


@settings(deadline=None, max_examples=40)
@given(cases())
def test_layer_is_the_torch_layer_in_float32(case):
    digital, x = case.digital.float(), case.inputs.float()
    assert_rounding_only(case.on_tiles()(x), digital(x), torch.float32)


@settings(deadline=None, max_examples=40)
@given(cases(("linear",)), st.sampled_from([(), (1,), (4,), (2, 3)]), st.integers(0, 99))
def test_matrix_times_vectors(case, batch, seed):
    weights = case.digital.weight.detach()
    shape = (*batch[:-1], weights.shape[1], *batch[-1:])
    dac = case.hardware.dac
    signed = dac.full_scale in (None, 7.0)
    x = whole(shape, 7, seed) if signed else whole(shape, 15, seed, 0)
    x.view(-1)[0] = -7.0 if signed else 15.0
    assert_rounding_only(AnalogMatrix(weights, case.hardware) @ x, weights @ x)
    assert_rounding_only(AnalogMatrix(weights.numpy(), case.hardware) @ x, weights @ x)


@pytest.mark.filterwarnings("ignore:weights on tiles get no gradient")  # backward() asks all leaves
@settings(deadline=None, max_examples=60)
@given(cases(most_axes=2), st.sampled_from([0.0, 1.0]))
def test_gradients_to_inputs_are_the_torch_layers(case, through_tiles):
    # Within the codes every converter passes the gradient on as it is, on every path.
    layer = case.on_tiles()
    if through_tiles:
        force_tiles(layer)
    found, expected = (case.inputs.clone().requires_grad_() for _ in range(2))
    slope = whole(case.digital(case.inputs).shape, 5, 1)
    (layer(found) * slope).sum().backward()
    (case.digital(expected) * slope).sum().backward()
    assert_rounding_only(found.grad, expected.grad)


def force_tiles(layer):
    """Reads through the tile model as if it were not linear, with the same slices of every read as linear tiles."""
    model = layer.hardware.tile_model

    class Shy:
        matrix = products = None
        largest_voltage = math.inf

        def __init__(self, programmed):
            self._programmed = programmed

        def __call__(self, voltages):
            return self._programmed(voltages)

    programmed = Shy(model().program(layer.conductances.clone()))
    layer.programmed = lambda: programmed


def reader_of(layer):
    return type(layer._reading.reader)


CONVERTERS = {
    "plain": Adc(bits=5),
    "errors": Adc(bits=6, offset=2.0, gain_error=0.1, integral_nonlinearity=1.0),
    "shared": Adc(bits=6, offset=2.0, gain_error=0.1, integral_nonlinearity=1.0, columns_per_adc=2),
    "percentile": Adc(bits=5, range=90.0),
}


@mock.patch.object(layer_module, "CALIBRATION_SAMPLES", 2**24)  # a sample of the currents depends on their order
@torch.no_grad()
@settings(deadline=None, max_examples=100)
@given(
    cases(most_axes=2, rung="nodal"),
    st.sampled_from(list(CONVERTERS)),
    st.sampled_from([None, 5]),
)
def test_linear_readers_are_the_tiles(case, converter, register):
    """Products, convolutions and single taps read wired chips as one tile after the other does: the same codes, the
    same counts, the same errors of the same converters, the same register."""
    tile = case.hardware.spec.replace(**WIRES)
    variability = Variability(effects=(ProgrammingError(relative=0.05),))
    changes = {
        "tile": tile,
        "adc": CONVERTERS[converter],
        "accumulator": Accumulator(bits=register, step=3.0 if register else 1.0),
        "variability": variability,
    }
    linear, tiles = case.on_tiles(**changes), case.on_tiles(**changes)
    assert torch.equal(linear.conductances, tiles.conductances)
    force_tiles(tiles)
    for layer in (linear, tiles):
        layer(case.inputs)
        layer.counters = Counters()
    assert reader_of(tiles) is TileReader
    assert reader_of(linear) in (MatrixReader, ConvolutionReader, TapReader)
    assert float(linear.current_peak) == pytest.approx(float(tiles.current_peak), rel=1e-12)
    # One range for both. Were it one of the currents itself, others could be whole fractions of it, halfway between two
    # codes; now that takes a coincidence.
    linear.current_peak.mul_(1.0137)
    tiles.current_peak.copy_(linear.current_peak)
    found, expected = linear(case.inputs), tiles(case.inputs)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * scale + 1e-12)
    assert linear.counters == tiles.counters


READERS = {
    "channels": (ConvolutionReader, AnalogConv2d, {"rows": 9}),
    "taps": (TapReader, AnalogConv2d, {"rows": 3}),
    "dense": (MatrixReader, AnalogConv2d, {"rows": 5}),
    "linear": (MatrixReader, AnalogLinear, {"rows": 5}),
}


def plain(kind, **changes):
    """A layer of whose reader the test knows; float64, of weights of both signs."""
    _, analog, size = READERS[kind]
    hardware = Hardware(tile=TileSpec(cols=4, **size, **WIRES), row_order="auto" if kind == "linear" else kind)
    digital = nn.Linear(12, 5, dtype=torch.float64) if kind == "linear" else nn.Conv2d(5, 6, 2, dtype=torch.float64)
    with torch.no_grad():
        digital.weight.copy_(torch.randn(digital.weight.shape, generator=torch.Generator().manual_seed(1)))
        digital.bias.zero_()
    layer = (analog.from_linear if kind == "linear" else analog.from_conv)(digital, hardware.replace(**changes), seed=3)
    shape = (6, 12) if kind == "linear" else (6, 5, 4, 3)
    return layer, torch.randn(shape, generator=torch.Generator().manual_seed(2)).double()


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_is_used_where_it_should_be(kind):
    layer, x = plain(kind)
    layer(x)
    assert reader_of(layer) is READERS[kind][0]


@pytest.mark.parametrize("kind", READERS)
def test_a_register_that_overflows_adds_the_row_tiles_in_their_order(kind):
    """What overflowed stays lost, so the order of the row tiles matters: it is that of the tiles on any reader."""
    narrow = {"adc": Adc(bits=6), "accumulator": Accumulator(bits=5)}
    layer, x = plain(kind, **narrow)
    tiles, _ = plain(kind, **narrow)
    force_tiles(tiles)
    found = layer(x)
    tiles(x)
    tiles.current_peak.copy_(layer.current_peak)
    tiles.counters = Counters()
    assert torch.equal(found, tiles(x)) or torch.allclose(found, tiles(x), rtol=1e-12, atol=1e-12)
    tiles.counters = Counters()
    tiles(x)
    assert layer.counters.accumulator_saturated == tiles.counters.accumulator_saturated > 10


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("through_tiles", [False, True])
def test_chunks_do_not_change_results(kind, through_tiles, monkeypatch):
    changes = {"adc": CONVERTERS["shared"], "dac": PulseWidthDac(bits=3), "accumulator": Accumulator(bits=6)}
    results = []
    for size in (2**21, 1):
        monkeypatch.setattr(layer_module, "READ_ELEMENTS", size)
        layer, x = plain(kind, **changes)
        if through_tiles:
            force_tiles(layer)
        results.append((layer(x), layer.counters))
    # Products of other shapes may round differently in the last bit, hardly ever across a step of the ADC.
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("subtraction", ["analog", "digital"])
@pytest.mark.parametrize("dac", ["uniform", "separate", "bit_serial"])
def test_conversions_are_counted(kind, mapping, subtraction, dac):
    """By what stands on the chip: a DAC for every row, an ADC for every column that a weight sits on."""
    converters = {
        "uniform": Dac(bits=5, full_scale=0.5),
        "separate": Dac(bits=5, full_scale=0.5, phases="separate"),
        "bit_serial": BitSerialDac(bits=5, full_scale=0.5, phases="separate"),
    }
    layer, x = plain(
        kind,
        mapping=mapping,
        subtraction=subtraction,
        dac=converters[dac],
        adc=Adc(bits=5),
        states=3,
        slices=2,
    )
    layer(x)
    vectors = 6 if kind == "linear" else 6 * 3 * 2
    reads = {"uniform": 1, "separate": 2, "bit_serial": 2 * 4}[dac]
    part = layer.partition
    outputs = 5 if kind == "linear" else 6
    columns = {
        "pair": 2 * outputs,
        "interleaved_pair": 2 * outputs,
        "offset_column": outputs + part.col_tiles,  # each tile has one
        "digital_offset": outputs,
    }[mapping]
    columns = outputs if subtraction == "analog" else columns
    counters = layer.counters
    assert counters.reads == vectors * reads
    assert counters.dac_conversions == x.numel()
    # Codes are 1/30 wide, the last one at 0.5.
    assert counters.dac_saturated == int((x.abs() > 0.5 + 1 / 60).sum()) > 0
    assert counters.adc_conversions == vectors * reads * columns * 2 * part.row_tiles
    assert counters.adc_saturated == 0  # calibrated on these inputs
    layer.current_peak.div_(2)
    layer(x)
    assert layer.counters.adc_saturated > 0


@pytest.mark.parametrize("mapping", ["interleaved_pair", "offset_column"])
@pytest.mark.parametrize("kind", READERS)
def test_one_converter_for_a_whole_tile_subtracts_its_own_errors(kind, mapping):
    """Equal columns that take turns at one converter read the same, so that their difference is zero."""
    adc = Adc(bits=8, offset=5.0, integral_nonlinearity=2.0, columns_per_adc=4)
    layer, x = plain(kind, mapping=mapping, subtraction="digital", adc=adc)
    with torch.no_grad():
        layer.weight.zero_()
    layer.hardware = layer.hardware.replace(rung="ideal")
    layer.program(1)
    assert not layer(x).any()


@pytest.mark.parametrize("kind", ["channels", "linear"])
def test_converters_stay_where_they_are_when_outputs_are_moved(kind):
    """At rest a converter reads its offset, and an output that of the column where it sits."""
    ranges = {"adc": Adc(bits=8, offset=9.0, full_scale=1e-5), "dac": Dac(bits=4, full_scale=1.0)}
    in_order, x = plain(kind, **ranges)
    moved, _ = plain(kind, placement="permuted", **ranges)
    at_rest, outputs = torch.zeros_like(x[:1]), len(in_order.weight)
    by_place, found = (layer(at_rest).reshape(outputs, -1)[:, 0].detach() for layer in (in_order, moved))
    part = moved.partition
    first = torch.arange(part.col_tiles)[:, None] * part.outputs_per_tile
    place = (first + moved.columns_at[0]).flatten()[:outputs]
    assert not torch.equal(place, torch.arange(outputs))
    inside = place < outputs  # the last tile has places that no output takes in order
    torch.testing.assert_close(found[inside], by_place[place[inside]], rtol=1e-12, atol=0)
    assert int(inside.sum()) >= outputs - 1
    assert len(found.unique()) > 1


def test_noise_is_the_seeds():
    noisy = {"adc": Adc(bits=8, noise=2.0)}
    layer, x = plain("channels", **noisy)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    again, _ = plain("channels", **noisy)
    assert torch.equal(again(x), first)
    assert torch.equal(copy.deepcopy(again)(x), first)  # a copy begins anew
    again.program(3)
    assert torch.equal(again(x), first)
    again.program(4)
    assert not torch.equal(again(x), first)


@pytest.mark.filterwarnings("ignore:the weights of")  # the restored chip is that of another layer's weights
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "restore"])
def test_copies_of_permuted_chips(kind, way):
    changes = {
        "placement": "permuted",
        "scaling": "column",
        "adc": CONVERTERS["shared"],
        "dac": Dac(bits=6),
        "variability": Variability(effects=(ProgrammingError(relative=0.1),)),
    }
    layer, x = plain(kind, **changes)
    expected = layer(x)
    if way == "deepcopy":
        other = copy.deepcopy(layer)
    else:
        other, _ = plain(kind, **changes)
        with torch.no_grad():
            other.weight.copy_(other.weight.flip(0, 1))
        other.program(8)
        assert not torch.equal(other.rows_at, layer.rows_at)
        assert not torch.equal(other(x), expected)
    if way == "state_dict":
        other.load_state_dict(layer.state_dict())
    elif way == "restore":
        other.restore(layer.chip())
        other.reset_calibration()
    assert torch.equal(other(x), expected)


@pytest.mark.parametrize("size", [8, 64, 1024])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_tiles_of_all_sizes(size, mapping):
    hardware = Hardware(tile=TileSpec(rows=size, cols=size), rung="ideal", mapping=mapping, placement="permuted")
    digital = nn.Conv2d(20, 30, 3, dtype=torch.float64)
    x = torch.randn(2, 20, 5, 5, generator=torch.Generator().manual_seed(1)).double()
    layer = AnalogConv2d.from_conv(digital, hardware)
    assert layer.partition.row_tiles == {8: 23, 64: 3, 1024: 1}[size]
    assert_rounding_only(layer(x), digital(x))


def test_a_large_layer_on_large_wired_tiles():
    tile = TileSpec(rows=256, cols=256, row_line_resistance=0.1, column_line_resistance=0.1)
    digital = nn.Linear(400, 200, dtype=torch.float64)
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(1)).double()
    layer = AnalogLinear.from_linear(digital, Hardware(tile=tile, conductance_range=(1e-7, 1e-6)))
    assert layer.conductances.shape == (2, 1, 2, 1, 256, 256)
    error = (layer(x) - digital(x)).norm() / digital(x).norm()
    assert 1e-3 < error < 0.1


def test_half_a_code_of_activations_and_weights_bounds_the_error():
    """|y - w x| <= sum of |w| dx + |x| dw + dw dx, dx and dw half a code; nearly attained by one input and weight."""
    states, slices, bits = 4, 2, 5
    dw, dx = 1 / (2 * (states**slices - 1)), 1 / (2 * (2 ** (bits - 1) - 1))
    weights = torch.linspace(-1, 1, 401, dtype=torch.float64)[:, None]
    x = torch.linspace(-1, 1, 401, dtype=torch.float64)[None]
    bound = weights.abs() * dx + x.abs() * dw + dw * dx
    for dac in (Dac, PulseWidthDac, BitSerialDac):
        for mapping in ("pair", "interleaved_pair"):
            tile = TileSpec(rows=3, cols=8)
            hardware = Hardware(tile=tile, rung="ideal", mapping=mapping, states=states, slices=slices)
            layer = AnalogMatrix(weights, hardware.replace(dac=dac(bits=bits)))
            error = (layer @ x - weights * x).abs()
            assert torch.all(error <= bound + 1e-12)
            assert (error / bound).max() > 0.95


def test_calibration_is_that_of_all_reads_and_saturates_nothing():
    for dac in (Dac(bits=5), BitSerialDac(bits=5), PulseWidthDac(bits=5, phases="separate")):
        for subtraction in ("analog", "digital"):
            for mapping in MAPPINGS:
                layer, x = plain("dense", dac=dac, adc=Adc(bits=5), subtraction=subtraction, mapping=mapping)
                layer(x)
                assert layer.counters.adc_saturated == layer.counters.dac_saturated == 0
                assert layer.calibrated


def test_a_matrix_says_what_it_takes():
    matrix = AnalogMatrix(torch.ones(2, 3), Hardware(tile=TileSpec(rows=4, cols=4)))
    with pytest.raises(InputError, match=r"wrong shape"):
        matrix @ torch.ones(2)
    with pytest.raises(InputError, match=r"wrong shape"):
        matrix @ torch.ones(2, 3)
    with pytest.raises(InputError, match=r"outputs, inputs"):
        AnalogMatrix(torch.ones(3), matrix.hardware)
    with pytest.raises(InputError, match=r"floating point"):
        AnalogMatrix([[1, 2]], matrix.hardware)


def test_one_mistake_one_error():
    conv = AnalogConv1d(2, 3, 3, hardware=Hardware(tile=TileSpec(rows=4, cols=4)))
    with pytest.raises(InputError, match=r"wrong shape at AnalogConv1d.*2, size"):
        conv(torch.zeros(1, 3, 5))
    with pytest.raises(InputError, match=r"wrong shape"):
        conv(torch.zeros(5))
    with pytest.raises(InputError, match=r"larger than its padded input"):
        conv(torch.zeros(1, 2, 2))
    transposed = AnalogConvTranspose2d(2, 3, 2, padding=2, hardware=Hardware(tile=TileSpec(rows=4, cols=4)))
    with pytest.raises(InputError, match=r"AnalogConvTranspose2d"):
        transposed(torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_a_margin_larger_than_the_image_is_refused(mode):
    conv = AnalogConv1d(2, 3, 3, padding=5, padding_mode=mode, hardware=Hardware(tile=TileSpec(rows=4, cols=4)))
    with pytest.raises(InputError, match="padding"):
        conv(torch.zeros(1, 2, 4))
