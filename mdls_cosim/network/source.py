"""The source of user code: the module of a function and the modules that it imports, found without running them."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

_OWN = Path(__file__).resolve().parents[1]
_INSTALLED = tuple(
    {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {Path(torch.__file__).resolve().parent}
)


def source_files(names: Iterable[str], package: str = "") -> dict[str, Path]:
    """The file of each module in `names`, of the packages around them, and of every module that they import.

    Imports are read from the source: statements anywhere in it, and `import_module("name")`. Of installed packages and
    of this one only the modules in `names` count, without what they import.

    Args:
        names: dotted names, looked up on `sys.path` as it is.
        package: only modules in this package, installed or not; "": any.
    """
    wanted = set(names)
    found: dict[str, Path] = {}
    waiting = [*wanted]
    while waiting:
        for name, spec in _specs(waiting.pop()):
            file = None if spec.origin is None or not spec.has_location else Path(spec.origin)
            if name in found or file is None or not file.is_file():
                continue
            if package and name != package and not name.startswith(f"{package}."):
                continue
            installed = not package and _is_installed(file)
            if installed and name not in wanted:
                continue
            found[name] = file
            waiting += [] if installed else _imports(file, name, spec.submodule_search_locations is not None)
    return found


def source_hash(names: Iterable[str], package: str = "") -> str:
    """Hash of the code in `source_files`; of an installed package also the version.

    Comments, layout and places of the files do not count.
    """
    digest = hashlib.sha256()
    for name, file in sorted(source_files(names, package).items()):
        digest.update(f"{name} {fingerprint(file)}\n".encode())
        if not package and _is_installed(file):
            with suppress(PackageNotFoundError):
                digest.update(version(name.partition(".")[0]).encode())
    return f"sha256:{digest.hexdigest()}"


def model_modules(model: nn.Module) -> set[str]:
    """Names of the modules in which the classes of a model are defined, without torch's and this package's."""
    classes = {base for part in model.modules() for base in type(part).__mro__}
    names = {each.__module__ for each in classes}
    return {name for name in names if name.partition(".")[0] not in ("torch", "builtins", "mdls_cosim", "__main__")}


def fingerprint(file: Path) -> str:
    """Hash of the code in a file: of its syntax tree, of the bytes where it has none."""
    content = file.read_bytes()
    try:
        return hashlib.sha256(ast.dump(ast.parse(content)).encode()).hexdigest()
    except (SyntaxError, ValueError, RecursionError):
        return hashlib.sha256(content).hexdigest()


def _is_installed(file: Path) -> bool:
    place = file.resolve()
    return place.is_relative_to(_OWN) or any(place.is_relative_to(each) for each in _INSTALLED)


def _specs(name: str) -> Iterator[tuple[str, ModuleSpec]]:
    """Name and place of every package around a module, and its own."""
    parts, places = name.split("."), None
    for count in range(1, len(parts) + 1):
        prefix = ".".join(parts[:count])
        spec = PathFinder.find_spec(prefix, places)
        if spec is None and count == 1:  # installed by a hook, as editable packages are
            try:
                spec = importlib.util.find_spec(prefix)
            except (ValueError, ImportError):
                return
        if spec is None:
            return
        yield prefix, spec
        if spec.submodule_search_locations is None:
            return
        places = list(spec.submodule_search_locations)


def _imports(file: Path, name: str, is_package: bool) -> list[str]:
    """Names of what a file imports; of a member of a package, which may be a module, too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return []
    parent = name if is_package else name.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                around = parent.split(".")[: len(parent.split(".")) - node.level + 1]
                base = ".".join([*around, *([base] if base else [])])
            found += [base, *(f"{base}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                given = node.args[0].value
                found.append(f"{parent}{given}" if given.startswith(".") else given)
    return [each for each in found if each and not each.startswith(".")]


_LOADED: dict[str, str] = {}
"""Fingerprint of the file of a module when it was imported, by its name."""


def forget_changed(name: str) -> None:
    """Removes a module and what it imports from `sys.modules` if a file has changed, or is another one, since then.

    The next import then runs the code that is there now.
    """
    files = source_files([name])
    for each, file in files.items():
        module = sys.modules.get(each)
        if module is None:
            continue
        before = getattr(module, "__file__", None)
        moved = before is None or Path(before).resolve() != file.resolve()
        if moved or _LOADED.get(each, fingerprint(file)) != fingerprint(file):
            break
    else:
        return
    for each, file in files.items():
        if not _is_installed(file):
            sys.modules.pop(each, None)


def note_loaded(name: str) -> None:
    """Keeps the fingerprints of a module and of what it imports, for `forget_changed`."""
    _LOADED.update({each: fingerprint(file) for each, file in source_files([name]).items()})
