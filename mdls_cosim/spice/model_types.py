"""Types of .model that a model may define: those that compute, and neither read files nor start programs."""

from __future__ import annotations

import re

from mdls_cosim.errors import DeckError
from mdls_cosim.spice.netlist import Statement

__all__ = ["CODE_MODELS", "DEVICES", "checked_model"]

_DEVICES = "r res c l d npn pnp njf pjf nmf pmf nhfet phfet nmos pmos nsoi psoi vdmos vdmosn vdmosp sw csw ltra"
_CODE_MODELS = """
    gain summer mult divide limit climit ilimit pwl pwlts multi_input_pwl hyst int d_dt s_xfer slew sine square triangle
    oneshot aswitch pswitch zener sidiode potentiometer memristor core lcouple capacitoric inductoric
"""
_READERS = "filesource d_source d_state xfer table2d table3d"
_CIDER = "numd nbjt numos numd2 nbjt2"
_OTHERS = """
    urc txl cpl transline poly ndev delay astate cmeter lmeter seegen spice2poly mlin tline cpline cpmlin msopen
    adc_bridge dac_bridge bidi_bridge real_delay real_gain real_to_v
"""

DEVICES = frozenset(_DEVICES.split())
"""Devices of ngspice itself, without those of CIDER."""
CODE_MODELS = frozenset(_CODE_MODELS.split())
"""XSPICE code models without a parameter that names a file."""

# Every other type that ngspice 46 knows, to refuse it by what it does; a type in none of these sets may be that of a
# compiled Verilog-A module.
_REFUSED = {
    "d_process": "it starts a program",
    "d_cosim": "it loads a shared library",
    **dict.fromkeys(_READERS.split(), "it reads a file"),
    **dict.fromkeys(_CIDER.split(), "it reads and writes files"),
    **dict.fromkeys(_OTHERS.split(), "it is not supported in a cell"),
}
_MODEL = re.compile(r"\.model ([\w.:#+-]+) ([a-z]\w*)(?: ?\(.*\)| .*)?", re.IGNORECASE)
_SYNONYMS = {
    "vswitch": "Write sw(vt=... vh=... ron=... roff=...)",
    "iswitch": "Write csw(it=... ih=... ron=... roff=...)",
    "ako": "Write all parameters of the model",
    "cap": "Write c",
    "ind": "Write l",
}


def checked_model(statement: Statement, where: str, compiled: bool) -> str:
    """The name that a .model statement defines, lower case.

    Args:
        statement: the .model statement.
        where: it is used, for the messages.
        compiled: a compiled Verilog-A model is loaded, whose module a type may be.

    Raises:
        DeckError: its type is not in the list of those that are allowed, or the statement has another form.
    """
    found = _MODEL.fullmatch(statement.text)
    if found is None:
        kind = statement.text.lower().split(" ", 2)[-1].partition(":")[0]
        raise DeckError(
            f"line {statement.number} of the model is not .model NAME TYPE (parameters)",
            where=where,
            value=statement.text,
            hint=_SYNONYMS.get(kind, "The name and the type are plain words"),
        )
    name, kind = found[1].lower(), found[2].lower()
    if kind in DEVICES or kind in CODE_MODELS:
        return name
    refused = _REFUSED.get(kind) or ("it is digital" if kind.startswith("d_") else None)
    if refused is None and compiled:
        return name
    raise DeckError(
        f"line {statement.number} of the model: a .model of type {kind} is refused ({refused or 'an unknown type'})",
        where=where,
        limit="devices (d, nmos, sw, ...), analog code models (memristor, pwl, ...)",
        hint=_SYNONYMS.get(kind, "docs/cells.md lists them"),
    )
