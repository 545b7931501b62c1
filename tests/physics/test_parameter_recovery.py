"""A fit finds a tile's electrical parameters from conductances, voltages and currents alone."""

from dataclasses import replace

import pytest

from mdls_cosim.characterize import Characterization, ReadPlan, characterize
from mdls_cosim.dataset import Dataset
from mdls_cosim.surrogates import fit

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
PLAN = {"tiles": 2, "vectors": 2}

# The promises.
RELATIVE, ZERO = 1e-3, 1e-3  # of a resistance; [ohm] for one that is zero


def falsified(dataset: Dataset) -> Dataset:
    """The same arrays with a recorded tile that says nothing true about them."""
    tile = {**dataset.config["tile"], **dict.fromkeys(FOUR, 123.0), "cell": {"model": "sinh", "nonlinearity": 9.0}}
    return replace(dataset, config={**dataset.config, "tile": tile})


def assert_recovered(found, true) -> None:
    for name in FOUR:
        value = getattr(true, name)
        expected = pytest.approx(value, rel=RELATIVE) if value else pytest.approx(0.0, abs=ZERO)
        assert getattr(found, name) == expected, name


@pytest.mark.ngspice
@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_an_ohmic_tile_from_ngspice(factor, engine, tile_spec):
    spec = tile_spec(8, 6)
    dataset = characterize(Characterization(tile=spec, read=ReadPlan(**PLAN)), engine=engine)
    start = spec.replace(**{name: getattr(spec, name) * factor for name in FOUR})
    surrogate = fit(falsified(dataset), start=start)
    assert surrogate.spec.cell.linear
    assert_recovered(surrogate.spec, spec)


@pytest.mark.ngspice
def test_a_sinh_tile_from_ngspice(engine, tile_spec):
    spec = tile_spec(8, 6, nonlinearity=3.0)
    dataset = characterize(Characterization(tile=spec, read=ReadPlan(**PLAN)), engine=engine)
    start = spec.replace(**{name: getattr(spec, name) * 10 for name in FOUR})
    surrogate = fit(falsified(dataset), start=start)
    assert_recovered(surrogate.spec, spec)
    assert surrogate.spec.cell.nonlinearity == pytest.approx(3.0, rel=RELATIVE)


@pytest.mark.parametrize("zero", [*((name,) for name in FOUR), FOUR], ids="+".join)
def test_a_resistance_of_zero(zero, nodal_dataset, tile_spec):
    spec = tile_spec(8, 6, zero)
    start = tile_spec(8, 6).replace(**{name: getattr(tile_spec(8, 6), name) * 10 for name in FOUR})
    assert_recovered(fit(falsified(nodal_dataset(spec, **PLAN)), start=start).spec, spec)


def test_a_zero_resistance_of_a_sinh_tile(nodal_dataset, tile_spec):
    spec = tile_spec(6, 5, ("driver_resistance", "column_line_resistance"), nonlinearity=4.0)
    found = fit(falsified(nodal_dataset(spec, **PLAN))).spec
    assert_recovered(found, spec)
    assert found.cell.nonlinearity == pytest.approx(4.0, rel=RELATIVE)


@pytest.mark.parametrize("nonlinearity", [1.0, 6.0, 10.0])
@pytest.mark.parametrize("iv", [False, True], ids=["reads", "reads and I-V"])
def test_the_cells_nonlinearity(iv, nonlinearity, nodal_dataset, tile_spec):
    spec = tile_spec(5, 4, nonlinearity=nonlinearity)
    found = fit(falsified(nodal_dataset(spec, iv=iv, **PLAN))).spec
    assert found.cell.nonlinearity == pytest.approx(nonlinearity, rel=RELATIVE)
    assert_recovered(found, spec)


@pytest.mark.parametrize("iv", [False, True], ids=["reads", "reads and I-V"])
def test_conductances_defined_at_a_reference_voltage(iv, nodal_dataset, tile_spec):
    # At 0.3 V the programmed conductance is the cell's I/V, above its slope at 0 V.
    spec = tile_spec(5, 4, nonlinearity=4.0, reference_voltage=0.3)
    found = fit(nodal_dataset(spec, iv=iv, **PLAN)).spec
    assert found.reference_voltage == 0.3
    assert found.cell.model == "sinh"
    assert found.cell.nonlinearity == pytest.approx(4.0, rel=RELATIVE)
    assert_recovered(found, spec)


@pytest.mark.parametrize("iv", [False, True], ids=["reads", "reads and I-V"])
def test_ohmic_data_yield_an_ohmic_tile(iv, nodal_dataset, tile_spec):
    assert fit(nodal_dataset(tile_spec(5, 4), iv=iv, **PLAN)).spec.cell.linear
