"""Subcircuit calls written out as the elements that they stand for, where that is simple.

ngspice expands a call in some 40 us; a tile has one per cell, and expanding 32x32 of them took a quarter of the time
of 16 of its operating points. Here it is 4 us. Only subcircuits of B sources and G conductances are written out, with
parameters in braces that are arithmetic; any other is left to ngspice.

The written text means what ngspice's own expansion means. In a B source ngspice removes the braces, replaces every
parameter by its value in round brackets, and parses the whole: 2*{a-b} is 2*a-b. A value is written in place of the
braces only where that cannot change the meaning; see `_pasted_alike`. Numbers in a B source keep the 11 digits that
ngspice 46 keeps of them (4e-11 of the currents of a sinh tile).
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from mdls_cosim.spice.dialect import RESERVED_NAMES
from mdls_cosim.spice.elements import spice_number
from mdls_cosim.spice.library import read_model
from mdls_cosim.spice.netlist import Header, header, statements

__all__ = ["flattened"]

_BRACES = re.compile(r"\{([^{}]*)\}")
_TOKEN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\w*|[a-z_]\w*|[^\s]")
_VOLTAGE = re.compile(r"(?<![\w.#])v\(\s*([\w.#]+)\s*(?:,\s*([\w.#]+)\s*)?\)")
_BARE_NAME = re.compile(r"(?<![\w.])[a-z_]\w*(?!\w)(?!\s*\()")
_READS_BY_NAME = re.compile(r"(?<!\w)[iv]\s*\(")
_GROUND = {"0", "gnd"}

# Values of an expression for `%`: of a literal text, a net or a parameter.
_Piece = tuple[str, list[str]]


@dataclass(frozen=True)
class _Template:
    """A subcircuit: number of pins, parameters with their defaults, and what writes one call of it."""

    pins: int
    defaults: dict[str, float]
    write: Callable[..., str]


def flattened(elements: Iterable[str], models: tuple[str, ...]) -> list[str]:
    """The element lines, each simple call of a subcircuit of these models replaced by its elements, in its place."""
    templates: dict[str, _Template] = {}
    for model in models:
        templates |= _templates(model)
    if not templates:
        return list(elements)
    return [(_call(line, templates) or line) if line[0] in "xX" else line for line in elements]


def _call(line: str, templates: dict[str, _Template]) -> str | None:
    words = line.lower().split()
    last = len(words) - 1
    while last and "=" in words[last]:
        last -= 1
    template = templates.get(words[last])
    if template is None or last - 1 != template.pins:
        return None
    parameters = dict(template.defaults)
    for word in words[last + 1 :]:
        name, _, text = word.partition("=")
        value = _parameter_value(text)
        if name not in parameters or value is None:
            return None
        parameters[name] = value
    try:
        written = template.write(words[0], words[1:last], *parameters.values())
    except ArithmeticError:
        return None
    return written


@lru_cache(maxsize=64)
def _templates(model: str) -> dict[str, _Template]:
    """The simple subcircuits of a model by name."""
    lines = statements(model if "\n" in model else read_model(model), model)
    if any(line.word[0] == "." and line.word not in (".subckt", ".ends") for line in lines):
        return {}
    found: dict[str, _Template | None] = {}
    head: Header | None = None
    body: list[str] = []
    for line in lines:
        if line.word == ".subckt":
            if head is not None:
                return {}  # one subcircuit inside another
            head, body = header(line, model), []
        elif line.word == ".ends" and head is not None:
            found[head.name] = _template(head, body)
            head = None
        else:
            body.append(line.text.lower())
    return {name: template for name, template in found.items() if template is not None}


def _template(head: Header, body: list[str]) -> _Template | None:
    pins = list(head.pins)
    defaults: dict[str, float] = {}
    for name, text in head.defaults.items():
        value = _parameter_value(text)
        if value is None or name in RESERVED_NAMES:
            return None
        defaults[name] = value
    formats: list[str] = []
    values: list[str] = []
    for line in body:
        pieces = _element(line, pins, set(defaults))
        if pieces is None:
            return None
        formats.append("".join(text for text, _ in pieces))
        values += [value for _, more in pieces for value in more]
    arguments = ["name", "nets", *(f"p_{name}" for name in defaults)]
    # Made of parts that the expressions above let pass: numbers, parameters, + - * / and brackets.
    source = f"lambda {', '.join(arguments)}: {chr(10).join(formats)!r} % ({' '.join(f'{value},' for value in values)})"
    scope = {"__builtins__": {}, "number": _number}
    try:
        return _Template(len(pins), defaults, eval(compile(source, "<subcircuit>", "eval"), scope))
    except SyntaxError:
        return None


def _parameter_value(text: str) -> float | None:
    """The value of a parameter's text that is a number; None also for mils, which ngspice reads there as milli."""
    return None if "mil" in text else spice_number(text)


