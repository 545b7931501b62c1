"""Layers of a network against the same circuit put together by hand: loops over tiles, positions and time slots.

Nothing of the layer is used but the conductances on its chip, and these are derived anew as well: which input drives
which row, which column is read for which output, what every converter makes of it. Tiles are solved by NodalTile.
"""

import itertools
import math
from types import SimpleNamespace

import numpy as np
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
    AnalogLSTMCell,
    AnalogMatrix,
    AnalogMultiheadAttention,
    BitSerialDac,
    Dac,
    Hardware,
    IdealDac,
    PulseWidthDac,
)
from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.tiles import TileSpec

MAPPINGS = ("pair", "interleaved_pair", "offset_column", "digital_offset")
LOWEST, HIGHEST, READ = 1e-6, 100e-6, 0.2
WIRES = {
    "row_line_resistance": 30.0,
    "column_line_resistance": 70.0,
    "driver_resistance": 150.0,
    "sense_resistance": 90.0,
}
ANALOG = {
    nn.Linear: AnalogLinear,
    nn.Conv1d: AnalogConv1d,
    nn.Conv2d: AnalogConv2d,
    nn.ConvTranspose1d: AnalogConvTranspose1d,
    nn.ConvTranspose2d: AnalogConvTranspose2d,
    nn.Conv3d: AnalogConv3d,
    nn.ConvTranspose3d: AnalogConvTranspose3d,
}
SPATIAL = (nn.Conv3d, nn.ConvTranspose3d)


def on_tiles(digital, hardware):
    make = AnalogLinear.from_linear if isinstance(digital, nn.Linear) else ANALOG[type(digital)].from_conv
    return make(digital, hardware)


# --- What a layer asks of its tiles, by the definition of the layer -----------------------------------------------


