"""Constructs of other simulators that ngspice refuses or misreads, and what to write instead."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from mdls_cosim.errors import DeckError
from mdls_cosim.spice.elements import spice_number
from mdls_cosim.spice.netlist import Statement, header

__all__ = ["FUNCTION_NAMES", "RESERVED_NAMES", "check_dialect", "command_hint"]

RESERVED_NAMES = frozenset(("e", "pi", "time", "temper", "hertz"))
"""Names that ngspice reads as constants and variables in the expressions of sources, whatever a parameter says."""

_FUNCTIONS = """
    abs acos acosh agauss arctan asin asinh atan atanh aunif ceil cos cosh exp floor gauss int limit ln log log10 max
    min nint pow pwl pwr sgn sin sinh sqr sqrt tan tanh ternary_fcn unif var vec
"""
FUNCTION_NAMES = frozenset(_FUNCTIONS.split())
"""Names that ngspice takes for functions in expressions: it refuses a parameter of such a name."""

_CONSTANTS = {"e": math.e, "pi": math.pi}

_INSTEAD = {
    "if": "Write condition ? a : b",
    "table": "Write pwl(x, x1, y1, x2, y2, ...)",
    "tbl": "Write pwl(x, x1, y1, x2, y2, ...)",
    "limit": "Write max(low, min(high, x))",
    "uplim": "Write min(x, limit)",
    "dnlim": "Write max(x, limit)",
    "idt": "Write the integral as a pin state: B 0 x I=1n*rate(...) and read V(x)",
    "sdt": "Write the integral as a pin state: B 0 x I=1n*rate(...) and read V(x)",
    "idtmod": "Write the integral as a pin state: B 0 x I=1n*rate(...) and read V(x)",
    "pwrs": "Write pwr(x, y)",
    "stp": "Write u(x)",
    "buf": "Write x > 0.5 ? 1 : 0",
    "inv": "Write x > 0.5 ? 0 : 1",
    "int": "Write floor(x) or nint(x)",
    "round": "Write nint(x)",
    "rint": "Write nint(x)",
    "sign": "Write sgn(x)",
    "signum": "Write sgn(x)",
    "fabs": "Write abs(x)",
    "square": "Write x^2",
    "sqr": "Write x^2",
    "cbrt": "Write x^(1/3)",
    "hypot": "Write sqrt(x^2 + y^2)",
    "arctan": "Write atan(x)",
    "arcsin": "Write asin(x)",
    "arccos": "Write acos(x)",
    "atan2": "Write atan(y/x) for x > 0",
    "ddx": "Write the derivative out",
    "delay": "A cell has no delay lines; write an RC stage",
    "absdelay": "A cell has no delay lines; write an RC stage",
    **dict.fromkeys(
        ("rand", "random", "white", "agauss", "gauss", "aunif", "unif", "flat", "mc"),
        "Spread belongs into [variability], where a seed reproduces it",
    ),
}
# Functions in the braces of parameters, but not in the expressions of sources.
_OF_PARAMETERS = {"int", "sqr", "arctan"}
_PARASITIC = {
    "rser": "Add a resistor in series",
    "lser": "Add an inductor in series",
    "rpar": "Add a resistor in parallel",
    "cpar": "Add a capacitor in parallel",
    "rlshunt": "Add a resistor in parallel",
    "noiseless": "Leave it out",
    "nojacob": "Leave it out",
    "tripdv": "Leave it out",
    "tripdt": "Leave it out",
}
_COMMANDS = {
    ".ic": "Programming sets the state; in a transient write ic= at the capacitor",
    ".nodeset": "Leave it out; operating points are found from rest",
    ".options": "The engine sets its own options",
    ".option": "The engine sets its own options",
    ".temp": "Set temperature in the tile",
    ".step": "Sweep in the specification: sizes, corners, seeds",
    ".tran": "Experiments run the analyses; leave it out",
    ".dc": "Experiments run the analyses; leave it out",
    ".op": "Experiments run the analyses; leave it out",
    ".ac": "Experiments run the analyses; leave it out",
    ".end": "Leave it out; the deck ends itself",
    ".global": "Connect the net through a pin",
    ".backanno": "Leave it out",
    ".title": "Write a comment: * title",
    ".probe": "Leave it out",
    ".save": "Leave it out",
    ".meas": "Leave it out",
}
_CALL = re.compile(r"(?<![\w.])([a-z_]\w*) ?\(")
_ASSIGNED = re.compile(r"(?<![\w.])([a-z_]\w*) ?=(?!=)")
_FUNCTION = re.compile(r"\.(?:func|param) (\w+) ?\(([^()]*)\)")
_DIGITS_AFTER_SCALE = re.compile(r"(?<![\w.])\d+(?:meg|[tgkmunpf])\d+(?![\w.])")
# |x|^3 for a voltage between two nets or the current of a source, which can be negative; an even power is the same.
_ODD_POWER = re.compile(
    r"(?<![\w.])(?:v ?\( ?[^\s(),]+ ?, ?[^\s(),]+ ?\)|i ?\( ?[^\s(),]+ ?\)) ?(?:\^|\*\*) ?\d*[13579](?![\w.])"
    r"|(?<![\w.])pow ?\( ?v ?\( ?[^\s(),]+ ?, ?[^\s(),]+ ?\) ?, ?\d*[13579] ?\)"
)
_VALUED = frozenset("rclbeghfvi")


def command_hint(word: str) -> str | None:
    """What to do about a dot command that is no part of a model."""
    return _COMMANDS.get(word)


def check_dialect(lines: Sequence[Statement], where: str) -> None:
    """Refuse what LTspice, PSpice or HSPICE would read and ngspice would not, or would read otherwise.

    Raises:
        DeckError: it names the construct and what to write instead.
    """
    texts = [(statement, statement.text.lower()) for statement in lines]
    own = {found[1] for _, text in texts if (found := _FUNCTION.match(text))}
    models = {text.split()[1] for statement, text in texts if statement.word == ".model" and " " in text}
    declared = [(statement, _declared(statement, text, where)) for statement, text in texts]
    parameters = {name for statement, names in declared if statement.word != ".func" for name in names} - models
    for (statement, text), (_, names) in zip(texts, declared, strict=True):
        word = statement.word
        if word not in (".model", ".subckt"):
            _check_calls(statement, text, own, where)
        for name in names:
            if name in RESERVED_NAMES:
                what = f"ngspice reads {name} as its own constant or variable, not as a parameter"
                raise _refused(statement, what, "Rename the parameter", where)
            if name in FUNCTION_NAMES and name not in own:
                what = f"ngspice reads {name} as its own function, not as a parameter"
                raise _refused(statement, what, "Rename the parameter", where)
        if word[0] != "*" and (power := _ODD_POWER.search(text)):
            what = f"ngspice reads {power[0]} as a power of the absolute value"
            raise _refused(statement, what, "Write pwr(x, 3) or x*x*x, or the power of abs(x)", where)
        if word[0] in "rcl" and len(words := text.split()) == 4 and words[3] in parameters:
            what = f"the value {words[3]} is a parameter without braces"
            raise _refused(statement, what, f"Write {{{words[3]}}}", where)
        if word[0] in _VALUED:
            for name in _ASSIGNED.findall(text):
                if name in _PARASITIC:
                    raise _refused(statement, f"ngspice has no {name}= on an element", _PARASITIC[name], where)
        if (word[0] in _VALUED or word in (".param", ".subckt")) and (number := _misread(text)):
            what = f"ngspice reads the number {number} up to its unit"
            raise _refused(statement, what, "Write 4.7k for 4k7", where)


def _check_calls(statement: Statement, text: str, own: Iterable[str], where: str) -> None:
    for name in _CALL.findall(text.partition(" ")[2]):
        if name not in _INSTEAD or name in own or (name in _OF_PARAMETERS and text[0] != "b"):
            continue
        raise _refused(statement, f"ngspice has no function {name}(...)", _INSTEAD[name], where)


def _declared(statement: Statement, text: str, where: str) -> list[str]:
    """The names of parameters that a statement declares."""
    if statement.word == ".subckt":
        return list(header(statement, where).defaults)
    if function := _FUNCTION.match(text):
        return [function[1], *(name.strip() for name in function[2].split(","))]
    if statement.word != ".param":
        return []
    # A .param pi=3.14159 says what ngspice says.
    constants = {name: spice_number(value) for name, value in re.findall(r"\b(e|pi) ?= ?\{?([\d.]+)", text)}
    same = {name for name, value in constants.items() if value and abs(value / _CONSTANTS[name] - 1) < 1e-3}
    return [name for name in _ASSIGNED.findall(text) if name not in same]


def _misread(text: str) -> str | None:
    """A number such as 4k7, which ngspice reads as 4k; node and model names are not numbers."""
    for found in _DIGITS_AFTER_SCALE.finditer(text):
        before = text[: found.start()].rstrip()
        value = text[0] in "rcl" and len(before.split()) == 3
        if before and (before[-1] in "=*/+-({," or value) and not before.endswith(("v(", "i(")):
            return found[0]
    return None


def _refused(statement: Statement, what: str, hint: str, where: str) -> DeckError:
    return DeckError(
        f"line {statement.number} of the model: {what}",
        where=where,
        value=statement.text,
        hint=hint,
    )
