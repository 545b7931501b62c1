from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mdls_cosim.spice import Deck, NgspiceEngine, strategy
from mdls_cosim.spice.dialect import RESERVED_NAMES
from mdls_cosim.spice.flatten import flattened

CASES = Path(__file__).parents[2] / "cases" / "circuit"

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
        "b.xa.bfirst left xa.inner i=0.004*tanh(v(left,xa.inner)-(-4.0)*v(0)) + 0",
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
        "Bcell p n i={1if g else 2}*v(p,n)",
        "Bcell p n i={g(g)}*v(p,n)",
        "Bcell p n i={2(g)}*v(p,n)",
        "Bcell p n i={()}*v(p,n)",
        "Bcell p n i={1e999}*v(p,n)",
        "Bcell p n i={g+1}*v(p,n)",
        "Bcell p n i=2*{g+1}",
        "Bcell p n i=2-{g-1}",
        "Bcell p n i=2/{g*3}",
        "Bcell p n i={g*3}^2",
        "Bcell p n i={-g}**2",
        "Bcell p n i=2{g}",
        "Bcell p n i={g}v(p,n)",
        "Bcell p n i=v(p,n){g}",
    ],
)
def test_a_subcircuit_that_is_not_simple_is_left_to_ngspice(body: str):
    model = f".subckt cell p n g=1\n{body}\n.ends\n"
    assert flattened(["Xa left right cell g=2"], (model,)) == ["Xa left right cell g=2"]


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_parameter_of_a_name_of_ngspice_is_left_to_ngspice(name: str):
    model = f".subckt cell p n {name}=1\nBcell p n i={{{name}}}*v(p,n)\n.ends\n"
    assert flattened([f"Xa left right cell {name}=2"], (model,)) == [f"Xa left right cell {name}=2"]


@pytest.mark.parametrize("number", ["2mil", "2mils", "2_000"])
def test_numbers_that_a_parameter_reads_otherwise_are_left_to_ngspice(number: str):
    """Of a parameter 2mil is 2m, of a resistor it is 50.8u; 2_000 is no number."""
    assert flattened([f"Xa left right sinh conductance={number}"], ("sinh",))[0].startswith("Xa ")
    model = f".subckt cell p n w={number}\nBcell p n i={{w}}*v(p,n)\n.ends\n"
    assert flattened(["Xa left right cell"], (model,)) == ["Xa left right cell"]


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("{a}^2", "(-0.4)^2"),
        ("{a}**{b}", "(-0.4)**3.0"),
        ("2-{a}", "2-(-0.4)"),
        ("({a-b})*2", "((-3.4))*2"),
        ("{a-b}+{a*b}-{a/b}", "(-3.4)+(-1.2000000000000002)-(-0.13333333333333333)"),
        ("exp({a-b})", "exp((-3.4))"),
        ("max({a-b},{-b})", "max((-3.4),(-3.0))"),
        ("v(p)*{b*2k}", "v(x)*6000.0"),
        ("v(p)>{a+b}?{-a}:{a}", "v(x)>2.6?0.4:(-0.4)"),
        ("{(a-b)}*{b}", "(-3.4)*3.0"),
    ],
)
def test_values_are_written_where_they_mean_what_the_text_means(expression: str, written: str):
    model = f".subckt cell p n a=1 b=1\nBcell p n i={expression}\n.ends\n"
    (line,) = flattened(["Xc x 0 cell a=-0.4 b=3"], (model,))
    assert line == f"b.xc.bcell x 0 i={written}"


@pytest.mark.ngspice
def test_ngspice_solves_the_written_elements_as_it_solves_the_subcircuit(engine, monkeypatch: pytest.MonkeyPatch):
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


# --- against ngspice's own expansion ----------------------------------------------------------------------------

VALUES = {"a": -0.4, "b": 3.0, "c": 0.25, "d": -1.5, "f": 5.0}


