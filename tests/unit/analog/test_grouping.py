"""Groups of a convolution side by side on one tile: the same layer as a dense one with a block-diagonal kernel."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mdls_cosim.analog import Accumulator, Adc, AnalogConv1d, AnalogConv2d, AnalogConvTranspose2d, Dac, Hardware
from mdls_cosim.analog.grouping import Grouping
from mdls_cosim.devices import Sinh
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.network import calibrate, calibrate_columns, compensate_drift, convert, on_rung
from mdls_cosim.tiles import TileSpec

WIRES = {"row_line_resistance": 3.0, "column_line_resistance": 7.0, "driver_resistance": 15.0, "sense_resistance": 9.0}
ANALOG = {nn.Conv1d: AnalogConv1d, nn.Conv2d: AnalogConv2d, nn.ConvTranspose2d: AnalogConvTranspose2d}
MAPPINGS = ["pair", "interleaved_pair", "offset_column", "digital_offset"]


def on_tiles(digital, hardware):
    return ANALOG[type(digital)].from_conv(digital, hardware)


@st.composite
def groupings(draw):
    groups, inputs, outputs = (draw(st.integers(1, most)) for most in (9, 4, 3))
    return Grouping.of(groups, inputs, outputs, draw(st.integers(1, 20)), draw(st.integers(1, 12))), inputs, outputs


@given(groupings(), st.integers(0, 99))
def test_a_block_diagonal_holds_every_group_once(case, seed):
    grouping, inputs, outputs = case
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(2, grouping.groups, inputs, outputs, generator=generator)
    laid = grouping.block_diagonal(matrix, 7.0)
    if grouping.shared == 1:
        assert laid is matrix
        return
    assert laid.shape == (2, grouping.blocks, grouping.shared * inputs, grouping.shared * outputs)
    expected = torch.full_like(laid, 7.0)
    for group in range(grouping.groups):
        block, place = divmod(group, grouping.shared)
        rows, cols = (slice(place * size, (place + 1) * size) for size in (inputs, outputs))
        expected[:, block, rows, cols] = matrix[:, group]
    assert torch.equal(laid, expected)
    each = torch.randn(grouping.groups, 1, outputs, generator=generator)
    by_side = grouping.side_by_side(each, 5.0).flatten()
    assert torch.equal(by_side[: each.numel()], each.flatten())
    assert (by_side[each.numel() :] == 5.0).all()


@pytest.mark.parametrize(
    ("case", "shared", "blocks"),
    [
        ((64, 9, 1, 128, 128), 13, 5),  # 14 would fit; 13 each need as few tiles
        ((4, 8, 8, 16, 16), 2, 2),  # just half of a tile
        ((4, 9, 8, 16, 16), 1, 4),  # more than half of the rows
        ((4, 8, 9, 16, 16), 1, 4),  # more than half of the columns
        ((3, 2, 2, 100, 100), 3, 1),
        ((1, 2, 2, 100, 100), 1, 1),
    ],
)
def test_as_many_groups_as_fit_spread_evenly(case, shared, blocks):
    grouping = Grouping.of(*case)
    assert (grouping.shared, grouping.blocks) == (shared, blocks)
    assert grouping.blocks * grouping.shared - grouping.groups == grouping.empty >= 0


@st.composite
def layers(draw):
    kind = draw(st.sampled_from(list(ANALOG)))
    groups = draw(st.integers(2, 5))
    of_group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    bias = draw(st.booleans())
    return kind(
        groups * of_group[0], groups * of_group[1], kernel, stride, groups=groups, bias=bias, dtype=torch.float64
    )


def densified(digital, grouping):
    """The layer with as many groups as sets of tiles, zeros where no weight was, and empty channels at the end."""
    blocks, shared, groups = grouping.blocks, grouping.shared, digital.groups
    ins, outs = digital.in_channels // groups, digital.out_channels // groups
    whole = blocks * shared
    dense = type(digital)(
        whole * ins, whole * outs, digital.kernel_size, digital.stride, groups=blocks,
        bias=digital.bias is not None, dtype=torch.float64,
    )  # fmt: skip
    transposed = isinstance(digital, nn.ConvTranspose2d)
    dense.weight.data.zero_()
    for group in range(groups):
        block, place = divmod(group, shared)
        first = place * (outs if transposed else ins)  # within the block, along the second dimension of the weight
        size, start = (ins, outs) if transposed else (outs, ins)
        rows = slice((block * shared + place) * size, (block * shared + place + 1) * size)
        dense.weight.data[rows, first : first + start] = digital.weight.data[group * size : (group + 1) * size]
    if digital.bias is not None:
        dense.bias.data.zero_()
        dense.bias.data[: digital.out_channels] = digital.bias.data
    return dense


@torch.no_grad()
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_shared_tiles_are_those_of_the_dense_layer(data):
    digital = data.draw(layers())
    ins = digital.in_channels // digital.groups * math.prod(digital.kernel_size)
    hardware = Hardware(
        tile=TileSpec(rows=data.draw(st.integers(2 * ins, 4 * ins + 1)), cols=data.draw(st.integers(4, 10)), **WIRES),
        rung="nodal",
        mapping=data.draw(st.sampled_from(MAPPINGS)),
        scaling=data.draw(st.sampled_from(["layer", "column"])),
        row_order=data.draw(st.sampled_from(["auto", "taps", "dense"])),
        placement=data.draw(st.sampled_from(["linear", "permuted"])),
        subtraction=data.draw(st.sampled_from(["analog", "digital"])),
        weight_clip=None,
        dac=Dac(bits=4, full_scale=2.0),
        adc=Adc(bits=7, full_scale=2e-5),
    )
    layer = on_tiles(digital, hardware)
    dense = on_tiles(densified(digital, layer.grouping), hardware.replace(group_tiles="separate"))
    if layer.grouping.shared == 1:
        assert layer.partition.groups == digital.groups
        return
    assert torch.equal(layer.conductances, dense.conductances)
    shape = (3, digital.in_channels, *(4,) * (len(digital.kernel_size)))
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = layer.grouping.with_empty_channels(x)
    assert padded.shape[1] == dense.in_channels
    torch.testing.assert_close(layer(x), dense(padded)[:, : digital.out_channels], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.digital(x), digital(x))


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_ideal_tiles_are_the_digital_layer(mapping):
    digital = nn.Conv2d(10, 15, 3, padding=1, groups=5, dtype=torch.float64)
    x = torch.randn(2, 10, 5, 5, dtype=torch.float64)
    for unmapped in (None, 3e-6):  # which only cells of pairs may hold between the blocks
        hardware = Hardware(
            tile=TileSpec(rows=40, cols=13), rung="ideal", mapping=mapping, unmapped_conductance=unmapped
        )
        layer = on_tiles(digital, hardware)
        assert layer.grouping.shared == 2
        assert layer.grouping.empty == 1
        torch.testing.assert_close(layer(x), digital(x))


def test_clipping_counts_only_weights():
    digital = nn.Conv2d(6, 6, 3, groups=6, dtype=torch.float64)
    shared, separate = (
        on_tiles(digital, Hardware(tile=TileSpec(rows=64, cols=64), rung="ideal", weight_clip=1.0, group_tiles=each))
        for each in ("shared", "separate")
    )
    assert shared.clipped_weights == separate.clipped_weights > 0
    assert shared.cells_used == separate.cells_used == 2 * 54
    assert torch.equal(shared.weight_scale.flatten()[:6], separate.weight_scale.flatten())
    assert (shared.arrays, separate.arrays) == (2, 12)


@torch.no_grad()
def test_cells_between_the_blocks_conduct_and_spread():
    """What sharing costs: more drop along the lines, and errors of the programming of more cells."""
    torch.manual_seed(0)
    digital = nn.Conv2d(8, 8, 3, groups=8, bias=False, dtype=torch.float64)
    x, spec = torch.rand(4, 8, 6, 6, dtype=torch.float64), TileSpec(rows=72, cols=8, **WIRES)
    reference, found = digital(x), {}
    for each in ("shared", "separate"):
        layer = on_tiles(digital, Hardware(tile=spec, rung="nodal", group_tiles=each))
        found[each] = float((layer(x) - reference).square().mean().sqrt())
    assert found["shared"] > 1.2 * found["separate"]
    error = Variability(effects=(ProgrammingError(relative=0.05),))
    layer = on_tiles(digital, Hardware(tile=spec, rung="ideal", variability=error))
    between = layer.conductances[:, 0, 0, 0][:, ~torch.eye(8, dtype=torch.bool).repeat_interleave(9, 0)]
    assert between.shape == (2, 72 * 8 - 72)
    assert 0.3 < float((between > 1e-6).double().mean()) < 0.7  # the lower half is clipped at the lowest conductance


@pytest.mark.parametrize("cells", ["ohmic", "sinh"])
def test_a_network_with_depthwise_layers_goes_through_everything(cells):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    x = torch.rand(8, 1, 6, 6)
    spec = TileSpec(rows=20, cols=9, cell={"model": "ohmic"} if cells == "ohmic" else Sinh(nonlinearity=3.0), **WIRES)
    hardware = Hardware(
        tile=spec, rung="nodal", dac=Dac(bits=6), adc=Adc(bits=8), accumulator=Accumulator(bits=16), scaling="network"
    )
    tiles, report = convert(model, hardware, calibration=x)
    layer = tiles[2]
    assert (layer.grouping.shared, layer.grouping.blocks) == (2, 3)
    assert report.converted[1].arrays == 6
    before = float((tiles(x) - model(x)).detach().square().mean())
    calibrate_columns(tiles, x)
    assert float((tiles(x) - model(x)).detach().square().mean()) < before
    compensate_drift(tiles)
    calibrate(tiles, x)
    ideal = on_rung(tiles, "ideal")
    torch.testing.assert_close(ideal(x), tiles(x), rtol=0.2, atol=0.05)
    again, _ = convert(model, hardware, seed=5)
    again.load_state_dict(tiles.state_dict())
    assert torch.equal(again(x), tiles(x))


def test_chips_with_groups_elsewhere_are_refused():
    digital = nn.Conv2d(6, 6, 3, groups=6)
    shared = Hardware(tile=TileSpec(rows=64, cols=64), rung="ideal")
    separate = shared.replace(group_tiles="separate")
    layer = on_tiles(digital, separate)
    with pytest.raises(InputError, match=r"groups on other tiles.*group_tiles="):
        on_tiles(digital, shared).load_state_dict(layer.state_dict())
    with pytest.raises(InputError, match="arrangement of groups"):
        layer.move(shared)


ZEROS = st.integers(0, 4)


@settings(deadline=None, max_examples=40)
@given(above=ZEROS, behind=ZEROS, seed=st.integers(0, 99), drive=st.sampled_from(["single", "double"]))
def test_lines_without_conductances_are_left_out_exactly(above, behind, seed, drive):
    """Exact: against the same tile solved whole, which a gradient asks for."""
    spec = TileSpec(rows=4, cols=4, drive=drive, **WIRES)
    cells = torch.rand(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 1e-4
    cells[:, :above], cells[..., 4 - behind :] = 0.0, 0.0
    cropped = NodalTile(spec).program(cells)
    whole = NodalTile(spec).program(cells.clone().requires_grad_())
    torch.testing.assert_close(
        cropped.effective_conductances, whole.effective_conductances.detach(), rtol=1e-12, atol=1e-20
    )
    volts = torch.randn(2, 3, 4, dtype=torch.float64)
    for name in ("power", "cell_voltages"):
        torch.testing.assert_close(
            getattr(cropped, name)(volts), getattr(whole, name)(volts).detach(), rtol=1e-11, atol=1e-18
        )


@torch.no_grad()
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_empty_groups_have_no_part_in_the_scale_of_the_network(mapping):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(10, 15, 3, groups=5, dtype=torch.float64))
    x, found = torch.randn(2, 10, 6, dtype=torch.float64), {}
    for scaling in ("layer", "network"):
        hardware = Hardware(tile=TileSpec(rows=20, cols=12), rung="ideal", mapping=mapping, scaling=scaling, states=16)
        tiles, _ = convert(model, hardware)
        assert tiles[0].grouping.empty == 1
        found[scaling] = tiles(x)
    torch.testing.assert_close(found["network"], found["layer"], rtol=1e-12, atol=1e-12)
