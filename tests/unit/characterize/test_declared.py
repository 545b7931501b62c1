"""The declared conductance or resistance of users' cells is measured before a campaign."""

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.characterize import Characterization, IvPlan, ReadPlan, characterize
from mdls_cosim.errors import InputError
from mdls_cosim.tiles import StateDeclaration, SubcircuitCell, TileSpec

pytestmark = pytest.mark.ngspice

CASES = Path(__file__).parents[2] / "cases/circuit"


def campaign(text: str, reference: float = 0.0, voltage: float = 0.3, **state) -> Characterization:
    declared = StateDeclaration(**({"parameter": "g", "quantity": "conductance"} | state))
    cell = SubcircuitCell(subcircuit="own", text=f".subckt own {text}\n.ends\n", state=declared)
    tile = TileSpec(rows=1, cols=1, cell=cell, reference_voltage=reference)
    plan = IvPlan(voltage=voltage, points=3, cells=2)
    return Characterization(tile=tile, conductance_range=(1e-5, 1e-4), iv=plan)


def test_a_resistance_that_is_only_an_initial_state_is_refused(engine):
    """Programmed to 100 uS ... 5 mS every cell reads 62.5 uS, the leak's resting state."""
    with pytest.raises(InputError) as caught:
        characterize(Characterization.load_toml(CASES / "03b-tile.toml"), engine=engine)
    message = str(caught.value)
    assert "the resistance of leaky does not set its I/V" in message
    assert message.count("6.25e-05 and 6.25e-05 S") == 2
    assert "0.0001 and 0.005 S" in message
    assert "rinit" in message
    assert "no effect" in message
    assert 'a pin "state"' in message
    assert len(message) <= 300


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("p n g=1 h=2e-5\nGown p n p n {h}", {}),  # another parameter
        ("p n g=1\nGown p n p n {2*g}", {}),
        ("p n g=1\nGown p n p n {min(g,5e-5)}", {}),  # limited within the range
        ("p n g=1\nGown p n p n {1e-5+g}", {}),  # a leak beside it
        ("p n g=1\nGown p n p n {1/g}", {}),  # the other quantity
        ("p n r=1\nRown p n {1k*r}", {"quantity": "resistance", "parameter": "r"}),  # in kilohms
        ("p n g=1\nGown p n p n {g+(g-1e-5)*(1e-4-g)*1e5}", {}),  # right at both ends only
        ("p n g=1\nGown p n p n {g>1.2e-5 && g<8e-5 ? 3e-5 : g}", {}),  # a plateau between the ends
        ("p n g=1\nGown n p p n {g}", {}),  # the other sign
        ("p n g=1\nGown p n p n 2e-5", {"of": "part"}),  # no effect
        ("p n g=1\nRown p n {1e9*g}", {"of": "part"}),  # the other quantity
        ("p n g=1\nGown p n p n {max(g,9e-5)}", {"of": "part"}),  # no effect in most of the range
        ("p n g=1\nBown p n i={g}*pwr(V(p,n),3)", {}),  # nothing at the reference voltage of 0 V
    ],
)
def test_a_parameter_that_does_not_set_the_current_is_refused(text, state, engine):
    with pytest.raises(InputError, match="does not set its I/V"):
        characterize(campaign(text, **state), engine=engine)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("p n g=1\nGown p n p n {g}", {}),
        ("p n r=1\nRown p n {r}", {"parameter": "r", "quantity": "resistance"}),
        ("p n g=1\nBown p n i={g}/5*sinh(5*V(p,n))", {}),  # in the small-signal limit
        ("p n g=1\nBown p n i={g}*sinh(5*V(p,n))/sinh(1)*0.2", {"reference": 0.2}),  # at the reference voltage
        ("p n g=1\nBown p n i={g}*V(p,n)*V(p,n)/0.3", {}),  # at the largest voltage of the experiment
        ("p n g=1\nBown p n i={g}*min(V(p,n),0)", {}),  # of one polarity
        ("p n r=1\nRon p m {r}\nRoff m n 1g", {"parameter": "r", "quantity": "resistance", "of": "part"}),
    ],
)
def test_a_parameter_that_sets_it_at_a_voltage_that_is_used_is_taken(text, more, engine):
    dataset = characterize(campaign(text, **more), engine=engine)
    assert np.isfinite(dataset.experiments["iv"]["currents"].values).all()


def test_the_switched_cell_is_taken_at_the_voltage_that_closes_its_switch(engine):
    spec = Characterization.load_toml(CASES / "06-tile.toml")
    characterize(spec, engine=engine)
    small = spec.replace(read=ReadPlan(voltage=0.1, tiles=1, vectors=1))
    with pytest.raises(InputError, match=r'of = "part"'):
        characterize(small, engine=engine)


def test_the_declaration_of_a_part_is_stored_only_where_it_is_made():
    assert "of" not in StateDeclaration(parameter="g", quantity="conductance").as_dict()
    part = StateDeclaration(parameter="g", quantity="conductance", of="part")
    assert StateDeclaration(**part.as_dict()) == part