def inside(depth: int):
    """Arithmetic of parameters, as it stands in braces; divisors are not zero."""
    atom = some.sampled_from([*VALUES, "2", "0.5", "10m", "3e-1"])
    if depth == 0:
        return atom
    part = inside(depth - 1)
    return some.one_of(
        atom,
        some.tuples(part, some.sampled_from("+-*"), part).map("".join),
        some.tuples(part, some.sampled_from([" + ", " - ", "*"]), some.sampled_from("-+"), atom).map("".join),
        some.tuples(part, some.just("/"), some.sampled_from([*VALUES, "2"])).map("".join),
        part.map("-{}".format),
        part.map("({})".format),
    )


def source(depth: int):
    """The expression of a B source, with voltages and braces; finite for voltages below 1 V."""
    atom = some.one_of(
        some.sampled_from(["v(p,n)", "V(p)", "2", "0.1", "1m", "0.3"]),
        inside(2).map("{{{}}}".format),
        some.sampled_from(list(VALUES)).map("{{{}}}".format),
    )
    if depth == 0:
        return atom
    part = source(depth - 1)
    return some.one_of(
        some.tuples(part, some.sampled_from(["+", "-", "*", " - ", "*-", "+-"]), part).map("".join),
        some.tuples(part, some.sampled_from(["/", "*"]), some.sampled_from(["{a}", "{b}", "{-a}", "2"])).map("".join),
        some.tuples(atom, some.sampled_from(["^2", "**2", "^3", "**1", "^{b}"])).map("".join),
        some.tuples(some.sampled_from(["tanh", "abs", "atan", "-"]), part).map("{0[0]}({0[1]})".format),
        some.tuples(part, some.sampled_from("<>"), part, part, part).map(
            "({0[0]}{0[1]}{0[2]} ? {0[3]} : {0[4]})".format
        ),
        some.tuples(some.sampled_from(["min", "max"]), part, part).map("{0[0]}({0[1]},{0[2]})".format),
        part.map("-{}".format),
        part.map("({})".format),
    )


@pytest.fixture(scope="module")
def shared_engine():
    with NgspiceEngine() as engine:
        yield engine


@pytest.mark.ngspice
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(expressions=some.lists(source(2), min_size=40, max_size=40))
def test_written_text_means_what_ngspice_expands(expressions: list[str], shared_engine, monkeypatch):
    """Forty cells in one circuit, each with a source of its own; solved both ways."""
    parameters = " ".join(f"{name}={value}" for name, value in VALUES.items())
    models = "".join(
        f".subckt c{k} p n a=1 b=1 c=1 d=1 f=1\nBx p n I=1u*({each})\n.ends\n" for k, each in enumerate(expressions)
    )
    elements = ["Vin in 0 0"]
    for k in range(len(expressions)):
        elements += [f"Vs{k} in s{k} 0", f"Xc{k} s{k} 0 c{k} {parameters}"]
    probes = tuple(f"i(vs{k})" for k in range(len(expressions)))
    deck = Deck("expressions", tuple(elements), models=(models,), sources=("Vin",), probes=probes)
    values = np.array([[0.3], [-0.7]])
    ours = shared_engine.run(deck, values).values
    with monkeypatch.context() as patch:
        patch.setattr(strategy, "flattened", lambda lines, _models: list(lines))
        theirs = shared_engine.run(deck, values).values
    for k, expression in enumerate(expressions):
        scale = max(1e-9, np.abs(theirs[:, k]).max())
        np.testing.assert_allclose(ours[:, k], theirs[:, k], rtol=0, atol=1e-8 * scale, err_msg=expression)


@pytest.mark.ngspice
def test_a_negative_parameter_is_squared_with_its_sign(shared_engine):
    """I = g V (1 + a V + a^2 V^2), a = -0.4, g = 20 uS: 13.8528 uA at 0.9 V."""
    text = (CASES / "19-negative-power.sub").read_text()
    deck = Deck("cubic", ("Vin in 0 0", "Xa in 0 poly"), models=(text,), sources=("Vin",), probes=("i(vin)",))
    assert flattened(["Xa in 0 poly"], (text,)) != ["Xa in 0 poly"]
    found = shared_engine.run(deck, np.array([[0.9]])).values[0, 0]
    assert found == pytest.approx(-20e-6 * 0.9 * (1 - 0.4 * 0.9 + 0.16 * 0.81), rel=1e-9)
    assert found == pytest.approx(-13.8528e-6, rel=1e-6)
