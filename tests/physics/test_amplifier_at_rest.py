"""Amplifiers in operating points: the form without a loop is the subcircuit's, and large tiles are solved with it."""

import numpy as np
import pytest
import torch

from mdls_cosim.devices import Sinh
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import TileSpec, measured_currents, tile_deck
from mdls_cosim.tiles.spec import TransimpedanceAmplifier

SINH = TileSpec(rows=2, cols=3, cell=Sinh(nonlinearity=3.0), row_line_resistance=5.0, driver_resistance=100.0)


@pytest.mark.parametrize("gain", [3.0, 1e4])
def test_at_rest_the_deck_is_that_of_the_subcircuit(gain, engine):
    generator = np.random.default_rng(0)
    tile = SINH.replace(amplifier=TransimpedanceAmplifier(gain=gain))
    conductances, voltages = generator.uniform(1e-6, 1e-4, (2, 3)), generator.uniform(-0.3, 0.3, (4, 2))
    found = []
    for transient in (False, True):  # at rest capacitors carry nothing
        result = engine.run(tile_deck(tile, conductances, transient=transient), voltages)
        found.append(measured_currents(tile, result, range(3)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8, atol=1e-14)
    plain = engine.run(tile_deck(SINH, conductances), voltages).values
    assert np.abs(found[0] / plain - 1).max() > (0.1 if gain < 10 else 1e-5)


def test_large_nonlinear_tiles_with_amplifiers_are_solved(engine):
    """32x32: with the amplifiers' loops in the matrix of KLU, Newton's iteration did not end here."""
    generator = torch.Generator().manual_seed(0)
    tile = SINH.replace(rows=32, cols=32, column_line_resistance=1.0, amplifier=TransimpedanceAmplifier())
    conductances = 1e-6 + 99e-6 * torch.rand(32, 32, generator=generator, dtype=torch.float64)
    voltages = 0.4 * torch.rand(20, 32, generator=generator, dtype=torch.float64) - 0.2
    found = SpiceTile(tile, engine=engine).program(conductances)(voltages)
    expected = NodalTile(tile).program(conductances)(voltages)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
