"""Tiles whose lines have resistances of their own, some of them none: every rung against an independent solver."""

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.characterize.energy import EnergyPoint
from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.errors import ConfigError, NotAvailable
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.fidelity.elimination import Wires, factorise
from mdls_cosim.provenance import canonical_json
from mdls_cosim.surrogates import LinearSurrogate, fit, load
from mdls_cosim.surrogates.series import START, SeriesSurrogate
from mdls_cosim.tiles import RESISTANCES, Ends, TileSpec, TransimpedanceAmplifier, tile_deck

EACH = {
    "row_line_resistance": (20.0, 0.0, 300.0),
    "column_line_resistance": (0.0, 5.0, 400.0, 60.0, 1.0),
    "driver_resistance": (0.0, 50.0, 900.0),
    "sense_resistance": (500.0, 0.0, 80.0, 7.0, 1000.0),
}
CASES = {
    "all": EACH,
    **{name: {**dict.fromkeys(RESISTANCES, 30.0), name: values} for name, values in EACH.items()},
}
SPECS = pytest.mark.parametrize("each", CASES.values(), ids=CASES)


def spec(each=EACH, **changes) -> TileSpec:
    return TileSpec(**{"rows": 3, "cols": 5, **each, **changes})


def drawn(draw_tile, draw_voltages):
    return draw_tile((3, 5), 1, high=1e-3), draw_voltages((4, 3), 1)


@SPECS
@pytest.mark.parametrize("drive", ["single", "double"])
def test_ohmic_tiles_are_exact(each, drive, draw_tile, draw_voltages):
    tile, (conductances, voltages) = spec(each, drive=drive), drawn(draw_tile, draw_voltages)
    expected = Tile.of(tile).solve(conductances, voltages)
    programmed = NodalTile(tile).program(torch.as_tensor(conductances))
    given = torch.as_tensor(voltages)
    np.testing.assert_allclose(programmed(given), expected.currents, rtol=1e-11, atol=1e-20)
    power = (expected.driver_currents * voltages).sum(-1)
    np.testing.assert_allclose(programmed.power(given), power, rtol=1e-11)
    if drive == "single":
        np.testing.assert_allclose(programmed.cell_voltages(given), expected.cell_voltages, rtol=1e-10, atol=1e-15)
    turned = torch.as_tensor(np.random.default_rng(2).uniform(-0.3, 0.3, (2, 5)))
    np.testing.assert_allclose(
        programmed.transposed_currents(turned), turned @ programmed.effective_conductances.mT, rtol=1e-12
    )


@pytest.mark.parametrize("shape", [(17, 9), (9, 17), (20, 23)], ids=str)
@pytest.mark.parametrize("drive", ["single", "double"])
def test_larger_tiles(shape, drive, draw_tile):
    rows, cols = shape
    generator = np.random.default_rng(3)
    counts = (rows, cols, rows, cols)
    each = {
        name: tuple(np.where(generator.random(count) < 0.2, 0.0, np.exp(generator.uniform(-2, 5, count))).tolist())
        for name, count in zip(RESISTANCES, counts, strict=True)
    }
    tile, conductances = spec(each, rows=rows, cols=cols, drive=drive), draw_tile(shape, 3)
    found = NodalTile(tile).program(torch.as_tensor(conductances)).effective_conductances
    expected = Tile.of(tile).effective_conductances(conductances)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-24)


def turned_over(tile: TileSpec):
    yield from (tile.column_line_resistance, tile.row_line_resistance, tile.sense_resistance, tile.driver_resistance)


