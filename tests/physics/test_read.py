"""Reads of whole tiles: every drive, sense side and cell against NodalTile or a circuit solver of its own."""

import numpy as np
import pytest
import torch
from level1 import Level1
from network import column_currents
from scipy.optimize import brentq

from mdls_cosim.characterize import ReadPlan
from mdls_cosim.characterize.circuits import solve
from mdls_cosim.characterize.read import ReadPoint
from mdls_cosim.devices import ExponentialSelector, Nmos, Ohmic, Sinh, ThresholdSelector, Vteam
from mdls_cosim.errors import SpiceNoConvergence
from mdls_cosim.fidelity import NodalTile, SpiceTile
from mdls_cosim.tiles import SelectorCell, TileSpec, TransimpedanceAmplifier, TransistorCell

pytestmark = pytest.mark.ngspice

WIRES = {"row_line": 15.0, "column_line": 40.0, "driver": 120.0, "sense": 70.0}
SHAPES = pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1, 4), (4, 1), (1, 1)], ids=str)


def spec_of(rows: int, cols: int, wires: dict[str, float] = WIRES, **more) -> TileSpec:
    names = {"row_line": "row_line_resistance", "column_line": "column_line_resistance"}
    names |= {"driver": "driver_resistance", "sense": "sense_resistance"}
    return TileSpec(rows=rows, cols=cols, **{names[name]: value for name, value in wires.items()}, **more)


def read(engine, spec: TileSpec, conductances, voltages) -> np.ndarray:
    return ReadPoint("", spec, np.asarray(conductances), np.asarray(voltages)).solve(engine)["currents"]


def assert_close(found, expected, tolerance: float = 1e-8) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# --- passive cells ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [Ohmic(), Sinh(nonlinearity=5.0)], ids=lambda c: c.model)
def test_the_experiment_is_the_nodal_solve(cell, measure):
    """All classes of conductances and inputs, through make_points and collect."""
    spec = spec_of(5, 3, cell=cell, reference_voltage=0.1)
    found = measure(ReadPlan(tiles=1, vectors=2), spec)
    nodal = NodalTile(spec, tolerance=1e-13).program(torch.as_tensor(found["conductances"]))
    expected = nodal(torch.as_tensor(found["voltages"])).numpy()
    assert_close(found["currents"], expected)
    for tile, (programmed, inputs) in enumerate(zip(found["conductances"], found["voltages"], strict=True)):
        # What is left of a device without a wire: G V, or its sinh through (0.1 V, 0.1 V G).
        volts = inputs if cell.linear else 0.1 * np.sinh(5 * inputs) / np.sinh(0.5)
        ideal = volts @ programmed
        scale = np.sqrt(sum(x * x for x in ideal.ravel()) / ideal.size)
        for col in range(3):
            miss = expected[tile, :, col] - ideal[:, col]
            expected_error = np.sqrt(sum(x * x for x in miss) / len(miss)) / scale
            assert found["column_error"][tile, col] == pytest.approx(expected_error, rel=1e-6, abs=0)


@pytest.mark.parametrize("conduction", ["linear", "exponential"])
def test_vteam_cells_read_at_their_conductance(conduction, engine, draw_voltages):
    """Their state is no conductance; whoever takes it for one is wrong by orders."""
    spec = spec_of(3, 4, cell=Vteam(off_resistance=2e6, conduction=conduction))
    conductances = np.random.default_rng(2).uniform(1e-6, 5e-4, (3, 4))
    voltages = draw_voltages((2, 3), 12, 0.25)
    expected = column_currents(conductances, voltages, **WIRES)
    assert_close(read(engine, spec, conductances, voltages), expected)
    nodal = NodalTile(spec).program(torch.as_tensor(conductances))(torch.as_tensor(voltages)).numpy()
    assert_close(nodal, expected)


def test_without_wires_there_is_no_error(measure):
    found = measure(ReadPlan(tiles=1, vectors=2), TileSpec(rows=3, cols=2, cell=Sinh(nonlinearity=5.0)))
    assert np.all(found["column_error"] < 1e-9)


@pytest.mark.parametrize("low_high", [(1e-9, 1e-9), (1e-2, 1e-2), (1e-9, 1e-2)], ids=str)
@SHAPES
def test_extreme_conductances(shape, low_high, engine, draw_voltages):
    spec = spec_of(*shape)
    pattern = np.indices(shape).sum(0) % 2 == 0
    conductances = np.where(pattern, *low_high)
    voltages = draw_voltages((3, shape[0]), 2)
    expected = NodalTile(spec).program(torch.as_tensor(conductances))(torch.as_tensor(voltages)).numpy()
    assert_close(read(engine, spec, conductances, voltages), expected, 1e-9)


