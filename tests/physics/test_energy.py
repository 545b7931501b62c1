"""Energy: C V^2, V^2 G t with its edges, hand-worked parts, charge that comes back, and a balance that closes."""

from typing import Any

import numpy as np
import pytest
from network import Network, crossbar
from scipy.integrate import quad, solve_ivp

from mdls_cosim.characterize.energy import PARTS, EnergyPlan, EnergyPoint, WritePulse, energies
from mdls_cosim.characterize.sneak import SCHEMES, selection
from mdls_cosim.devices import ExponentialSelector, Nmos, Ohmic, Sinh, Vteam
from mdls_cosim.errors import NotAvailable
from mdls_cosim.spice import Waves
from mdls_cosim.tiles import (
    Ends,
    SelectorCell,
    StateDeclaration,
    SubcircuitCell,
    TileSpec,
    TransimpedanceAmplifier,
    TransistorCell,
    tile_deck,
)

pytestmark = pytest.mark.ngspice

WIDTH, EDGE = 10e-9, 1e-9
# A pulse of full voltage for WIDTH and two ramps, over which V^2 averages to a third.
FLAT = WIDTH + 2 * EDGE / 3


def pulse(engine, spec: TileSpec, conductances, voltages, **more) -> dict[str, Any]:
    fields: dict[str, Any] = {"ends": Ends.of_read(spec), "selected_row": None, "width": WIDTH} | more
    given = np.asarray(conductances, dtype=float)
    return EnergyPoint("", spec, given, np.asarray(voltages, dtype=float), **fields).solve(engine)


# --- capacitors -------------------------------------------------------------------------------------------------


def test_charging_and_discharging_at_once_costs_c_v_squared(engine):
    """Half in the driver on the way in, half on the way out; edges of a thousandth of RC."""
    spec = TileSpec(rows=1, cols=2, driver_resistance=1e4, row_line_capacitance=5e-15)
    tau, volts = 1e4 * 2 * 5e-15, 0.4
    deck = tile_deck(spec, np.zeros((1, 2)), transient=True, nodes=True)
    knots = np.array([0.0, tau / 1000, 30 * tau, 30 * tau + tau / 1000, 60 * tau])
    waves = Waves(knots, volts * np.array([[0.0], [1.0], [1.0], [0.0], [0.0]]), longest_step=tau / 10)
    found = energies(spec, Ends.of_read(spec), waves, engine.transient(deck, waves), np.zeros((1, 2)))
    assert found["energy"] == pytest.approx(2 * 5e-15 * volts**2, rel=2e-3, abs=0)
    assert found["parts"][PARTS.index("drivers")] == pytest.approx(2 * 5e-15 * volts**2, rel=2e-3, abs=0)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_edges_that_take_longer_cost_less(share, engine):
    """A ramp of duration T into RC: C V^2 (RC/T) (1 - (RC/T)(1 - exp(-T/RC))), up and down alike."""
    tau = share * EDGE
    spec = TileSpec(rows=1, cols=1, driver_resistance=1e5, row_line_capacitance=tau / 1e5)
    found = pulse(engine, spec, [[0.0]], [0.3])
    expected = 2 * tau / 1e5 * 0.3**2 * share * (1 - share * (1 - np.exp(-1 / share)))
    assert found["energy"] == pytest.approx(expected, rel=1e-3, abs=0)
    np.testing.assert_allclose(found["parts"], [float(found["energy"]), 0, 0, 0], rtol=1e-4)


# --- resistances ------------------------------------------------------------------------------------------------


def test_one_cell_between_a_driver_and_a_sense_resistance(engine):
    spec = TileSpec(rows=1, cols=1, driver_resistance=1e3, sense_resistance=2e3)
    found = pulse(engine, spec, [[1e-4]], [-0.3])
    total = 0.3**2 / 13e3 * FLAT
    assert found["energy"] == pytest.approx(total, rel=1e-4, abs=0)
    np.testing.assert_allclose(found["parts"], total * np.array([1, 0, 10, 2]) / 13, rtol=1e-4, atol=1e-30)
    assert found["selected"] == pytest.approx(total * 10 / 13, rel=1e-4, abs=0)
    assert abs(found["residual"]) <= 1e-6


