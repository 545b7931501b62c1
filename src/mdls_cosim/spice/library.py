"""SPICE models: the library, one .sub file per device, in a source checkout and in a wheel; and a user's own texts."""

from functools import cache, lru_cache
from pathlib import Path

from mdls_cosim.errors import DeckError
from mdls_cosim.resources import resource_folder
from mdls_cosim.spice.elements import RESERVED

__all__ = ["definitions", "model_names", "model_text", "models_folder", "read_model"]

# All that a model may consist of beside elements and comments; whatever else begins with a dot belongs to a whole deck.
_PARTS = {".subckt", ".ends", ".model", ".param", ".func", ".if", ".elseif", ".else", ".endif"}
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
    """The text of a model that is given by its name in the library, or as a text of its own (more than one line)."""
    return model.rstrip() if "\n" in model else read_model(model)


@lru_cache(maxsize=64)
def definitions(model: str, where: str) -> tuple[str, ...]:
    """The names of the subcircuits and device models that a model defines, lower case.

    Raises DeckError for a line that is none of a model (an analysis, options, a command, a file to include), for an
    element outside of every subcircuit, and for a subcircuit without end.
    """
    text = model_text(model)
    title = f'"{text.split(chr(10), 1)[0][:60]}"' if "\n" in model else model
    names: list[str] = []
    depth = 0
    for line in text.splitlines():
        words = line.lower().split()
        first = words[0] if words else "*"
        if first.startswith(("*", "+", "$", ";")) and not first.startswith("*#"):
            continue
        if first in _FILES:
            raise DeckError(
                f"the model {title} wants another file",
                where=where,
                value=line,
                hint="Put the text of that file in its place: a deck runs alone.",
            )
        if first.startswith("*#") or (first[0] == "." and first not in _PARTS) or not first[0].isascii():
            raise DeckError(
                f"the model {title} has a line that is none of a model",
                where=where,
                value=line,
                limit=f"elements and {', '.join(sorted(_PARTS))}",
            )
        if RESERVED in line.lower():
            raise DeckError(f"names with {RESERVED} are the engine's own", where=where, value=line)
        if first in (".subckt", ".model"):
            if len(words) < 2:
                raise DeckError(f"the model {title} defines something without a name", where=where, value=line)
            if depth == 0:
                names.append(words[1])
        depth += (first == ".subckt") - (first == ".ends")
        if depth < 0 or (depth == 0 and first[0] != "."):
            what = "ends what has not begun" if depth < 0 else "has an element outside of every subcircuit"
            raise DeckError(f"the model {title} {what}", where=where, value=line)
    if depth:
        raise DeckError(f"the model {title} has a subcircuit without .ends", where=where, value=names[-1])
    return tuple(names)
