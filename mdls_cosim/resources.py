"""Folders of files that the package reads: beside the package in a source checkout, inside it in a wheel."""

from pathlib import Path

from mdls_cosim.errors import StoreError

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The folder `name` ("spice_models", "calibration").

    A wheel carries it inside the package; a source checkout (also an editable install) has it beside the package.

    Raises:
        StoreError: it is in neither place.
    """
    candidates = (_PACKAGE / name, _PACKAGE.parent / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    searched = " and ".join(str(folder) for folder in candidates)
    raise StoreError(f"the folder {name} is missing", where=searched, hint="Install the package again.")
