"""What temperature does: Arrhenius' law for devices, copper for wires, SPICE's level-1 rules for transistors."""

import numpy as np
import pytest
import torch
from level1 import BOLTZMANN, CHARGE, Level1
from network import column_currents
from scipy.optimize import brentq

from mdls_cosim.characterize import ReadPlan
from mdls_cosim.characterize.circuits import solve
from mdls_cosim.characterize.temperature import TemperaturePlan
from mdls_cosim.devices import Nmos, Ohmic, Sinh, Vteam
from mdls_cosim.errors import ConfigError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.tiles import StateDeclaration, SubcircuitCell, TileSpec, TransistorCell

pytestmark = pytest.mark.ngspice

KELVINS = (250.0, 300.0, 350.0, 400.0)
BARRIER = 0.12 * CHARGE  # [J]
PLAN = TemperaturePlan(
    temperatures=KELVINS, read=ReadPlan(tiles=1, vectors=1, conductance_classes=("uniform", "clustered")), cells=3
)


def arrhenius(kelvin: float) -> float:
    return float(np.exp(-BARRIER / BOLTZMANN * (1 / kelvin - 1 / 300)))


@pytest.mark.parametrize("kind", [Ohmic, Sinh, Vteam])
def test_single_cells_follow_arrhenius(kind, measure):
    found = measure(PLAN, TileSpec(rows=2, cols=2, cell=kind(activation_energy=BARRIER)), (1e-5, 1e-4))
    at_room = found["cell_currents"][1]
    for index, kelvin in enumerate(KELVINS):
        np.testing.assert_allclose(found["cell_currents"][index], at_room * arrhenius(kelvin), rtol=1e-9)
    assert arrhenius(400) / arrhenius(250) == pytest.approx(
        np.exp(0.12 / 8.617333e-5 * (1 / 250 - 1 / 400)), rel=1e-6, abs=0
    )
    rise = 3.0 * np.sinh(0.9) / 0.9 / 3.0 if kind is Sinh else 1.0
    np.testing.assert_allclose(at_room, 0.3 * rise * found["cell_conductances"], rtol=1e-9)


@pytest.mark.parametrize("nonlinearity", [None, 4.0])
def test_tiles_are_nodal_ones_of_scaled_wires_and_cells(nonlinearity, measure):
    cell = (Ohmic if nonlinearity is None else Sinh)(
        activation_energy=BARRIER, **({} if nonlinearity is None else {"nonlinearity": nonlinearity})
    )
    copper = 0.0039
    wires = {"row_line_resistance": 30.0, "column_line_resistance": 45.0}
    ends = {"driver_resistance": 100.0, "sense_resistance": 60.0}
    spec = TileSpec(rows=4, cols=3, cell=cell, **wires, **ends, wire_temperature_coefficient=copper)
    found = measure(PLAN, spec, (1e-5, 3e-4))
    assert found["conductances"].shape == (2, 4, 3)
    for index, kelvin in enumerate(KELVINS):
        scaled = {name: ohm * (1 + copper * (kelvin - 300)) for name, ohm in wires.items()}
        cold = cell.replace(activation_energy=0.0)
        plain = TileSpec(rows=4, cols=3, cell=cold, **scaled, **ends)
        nodal = NodalTile(plain, tolerance=1e-13)
        programmed = nodal.program(torch.as_tensor(found["conductances"] * arrhenius(kelvin)))
        expected = programmed(torch.as_tensor(found["voltages"])).numpy()
        np.testing.assert_allclose(found["currents"][index], expected, atol=1e-8 * np.abs(expected).max(), rtol=0)


def test_without_coefficients_temperature_does_nothing(measure):
    found = measure(PLAN, TileSpec(rows=2, cols=3, row_line_resistance=20.0))
    np.testing.assert_allclose(found["currents"], np.stack([found["currents"][1]] * 4), rtol=1e-12)


def test_wires_without_resistance_are_refused():
    with pytest.raises(ConfigError, match="no resistance"):
        TileSpec(rows=1, cols=1, row_line_resistance=1.0, wire_temperature_coefficient=0.01, temperature=150.0)


FET = Nmos(
    threshold_voltage=0.45,
    transconductance=300e-6,
    width=2e-6,
    length=1e-6,
    body_effect=0.45,
    surface_potential=0.85,
    channel_modulation=0.06,
)
MODEL = Level1(0.45, 300e-6, 2.0, 0.45, 0.85, 0.06)


