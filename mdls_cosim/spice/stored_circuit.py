"""Circuits that come from a file rather than from a Deck: checked before anybody runs them."""

from __future__ import annotations

import re
from pathlib import Path

from mdls_cosim.errors import DeckError
from mdls_cosim.spice.library import check_statement
from mdls_cosim.spice.netlist import parsed

__all__ = ["checked_circuit"]

LONGEST_LINE = 10_000_000
"""Characters of a statement; waves of long pulse trains have hundreds of thousands."""

# What Deck.assembled and the strategies add to elements and models.
_ADDED = re.compile(
    r"\.options [\w.=+ -]+|\.save (?:all|[iv]\([\w.#:-]+\))|\.nodeset v\([\w.#:-]+\)=[\w.+-]+|\.end", re.IGNORECASE
)
_RESERVED_ELEMENT = re.compile(r"[bv]mdls_[\w.#:-]+ [\w.# :-]+ [\w.,=+() -]+", re.IGNORECASE)
# The commands of Deck.standalone.
_COMMAND = re.compile(
    r"set (?:numdgt=15|width=4096|nobreak)|optran 1 1 1 0 0 0|alter [\w.#:-]+ dc = [\w.+-]+|op|echo vector \d+"
    r"|print (?:col )?[iv]\([\w.#:-]+\)|tran(?: [\w.+-]+)+|quit"
)


def checked_circuit(text: str, where: str, osdi: str | None = None) -> str:
    """The circuit, one statement a line and without comments, if it is what the engine writes.

    That is elements, models, options, and commands that solve the circuit and print results.

    Args:
        text: of the circuit, which a Dataset keeps of a point that failed.
        where: it comes from, for the messages.
        osdi: the compiled Verilog-A model of its cell.

    Raises:
        DeckError: a line is another command, names a file, or defines a .model of a type that is not allowed.
    """
    title, _, rest = text.partition("\n")
    if not (title.startswith("* ") and title.isprintable()):
        raise DeckError("a stored circuit without a title", where=where, value=title, limit="* TITLE")
    circuit, begin, after = rest.partition("\n.control\n")
    commands, finish, end = after.partition("\n.endc\n")
    if begin and (not finish or end != ".end\n"):
        raise DeckError("a stored circuit whose commands do not end", where=where, value=end, limit=".endc, .end")
    compiled = None if osdi is None else f"pre_osdi {Path(osdi).resolve()}"
    for command in commands.split("\n") if begin else ():
        if not _COMMAND.fullmatch(command) and command != compiled:
            raise DeckError(
                "a stored circuit with another command than those of the engine", where=where, value=command
            )
    found = parsed(circuit, where, LONGEST_LINE)
    for statement in found:
        if _ADDED.fullmatch(statement.text) or _RESERVED_ELEMENT.fullmatch(statement.text):
            continue
        check_statement(statement, title[2:60], where, osdi is not None)
    return "\n".join([title, *(statement.text for statement in found)]) + (f"{begin}{commands}{finish}{end}" or "\n")