# --- double-sided drive -----------------------------------------------------------------------------------------

ZEROS = pytest.mark.parametrize(
    "zero", [(), ("driver",), ("row_line",), ("row_line", "driver"), ("sense", "column_line"), tuple(WIRES)], ids=str
)


@ZEROS
@SHAPES
def test_rows_driven_at_both_ends(shape, zero, engine, draw_tile, draw_voltages):
    wires = {name: 0.0 if name in zero else value for name, value in WIRES.items()}
    spec = spec_of(*shape, wires, drive="double")
    conductances, voltages = draw_tile(shape, 3, 1e-5, 1e-3), draw_voltages((2, shape[0]), 3)
    expected = column_currents(conductances, voltages, **wires, double=True)
    assert_close(read(engine, spec, conductances, voltages), expected)


def test_a_tile_driven_at_both_ends_reads_its_mirror_image_mirrored(engine, draw_tile, draw_voltages):
    spec = spec_of(4, 5, drive="double")
    conductances, voltages = draw_tile((4, 5), 4, 1e-5, 1e-3), draw_voltages((2, 4), 4)
    there = read(engine, spec, conductances, voltages)
    assert_close(read(engine, spec, conductances[:, ::-1], voltages)[:, ::-1], there, 1e-9)


def test_both_ends_lose_less_than_one(measure):
    plan = ReadPlan(tiles=1, vectors=2, conductance_classes=("uniform",), input_classes=("dense",))
    one, two = (measure(plan, spec_of(6, 6, drive=drive)) for drive in ("single", "double"))
    assert np.all(two["column_error"] < one["column_error"])


# --- amplifiers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [3.0, 200.0, 1e5])
@pytest.mark.parametrize("sense", [0.0, 70.0])
def test_an_amplifier_at_rest_is_a_resistance_and_a_factor(gain, sense, engine, draw_tile, draw_voltages):
    wires = WIRES | {"sense": sense}
    amplifier = TransimpedanceAmplifier(feedback_resistance=5e3, gain=gain)
    spec = spec_of(4, 3, wires, amplifier=amplifier, drive="double")
    conductances, voltages = draw_tile((4, 3), 5, 1e-5, 1e-3), draw_voltages((3, 4), 5)
    seen = wires | {"sense": sense + 5e3 / (1 + gain)}
    expected = column_currents(conductances, voltages, **seen, double=True) * gain / (1 + gain)
    assert_close(read(engine, spec, conductances, voltages), expected)


# --- selectors --------------------------------------------------------------------------------------------------


def test_one_exponential_selector_by_bisection(engine):
    selector = ExponentialSelector(saturation_current=3e-9, slope_voltage=0.12)
    spec = TileSpec(rows=1, cols=1, cell=SelectorCell(device=Sinh(nonlinearity=4.0), selector=selector))
    for volts in (-1.3, 0.05, 0.7, 1.3):

        def excess(middle: float, volts: float = volts) -> float:
            return 2e-5 * np.sinh(4 * (volts - middle)) / 4 - 3e-9 * np.sinh(middle / 0.12)

        middle = brentq(excess, *sorted((0.0, volts)), xtol=1e-15)
        (found,) = read(engine, spec, [[2e-5]], [[volts]])[0]
        assert found == pytest.approx(3e-9 * np.sinh(middle / 0.12), rel=1e-8, abs=0)


@SHAPES
def test_exponential_selectors_in_an_array(shape, engine, draw_tile, draw_voltages):
    selector = ExponentialSelector(saturation_current=2e-8, slope_voltage=0.2)
    spec = spec_of(*shape, cell=SelectorCell(selector=selector), temperature=350.0)
    conductances, voltages = draw_tile(shape, 6), draw_voltages((2, shape[0]), 6, 1.2)

    def cell(network, g, i, j, u, v):
        network.conductor(u, ("m", i, j), g)
        network.two_terminal(("m", i, j), v, lambda x: 2e-8 * np.sinh(x / 0.2))

    # Open cells leave their middle to the selector alone: no current, as in the circuit.
    expected = column_currents(conductances, voltages, cell, **WIRES)
    assert_close(read(engine, spec, conductances, voltages), expected, 1e-7)


