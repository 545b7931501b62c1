"""A fit of tiles whose cells are neither ohmic nor of the sinh family: from the data and what they record."""

from dataclasses import replace

import pytest

from mdls_cosim.characterize import Characterization, IvPlan, ReadPlan, characterize
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import DataDriven, ExponentialSelector, Nmos, PassiveTio2, Sinh
from mdls_cosim.errors import ConvergenceError
from mdls_cosim.surrogates import RowResponses, SeriesSurrogate, fit, validate
from mdls_cosim.tiles import SelectorCell, StateDeclaration, SubcircuitCell, TileSpec, TransistorCell

FOUR = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
PLAN = {"tiles": 2, "vectors": 2}
SELECTOR = SelectorCell(device=Sinh(), selector=ExponentialSelector(saturation_current=1e-8))

GAP = """* a filament that ends in a gap, and its electrode
.subckt gap p n gap=0.2
Rs p inner 300
Bcell inner n I=1m*exp(-{gap}/0.25)*sinh(V(inner,n)/0.25)
.ends gap
"""
SUBCIRCUIT = SubcircuitCell(
    subcircuit="gap", text=GAP, state=StateDeclaration(parameter="gap", lowest=0.2, highest=1.7)
)
# A sinh of 4 /V.
PLAIN = ".subckt own p n g=1u\nBown p n I={g}*sinh(4*V(p,n))/4\n.ends own\n"


def falsified(dataset: Dataset, **cell) -> Dataset:
    """With recorded resistances, and a part of the cell, that are not true."""
    tile = {**dataset.config["tile"], **dict.fromkeys(FOUR, 123.0)}
    tile["cell"] = {**tile["cell"], **cell}
    return replace(dataset, config={**dataset.config, "tile": tile})


@pytest.mark.parametrize(
    ("cell", "span", "bound"),
    [(PassiveTio2(), (2e-6, 95e-6), 1e-3), (DataDriven(), (6e-5, 5e-4), 2e-3)],
    ids=lambda value: getattr(value, "model", ""),
)
def test_the_recorded_law_and_fitted_resistances(cell, span, bound, nodal_dataset, tile_spec):
    spec = tile_spec(6, 5, cell=cell)
    surrogate = fit(falsified(nodal_dataset(spec, span=span, iv=True, **PLAN)))
    assert surrogate.spec.cell == cell
    for name in FOUR:
        assert getattr(surrogate.spec, name) == pytest.approx(getattr(spec, name), rel=1e-3), name
    assert isinstance(surrogate, SeriesSurrogate)
    assert max(surrogate.error.classes.values()) < bound


def test_steep_cells_get_their_rows(nodal_dataset, tile_spec):
    surrogate = fit(falsified(nodal_dataset(tile_spec(6, 5, cell=SELECTOR), voltage=1.0, **PLAN)))
    assert isinstance(surrogate, RowResponses)
    assert surrogate.error.rms < 2e-4
    # A class of small voltages only, far below the curve's knee, is met less well.
    assert max(surrogate.error.classes.values()) < surrogate.error.bound < 1e-2
    assert surrogate.spec.sense_resistance == pytest.approx(7.0, rel=1e-2)


def test_gentle_reads_of_selectors_stay_a_series(nodal_dataset, tile_spec):
    surrogate = fit(nodal_dataset(tile_spec(5, 4, cell=SELECTOR), voltage=0.2, **PLAN))
    assert isinstance(surrogate, SeriesSurrogate)
    assert max(surrogate.error.classes.values()) < 5e-3


def test_a_recorded_law_that_is_not_that_of_the_data_is_refused(nodal_dataset, tile_spec):
    dataset = nodal_dataset(tile_spec(5, 4, cell=PassiveTio2()), span=(2e-6, 95e-6), iv=True, **PLAN)
    with pytest.raises(ConvergenceError, match=r"recorded passive_tio2 cell.*I-V misses"):
        fit(falsified(dataset, cubic_slope=40.0))
    alone = replace(dataset, experiments={"read": dataset.experiments["read"]})
    with pytest.raises(ConvergenceError, match=r"recorded passive_tio2 cell explains the data"):
        fit(falsified(alone, linear_slope=2.0))


def simulated(cell, engine, span, voltage: float, reference_voltage: float = 0.0) -> Dataset:
    tile = TileSpec(
        rows=8, cols=6, cell=cell, row_line_resistance=4.0, column_line_resistance=5.0, driver_resistance=20.0,
        sense_resistance=15.0, reference_voltage=reference_voltage,
    )  # fmt: skip
    plan = {"tile": tile, "conductance_range": span, "iv": IvPlan(voltage=voltage)}
    return characterize(Characterization(**plan, read=ReadPlan(voltage=voltage, **PLAN)), engine=engine)


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("cell", "kind", "voltage", "bound"),
    [
        (SELECTOR, "selector", 1.0, 5e-3),
        (TransistorCell(device=Sinh(), transistor=Nmos(body_effect=0.4)), "transistor", 0.3, 1e-3),
    ],
    ids=["1S1R", "1T1R"],
)
def test_selectors_and_transistors_from_ngspice(cell, kind, voltage, bound, engine):
    surrogate = fit(falsified(simulated(cell, engine, (1e-6, 1e-4), voltage)))
    assert surrogate.spec.cell.model == kind
    assert max(surrogate.error.classes.values()) < bound


@pytest.mark.ngspice
def test_a_users_subcircuit_is_its_curves(engine):
    dataset = simulated(SUBCIRCUIT, engine, (2e-5, 1e-3), 0.5, 0.1)
    surrogate = fit(dataset)
    assert surrogate.spec.cell.model == "measured_curves"
    assert max(surrogate.error.classes.values()) < 5e-3
    assert surrogate.spec.sense_resistance == pytest.approx(15.0, rel=1e-2)
    checked = validate(surrogate, cases=5, seed=3, engine=engine)
    assert checked.passed
    assert checked.worst < 5e-3


@pytest.mark.ngspice
def test_a_subcircuit_of_the_sinh_family_is_a_sinh(engine):
    cell = SubcircuitCell(subcircuit="own", text=PLAIN, state=StateDeclaration(parameter="g", quantity="conductance"))
    surrogate = fit(simulated(cell, engine, (1e-6, 1e-4), 0.3))
    assert surrogate.spec.cell.model == "sinh"
    assert surrogate.spec.cell.nonlinearity == pytest.approx(4.0, rel=1e-3)
