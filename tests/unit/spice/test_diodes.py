"""Sinh cells as pairs of diodes: the same currents as the B sources, and nowhere used where they would not be."""

from dataclasses import replace

import numpy as np
import pytest

from mdls_cosim.devices import Ohmic, Sinh, Vteam
from mdls_cosim.spice import Deck, NgspiceEngine, strategy
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell, tile_deck

VOLT_PER_KELVIN = 1.380649e-23 / 1.602176634e-19


def text(deck: Deck, values: np.ndarray) -> str:
    (job,) = strategy.jobs(deck, values, "sweep", True, 1, volt_per_kelvin=VOLT_PER_KELVIN)
    return job.header["circuit"].lower()


def has_diodes(deck: Deck, values: np.ndarray) -> bool:
    return "\nd" in text(deck, values)


def tile(draw_tile, nonlinearity: float = 3.0, **changes) -> Deck:
    spec = TileSpec(rows=4, cols=5, cell=Sinh(nonlinearity=nonlinearity), **{"row_line_resistance": 2.0, **changes})
    return tile_deck(spec, draw_tile((4, 5), 3))


@pytest.mark.parametrize(
    ("nonlinearity", "voltages", "expected"),
    [
        (3.0, [[0.1, 0.2, 0.3, 0.9], [0, 0, 0, 0.95]], True),
        (3.0, [[0.1, 0.2, 0.3, 0.9], [0, 0, 0, 1.01]], False),
        (3.0, [[0.5, -0.4, 0, 0], [0.4, 0.3, 0, 0]], True),
        (3.0, [[0.5, -0.6, 0, 0], [0.4, 0.3, 0, 0]], False),  # 1.1 V apart
        (3.0, [[0.5, 0.1, 0, 0], [0.4, -0.6, 0, 0]], False),  # in different vectors: one circuit serves both
        (10.0, [[0.1, -0.15, 0.1, 0.1], [0, 0, 0, 0.1]], True),
        (10.0, [[0.1, 0.2, 0.1, -0.15], [0, 0, 0, 0.1]], False),
        (3.0, [[1.2, 1.2, 0.1, 0.1], [1.2, 1.2, 0.2, 0.1]], False),  # sources that do not change count too
    ],
)
def test_used_where_no_cell_can_leave_the_exponential(nonlinearity, voltages, expected, draw_tile):
    assert has_diodes(tile(draw_tile, nonlinearity), np.array(voltages)) == expected


def test_not_used_where_something_else_may_raise_a_voltage(draw_tile):
    values = np.array([[0.1, 0.2, 0.3, 0.1], [0.1, 0.1, 0, 0.2]])
    deck = tile(draw_tile)
    assert has_diodes(deck, values)
    for extra in ("Ipump 0 row0_col1 1e-3", "Vlift row0_col1 row1_col1 2", "Epump row0_col1 0 row1_col1 0 5"):
        assert not has_diodes(replace(deck, elements=(*deck.elements, extra), balance=()), values), extra
    lifted = replace(deck, elements=(*deck.elements, "Vlift extra 0 5", "Rlift extra row0_col1 1"), balance=())
    assert not has_diodes(lifted, values)
    for cell in (SelectorCell(device=Sinh()), TransistorCell(device=Sinh()), Vteam(), Ohmic()):
        spec = TileSpec(rows=4, cols=5, cell=cell)
        assert not has_diodes(tile_deck(spec, np.full((4, 5), 1e-4)), values), cell


def test_an_exported_deck_keeps_its_subcircuits(draw_tile):
    deck = tile(draw_tile)
    assert "Xcell0_0" in deck.standalone(np.full((2, 4), 0.1))
    assert "\nD" not in deck.standalone(np.full((2, 4), 0.1))


@pytest.mark.ngspice
@pytest.mark.parametrize("temperature", [250.0, 300.0, 400.0])
@pytest.mark.parametrize(("nonlinearity", "amplitude"), [(3.0, 0.3), (3.0, 0.499), (10.0, 0.149), (0.01, 5.0)])
@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1e-1])
def test_the_currents_are_those_of_the_b_sources(
    engine: NgspiceEngine, draw_tile, draw_voltages, nonlinearity, amplitude, temperature, scale
):
    """Signed inputs up to the limit of use, a tenth of the cells open, conductances over eight decades."""
    resistance = 1e-4 / scale
    spec = TileSpec(
        rows=6,
        cols=7,
        cell=Sinh(nonlinearity=nonlinearity),
        row_line_resistance=resistance,
        column_line_resistance=2 * resistance,
        driver_resistance=10 * resistance,
        sense_resistance=5 * resistance,
        temperature=temperature,
    )
    deck = tile_deck(spec, draw_tile((6, 7), 5, low=scale / 100, high=scale))
    values = draw_voltages((9, 6), 5, amplitude)
    assert has_diodes(deck, values)
    as_diodes = engine.run(deck, values).values
    as_sources = engine.run(deck, values, strategy_name="alter").values
    np.testing.assert_allclose(as_diodes, as_sources, rtol=0, atol=1e-9 * np.abs(as_sources).max())


@pytest.mark.ngspice
def test_open_cells_carry_nothing(engine: NgspiceEngine):
    """gmin across a diode would: 1e-15 S of ngspice's usual settings here."""
    spec = TileSpec(rows=2, cols=3, cell=Sinh(nonlinearity=3.0), row_line_resistance=1.0)
    conductances = np.zeros((2, 3))
    conductances[1, 1] = 1e-6
    found = engine.run(tile_deck(spec, conductances), np.array([[0.3, 0.2], [0.3, 0.0]])).values
    np.testing.assert_allclose(found[0], [0, 1e-6 * np.sinh(0.6) / 3, 0], rtol=1e-5, atol=1e-22)
    np.testing.assert_allclose(found[1], 0, atol=1e-22)
