"""The frozen base of every configuration, and the TOML loader. Each room defines its own configurations."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, WrapValidator, model_validator

from mdls_cosim.errors import ConfigError, StoreError
from mdls_cosim.text_files import MEGABYTE, read_text_file

LARGEST_TOML = 2 * MEGABYTE
"""Size of a TOML file that is read [bytes]."""

# tomllib takes time and memory of the square of the number of parts of a dotted key: 100,000 parts are 14 GB.
_MOST_PARTS = 100
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_PART}){{{_MOST_PARTS}}}")

LARGEST_SEED = 2**62
"""Files hold integers of 64 bits; repetitions count from a seed upward."""

_TEXT = {"text": True}  # the validation context in which quantities must carry their unit


AbsentIsNone = WrapValidator(lambda value, check: None if value is None else check(value))
"""Marks a field that a validator derives from others (`Config._derive`) where it is None."""


class Config(BaseModel):
    """A frozen set of checked values; unknown keys are refused, change is by copy.

    Constructed in Python, dimensioned fields take SI floats (or text with a unit); from TOML and the command line,
    text with a unit only. Whatever is wrong is a ConfigError that names the field, the value and what is allowed.
    A validator of a subclass may raise ConfigError itself: the path of the field is put before its `where`.
    """

    shorthands: ClassVar[tuple[str, ...]] = ()
    """Keys besides the fields: a validator of the class turns each into values of fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **data: Any) -> None:
        try:
            self.__pydantic_validator__.validate_python(data, self_instance=self)
        except ValidationError as error:
            raise _config_error(error, data, prefix=f"{type(self).__name__}.") from None

    # pydantic runs an own __init__ for nested models too, and there it would lose the validation context (text or
    # Python) and the path; this mark, which BaseModel.__init__ carries, says that nothing is added but the error.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            allowed = [*cls.model_fields, *cls.shorthands]
            for key in data:
                if key not in allowed:
                    raise ConfigError(
                        "unknown key", where=str(key), limit=", ".join(allowed), hint=_closest(str(key), allowed)
                    )
        return data

    @classmethod
    def from_text_dict(cls, data: Mapping[str, Any], where: str | None = None, folder: str = "") -> Self:
        """Checked values of a TOML table or of command-line options; `where` (a file) opens every error's place.

        folder: where relative paths in the table begin; the working folder if empty.
        """
        try:
            return cls.model_validate(dict(data), context={**_TEXT, "folder": folder})
        except ValidationError as error:
            raise _config_error(error, data, prefix=f"{where}: " if where else "") from None

    @classmethod
    def load_toml(cls, path: str | os.PathLike[str]) -> Self:
        """The configuration in the TOML file `path`."""
        return load_toml(path, cls)

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, checked like a new one; fields that were not given stay defaults of the copy."""
        return type(self)(**({name: getattr(self, name) for name in self.model_fields_set} | changes))

    def _derive(self, name: str, value: Any) -> None:
        """Set a field that was left out to a value derived from other fields; for validators.

        The field still counts as left out, so that a copy by `replace` derives it from its own fields.
        """
        object.__setattr__(self, name, value)
        self.__pydantic_fields_set__.discard(name)

    def extra_description(self) -> dict[str, Any]:
        """Text for `quantities.describe` besides the fields, or in place of what it makes of a field; may be nested.

        An empty text leaves the field out.
        """
        return {}

    def as_dict(self) -> dict[str, Any]:
        """All values, SI and JSON-able; `type(self)(**as_dict())` equals this configuration."""
        return self.model_dump(mode="json", serialize_as_any=True)


ConfigType = TypeVar("ConfigType", bound=Config)


def load_toml(path: str | os.PathLike[str], model: type[ConfigType]) -> ConfigType:
    """The configuration of kind `model` in the TOML file `path`; ConfigError names file, and line or field."""
    where = os.fspath(path)
    return model.from_text_dict(read_toml(path), where, folder=os.path.dirname(os.path.abspath(where)))


def read_toml(path: str | os.PathLike[str], what: str = "the TOML file") -> dict[str, Any]:
    """The tables of the TOML file `path`, unchecked; ConfigError names file and line.

    Args:
        path: of a regular file of at most LARGEST_TOML bytes.
        what: the file is, for the messages.
    """
    found = read_text_file(path, what, largest=LARGEST_TOML, error=ConfigError)
    return parse_toml(found.text, found.path)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text; `where` (a file) opens the place that a ConfigError names."""
    if len(text) > LARGEST_TOML:
        raise ConfigError("a TOML text that is too large", where=where, value=len(text), limit=LARGEST_TOML)
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise ConfigError(
            "TOML syntax: a key of too many parts", where=f"{where}, line {line}", limit=f"{_MOST_PARTS} parts"
        )
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ConfigError("TOML syntax: too deeply nested", where=where, hint="Nest fewer arrays and tables") from None
    except ValueError as error:  # also a number of more digits than Python converts
        position = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        if position is None and not isinstance(error, tomllib.TOMLDecodeError):
            raise ConfigError("TOML syntax: a number that is too long", where=where) from None
        line = (position and position[1]) or text.count("\n") + 1
        what = str(error)[: position.start()] if position else str(error)
        raise ConfigError(f"TOML syntax: {what[:120]}", where=f"{where}, line {line}") from None
    _check_integers(tables, where)
    return tables


