"""Parameter sets: TOML files that say what a device's parameters are, where they come from and where they hold.

    title = "..."              what device this is
    source = "..."             DOI, or the measurement it was calibrated on
    validity = "..."           voltages, times, temperatures that it was made for
    [device]                   the parameters, as they stand in a tile's TOML
    model = "vteam"
    ...
    [variability]              optional: spread and degradation, see devices.variability
    [calibration]              optional, of `mdls-cosim calibrate`: confidence intervals, residuals, data

The folder `calibration/parameters/` holds the sets that come with the package.
"""

from __future__ import annotations

import hashlib
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from mdls_cosim.config import read_toml
from mdls_cosim.devices.validity import ParameterOrigin
from mdls_cosim.errors import ConfigError
from mdls_cosim.resources import resource_folder


def _folder() -> Path:
    """The parameter sets that come with the package."""
    return resource_folder("calibration") / "parameters"


def parameter_set_names() -> tuple[str, ...]:
    """The names of all parameter sets that come with the package, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def parameter_path(name: Any, folder: str = "") -> Path:
    """The file of a parameter set.

    Args:
        name: of a set that comes with the package, or the path of a TOML file.
        folder: where relative paths begin; the working folder if empty.

    Raises:
        ConfigError: there is no such set or file.
    """
    if not isinstance(name, str):
        raise ConfigError("not the name of a parameter set", where="parameters", value=name, limit="text")
    known = parameter_set_names()
    path = _folder() / f"{name}.toml" if name in known else Path(folder) / name
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        there = False
    if not there:
        # The most similar first: a long message is cut.
        similar = sorted(known, key=lambda each: -SequenceMatcher(None, name[:100], each).ratio())
        raise ConfigError(
            "no such parameter set", where="parameters", value=name, limit=f"a TOML file, or {', '.join(similar)}"
        )
    return path


def read_parameter_file(name: Any, folder: str = "") -> dict[str, Any]:
    """The whole content of a parameter set.

    Args:
        name: of a set that comes with the package, or the path of a TOML file.
        folder: where relative paths begin; the working folder if empty.

    Raises:
        ConfigError: there is no such set or file, or it has no table [device].
    """
    path = parameter_path(name, folder)
    content = read_toml(path)
    if not isinstance(content.get("device"), dict):
        raise ConfigError("a parameter set without a table [device]", where=str(path))
    return content


def read_parameters(name: Any, folder: str = "") -> dict[str, Any]:
    """The device's table of a parameter set."""
    return read_parameter_file(name, folder)["device"]


def read_origin(name: Any, folder: str = "") -> ParameterOrigin:
    """What a parameter set says of itself: title, source, error, validity.

    Raises:
        ConfigError: there is no such set, or its ranges are none.
    """
    path = parameter_path(name, folder)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    shown = name if name in parameter_set_names() else path.name
    return ParameterOrigin.of_file(shown, read_parameter_file(name, folder), digest)
