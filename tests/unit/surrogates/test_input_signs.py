"""Signs of inputs as a limit of the domain."""

import pytest
import torch

from mdls_cosim.errors import DomainError, DomainWarning
from mdls_cosim.surrogates import fit, load

PLAN = {"tiles": 3, "vectors": 2, "conductance_classes": ("uniform",)}


@pytest.fixture(scope="module")
def positive(nodal_dataset, tile_spec):
    """Of a sinh cell, fitted to inputs at 0 V and above."""
    return fit(nodal_dataset(tile_spec(4, 3, nonlinearity=3.0), input_classes=("dense", "sparse"), **PLAN))


def tile():
    return torch.full((4, 3), 5e-5, dtype=torch.float64)


def test_reads_of_both_signs_are_counted_where_the_fit_saw_one(positive):
    programmed = positive.program(tile())
    assert programmed.largest_voltage == 0.0  # no fast path may pass unchecked
    one_sign = torch.tensor([[0.1, 0.2, 0.0, 0.1], [-0.1, 0.0, -0.2, -0.3], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    programmed(one_sign)
    assert programmed.outside["input sign"] == 0
    with pytest.warns(DomainWarning, match=r"input sign: got .both, 2 times., allowed of the fit: positive, negative"):
        programmed(torch.tensor([[0.1, -0.1, 0.0, 0.0]] * 2, dtype=torch.float64))
    assert programmed.outside["input sign"] == 2
    assert programmed.reads == 5


def test_strict_refuses_them(positive, tmp_path):
    positive.save(tmp_path / "s.h5")
    loaded = load(tmp_path / "s.h5", strict=True)
    assert loaded.domain == positive.domain
    with pytest.raises(DomainError, match="input sign"):
        loaded.program(tile())(torch.tensor([[0.1, -0.1, 0.0, 0.0]], dtype=torch.float64))


def test_all_classes_leave_no_sign_out(nodal_dataset, tile_spec):
    surrogate = fit(nodal_dataset(tile_spec(4, 3, nonlinearity=3.0), **PLAN))
    assert surrogate.domain.input_signs == ("positive", "negative", "both")
    assert surrogate.program(tile()).largest_voltage > 0


def test_ohmic_cells_superpose(nodal_dataset, tile_spec):
    surrogate = fit(nodal_dataset(tile_spec(4, 3), input_classes=("dense",), **PLAN))
    assert surrogate.domain.input_signs is None
    programmed = surrogate.program(tile())
    programmed(torch.tensor([[0.1, -0.1, 0.0, 0.0]], dtype=torch.float64))
    assert not any(programmed.outside.values())
