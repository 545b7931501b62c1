import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.errors import DeckError, InputError
from mdls_cosim.spice import Deck
from mdls_cosim.spice.netlist import statements

DIVIDER = ("Vin in 0 0", "Rtop in out 1000", "Vsense out 0 0")


def divider(**changes) -> Deck:
    values = {
        "title": "divider",
        "elements": DIVIDER,
        "sources": ("Vin",),
        "probes": ("i(vsense)", "v(in)"),
        "balance": ("Vin", "i(vsense)"),
    }
    return Deck(**(values | changes))


def test_the_order_of_the_elements_does_not_matter():
    assert divider(elements=DIVIDER[::-1]) == divider()
    assert divider(elements=DIVIDER[::-1]).circuit_text(klu=True) == divider().circuit_text(klu=True)
    assert divider(elements=DIVIDER[::-1]).hash == divider().hash


def test_rows_sort_as_one_counts():
    elements = (*DIVIDER, "Rrow10_0 in out 1", "Rrow9_0 in out 1")
    names = [line.split()[0] for line in divider(elements=elements).elements]
    assert names == ["Rrow9_0", "Rrow10_0", "Rtop", "Vin", "Vsense"]


@pytest.mark.parametrize(
    "changes",
    [
        {"elements": (*DIVIDER[:1], "Rtop in out 1001", *DIVIDER[2:])},
        {"temperature": 301.0},
        {"probes": ("i(vsense)",)},
        {"balance": ()},
        {"models": ("sinh",)},
    ],
)
def test_whatever_decides_the_result_changes_the_hash(changes):
    assert divider(**changes).hash != divider().hash
    assert re.fullmatch("sha256:[0-9a-f]{64}", divider().hash)


def test_the_text_holds_models_tolerances_and_temperature():
    elements = (*DIVIDER, "Xcell in out sinh conductance=1e-6 nonlinearity=3")
    text = divider(elements=elements, models=("sinh",), temperature=310.0).circuit_text(klu=True)
    assert text.startswith("* divider\n")
    assert text.endswith(".end\n")
    assert ".subckt sinh p n" in text
    assert ".options reltol=1e-9 vntol=1e-15 abstol=1e-18 gmin=1e-15 klu" in text
    assert "temp=36.85" in text
    assert "rshunt" not in text
    assert "klu" not in divider().circuit_text(klu=False)


OWN_MODEL = """* a user's own cell, and a diode model
.model junction d(is=1e-12)
.subckt own p n r=1000
+ unused=1
Rcell p middle {r}
Dcell middle n junction
.ends own
"""


def test_a_model_may_be_a_text_of_its_own():
    elements = (*DIVIDER, "Xcell in out own r=5")
    deck = divider(elements=elements, models=(OWN_MODEL, "sinh"))
    assert "\n".join(each.text for each in statements(OWN_MODEL, "")) in deck.circuit_text(klu=True)
    assert ".subckt sinh" in deck.circuit_text(klu=True)
    assert deck.hash != divider(elements=elements, models=(OWN_MODEL.replace("1000", "1001"), "sinh")).hash


def test_capacitors_may_have_an_initial_voltage():
    elements = (*DIVIDER, "Ca in out 1p", "Cb in out 2e-15 ic=0.5", "Cc in 0 3f IC = -1", "Cd out 0 1")
    expected = [[1e-12, 0], [2e-15, 0], [3e-15, 1], [1, 1]]
    np.testing.assert_allclose(divider(elements=elements).capacitors, expected, rtol=1e-15)


def test_a_compiled_model_belongs_to_the_hash_by_its_content(tmp_path: Path):
    file = tmp_path / "cell.osdi"
    file.write_bytes(b"one")
    first = divider(osdi=(str(file),))
    assert first.hash != divider().hash
    assert f"pre_osdi {file}" in first.standalone(np.ones((1, 1)))
    file.write_bytes(b"two")
    assert divider(osdi=(str(file),)).hash != first.hash


def test_a_path_that_ngspice_would_cut_is_refused(tmp_path: Path):
    file = tmp_path / "two words.osdi"
    file.write_bytes(b"")
    with pytest.raises(DeckError, match="blanks"):
        divider(osdi=(str(file),))


def test_names_are_read_as_ngspice_spells_them():
    deck = divider(probes=("I(Vsense)", "V( IN )"), balance=("Vin", "vsense"))
    assert deck.probes == ("i(vsense)", "v(in)")
    assert deck.balance == ("i(vin)", "i(vsense)")


