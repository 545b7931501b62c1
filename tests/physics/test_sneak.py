"""Sneak currents of passive arrays against closed forms, and with wires against a circuit solver of its own."""

import numpy as np
import pytest
from network import Network, crossbar

from mdls_cosim.characterize.sneak import SCHEMES, LargestPoint, SneakPlan, SneakPoint
from mdls_cosim.devices import ExponentialSelector, Nmos, Sinh, ThresholdSelector
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell

pytestmark = pytest.mark.ngspice

ON, OFF, VOLTAGE = 1e-4, 1e-6, 0.3
SHAPES = pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 3), (3, 6), (1, 4), (4, 1)], ids=str)


def floating_sneak(rows: int, cols: int, background: float) -> float:
    """Along the selected row to the other columns, through their cells to the other rows, back to the column [S]."""
    if rows == 1 or cols == 1:
        return 0.0
    return background / (1 / (cols - 1) + 1 / ((rows - 1) * (cols - 1)) + 1 / (rows - 1))


def sensed(scheme: str, shape: tuple[int, int], cell: float, background: float) -> float:
    rows, cols = shape
    share = {"grounded": 0.0, "half": 1 / 2, "third": 1 / 3}
    if scheme == "floating":
        return VOLTAGE * (cell + floating_sneak(rows, cols, background))
    return VOLTAGE * (cell + (rows - 1) * share[scheme] * background)


def power(scheme: str, shape: tuple[int, int], cell: float, background: float) -> float:
    """Of all cells: V^2 G each, at the voltage that the scheme leaves it."""
    rows, cols = shape
    if scheme == "floating":
        return VOLTAGE * sensed(scheme, shape, cell, background)
    row_share, col_share = {"grounded": (0, 0), "half": (1 / 2, 1 / 2), "third": (1 / 3, 2 / 3)}[scheme]
    along_row, along_col, elsewhere = 1 - col_share, row_share, row_share - col_share
    others = (cols - 1) * along_row**2 + (rows - 1) * along_col**2 + (rows - 1) * (cols - 1) * elsewhere**2
    return VOLTAGE**2 * (cell + background * others)


@SHAPES
def test_closed_forms_without_wires(shape, measure):
    found = measure(SneakPlan(voltage=VOLTAGE), TileSpec(rows=shape[0], cols=shape[1]), (OFF, ON))
    assert found["scheme"].tolist() == list(range(len(SCHEMES)))
    on = np.array([sensed(scheme, shape, ON, OFF) for scheme in SCHEMES])
    off = np.array([sensed(scheme, shape, OFF, ON) for scheme in SCHEMES])
    np.testing.assert_allclose(found["on_current"], on, rtol=1e-9)
    np.testing.assert_allclose(found["off_current"], off, rtol=1e-9)
    np.testing.assert_allclose(found["margin"], (on - off) / on, rtol=1e-8, atol=1e-12)
    expected = [power(scheme, shape, OFF, ON) for scheme in SCHEMES]
    np.testing.assert_allclose(found["power"], expected, rtol=1e-9)


@pytest.mark.parametrize("span", [(1e-9, 1e-2), (4e-5, 5e-5)], ids=str)
def test_closed_forms_hold_for_any_range(span, measure):
    found = measure(SneakPlan(voltage=VOLTAGE), TileSpec(rows=3, cols=4), span)
    off = [sensed(scheme, (3, 4), *span) for scheme in SCHEMES]
    np.testing.assert_allclose(found["off_current"], off, rtol=1e-8)


def test_leakage_of_exponential_selectors_at_half_and_third_bias(measure):
    """Cells that hardly resist: the selector's own equation, sinh(V/2V_s) at every half-selected cell."""
    selector = ExponentialSelector(saturation_current=1e-9, slope_voltage=0.15)
    span, voltage = (0.999e-1, 1e-1), 1.0
    tile = TileSpec(rows=5, cols=3, cell=SelectorCell(selector=selector))
    found = measure(SneakPlan(voltage=voltage, schemes=("half", "third")), tile, span)

    def through(volts: float) -> float:
        return 1e-9 * (np.exp(volts / 0.15) - np.exp(-volts / 0.15)) / 2

    for index, share in enumerate((1 / 2, 1 / 3)):
        # 4e-7 A over 0.1 S: the memristor takes 4 uV of 1 V, 3e-5 of the exponential's argument.
        expected = through(voltage) + 4 * through(share * voltage)
        np.testing.assert_allclose(found["on_current"][index], expected, rtol=1e-4)
    ratio = through(voltage) / through(voltage / 2)
    assert ratio == pytest.approx(2 * np.cosh(voltage / 0.3))
    leak = found["on_current"][0] - through(voltage) * (1 - 4e-5)
    assert leak == pytest.approx(4 * through(voltage) / ratio, rel=5e-2, abs=0)


def test_a_selector_makes_a_larger_array_readable(measure):
    plan = SneakPlan(voltage=1.0, schemes=("half",))
    bare = measure(plan, TileSpec(rows=6, cols=6), (1e-7, 1e-6))
    selected = measure(plan, TileSpec(rows=6, cols=6, cell=SelectorCell()), (1e-7, 1e-6))
    assert bare["margin"] < 0.0 < selected["margin"]