def on_current(volts: float, selector: ThresholdSelector, on: bool) -> float:
    above = abs(volts) - selector.hold_voltage
    bend = (above + np.hypot(above, 1e-3)) / 2 - (np.hypot(selector.hold_voltage, 1e-3) - selector.hold_voltage) / 2
    return volts / selector.off_resistance + on * bend * np.tanh(volts / 1e-3) / selector.on_resistance


@pytest.mark.parametrize("wires", [WIRES, dict.fromkeys(WIRES, 0.0)], ids=["wires", "ideal"])
def test_threshold_selectors_take_branches_that_fit(wires, engine, draw_voltages):
    selector = ThresholdSelector(threshold_voltage=0.9, hold_voltage=0.4, off_resistance=1e8, on_resistance=2e3)
    spec = spec_of(3, 4, wires, cell=SelectorCell(selector=selector))
    conductances = np.random.default_rng(1).uniform(1e-5, 1e-4, (3, 4))
    voltages = np.array([[1.5, 1.2, -1.4], [0.8, 0.5, 0.85], [1.5, 0.0, 0.7]])
    solution = solve(engine, spec, conductances, voltages, nodes=True)
    expected, on = [], np.zeros((3, 3, 4), bool)
    for vector, volts in enumerate(voltages):
        for _ in range(20):
            drops = {}

            def cell(network, g, i, j, u, v, drops=drops, on=on[vector]):
                network.conductor(u, ("m", i, j), g)
                network.two_terminal(("m", i, j), v, lambda x, on=bool(on[i, j]): on_current(x, selector, on))
                drops[i, j] = (network, ("m", i, j), v)

            currents = column_currents(conductances, volts, cell, **wires)[0]
            solved = {network: network.solve() for network, *_ in drops.values()}
            after = on[vector].copy()
            for place, (network, middle, v) in drops.items():
                size = abs(solved[network].voltage(middle) - solved[network].voltage(v))
                after[place] = size > 0.9 or (on[vector][place] and size >= 0.4)
            if (after == on[vector]).all():
                break
            on[vector] = after
        expected.append(currents)
    np.testing.assert_array_equal(solution.on, on)
    assert on[0].all()
    assert not on[1].any()
    assert on[2][0].any()
    assert not on[2][1].any()
    # Its branch holds what the selector's voltage says; off-currents count in full.
    np.testing.assert_allclose(solution.measured(range(4)), expected, rtol=1e-6, atol=1e-13)


def test_a_selector_without_a_stable_branch_is_said_to_have_none(engine):
    """Below its holding current it switches off, above its threshold on: a relaxation oscillator."""
    spec = TileSpec(rows=1, cols=1, cell=SelectorCell(selector=ThresholdSelector(off_resistance=1e12)))
    with pytest.raises(SpiceNoConvergence, match="branch"):
        read(engine, spec, [[1e-9]], [[1.5]])


# --- transistors ------------------------------------------------------------------------------------------------

FETS = {
    "plain": Nmos(threshold_voltage=0.7, transconductance=6e-5, width=10e-6, length=1e-6),
    "180 nm": Nmos(
        threshold_voltage=0.45,
        transconductance=300e-6,
        width=2e-6,
        length=0.2e-6,
        body_effect=0.45,
        surface_potential=0.85,
        channel_modulation=0.06,
    ),
}


def level1(fet: Nmos) -> Level1:
    return Level1(
        fet.threshold_voltage,
        fet.transconductance,
        fet.width / fet.length,
        fet.body_effect,
        fet.surface_potential,
        fet.channel_modulation,
    )


@pytest.mark.parametrize("name", FETS)
@pytest.mark.parametrize("gate", [0.9, 1.28, 3.0])
@pytest.mark.parametrize("volts", [0.05, 0.3, 2.0, -0.2])
def test_one_transistor_by_bisection(name, gate, volts, engine):
    """Linear region, saturation, reversed; the source is held at ground by 5 kohm, so the body effect counts."""
    spec = TileSpec(
        rows=1,
        cols=1,
        cell=TransistorCell(transistor=FETS[name], gate_voltage=gate, device=Sinh(nonlinearity=3.0)),
        sense_resistance=5e3,
    )
    model = level1(FETS[name])

    def drain(current: float) -> float:
        return volts - np.arcsinh(3 * current / 1e-4) / 3

    def excess(current: float) -> float:
        return current - model.drain_current(drain(current), gate, 5e3 * current)

    expected = brentq(excess, *sorted((0.0, volts / 5e3)), xtol=1e-18)
    (found,) = read(engine, spec, [[1e-4]], [[volts]])[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-11)  # junctions: 1e-14 A and less than 1e-11 A at -0.2 V