@SPECS
def test_currents_injected_at_the_cells(each, draw_tile):
    """By reciprocity: what a source beside a cell sends to an output is the cell's voltage under one volt there."""
    tile, conductances = spec(each), draw_tile((3, 5), 1, high=1e-3)
    sources = torch.eye(15, dtype=torch.float64).reshape(5, 3, 15)
    still = torch.zeros(3, 15, dtype=torch.float64)
    across, sensed = factorise(torch.as_tensor(conductances), Wires.of(tile)).solve(still, sources)
    # Seen from the sense side both kinds of line count from their other end.
    turned = Tile(5, 3, *(each[::-1] if isinstance(each, tuple) else each for each in turned_over(tile)))
    voltages = turned.solve(conductances[::-1, ::-1].T.copy(), np.eye(5)).cell_voltages
    expected = voltages[::-1, ::-1, ::-1].reshape(5, 15)  # (output, column and row of the source)
    np.testing.assert_allclose(sensed, expected, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(across.flatten(0, 1), across.flatten(0, 1).mT, rtol=1e-9, atol=1e-12)


def test_equal_values_are_the_one_for_all(draw_tile, draw_voltages):
    conductances, voltages = (torch.as_tensor(each) for each in drawn(draw_tile, draw_voltages))
    one = spec(dict.fromkeys(RESISTANCES, 30.0))
    same = spec({name: (30.0,) * len(values) for name, values in EACH.items()})
    for tile in (one, same):
        assert tile.equal_lines is (tile is one)
    assert tile_deck(one, conductances.numpy()) == tile_deck(same, conductances.numpy())
    first, second = (NodalTile(tile).program(conductances) for tile in (one, same))
    torch.testing.assert_close(first(voltages), second(voltages), rtol=1e-12, atol=0)
    torch.testing.assert_close(first.cell_voltages(voltages), second.cell_voltages(voltages), rtol=1e-12, atol=1e-15)


@pytest.mark.ngspice
@SPECS
@pytest.mark.parametrize("drive", ["single", "double"])
@pytest.mark.parametrize("nonlinearity", [None, 3.0], ids=["ohmic", "sinh"])
def test_ngspice_has_the_same_circuit(each, drive, nonlinearity, engine, draw_tile, draw_voltages):
    cell = Ohmic() if nonlinearity is None else Sinh(nonlinearity=nonlinearity)
    tile, (conductances, voltages) = spec(each, drive=drive, cell=cell), drawn(draw_tile, draw_voltages)
    found = SpiceTile(tile, engine).program(torch.as_tensor(conductances))(torch.as_tensor(voltages))
    expected = Tile.of(tile).solve(conductances, voltages).currents
    # ngspice's tolerances for non-linear elements are looser.
    tolerance = 1e-9 if nonlinearity is None else 1e-7
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.ngspice
@pytest.mark.parametrize("drive", ["single", "double"])
def test_temperature_and_amplifier_reach_every_line(drive, engine, draw_tile, draw_voltages):
    amplifier = TransimpedanceAmplifier(feedback_resistance=5e3, gain=200.0)
    tile = spec(drive=drive, amplifier=amplifier, temperature=380.0, wire_temperature_coefficient=0.004)
    conductances, voltages = (torch.as_tensor(each) for each in drawn(draw_tile, draw_voltages))
    spice = SpiceTile(tile, engine).program(conductances)(voltages)
    nodal = NodalTile(tile).program(conductances)(voltages)
    torch.testing.assert_close(spice, nodal, rtol=0, atol=2e-6 * float(nodal.abs().max()))


@pytest.mark.ngspice
@pytest.mark.parametrize("drive", ["single", "double"])
def test_the_energy_of_a_read_is_accounted_for(drive, engine, draw_tile, draw_voltages):
    tile = spec(drive=drive, row_line_capacitance=1e-15, column_line_capacitance=1e-15)
    conductances, voltages = drawn(draw_tile, draw_voltages)
    point = EnergyPoint("", tile, conductances, voltages[0], ends=Ends.of_read(tile), selected_row=None, width=10e-9)
    found = point.solve(engine)
    assert abs(float(found["residual"])) < 1e-4
    # At rest for most of the pulse: the parts are in proportion to the powers of an independent solution.
    at_rest = Tile.of(tile).solve(conductances, voltages[:1])
    share = float(at_rest.cell_power[0] / (at_rest.cell_power[0] + at_rest.wire_power[0]))
    drivers, wires, cells, sense = found["parts"]
    assert cells / (drivers + wires + cells + sense) == pytest.approx(share, rel=1e-3)
    assert drivers > 0
    assert wires > 0


@SPECS
@pytest.mark.parametrize("nonlinearity", [3.0, 15.0])
def test_other_cells_are_exact_too(each, nonlinearity, draw_tile, draw_voltages):
    tile = spec(each, cell=Sinh(nonlinearity=nonlinearity))
    conductances, voltages = draw_tile((2, 3, 5), 1, high=1e-3), draw_voltages((2, 4, 3), 1)
    programmed = NodalTile(tile).program(torch.as_tensor(conductances))
    for index in range(2):
        expected = Tile.of(tile).solve(conductances[index], voltages[index])
        given = torch.as_tensor(voltages)
        scale = np.abs(expected.currents).max()
        np.testing.assert_allclose(programmed(given)[index], expected.currents, rtol=0, atol=1e-8 * scale)
        np.testing.assert_allclose(programmed.cell_voltages(given)[index], expected.cell_voltages, rtol=0, atol=1e-8)
        power = (expected.driver_currents * voltages[index]).sum(-1)
        np.testing.assert_allclose(programmed.power(given)[index], power, rtol=1e-8)
    assert programmed(torch.zeros(0, 3, dtype=torch.float64)).shape == (2, 0, 5)


def test_their_gradients(draw_tile, draw_voltages):
    tile = NodalTile(spec(cell=Sinh(nonlinearity=8.0)), tolerance=1e-13)
    conductances = torch.as_tensor(draw_tile((3, 5), 1, high=1e-3, open_share=0.0)).requires_grad_()
    voltages = torch.as_tensor(draw_voltages((2, 3), 1)).requires_grad_()

    def milliamperes(conductances, voltages):
        return 1e3 * tile.program(1e-3 * conductances)(voltages)

    given = ((1e3 * conductances).detach().requires_grad_(), voltages)
    assert torch.autograd.gradcheck(milliamperes, given, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_surrogates_of_lines_that_differ(tmp_path, draw_tile, draw_voltages):
    conductances, voltages = drawn(draw_tile, draw_voltages)
    LinearSurrogate.exact(spec()).save(tmp_path / "exact.h5")
    read = load(tmp_path / "exact.h5")
    assert read.spec == spec()
    found = read.program(torch.as_tensor(conductances))(torch.as_tensor(voltages))
    np.testing.assert_allclose(found, Tile.of(spec()).solve(conductances, voltages).currents, rtol=1e-11, atol=1e-20)


def test_series_of_cells_on_lines_that_differ(draw_tile, draw_voltages):
    tile = spec(cell=Sinh(nonlinearity=2.0))
    conductances, voltages = draw_tile((3, 5), 2), draw_voltages((4, 3), 2)
    surrogate = SeriesSurrogate(tile, coefficients={**START, "amplitude": (0.3,)})
    found = surrogate.program(torch.as_tensor(conductances))(torch.as_tensor(voltages))
    expected = Tile.of(tile).solve(conductances, voltages).currents
    linear = Tile.of(tile.replace(cell=Ohmic())).solve(conductances, voltages).currents
    scale = np.sqrt(np.mean(expected**2))
    missed, excess = (np.sqrt(np.mean((each - expected) ** 2)) / scale for each in (found.numpy(), linear))
    assert missed < 1e-3 < 0.02 < excess


# --- what is said, and refused ----------------------------------------------------------------------------------

TOML = """
rows = 3
cols = 5
row_line_resistance = ["20 ohm", "0 ohm", "0.3 kohm"]
"""


def test_a_file_gives_a_list_with_units(tmp_path):
    path = tmp_path / "tile.toml"
    path.write_text(TOML)
    found = TileSpec.load_toml(path)
    assert found == TileSpec(rows=3, cols=5, row_line_resistance=(20.0, 0.0, 300.0))
    assert TileSpec(**found.as_dict()) == found
    assert hash(TileSpec(**found.as_dict())) == hash(found)
    assert '"row_line_resistance":[20.0,0.0,300.0]' in canonical_json(found)
    assert '"row_line_resistance":20.0' in canonical_json(found.replace(row_line_resistance="20 ohm"))
    path.write_text(TOML.replace('"0 ohm"', "0"))
    with pytest.raises(ConfigError, match=r"without its unit at .*row_line_resistance"):
        TileSpec.load_toml(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"row_line_resistance": (1.0, 2.0)}, "row_line_resistance: got 2, allowed one value for all, or 3"),
        ({"driver_resistance": ()}, "driver_resistance: got 0, allowed"),
        ({"sense_resistance": (1.0,) * 3}, "sense_resistance: got 3, allowed one value for all, or 5"),
        ({"sense_resistance": (1.0, 1.0, 1.0, 1.0, -1.0)}, "sense_resistance: got -1"),
        ({"column_line_resistance": (1.0, 1.0, 1.0, 1.0, float("nan"))}, "column_line_resistance: got nan"),
        ({"column_line_resistance": ("1 ohm", "1 V", 1.0, 1.0, 1.0)}, 'column_line_resistance: got "1 V"'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_resistance_of_each_line(changes, said):
    with pytest.raises(ConfigError) as raised:
        spec(dict.fromkeys(RESISTANCES, 30.0), **changes)
    assert said in str(raised.value)


def test_another_size_needs_other_lines():
    with pytest.raises(ConfigError, match="One value for all lines fits tiles of any size"):
        LinearSurrogate.exact(spec()).for_tile(rows=2)
    assert spec().bare(2, 2) == TileSpec(rows=2, cols=2)


def test_driven_columns_have_no_driver_of_their_own():
    ends = Ends(("drive",) * 3, ("sense", "drive", "sense", "sense", "sense"))
    with pytest.raises(NotAvailable, match="columns are driven"):
        tile_deck(spec(), np.full((3, 5), 1e-5), ends=ends)
    assert "Vcol1" in tile_deck(spec(driver_resistance=20.0), np.full((3, 5), 1e-5), ends=ends).sources


def test_what_is_left_to_ngspice():
    double, conductances = spec(drive="double"), torch.full((3, 5), 1e-5, dtype=torch.float64)
    with pytest.raises(NotAvailable, match="driven at both ends"):
        NodalTile(double).program(conductances).cell_voltages(torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(NotAvailable, match="driven at both ends"):
        NodalTile(double.replace(cell=Sinh())).program(conductances)


def test_no_fit_finds_them(nodal_dataset):
    dataset = nodal_dataset(spec(), tiles=3, vectors=2)
    with pytest.raises(NotAvailable, match="lines that differ"):
        fit(dataset)
