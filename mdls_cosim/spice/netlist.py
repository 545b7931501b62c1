"""Statements of a model's text: one logical line each, without comments, in the characters that ngspice accepts.

ngspice receives the statements that are returned here and never the text itself, so that what is checked is what runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mdls_cosim.errors import DeckError

__all__ = ["Header", "Statement", "before_parameters", "header", "headers", "parsed", "statements", "title_of"]

LARGEST_TEXT = 1_000_000
"""Characters of a model's text."""
MOST_STATEMENTS = 2_000
"""Statements of a model; ngspice takes a time of the square of their number."""
LONGEST_STATEMENT = 50_000
"""Characters of a statement."""
LONGEST_NAME = 200
"""Characters of a name, and of what a voltage v(...) contains: ngspice copies them to buffers of 512."""
DEEPEST = 100
"""Brackets inside each other."""

_REPLACED = {
    ".macro": ".subckt",
    ".eom": ".ends",
    ".params": ".param",
    ".parameter": ".param",
    ".parameters": ".param",
    ".function": ".func",
}
_LONG_NAME = re.compile(rf"[\w.#$%!\[\]]{{{LONGEST_NAME + 1}}}")
_VOLTAGE = re.compile(rf"(?<![\w.])[vi]\((?![^()]{{0,{LONGEST_NAME}}}\))")
_PARAMETER = re.compile(r" *([a-z_]\w*) ?= ?('[^']*'|\{[^{}]*\}|[^ =]+)(?= |$)")
_PARAMS = re.compile(r"\bparams\s*:", re.IGNORECASE)
_NAME = re.compile(r"[^\s=,(){}'\"]+")


@dataclass(frozen=True)
class Statement:
    """One logical line of a netlist."""

    number: int
    """Of the line of the text where it begins, 1 for the first."""
    text: str
    """Without comments, its continuation lines joined; printable ASCII, blanks between words are single spaces."""

    @property
    def word(self) -> str:
        """The first word, lower case: an element's name or a dot command."""
        return self.text.split(" ", 1)[0].lower()


@dataclass(frozen=True)
class Header:
    """What a .subckt line declares, lower case."""

    name: str
    pins: tuple[str, ...]
    defaults: dict[str, str]
    """The text of each parameter's default, without the quotes or braces around it."""


def title_of(text: str) -> str:
    """The beginning of a text, to name it in a message."""
    return f'"{text.split(chr(10), 1)[0][:60].strip()}"'


@lru_cache(maxsize=64)
def statements(text: str, where: str) -> tuple[Statement, ...]:
    """The statements of a model's text.

    Comments begin with `*` or `#` at the beginning of a line, with `$` after a blank or comma, with `;` or with `//`.
    A line that begins with `+` continues the statement before it. `.macro`, `.eom`, `.params` and `.function` are
    replaced by `.subckt`, `.ends`, `.param` and `.func`.

    Args:
        text: of the model.
        where: it is used, for the messages.

    Raises:
        DeckError: the text is longer than LARGEST_TEXT, or a statement has characters, quotes or brackets that ngspice
            would not read as they are written.
    """
    if len(text) > LARGEST_TEXT:
        raise DeckError(
            "the text of a model is too long", where=where, value=len(text), limit=f"{LARGEST_TEXT} characters"
        )
    found = parsed(text, where)
    if len(found) > MOST_STATEMENTS:
        raise DeckError(
            "a model has too many statements", where=where, value=len(found), limit=f"{MOST_STATEMENTS} statements"
        )
    return found


def parsed(text: str, where: str, longest: int = LONGEST_STATEMENT) -> tuple[Statement, ...]:
    """The statements of a text of any length; see `statements`."""
    joined: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        stripped = line.strip(" \t")
        if stripped.startswith("*#"):
            raise _refused("a command in a comment, which is none of a model", where, number, stripped)
        content = _without_comment(stripped)
        if not content:
            continue
        if not content.startswith("+"):
            joined.append((number, [content]))
        elif joined:
            joined[-1][1].append(content[1:])
        else:
            raise _refused("a continuation line continues nothing", where, number, line)
    return tuple(_checked(number, " ".join(parts), where, longest) for number, parts in joined)


def headers(text: str, where: str) -> dict[str, Header]:
    """The outer subcircuits of a model by name, lower case."""
    found: dict[str, Header] = {}
    depth = 0
    for statement in statements(text, where):
        word = statement.word
        if word == ".subckt":
            if depth == 0:
                one = header(statement, where)
                found.setdefault(one.name, one)
            depth += 1
        depth -= word == ".ends"
    return found


