"""Faults against a circuit solver of its own, which leaves the broken wires out and puts the bridges in."""

import numpy as np
import pytest
import torch
from network import column_currents

from mdls_cosim.characterize.circuits import solve
from mdls_cosim.characterize.faults import FAULT_KINDS, FaultsPlan, FaultsPoint
from mdls_cosim.devices import Sinh, ThresholdSelector
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.tiles import LineFaults, SelectorCell, TileSpec, tile_deck

pytestmark = pytest.mark.ngspice

WIRES = {"row_line": 25.0, "column_line": 60.0, "driver": 150.0, "sense": 90.0}
NAMES = {"row_line": "row_line_resistance", "column_line": "column_line_resistance", "driver": "driver_resistance"}
NAMES |= {"sense": "sense_resistance"}
ZEROS = [(), ("row_line",), ("column_line",), ("row_line", "driver"), ("column_line", "sense"), tuple(WIRES)]


def check(engine, shape, faults: LineFaults, zero=(), drive="single", nonlinearity=None) -> None:
    generator = np.random.default_rng([*shape, len(zero)])
    conductances = np.exp(generator.uniform(np.log(1e-5), np.log(1e-3), shape))
    voltages = generator.uniform(-0.3, 0.3, (2, shape[0]))
    wires = {name: 0.0 if name in zero else value for name, value in WIRES.items()}
    more = {} if nonlinearity is None else {"cell": Sinh(nonlinearity=nonlinearity)}
    spec = TileSpec(
        rows=shape[0], cols=shape[1], drive=drive, **{NAMES[name]: ohm for name, ohm in wires.items()}, **more
    )
    cell = None
    if nonlinearity is not None:

        def cell(network, g, i, j, u, v):
            network.two_terminal(u, v, lambda x: g * np.sinh(nonlinearity * x) / nonlinearity)

    expected = column_currents(
        conductances,
        voltages,
        cell,
        **wires,
        double=drive == "double",
        open_rows=faults.open_rows,
        open_columns=faults.open_columns,
        shorted_rows=faults.shorted_rows,
        shorted_columns=faults.shorted_columns,
        short=faults.short_resistance,
    )
    found = FaultsPoint("", spec, conductances, voltages, faults).solve(engine)["currents"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


CASES = {
    "row at its driver": LineFaults(open_rows=((1, 0),)),
    "row in the middle": LineFaults(open_rows=((0, 2),)),
    "row at the last cell": LineFaults(open_rows=((2, 3),)),
    "row twice": LineFaults(open_rows=((1, 3), (1, 1))),
    "row at its driver and beyond": LineFaults(open_rows=((1, 0), (1, 2))),
    "column below its first cell": LineFaults(open_columns=((0, 1),)),
    "column at the last cell": LineFaults(open_columns=((3, 2),)),
    "column at its sense side": LineFaults(open_columns=((2, 3),)),
    "column twice": LineFaults(open_columns=((2, 3), (2, 1))),
    "rows bridged": LineFaults(shorted_rows=((0, 3),), short_resistance=7.0),
    "columns bridged": LineFaults(shorted_columns=((1, 0),), short_resistance=7.0),
    "all at once": LineFaults(((0, 1),), ((1, 2),), ((1, 2),), ((2, 1),), short_resistance=3.0),
}


@pytest.mark.parametrize("zero", ZEROS, ids=lambda names: "+".join(names) or "wires")
@pytest.mark.parametrize("name", CASES)
def test_broken_and_bridged_lines(name, zero, engine):
    check(engine, (3, 4), CASES[name], zero)


@pytest.mark.parametrize("name", ["row at its driver", "column at the last cell", "all at once"])
def test_with_cells_that_are_not_ohmic(name, engine):
    check(engine, (3, 4), CASES[name], nonlinearity=5.0)


@pytest.mark.parametrize(
    "faults",
    [
        LineFaults(open_rows=((0, 0),)),
        LineFaults(open_rows=((0, 4),)),
        LineFaults(open_rows=((0, 2),)),
        LineFaults(open_rows=((0, 0), (0, 4))),
        LineFaults(open_rows=((2, 1),), shorted_rows=((1, 3),)),
    ],
    ids=["near end", "far end", "middle", "both ends", "and a bridge"],
)
@pytest.mark.parametrize("zero", [(), ("driver",), ("row_line",)], ids=lambda names: "+".join(names) or "wires")
def test_rows_driven_at_both_ends(faults, zero, engine):
    check(engine, (3, 4), faults, zero, drive="double")


def test_a_break_beside_an_ideal_driver_at_either_end_does_nothing(engine):
    check(engine, (2, 2), LineFaults(open_rows=((0, 1),)), ("driver",), drive="double")


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)], ids=str)
def test_single_lines(shape, engine):
    check(engine, shape, LineFaults(open_rows=((0, 0),)))
    if shape[0] > 1:
        check(engine, shape, LineFaults(open_columns=((0, 2),), shorted_rows=((1, 0),)))


