"""Forms of a circuit text: those that ngspice reads are read, those of other simulators are refused with a remedy."""

import pytest

from mdls_cosim.errors import DeckError
from mdls_cosim.spice.dialect import FUNCTION_NAMES, RESERVED_NAMES
from mdls_cosim.spice.library import definitions, model_text
from mdls_cosim.spice.netlist import headers


@pytest.mark.parametrize(
    "head",
    [
        ".subckt own p n g=1 h=2",
        ".SUBCKT OWN P N G=1 H=2",
        "\t.subckt\town\tp n\tg=1\th=2",
        ".subckt own p n g = 1 h= 2",
        ".subckt own p n params: g=1 h=2",
        ".subckt own p n PARAMS : g=1 h=2",
        ".subckt own (p n) g=1 h=2",
        ".subckt own p n\n+ g=1\n+h=2",
        ".subckt own p n\n\n* between\n  * indented\n\t+ g=1\n+ h=2",
        ".subckt own p n g=1 $ comment\n+ h=2 ; comment",
        ".subckt own p n g=1 // per cell\n+ h=2",
        ".subckt own p n g=1 h=2 // it's the user's",
        "# comment\n$ comment\n; comment\n.subckt own p n g=1 h=2",
        ".macro own p n g=1 h=2",
    ],
)
def test_headers_that_ngspice_reads(head: str):
    text = f"{head}\nGx p n p n {{g}}\n{'.eom' if 'macro' in head else '.ends'}\n"
    (found,) = headers(text, "test").values()
    assert (found.name, found.pins, found.defaults) == ("own", ("p", "n"), {"g": "1", "h": "2"})
    assert definitions(text, "test") == ("own",)
    lines = model_text(text).splitlines()
    assert [line.split()[0].lower() for line in lines] == [".subckt", "gx", ".ends"]


@pytest.mark.parametrize(
    ("default", "value"),
    [("'1 / r'", "1 / r"), ("{1 / r}", "1 / r"), ("-0.4", "-0.4"), ("20U", "20u"), ("{max(1,2)}", "max(1,2)")],
)
def test_defaults_that_ngspice_reads(default: str, value: str):
    (found,) = headers(f".subckt own p n r=1 g={default} h=3\n.ends\n", "test").values()
    assert found.defaults == {"r": "1", "g": value, "h": "3"}


