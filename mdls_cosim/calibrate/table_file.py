"""Tables of numbers as instruments and spreadsheets write them: text, one row a line, columns with declared units."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mdls_cosim.calibrate.cells import CODE, GOOD, MISSING, MOST_COLUMNS, TEXT, has_decimal_comma, parse, split
from mdls_cosim.calibrate.headings import Column, declared, example, scale_of
from mdls_cosim.calibrate.layout import Layout, declared_columns, find_table
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.text_files import MEGABYTE, read_text_file

LARGEST_FILE = 32 * MEGABYTE
"""[bytes]."""
MOST_LINES = 500_000
MOST_NUMBERS = 4_000_000
LONGEST_LINE = 1_000_000
"""Characters."""

_MOST_GROUPS = {"level": 4096, "device": 10_000, "ramp": 10_000, "cycle": 100_000}
"""Different numbers in a column that groups rows. Cycles of endurance are plain numbers, read as such."""
_LONGEST_PATH = 100
"""Characters of the path that messages show: its end."""
_SHOWN = 100
"""Bad cells whose text is kept for messages."""


@dataclass(frozen=True, eq=False)
class TableFile:
    """Rows of numbers in SI and the names of their columns; cells without a number are NaN."""

    path: str
    columns: tuple[Column, ...]
    values: np.ndarray
    """(rows, columns), SI."""
    lines: np.ndarray
    """(rows,) line of the file, 1 for the first."""
    unused: tuple[str, ...]
    """Headings of unknown columns."""
    content_hash: str
    kinds: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int8))
    """(rows, columns) what each cell holds: see `cells`; empty: numbers or nothing."""
    texts: dict[tuple[int, int], str] = field(default_factory=dict)
    """Of the first cells without a number, by line and column."""
    notes: tuple[str, ...] = ()
    """What was skipped or left out."""

    @property
    def name(self) -> str:
        """The file's name."""
        return os.path.basename(self.path)

    def has(self, name: str) -> bool:
        """Whether there is a column `name`."""
        return any(column.name == name for column in self.columns)

    def places(self, name: str) -> list[int]:
        """Positions of the columns `name`."""
        return [place for place, column in enumerate(self.columns) if column.name == name]

    @property
    def unrecognized(self) -> str:
        """A sentence about the headings of unknown columns; empty if there are none."""
        shown = ", ".join(f'"{heading}"' for heading in self.unused)
        return f"Not recognized: {shown[:57] + '...' if len(shown) > 60 else shown}. " if shown else ""

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
                hint=self.unrecognized
                + f'Name it in the header with its unit, as "{example(name)}", or declare columns with --columns',
            )  # fmt: skip
        self.check(places)
        return self.values[:, places[0]]

    def check(self, places: Sequence[int], gaps: bool = False) -> None:
        """Require a number in every row of the columns at `places`; with `gaps`, or nothing.

        Raises:
            InputError: a row has none.
        """
        for place in places:
            kinds = self.kinds[:, place] if self.kinds.size else np.where(np.isnan(self.values[:, place]), MISSING, 0)
            name = self.columns[place].name
            for kind in (TEXT, CODE, MISSING):
                rows = np.flatnonzero(kinds == kind)
                if not rows.size or (gaps and kind == MISSING):
                    continue
                line = int(self.lines[rows[0]])
                text = self.texts.get((line, place))
                count = f"{rows.size} such rows of {len(kinds)}"
                if kind == MISSING:
                    raise InputError(
                        f"no number for the {name}", where=f"{self.path}, line {line}", value=count,
                        hint="Remove rows without a measurement, or add --skip-missing, which counts them",
                    )  # fmt: skip
                if kind == CODE:
                    raise InputError(
                        "not a number",
                        where=f"{self.path}, line {line}: {name}", value=text or count,
                        hint=f"A code for overflow or no reading, in {count}; --skip-missing leaves them out",
                    )  # fmt: skip
                comma = text is not None and has_decimal_comma(text)
                raise InputError(
                    "not a number", where=f"{self.path}, line {line}: {name}", value=text or count,
                    hint="If this is a decimal comma, add --decimal-comma" if comma else None,
                )  # fmt: skip

    def complete(self, names: Sequence[str]) -> TableFile:
        """This table without the rows that have an empty cell or an overflow code in one of the columns `names`."""
        places = [place for name in names for place in self.places(name)]
        bad = np.zeros(len(self.values), dtype=bool)
        if self.kinds.size:
            bad |= np.isin(self.kinds[:, places], (MISSING, CODE)).any(axis=1)
        if not bad.any():
            return self
        if bad.all():
            raise InputError("no row with a number in every column", where=self.path, value=", ".join(names))
        lines = self.lines[bad]
        note = f"{int(bad.sum())} of {len(bad)} rows without a number left out (first: line {lines[0]})"
        return dataclasses.replace(
            self, values=self.values[~bad], lines=self.lines[~bad], kinds=self.kinds[~bad], notes=(*self.notes, note)
        )

    def counts(self, name: str) -> np.ndarray:
        """The column `name` as whole numbers."""
        values = self.column(name)
        most = _MOST_GROUPS.get(name)
        if most is not None and len(np.unique(values)) > most:
            raise InputError(
                f"too many numbers of a {name}", where=self.path, value=len(np.unique(values)), limit=f"at most {most}",
                hint="Is this the column that the header says?",
            )  # fmt: skip
        whole = (values == np.round(values)) & (np.abs(values) < 2**53)
        if (bad := np.flatnonzero(~whole)).size:
            raise InputError(
                "not a whole number", where=f"{self.path}, line {self.lines[bad[0]]}: {name}", value=values[bad[0]]
            )
        return values.astype(np.int64)