def test_a_dead_row_does_what_an_absent_row_does_without_wires(engine):
    """Ideal columns at 0 V: no current finds a way through the floating row."""
    spec = TileSpec(rows=3, cols=2)
    conductances = np.array([[1e-5, 2e-5], [3e-5, 4e-5], [5e-5, 6e-5]])
    found = solve(engine, spec, conductances, [[0.3, 0.2, 0.1]], faults=LineFaults(open_rows=((1, 0),)))
    np.testing.assert_allclose(found.measured([0, 1])[0], [8e-6, 12e-6], rtol=1e-10)


@pytest.mark.parametrize("ideal", [True, False])
def test_threshold_selectors_on_a_broken_column_stay_off(ideal, engine):
    """Two cells on ideal wires, their column cut from the sense side below row 0: row 0's cell meets an open end.

    Its selector has nowhere to carry current but into the other column's cells; at 0 V across it stays off.
    """
    selector = ThresholdSelector(off_resistance=1e8, on_resistance=1e3)
    line = 0.0 if ideal else 1.0
    spec = TileSpec(rows=2, cols=1, cell=SelectorCell(selector=selector), column_line_resistance=line)
    faults = LineFaults(open_columns=((0, 1),))
    solution = solve(engine, spec, [[1e-4], [1e-4]], [[1.5, 0.0]], faults=faults)
    assert solution.on.tolist() == [[[False], [False]]]
    assert abs(solution.measured([0])[0, 0]) < 1e-9


# --- the plan ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> FaultsPlan:
    return FaultsPlan(tiles=2, vectors=1, cells=0.2, lines=2, short_resistance=5.0)


TILE = TileSpec(rows=4, cols=5, **{NAMES[name]: ohm for name, ohm in WIRES.items()})
SPAN = (1e-5, 1e-3)


@pytest.fixture(scope="module")
def found(plan, measure) -> dict[str, np.ndarray]:
    return measure(plan, TILE, SPAN, 3)


def test_stuck_cells_are_those_of_the_nodal_solve(found):
    for kind, level in (("stuck_on", SPAN[1]), ("stuck_off", SPAN[0])):
        index = FAULT_KINDS.index(kind)
        healthy = found["conductances"][FAULT_KINDS.index("open_rows")]
        stuck = found["conductances"][index] == level
        assert stuck.sum(axis=(1, 2)).tolist() == [4, 4]
        np.testing.assert_array_equal(found["conductances"][index][~stuck], healthy[~stuck])
        for tile in range(2):
            nodal = NodalTile(TILE).program(torch.as_tensor(found["conductances"][index, tile]))
            expected = nodal(torch.as_tensor(found["voltages"][tile])).numpy()
            np.testing.assert_allclose(found["currents"][index, tile], expected, atol=1e-9 * np.abs(expected).max())


