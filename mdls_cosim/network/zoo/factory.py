"""A user's own function that builds a model, by its name."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from mdls_cosim.errors import ConfigError
from mdls_cosim.network.source import forget_changed, note_loaded

_FORM = '"module:function", as in "my_networks:small_cnn"'


def factory(reference: str, folder: str | os.PathLike[str] | None = None) -> Callable[..., nn.Module]:
    """The function of `named_function`, checked at every call to return a torch module.

    Raises:
        ConfigError: no such module or function; at the call, arguments that the function does not take, or a result
            that is no `torch.nn.Module`.
    """
    return _checked(named_function(reference, folder), reference, folder)


def named_function(reference: str, folder: str | os.PathLike[str] | None = None, where: str = "model") -> Any:
    """What can be called under `reference`, "module:function".

    This imports the module, which runs its code: name only modules that you trust. A module whose file, or that of a
    module it imports, has changed since an earlier import is imported anew. What the code itself raises goes through
    as it is.

    Args:
        folder: where modules are looked for first (that of an experiment's file); None: only where Python looks.
        where: the place of a reference that is none, for its error.

    Raises:
        ConfigError: no such module or function.
    """
    module_name, colon, function_name = reference.partition(":")
    names = [*module_name.split("."), *function_name.split(".")]
    if not colon or not all(name.isidentifier() for name in names):
        raise ConfigError("not the name of a function", where=where, value=reference, limit=_FORM)
    found: Any = _imported(module_name, reference, folder)
    for name in function_name.split("."):
        if not hasattr(found, name):
            public = [each for each in vars(found) if not each.startswith("_") and callable(getattr(found, each))]
            raise ConfigError(
                "no such function in the module",
                where=reference,
                value=name,
                hint=f"it has {', '.join(public)}" if public else "it has none",
            )
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError("not a function", where=reference, value=type(found).__name__, limit="what can be called")
    return found


def _imported(name: str, reference: str, folder: str | os.PathLike[str] | None) -> Any:
    with searched_first(folder):
        forget_changed(name)
        try:
            found = importlib.import_module(name)
            note_loaded(name)
            return found
        except ModuleNotFoundError as error:
            # A module that the user's own module misses is told by Python, with the line that asks for it.
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise
            searched = "where Python looks" if folder is None else f"in {os.fspath(folder)} and where Python looks"
            raise ConfigError(
                "no such module",
                where=reference,
                value=error.name,
                hint=f"It must lie {searched} (PYTHONPATH, or an installed package)",
            ) from None


@contextmanager
def searched_first(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Looks for modules in `folder` before all other places, for a while."""
    if folder is None:
        yield
        return
    entry = os.path.abspath(folder)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()  # the module may have been written a moment ago
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # bytecode of a second ago would stand for a file of the same size
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(entry)


def _checked(
    function: Callable[..., Any], reference: str, folder: str | os.PathLike[str] | None
) -> Callable[..., nn.Module]:
    @functools.wraps(function)
    def build(*arguments: Any, **options: Any) -> nn.Module:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None  # some built-in callables tell no signature: the call itself will complain
        if signature is not None:
            try:
                signature.bind(*arguments, **options)
            except TypeError as error:
                raise ConfigError(
                    f"the function cannot be called so: {error}", where=reference, limit=f"{signature}"
                ) from None
        with searched_first(folder):  # for imports inside the function
            model = function(*arguments, **options)
        if not isinstance(model, nn.Module):
            raise ConfigError(
                "the function returns no model", where=reference, value=type(model).__name__, limit="a torch.nn.Module"
            )
        return model

    return build