@pytest.mark.parametrize("name", FETS)
@pytest.mark.parametrize("gates", [None, [1.5, 0.0, 1.0]], ids=["all rows", "some rows"])
def test_transistors_in_an_array(name, gates, engine, draw_voltages):
    spec = spec_of(3, 4, cell=TransistorCell(transistor=FETS[name], gate_voltage=1.5), drive="double")
    conductances = np.random.default_rng(7).uniform(1e-5, 3e-4, (3, 4))
    voltages = draw_voltages((2, 3), 7)
    model, of_row = level1(FETS[name]), gates or [1.5] * 3

    def cell(network, g, i, j, u, v):
        network.conductor(u, ("m", i, j), g)
        network.element((("m", i, j), v), model.element(of_row[i]))

    expected = column_currents(conductances, voltages, cell, **WIRES, double=True)
    found = solve(engine, spec, conductances, voltages, gates=gates).measured(range(4))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-11)  # junctions conduct 1e-11 A at -0.15 V


def test_a_closed_transistor_leaks_picoamperes(engine):
    spec = TileSpec(rows=2, cols=2, cell=TransistorCell())
    found = solve(engine, spec, np.full((2, 2), 1e-4), [[0.3, 0.3]], gates=[0.0, 0.0]).measured([0, 1])
    assert np.abs(found).max() < 1e-12


# --- laws -------------------------------------------------------------------------------------------------------


def test_reciprocity_of_an_array_driven_from_either_side(engine, draw_tile):
    """1 V at row i gives at column j what 1 V at column j of the tile on its side gives at row i (equal ends)."""
    conductances = draw_tile((3, 4), 8, 1e-5, 1e-3)
    even = {"driver": 50.0, "sense": 50.0}
    there = read(engine, spec_of(3, 4, WIRES | even), conductances, np.eye(3))
    # On its side: rows become columns and the far corner stays the far corner.
    turned = conductances.T[::-1, ::-1]
    swapped = {"row_line": WIRES["column_line"], "column_line": WIRES["row_line"]}
    back = read(engine, spec_of(4, 3, WIRES | even | swapped), turned, np.eye(4))
    assert_close(back[::-1, ::-1].T, there, 1e-10)


def test_superposition_of_ohmic_cells(engine, draw_tile):
    conductances = draw_tile((3, 3), 9)
    spec = spec_of(3, 3, amplifier=TransimpedanceAmplifier(gain=50.0), drive="double")
    one, two, both = read(engine, spec, conductances, [[0.3, -0.1, 0.0], [0.0, 0.2, 0.2], [0.3, 0.1, 0.2]])
    assert_close(one + two, both, 1e-11)


@pytest.mark.parametrize(
    "cell",
    [Sinh(), SelectorCell(), SelectorCell(selector=ThresholdSelector()), TransistorCell()],
    ids=lambda c: c.model,
)
def test_a_tile_only_takes_power(cell, engine, draw_tile, draw_voltages):
    spec = spec_of(3, 3, cell=cell)
    voltages = draw_voltages((6, 3), 10, 0.4)
    solution = solve(engine, spec, draw_tile((3, 3), 10, open_share=0), voltages, nodes=True)
    drawn = -(solution.result.columns([f"i(vrow{i})" for i in range(3)]) * voltages).sum(axis=1)
    assert np.all(drawn > 0)


# --- rung 4 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"cell": TransistorCell()},
        {"cell": SelectorCell()},
        {"drive": "double"},
        {"amplifier": TransimpedanceAmplifier(gain=50.0)},
        {"cell": SelectorCell(selector=ThresholdSelector())},
    ],
    ids=["transistor", "selector", "double", "amplifier", "threshold"],
)
def test_the_spice_rung_reads_what_the_experiment_reads(more, engine, draw_tile, draw_voltages):
    spec = spec_of(2, 3, **more)
    conductances, voltages = draw_tile((2, 3), 11, open_share=0), draw_voltages((2, 2), 11, 1.0)
    found = SpiceTile(spec, engine).program(torch.as_tensor(conductances))(torch.as_tensor(voltages))
    np.testing.assert_allclose(found.numpy(), read(engine, spec, conductances, voltages), rtol=1e-9)
