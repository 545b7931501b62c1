"""SPICE models: the library, one .sub file per device, in a source checkout and in a wheel; and a user's own texts."""

import re
from functools import cache, lru_cache
from pathlib import Path

from mdls_cosim.errors import DeckError
from mdls_cosim.resources import resource_folder
from mdls_cosim.spice.dialect import check_dialect, command_hint
from mdls_cosim.spice.elements import RESERVED
from mdls_cosim.spice.expansion import check_expansion
from mdls_cosim.spice.model_types import checked_model
from mdls_cosim.spice.netlist import Statement, header, statements, title_of

__all__ = ["check_statement", "definitions", "model_names", "model_text", "models_folder", "read_model"]

# Elements that a model may have; not U (digital, PSpice's), P, O and Y (coupled and lossy lines).
_ELEMENTS = "rclkdqjzmswviefghbxtna"
_ELEMENT = re.compile(rf"[{_ELEMENTS}][\w.#:$%!-]*")
# Commands of ngspice, which would be elements; nobody names an element so.
_COMMANDS = {"alter", "altermod", "cd", "codemodel", "define", "edit", "include", "let", "load", "quit", "reset", "run"}
_COMMANDS |= {"set", "shell", "snload", "source", "tran", "version", "where", "while", "write", "wrdata"}
_FILE = re.compile(r"(?:file|simulation) ?=(?!=)")
_KEYWORD = re.compile(r"\b(?:external|freq|pwlfile|trnoise|trrandom)\b")
# Its dot commands.
_PARTS = {".subckt", ".ends", ".model", ".param", ".func", ".if", ".elseif", ".else", ".endif"}
DEEPEST_SUBCIRCUITS = 20
"""Subcircuits defined inside each other."""
_FILES = {".include", ".inc", ".incl", ".lib", ".libs"}


def models_folder() -> Path:
    """The folder of the .sub files."""
    return resource_folder("spice_models")


def model_names() -> tuple[str, ...]:
    """The names of all models in the library, sorted."""
    return tuple(sorted(path.stem for path in models_folder().glob("*.sub")))


@cache
def read_model(name: str) -> str:
    """The text of `NAME.sub`, without trailing blank lines.

    Raises DeckError, naming the folder searched and the models there, for a name that is not in the library.
    """
    known = model_names()
    if name not in known:
        raise DeckError(
            "no such SPICE model",
            where=str(models_folder()),
            value=name,
            limit=", ".join(known) or "none",
            hint=f"Add {name}.sub to that folder, or use one of the models there.",
        )
    return (models_folder() / f"{name}.sub").read_text(encoding="utf-8").rstrip()


def model_text(model: str) -> str:
    """The text of a model that is given by its name in the library, or as a text of its own (more than one line).

    A text of its own is returned as its statements, one a line and without comments: what was checked is what runs.
    """
    if "\n" not in model:
        return read_model(model)
    return "\n".join(statement.text for statement in statements(model, title_of(model)))


@lru_cache(maxsize=64)
def definitions(model: str, where: str, compiled: bool = False) -> tuple[str, ...]:
    """The names of the subcircuits and device models that a model defines, lower case.

    Args:
        model: a name in the library, or a text.
        where: it is used, for the messages.
        compiled: a compiled Verilog-A model is loaded, for N devices.

    Raises:
        DeckError: for a statement that is no part of a model (an analysis, options, a command, a file to include), a
            .model of a type that is not allowed, an element outside of every subcircuit, a subcircuit without end,
            recursion, an expansion that is too large, and constructs of other simulators.
    """
    text = model if "\n" in model else read_model(model)
    title = title_of(text) if "\n" in model else model
    lines = statements(text, where)
    names: list[str] = []
    depth = 0
    for statement in lines:
        word = statement.word
        check_statement(statement, title, where, compiled)
        if word in (".subckt", ".model") and depth == 0:
            is_model = word == ".model"
            names.append(checked_model(statement, where, compiled) if is_model else header(statement, where).name)
        depth += (word == ".subckt") - (word == ".ends")
        if depth > DEEPEST_SUBCIRCUITS:
            limit = f"{DEEPEST_SUBCIRCUITS} levels"
            raise DeckError(f"the model {title} nests too many .subckt", where=where, value=statement.text, limit=limit)
        if depth < 0 or (depth == 0 and word[0] != "."):
            what = "ends what has not begun" if depth < 0 else "has an element outside of every subcircuit"
            hint = "Begin comments and titles with *" if depth == 0 else None
            raise DeckError(f"the model {title} {what}", where=where, value=statement.text, hint=hint)
    branches = [line.word for line in lines if line.word in (".if", ".endif", ".elseif", ".else")]
    if branches.count(".if") != branches.count(".endif") or (branches and branches[0] != ".if"):
        raise DeckError(f"the model {title} has an .if without .endif, or the reverse", where=where)
    if depth:
        raise DeckError(f"the model {title} has a subcircuit without .ends", where=where, value=names[-1])
    check_dialect(lines, where)
    check_expansion(lines, where)
    return tuple(names)


def check_statement(statement: Statement, title: str, where: str, compiled: bool) -> None:
    """Refuse what is neither an element that a cell may have nor a dot command of a model."""
    word, text = statement.word, statement.text.lower()
    if word in (".subckt", ".model") and " " not in text:
        raise DeckError(f"the model {title} defines something without a name", where=where, value=word)
    if word == ".model":
        checked_model(statement, where, compiled)
    if word in _FILES or _FILE.search(text):
        raise DeckError(
            f"the model {title} wants another file",
            where=where,
            value=statement.text,
            hint="Put the text of that file in its place: a deck runs alone.",
        )
    if word[0] == "." and word not in _PARTS:
        raise DeckError(
            f"the model {title} has a line that is none of a model",
            where=where,
            value=statement.text,
            limit=f"elements and {', '.join(sorted(_PARTS))}",
            hint=command_hint(word),
        )
    if odd := set(text) & set('"`'):
        raise DeckError(
            f"line {statement.number} of the model: the character {odd.pop()} in a statement",
            where=where,
            value=statement.text,
            hint="Write expressions in braces.",
        )
    if RESERVED in text:
        raise DeckError(f"names with {RESERVED} are the engine's own", where=where, value=statement.text)
    if word[0] == ".":
        return
    if not _ELEMENT.fullmatch(word) or word in _COMMANDS:
        raise DeckError(
            f"the model {title} has a line that is none of a model",
            where=where,
            value=statement.text,
            limit=f"an element whose name begins with one of {', '.join(_ELEMENTS.upper())}",
        )
    if word[0] == "n" and not compiled:
        raise DeckError(
            f"the model {title} has an N device without a compiled model",
            where=where,
            value=statement.text,
            hint="Name the .osdi file in the declaration of the cell.",
        )
    if (keyword := _KEYWORD.search(text)) and word[0] in "vieg":
        raise DeckError(
            f"line {statement.number} of the model: {keyword[0]} is not available in a cell",
            where=where,
            value=statement.text,
        )
