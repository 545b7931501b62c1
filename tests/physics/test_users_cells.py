"""A user's own subcircuit as a cell: read from files, programmed, read, and refused where it cannot be."""

import numpy as np
import pytest
import torch
from network import column_currents

from mdls_cosim.characterize import IvPlan, ReadPlan
from mdls_cosim.characterize.circuits import cell_conductances, programmed, solve
from mdls_cosim.characterize.transients import raising_sign
from mdls_cosim.characterize.write import WritePlan
from mdls_cosim.devices import Vteam
from mdls_cosim.errors import ConfigError, InputError, KirchhoffError, NotAvailable
from mdls_cosim.fidelity import IdealTile, NodalTile, SpiceTile
from mdls_cosim.spice.library import read_model
from mdls_cosim.tiles import StateDeclaration, SubcircuitCell, TileSpec, tile_deck

pytestmark = pytest.mark.ngspice

SPAN = (1e-5, 1e-4)
WIRES = {"row_line": 50.0, "column_line": 80.0, "driver": 200.0, "sense": 100.0}
SPEC = {
    "row_line_resistance": 50.0,
    "column_line_resistance": 80.0,
    "driver_resistance": 200.0,
    "sense_resistance": 100.0,
}


def declared(
    text: str, name: str = "own", pins=("row", "column"), parameters=None, osdi=None, **state
) -> SubcircuitCell:
    return SubcircuitCell(
        subcircuit=name, text=text, pins=pins, state=StateDeclaration(**state), parameters=parameters or {}, osdi=osdi
    )


def tile(cell: SubcircuitCell, rows: int = 2, cols: int = 3, **more) -> TileSpec:
    return TileSpec(rows=rows, cols=cols, cell=cell, **SPEC, **more)


CONDUCTANCES = np.random.default_rng(2).uniform(*SPAN, (2, 3))
VOLTAGES = np.array([[0.3, -0.1], [0.0, 0.2]])

SINH = """* like the library's, pins the other way round
.subckt own n p g=1e-6 a=3
Bown p n I=({g}/({a}))*sinh({a}*V(p,n))
.ends own
"""


def sinh_cell(network, g, i, j, u, v):
    network.two_terminal(u, v, lambda x: g * np.sinh(5 * x) / 5)


