"""The surrogate at the issue's target, on draws that no fit has seen, against ngspice itself."""

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.characterize import (
    CONDUCTANCE_CLASSES,
    INPUT_CLASSES,
    Characterization,
    ReadPlan,
    characterize,
    draw_conductances,
    draw_inputs,
)
from mdls_cosim.devices import Sinh
from mdls_cosim.errors import DomainWarning
from mdls_cosim.fidelity import SpiceTile
from mdls_cosim.surrogates import fit
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.tiles import TileSpec

TARGET = TileSpec(
    rows=32,
    cols=32,
    cell=Sinh(nonlinearity=3.0),
    row_line_resistance=1.0,
    column_line_resistance=1.0,
    driver_resistance=10.0,
    sense_resistance=10.0,
)
SPAN = (1e-6, 1e-4)
BOUND = 0.001  # RMS error over RMS current, in every class


def relative_rms(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - true) ** 2) / np.mean(true**2)))


@pytest.mark.ngspice
def test_a_thousandth_in_every_class(engine):
    plan = Characterization(tile=TARGET, conductance_range=SPAN, read=ReadPlan(tiles=2, vectors=3), seed=0)
    surrogate = fit(characterize(plan, engine=engine))
    generator = np.random.default_rng(987654321)
    spice, errors = SpiceTile(TARGET, engine), {}
    for kind in CONDUCTANCE_CLASSES:
        conductances = draw_conductances(kind, 32, 32, SPAN, generator)
        voltages = np.stack([draw_inputs(each, 4, 32, 0.3, generator) for each in INPUT_CLASSES])
        true = spice.program(torch.as_tensor(conductances))(torch.as_tensor(voltages)).numpy()
        found = surrogate.program(torch.as_tensor(conductances))(torch.as_tensor(voltages)).numpy()
        linear = LinearSurrogate.exact(TARGET.replace(cell={"model": "ohmic"})).program(torch.as_tensor(conductances))
        for index, each in enumerate(INPUT_CLASSES):
            errors[kind, each] = relative_rms(found[index], true[index])
            # The case is worth its name: the exact linear tile misses by more than the bound.
            assert relative_rms(linear(torch.as_tensor(voltages[index])).numpy(), true[index]) > BOUND, (kind, each)
    assert max(errors.values()) <= BOUND, errors
    assert len(errors) == 20
    # What it says of itself is what it shows.
    assert surrogate.error is not None
    assert max(errors.values()) <= surrogate.error.bound
    assert surrogate.error.rms <= BOUND

    # Open cells lie outside the fitted range; their sneak currents stay as right as everything else.
    conductances = draw_conductances("uniform", 32, 32, SPAN, generator)
    conductances[generator.random((32, 32)) < 0.5] = 0.0
    conductances[:, 5] = 0.0
    with pytest.warns(DomainWarning, match="conductance"):
        programmed = surrogate.program(torch.as_tensor(conductances))
    assert programmed.outside["conductance"] == int((conductances == 0).sum())
    voltages = torch.as_tensor(draw_inputs("signed", 4, 32, 0.3, generator))
    found, true = programmed(voltages).numpy(), spice.program(torch.as_tensor(conductances))(voltages).numpy()
    assert np.isfinite(found).all()
    assert relative_rms(found, true) <= BOUND
    assert np.abs(found[:, 5]).max() < 1e-13  # no cell, no current: 1e-8 of the others


def test_the_series_is_exact_to_its_order(nodal_dataset, tile_spec):
    """Halving the voltage of a fitted surrogate divides its error by four in the limit (relative to the current).

    A series in V that is exact in first order errs in third: V^2 relative to the current. Against the reference.
    """
    spec = tile_spec(6, 5, nonlinearity=3.0)
    surrogate = fit(nodal_dataset(spec, tiles=2, vectors=3))
    generator = np.random.default_rng(11)
    conductances = draw_conductances("uniform", 6, 5, SPAN, generator)
    voltages = draw_inputs("signed", 10, 6, 1.2, generator)
    programmed, errors = surrogate.program(torch.as_tensor(conductances)), []
    for share in (0.02, 0.01, 0.005):  # small, as the fitted third order is off by a little
        true = Tile.of(surrogate.spec).solve(conductances, share * voltages).currents
        errors.append(relative_rms(programmed(torch.as_tensor(share * voltages)).numpy(), true))
    assert errors[0] > 3.9 * errors[1] > 3.9 * 3.9 * errors[2]