def _check_integers(tables: Mapping[str, Any], where: str) -> None:
    """Refuse integers that TOML, JSON and HDF5 files do not hold."""
    unseen: list[tuple[str, Any]] = list(tables.items())
    while unseen:
        key, value = unseen.pop()
        if isinstance(value, Mapping):
            unseen += [(f"{key}.{name}", each) for name, each in value.items()]
        elif isinstance(value, list):
            unseen += [(key, each) for each in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigError("an integer of more than 64 bits", where=f"{where}: {key}", limit="-2^63 to 2^63 - 1")


def check_stored(value: Any, where: str) -> None:
    """Refuse a stored configuration that names a file to read: it holds the content of all files that it was made of.

    Raises:
        StoreError: a cell is given by its file, a device by its parameter file, or a compiled model without its hash.
    """
    if isinstance(value, Mapping):
        named = isinstance(value.get("file"), str) or isinstance(value.get("parameters"), str)
        if "model" in value and (named or (value.get("osdi") is not None and not value.get("osdi_hash"))):
            raise StoreError(
                "a stored configuration that names a file to read",
                where=where,
                value=value.get("file") or value.get("parameters") or value.get("osdi"),
                hint="Files of mdls_cosim hold the content itself; this one was altered",
            )
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        check_stored(each, where)


def _config_error(error: ValidationError, data: Any, prefix: str) -> ConfigError:
    """The first problem of a failed validation as ConfigError; its hint names the other fields that are wrong."""
    found: dict[str, ConfigError] = {}
    for problem in error.errors(include_url=False):
        told = _problem(dict(problem), data)
        place = told.where or ""
        if place not in found:
            found[place] = told
        elif told.limit and told.limit != found[place].limit:  # the members of a union fail one by one
            found[place].limit = f"{found[place].limit} or {told.limit}"
    first, *others = found.values()
    first.where = f"{prefix}{first.where or ''}".removesuffix(".").removesuffix(": ") or None
    if others:
        names = ", ".join(other.where or "the whole" for other in others)
        hint = first.hint or ""
        first.hint = f"{hint}{'. ' if hint and hint[-1] not in '.?' else ' ' * bool(hint)}Also wrong: {names}"
    return first


def _problem(problem: dict[str, Any], data: Any) -> ConfigError:
    """One of pydantic's problems as ConfigError, its place being the path of the field."""
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    where = _path(problem["loc"], data, missing=kind == "missing")
    cause = context.get("error")
    if isinstance(cause, ConfigError):
        inner = ".".join(part for part in (where, cause.where) if part)
        return ConfigError(cause.what, where=inner, value=cause.value, limit=cause.limit, hint=cause.hint)
    if kind == "missing":
        return ConfigError("missing key", where=where, hint="It has no default, so it must be given")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        where = f"{where}.{context['discriminator'].strip(chr(39))}".removeprefix(".")
        if kind == "union_tag_not_found":
            return ConfigError("missing key", where=where, hint="It says which of the kinds is meant")
        return _choice(where, context["tag"], context["expected_tags"])
    if kind in ("literal_error", "enum"):
        return _choice(where, value, context["expected"])
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if message.startswith("Input should be "):
        limit = message.removeprefix("Input should be ")
        if "dictionary" in limit:
            limit = "a table of keys"
        return ConfigError("an impossible value", where=where, value="nothing" if value is None else value, limit=limit)
    return ConfigError(message, where=where, value=value)


def _choice(where: str, value: Any, expected: str) -> ConfigError:
    hint = _closest(value, re.findall(r"'([^']*)'", expected)) if isinstance(value, str) else None
    return ConfigError("an unknown choice", where=where, value=value, limit=expected.replace("'", '"'), hint=hint)


def _path(location: Iterable[int | str], data: Any, missing: bool) -> str:
    """The path of a field as it stands in `data`: pydantic's location without the union members it tried."""
    steps = list(location)
    path = ""
    for position, step in enumerate(steps):
        if isinstance(data, Mapping) and step in data:
            path, data = f"{path}.{step}", data[step]
        elif isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
            path, data = f"{path}[{step}]", data[step]
        elif missing and position == len(steps) - 1:
            path = f"{path}.{step}"
    return path.removeprefix(".")


def _closest(word: str, allowed: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(word, list(allowed), n=1)
    return f"Did you mean {near[0]}?" if near else None
