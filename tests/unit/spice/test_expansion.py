"""Recursion and expansions without end: refused before anything is sent to ngspice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mdls_cosim.errors import DeckError
from mdls_cosim.spice.expansion import LONGEST_EXPANDED
from mdls_cosim.spice.library import definitions
from mdls_cosim.spice.netlist import LARGEST_TEXT, LONGEST_STATEMENT, MOST_STATEMENTS


def cell(*lines: str, outside: str = "") -> str:
    return "\n".join([".subckt own p n g=1", *lines, ".ends own", outside])


def bomb(levels: int) -> list[str]:
    functions = [".func f0(x) {x+x}"]
    return functions + [f".func f{level}(x) {{f{level - 1}(x)+f{level - 1}(x)}}" for level in range(1, levels)]


RECURSIVE = {
    "itself": cell(".func f(x) {f(x)+1}", "Bx p n I=f(V(p,n))"),
    "itself, not called": cell(".func f(x) {f(x)+1}", "Rx p n 1"),
    "itself behind a blank": cell(".func f(x) {1+f (x)}", "Rx p n 1"),
    "in its argument": cell(".func f(x) {exp(f(x))}", "Rx p n 1"),
    "in capitals": cell(".FUNC F(X) {f(X)+1}", "Rx p n 1"),
    "as a parameter": cell(".param f(x)={f(x)+1}", "Rx p n 1"),
    "two functions": cell(".func f(x) {g(x)}", ".func g(x) {f(x)}", "Rx p n 1"),
    "outside": cell("Rx p n 1", outside=".func f(x) {f(x)}\n"),
    "in an inner subcircuit": cell(".subckt a b c", ".func f(x) {f(x)}", "Rx b c 1", ".ends", "Xx p n a"),
    "through the caller": cell(
        ".func g(x) {h(x)}", ".subckt a b c", ".func h(x) {g(x)}", "Bx b c I=g(V(b))", ".ends", "Xx p n a"
    ),
    "subcircuit": cell("Xx p n own"),
    "subcircuit in capitals": cell("xx p n OWN g=2"),
    "subcircuit in brackets": cell("Xx (p n) own params: g=2"),
    "two subcircuits": cell("Xx p n other", outside=".subckt other a b\nXx a b own\n.ends\n"),
    "in a branch": cell(".if (g > 1)", "Xx p n own g={g-1}", ".endif"),
    "inner subcircuit": cell(".subckt inner a b", "Xx a b own", ".ends", "Xy p n inner"),
}
TOO_LARGE = {
    "functions": cell(*bomb(40), "Bx p n I=f39(V(p,n))"),
    "functions by their arguments": cell(".func f(x) {x*x}", "Bx p n I=" + "f(" * 90 + "V(p,n)" + ")" * 90),
    "functions of two arguments": cell(".func f(x,y) {x*y+y*x}", "Bx p n I=" + "f(1," * 60 + "V(p)" + ")" * 60),
    "functions, not called": cell(*bomb(40), "Rx p n 1"),
    "subcircuits": "\n".join(
        [".subckt s0 p n", "R1 p n 1", ".ends"]
        + [f".subckt s{k} p n\nXa p n s{k - 1}\nXb p n s{k - 1}\n.ends" for k in range(1, 40)]
    ),
    "calls of calls": cell(*[f".func f{k}(x) {{f{k + 1}(x)}}" for k in range(500)], "Rx p n 1"),
    "elements": cell(*[f"R{k} p n 1" for k in range(MOST_STATEMENTS)]),
    "parameters": cell(".param " + " ".join(f"a{k}={k}" for k in range(4001)), "R1 p n 1"),
    "statement": cell("Bx p n I=" + "+".join(["V(p,n)"] * (LONGEST_STATEMENT // 7 + 1))),
    "brackets": cell("Bx p n I=" + "(" * 101 + "V(p)" + ")" * 101),
    "braces": cell(".param a=" + "{" * 101 + "1" + "}" * 101),
    "name": cell(f"Rx{'x' * 300} p n 1"),
    "voltage": cell(f"Bx p n I=V({'p' * 150},{'n' * 150})"),
    "voltage not closed": cell("Bx p n I=V(p"),
    "subcircuits inside each other": ".subckt own p n\n" * 900 + ".ends\n" * 900,
    "text": cell("Rx p n 1", outside="*" * LARGEST_TEXT),
}


@pytest.mark.parametrize("name", RECURSIVE)
def test_recursion_is_refused(name: str):
    with pytest.raises(DeckError, match="calls itself") as caught:
        definitions(RECURSIVE[name], "test")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_expands_without_end_is_refused(name: str):
    with pytest.raises(DeckError) as caught:
        definitions(TOO_LARGE[name], "test")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        cell(".func f(x) {x+1}", ".func g(x) {f(f(x))}", "Bx p n I=g(g(V(p,n)))"),
        cell(
            ".func f(x) {x+1}", "Bx p n I=f(1)", outside=".subckt other p n\n.func f(x) {x*2}\nBx p n I=f(2)\n.ends\n"
        ),
        cell("Xx p n other", "Xy p n other", outside=".subckt other a b\nRx a b 1\n.ends\n"),
        cell(".func f(x) {x}", ".param f=2", "Rx p n {f}"),
        cell(".func win(x) {1-(2*x-1)^2}", "Bx p n I=win(V(p))*win(V(n))"),
        cell(*[f"R{k} p n 1" for k in range(1000)]),
        # Each of two subcircuits has an f and a g, of which one calls the other.
        cell(".func f(x) {g(x)}", ".func g(x) {x}", "Bx p n I=f(1)")
        + "\n.subckt other p n\n.func g(x) {f(x)}\n.func f(x) {x}\nBx p n I=g(1)\n.ends\n",
    ],
)
def test_what_ends_is_taken(text: str):
    assert "own" in definitions(text, "test")


@settings(max_examples=100, deadline=None)
@given(some.data())
def test_the_size_of_an_expansion_is_that_of_the_text_written_out(data):
    """Functions of one to two arguments; f1 may call f0, and so on; the size is checked at the limit."""
    count = data.draw(some.integers(1, 4))
    arity = [data.draw(some.integers(1, 2)) for _ in range(count)]
    calls = some.integers(0, 3)

    def expression(level: int, names: tuple[str, ...], depth: int) -> object:
        kind = data.draw(some.integers(0, 3)) if depth else 0
        if kind < 2 or level == 0:
            return data.draw(some.sampled_from(names))
        if kind == 2:
            return ("+", expression(level, names, depth - 1), expression(level, names, depth - 1))
        callee = data.draw(calls) % level
        return (callee, *(expression(level, names, depth - 1) for _ in range(arity[callee])))

    def text(tree: object) -> str:
        if isinstance(tree, str):
            return tree
        head, *rest = tree  # pyright: ignore[reportGeneralTypeIssues]
        if head == "+":
            return f"{text(rest[0])}+{text(rest[1])}"
        return f"f{head}({','.join(map(text, rest))})"

    bodies = [expression(level, ("x", "y")[: arity[level]], 3) for level in range(count)]

    def expanded(tree: object, values: dict[str, str]) -> str:
        if isinstance(tree, str):
            return values.get(tree, tree)
        head, *rest = tree  # pyright: ignore[reportGeneralTypeIssues]
        parts = [expanded(each, values) for each in rest]
        if head == "+":
            return "+".join(parts)
        return f"({expanded(bodies[head], dict(zip('xy', [f'({part})' for part in parts], strict=False)))})"

    last = expression(count, ("a",), 3)
    lines = [f".func f{k}({','.join('xy'[: arity[k]])}) {{{text(bodies[k])}}}" for k in range(count)]
    length = len(expanded(last, {}))
    assert length < LONGEST_EXPANDED / 10
    from mdls_cosim.spice import expansion
    from mdls_cosim.spice.netlist import statements

    outer = expansion._scopes(statements("\n".join(lines), ""), "")
    sizes = expansion._Expansion(outer, "")
    for function in outer.functions.values():
        sizes._function(function)
    # Brackets and blanks are counted a little differently; never less than half.
    assert 0.5 * length <= sizes._size(text(last), outer, ())[0] <= 4 * length + 4


PIECES = ["a", "(", "a(", "{", "'", "a=", " =", "=", "e+", "v(", "x,", "f(x)+", "''", "{}", "()"]


@pytest.mark.parametrize("piece", PIECES)
def test_long_repetitions_are_refused_in_one_sentence_or_taken(piece: str):
    """Forms that a regular expression could try in many ways: minutes here where it does."""
    said = []
    for form in (".subckt own p n {}", ".model m {}", ".param {}", ".func f(x) {}", "Bx p n I={}", "Xx p n {}"):
        line = form.replace("{}", piece * (15_000 // len(piece)))
        try:
            definitions(f"{line}\n" if line.startswith(".subckt") else cell(line), "test")
        except DeckError as error:
            said.append(str(error))
    assert max(map(len, said), default=0) < 400
