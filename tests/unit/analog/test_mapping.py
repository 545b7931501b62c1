"""Signed weights as conductances, and what the conductances give back."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdls_cosim.analog import Hardware, Mapping
from mdls_cosim.analog.mapping import scale_weights
from mdls_cosim.errors import ConfigError
from mdls_cosim.tiles import TileSpec

PAIRS = ("pair", "interleaved_pair")
SINGLES = ("offset_column", "digital_offset")
NAMES = PAIRS + SINGLES


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def read_back(mapping, shares):
    """The weights that (slices, planes, …) shares stand for: by place value, first less second plane or zero."""
    values = doubles(*mapping.place_values())
    first = torch.tensordot(values, shares[:, 0], 1)
    second = torch.tensordot(values, shares[:, 1], 1) if mapping.planes == 2 else mapping.zero
    return (first - second) / mapping.unit


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.lists(st.floats(-1, 1).map(lambda weight: round(weight, 9)), min_size=1, max_size=30))
def test_continuous_cells_give_the_weights_back(name, weights):
    mapping, weights = Mapping(name, None), doubles(*weights)
    shares = mapping.shares(weights)
    assert shares.shape == (1, mapping.planes, len(weights))
    assert torch.all((shares >= 0) & (shares <= 1))
    torch.testing.assert_close(read_back(mapping, shares), weights, rtol=0, atol=1e-15)


def test_each_sign_has_its_cell_and_a_single_cell_has_its_zero():
    weights = doubles(1.0, -0.5, 0.0)
    for name in PAIRS:
        assert Mapping(name, None).shares(weights)[0].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]]
    assert Mapping("offset_column", None).shares(weights)[0].tolist() == [[1.0, 0.25, 0.5], [0.5] * 3]
    assert Mapping("digital_offset", None).shares(weights)[0].tolist() == [[1.0, 0.25, 0.5]]


def test_slices_are_digits_the_least_significant_first():
    mapping = Mapping("pair", states=4, slices=3)
    code = 3 * 16 + 1 * 4 + 2  # of 63
    digits = mapping.shares(doubles(code / 63, -code / 63))
    torch.testing.assert_close(digits[:, 0, 0], doubles(2, 1, 3) / 3, rtol=1e-15, atol=0)
    torch.testing.assert_close(digits[:, 1, 1], doubles(2, 1, 3) / 3, rtol=1e-15, atol=0)
    assert not digits[:, 1, 0].any()
    assert not digits[:, 0, 1].any()
    # A cell at the top counts three of 63, twelve and forty-eight.
    torch.testing.assert_close(doubles(*mapping.place_values()), doubles(3, 12, 48) / 63, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("name", "states", "slices"),
    [
        (name, states, slices)
        for name, (states, slices) in product(NAMES, [(2, 1), (2, 3), (3, 1), (4, 1), (4, 2), (5, 2), (6, 3), (16, 1)])
        if (states, slices) != (2, 1) or name in PAIRS
    ],
)
def test_quantisation_is_within_half_a_code_and_nearly_attains_it(name, states, slices):
    mapping = Mapping(name, states, slices)
    weights = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    shares = mapping.shares(weights)
    digits = shares * (states - 1)
    torch.testing.assert_close(digits, digits.round(), rtol=0, atol=1e-12)
    assert len(shares[:, 0].unique()) <= states
    error = (read_back(mapping, shares) - weights).abs().max()
    levels = states**slices - 1
    half_a_code = 1 / (2 * levels) if name in PAIRS else 1 / (2 * (levels // 2))
    # The grid of weights is 1e-4 wide: some weight is within half of that of the middle between two codes.
    assert half_a_code - 0.5e-4 - 1e-12 <= error <= half_a_code + 1e-12
    # Zero and the largest weights are codes.
    exact = doubles(-1, 0, 1)
    torch.testing.assert_close(read_back(mapping, mapping.shares(exact)), exact, rtol=0, atol=1e-15)


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 3), st.integers(0, 4), st.data())
def test_what_is_laid_on_columns_is_taken_back(name, slices, spare, data):
    mapping = Mapping(name, 4, slices)
    outputs = data.draw(st.integers(1, 4))
    cols = {"interleaved_pair": 2 * outputs, "offset_column": outputs + 1}.get(name, outputs) + spare
    assert mapping.outputs_per_tile(cols) >= outputs
    planes = torch.arange(1.0, 1 + slices * mapping.planes * 2 * 3 * outputs).reshape(
        slices, mapping.planes, 2, 3, outputs
    )
    if name == "offset_column":  # one column stands for all outputs
        planes[:, 1] = planes[:, 1, ..., :1]
    laid = mapping.lay(planes, cols, fill=-1.0)
    assert laid.shape == (slices * mapping.arrays, 2, 3, cols)
    assert torch.equal(mapping.take(laid, outputs), planes)
    # Every cell is used once, all others hold the fill: nothing is overwritten, nothing is lost.
    used = planes.unique().numel()
    assert (laid == -1).sum() == laid.numel() - used
    assert laid.unique().numel() == used + (used < laid.numel())


def test_where_planes_sit():
    planes = doubles(1, 2, 10, 20).reshape(1, 2, 1, 2)  # two planes, one row, two outputs
    lay = {name: Mapping(name, None).lay(planes, 5, 0.0) for name in NAMES}
    assert lay["pair"][:, 0].tolist() == [[1, 2, 0, 0, 0], [10, 20, 0, 0, 0]]
    assert lay["interleaved_pair"][:, 0].tolist() == [[1, 10, 2, 20, 0]]
    assert lay["offset_column"][:, 0].tolist() == [[10, 1, 2, 0, 0]]  # the offset nearest the driver
    assert lay["digital_offset"][:, 0].tolist() == [[1, 2, 0, 0, 0]]


def test_scale_is_the_largest_weight_of_layer_column_or_network():
    matrix = doubles(3, -4, 0, 1, 0, 0).reshape(1, 2, 3)  # two inputs, three outputs
    layer = scale_weights(matrix, "layer", None)
    assert layer.scale.tolist() == [[[4, 4, 4]]]
    assert torch.equal(layer.weights, matrix / 4)
    column = scale_weights(matrix, "column", None)
    assert column.scale.tolist() == [[[3, 4, 1]]]  # nothing but zeros: any scale
    assert torch.equal(column.weights, doubles(1, -1, 0, 1 / 3, 0, 0).reshape(1, 2, 3))
    assert scale_weights(matrix, "network", None, 8.0).scale.tolist() == [[[8, 8, 8]]]
    assert scale_weights(matrix, "network", None).scale.tolist() == [[[4, 4, 4]]]
    assert layer.clipped == column.clipped == 0


def test_groups_have_columns_of_their_own_and_share_a_layer():
    matrix = torch.stack([torch.eye(2), 5 * torch.eye(2)]).double()
    assert scale_weights(matrix, "column", None).scale.tolist() == [[[1, 1]], [[5, 5]]]
    assert scale_weights(matrix, "layer", None).scale.tolist() == [[[5, 5]], [[5, 5]]]


def test_clipping_is_a_multiple_of_the_root_mean_square_and_counted():
    matrix = doubles(3, -4, 0, 0).reshape(1, 4, 1)
    clipped = scale_weights(matrix, "layer", 1.0)  # rms 2.5
    assert clipped.scale.item() == 2.5
    assert clipped.weights.flatten().tolist() == [1, -1, 0, 0]
    assert clipped.clipped == 2
    unclipped = scale_weights(matrix, "layer", 100.0)
    assert (unclipped.scale.item(), unclipped.clipped) == (4.0, 0)
    beyond_the_network = scale_weights(matrix, "network", None, 3.5)
    assert beyond_the_network.clipped == 1


def test_one_mistake_one_error():
    with pytest.raises(ConfigError, match=r"slices.*finite states"):
        Mapping("pair", None, 2)
    for name in SINGLES:
        with pytest.raises(ConfigError, match=rf"no zero between.*{name}"):
            Mapping(name, 2)
        assert Mapping(name, 2, 2).zero == pytest.approx(1 / 3)
    for name in ("interleaved_pair", "offset_column"):
        with pytest.raises(ConfigError, match=rf"too narrow.*{name}"):
            Hardware(tile=TileSpec(rows=4, cols=1), mapping=name)
    assert Hardware(tile=TileSpec(rows=1, cols=1)).weight_mapping.outputs_per_tile(1) == 1
    with pytest.raises(ConfigError, match="slices"):
        Hardware(tile=TileSpec(rows=4, cols=4), slices=2)
    with pytest.raises(ConfigError, match="states"):
        Hardware(tile=TileSpec(rows=4, cols=4), states=2, mapping="offset_column")
