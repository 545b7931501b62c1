"""Folders of files that the package reads: beside `src` in a source checkout, inside the package in a wheel."""

from pathlib import Path

from mdls_cosim.errors import StoreError

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The folder `name` ("spice_models", "calibration").

    A wheel carries it inside the package; a source checkout (also an editable install) has it beside `src`.

    Raises:
        StoreError: it is in neither place.
    """
    candidates = (_PACKAGE / name, _PACKAGE.parents[1] / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    searched = " and ".join(str(folder) for folder in candidates)
    raise StoreError(f"the folder {name} is missing", where=searched, hint="Install the package again.")
