"""Where weights land on tiles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdls_cosim.analog import Partition

SIZES = st.integers(1, 9)
ORDERS = ("channels", "taps", "dense")


@st.composite
def partitions(draw):
    """Any partition that can be had, with its channels, taps and tiles so small that most are cut."""
    taps, rows = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    order = draw(st.sampled_from(["auto", *ORDERS]))
    groups, channels, outputs, cols = (draw(st.integers(1, most)) for most in (3, 6, 7, 4))
    return Partition.of(groups, channels * taps, outputs, rows, cols, taps, order)


def placed(part, permuted, seed=0):
    """Rows and columns of every place, in order or by a random load."""
    if not permuted:
        return part.linear_rows(), part.linear_columns()
    load = torch.rand(
        part.groups, part.inputs, part.outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return part.permuted(load)


def test_occupied_cells_sit_nearest_driver_and_sense():
    part = Partition(groups=1, inputs=3, outputs=3, rows=3, cols=2)
    matrix = torch.arange(1.0, 10).reshape(1, 3, 3)
    tiles = part.to_tiles(matrix, part.linear_rows(), part.linear_columns(), fill=0.5)
    assert tiles.shape == (1, 1, 2, 3, 2)
    assert tiles[0, 0, 0].tolist() == [[1, 2], [4, 5], [7, 8]]
    assert tiles[0, 0, 1].tolist() == [[3, 0.5], [6, 0.5], [9, 0.5]]
    # Rows are sensed below the last one, so unused rows come first; rows are driven at column 0.
    part = Partition(groups=1, inputs=3, outputs=1, rows=2, cols=2)
    tiles = part.to_tiles(torch.tensor([[[1.0], [2], [3]]]), part.linear_rows(), part.linear_columns(), fill=0.5)
    assert tiles[0, :, 0].tolist() == [[[1], [2]], [[0.5], [3]]]
    rows = part.to_rows(torch.tensor([[[1.0, 2, 3]]]), part.linear_rows())
    assert rows.tolist() == [[[[1, 2]], [[0, 3]]]]


def test_rows_of_the_three_orders():
    """Five channels of three taps, 0 … 14, on seven rows."""
    orders = {order: Partition.of(1, 15, 1, 7, 1, taps=3, order=order) for order in ORDERS}
    assert orders["channels"].inputs_of_tile.tolist() == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10, 11],
        [12, 13, 14] + 3 * [15],
    ]
    assert orders["taps"].inputs_of_tile.tolist() == [[0, 3, 6, 9, 12], [1, 4, 7, 10, 13], [2, 5, 8, 11, 14]]
    assert orders["dense"].inputs_of_tile.tolist() == [list(range(5)), list(range(5, 10)), list(range(10, 15))]
    two_blocks = Partition.of(1, 15, 1, 3, 1, taps=3, order="taps")
    assert two_blocks.inputs_of_tile.tolist() == [
        [0, 3, 6],
        [9, 12, 15],
        [1, 4, 7],
        [10, 13, 15],
        [2, 5, 8],
        [11, 14, 15],
    ]


def test_auto_takes_the_fewest_tiles_and_of_equal_ones_a_convolution():
    assert Partition.of(1, 64 * 9, 64, 128, 128, 9).order == "channels"  # 5 tiles, as dense
    assert Partition.of(1, 512 * 9, 64, 128, 128, 9).order == "taps"  # 36 tiles, where channels take 37
    assert Partition.of(1, 3 * 49, 64, 128, 128, 49).order == "channels"
    assert Partition.of(1, 25, 4, 8, 8, 25).order == "dense"  # 4 tiles, where one a tap takes 25
    assert Partition.of(1, 64 * 25, 4, 16, 8, 25).order == "taps"  # a kernel larger than a tile


@pytest.mark.parametrize("order", ["taps", "dense"])
def test_an_order_that_fits_is_kept(order):
    assert Partition.of(1, 4 * 25, 4, 16, 8, 25, order).order == order


@settings(deadline=None)
@given(partitions())
def test_every_input_sits_once_and_tiles_are_as_few_as_their_rows_allow(part):
    seen = part.inputs_of_tile.flatten()
    assert sorted(seen[seen < part.inputs].tolist()) == list(range(part.inputs))
    assert part.inputs_per_tile <= part.rows
    assert part.outputs_per_tile <= part.cols
    assert part.row_tiles >= -(-part.inputs // part.rows)
    if part.order == "dense":
        assert part.row_tiles == -(-part.inputs // part.rows)
    assert part.col_tiles == -(-part.outputs // part.cols)
    assert ((part.inputs_of_tile < part.inputs).any(-1)).all()  # no tile is empty


@settings(deadline=None)
@given(partitions(), st.booleans(), st.integers(0, 99))
def test_rows_and_columns_are_used_once(part, permuted, seed):
    rows, columns = placed(part, permuted, seed)
    assert rows.shape == (part.groups, part.row_tiles, part.inputs_per_tile)
    assert columns.shape == (part.groups, part.col_tiles, part.outputs_per_tile)
    assert all(len(set(each)) == len(each) for each in rows.flatten(0, 1).tolist())
    assert int(rows.min()) >= 0
    assert int(rows.max()) == part.rows - 1
    assert torch.equal(columns.sort(-1).values, part.linear_columns())
    used = (part.inputs_of_tile < part.inputs).expand_as(rows)
    # Occupied rows are the last ones, whatever their order.
    assert torch.all(rows[used] >= (part.rows - used.sum(-1, keepdim=True)).expand_as(rows)[used])


@settings(deadline=None)
@given(partitions(), st.booleans(), st.integers(0, 99))
def test_tile_products_add_up_to_the_matrix_product(part, permuted, seed):
    rows, columns = placed(part, permuted, seed)
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, part.groups, part.inputs, part.outputs, dtype=torch.float64, generator=generator)
    vectors = torch.randn(part.groups, 6, part.inputs, dtype=torch.float64, generator=generator)
    tiles = part.to_tiles(pair, rows, columns, fill=7.0)
    assert tiles.shape == (2, *part.tiles, part.rows, part.outputs_per_tile)
    currents = part.to_rows(vectors, rows).unsqueeze(-3) @ tiles
    # Only the order of the sums differs.
    torch.testing.assert_close(part.to_outputs(currents, columns).sum(-3), vectors @ pair, rtol=1e-12, atol=1e-12)
    back = part.from_tiles(tiles, rows, columns)
    products = part.to_places(vectors) @ back
    torch.testing.assert_close(products.sum(-3), vectors @ pair, rtol=1e-12, atol=1e-12)


def test_strong_rows_go_to_the_sense_side_and_strong_columns_to_the_driver():
    part = Partition(groups=1, inputs=3, outputs=3, rows=4, cols=3)
    load = torch.tensor([[[1.0, 5, 2], [10, 50, 20], [3, 15, 6]]])
    rows, columns = part.permuted(load)
    assert rows.tolist() == [[[1, 3, 2]]]  # the first row is unused; input 1 is the strongest
    assert columns.tolist() == [[[2, 0, 1]]]  # output 1 is the strongest
    tiles = part.to_tiles(load, rows, columns, fill=0.0)[0, 0, 0]
    assert tiles.tolist() == [[0, 0, 0], [5, 2, 1], [15, 6, 3], [50, 20, 10]]


def test_an_input_has_one_row_in_all_column_tiles():
    part = Partition(groups=1, inputs=2, outputs=4, rows=2, cols=2)
    rows, _ = part.permuted(torch.tensor([[[9.0, 9, 0, 0], [0, 0, 1, 1]]]))
    assert rows.tolist() == [[[1, 0]]]


def test_counts():
    part = Partition(groups=2, inputs=7, outputs=5, rows=4, cols=3)
    assert part.tiles == (2, 2, 2)