@pytest.mark.parametrize("head", ["own p n g=", "own p n g=1 / r", "own p n g=1 h", "own p n g=1 g=2", "(p n)="])
def test_headers_that_are_none_are_refused(head: str):
    with pytest.raises(DeckError):
        definitions(f".subckt {head}\nRx p n 1\n.ends\n", "test")


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("Bx p n I=if(V(p)>0,1,2)", "condition ? a : b"),
        ("Bx p n I=IF (V(p)>0,1,2)", "condition ? a : b"),
        (".func f(x) {if(x>0,1,2)}", "condition ? a : b"),
        ("Gx p n value={if(V(p)>0,1,2)}", "condition ? a : b"),
        ("Bx p n I=table(V(p),0,0,1,1)", "pwl"),
        ("Bx p n I=limit(V(p),0,1)", "max(low, min(high, x))"),
        ("Bx p n I=uplim(V(p),1,0.1)", "min(x, limit)"),
        ("Bx p n I=dnlim(V(p),1,0.1)", "max(x, limit)"),
        ("Bx 0 q V=idt(V(p))", "pin state"),
        ("Bx 0 q V=sdt(V(p))", "pin state"),
        ("Bx p n I=pwrs(V(p),2)", "pwr(x, y)"),
        ("Bx p n I=stp(V(p))", "u(x)"),
        ("Bx p n I=int(V(p))", "nint"),
        ("Bx p n I=rand(time)", "seed"),
        ("Rx p n {agauss(1k,10,1)}", "seed"),
        ("Cx p n 1p Rser=1", "resistor in series"),
        ("Lx p n 1n Rpar = 1k", "resistor in parallel"),
        ("Vx p n 1 Rser=5", "resistor in series"),
        ("Rx p n 4k7", "4.7k"),
        (".param r=4k7", "4.7k"),
        (".ic V(p)=1", "Programming sets the state"),
        (".options reltol=1e-3", "sets its own options"),
        (".tran 1n 1u", "Experiments run the analyses"),
        (".step param r 1 2 1", "Sweep in the specification"),
        (".backanno", "Leave it out"),
        (".end", "Leave it out"),
        (".model sx vswitch(von=1 voff=0)", "sw(vt="),
        ("Bx p n I=g*V(p,n)**3", "pwr(x, 3)"),
        ("Bx p n I=g*V( p , n )^ 5", "x*x*x"),
        ("Bx p n I=1u*i(Vs)**3\nVs p n 0", "abs(x)"),
        ("Gx p n cur='g*pow(V(p,n),3)'", "pwr(x, 3)"),
        (".func f(x) {x*V(p,n)**1}", "pwr(x, 3)"),
        ("Rx p n g", "Write {g}"),
        (".param q=2\nCx p n Q", "Write {q}"),
        ("Rx p n 20\u00b5", "Write u for micro"),
        ("Rx p n 1k \\\\", "on the next"),
    ],
)
def test_other_simulators_are_told_what_to_write(line: str, remedy: str):
    with pytest.raises(DeckError) as caught:
        definitions(f".subckt own p n g=1\n{line}\n.ends\n", "test")
    assert remedy in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    "line",
    [
        "Bx p n I=V(p)>0 ? 1 : 2",
        "Bx p n I=V(p)**2+V(n)^2",
        "Bx p n I=V(p,n)**2+V(p,n)^12+V(x)**3+(1-V(x,n))^3+V(p,n)^{g}+V(p,n)**0.5+V(p,n)^3.5",
        "Bx p n I=pwr(V(p,n),3)+abs(V(p,n))**3+pow(V(p,n),2)",
        "Rx p n g\n.model g r(rsh=1)",
        "Bx 0 q I=ddt(V(p))",
        "Bx p n I=pwl(V(p),0,0,1,1)",
        ".func if(a,b,c) {a ? b : c}\nBx p n I=if(V(p),1,2)",
        ".func limit(x) {min(x,1)}\nBx p n I=limit(V(p))",
        "Rx p n {int(2.5)}",
        ".param pi=3.14159265 e={2.718281828}",
        "Mx p n 0 0 2n7002\n.model 2n7002 nmos(level=1)",
        "Dx p n 1n4148\n.model 1n4148 d(is=1e-14)",
        "Gx p n cur='g*V(p,n)'",
        "Gx p n value={max(-1,min(1,g*V(p,n)))}",
        "Ex q 0 table {V(p,n)} = (0,0) (1,1)",
        "Rx 4k7 n 1k",
    ],
)
def test_what_ngspice_reads_is_taken(line: str):
    assert definitions(f".subckt own p n g=1\n{line}\n.ends\n", "test") == ("own",)


@pytest.mark.parametrize("lines", [".if (g>0)\nRx p n 1", "Rx p n 1\n.endif", ".else\nRx p n 1\n.if (g)\n.endif"])
def test_branches_that_do_not_end_are_refused(lines: str):
    with pytest.raises(DeckError, match=r"an \.if without \.endif"):
        definitions(f".subckt own p n g=1\n{lines}\n.ends\n", "test")


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_parameters_of_names_that_ngspice_has_are_refused(name: str):
    for text in (
        f".subckt own p n {name.upper()}=1\nBx p n I={{{name}}}\n.ends\n",
        f".subckt own p n\n.param {name}=1\nBx p n I={{{name}}}\n.ends\n",
        f".subckt own p n\n.func f({name}) {{{name}+1}}\nBx p n I=f(1)\n.ends\n",
    ):
        with pytest.raises(DeckError, match=f"ngspice reads {name} as its own.*Rename"):
            definitions(text, "test")


@pytest.mark.parametrize("name", sorted(FUNCTION_NAMES))
def test_parameters_of_names_of_functions_are_refused(name: str):
    """ngspice cannot expand them; written out here they would be simulated and then missing in the exported deck."""
    for text in (f".subckt own p n {name}=1\n", f".subckt own p n\n.param {name.upper()}=1\n"):
        with pytest.raises(DeckError, match=f"ngspice reads {name} as its own function.*Rename"):
            definitions(f"{text}Bx p n I=V(p,n)\n.ends\n", "test")


def test_a_title_is_a_comment():
    with pytest.raises(DeckError, match=r"outside of every subcircuit.*Begin comments and titles with \*"):
        definitions("My memristor cell\n.subckt own p n g=1\nRx p n 1\n.ends\n", "test")
