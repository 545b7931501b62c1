"""Tables of numbers as instruments and spreadsheets write them: text, one row a line, columns with declared units."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdls_cosim.errors import ConfigError, InputError, StoreError
from mdls_cosim.quantities import parse_quantity

UNITS = {
    "time": "second",
    "voltage": "volt",
    "applied voltage": "volt",
    "current": "ampere",
    "conductance": "siemens",
    "resistance": "ohm",
    "target": "siemens",
    "cycle": None,
    "ramp": None,
    "pulse": None,
    "level": None,
    "device": None,
}
"""Every column that means something here, and the unit that its declared unit must convert to; None: a count."""

_COMMENTS = ("#", "%", "//")
_DECLARED = re.compile(r"\s*([^\[\]()]*?)\s*(?:[\[(]\s*([^\[\]()]*?)\s*[\])])?\s*")
_REPEAT = "..."


@dataclass(frozen=True)
class Column:
    """What a column holds: its name in UNITS, and the unit that its numbers carry ("" for a count or a share)."""

    name: str
    unit: str


@dataclass(frozen=True, eq=False)
class TableFile:
    """Rows of numbers in SI with what their columns hold; cells without a number are NaN."""

    path: str
    columns: tuple[Column, ...]
    values: np.ndarray
    """(rows, columns), SI."""
    lines: np.ndarray
    """(rows,) line of the file, 1 for the first."""
    unused: tuple[str, ...]
    """Headings that mean nothing here."""
    content_hash: str

    @property
    def name(self) -> str:
        """The file's name."""
        return os.path.basename(self.path)

    def has(self, name: str) -> bool:
        """Whether there is a column `name`."""
        return any(column.name == name for column in self.columns)

    def places(self, name: str) -> list[int]:
        """Where the columns `name` are."""
        return [place for place, column in enumerate(self.columns) if column.name == name]

    def column(self, name: str) -> np.ndarray:
        """The one column `name` (rows,), a number in every row.

        Raises:
            InputError: there is none, there are several, or a row has no number there.
        """
        places = self.places(name)
        if len(places) != 1:
            raise InputError(
                f"{'no' if not places else 'more than one'} column for the {name}", where=self.path,
                value=", ".join(column.name for column in self.columns),
                hint=f'Name it in the header with its unit, as "{example(name)}", or declare columns with --columns',
            )  # fmt: skip
        values = self.values[:, places[0]]
        if (bad := np.flatnonzero(np.isnan(values))).size:
            raise InputError(
                f"no number for the {name}", where=f"{self.path}, line {self.lines[bad[0]]}",
                value=f"{bad.size} such rows of {len(values)}",
                hint="Take out rows that hold no measurement; none is left out silently",
            )  # fmt: skip
        return values

    def counts(self, name: str) -> np.ndarray:
        """The column `name` as whole numbers."""
        values = self.column(name)
        if (bad := np.flatnonzero(values != np.round(values))).size:
            raise InputError(
                "not a whole number", where=f"{self.path}, line {self.lines[bad[0]]}: {name}", value=values[bad[0]]
            )
        return values.astype(np.int64)


def example(name: str) -> str:
    """How the heading of column `name` may look."""
    units = {"second": "s", "volt": "V", "ampere": "uA", "siemens": "uS", "ohm": "kohm", None: ""}
    unit = units[UNITS[name]]
    return f"{name} [{unit}]" if unit else name


def read_table(path: str | os.PathLike[str], columns: str | None = None, decimal_comma: bool = False) -> TableFile:
    """The table in the file `path`.

    Cells are parted by tabs, semicolons, commas or spaces; lines that begin with #, % or // are comments. The
    first row, or the last comment before it, may name the columns: `voltage [V], current [uA]`.

    Args:
        columns: the same as text, for files without such a header or in its place; "..." repeats the last one.
        decimal_comma: numbers are written 0,5.

    Raises:
        StoreError: there is no such file, or it is no text.
        ConfigError: a column without its unit, or with a wrong one.
        InputError: no rows, rows of unequal length, text in place of a number.
    """
    where = os.fspath(path)
    text, digest = _text(where)
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    rows = [(number, line) for number, line in numbered if line and not line.startswith(_COMMENTS)]
    if not rows:
        raise InputError("a file without rows", where=where, limit="a table of numbers")
    comments = [line.lstrip("#%/ ") for number, line in numbered if line.startswith(_COMMENTS) and number < rows[0][0]]
    separator = _separator([line for _, line in rows], decimal_comma)
    cells = [(number, _split(line, separator)) for number, line in rows]
    header: list[str] | None = None
    if any(_number(cell, decimal_comma) is None for cell in cells[0][1]):
        header = _headings(rows[0][1], separator)
        cells = cells[1:]
    elif comments and "[" in comments[-1]:
        header = _headings(comments[-1], separator)
    if not cells:
        raise InputError("a header and no rows below it", where=where, value=", ".join(header or ()))
    width = max(len(row) for _, row in cells)
    values = np.full((len(cells), width), math.nan)
    for place, (number, row) in enumerate(cells):
        if len(row) != width:
            raise InputError(
                "rows of unequal length", where=f"{where}, line {number}", value=f"{len(row)} cells",
                limit=f"{width} as in other rows",
                hint="Decimal commas need another separator between columns, and the option --decimal-comma",
            )  # fmt: skip
        for column, cell in enumerate(row):
            values[place, column] = _value(cell, decimal_comma, f"{where}, line {number}")
    if header is not None and columns is None and len(header) != width:
        raise InputError(
            "a header that does not fit its rows", where=where, value=f"{len(header)} names for {width} columns",
            hint="Decimal commas need another separator between columns, and the option --decimal-comma",
        )  # fmt: skip
    declared, unused = _declare(columns, header, width, where)
    kept = [place for place, column in enumerate(declared) if column is not None]
    known = tuple(column for column in declared if column is not None)
    scaled = np.stack([_scaled(values[:, place], declared[place], where) for place in kept], axis=1)
    return TableFile(where, known, scaled, np.array([number for number, _ in cells]), unused, digest)


