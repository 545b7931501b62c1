"""Lines of a netlist: numbers, names, and what an element line may be."""

import math
import re
from functools import lru_cache

from mdls_cosim.errors import DeckError

__all__ = [
    "RESERVED",
    "checked_elements",
    "element_name",
    "format_number",
    "natural_key",
    "natural_order",
    "normal_vector",
    "spice_number",
]

# Element and net names that the engine adds to a circuit begin so.
RESERVED = "mdls_"

_NAMES = re.compile(r"(?:[a-z][\w.#:\-]*\n)*", re.IGNORECASE)
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(meg|mil|[tgkmunpfa])?[a-z]*", re.IGNORECASE)
_SCALE = {"": 1.0, "t": 1e12, "g": 1e9, "meg": 1e6, "k": 1e3, "mil": 25.4e-6, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_SCALE |= {"p": 1e-12, "f": 1e-15, "a": 1e-18}
_NOT_FINITE = re.compile(
    r"(?<![\w.])[+-]?(?:nan|inf|infinity|\d[\d.]*e\+?(?:30[89]|3[1-9]\d|[4-9]\d\d|\d{4,}))(?![\w.])"
)
_LARGE_EXPONENT = re.compile(r"e\+?(?:[3-9]\d\d|\d{4})")
_COMMANDS = {"quit", "exit", "shell", "source", "include", "write", "alter", "rshunt"}


def format_number(value: float) -> str:
    """A float as SPICE text that reads back as the same float."""
    return f"{float(value):.17g}"


def spice_number(word: str) -> float | None:
    """The value of a SPICE number ("1k", "10meg", "2.5e-6", "5ohm"), or None for a word that is not one."""
    try:
        value = float(word)
    except ValueError:
        match = _NUMBER.fullmatch(word)
    else:
        return None if "_" in word else value  # Python's 2_000, of which ngspice reads 2
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


@lru_cache(maxsize=8)
def natural_order(names: tuple[str, ...]) -> tuple[int, ...]:
    """The positions of the names in natural order; remembered, as the decks of one tile share their names."""
    return tuple(sorted(range(len(names)), key=lambda index: natural_key(names[index])))


def checked_elements(lines: tuple[str, ...], where: str) -> dict[str, str]:
    """The lines by lower-case element name, in natural order of the names.

    Raises DeckError, naming the line, for whatever is not one plain element with usable numbers. The text is checked
    as a whole, which is ten times as fast as line by line; only a text that fails is searched for its bad line.
    """
    texts, names = _plain(lines)
    whole = "\n".join(texts).lower()
    if (
        not names
        or len(set(names)) != len(lines)
        or not _COMMANDS.isdisjoint(names)
        or RESERVED in whole
        or _not_finite(whole)
        or not all(map(_positive, {_rest(text, 1) for text, name in zip(texts, names, strict=True) if name[0] == "r"}))
        or not all(map(_ends_well, {_rest(text) for text, name in zip(texts, names, strict=True) if name[0] == "c"}))
    ):
        _refuse_the_first_bad(lines, where)
    return {names[index]: texts[index] for index in natural_order(tuple(names))}


def _plain(lines: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The stripped lines and their lower-case names; no names if one of the lines is no plain element line."""
    try:
        texts = [line.strip() for line in lines]
        whole = "\n".join(texts)
        words = [text.split(None, 3) for text in texts]
    except (AttributeError, TypeError):
        return [], []
    if not (whole.isascii() and whole.replace("\n", "").isprintable() and ";" not in whole):
        return [], []
    names = [each[0].lower() for each in words if len(each) > 2]
    good = len(names) == len(texts) == whole.count("\n") + 1 and _NAMES.fullmatch("\n".join([*names, ""]))
    return texts, names if good else []


def _rest(text: str, words: int = 0) -> str:
    """What follows the nets of a two-terminal element: all of it, or the first word alone."""
    parts = text.split(None, 3 + words)
    return parts[3] if len(parts) > 3 else ""


def _not_finite(whole: str) -> bool:
    """Whether a number of this lower-case text is NaN or infinite; a plain search finds most texts innocent."""
    return bool(
        ("nan" in whole or "inf" in whole or _LARGE_EXPONENT.search(whole) is not None) and _NOT_FINITE.search(whole)
    )


def _refuse_the_first_bad(lines: tuple[str, ...], where: str) -> None:
    seen: set[str] = set()
    for line in lines:
        texts, names = _plain((line,))
        if not names:
            if isinstance(line, str) and line.isascii() and line.isprintable():
                raise _refused(
                    "not an element line",
                    line,
                    where,
                    "A deck holds elements only; its options, models and analyses are added to it.",
                )
            raise _refused("an element is one line of printable ASCII", line, where, "Give each its own line.")
        name, text = names[0], texts[0].lower()
        if name in _COMMANDS:
            raise _refused("not an element line", line, where, "An element must not have the name of a command.")
        if name in seen:
            raise _refused("two elements of one name", line, where, "ngspice would keep one of them; rename.")
        seen.add(name)
        if RESERVED in text:
            raise _refused(f"names with {RESERVED} are the engine's own", line, where, "Use another name.")
        if name[0] == "r" and not _positive(_rest(text, 1)):
            raise _refused(
                "a resistor needs a plain positive number of ohms",
                line,
                where,
                "Merge the two nets for zero ohm (ngspice would make it 1 mOhm); leave it out for an open one.",
            )
        if name[0] == "c" and not _ends_well(_rest(text)):
            raise _refused(
                "a capacitor needs a plain positive number of farads, and at most an ic= of volts beside it",
                line,
                where,
                "Leave it out for zero farad. ic= is a plain number.",
            )
        if _not_finite(text):
            raise _refused(
                "a number is not finite", line, where, "Check the parameters that this element is made from."
            )


def _positive(word: str) -> bool:
    value = spice_number(word)
    return value is not None and 0 < value < math.inf


def _ends_well(rest: str) -> bool:
    """Whether what follows the nets of a capacitor is `value [ic=x]`."""
    value, *more = re.sub(r"\s*=\s*", "=", rest).split() or [""]
    if not _positive(value) or len(more) > 1:
        return False
    if not more:
        return True
    initial = spice_number(more[0][3:]) if more[0].startswith("ic=") else None
    return initial is not None and math.isfinite(initial)


def _refused(what: str, line: object, where: str, hint: str) -> DeckError:
    return DeckError(what, where=where, value=line, hint=hint)
