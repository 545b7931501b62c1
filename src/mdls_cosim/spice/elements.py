"""Lines of a netlist: numbers, names, and what an element line may be."""

import math
import re

from mdls_cosim.errors import DeckError

__all__ = [
    "RESERVED",
    "checked_elements",
    "element_name",
    "format_number",
    "natural_key",
    "normal_vector",
    "spice_number",
]

# Element and net names that the engine adds to a circuit begin so.
RESERVED = "mdls_"

_NAME = re.compile(r"[A-Za-z][\w.#:\-]*")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(meg|mil|[tgkmunpfa])?[a-z]*", re.IGNORECASE)
_SCALE = {"": 1.0, "t": 1e12, "g": 1e9, "meg": 1e6, "k": 1e3, "mil": 25.4e-6, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_SCALE |= {"p": 1e-12, "f": 1e-15, "a": 1e-18}
_NOT_FINITE = re.compile(
    r"(?<![\w.])[+-]?(?:nan|inf|infinity|\d[\d.]*e\+?(?:30[89]|3[1-9]\d|[4-9]\d\d|\d{4,}))(?![\w.])"
)
_COMMANDS = {"quit", "exit", "shell", "source", "include", "write", "alter", "rshunt"}


def format_number(value: float) -> str:
    """A float as SPICE text that reads back as the same float."""
    return f"{float(value):.17g}"


def spice_number(word: str) -> float | None:
    """The value of a SPICE number ("1k", "10meg", "2.5e-6", "5ohm"), or None for a word that is not one."""
    try:
        return float(word)
    except ValueError:
        match = _NUMBER.fullmatch(word)
    return None if match is None else float(match[1]) * _SCALE[(match[2] or "").lower()]


def normal_vector(probe: str) -> str:
    """A vector's name as ngspice spells it: lower case, no blanks."""
    return "".join(probe.lower().split())


def element_name(line: str) -> str:
    """The name of an element line as ngspice spells it."""
    return line.split(None, 1)[0].lower()


def natural_key(name: str) -> list[str | int]:
    """Sorting key by which row2 comes before row10: text and numbers in turn."""
    parts: list[str | int] = list(re.split(r"(\d+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts


def checked_elements(lines: tuple[str, ...], where: str) -> dict[str, str]:
    """The lines by lower-case element name, in natural order of the names.

    Raises DeckError, naming the line, for whatever is not one plain element with usable numbers.
    """
    elements: dict[str, str] = {}
    for line in lines:
        if not (isinstance(line, str) and line.isascii() and line.isprintable()):
            raise _refused("an element is one line of printable ASCII", line, where, "Give each element its own line.")
        text = line.strip()
        words = text.split()
        if len(words) < 3 or not _NAME.fullmatch(words[0]) or words[0].lower() in _COMMANDS or ";" in text:
            raise _refused(
                "not an element line",
                line,
                where,
                "A deck holds elements only; its options, models and analyses are added to it.",
            )
        name = words[0].lower()
        if name in elements:
            raise _refused("two elements of one name", line, where, "ngspice would keep one of them; rename.")
        if name[0] == "r":
            _check_resistor(words, line, where)
        elements[name] = text
    whole = "\n".join(elements.values()).lower()
    if RESERVED in whole:
        line = next(line for line in elements.values() if RESERVED in line.lower())
        raise _refused(f"names with {RESERVED} are the engine's own", line, where, "Use another name.")
    if _NOT_FINITE.search(whole):
        line = next(line for line in elements.values() if _NOT_FINITE.search(line.lower()))
        raise _refused("a number is not finite", line, where, "Check the parameters that this element is made from.")
    return {name: elements[name] for name in sorted(elements, key=natural_key)}


def _check_resistor(words: list[str], line: str, where: str) -> None:
    resistance = spice_number(words[3]) if len(words) > 3 else None
    if resistance is None or not 0 < resistance < math.inf:
        raise _refused(
            "a resistor needs a plain positive number of ohms",
            line,
            where,
            "Merge the two nets for zero ohm (ngspice would make it 1 mOhm); leave it out for an open one.",
        )


def _refused(what: str, line: object, where: str, hint: str) -> DeckError:
    return DeckError(what, where=where, value=line, hint=hint)