def test_the_current_into_ground_has_a_sign():
    deck = divider(elements=("Vin in 0 0", "Rtop in out 1000", "Vsense 0 out 0"))
    assert (deck.ground_sign("i(vin)"), deck.ground_sign("i(vsense)")) == (1, -1)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Rzero in out 0", "positive number of ohms"),
        ("Rzero in out 0.0k", "positive number of ohms"),
        ("Rminus in out -5", "positive number of ohms"),
        ("Rless in out", "positive number of ohms"),
        ("Rexpression in out {x}", "positive number of ohms"),
        ("Rinfinite in out inf", "positive number of ohms"),
        ("Rnan in out nan", "positive number of ohms"),
        ("Vnan in 0 nan", "not finite"),
        ("Bcell in out i=nan*v(in,out)", "not finite"),
        ("Bcell in out i=-inf*v(in,out)", "not finite"),
        ("Xcell in out sinh conductance=inf", "not finite"),
        ("Iover in out 1e999", "not finite"),
        (".include /etc/passwd", "not an element"),
        (".control", "not an element"),
        (".options rshunt = 1", "not an element"),
        ("quit 0 0 0", "not an element"),
        ("shell rm file", "not an element"),
        ("* a comment line", "not an element"),
        ("+ out 1000 continued", "not an element"),
        ("Ra in out 1 ; comment", "not an element"),
        ("quit", "not an element"),
        ("", "not an element"),
        ("Ra in out 1\nquit", "one line of printable ASCII"),
        ("Ra in out 1\r.control", "one line of printable ASCII"),
        ("Ra in out 1µ", "one line of printable ASCII"),
        ("Rmdls_1 in out 1", "the engine's own"),
        ("rTOP in out 5", "two elements of one name"),
        ("Czero in out 0", "positive number of farads"),
        ("Cminus in out -1p", "positive number of farads"),
        ("Cless in out", "positive number of farads"),
        ("Cexpression in out {c}", "positive number of farads"),
        ("Cmodel in out 1p m=2", "positive number of farads"),
        ("Cinfinite in out inf", "positive number of farads"),
        ("Cstart in out 1p ic=", "positive number of farads"),
        ("Cstart in out 1p ic={v}", "positive number of farads"),
        ("Cstart in out 1p ic=1 ic=2", "positive number of farads"),
    ],
)
def test_a_bad_element_is_refused_by_name(line: str, says: str):
    with pytest.raises(DeckError, match=says) as caught:
        divider(elements=(*DIVIDER, line))
    assert "divider" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"title": ""}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"elements": ()}, "without elements"),
        ({"elements": "Ra in out 1"}, "sequence of strings"),
        ({"sources": ("Vother",)}, "driven source"),
        ({"sources": ("Rtop",)}, "driven source"),
        ({"elements": ("Vin in 0 1", *DIVIDER[1:])}, "driven source"),
        ({"sources": ("Vin", "VIN")}, "given twice"),
        ({"probes": ("i(rtop)",)}, "nothing of that name"),
        ({"probes": ("i(vother)",)}, "nothing of that name"),
        ({"probes": ("v(nowhere)",)}, "nothing of that name"),
        ({"probes": ("out",)}, "not a vector"),
        ({"probes": ("v(in)", "V(in)")}, "given twice"),
        ({"balance": ("vother",)}, "nothing of that name"),
        ({"elements": (*DIVIDER, "Vfloat in out 0"), "balance": ("vfloat",)}, "terminal at ground"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"models": ("no_such_model",)}, "no such SPICE model"),
        ({"models": "sinh"}, "sequence of strings"),
        ({"models": (".subckt a p n\n.include other.sub\n.ends\n",)}, "runs alone"),
        ({"models": (".lib 'corners.lib' tt\n.subckt a p n\nRa p n 1\n.ends\n",)}, "wants another file"),
        ({"models": (".subckt a p n\n.control\nquit\n.endc\n.ends\n",)}, "none of a model"),
        ({"models": (".subckt a p n\n*# quit\n.ends\n",)}, "none of a model"),
        ({"models": (".options rshunt=1\n.subckt a p n\n.ends\n",)}, "none of a model"),
        ({"models": (".end\n.subckt a p n\n.ends\n",)}, "none of a model"),
        ({"models": ("Rextra in 0 1\n.subckt a p n\n.ends\n",)}, "outside of every subcircuit"),
        ({"models": (".subckt a p n\nRa p n 1\n",)}, "without .ends"),
        ({"models": (".subckt a p n\nRa p n 1\n.ends\n.ends\n",)}, "ends what has not begun"),
        ({"models": (".subckt a p n\nRmdls_1 p n 1\n.ends\n",)}, "the engine's own"),
        ({"models": (".subckt\n.ends\n",)}, "without a name"),
        ({"models": ("sinh", ".subckt SINH p n\nRa p n 1\n.ends\n")}, "two models of one name"),
        ({"osdi": ("no_such_file.osdi",)}, "no compiled Verilog-A model"),
        ({"osdi": "no_such_file.osdi"}, "sequence of strings"),
    ],
)
def test_a_bad_deck_is_refused(changes: dict, says: str):
    with pytest.raises(DeckError, match=says):
        divider(**changes)


@pytest.mark.parametrize("values", [[[float("nan")]], [[float("inf")]], [1.0], [[1.0, 2.0]], np.zeros((0, 1))], ids=str)
def test_values_that_are_no_values_are_refused(values):
    with pytest.raises(InputError, match="divider"):
        divider().standalone(np.asarray(values))


def test_a_deck_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        divider().title = "other"  # pyright: ignore[reportAttributeAccessIssue]
    assert len({divider(), divider()}) == 1


@pytest.mark.ngspice
def test_a_deck_runs_alone_in_plain_ngspice(tmp_path: Path, engine, sinh_tile):
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("there is no ngspice program, only the library")
    deck = sinh_tile(3)
    values = np.array([[0.3, -0.2, 0.0], [0.1, 0.25, -0.3]])
    file = tmp_path / "tile.cir"
    file.write_text(deck.standalone(values))
    done = subprocess.run([program, "-b", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"^(i\(vcol\d\)) = (\S+)$", done.stdout, re.MULTILINE)
    assert [name for name, _ in printed] == ["i(vcol0)", "i(vcol1)", "i(vcol2)"] * 2
    assert all(len(re.sub(r"e.*|\D", "", number)) >= 12 for _, number in printed)
    # Two solutions to reltol 1e-9, and ngspice's own expansion of the cells rounds their numbers to 12 digits.
    expected = engine.run(deck, values).values
    found = np.reshape([float(number) for _, number in printed], (2, 3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