def weights_of(digital):
    """(groups, channels, taps, outputs): taps in the order in which the rows of a channel follow each other."""
    weight = digital.weight.detach().numpy()
    if isinstance(digital, nn.Linear):
        return weight.T[None, :, None, :]
    groups = digital.groups
    if isinstance(digital, nn.modules.conv._ConvTransposeNd):
        inputs, outputs, *kernel = weight.shape
        split = weight.reshape(groups, inputs // groups, outputs, math.prod(kernel))
        return split[..., ::-1].transpose(0, 1, 3, 2)  # the kernel turned round
    outputs, inputs, *kernel = weight.shape
    return weight.reshape(groups, outputs // groups, inputs, math.prod(kernel)).transpose(0, 2, 3, 1)


def windows_of(digital, x):
    """(positions, groups, channels, taps) of a batch, every position and tap looked up on its own; and the shape."""
    if isinstance(digital, nn.Linear):
        return x[:, None, :, None], (len(x),)
    axes = x.ndim - 2
    kernel, stride, padding, dilation = digital.kernel_size, digital.stride, digital.padding, digital.dilation
    taps = list(itertools.product(*(range(size) for size in kernel)))
    transposed = isinstance(digital, nn.modules.conv._ConvTransposeNd)
    if transposed:
        taps = taps[::-1]
        sizes = [
            (n - 1) * s - 2 * p + d * (k - 1) + o + 1
            for n, s, p, d, k, o in zip(
                x.shape[2:], stride, padding, dilation, kernel, digital.output_padding, strict=True
            )
        ]
    else:
        modes = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], mode=modes[digital.padding_mode])
        sizes = [
            (n - d * (k - 1) - 1) // s + 1 for n, s, d, k in zip(x.shape[2:], stride, dilation, kernel, strict=True)
        ]
    found = []
    for image, position in itertools.product(x, itertools.product(*(range(size) for size in sizes))):
        seen = np.zeros((len(image), len(taps)))
        for number, tap in enumerate(taps):
            if transposed:  # output o takes input i where o = i stride - padding + tap dilation
                places = [
                    (o + p - t * d, s) for o, p, t, d, s in zip(position, padding, tap, dilation, stride, strict=True)
                ]
                if any(place % s or not 0 <= place // s < n for (place, s), n in zip(places, x.shape[2:], strict=True)):
                    continue
                where = tuple(place // s for place, s in places)
            else:
                where = tuple(o * s + t * d for o, s, t, d in zip(position, stride, tap, dilation, strict=True))
            seen[:, number] = image[(slice(None), *where)]
        found.append(seen.reshape(digital.groups, -1, len(taps)))
    assert axes == len(sizes)
    return np.array(found), (len(x), *sizes)


def rows_of_tiles(hardware, channels, taps):
    """The (channel, tap) of every row tile, in order."""
    rows = hardware.spec.rows

    def even(count, room):
        return math.ceil(count / math.ceil(count / room))

    together = list(itertools.product(range(channels), range(taps)))
    match hardware.row_order:
        case "channels":
            each = even(channels, rows // taps)
            return [together[i * taps : (i + each) * taps] for i in range(0, channels, each)]
        case "taps":
            each = even(channels, rows)
            blocks = [range(first, min(first + each, channels)) for first in range(0, channels, each)]
            return [[(channel, tap) for channel in block] for tap in range(taps) for block in blocks]
        case "dense":
            each = even(len(together), rows)
            return [together[i : i + each] for i in range(0, len(together), each)]


def outputs_of_tiles(hardware, outputs):
    cols = hardware.spec.cols
    room = {"interleaved_pair": cols // 2, "offset_column": cols - 1}.get(hardware.mapping, cols)
    each = math.ceil(outputs / math.ceil(outputs / room))
    return [list(range(first, min(first + each, outputs))) for first in range(0, outputs, each)]


# --- What stands on the chip -------------------------------------------------------------------------------------


def targets(hardware, weights):
    """Conductances of both cells of every weight, (slices, 2, groups, channels, taps, outputs) [S], and the scale."""
    over = (0, 1, 2, 3) if hardware.scaling == "layer" else (1, 2)
    scale = np.abs(weights).max(over, keepdims=True) * np.ones((len(weights), 1, 1, weights.shape[-1]))
    relative = weights / scale
    signed = hardware.mapping in ("pair", "interleaved_pair")
    levels = None if hardware.states is None else hardware.states**hardware.slices - 1
    zero = 0.0 if signed else 0.5 if levels is None else (levels // 2) / levels
    unit = 1.0 if signed else zero
    if signed:
        cells = np.array([np.maximum(relative, 0), np.maximum(-relative, 0)])
    else:
        cells = np.array([zero + unit * relative, np.full_like(relative, zero)])
    if levels is None:
        return LOWEST + (HIGHEST - LOWEST) * cells[None], scale, unit, zero, [1.0]
    codes = np.round(cells * levels)
    digits = [np.floor(codes / hardware.states**place) % hardware.states for place in range(hardware.slices)]
    worth = [hardware.states**place * (hardware.states - 1) / levels for place in range(hardware.slices)]
    return LOWEST + (HIGHEST - LOWEST) * np.array(digits) / (hardware.states - 1), scale, unit, zero, worth


def cells_of_output(hardware, place):
    """(array of the slice, column) of the cells that make the output at this place of a tile."""
    return {
        "pair": [(0, place), (1, place)],
        "interleaved_pair": [(0, 2 * place), (0, 2 * place + 1)],
        "offset_column": [(0, place + 1), (0, 0)],
        "digital_offset": [(0, place)],
    }[hardware.mapping]


def lay_out(layer, hardware, weights):
    """For every group: the row of every input of every row tile, the place of every output of every column tile.

    Permuted, inputs and outputs of equal load may stand in any order: that of the layer, once it is seen to be sorted.
    """
    groups, channels, taps, outputs = weights.shape
    wanted = targets(hardware, weights)[0]
    planes = 1 if hardware.mapping == "digital_offset" else 2
    load = wanted[:, :planes].sum((0, 1))  # (groups, channels, taps, outputs)
    row_tiles, column_tiles = rows_of_tiles(hardware, channels, taps), outputs_of_tiles(hardware, outputs)
    rows, columns = [], []
    for group in range(groups):
        of_group = []
        for number, inputs in enumerate(row_tiles):
            order = list(inputs)
            if hardware.placement == "permuted":
                chosen = dict(zip(inputs, layer.rows_at[group, number].tolist(), strict=False))
                order.sort(key=chosen.__getitem__)
                assert_sorted([load[(group, *each)].sum() for each in order])
            first = hardware.spec.rows - len(order)
            of_group.append({each: first + number for number, each in enumerate(order)})
        rows.append(of_group)
        of_group = []
        for number, some in enumerate(column_tiles):
            order = list(some)
            if hardware.placement == "permuted":
                chosen = dict(zip(some, layer.columns_at[group, number].tolist(), strict=False))
                order.sort(key=chosen.__getitem__)
                assert_sorted([-load[group, ..., each].sum() for each in order])
            of_group.append({each: number for number, each in enumerate(order)})
        columns.append(of_group)
    return rows, columns


def assert_sorted(loads):
    assert np.all(np.diff(loads) >= -1e-13)  # [S], of loads of 1e-6 and more


def assert_chip(layer, hardware, weights):
    """Every cell of the chip holds what the mapping and the place say, all others the lowest conductance."""
    wanted = targets(hardware, weights)[0]
    rows, columns = lay_out(layer, hardware, weights)
    arrays = 2 if hardware.mapping == "pair" else 1
    chip = np.full(tuple(layer.conductances.shape), LOWEST)
    for group, number in itertools.product(range(len(rows)), range(len(wanted))):
        for (r, inputs), (c, outputs) in itertools.product(enumerate(rows[group]), enumerate(columns[group])):
            for ((channel, tap), row), (output, place) in itertools.product(inputs.items(), outputs.items()):
                for plane, (array, column) in enumerate(cells_of_output(hardware, place)):
                    cell = wanted[number, plane, group, channel, tap, output]
                    chip[number * arrays + array, group, r, c, row, column] = cell
    np.testing.assert_allclose(layer.conductances.numpy(), chip, rtol=1e-13, atol=0)


# --- What the converters do --------------------------------------------------------------------------------------


def reads_of(dac, values, full_scale, signed):
    """Time slots of every read, by the definition of the converter: [(weight of the read, [drive of a slot, …])]."""
    if isinstance(dac, IdealDac):
        highest, codes = 1, values / full_scale
    else:
        highest = 2 ** (dac.bits - 1) - 1 if signed else 2**dac.bits - 1
        codes = np.clip(np.round(values * highest / full_scale), -highest if signed else 0, highest)
    phases = [(1, codes)]
    if dac.phases == "separate" and signed:
        phases = [(1, np.maximum(codes, 0)), (-1, np.maximum(-codes, 0))]
    reads = []
    for sign, phase in phases:
        if isinstance(dac, PulseWidthDac):
            reads.append((sign, [np.sign(phase) * (np.abs(phase) > slot) for slot in range(highest)]))
        elif isinstance(dac, BitSerialDac):
            for bit in range(highest.bit_length()):
                on = (np.abs(phase).astype(int) >> bit) & 1
                reads.append((sign * 2**bit / highest, [np.sign(phase) * on]))
        else:
            reads.append((sign, [phase / highest]))
    return reads


def saturated_inputs(dac, values, signed):
    if isinstance(dac, IdealDac):
        return 0
    highest = 2 ** (dac.bits - 1) - 1 if signed else 2**dac.bits - 1
    return int((np.round(np.abs(values) * highest / dac.full_scale) > highest).sum())


def by_hand(digital, hardware, layer, x, full_scale, signed):
    """The output of `digital` on the chip of `layer`, tile after tile; and [conversions, of these saturated]."""
    tally = [0, 0]
    weights = weights_of(digital)
    groups, _, _, outputs = weights.shape
    _, scale, unit, zero, worth = targets(hardware, weights)
    rows, columns = lay_out(layer, hardware, weights)
    arrays = 2 if hardware.mapping == "pair" else 1
    adc, bipolar = hardware.adc, signed and hardware.dac.phases == "bipolar"
    results, shape = None, None
    for weight, slots in reads_of(hardware.dac, x, full_scale, signed):
        drives = []
        for slot in slots:
            drive, shape = windows_of(digital, slot)
            drives.append(drive)
        mean_drive = sum(drives) / len(drives)
        result = np.zeros((len(drives[0]), groups, outputs))
        for number, group in itertools.product(range(len(worth)), range(groups)):
            for (r, inputs), (c, some) in itertools.product(enumerate(rows[group]), enumerate(columns[group])):
                charge = []
                for array in range(arrays):
                    tile = NodalTile(hardware.spec).program(layer.conductances[number * arrays + array, group, r, c])
                    total = 0.0
                    for drive in drives:
                        voltages = np.zeros((len(drive), hardware.spec.rows))
                        for (channel, tap), row in inputs.items():
                            voltages[:, row] = READ * drive[:, group, channel, tap]
                        total = total + tile(torch.as_tensor(voltages)).numpy()
                    charge.append(total / len(drives))
                for output, place in some.items():
                    found = [charge[array][:, column] for array, column in cells_of_output(hardware, place)]
                    if len(found) == 1:
                        value = converted(adc, found[0], bipolar, tally)
                        driven = sum(mean_drive[:, group, channel, tap] for channel, tap in inputs)
                        value = value - (LOWEST + (HIGHEST - LOWEST) * zero) * READ * driven
                    elif hardware.subtraction == "analog":
                        value = converted(adc, found[0] - found[1], True, tally)
                    else:
                        value = converted(adc, found[0], bipolar, tally) - converted(adc, found[1], bipolar, tally)
                    result[:, group, output] += worth[number] * value
        result = weight * result
        results = result if results is None else results + result
    results = results * full_scale * scale[:, 0, 0] / (READ * (HIGHEST - LOWEST) * unit)
    if digital.bias is not None:
        results = results + digital.bias.detach().numpy().reshape(groups, outputs)
    results = results.reshape(*shape, groups * outputs)
    return np.moveaxis(results, -1, 1), tally


def converted(adc, currents, signed, tally):
    tally[0] += len(currents)
    if adc.kind == "ideal":
        return currents
    highest = 2 ** (adc.bits - 1) - 1 if signed else 2**adc.bits - 1
    step = adc.full_scale / highest
    codes = np.round(currents / step)
    within = np.clip(codes, -highest if signed else 0, highest)
    tally[1] += int((codes != within).sum())
    return within * step


# --- The comparison ----------------------------------------------------------------------------------------------


@st.composite
def hardwares(draw, cell, rows, taps, signed):
    states, slices = draw(st.sampled_from([(None, 1), (4, 2), (3, 1), (6, 1)]))
    bits = draw(st.integers(2, 3))
    kind = draw(st.sampled_from([IdealDac, Dac, PulseWidthDac, BitSerialDac]))
    phases = draw(st.sampled_from(["bipolar", "separate"]))
    return Hardware(
        tile=TileSpec(rows=rows, cols=draw(st.integers(2, 5)), cell=cell, **WIRES),
        rung="nodal",
        mapping=draw(st.sampled_from(MAPPINGS)),
        states=states,
        slices=slices,
        scaling=draw(st.sampled_from(["layer", "column"])),
        row_order=draw(st.sampled_from(["taps", "dense", *["channels"] * (taps <= rows)])),
        group_tiles="separate",  # shared ones are held against these in test_grouping.py
        placement=draw(st.sampled_from(["linear", "permuted"])),
        subtraction=draw(st.sampled_from(["analog", "digital"])),
        dac=kind(phases=phases) if kind is IdealDac else kind(bits=bits, full_scale=1.5, phases=phases),
        adc=draw(st.sampled_from([Hardware.model_fields["adc"].default, Adc(bits=7, full_scale=1.1e-5)])),
        conductance_range=(LOWEST, HIGHEST),
        read_voltage=READ,
    )


@st.composite
def digital_layers(draw, kinds):
    kind = draw(st.sampled_from(kinds))
    bias = draw(st.booleans())
    if kind is nn.Linear:
        return kind(draw(st.integers(1, 6)), draw(st.integers(1, 4)), bias, dtype=torch.float64)
    axes = int(kind.__name__[-2])
    groups = draw(st.integers(1, 2))
    channels = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    widest = 1 if axes == 3 else 2  # many positions take long by hand
    kernel, stride, dilation, padding = (
        tuple(draw(st.integers(*span)) for _ in range(axes)) for span in ((1, 2), (1, 2), (1, widest), (0, 1))
    )
    if "Transpose" in kind.__name__:
        more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        return kind(*channels, kernel, stride, padding, more, groups, bias, dilation, dtype=torch.float64)
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    return kind(*channels, kernel, stride, padding, dilation, groups, bias, mode, dtype=torch.float64)


@pytest.mark.parametrize("cell", [Ohmic(), Sinh(nonlinearity=6.0)], ids=["ohmic", "sinh"])
@torch.no_grad()
@settings(deadline=None, max_examples=45)
@given(data=st.data())
def test_layer_is_its_tiles_put_together_by_hand(cell, data):
    assert_by_hand(cell, data, [kind for kind in ANALOG if kind not in SPATIAL])


@pytest.mark.parametrize("cell", [Ohmic(), Sinh(nonlinearity=6.0)], ids=["ohmic", "sinh"])
@torch.no_grad()
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_layer_of_three_axes_is_its_tiles_put_together_by_hand(cell, data):
    assert_by_hand(cell, data, SPATIAL)


def assert_by_hand(cell, data, kinds):
    digital = data.draw(digital_layers(kinds))
    signed = data.draw(st.booleans())
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    for parameter in digital.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    taps = math.prod(getattr(digital, "kernel_size", (1,)))
    hardware = data.draw(hardwares(cell, data.draw(st.integers(1, 5)), taps, signed))
    axes = digital.weight.ndim - 2
    shape = (
        (2, digital.in_features)
        if axes == 0
        else (1, digital.in_channels, *((3, 3, 3) if axes == 3 else (4, 3)[:axes]))
    )
    x = torch.randn(shape, generator=generator).double()
    x = x if signed else x.abs()
    x.view(-1)[0] = -1.25 if signed else 1.25
    layer = on_tiles(digital, hardware)
    assert_chip(layer, hardware, weights_of(digital))
    found = layer(x).numpy()
    full_scale = hardware.dac.full_scale or float(x.abs().max())
    expected, tally = by_hand(digital, hardware, layer, x.numpy(), full_scale, bool((x < 0).any()))
    assert found.shape == expected.shape == digital(x).shape
    counters = layer.counters
    if (hardware.mapping, hardware.subtraction) != ("offset_column", "digital"):  # which has one converter for many
        assert [counters.adc_conversions, counters.adc_saturated] == tally
    assert counters.dac_conversions == x.numel()
    assert counters.dac_saturated == saturated_inputs(hardware.dac, x.numpy(), bool((x < 0).any()))
    # Solved cells are right to 1e-10 of the largest cell current; a sum of currents of both signs loses some of that.
    tolerance = (1e-11 if isinstance(cell, Ohmic) else 1e-8) * (np.abs(expected).max() + 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def as_linear(weight, bias=None):
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, dtype=torch.float64)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer


def of_parts(cell, rows):
    return Hardware(
        tile=TileSpec(rows=rows, cols=5, cell=cell, **WIRES),
        rung="nodal",
        mapping="interleaved_pair",
        states=8,
        row_order="dense",
        attention="tiles",
        dac=Dac(bits=5, full_scale=1.5),
        adc=Adc(bits=8, full_scale=1.1e-5),
        conductance_range=(LOWEST, HIGHEST),
        read_voltage=READ,
    )


@pytest.mark.parametrize("cell", [Ohmic(), Sinh(nonlinearity=6.0)], ids=["ohmic", "sinh"])
@torch.no_grad()
def test_step_of_an_lstm_is_its_tiles_and_digital_gates(cell):
    hardware, generator = of_parts(cell, 2), torch.Generator().manual_seed(3)
    digital = nn.LSTMCell(3, 2, dtype=torch.float64)
    for parameter in digital.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x, h, c = (torch.randn(4, size, generator=generator).double() for size in (3, 2, 2))
    layer = AnalogLSTMCell.from_digital(digital, hardware)
    found = layer(x, (h, c))
    of_inputs, of_hidden = (
        by_hand(as_linear(weight, bias), hardware, part, values.numpy(), 1.5, True)[0]
        for weight, bias, part, values in (
            (digital.weight_ih, digital.bias_ih, layer.ih, x),
            (digital.weight_hh, digital.bias_hh, layer.hh, h),
        )
    )
    entry, forget, candidate, exit_ = np.split(of_inputs + of_hidden, 4, -1)
    state = sigmoid(forget) * c.numpy() + sigmoid(entry) * np.tanh(candidate)
    hidden = sigmoid(exit_) * np.tanh(state)
    for own, expected, ideal in zip(found, (hidden, state), digital(x, (h, c)), strict=True):
        np.testing.assert_allclose(own.numpy(), expected, rtol=0, atol=1e-8)
        assert float((own - ideal).abs().max()) > 0.01  # wires and converters tell


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("cell", [Ohmic(), Sinh(nonlinearity=6.0)], ids=["ohmic", "sinh"])
@torch.no_grad()
def test_attention_is_its_tiles_and_a_digital_softmax(cell):
    """Six matrices a sequence: the projections, and of every head K^T and V, written for it."""
    hardware, generator = of_parts(cell, 3), torch.Generator().manual_seed(4)
    digital = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    for parameter in digital.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(2, 3, 4, generator=generator).double()
    layer = AnalogMultiheadAttention.from_digital(digital, hardware)
    found, weights = layer(x, x, x, average_attn_weights=False)

    def projected(part, weight, bias, values):
        flat = values.reshape(-1, values.shape[-1])
        return by_hand(as_linear(weight, bias), hardware, part, flat, 1.5, True)[0].reshape(*values.shape[:-1], -1)

    thirds = zip(
        (layer.q_proj, layer.k_proj, layer.v_proj),
        digital.in_proj_weight.chunk(3),
        digital.in_proj_bias.chunk(3),
        strict=True,
    )
    # (batch, heads, tokens, features of a head)
    query, key, value = (
        projected(part, weight, bias, x.numpy()).reshape(2, 3, 2, 2).swapaxes(1, 2) for part, weight, bias in thirds
    )

    def product(part, inputs, matrices, signed):
        outputs = []
        for group, (each, matrix) in enumerate(zip(inputs, matrices, strict=True)):
            written = SimpleNamespace(conductances=part.conductances[:, group : group + 1])
            of_group = as_linear(torch.as_tensor(matrix.swapaxes(-1, -2)))
            assert_chip(written, hardware, weights_of(of_group))
            outputs.append(by_hand(of_group, hardware, written, each, 1.5, signed)[0])
        return np.array(outputs)

    flat = [each.reshape(4, 3, 2) for each in (query, key, value)]
    scores = product(layer.scores, flat[0] / 2**0.5, flat[1].swapaxes(1, 2), True)
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(weights.flatten(0, 1).numpy(), shares, rtol=0, atol=1e-7)
    mixed = product(layer.mixture, shares, flat[2], False).reshape(2, 2, 3, 2).swapaxes(1, 2).reshape(2, 3, 4)
    expected = projected(layer.out_proj, digital.out_proj.weight, digital.out_proj.bias, mixed)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-7)
    assert float((found - digital(x, x, x)[0]).abs().max()) > 0.01


def test_interleaved_columns_share_the_drop_of_their_row():
    """One row, weights of both signs: in a tile of its own each pair would draw less over the row line."""
    tile = TileSpec(rows=1, cols=6, row_line_resistance=500.0)
    weights = torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64)
    x = torch.ones(1, dtype=torch.float64)
    # A ladder by hand: from the far end, every cell in parallel with the rest of the line.
    conductances = [HIGHEST, LOWEST, LOWEST, HIGHEST, HIGHEST, LOWEST]
    voltages, behind = [], 0.0
    shares = []
    for conductance in reversed(conductances):
        node = conductance + behind  # conductance to ground at this cell
        shares.append(node)
        behind = 1 / (1 / node + 500.0)
    voltage = 0.2
    for number, node in enumerate(reversed(shares)):
        # Row lines are driven at column 0: no segment before the first cell.
        voltage = voltage if number == 0 else voltage * (1 / node) / (1 / node + 500.0)
        voltages.append(voltage)
    currents = np.array(voltages) * np.array(conductances)
    expected = (currents[0::2] - currents[1::2]) / (0.2 * (HIGHEST - LOWEST))
    hardware = Hardware(tile=tile, rung="nodal", mapping="interleaved_pair")
    found = AnalogMatrix(weights, hardware) @ x
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    apart = AnalogMatrix(weights, hardware.replace(mapping="pair")) @ x
    assert float((apart - found).abs().max()) > 0.01


def test_pulses_on_cells_that_are_not_linear_are_charges_not_a_mean_voltage():
    tile = TileSpec(rows=6, cols=4, cell=Sinh(nonlinearity=12.0), **WIRES)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(4, 6, generator=generator).double()
    x = torch.rand(6, 5, generator=generator).double()
    x[0, 0] = 1.0
    hardware = Hardware(tile=tile, rung="nodal", dac=PulseWidthDac(bits=3), read_voltage=READ)
    layer = AnalogMatrix(weights, hardware)
    found = layer @ x
    codes = torch.round(x * 7 / float(x.max()))
    tiles = NodalTile(tile).program(layer.conductances[:, 0, 0, 0])
    slots = sum(tiles((READ * (codes > slot).double()).mT) for slot in range(7)) / 7
    mean = tiles(READ * (codes / 7).mT)
    decode = float(x.max() * weights.abs().max()) / (READ * (HIGHEST - LOWEST))
    by_charge, by_mean = ((each[0] - each[1]).mT * decode for each in (slots, mean))
    torch.testing.assert_close(found, by_charge, rtol=1e-8, atol=1e-8)
    # A sinh at a part of the voltage conducts less than that part of the time at all of it.
    assert float((found - by_mean).norm() / found.norm()) > 0.2
    amplitude = AnalogMatrix(weights, hardware.replace(dac=Dac(bits=3))) @ x
    torch.testing.assert_close(amplitude, by_mean, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_bits_in_series_give_the_charge_of_full_drives(mapping):
    """With rows on or off, cells of any law are as linear as their I/V at the read voltage, wires aside."""
    cell = Sinh(nonlinearity=12.0)
    tile = TileSpec(rows=6, cols=4, cell=cell, reference_voltage=READ)
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(4, 6, generator=generator).double()
    x = torch.randn(6, 5, generator=generator).double()
    hardware = Hardware(tile=tile, rung="nodal", read_voltage=READ, mapping=mapping)
    full_scale = float(x.abs().max())
    quantised = torch.round(x * 7 / full_scale) * full_scale / 7
    for dac in (BitSerialDac(bits=4), PulseWidthDac(bits=4), BitSerialDac(bits=4, phases="separate")):
        found = AnalogMatrix(weights, hardware.replace(dac=dac)) @ x
        torch.testing.assert_close(found, weights @ quantised, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("mapping", "gain"), [("pair", 0.4), ("interleaved_pair", 0.4), ("offset_column", 0.95)])
def test_permuted_placement_lowers_the_error_of_the_wires(mapping, gain):
    """Weights as trained ones are: the strengths of inputs and outputs are spread log-normally."""
    tile = TileSpec(rows=32, cols=34, row_line_resistance=2.0, column_line_resistance=2.0)
    errors = {"linear": [], "permuted": []}
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        strengths = torch.randn(2, 32, generator=generator).double().exp()
        weights = torch.randn(16, 32, generator=generator).double() * strengths[0] * strengths[1, :16, None]
        x = torch.rand(32, 20, generator=generator).double()
        for placement, found in errors.items():
            y = AnalogMatrix(weights, Hardware(tile=tile, mapping=mapping, placement=placement)) @ x
            exact = weights @ x
            found.append(float((y - exact).norm() / exact.norm()))
    ratios = np.array(errors["permuted"]) / np.array(errors["linear"])
    # One cell may stand out so far that where all others sit hardly matters.
    assert np.mean(ratios < 1) >= 0.9
    assert np.exp(np.log(ratios).mean()) < gain


def test_partial_sums_overflow_as_the_register_does():
    """Three row tiles of 1, 1 and -1 full scale: 7 + 7 stays at 7 in four bits, and then 7 - 7 is 0, not 7."""
    tile = TileSpec(rows=1, cols=2)
    hardware = Hardware(
        tile=tile,
        rung="ideal",
        dac=IdealDac(),
        adc=Adc(bits=4, full_scale=READ * (HIGHEST - LOWEST)),
        accumulator=Accumulator(bits=4),
    )
    layer = AnalogMatrix(torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64), hardware)
    found = layer @ torch.ones(3, dtype=torch.float64)
    assert found.item() == pytest.approx(0.0, abs=1e-12)
    assert layer.counters.accumulator_saturated == 1
    wide = AnalogMatrix(layer.weight.detach(), hardware.replace(accumulator=Accumulator(bits=5)))
    assert (wide @ torch.ones(3, dtype=torch.float64)).item() == pytest.approx(1.0, rel=1e-12)
    assert wide.counters.accumulator_saturated == 0
