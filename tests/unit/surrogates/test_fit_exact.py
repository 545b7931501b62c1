"""Surrogates fitted to exact solutions: the stated error is that on tiles that the fit never saw."""

import numpy as np
import pytest
import torch

from mdls_cosim.characterize import Characterization, IvPlan, ReadPlan, draw
from mdls_cosim.devices import Sinh
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.surrogates import fit_to_exact
from mdls_cosim.tiles import TileSpec

SPEC = TileSpec(rows=6, cols=5, cell=Sinh(nonlinearity=4.0), row_line_resistance=20.0, column_line_resistance=20.0)


def plan(**reads):
    read = ReadPlan(voltage=0.3, vectors=3, **reads)
    return Characterization(tile=SPEC, conductance_range=(1e-6, 1e-4), read=read, seed=2)


def test_stated_error_is_that_of_the_last_tile_of_each_class():
    asked = plan(tiles=3)
    fitted = fit_to_exact(asked)
    assert asked.read is not None
    cases = draw(SPEC, asked.read, asked.conductance_range, np.random.default_rng(2))
    held = np.arange(len(cases.conductances)) % 3 == 2
    conductances, voltages = (torch.as_tensor(each[held]) for each in (cases.conductances, cases.voltages))
    exact = NodalTile(SPEC).program(conductances)(voltages)
    error = (fitted.program(conductances)(voltages) - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert fitted.error is not None
    assert fitted.error.rms == pytest.approx(float(error), rel=1e-3)
    assert 0 < fitted.error.rms < 1e-3


def test_domain_is_that_of_the_plan():
    domain = fit_to_exact(plan(tiles=2)).domain
    assert (domain.rows, domain.cols, domain.conductances, domain.input_voltage) == (6, 5, (1e-6, 1e-4), 0.3)


@pytest.mark.parametrize(
    ("asked", "said"),
    [(plan(tiles=1), "tiles = 1"), (Characterization(tile=SPEC, iv=IvPlan()), "no reads")],
    ids=["one tile", "no reads"],
)
def test_a_fit_needs_tiles_to_hold_out(asked, said):
    with pytest.raises(InputError, match=f"holds one tile of each class out.*{said}"):
        fit_to_exact(asked)
