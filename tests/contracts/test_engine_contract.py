"""What every Engine must do. A new engine joins by one line in ENGINES."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from mdls_cosim.errors import InputError, KirchhoffError, SpiceError, SpiceNoConvergence
from mdls_cosim.spice import Deck, Engine, NgspiceEngine

ENGINES: dict[str, Callable[[], Engine]] = {"ngspice": NgspiceEngine}

# An asymmetric ladder of two sources, so that nothing can be swapped unseen.
LADDER = Deck(
    title="ladder",
    elements=("Va a 0 0", "Vb b 0 0", "Ra a middle 100", "Rb b middle 300", "Rout middle out 600", "Vout out 0 0"),
    sources=("Vb", "Va"),
    probes=("v(middle)", "i(vout)"),
    balance=("va", "vb", "vout"),
)


def ladder_middle(values: np.ndarray) -> np.ndarray:
    """Millman's theorem for (vectors, [Vb, Va])."""
    return (values[:, 0] / 300 + values[:, 1] / 100) / (1 / 100 + 1 / 300 + 1 / 600)


@pytest.fixture(params=ENGINES)
def any_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with ENGINES[request.param]() as engine:
        yield engine


@pytest.mark.ngspice
class TestEngineContract:
    @pytest.mark.parametrize("vectors", [1, 2, 7, 300])
    def test_values_in_order_of_sources_results_in_order_of_probes(self, any_engine: Engine, vectors: int):
        values = np.random.default_rng(vectors).uniform(-1, 1, (vectors, 2))
        points = any_engine.run(LADDER, values)
        middle = ladder_middle(values)
        assert points.probes == LADDER.probes
        assert points.values.shape == (vectors, 2)
        # 1e-12 A: for sums that cancel.
        np.testing.assert_allclose(points.column("v(middle)"), middle, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(points.columns(["i(vout)", "V(middle)"])[:, 0], middle / 600, rtol=1e-11, atol=1e-12)
        assert points.seconds > 0

    def test_a_cell_of_the_library_follows_its_equation(self, any_engine: Engine):
        deck = Deck(
            title="cell",
            elements=("Vin in 0 0", "Xcell in out sinh conductance=2e-5 nonlinearity=4", "Vout out 0 0"),
            models=("sinh",),
            sources=("Vin",),
            probes=("i(vout)",),
            balance=("vin", "vout"),
        )
        voltages = np.linspace(-0.5, 0.5, 11)
        currents = any_engine.run(deck, voltages[:, None]).column("i(vout)")
        np.testing.assert_allclose(currents, 2e-5 * np.sinh(4 * voltages) / 4, rtol=1e-12, atol=1e-20)

    def test_a_deck_without_driven_sources_has_one_operating_point_a_row(self, any_engine: Engine):
        deck = Deck("battery", ("Vin in 0 3", "Rin in out 2", "Vout out 0 0"), probes=("i(vout)",))
        np.testing.assert_allclose(any_engine.run(deck, np.zeros((2, 0))).values, [[1.5], [1.5]], rtol=1e-12)

    def test_the_temperature_reaches_the_circuit(self, any_engine: Engine):
        deck = Deck("thermometer", ("Bin in 0 v=temper", "Rin in 0 1"), probes=("v(in)",), temperature=310.0)
        assert any_engine.run(deck, np.zeros((1, 0))).values[0, 0] == pytest.approx(36.85, rel=1e-9)

    def test_decks_in_turn_do_not_mix(self, any_engine: Engine):
        other = replace(LADDER, elements=tuple(line.replace("600", "1200") for line in LADDER.elements))
        values = np.array([[0.0, 1.0]])
        expected = {LADDER: ladder_middle(values)[0] / 600, other: 0.01 / (1 / 100 + 1 / 300 + 1 / 1200) / 1200}
        for deck in (LADDER, other, LADDER, other):
            assert any_engine.run(deck, values).column("i(vout)")[0] == pytest.approx(expected[deck], rel=1e-11)

    @pytest.mark.parametrize("values", [np.zeros((1, 1)), np.zeros(2), np.zeros((0, 2)), np.full((1, 2), np.nan)])
    def test_values_that_do_not_fit_are_refused(self, any_engine: Engine, values: np.ndarray):
        with pytest.raises(InputError):
            any_engine.run(LADDER, values)

    def test_a_deck_without_probes_is_refused(self, any_engine: Engine):
        with pytest.raises(SpiceError, match="probes"):
            any_engine.run(replace(LADDER, probes=(), balance=()), np.zeros((1, 2)))

    def test_a_probe_that_was_not_read_is_refused(self, any_engine: Engine):
        with pytest.raises(InputError, match=r"v\(a\)"):
            any_engine.run(LADDER, np.ones((1, 2))).column("v(a)")

    def test_after_a_failure_the_next_deck_is_right(self, any_engine: Engine):
        values = np.array([[0.5, 1.0], [1.0, -1.0]])
        floating = replace(LADDER, elements=(*LADDER.elements, "Rfloat x y 1"))
        leaking = replace(LADDER, elements=(*LADDER.elements, "Rleak middle 0 1e6"))
        for bad, error in ((floating, SpiceNoConvergence), (leaking, KirchhoffError)):
            with pytest.raises(error, match="ladder"):
                any_engine.run(bad, values)
            np.testing.assert_allclose(
                any_engine.run(LADDER, values).column("v(middle)"), ladder_middle(values), rtol=1e-11
            )

    def test_it_says_what_it_is(self, any_engine: Engine):
        info = any_engine.info()
        assert info.version
        assert info.solver in ("klu", "sparse")
        assert info.library

    def test_it_works_again_after_closing(self, any_engine: Engine):
        any_engine.close()
        any_engine.close()
        assert any_engine.run(LADDER, np.ones((1, 2))).values.shape == (1, 2)