WIRES = {"row_line": 20.0, "column_line": 35.0, "driver": 150.0, "sense": 80.0}
NAMES = {"row_line": "row_line_resistance", "column_line": "column_line_resistance", "driver": "driver_resistance"}
NAMES |= {"sense": "sense_resistance"}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("zero", [(), ("row_line",), ("column_line", "driver"), ("sense", "row_line")], ids=str)
def test_with_wires_against_another_solver(scheme, zero, engine):
    """Worst patterns, sinh cells, and the power that all driven lines draw."""
    rows, cols, a = 3, 4, 3.0
    wires = {name: 0.0 if name in zero else value for name, value in WIRES.items()}
    spec = TileSpec(rows=rows, cols=cols, cell=Sinh(nonlinearity=a), **{NAMES[k]: v for k, v in wires.items()})
    point = SneakPoint("", spec, (OFF, ON), VOLTAGE, scheme)
    found = point.solve(engine)
    share = {"floating": None, "grounded": (0, 0), "half": (0.5, 0.5), "third": (1 / 3, 2 / 3)}[scheme]
    results = {}
    for name, own, others in (("on_current", ON, OFF), ("off_current", OFF, ON)):
        network = Network()

        def cell(i, j, u, v, network=network, own=own, others=others):
            g = own if (i, j) == (0, cols - 1) else others
            network.two_terminal(u, v, lambda x: g * np.sinh(a * x) / a)

        network.hold(("row", 0), VOLTAGE)
        network.hold(("col", cols - 1), 0.0)
        held = [(("row", 0), VOLTAGE)]
        if share is not None:
            held += [(("row", i), share[0] * VOLTAGE) for i in range(1, rows)]
            held += [(("col", j), share[1] * VOLTAGE) for j in range(cols - 1)]
        for node, volts in held:
            network.hold(node, volts)
        row_ends = ["drive"] + ["float" if share is None else "drive"] * (rows - 1)
        column_ends = ["float" if share is None else "drive"] * (cols - 1) + ["sense"]
        crossbar(network, rows, cols, cell, **wires, row_ends=row_ends, column_ends=column_ends)
        solved = network.solve()
        results[name] = -solved.delivered(("col", cols - 1))
        results["power"] = sum(volts * solved.delivered(node) for node, volts in held)
    for name, expected in results.items():
        assert float(found[name]) == pytest.approx(expected, rel=1e-7, abs=0), name
    assert found["power"] > 0


def test_transistors_of_other_rows_are_closed(measure):
    """1T1R: every other gate at 0 V, so nothing but the selected cell conducts, at any scheme (junctions: pA)."""
    fet = Nmos(threshold_voltage=0.5, transconductance=1e-2, width=1e-4)
    tile = TileSpec(rows=4, cols=3, cell=TransistorCell(transistor=fet, gate_voltage=3.0))
    found = measure(SneakPlan(voltage=VOLTAGE, schemes=("grounded", "half", "floating")), tile, (OFF, ON))
    np.testing.assert_allclose(found["off_current"], VOLTAGE * OFF, rtol=1e-3)
    np.testing.assert_allclose(found["on_current"], VOLTAGE * ON, rtol=1e-3)
    assert np.all(found["margin"] > 0.98)


def test_threshold_selectors_block_what_is_half_selected(engine):
    """On: V_hold and R_on in series with the cell; half-selected: R_off. By hand, to 1e-3 (the rounded corner)."""
    selector = ThresholdSelector(threshold_voltage=0.8, hold_voltage=0.3, off_resistance=1e9, on_resistance=1e3)
    tile = TileSpec(rows=4, cols=3, cell=SelectorCell(selector=selector))
    found = SneakPoint("", tile, (1e-5, 1e-4), 1.0, "half").solve(engine)
    for name, g in (("on_current", 1e-4), ("off_current", 1e-5)):
        assert float(found[name]) == pytest.approx((1.0 - 0.3) / (1 / g + 1e3) + 3 * 0.5e-9, rel=1e-3, abs=0)


@pytest.mark.parametrize("scheme", ["floating", "half", "third", "grounded"])
@pytest.mark.parametrize(("limit", "most"), [(0.5, 11), (0.9, 6), (0.02, 5), (0.95, 4)])
def test_the_largest_array_is_the_largest(scheme, limit, most, engine):
    """Brute force over every size, on the closed forms."""
    span = (1e-6, 2e-5)
    found = LargestPoint("", TileSpec(rows=2, cols=2), span, VOLTAGE, scheme, limit, most).solve(engine)
    sizes = [0]
    for size in range(1, most + 1):
        on = sensed(scheme, (size, size), span[1], span[0])
        off = sensed(scheme, (size, size), span[0], span[1])
        if (on - off) / on >= limit:
            sizes.append(size)
    assert sizes == list(range(len(sizes)))
    assert float(found["largest_lines"]) == sizes[-1]


def test_no_array_is_readable_where_one_cell_is_not(measure):
    plan = SneakPlan(voltage=VOLTAGE, schemes=("half",), limit=0.99, largest=8)
    assert measure(plan, TileSpec(rows=2, cols=2), (1e-6, 2e-6))["largest_lines"] == [0]


def test_currents_are_proportional_to_the_voltage_for_ohmic_cells(measure):
    tile = TileSpec(rows=3, cols=3, row_line_resistance=10.0, column_line_resistance=5.0)
    one, two = (measure(SneakPlan(voltage=volts), tile, (OFF, ON)) for volts in (0.2, 0.6))
    np.testing.assert_allclose(two["on_current"], 3 * one["on_current"], rtol=1e-9)
    np.testing.assert_allclose(two["power"], 9 * one["power"], rtol=1e-9)
    np.testing.assert_allclose(two["margin"], one["margin"], rtol=1e-8)