def read_table(
    path: str | os.PathLike[str], columns: str | None = None, decimal_comma: bool = False, strict: bool = True
) -> TableFile:
    """The table in the file `path`.

    Cells are separated by tabs, semicolons, commas or blanks; lines that begin with #, % or // are comments. A header
    names the columns with their units: `voltage [V], current [uA]`. See `layout.find_table` for how it is found.
    Columns with an unknown name, or declared "-", may hold text.

    Args:
        path: of the file.
        columns: the header as text, for files without one or in its place; "..." repeats the last one.
        decimal_comma: numbers are written 0,5.
        strict: every cell of a known column must be a number or empty; else only those that are used, when they are.

    Raises:
        StoreError: there is no such file, it is not text, or it is too large.
        ConfigError: a column without its unit, or with a wrong one.
        InputError: no rows, rows of unequal length, text or an overflow code in place of a number.
    """
    where = os.fspath(path)
    where = where if len(where) <= _LONGEST_PATH else f"...{where[3 - _LONGEST_PATH :]}"
    file = read_text_file(path, "the table", largest=LARGEST_FILE)
    names = None if columns is None else [name.strip() for name in columns.split(",")]
    if names is not None and not any(name not in ("-", "...") for name in names):
        raise ConfigError("no column declared", where="--columns", value=columns)
    if not file.text.strip():
        raise InputError("an empty file", where=where, limit="a table of numbers")
    layout = find_table(_lines(file.text, where), where, names, decimal_comma)
    width = len(split(layout.rows[0][1], layout.separator))
    if columns is not None:
        headings = declared_columns(columns, width, where)
        chosen = [None if name == "-" else declared(name, "--columns") for name in headings]
        unused: tuple[str, ...] = ()
    else:
        chosen, unused = _from_header(layout, width, where)
    places = [place for place, column in enumerate(chosen) if column is not None]
    values, kinds, texts = _parsed(layout, places, len(chosen), decimal_comma, where)
    known = tuple(column for column in chosen if column is not None)
    for position, column in enumerate(known):
        factor, reciprocal = scale_of(column)
        values[:, position] *= factor
        if reciprocal:
            with np.errstate(divide="ignore"):
                values[:, position] = 1 / values[:, position]
            if np.isinf(values[:, position]).any():
                raise InputError(f"a {column.name} of 0 {column.unit}", where=where, limit="above zero")
    lines = np.array([number for number, _ in layout.rows])
    table = TableFile(where, known, values, lines, unused, file.content_hash, kinds, texts, layout.notes)
    if strict:
        table.check(range(len(known)), gaps=True)
    return table


