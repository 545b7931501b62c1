"""Where weights land on tiles."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mdls_cosim.analog import Partition

SIZES = st.integers(1, 9)


def test_occupied_cells_sit_nearest_driver_and_sense():
    part = Partition(groups=1, inputs=3, outputs=3, rows=2, cols=2)
    matrix = torch.arange(1.0, 10).reshape(1, 3, 3)
    tiles = part.to_tiles(matrix, fill=0.5)
    assert tiles.shape == (1, 2, 2, 2, 2)
    # Rows are sensed below the last one, so the unused row comes first; rows are driven at column 0.
    assert tiles[0, 0, 0].tolist() == [[0.5, 0.5], [1, 2]]
    assert tiles[0, 0, 1].tolist() == [[0.5, 0.5], [3, 0.5]]
    assert tiles[0, 1, 0].tolist() == [[4, 5], [7, 8]]
    assert tiles[0, 1, 1].tolist() == [[6, 0.5], [9, 0.5]]
    rows = part.to_rows(torch.tensor([[[1.0, 2, 3]]]))
    assert rows.tolist() == [[[[0, 1]], [[2, 3]]]]


def test_counts():
    part = Partition(groups=2, inputs=7, outputs=5, rows=4, cols=3)
    assert part.tiles == (2, 2, 2)
    assert part.cells_used == 70
    assert part.cells == 2 * 2 * 2 * 12


@given(groups=st.integers(1, 3), inputs=SIZES, outputs=SIZES, rows=st.integers(1, 4), cols=st.integers(1, 4))
def test_tile_products_add_up_to_the_matrix_product(groups, inputs, outputs, rows, cols):
    part = Partition(groups, inputs, outputs, rows, cols)
    generator = torch.Generator().manual_seed(inputs * 100 + outputs)
    pair = torch.randn(2, groups, inputs, outputs, dtype=torch.float64, generator=generator)
    vectors = torch.randn(groups, 6, inputs, dtype=torch.float64, generator=generator)
    tiles = part.to_tiles(pair, fill=7.0)
    assert tiles.shape == (2, *part.tiles, rows, cols)
    currents = part.to_rows(vectors).unsqueeze(-3) @ tiles
    summed = part.to_outputs(currents).sum(-3)
    # Only the order of the sums differs.
    torch.testing.assert_close(summed, vectors @ pair, rtol=1e-12, atol=1e-12)
