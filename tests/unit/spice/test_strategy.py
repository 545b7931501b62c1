from dataclasses import replace

import numpy as np
import pytest

from mdls_cosim.errors import SpiceError
from mdls_cosim.spice import Deck, NgspiceEngine, strategy


def signed_inputs(count: int, size: int) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.uniform(-0.3, 0.3, (count, size)) * (random.random((count, size)) < 0.7)


@pytest.mark.ngspice
@pytest.mark.parametrize("size", [3, 16])
def test_altered_points_and_an_index_sweep_agree(engine: NgspiceEngine, sinh_tile, size: int):
    deck, values = sinh_tile(size), signed_inputs(12, size)
    altered = engine.run(deck, values, "alter").values
    swept = engine.run(deck, values, "sweep").values
    # Two solutions to reltol=1e-9: 1e-9 of the largest current.
    np.testing.assert_allclose(swept, altered, rtol=0, atol=1e-9 * np.abs(altered).max())
    assert np.abs(altered).max() > 1e-6


@pytest.mark.ngspice
def test_more_vectors_than_one_sweep_takes_stay_in_order(
    engine: NgspiceEngine, sinh_tile, monkeypatch: pytest.MonkeyPatch
):
    deck, values = sinh_tile(2), signed_inputs(11, 2)
    together = engine.run(deck, values).values
    monkeypatch.setattr(strategy, "MOST_VECTORS", 4)
    for method in ("alter", "sweep"):
        apart = engine.run(deck, values, method).values
        np.testing.assert_allclose(apart, together, rtol=0, atol=1e-9 * np.abs(together).max())


@pytest.mark.ngspice
@pytest.mark.parametrize("method", ["alter", "sweep"])
def test_voltages_and_the_currents_of_driven_sources_can_be_read(engine: NgspiceEngine, sinh_tile, method):
    deck = replace(sinh_tile(2), probes=("i(vrow0)", "v(row0_col0)", "v(drive0)", "i(vcol0)"))
    values = np.array([[0.2, 0.0], [0.2, -0.1], [0.1, 0.3]])
    points = engine.run(deck, values, method)
    drop = points.column("v(drive0)") - points.column("v(row0_col0)")
    np.testing.assert_allclose(points.column("v(drive0)"), values[:, 0], rtol=1e-12)
    np.testing.assert_allclose(-10 * points.column("i(vrow0)"), drop, rtol=1e-9)


DIVIDER = ("Vin in 0 0", "Rtop in middle 1e3", "Rload middle 0 1e3")


@pytest.mark.parametrize(
    ("more", "models"),
    [
        ((), ()),
        (("Gcell middle 0 middle 0 1e-6",), ()),
        (("Xcell middle 0 ohmic conductance=1e-6",), ("ohmic",)),
        (("Hout out 0 Vin -1e3", "Cload middle 0 1e-12 ic=0.5", "Iin 0 middle 1e-6"), ()),
    ],
)
def test_a_circuit_of_constant_elements_is_swept(more, models):
    deck = Deck("linear", (*DIVIDER, *more), models, sources=("Vin",), probes=("v(middle)",))
    assert strategy.chosen(deck) == "sweep"


@pytest.mark.parametrize(
    ("more", "models"),
    [
        (("Xcell middle 0 sinh",), ("sinh",)),
        (("Xcell middle 0 ohmic", "Xmore middle 0 sinh"), ("ohmic", "sinh")),
        (("Xcell middle 0 own",), (".subckt own p n\nR1 p n 1k\n.ends\n",)),
        (("Bcell middle 0 i=v(middle)*1e-6",), ()),
        (("Gcell middle 0 cur='v(middle)^3'",), ()),
        (("Gcell middle 0 POLY(1) middle 0 0 1e-6 1e-7",), ()),
        (("S1 middle 0 in 0 sw",), ()),
    ],
)
def test_any_other_circuit_is_solved_point_by_point(more, models):
    deck = Deck("other", (*DIVIDER, *more), models, sources=("Vin",), probes=("v(middle)",))
    assert strategy.chosen(deck) == "alter"


def test_without_sources_there_is_nothing_to_sweep():
    deck = Deck("battery", ("Vin in 0 3", "Rin in 0 2"), probes=("i(vin)",))
    assert strategy.chosen(deck) == "alter"


@pytest.mark.ngspice
def test_a_swept_source_has_the_value_of_its_vector_whatever_its_neighbors(engine: NgspiceEngine):
    """A piecewise linear function that rises between the indices gives 0.3 + (0.1 - 0.3), which is not 0.1."""
    deck = Deck("source", ("Vin in 0 0", "Rload in 0 1e3"), sources=("Vin",), probes=("v(in)",))
    values = np.array([0.3, 0.1, 0.7, 0.1, -1 / 3, 0.1, 0.1])
    found = engine.run(deck, values[:, None], "sweep").values[:, 0]
    np.testing.assert_allclose(found, values, rtol=1e-15)
    assert len(set(found[values == 0.1])) == 1


@pytest.mark.ngspice
@pytest.mark.parametrize("method", ["alter", "sweep"])
def test_a_failure_names_the_vector_among_all(engine: NgspiceEngine, monkeypatch: pytest.MonkeyPatch, method):
    monkeypatch.setattr(strategy, "MOST_VECTORS", 4)
    deck = Deck("pole", ("Vin in 0 0", "Bload in 0 i=1/(v(in)-1)"), sources=("Vin",), probes=("i(vin)",))
    values = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [1.0], [0.5]])
    with pytest.raises(SpiceError, match="vector 5"):
        engine.run(deck, values, method)