def test_two_rows_and_columns_by_hand(engine):
    """Ideal ends: each row is V G of its cells; the wires carry what lies beyond them."""
    spec = TileSpec(rows=2, cols=2)
    found = pulse(engine, spec, [[1e-5, 2e-5], [3e-5, 4e-5]], [0.3, 0.2])
    expected = (0.3**2 * 3e-5 + 0.2**2 * 7e-5) * FLAT
    np.testing.assert_allclose(found["parts"], [0, 0, expected, 0], rtol=1e-4)
    assert found["selected"] == pytest.approx(0.3**2 * 2e-5 * FLAT, rel=1e-4, abs=0)
    assert abs(found["residual"]) <= 1e-6


RESISTIVE = {"row_line": 300.0, "column_line": 200.0, "driver": 1e3, "sense": 500.0}
NAMES = {"row_line": "row_line_resistance", "column_line": "column_line_resistance", "driver": "driver_resistance"}
NAMES |= {"sense": "sense_resistance"}
RESISTANCES = {NAMES[name]: ohm for name, ohm in RESISTIVE.items()}


def powers(rows, cols, conductances, held, factor=1.0, **how) -> tuple[np.ndarray, float]:
    """Watts of PARTS and of the farthest cell at rest, by a circuit solver of its own."""
    network = Network()
    for node, volts in held.items():
        network.hold(node, volts)
    wires = RESISTIVE | {name: RESISTIVE[name] * factor for name in ("row_line", "column_line")}
    cells = {}

    def cell(i, j, u, v):
        cells[i, j] = (u, v)
        network.conductor(u, v, conductances[i, j])

    crossbar(network, rows, cols, cell, **wires, **how)
    solved = network.solve()
    found = dict.fromkeys(PARTS, 0.0)
    for one, other, ohm in network.resistors:
        kind = "wires"
        if one[0] in ("row", "col"):
            sensed = one[0] == "col" and (how.get("column_ends") or ["sense"] * cols)[one[1]] == "sense"
            kind = "sense" if sensed else "drivers"
        found[kind] += (solved.voltage(one) - solved.voltage(other)) ** 2 / ohm
    heat = {
        place: conductances[place] * (solved.voltage(u) - solved.voltage(v)) ** 2 for place, (u, v) in cells.items()
    }
    found["cells"] = sum(heat.values())
    return np.array([found[part] for part in PARTS]), heat[0, cols - 1]


@pytest.mark.parametrize("drive", ["single", "double"])
@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (1, 3)], ids=str)
def test_parts_of_a_read(shape, drive, engine):
    generator = np.random.default_rng([*shape])
    conductances = generator.uniform(1e-5, 5e-4, shape)
    voltages = generator.uniform(-0.3, 0.3, shape[0])
    spec = TileSpec(
        rows=shape[0],
        cols=shape[1],
        **RESISTANCES,
        drive=drive,
        temperature=350.0,
        wire_temperature_coefficient=0.004,
    )
    found = pulse(engine, spec, conductances, voltages)
    held = {("row", i): volts for i, volts in enumerate(voltages)} | {("col", j): 0.0 for j in range(shape[1])}
    watts, farthest = powers(*shape, conductances, held, factor=1.2, double=drive == "double")
    np.testing.assert_allclose(found["parts"], watts * FLAT, rtol=1e-4, atol=1e-22)
    assert found["energy"] == pytest.approx(watts.sum() * FLAT, rel=1e-4, abs=0)
    assert found["selected"] == pytest.approx(farthest * FLAT, rel=1e-4, abs=0)
    assert abs(found["residual"]) <= 1e-6


