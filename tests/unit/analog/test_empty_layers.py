"""Layers without inputs or outputs, and vectors that do not fit a matrix."""

import pytest
import torch
from torch import nn

from mdls_cosim.analog import AnalogConv2d, AnalogLinear, AnalogMatrix, Hardware
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.network import convert
from mdls_cosim.tiles import TileSpec

HARDWARE = Hardware(tile=TileSpec(rows=4, cols=4), rung="ideal")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_layers_without_weights_are_refused(shape):
    with pytest.raises(InputError, match="without weights"):
        AnalogLinear(*shape, hardware=HARDWARE)
    with pytest.raises(InputError, match="without weights"):
        AnalogConv2d(*shape, 2, hardware=HARDWARE)
    with pytest.raises(InputError, match="without weights"):
        AnalogMatrix(torch.zeros(shape), HARDWARE)
    with pytest.raises(NotAvailable, match=r"1 \(Linear\): it has no weights"):
        convert(nn.Sequential(nn.Linear(3, shape[0]), nn.Linear(*shape)), HARDWARE, {"0": None})


def test_a_matrix_names_the_shape_that_it_was_given():
    matrix = AnalogMatrix(torch.ones(3, 4), HARDWARE)
    with pytest.raises(InputError, match=r"got \(3, 2\), allowed \(4,\) or \(\*batch, 4, vectors\)"):
        matrix @ torch.ones(3, 2)
    with pytest.raises(InputError, match=r"got \(3,\)"):
        matrix @ torch.ones(3)
    assert (matrix @ torch.ones(2, 4, 5)).shape == (2, 3, 5)