def header(statement: Statement, where: str) -> Header:
    """What a .subckt statement declares: `.subckt NAME pins [params:] [name=value ...]`, pins in brackets or not.

    Raises:
        DeckError: it has no name, or a name that is none.
    """
    names, tail = before_parameters(statement.text.lower().partition(" ")[2])
    if not names or not all(_NAME.fullmatch(name) for name in names):
        raise _refused("a .subckt line without a name", where, statement.number, statement.text)
    defaults: dict[str, str] = {}
    position = 0
    while match := _PARAMETER.match(tail, position):
        if match[1] in defaults:
            raise _refused(f"the parameter {match[1]} is declared twice", where, statement.number, statement.text)
        quoted = match[2][0] in "'{"
        defaults[match[1]] = (match[2][1:-1] if quoted else match[2]).strip()
        position = match.end()
    if tail[position:].strip():
        raise _refused(
            "a .subckt line that is not NAME pins name=value",
            where,
            statement.number,
            tail[position:].strip(),
            "Write expressions in braces: g={1/ron}",
        )
    return Header(names[0], tuple(names[1:]), defaults)


def before_parameters(text: str) -> tuple[list[str], str]:
    """The words before the first `name=value` of a lower-case .subckt or X statement, and the rest of it.

    Brackets around the words and `params:` are left out.
    """
    text = _PARAMS.sub(" ", text)
    equals = text.find("=")
    begin = len(text) if equals < 0 else text.rfind(" ", 0, len(text[:equals].rstrip())) + 1
    return text[:begin].replace("(", " ").replace(")", " ").split(), text[begin:]


def _without_comment(line: str) -> str:
    """A line without its comment. As in ngspice, quoted text has none; an unclosed quote lasts to the line's end."""
    if not line or line[0] in "*#$;":
        return ""
    position = 0
    while position < len(line):
        letter = line[position]
        if letter in "'\"":
            closing = line.find(letter, position + 1)
            if closing < 0:
                break
            position = closing
        elif letter == ";" or line.startswith("//", position) or (letter == "$" and line[position - 1] in " \t,"):
            return line[:position].rstrip(" \t")
        position += 1
    return line


def _checked(number: int, text: str, where: str, longest: int) -> Statement:
    text = " ".join(filter(None, text.replace("\t", " ").split(" ")))
    if len(text) > longest:
        raise _refused("a statement is too long", where, number, text, limit=f"{longest} characters")
    if not (text.isascii() and text.isprintable()):
        odd = next(letter for letter in text if not (letter.isascii() and letter.isprintable()))
        hint = "Write u for micro" if odd in "µμ" else "Other characters may stand in comments"
        raise _refused(f"the character {odd!r} in a statement", where, number, text, hint, limit="printable ASCII")
    if "\\" in text:
        hint = "Continue a line by + on the next"
        raise _refused("the character \\ in a statement", where, number, text, hint)
    _check_brackets(number, text, where)
    lower = text.lower()
    if (long := _LONG_NAME.search(lower)) or _VOLTAGE.search(lower):
        value = long[0] if long else text
        raise _refused("a name is too long, or v( is not closed", where, number, value, limit=f"{LONGEST_NAME} letters")
    word, space, rest = text.partition(" ")
    return Statement(number, _REPLACED.get(word.lower(), word) + space + rest)


def _check_brackets(number: int, text: str, where: str) -> None:
    if text.count("'") % 2:
        raise _refused("a quote is not closed", where, number, text)
    pairs = {")": "(", "}": "{"}
    opened: list[str] = []
    for bracket in re.findall(r"[(){}]", text):
        if bracket in "({":
            opened.append(bracket)
            if len(opened) > DEEPEST:
                raise _refused("brackets are too deeply nested", where, number, text, limit=f"{DEEPEST} levels")
        elif not opened or opened.pop() != pairs[bracket]:
            raise _refused(f"the bracket {bracket} closes nothing", where, number, text)
    if opened:
        raise _refused(f"the bracket {opened[-1]} is not closed", where, number, text)


def _refused(what: str, where: str, number: int, value: str, hint: str | None = None, limit: str | None = None):
    return DeckError(f"line {number} of the model: {what}", where=where, value=value, limit=limit, hint=hint)
