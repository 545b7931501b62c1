import pytest

from mdls_cosim.spice.flatten import flattened

SINH = "Xcell row col sinh conductance=2e-5 nonlinearity=4"

TWO = """* two sources and a net of their own
.subckt two p n gain=2 level=1k
Bfirst p inner I={gain/level}*tanh(V(p,inner)-{-gain}*v(n)) + 0
Gsecond inner n p 0 {2*(gain+1)}
.ends two
"""


def test_a_cell_of_the_library_is_written_with_its_own_numbers():
    (line,) = flattened([SINH], ("sinh",))
    assert line == "b.xcell.bcell row col i=5e-06*sinh(4.0*v(row,col))"


def test_pins_inner_nets_ground_and_defaults_find_their_places():
    (text,) = flattened(["Xa left 0 two GAIN=4"], (TWO,))
    assert text.splitlines() == [
        "b.xa.bfirst left xa.inner i=0.004*tanh(v(left,xa.inner)--4.0*v(0)) + 0",
        "g.xa.gsecond xa.inner 0 left 0 10.0",
    ]


def test_other_elements_stay_in_their_places():
    lines = ["Ra row col 5", SINH, "Vb row 0 1"]
    assert flattened(lines, ("sinh",))[::2] == lines[::2]
    assert flattened(lines, ()) == lines


@pytest.mark.parametrize(
    "call",
    ["Xcell row sinh conductance=1", "Xcell a b sinh other=1", "Xcell a b sinh conductance={x}", "Xcell a b other"],
)
def test_a_call_that_is_not_understood_is_left_to_ngspice(call: str):
    assert flattened([call], ("sinh",)) == [call]


@pytest.mark.parametrize(
    "body",
    [
        "Rcell p n {g}",
        "Bcell p n i=g*v(p,n)",
        "Bcell p n i={g}*v(p,n)*time",
        "Bcell p n i={g}*i(vsense)",
        "Bcell p n i={sqrt(g)}*v(p,n)",
        "Bcell p n i={g**2}*v(p,n)",
        "Bcell p n i={missing}*v(p,n)",
        "Bcell p n i={g*}*v(p,n)",
        "Bcell p n i={{g}}*v(p,n)",
        "Bcell p n",
        "Gcell p n p n {g} m=2",
        "Xinner p n sinh",
        ".model d d\nDcell p n d",
        "Bcell p n i={__import__('os')}",
    ],
)
def test_a_subcircuit_that_is_not_simple_is_left_to_ngspice(body: str):
    model = f".subckt cell p n g=1\n{body}\n.ends\n"
    assert flattened(["Xa left right cell g=2"], (model,)) == ["Xa left right cell g=2"]


@pytest.mark.ngspice
def test_ngspice_solves_the_written_elements_as_it_solves_the_subcircuit(engine, monkeypatch: pytest.MonkeyPatch):
    import numpy as np

    from mdls_cosim.spice import Deck, strategy

    deck = Deck(
        "two",
        ("Vin in 0 0", "Ra in a 10", "Xa a b two gain=0.5 level=300", "Rb b 0 20"),
        models=(TWO.replace("{2*(gain+1)}", "{gain/100000}"),),
        sources=("Vin",),
        probes=("i(vin)", "v(b)"),
    )
    values = np.array([[0.3], [-0.7], [2.0]])
    written = engine.run(deck, values).values
    monkeypatch.setattr(strategy, "flattened", lambda elements, _models: list(elements))
    expanded = engine.run(deck, values).values
    np.testing.assert_allclose(written, expanded, rtol=1e-9)
    assert np.abs(expanded).min() > 1e-6