@pytest.mark.parametrize("drive", ["single", "double"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_parts_of_a_write(scheme, drive, engine):
    conductances = np.random.default_rng(8).uniform(1e-5, 5e-4, (2, 3))
    spec = TileSpec(rows=2, cols=3, **RESISTANCES, drive=drive)
    ends, voltages = selection(spec, 0, 2, scheme, 0.8, sense=False)
    found = pulse(engine, spec, conductances, voltages, ends=ends, selected_row=0)
    nodes = [("row", i) for i, end in enumerate(ends.rows) if end == "drive"]
    nodes += [("col", j) for j, end in enumerate(ends.columns) if end == "drive"]
    held = dict(zip(nodes, voltages.tolist(), strict=True))
    how: dict[str, Any] = {"row_ends": ends.rows, "column_ends": ends.columns, "double": drive == "double"}
    watts, farthest = powers(2, 3, conductances, held, **how)
    np.testing.assert_allclose(found["parts"], watts * FLAT, rtol=1e-4, atol=1e-22)
    assert found["selected"] == pytest.approx(farthest * FLAT, rel=1e-4, abs=0)
    assert abs(found["residual"]) <= 1e-6


# --- everything -------------------------------------------------------------------------------------------------

CAPACITIES = {"row_line_capacitance": 2e-15, "column_line_capacitance": 3e-15, "cell_capacitance": 1e-15}
MOVING = Vteam(
    on_resistance=2e3,
    off_resistance=1e5,
    on_voltage=-0.4,
    off_voltage=0.3,
    on_rate=2e6,
    off_rate=2e6,
    on_exponent=1.0,
    off_exponent=1.0,
)
CELLS = {
    "ohmic": Ohmic(),
    "hot sinh": Sinh(nonlinearity=5.0, activation_energy=1.6e-20),
    "vteam": MOVING,
    "1S1R": SelectorCell(device=Sinh(), selector=ExponentialSelector(saturation_current=1e-7)),
    "1T1R": TransistorCell(transistor=Nmos(threshold_voltage=0.3), device=MOVING),
}


@pytest.mark.parametrize("name", CELLS)
def test_the_balance_closes_with_capacitances(name, engine):
    spec = TileSpec(rows=2, cols=3, cell=CELLS[name], **RESISTANCES, **CAPACITIES, temperature=330.0)
    conductances = np.random.default_rng(9).uniform(2e-5, 3e-4, (2, 3))
    found = pulse(engine, spec, conductances, [0.5, 0.2])
    assert np.all(found["parts"] > 0)
    assert abs(found["residual"]) <= 1e-6
    assert float(found["energy"]) == pytest.approx(found["parts"].sum(), rel=1e-6, abs=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_balance_of_a_write_closes_with_capacitances(scheme, engine):
    """Floating lines charge and discharge through cells alone, so rest takes their time."""
    spec = TileSpec(rows=2, cols=3, **RESISTANCES, **CAPACITIES)
    ends, voltages = selection(spec, 0, 2, scheme, -0.9, sense=False)
    conductances = np.full((2, 3), 1e-6)
    found = pulse(engine, spec, conductances, voltages, ends=ends, selected_row=0)
    assert abs(found["residual"]) <= 1e-6


def test_an_amplifier_takes_what_enters_it(engine):
    amplifier = TransimpedanceAmplifier(feedback_resistance=1e4, gain=19.0, gain_bandwidth=1e12)
    spec = TileSpec(rows=1, cols=1, driver_resistance=1e3, amplifier=amplifier)
    found = pulse(engine, spec, [[1e-4]], [0.3])
    total = 0.3**2 / 11.5e3 * FLAT
    np.testing.assert_allclose(found["parts"], total * np.array([1, 0, 10, 0.5]) / 11.5, rtol=2e-3)


def test_a_cell_whose_state_moves_against_scipy(engine):
    """1x1 without wires: the integral of V^2/R(x(t)) under the trapezoid."""
    spec = TileSpec(rows=1, cols=1, cell=MOVING)
    ends, voltages = selection(spec, 0, 0, "half", -0.9, sense=False)
    found = pulse(engine, spec, [[2e-5]], voltages, ends=ends, selected_row=0)

    def volts(t: float) -> float:
        return -0.9 * float(np.interp(t, [0, EDGE, EDGE + WIDTH, 2 * EDGE + WIDTH], [0, 1, 1, 0]))

    def rate(t: float, y: np.ndarray) -> list[float]:
        over = volts(t) / -0.4 - 1
        return [-2e6 * max(over, 0.0) * (1 - (1 - y[0]) ** 2)]

    moved = solve_ivp(
        rate, (0, 2 * EDGE + WIDTH), [(1 / 2e-5 - 2e3) / 98e3], rtol=1e-9, max_step=EDGE / 10, dense_output=True
    )
    assert moved.y[0, 0] - moved.y[0, -1] > 0.01
    expected = quad(
        lambda t: volts(t) ** 2 / (2e3 + 98e3 * moved.sol(t)[0]),
        0,
        2 * EDGE + WIDTH,
        points=[EDGE, EDGE + WIDTH],
        epsrel=1e-8,
    )[0]
    assert found["energy"] == pytest.approx(expected, rel=2e-4, abs=0)
    assert found["selected"] == pytest.approx(expected, rel=2e-4, abs=0)


def test_charge_comes_back(engine):
    """What capacitors took is returned: nothing but the cells' charge has passed, and it passed whole."""
    spec = TileSpec(rows=2, cols=2, **RESISTANCES, **CAPACITIES)
    conductances = np.array([[1e-5, 1e-4], [5e-5, 2e-4]])
    deck = tile_deck(spec, conductances, transient=True, nodes=True)
    knots = np.cumsum([0.0, EDGE, WIDTH, EDGE, 5e-9])
    waves = Waves(knots, np.outer([0.0, 1.0, 1.0, 0.0, 0.0], [0.3, 0.1]), longest_step=1e-10)
    result = engine.transient(deck, waves)
    names = ["vrow0", "vrow1", "vcol0", "vcol1", "vsubstrate"]
    charges = np.trapezoid(result.columns([f"i({name})" for name in names]), result.times, axis=0)
    largest = np.abs(charges).max()
    assert abs(charges.sum()) < 1e-6 * largest
    assert abs(charges[-1]) < 1e-4 * largest
    # In linear circuits the charge is that of the operating point times the area of the pulse.
    network = Network()
    for node, volts in ((("row", 0), 0.3), (("row", 1), 0.1), (("col", 0), 0.0), (("col", 1), 0.0)):
        network.hold(node, volts)
    crossbar(network, 2, 2, lambda i, j, u, v: network.conductor(u, v, conductances[i, j]), **RESISTIVE)
    solved = network.solve()
    expected = [-solved.delivered(("col", j)) * (WIDTH + EDGE) for j in range(2)]
    np.testing.assert_allclose(charges[2:4], expected, rtol=1e-4)


# --- the plan ---------------------------------------------------------------------------------------------------


def test_a_plan_reads_and_writes(measure, engine):
    tile = TileSpec(rows=2, cols=2, cell=MOVING, driver_resistance=500.0)
    plan = EnergyPlan(tiles=2, read_time=5e-9, write=WritePulse(voltage=-0.9, width=2e-9, scheme="third"))
    found = measure(plan, tile, (2e-5, 3e-4), 1)
    assert found["read_energy"].shape == (2, 4)
    assert found["read_parts"].shape == (2, 4, 4)
    assert found["write_energy"].shape == found["write_selected"].shape == (2,)
    np.testing.assert_allclose(found["read_parts"].sum(axis=2), found["read_energy"], rtol=1e-6)
    np.testing.assert_allclose(found["write_parts"].sum(axis=1), found["write_energy"], rtol=1e-6)
    assert np.all((found["write_selected"] > 0) & (found["write_selected"] < found["write_energy"]))
    assert np.all(np.abs(found["write_residual"]) <= 1e-6)
    assert np.all(np.abs(found["read_residual"]) <= 1e-6)


def test_a_users_cell_is_refused():
    text = "* r\n.subckt own p n g=1e-6\nGown p n p n {g}\n.ends own\n"
    cell = SubcircuitCell(subcircuit="own", text=text, state=StateDeclaration(parameter="g", quantity="conductance"))
    with pytest.raises(NotAvailable, match="subcircuit"):
        EnergyPlan().make_points(TileSpec(rows=1, cols=1, cell=cell), (1e-6, 1e-4), 0)