def test_healthy_tiles_are_those_of_the_nodal_solve(found):
    healthy = found["conductances"][FAULT_KINDS.index("open_rows")]
    expected = NodalTile(TILE).program(torch.as_tensor(healthy))(torch.as_tensor(found["voltages"])).numpy()
    np.testing.assert_allclose(found["healthy_currents"], expected, atol=1e-9 * np.abs(expected).max())


def test_errors_are_rms_changes_over_the_rms_of_the_healthy_tile(found):
    healthy, faulty = found["healthy_currents"], found["currents"]
    for kind, tile, col in np.ndindex(len(FAULT_KINDS), 2, 5):
        rms = np.sqrt(np.mean(np.square(faulty[kind, tile, :, col] - healthy[tile, :, col])))
        assert found["error"][kind, tile, col] == pytest.approx(
            rms / np.sqrt(np.mean(healthy[tile] ** 2)), rel=1e-12, abs=0
        )
    # Every kind of fault is seen somewhere.
    assert np.all(found["error"].max(axis=(1, 2)) > 1e-4)


def test_leaving_a_kind_out_changes_no_other(found, plan, measure):
    fewer = measure(plan.replace(kinds=("shorted_rows", "stuck_on")), TILE, SPAN, 3)
    assert fewer["kind"].tolist() == [FAULT_KINDS.index("shorted_rows"), FAULT_KINDS.index("stuck_on")]
    for place, kind in enumerate(("shorted_rows", "stuck_on")):
        np.testing.assert_array_equal(fewer["currents"][place], found["currents"][FAULT_KINDS.index(kind)])


def test_an_open_column_loses_current_and_bridged_columns_share_theirs(measure):
    """Signs and sums: without wires a bridge moves nothing out of the tile, a break only takes."""
    plan = FaultsPlan(tiles=3, vectors=2, lines=1, kinds=("open_columns", "shorted_columns"), input_classes=("dense",))
    tile = TileSpec(rows=4, cols=3, sense_resistance=100.0)
    found = measure(plan, tile, (1e-5, 1e-4))
    healthy, (opened, bridged) = found["healthy_currents"], found["currents"]
    assert np.all((opened - healthy).sum(axis=2) < 0)
    np.testing.assert_allclose(bridged.sum(axis=2), healthy.sum(axis=2), rtol=2e-2)
    pairs = [np.abs(np.diff(columns)).min(axis=-1).max() for columns in (bridged, healthy)]
    assert pairs[0] < pairs[1]


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)], ids=str)
def test_a_bridge_between_lines_that_a_tile_does_not_have_is_refused(shape):
    """One row has no neighbour; a fault that cannot be put in must not be reported as one that does no harm."""
    kind = "shorted_rows" if shape[0] == 1 else "shorted_columns"
    plan = FaultsPlan(tiles=1, vectors=1, kinds=(kind,))
    with pytest.raises(InputError):
        plan.make_points(TileSpec(rows=shape[0], cols=shape[1]), SPAN, 0)


@pytest.mark.parametrize("kinds", [("open_rows",), ("open_columns",)])
def test_more_faults_than_lines_are_refused(kinds):
    with pytest.raises(InputError):
        FaultsPlan(tiles=1, vectors=1, kinds=kinds, lines=5).make_points(TileSpec(rows=2, cols=2), SPAN, 0)


def test_the_deck_of_a_fault_has_the_wires_that_are_left():
    """By name: breaking a line takes one resistor out, bridging puts one in."""
    whole = {line.split()[0] for line in tile_deck(TILE, np.full((4, 5), 1e-5)).elements}
    for kind, place, change in (
        ("open_rows", (2, 3), {"Rrow2_2"}),
        ("open_columns", (4, 1), {"Rcol4_0"}),
        ("shorted_rows", (1, 4), {"Rbridgerow1_4"}),
        ("shorted_columns", (3, 0), {"Rbridgecol3_0"}),
    ):
        faults = LineFaults(**{kind: (place,)})
        faulty = {line.split()[0] for line in tile_deck(TILE, np.full((4, 5), 1e-5), faults=faults).elements}
        assert whole ^ faulty == change
