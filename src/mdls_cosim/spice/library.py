"""The library of SPICE models: one .sub file per device, found in a source checkout and in an installed wheel."""

from functools import cache
from pathlib import Path

from mdls_cosim.errors import DeckError

__all__ = ["model_names", "models_folder", "read_model"]

_PACKAGE = Path(__file__).resolve().parents[1]


def models_folder() -> Path:
    """The folder of the .sub files.

    A wheel carries it inside the package; a source checkout (also an editable install) has it beside `src`.
    """
    candidates = (_PACKAGE / "spice_models", _PACKAGE.parents[1] / "spice_models")
    for folder in candidates:
        if folder.is_dir():
            return folder
    searched = " and ".join(str(folder) for folder in candidates)
    raise DeckError("the folder of SPICE models is missing", where=searched, hint="Install the package again.")


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