@pytest.mark.parametrize("kelvin", KELVINS)
@pytest.mark.parametrize("gate", [0.8, 1.8])
def test_a_transistor_by_the_level_1_rules(kelvin, gate, engine):
    """Hot: less mobility, lower threshold. Decisive is a gate near the threshold, where the second wins."""
    spec = TileSpec(
        rows=1,
        cols=1,
        cell=TransistorCell(transistor=FET, gate_voltage=gate),
        sense_resistance=1e3,
        temperature=kelvin,
    )
    model = MODEL.at(kelvin)

    def excess(current: float) -> float:
        return current - model.drain_current(0.5 - current / 1e-3, gate, 1e3 * current)

    expected = brentq(excess, 0.0, 0.5e-3, xtol=1e-18)
    found = solve(engine, spec, [[1e-3]], [[0.5]]).measured([0])[0, 0]
    # ngspice's constants of nature and junction leakage at 400 K.
    assert found == pytest.approx(expected, rel=2e-5, abs=0)


def test_both_temperature_effects_of_a_transistor_are_there():
    assert MODEL.at(300.0).vto == pytest.approx(0.45)
    assert MODEL.at(400.0).kp == pytest.approx(300e-6 * 0.6495, rel=1e-3, abs=0)
    slope = (MODEL.at(310.0).vto - MODEL.at(290.0).vto) / 20
    assert -3e-3 < slope < -0.5e-3  # 1 - 2 mV/K, as of real ones


@pytest.mark.parametrize("kelvin", [250.0, 400.0])
def test_transistor_tiles(kelvin, engine, draw_voltages):
    wires = {"row_line": 10.0, "column_line": 20.0, "driver": 50.0, "sense": 30.0}
    cell = TransistorCell(device=Ohmic(activation_energy=BARRIER), transistor=FET, gate_voltage=1.5)
    names = {"row_line": "row_line_resistance", "column_line": "column_line_resistance"}
    names |= {"driver": "driver_resistance", "sense": "sense_resistance"}
    spec = TileSpec(
        rows=2,
        cols=3,
        cell=cell,
        **{names[name]: ohm for name, ohm in wires.items()},
        temperature=kelvin,
        wire_temperature_coefficient=0.0039,
    )
    conductances = np.random.default_rng(3).uniform(1e-5, 3e-4, (2, 3))
    voltages = np.abs(draw_voltages((2, 2), 3))
    model = MODEL.at(kelvin)

    def of_cell(network, g, i, j, u, v):
        network.conductor(u, ("m", i, j), g * arrhenius(kelvin))
        network.element((("m", i, j), v), model.element(1.5))

    factor = 1 + 0.0039 * (kelvin - 300)
    scaled = {name: ohm * (factor if "line" in name else 1) for name, ohm in wires.items()}
    expected = column_currents(conductances, voltages, of_cell, **scaled)
    found = solve(engine, spec, conductances, voltages).measured(range(3))
    # The junctions of three drains leak 1 nA at 400 K; the model above has none.
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=3e-9)


THERMAL_CELL = """* I = 1e-4 x V, 1 % more for every kelvin above 27 C
.subckt warm p n x=0.5
Bwarm p n I=1e-4*({x})*(1+0.01*(temper-27))*V(p,n)
.ends warm
"""


def test_a_users_cell_is_programmed_at_300_kelvin_too(measure):
    """Cells are programmed once, at 300 K: what the model does with temperature must be seen."""
    cell = SubcircuitCell(
        subcircuit="warm", text=THERMAL_CELL, state=StateDeclaration(parameter="x", lowest=0.01, highest=4.0)
    )
    kelvins = (280.0, 300.0, 350.0)
    plan = TemperaturePlan(
        temperatures=kelvins, cells=1, read=ReadPlan(tiles=1, vectors=1, conductance_classes=("uniform",))
    )
    found = measure(plan, TileSpec(rows=2, cols=2, cell=cell), (1e-5, 5e-5))
    for index, kelvin in enumerate(kelvins):
        factor = (1 + 0.01 * (kelvin - 300.15)) / (1 + 0.01 * (300 - 300.15))
        np.testing.assert_allclose(found["cell_currents"][index], found["cell_currents"][1] * factor, rtol=1e-6)
        np.testing.assert_allclose(found["currents"][index], found["currents"][1] * factor, rtol=1e-6)