def check(engine, spec: TileSpec, cell=None) -> None:
    found = solve(engine, spec, CONDUCTANCES, VOLTAGES).measured(range(3))
    expected = column_currents(CONDUCTANCES, VOLTAGES, cell, **WIRES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


# --- every way to program ---------------------------------------------------------------------------------------


def test_a_parameter_that_is_the_conductance(engine):
    cell = declared(SINH, pins=("column", "row"), parameters={"a": 5.0}, parameter="g", quantity="conductance")
    check(engine, tile(cell), sinh_cell)


def test_a_parameter_that_is_the_resistance(engine):
    cell = declared(".subckt own p n r=1\nRown p n {r}\n.ends\n", parameter="r", quantity="resistance")
    check(engine, tile(cell))


def test_a_parameter_that_is_a_state(engine):
    """ln G falls with the state, from 1 mS at 2 to 0.1 uS at 6."""
    text = ".subckt own p n gap=3\nGown p n p n {10^(-1-gap)}\n.ends\n"
    cell = declared(text, parameter="gap", lowest=2.0, highest=6.0)
    states = programmed(engine, tile(cell), CONDUCTANCES)["states"]
    np.testing.assert_allclose(states, -1 - np.log10(CONDUCTANCES), rtol=1e-9)
    check(engine, tile(cell))


def test_a_state_of_nanometres(engine):
    text = ".subckt own p n gap=1e-9\nGown p n p n {1e-3*exp(-gap/0.25e-9)}\n.ends\n"
    cell = declared(text, parameter="gap", lowest=0.2e-9, highest=1.7e-9)
    states = programmed(engine, tile(cell), CONDUCTANCES)["states"]
    np.testing.assert_allclose(states, -0.25e-9 * np.log(CONDUCTANCES / 1e-3), rtol=1e-9)
    check(engine, tile(cell))


def test_a_state_whose_lowest_conducts_nothing(engine):
    """I = 1e-4 S x V over the default range, 0 to 1: the simplest cell there is."""
    text = ".subckt own p n x=0\nGown p n p n {1.5e-4*x}\n.ends\n"
    cell = declared(text, parameter="x")
    states = programmed(engine, tile(cell), CONDUCTANCES)["states"]
    np.testing.assert_allclose(states, CONDUCTANCES / 1.5e-4, rtol=1e-9)
    check(engine, tile(cell))


def test_a_steep_state_is_found(engine):
    """Ten decades, nearly all of them in the last tenth of the range."""
    text = ".subckt own p n x=0\nGown p n p n {1e-13*10^(10*x^20)}\n.ends\n"
    cell = declared(text, parameter="x")
    states = programmed(engine, tile(cell), CONDUCTANCES)["states"]
    np.testing.assert_allclose(1e-13 * 10 ** (10 * states**20), CONDUCTANCES, rtol=1e-8)


def test_a_conductance_in_a_gap_of_the_states_is_refused(engine):
    """It jumps from 1 uS to 100 uS at 0.5: nothing in between can be programmed, and silence would be a lie."""
    text = ".subckt own p n x=0\nBown p n I=V(p,n)*(1e-6+9.9e-5*u({x}-0.5))\n.ends\n"
    with pytest.raises(InputError):
        programmed(engine, tile(declared(text, parameter="x")), np.full((2, 3), 1e-5))


def test_a_state_is_found_at_the_reference_voltage(engine):
    text = ".subckt own p n x=0.5\nBown p n I=1e-4*({x})*sinh(4*V(p,n))/4\n.ends\n"
    spec = tile(declared(text, parameter="x", lowest=0.01), reference_voltage=0.5)
    states = programmed(engine, spec, CONDUCTANCES)["states"]
    np.testing.assert_allclose(states, CONDUCTANCES / 1e-4 * 2 / np.sinh(2), rtol=1e-8)
    found = cell_conductances(engine, spec, np.array([0.2, 0.9]))
    np.testing.assert_allclose(found, np.array([2e-5, 9e-5]) * np.sinh(2) / 2, rtol=1e-8)


@pytest.mark.parametrize("asked", [1e-9, 1e-2, 0.0])
def test_a_conductance_out_of_range_is_refused(asked, engine):
    text = ".subckt own p n x=0.5\nGown p n p n {1e-4*x}\n.ends\n"
    spec = tile(declared(text, parameter="x", lowest=0.01))
    given = CONDUCTANCES.copy()
    given[1, 2] = asked
    with pytest.raises(InputError, match="no state of own has"):
        programmed(engine, spec, given)


def users_vteam() -> SubcircuitCell:
    text = read_model("vteam").replace("vteam", "mine")
    parameters = {"r_on": 2e3, "r_off": 2e5, "rate_on": 216.2 / 3e-9, "rate_off": 0.091 / 3e-9}
    return declared(text, "mine", ("row", "column", "state"), parameters, raised_by="negative")


def test_a_pin_that_is_the_state(engine):
    spec = tile(users_vteam())
    states = programmed(engine, spec, CONDUCTANCES)["states"]
    np.testing.assert_allclose(states, (1 / CONDUCTANCES - 2e3) / 198e3, rtol=1e-9)
    check(engine, spec)
    assert raising_sign(spec) == -1


def test_a_users_cell_is_written_as_the_built_in_one(measure):
    built_in = tile(users_vteam()).replace(cell=Vteam(on_resistance=2e3, off_resistance=2e5))
    plan = WritePlan(raising=1.7, lowering=0.5, width=1e-9, pulses=4, targets=1)
    ours, theirs = (measure(plan, spec, SPAN, 2) for spec in (built_in, tile(users_vteam())))
    assert ours["pulses"] > 0
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-5, atol=1e-12, err_msg=name)


GROUNDED = """* a third of the current goes to ground, as through a shunt at the row
.subckt own p n gnd_pin g=1e-6
Gown p n p n {g}
Gleak p gnd_pin p gnd_pin {g/2}
.ends own
"""


def test_a_pin_at_ground(engine):
    cell = declared(GROUNDED, pins=("row", "column", "ground"), parameter="g", quantity="conductance")

    def of_cell(network, g, i, j, u, v):
        network.conductor(u, v, g)
        network.conductor(u, "ground", g / 2)

    check(engine, tile(cell), of_cell)


def test_a_ground_that_was_not_declared_is_found_out(engine):
    text = GROUNDED.replace(" gnd_pin g=", " g=").replace("gnd_pin", "0")
    with pytest.raises(KirchhoffError):
        check(engine, tile(declared(text, parameter="g", quantity="conductance")))


def test_experiments_run_on_it(measure):
    cell = declared(SINH, pins=("column", "row"), parameters={"a": 5.0}, parameter="g", quantity="conductance")
    spec = TileSpec(rows=2, cols=2, cell=cell)
    iv = measure(IvPlan(voltage=0.5, points=5, cells=2), spec, SPAN)
    np.testing.assert_allclose(iv["currents"], np.outer(SPAN, np.sinh(5 * iv["voltages"][0]) / 5), rtol=1e-9)
    read = measure(ReadPlan(tiles=1, vectors=1), spec, SPAN)
    expected = (np.sinh(5 * read["voltages"])[..., None] / 5 * read["conductances"][:, None]).sum(axis=2)
    np.testing.assert_allclose(read["currents"], expected, rtol=1e-7, atol=1e-16)
    assert "column_error" not in read


# --- files ------------------------------------------------------------------------------------------------------

TOML = 'pins = ["row", "column"]\nstate = {parameter = "g", quantity = "conductance"}\n'
OWN = ".subckt own p n g=1e-6\nGown p n p n {g}\n.ends own\n"


