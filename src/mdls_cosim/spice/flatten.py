"""Subcircuit calls written out as the elements that they stand for, where that is simple.

ngspice expands a call in some 40 us; a tile has one per cell, and expanding 32x32 of them took a quarter of the time
of 16 of its operating points. Here it is 4 us. Only subcircuits of B sources and G conductances are written out, with
parameters in braces that are arithmetic; any other is left to ngspice. Numbers keep all their digits, of which
ngspice's own expansion loses some (7e-12 of the currents of a sinh tile).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from mdls_cosim.spice.elements import spice_number
from mdls_cosim.spice.library import model_text

__all__ = ["flattened"]

_SUBCIRCUIT = re.compile(r"^\s*\.subckt\s+(\S+)\s+([^\n]*)\n(.*?)^\s*\.ends\b[^\n]*$", re.MULTILINE | re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_ARITHMETIC = re.compile(r"(?!.*(?:\*\s*\*|/\s*/))(?:[a-z_]\w*|\d+\.?\d*(?:e[+-]?\d+)?|[-+*/() ])*")
_IDENTIFIER = re.compile(r"(?<![\w.])[a-z_]\w*")
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
        value = spice_number(text)
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
    lines = [line for line in model_text(model).lower().splitlines() if not line.lstrip().startswith("*")]
    text = re.sub(r"\n\s*\+", " ", "\n".join(lines))
    if re.search(r"^\s*\.(?!subckt|ends)", text, re.MULTILINE):
        return {}
    found = {name: _template(head, body) for name, head, body in _SUBCIRCUIT.findall(text)}
    return {name: template for name, template in found.items() if template is not None}


def _template(head: str, body: str) -> _Template | None:
    words = re.sub(r"\s*=\s*", "=", head.replace("params:", " ")).split()
    pins = [word for word in words if "=" not in word]
    defaults: dict[str, float] = {}
    for word in words:
        name, given, text = word.partition("=")
        if given:
            value = spice_number(text)
            if value is None:
                return None
            defaults[name] = value
    formats: list[str] = []
    values: list[str] = []
    for line in filter(None, map(str.strip, body.splitlines())):
        pieces = _element(line, pins, set(defaults))
        if pieces is None:
            return None
        formats.append("".join(text for text, _ in pieces))
        values += [value for _, more in pieces for value in more]
    arguments = ["name", "nets", *(f"p_{name}" for name in defaults)]
    # Made of parts that the expressions above let pass: numbers, parameters, + - * / and brackets.
    source = f"lambda {', '.join(arguments)}: {chr(10).join(formats)!r} % ({' '.join(f'{value},' for value in values)})"
    try:
        return _Template(len(pins), defaults, eval(compile(source, "<subcircuit>", "eval"), {"__builtins__": {}}))
    except SyntaxError:
        return None


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
        written = _braces(value, parameters) if _BRACES.fullmatch(value) else None
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
        between = _braces(match[2][position : voltage.start() if voltage else None], parameters)
        if between is None:
            return None
        pieces += between
        if voltage:
            pieces += [("v(", []), _net(voltage[1], pins)]
            pieces += [(",", []), _net(voltage[2], pins)] if voltage[2] else []
            pieces.append((")", []))
            position = voltage.end()
    return pieces


def _braces(text: str, parameters: set[str]) -> list[_Piece] | None:
    """The text around its braces and what is in them."""
    pieces: list[_Piece] = []
    position = 0
    for braces in _BRACES.finditer(text):
        inside = braces[1].strip()
        if not inside or not _ARITHMETIC.fullmatch(inside) or not set(_IDENTIFIER.findall(inside)) <= parameters:
            return None
        value = f"1.0 * ({_IDENTIFIER.sub(lambda found: f'p_{found[0]}', inside)})"
        pieces += [(text[position : braces.start()], []), ("%r", [value])]
        position = braces.end()
    rest = text[position:]
    return None if "{" in rest or "}" in rest else [*pieces, (rest, [])]
