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


def test_one_vector_is_altered_and_many_are_swept(sinh_tile):
    deck = sinh_tile(2)
    assert strategy.chosen(deck, 1) == "alter"
    assert strategy.chosen(deck, 2) == "sweep"


@pytest.mark.ngspice
@pytest.mark.parametrize("method", ["alter", "sweep"])
def test_a_failure_names_the_vector_among_all(engine: NgspiceEngine, monkeypatch: pytest.MonkeyPatch, method):
    monkeypatch.setattr(strategy, "MOST_VECTORS", 4)
    deck = Deck("pole", ("Vin in 0 0", "Bload in 0 i=1/(v(in)-1)"), sources=("Vin",), probes=("i(vin)",))
    values = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [1.0], [0.5]])
    with pytest.raises(SpiceError, match="vector 5"):
        engine.run(deck, values, method)