def from_files(tmp_path, text: str = OWN, toml: str | None = TOML, **keys) -> SubcircuitCell:
    (tmp_path / "own.sub").write_text(text)
    if toml is not None:
        (tmp_path / "own.toml").write_text(toml)
    return SubcircuitCell(file=str(tmp_path / "own.sub"), **keys)


def test_a_file_and_its_declaration(tmp_path, engine):
    cell = from_files(tmp_path)
    assert cell.subcircuit == "own"
    assert cell.text == OWN
    check(engine, tile(cell))
    again = SubcircuitCell(**cell.as_dict())
    assert again == cell


def test_a_path_begins_where_the_campaign_is(tmp_path):
    from_files(tmp_path)
    (tmp_path / "plan.toml").write_text('rows = 2\ncols = 2\n[cell]\nmodel = "subcircuit"\nfile = "own.sub"\n')
    spec = TileSpec.load_toml(tmp_path / "plan.toml")
    assert isinstance(spec.cell, SubcircuitCell)
    assert spec.cell.text == OWN


@pytest.mark.parametrize(
    "text",
    [
        ".subckt own p n\n+ g=1e-6\nGown p n p n {g}\n.ends own\n",
        ".subckt own\n+ p n g=1e-6\nGown p n p n {g}\n.ends own\n",
        ".subckt own p\n+ n\n+ g=1e-6\nGown p n p n {g}\n.ends own\n",
        ".subckt own p n g = 1e-6\nGown p n p n {g}\n.ends own\n",
        ".subckt own p n params: g=1e-6\nGown p n p n {g}\n.ends own\n",
        ".SUBCKT OWN p n g=1e-6 $ a comment\nGown p n p n {g}\n.ends own\n",
        ".subckt own p n g=1e-6 ; another\nGown p n p n {g}\n.ends own\n",
    ],
    ids=["continued", "continued at once", "pins continued", "blanks", "params", "dollar", "semicolon"],
)
def test_lines_that_ngspice_reads_are_read(text, tmp_path, engine):
    check(engine, tile(from_files(tmp_path, text)))


@pytest.mark.parametrize(
    ("text", "toml", "message"),
    [
        (OWN, None, "declaration of the cell's pins and state cannot be read"),
        (OWN, "pins = [", "TOML syntax"),
        (OWN, 'pins = ["row", "column", "ground"]\nstate = {parameter = "g"}\n', "another number of pins"),
        (OWN, 'subcircuit = "other"\nstate = {parameter = "g"}\n', "no such subcircuit"),
        ("* nothing\n", TOML, "no such subcircuit"),
        (OWN, 'pins = ["row", "row"]\nstate = {parameter = "g"}\n', "this pin once"),
        (OWN, 'pins = ["row", "gate"]\nstate = {parameter = "g"}\n', "gate"),
        (OWN, "state = {}\n", "parameter or through its pin"),
        (OWN, 'pins = ["row", "column", "state"]\nstate = {parameter = "g"}\n', "parameter or through its pin"),
        (OWN, 'pins = ["row", "column", "state", "state"]\nstate = {}\n', "one state"),
        (OWN, 'state = {parameter = "g", lowest = 1.0, highest = 1.0}\n', "impossible range"),
        (OWN, 'pins = ["row", "column"]\n', "state"),
        (OWN, TOML + "colour = 1\n", "colour"),
    ],
)
def test_files_that_do_not_fit_are_refused(text, toml, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        from_files(tmp_path, text, toml)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.sub"):
        SubcircuitCell(file=str(tmp_path / "nowhere.sub"))


# --- elsewhere --------------------------------------------------------------------------------------------------


def test_torch_rungs_refuse_it(tmp_path, engine):
    spec = tile(from_files(tmp_path))
    for rung in (IdealTile, NodalTile):
        with pytest.raises(NotAvailable, match="subcircuit cells"):
            rung(spec).program(torch.as_tensor(CONDUCTANCES))
    found = SpiceTile(spec, engine).program(torch.as_tensor(CONDUCTANCES))(torch.as_tensor(VOLTAGES))
    np.testing.assert_allclose(found, column_currents(CONDUCTANCES, VOLTAGES, **WIRES), rtol=1e-8, atol=1e-13)


def test_a_deck_does_not_guess_a_state():
    cell = declared(".subckt own p n x=0\nGown p n p n {x}\n.ends\n", parameter="x")
    with pytest.raises(NotAvailable, match="measuring"):
        tile_deck(tile(cell), CONDUCTANCES)


@pytest.mark.parametrize("pins", [("row", "column"), ("row", "column", "state")])
def test_a_state_that_does_not_move_is_known(pins):
    text = f".subckt own p n {'x' if 'state' in pins else 'g=1'}\nRown p n 1\n.ends\n"
    if "state" in pins:
        assert raising_sign(tile(declared(text, pins=pins))) == 1
        return
    with pytest.raises(ConfigError, match="no state that moves"):
        raising_sign(tile(declared(text, pins=pins, parameter="g")))