def _text(where: str) -> tuple[str, str]:
    if not Path(where).is_file():
        found = "a file is needed, and this is a folder" if Path(where).is_dir() else "no such file"
        raise StoreError(found, where=where)
    content = Path(where).read_bytes()
    if not content.strip():
        raise InputError("an empty file", where=where, limit="a table of numbers")
    # Spreadsheets write UTF-16 with a mark; the last is for the micro sign of older programs.
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, f"sha256:{hashlib.sha256(content).hexdigest()}"
    raise StoreError("not a text file", where=where, limit="a table of numbers as text (CSV)")


def _separator(lines: Sequence[str], decimal_comma: bool) -> str | None:
    """The sign between cells, which most lines hold; None: spaces."""
    for sign in ("\t", ";") if decimal_comma else ("\t", ";", ","):
        if 2 * sum(sign in line for line in lines) > len(lines):
            return sign
    return None


def _split(line: str, separator: str | None) -> list[str]:
    cells = line.split(separator)
    if separator == "\t" or separator is None:
        return [cell.strip() for cell in cells]
    return [cell.strip().strip('"').strip() for cell in cells]


def _headings(line: str, separator: str | None) -> list[str]:
    if separator is not None:
        return _split(line, separator)
    # Parted by spaces, and names with their units hold spaces themselves.
    if "[" in line or "(" in line:
        return [found.strip() for found in re.findall(r"[^\[\](),;]+[\[(][^\[\]()]*[\])]|[^\s\[\](),;]+", line)]
    return line.split()


def _number(cell: str, decimal_comma: bool) -> float | None:
    if cell == "":
        return math.nan
    try:
        return float(cell.replace(",", ".") if decimal_comma else cell)
    except ValueError:
        return None


def _value(cell: str, decimal_comma: bool, where: str) -> float:
    number = _number(cell, decimal_comma)
    if number is None or math.isinf(number):
        looks = re.fullmatch(r"[+-]?\d+,\d+(e[+-]?\d+)?", cell, re.IGNORECASE)
        raise InputError(
            "not a number", where=where, value=cell,
            hint="If this is a decimal comma, add --decimal-comma" if looks else None,
        )  # fmt: skip
    return number


def _declare(
    columns: str | None, header: list[str] | None, width: int, where: str
) -> tuple[list[Column | None], tuple[str, ...]]:
    """What each column holds, None where it means nothing here; and the headings of those."""
    if columns is None:
        if header is None:
            raise ConfigError(
                "a table without a header", where=where, value=f"{width} columns",
                hint='Declare them with --columns, for example --columns "voltage [V], current [A]"',
            )  # fmt: skip
        found = [declared(text, f'{where}: column "{text}"', strict=False) for text in header]
        unused = tuple(text for text, column in zip(header, found, strict=True) if column is None)
        if len(unused) == len(found):
            raise InputError(
                "no column that means anything here", where=where, value=", ".join(header), limit=", ".join(UNITS),
                hint='Declare the columns with --columns, for example --columns "voltage [V], current [A]"',
            )  # fmt: skip
        return found, unused
    names = [name.strip() for name in columns.split(",")]
    if names[-1] == _REPEAT and len(names) > 1:
        names = names[:-1] + [names[-2]] * (width - len(names) + 1)
    if len(names) != width:
        raise ConfigError(
            "declared columns that do not fit the file", where=f"--columns, {where}", value=f"{len(names)} declared",
            limit=f"{width} columns", hint='A column that is not wanted is declared as "-"; "..." repeats the last',
        )  # fmt: skip
    chosen = [None if name == "-" else declared(name, f'--columns "{name}"') for name in names]
    if not any(chosen):
        raise ConfigError("no column declared", where="--columns", value=columns)
    return chosen, ()


def declared(text: str, where: str, strict: bool = True) -> Column | None:
    """A column's name and unit, from "current [uA]"; None for a name that means nothing here, unless `strict`.

    Raises:
        ConfigError: the unit is missing or of another dimension; or the name is unknown, where `strict`.
    """
    match = _DECLARED.fullmatch(text)
    name, unit = (match[1], match[2]) if match else (text, None)
    name = " ".join(name.lower().replace("_", " ").split())
    if name not in UNITS:
        if not strict:
            return None
        raise ConfigError("an unknown column", where=where, limit=", ".join(UNITS))
    wanted = UNITS[name]
    if wanted is None:
        if unit not in (None, "", "1"):
            raise ConfigError("a unit for a count", where=where, value=unit, limit="none")
        return Column(name, "")
    if not unit:
        raise ConfigError(
            "a column without its unit", where=where, limit=f'a name with its unit, such as "{example(name)}"'
        )
    if unit == "1" and name == "conductance":
        return Column(name, "")
    try:
        parse_quantity(f"1 {unit}", wanted)
    except ConfigError as error:
        raise ConfigError(error.what, where=where, value=unit, limit=error.limit) from None
    return Column(name, unit)


def _scaled(values: np.ndarray, column: Column | None, where: str) -> np.ndarray:
    """`values` in SI."""
    wanted = UNITS[column.name] if column else None
    if column is None or wanted is None or not column.unit:
        return values
    scale = parse_quantity(f"1 {column.unit}", wanted)
    return values * scale