def _element(line: str, pins: list[str], parameters: set[str]) -> list[_Piece] | None:
    """The pieces of one element line, or None for one that is not simple."""
    nodes = {"b": 2, "g": 4}.get(line[0])
    if nodes is None or any(letter in line for letter in ";$'\"%"):
        return None
    parts = line.split(None, nodes + 1)
    if len(parts) < nodes + 2:
        return None
    element, *nets, value = parts
    pieces: list[_Piece] = [(f"{element[0]}.%s.{element}", ["name"])]
    for net in nets:
        pieces += [(" ", []), _net(net, pins)]
    if line[0] == "g":
        inside = _arithmetic(value[1:-1], parameters) if _BRACES.fullmatch(value) else None
        written = None if inside is None else [("%r", [f"1.0 * ({inside.source})"])]
    else:
        written = _expression(value, pins, parameters)
    return None if written is None else [*pieces, (" ", []), *written]


def _net(net: str, pins: list[str]) -> _Piece:
    """A net of the subcircuit as the circuit around it knows it."""
    if net in pins:
        return "%s", [f"nets[{pins.index(net)}]"]
    return (net, []) if net in _GROUND else (f"%s.{net}", ["name"])


def _expression(text: str, pins: list[str], parameters: set[str]) -> list[_Piece] | None:
    """The pieces of `i=…` or `v=…` of a B source that reads voltages of nets and no names else."""
    match = re.fullmatch(r"([iv])\s*=\s*(.*)", text)
    if match is None:
        return None
    outside = _BRACES.sub(" ", _VOLTAGE.sub(" ", match[2]))
    if _BARE_NAME.search(outside) or _READS_BY_NAME.search(outside):
        return None
    pieces: list[_Piece] = [(f"{match[1]}=", [])]
    position = 0
    for voltage in [*_VOLTAGE.finditer(match[2]), None]:
        between = _braces(match[2], position, voltage.start() if voltage else len(match[2]), parameters)
        if between is None:
            return None
        pieces += between
        if voltage:
            pieces += [("v(", []), _net(voltage[1], pins)]
            pieces += [(",", []), _net(voltage[2], pins)] if voltage[2] else []
            pieces.append((")", []))
            position = voltage.end()
    return pieces


def _braces(text: str, begin: int, end: int, parameters: set[str]) -> list[_Piece] | None:
    """The piece of a B source's expression from `begin` to `end`: the text around braces, and what is in them."""
    pieces: list[_Piece] = []
    position = begin
    for braces in _BRACES.finditer(text, begin, end):
        inside = _arithmetic(braces[1], parameters)
        if inside is None or not _pasted_alike(inside, text[: braces.start()].rstrip(), text[braces.end() :].lstrip()):
            return None
        pieces += [(text[position : braces.start()], []), ("%s", [f"number(1.0 * ({inside.source}))"])]
        position = braces.end()
    rest = text[position:end]
    return None if "{" in rest or "}" in rest else [*pieces, (rest, [])]


@dataclass(frozen=True)
class _Arithmetic:
    """An expression of numbers and parameters."""

    source: str
    """As Python."""
    form: str
    """Its weakest operator outside of brackets: "sum", "product", "sign" (of the whole), or "atom"."""


def _arithmetic(text: str, parameters: set[str]) -> _Arithmetic | None:
    """A text of numbers, parameters, + - * / and brackets; None for any other."""
    source: list[str] = []
    form = "atom"
    depth = 0
    before = "("
    for token in _TOKEN.findall(text):
        follows = before not in "(+-*/"  # an operand
        if token in parameters:
            source.append(f"p_{token}")
        elif token in "+-*/()":
            source.append(token)
        elif token[0] in ".0123456789" and (value := spice_number(token)) is not None and math.isfinite(value):
            source.append(repr(value))
        else:
            return None
        # What is left is an expression, or no Python either: blanks keep two operators from being one.
        if (token == "(" and follows) or (token == ")" and before == "("):
            return None
        if depth == 0 and token in "+-":
            form = "sum" if follows else "sign" if form == "atom" else form
        elif depth == 0 and token in "*/" and form != "sum":
            form = "product"
        depth += (token == "(") - (token == ")")
        before = token
    return _Arithmetic(" ".join(source), form) if source and depth == 0 else None


def _pasted_alike(inside: _Arithmetic, before: str, after: str) -> bool:
    """Whether an expression's value means in its place what its text does, to rounding.

    before, after: the text on both sides, "=" before the first. Brackets and commas end expressions on both sides; of
    operators only those that bind more weakly than the expression's own leave it whole.
    """
    left, right = before[-1:] or "=", after[:1]
    if left.isalnum() or left in "_.)" or right.isalnum() or right in ("_", ".", "("):
        return False
    power = right == "^" or after.startswith("**") or left == "^" or before.endswith("**")
    if inside.form == "atom":
        return True
    if inside.form == "sign":
        return not power
    if inside.form == "product":
        return not power and left not in "/!"
    return not power and left in "=(,+?:<>&|" and right not in ("*", "/")


def _number(value: float) -> str:
    """A number as an operand: ngspice puts brackets around every one, and here negative ones need them."""
    return repr(value) if value >= 0 and math.copysign(1, value) > 0 else f"({value!r})"