def _lines(text: str, where: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    count = text.count("\n")
    if count > MOST_LINES:
        raise InputError("too many lines", where=where, value=count, limit=f"at most {MOST_LINES}")
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if len(stripped) > LONGEST_LINE:
            raise InputError(
                "a line too long for a table", where=f"{where}, line {number}", value=f"{len(stripped)} characters",
                limit=f"at most {LONGEST_LINE}",
            )  # fmt: skip
        if stripped:
            # A tab at the end of a line separates an empty cell.
            found.append((number, line.strip(" \r\f\v") if "\t" in line else stripped))
    return found


def _from_header(layout: Layout, width: int, where: str) -> tuple[list[Column | None], tuple[str, ...]]:
    """The column of each heading, None where it is unknown; and the unknown headings."""
    headings = layout.headings
    if headings is None:
        raise ConfigError(
            "a table without a header", where=where, value=f"{width} columns",
            hint='Declare them with --columns, for example --columns "voltage [V], current [A]"',
        )  # fmt: skip
    if len(headings) > MOST_COLUMNS:
        raise InputError("too many columns", where=where, value=len(headings), limit=f"at most {MOST_COLUMNS}")
    units = layout.units or [""] * len(headings)
    found = [
        declared(text, f'{where}: column "{text[:40]}"', strict=False, unit=unit or None)
        for text, unit in zip(headings, units, strict=True)
    ]
    unused = tuple(
        text[:40] or f"column {place} (no heading)"
        for place, (text, column) in enumerate(zip(headings, found, strict=True), 1)
        if column is None
    )
    if len(unused) == len(found):
        raise InputError(
            "no column that means anything here", where=where, value=", ".join(headings)[:60],
            hint='Declare the columns: --columns "voltage [V], current [A]"; "-" leaves one out',
        )  # fmt: skip
    return found, unused


def _parsed(
    layout: Layout, places: list[int], width: int, decimal_comma: bool, where: str
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], str]]:
    """Numbers and kinds (rows, columns) of the cells at `places`, and the text of the first that are not numbers."""
    needed = places[-1] + 1
    if width > MOST_COLUMNS:
        raise InputError("too many columns", where=where, value=width, limit=f"at most {MOST_COLUMNS}")
    if len(layout.rows) * len(places) > MOST_NUMBERS:
        raise InputError(
            "a table too large", where=where, value=f"{len(layout.rows)} rows of {len(places)} columns",
            limit=f"at most {MOST_NUMBERS} numbers",
        )  # fmt: skip
    values = np.empty((len(layout.rows), len(places)))
    kinds = np.zeros(values.shape, dtype=np.int8)
    texts: dict[tuple[int, int], str] = {}
    separator = layout.separator
    for row, (number, line) in enumerate(layout.rows):
        cells = split(line, separator)
        if len(cells) != width and (len(cells) < needed or any(cells[width:])):
            raise InputError(
                "rows of unequal length", where=f"{where}, line {number}", value=f"{len(cells)} cells",
                limit=f"{width} as in other rows",
                hint="Decimal commas need another separator between columns, and the option --decimal-comma",
            )  # fmt: skip
        for position, place in enumerate(places):
            value, kind = parse(cells[place], decimal_comma)
            values[row, position] = value
            if kind != GOOD:
                kinds[row, position] = kind
                if len(texts) < _SHOWN:
                    texts[number, position] = cells[place][:60]
    text = kinds == TEXT
    if row := next(iter(np.flatnonzero(text.all(axis=1)) if text.size else ()), 0):
        raise InputError(
            "text among the rows", where=f"{where}, line {layout.rows[row][0]}", value=layout.rows[row][1][:60],
            limit="one table of numbers", hint="Put each table into a file of its own",
        )  # fmt: skip
    return values, kinds, texts
