"""What is installed, what is missing, and how to get it: the data behind `mdls-cosim doctor`."""

import platform
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from mdls_cosim.errors import MdlsError
from mdls_cosim.spice.library import model_names, models_folder
from mdls_cosim.spice.probe import probe

__all__ = ["Check", "checks", "how_to_install_ngspice"]

_DISTRIBUTION = "mdls_cosim"

# For a source tree on the path that was never installed: what pyproject.toml would tell.
_PACKAGES = ("PySpice", "h5py", "numpy", "pint", "pydantic", "scikit-learn", "scipy", "torch", "typer")


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    name:   what
    ok:     whether it is as it should be
    needed: whether the main job cannot run without it
    found:  what there is, or the cause of the failure
    remedy: what to do; empty where nothing is to be done
    """

    name: str
    ok: bool
    needed: bool
    found: str
    remedy: str = ""


def checks(library: str | None = None) -> list[Check]:
    """All checks, the needed ones first: the main job runs if each of those is ok. Imports no torch, no PySpice."""
    found = [_python(), *_ngspice(library), _models(), *_packages(), _program()]
    return sorted(found, key=lambda check: not check.needed)


def how_to_install_ngspice(system: str | None = None) -> str:
    """The command that brings an ngspice with the KLU solver and its shared library, for this or a named system.

    system: "debian-12", "debian", "fedora", "macos" or "conda"; None: this one
    """
    commands = {
        "debian-12": "make setup, or: enable bookworm-backports in apt's sources, then `sudo apt-get install -t "
        "bookworm-backports ngspice libngspice0 libngspice0-dev`",
        "debian": "`sudo apt-get install ngspice libngspice0` (Debian 13, Ubuntu 24.10 or newer: KLU included)",
        "fedora": "`sudo dnf install ngspice libngspice`",
        "macos": "`brew install ngspice libngspice`",
        "conda": "`conda install -c conda-forge ngspice ngspice-lib`",
    }
    own = commands.get(system or _system())
    anywhere = f"{commands['conda']} works everywhere"
    return f"{own}; {anywhere}" if own and own != commands["conda"] else commands["conda"]


def _system() -> str:
    if sys.platform == "darwin":
        return "macos"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "conda"
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if release.get("ID") == "debian" and release.get("VERSION_ID") == "12":
        return "debian-12"
    if family & {"debian", "ubuntu"}:
        return "debian"
    return "fedora" if family & {"fedora", "rhel"} else "conda"


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("Python", ok, True, platform.python_version(), "" if ok else "Use Python 3.11 or newer.")


def _ngspice(library: str | None) -> list[Check]:
    """The library and its solver, through a worker that solves a circuit."""
    install = f"Install ngspice 42 or newer: {how_to_install_ngspice()}."
    try:
        info = probe(library)
    except MdlsError as error:
        missing = "not tried: there is no working library"
        return [
            Check("ngspice library", False, True, str(error), f"{install} Or name its file in NGSPICE_LIBRARY."),
            Check("matrix solver", False, False, missing, install),
        ]
    klu = info.solver == "klu"
    speed = "" if klu else f"The old solver takes minutes for arrays beyond 48x48. {install}"
    return [
        Check("ngspice library", True, True, f"ngspice {info.version}, {info.library}"),
        Check("matrix solver", klu, False, "KLU" if klu else "Sparse 1.3", speed),
    ]


def _models() -> Check:
    try:
        names = model_names()
        found = f"{', '.join(names) or 'none'} in {models_folder()}"
    except MdlsError as error:
        names, found = (), str(error)
    return Check("SPICE models", bool(names), True, found, "" if names else "Install the package again.")


def _packages() -> list[Check]:
    """The packages that this one requires, as installed; none of them is imported."""
    try:
        lines = requires(_DISTRIBUTION) or []
        names = [re.split(r"[^\w.\-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]
    except PackageNotFoundError:
        names = list(_PACKAGES)
    result = []
    for name in sorted(names, key=str.lower):
        try:
            result.append(Check(name, True, True, version(name)))
        except PackageNotFoundError:
            remedy = f"`{sys.executable} -m pip install {name}`, or install {_DISTRIBUTION} again."
            result.append(Check(name, False, True, "missing", remedy))
    return result


def _program() -> Check:
    path = shutil.which("ngspice")
    remedy = "" if path else f"Only needed to run a deck by hand: {how_to_install_ngspice()}."
    return Check("ngspice program", path is not None, False, path or "missing", remedy)
