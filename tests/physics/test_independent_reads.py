"""Reads are independent: none depends on another beside it, and the exported deck gives the same numbers."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdls_cosim.characterize import Characterization, ReadPoint, characterize, first_deck
from mdls_cosim.characterize.circuits import solve
from mdls_cosim.devices import (
    DataDriven,
    ExponentialSelector,
    JartVcm,
    LinearIonDrift,
    MetastableSwitch,
    Ohmic,
    PassiveTio2,
    PhaseChange,
    PolynomialRead,
    Sinh,
    StanfordPku,
    ThresholdSelector,
    Vteam,
    Yakopcic,
)
from mdls_cosim.errors import ConfigError
from mdls_cosim.spice import strategy
from mdls_cosim.spice.library import read_model
from mdls_cosim.tiles import (
    SelectorCell,
    StateDeclaration,
    SubcircuitCell,
    TileSpec,
    TransimpedanceAmplifier,
    TransistorCell,
    tile_deck,
)

pytestmark = pytest.mark.ngspice

CASES = Path(__file__).parents[1] / "cases/circuit"
ROWS, COLS, VECTORS = 3, 2, 6


def users(text: str, name: str, pins=("row", "column"), **state) -> SubcircuitCell:
    return SubcircuitCell(subcircuit=name, text=text, pins=pins, state=StateDeclaration(**state))


def from_file(name: str, **parameters: float) -> SubcircuitCell:
    return SubcircuitCell(file=str(CASES / name), parameters=parameters)  # pyright: ignore[reportCallIssue]


PLAIN = ".subckt own p n g=1e-6\nBown p n I=({g}/5)*sinh(5*V(p,n))\n.ends\n"
GAP = ".subckt own p n gap=3\nBown p n I=(10^(-1-{gap}))*sinh(3*V(p,n))/3\n.ends\n"
# A power of 3 uW heats it beyond the temperature (1 V on `hot`) at which it conducts 201 times as well: in a range of
# voltages it is cold or hot, whichever it was before.
HEATED = """.subckt own p n g=1e-6
Bown p n I=({g})*V(p,n)*(1+100*(1+tanh((V(hot)-1)/0.05)))
Bheat 0 hot I=1e-3*V(p,n)^2*({g})*(1+100*(1+tanh((V(hot)-1)/0.05)))/3e-6
Rheat hot 0 1k
.ends
"""
# A latch: set above 0.15 V, reset below -0.05 V, and in between whatever it was.
LATCH = """.subckt own p n g=1e-6
Ba a 0 I=V(a)-0.5-0.5*tanh((V(p,n)-0.15+0.2*V(a))/0.02)
Bown p n I=({g})*V(p,n)*(1+10*V(a))
.ends
"""

CELLS = {
    **{
        device.model: device
        for device in (
            Ohmic(),
            Sinh(),
            PassiveTio2(),
            PolynomialRead(),
            PhaseChange(),
            LinearIonDrift(),
            Vteam(),
            Yakopcic(),
            MetastableSwitch(),
            DataDriven(),
            StanfordPku(),
            JartVcm(),
        )
    },
    "1S1R exponential": SelectorCell(device=Sinh(), selector=ExponentialSelector()),
    "1S1R threshold": SelectorCell(
        device=Ohmic(), selector=ThresholdSelector(threshold_voltage=0.25, hold_voltage=0.1, on_resistance=1e3)
    ),
    "1T1R": TransistorCell(device=Vteam()),
    "user's, no memory": users(PLAIN, "own", parameter="g", quantity="conductance"),
    "user's, state as a parameter": users(GAP, "own", parameter="gap", lowest=2.0, highest=6.0),
    "user's, state as a pin": users(
        read_model("vteam").replace("vteam", "own"), "own", ("row", "column", "state"), raised_by="negative"
    ),
    "user's, switch": from_file("06-switch.sub", vth=0.1),
    "user's, heated": users(HEATED, "own", parameter="g", quantity="conductance"),
    "user's, latch": users(LATCH, "own", parameter="g", quantity="conductance"),
    "user's, XSPICE": from_file("12-xspice.sub"),
}

WIRES = {"row_line_resistance": 2.0, "column_line_resistance": 3.0, "driver_resistance": 20.0, "sense_resistance": 5.0}


def drawn(cell, seed: int = 0) -> tuple[TileSpec, np.ndarray, np.ndarray]:
    """A small tile, conductances that its cell can have, and inputs: signed, with equal ones and 0 V among them."""
    generator = np.random.default_rng(seed)
    spec = TileSpec(rows=ROWS, cols=COLS, cell=cell, **WIRES)
    low, high = 1e-5, 5e-5
    if spec.device is not None:
        lowest, highest = spec.device.conductance_range()
        low, high = max(low, lowest), min(high, highest)
        if low > high:
            low, high = (max(lowest, 1e-9), highest) if highest < 1e-5 else (lowest, min(highest, 2 * lowest))
    voltages = generator.uniform(-0.3, 0.3, (VECTORS, ROWS))
    voltages[1] = 0.0
    voltages[2, 1:] = 0.0
    voltages[4] = voltages[3]
    return spec, generator.uniform(low, high, (ROWS, COLS)), voltages


@pytest.fixture(scope="module")
def alone(engine):
    """The results of each vector by itself, by the name of the cell."""
    known: dict[str, np.ndarray] = {}

    def of(name: str) -> np.ndarray:
        if name not in known:
            spec, conductances, voltages = drawn(CELLS[name])
            known[name] = np.concatenate([solve(engine, spec, conductances, row).result.values for row in voltages])
        return known[name]

    return of


@pytest.mark.parametrize("name", CELLS)
@settings(max_examples=4, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_read_depends_on_the_others(name, engine, alone, data):
    """To the last bit, in random batches and in any order."""
    spec, conductances, voltages = drawn(CELLS[name])
    batch = data.draw(st.lists(st.integers(0, VECTORS - 1), min_size=1, max_size=2 * VECTORS))
    found = solve(engine, spec, conductances, voltages[batch]).result.values
    np.testing.assert_array_equal(found, alone(name)[batch])


@settings(max_examples=4, deadline=None, database=None)
@given(seed=st.integers(0, 1000), wire=st.sampled_from([0.0, 1.0]), amplified=st.booleans())
def test_linear_tiles_of_any_kind_are_swept_to_the_same_bits(engine, seed, wire, amplified):
    generator = np.random.default_rng(seed)
    amplifier = TransimpedanceAmplifier() if amplified else None
    spec = TileSpec(rows=12, cols=9, row_line_resistance=wire, column_line_resistance=2 * wire, amplifier=amplifier)
    conductances, voltages = generator.uniform(0, 1e-4, (12, 9)), generator.uniform(-0.3, 0.3, (20, 12))
    assert strategy.chosen(tile_deck(spec, conductances)) == "sweep"
    together = solve(engine, spec, conductances, voltages).result.values
    order = generator.permutation(len(voltages))
    np.testing.assert_array_equal(solve(engine, spec, conductances, voltages[order]).result.values, together[order])
    for number in order[:3]:
        alone = solve(engine, spec, conductances, voltages[number]).result.values[0]
        np.testing.assert_array_equal(alone, together[number])


@pytest.mark.parametrize("name", CELLS)
def test_the_exported_deck_gives_the_same_currents(name, engine, tmp_path):
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("the ngspice library is here, the ngspice program is not")
    point = ReadPoint("read", *drawn(CELLS[name]))
    expected = point.solve(engine)["currents"]
    (tmp_path / "tile.cir").write_text(first_deck(point, engine))
    done = subprocess.run([program, "-b", "tile.cir"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    printed = re.findall(r"i\(vcol(\d+)\) = (\S+)", done.stdout)
    assert [int(column) for column, _ in printed] == VECTORS * list(range(COLS)), done.stdout + done.stderr
    found = np.array([float(value) for _, value in printed]).reshape(VECTORS, COLS)
    # Two ways to the same solution, each to reltol=1e-9; ngspice's own expansion of parameters loses 7e-12.
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())


def test_a_switch_starts_off(engine):
    """Below its threshold, after a vector that switched it on; 50 Mohm of the open switch in series with the film."""
    spec = TileSpec(rows=2, cols=2, cell=from_file("06-switch.sub"), driver_resistance=10.0)
    conductances = np.array([[1.2e-5, 1.5e-5], [1.8e-5, 1.1e-5]])
    voltages = np.array([[0.45, 0.4], [0.2748, 0.0138], [-0.4, 0.5], [0.2748, 0.0138]])
    found = solve(engine, spec, conductances, voltages).result.values
    off = voltages @ (1 / (1 / conductances + 50e6))
    np.testing.assert_allclose(found[[1, 3]], off[[1, 3]], rtol=1e-5)
    assert (np.abs(found[[0, 2]]) > 100 * np.abs(off[[0, 2]])).all()


def test_a_tile_of_switches_is_characterized_as_its_deck(engine):
    """The tile that was 700 times off: of its eight inputs, that of 0.2748 and 0.0138 V leaves all switches off."""
    dataset = characterize(Characterization.load_toml(CASES / "06-tile.toml"), engine=engine)
    read = dataset.experiments["read"]
    voltages, currents = read["voltages"].values[0], read["currents"].values[0]
    (row,) = np.flatnonzero(np.abs(voltages - [0.2748, 0.0138]).max(axis=1) < 5e-5)
    np.testing.assert_allclose(currents[row], [5.764e-9, 5.766e-9], rtol=1e-3)


def test_an_xspice_memristor_is_read(engine):
    """`.dc` gives -inf for it, `op` its resistance."""
    spec = TileSpec(rows=3, cols=2, cell=from_file("12-xspice.sub"))
    conductances = np.array([[2e-5, 5e-5], [1e-4, 7e-5], [3e-5, 9e-5]])
    voltages = np.array([[0.1, -0.2, 0.05], [0.0, 0.1, 0.0], [0.2, 0.2, 0.2]])
    found = solve(engine, spec, conductances, voltages).result.values
    np.testing.assert_allclose(found, voltages @ conductances, rtol=1e-9)


@pytest.mark.parametrize(
    "body",
    [
        "Rown p n {agauss(g,1,1)}",
        "Rown p n {gauss(g,0.1,3)}",
        ".param q={aunif(1,1)}\nRown p n {g*q}",
        "Rown p n {g*limit(1,0.1)}",
        "Vnoise x 0 trnoise(1 1n 0 0)\nBown p n i=v(p,n)*v(x)",
        "Vnoise x 0 trrandom(1 1n)\nBown p n i=v(p,n)*v(x)",
    ],
)
def test_a_cell_that_draws_random_numbers_is_refused(body):
    """Its numbers depend on how many the process has drawn before."""
    with pytest.raises(ConfigError):
        users(f".subckt own p n g=1\n{body}\n.ends\n", "own", parameter="g")
