"""Users' cells with a pin "gate": a foundry's bit cell is selected along the row as the built-in 1T1R cell is."""

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.characterize import Characterization, IvPlan, characterize
from mdls_cosim.characterize.circuits import solve
from mdls_cosim.characterize.write import WritePlan
from mdls_cosim.devices import Ohmic, Vteam
from mdls_cosim.devices.transistor import Nmos
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.spice.library import read_model
from mdls_cosim.tiles import StateDeclaration, SubcircuitCell, TileSpec, TransistorCell, tile_deck

pytestmark = pytest.mark.ngspice

CASES = Path(__file__).parents[1] / "cases/circuit"
TRANSISTOR = Nmos(threshold_voltage=0.5, transconductance=2e-4, width=2e-6, length=2e-7)
MODEL = ".model nch nmos(level=1 vto=0.5 kp=200u)\nM1 mid WL SL B nch W=2u L=0.2u\n"
BIT_CELL = f".subckt own BL WL SL B r=20k\nRm BL mid {{r}}\n{MODEL}.ends own\n"
SPAN = (1e-5, 5e-5)


def bit_cell(**more) -> SubcircuitCell:
    state = StateDeclaration(parameter="r", quantity="resistance")
    return SubcircuitCell(
        subcircuit="own", text=BIT_CELL, pins=("row", "gate", "column", "ground"), state=state, **more
    )


def test_the_margins_are_those_of_the_built_in_cell(engine):
    """With the gate held inside the cell, every row stays selected: margins of -1.08, 0.797, -1.16 and -0.72."""
    margins = {}
    for name in ("own", "builtin"):
        dataset = characterize(Characterization.load_toml(CASES / f"08-{name}.toml"), engine=engine)
        margins[name] = dataset.experiments["sneak"]["margin"].values
    np.testing.assert_allclose(margins["builtin"], 0.797, atol=5e-4)
    # The foundry's transistor has a body effect and channel-length modulation, which the built-in cell here lacks.
    np.testing.assert_allclose(margins["own"], margins["builtin"], atol=2e-3)


def test_every_row_has_a_gate_line_of_its_own(engine):
    wires = {"row_line_resistance": 50.0, "column_line_resistance": 80.0, "driver_resistance": 200.0}
    conductances = np.random.default_rng(0).uniform(*SPAN, (3, 2))
    voltages, gates = np.array([[0.3, -0.1, 0.2]]), [1.8, 0.0, 1.0]
    own = TileSpec(rows=3, cols=2, cell=bit_cell(), **wires)
    built_in = TileSpec(rows=3, cols=2, cell=TransistorCell(device=Ohmic(), transistor=TRANSISTOR), **wires)
    for chosen in (gates, None):
        found, expected = (
            solve(engine, spec, conductances, voltages, gates=chosen).measured(range(2)) for spec in (own, built_in)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_gate_sweep_keeps_what_was_programmed(measure):
    plan = IvPlan(voltage=0.3, points=3, cells=2, gates=(1.0, 1.8, 2.5))
    cells = (bit_cell(), TransistorCell(device=Ohmic(), transistor=TRANSISTOR))
    own, built_in = (measure(plan, TileSpec(rows=1, cols=1, cell=cell), SPAN)["gate_currents"] for cell in cells)
    np.testing.assert_allclose(own, built_in, rtol=1e-6)
    assert own[0] < own[1] < own[2]


def test_a_users_cell_with_a_state_is_written_as_the_built_in_one(measure):
    """The state is found with the gate on; in a write the gates of other rows are off."""
    vteam = read_model("vteam").replace("vteam", "device")
    text = f".subckt own BL WL SL B x\nXm BL mid x device r_on=2k r_off=200k\n{MODEL}.ends own\n{vteam}\n"
    state = StateDeclaration(raised_by="negative")
    pins = ("row", "gate", "column", "ground", "state")
    own = SubcircuitCell(subcircuit="own", text=text, pins=pins, state=state, gate_voltage=2.5)
    device = Vteam(on_resistance=2e3, off_resistance=2e5)
    built_in = TransistorCell(device=device, transistor=TRANSISTOR, gate_voltage=2.5)
    plan = WritePlan(raising=1.9, lowering=0.6, width=1e-9, pulses=3, targets=1)
    found, expected = (
        measure(plan, TileSpec(rows=2, cols=2, cell=cell, driver_resistance=50.0), SPAN, 2) for cell in (own, built_in)
    )
    assert expected["pulses"] > 0
    # The user's cell is programmed with its transistor in series, 0.3 kohm of 20 to 100 kohm.
    np.testing.assert_allclose(found["history"], expected["history"], rtol=0.05)
    np.testing.assert_allclose(found["disturb"], expected["disturb"], atol=1e-3)


@pytest.mark.parametrize(("text", "value"), [("1.2 V", 1.2), ("-1800 mV", -1.8)])
def test_a_specification_reads_the_declared_gate_voltage(tmp_path, text, value):
    (tmp_path / "own.sub").write_text((CASES / "08-gate-pin.sub").read_text())
    declared = (CASES / "08-gate-pin.toml").read_text()
    (tmp_path / "own.toml").write_text(f'gate_voltage = "{text}"\n{declared}')
    (tmp_path / "tile.toml").write_text('rows = 1\ncols = 1\n[cell]\nmodel = "subcircuit"\nfile = "own.sub"\n')
    spec = TileSpec.load_toml(tmp_path / "tile.toml")
    assert isinstance(spec.cell, SubcircuitCell)
    assert spec.cell.gate_voltage == pytest.approx(value)
    assert SubcircuitCell(file=str(tmp_path / "own.sub")) == spec.cell  # pyright: ignore[reportCallIssue]


def test_the_gate_voltage_is_declared():
    assert "Vgate0 gate0 0 1.8" in tile_deck(TileSpec(rows=1, cols=1, cell=bit_cell()), [[1e-5]]).elements
    spec = TileSpec(rows=1, cols=1, cell=bit_cell(gate_voltage=1.2))
    assert "Vgate0 gate0 0 1.2" in tile_deck(spec, [[1e-5]]).elements
    assert SubcircuitCell(**spec.cell.as_dict()) == spec.cell
    assert "gate_voltage" not in bit_cell().as_dict()


def test_declarations_of_gates_that_do_not_fit_are_refused(tmp_path):
    plain = {"subcircuit": "own", "text": ".subckt own p n g=1\nGown p n p n {g}\n.ends\n"}
    state = StateDeclaration(parameter="g", quantity="conductance")
    with pytest.raises(ConfigError, match="gate voltage of a cell without a gate"):
        SubcircuitCell(**plain, state=state, gate_voltage=1.0)
    with pytest.raises(ConfigError, match="one gate"):
        SubcircuitCell(**plain, state=state, pins=("row", "gate", "gate", "column"))
    with pytest.raises(InputError, match="cells without a gate"):
        tile_deck(TileSpec(rows=1, cols=1, cell=SubcircuitCell(**plain, state=state)), [[1e-5]], gates=[1.0])
    (tmp_path / "own.sub").write_text(BIT_CELL)
    declared = (CASES / "08-gate-pin.toml").read_text().replace("bitcell", "own")
    for value in ("1.8", '"1.8 S"'):
        (tmp_path / "own.toml").write_text(f"gate_voltage = {value}\n{declared}")
        with pytest.raises(ConfigError, match=r"own\.toml.*gate_voltage"):
            SubcircuitCell(file=str(tmp_path / "own.sub"))  # pyright: ignore[reportCallIssue]
