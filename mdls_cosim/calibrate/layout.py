"""Where the table is in a text file: its header, its rows, and what lies before and after it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from mdls_cosim.calibrate.cells import CODE, SEPARATORS, TEXT, is_numeric, parse, separator_of, split
from mdls_cosim.calibrate.headings import UNITS, declared, is_unit, name_and_unit
from mdls_cosim.errors import ConfigError, InputError

COMMENTS = ("#", "%", "//")

Line = tuple[int, str]
"""Number in the file, 1 for the first, and text without the blanks around it."""

_SAMPLE = 200
"""Lines from the beginning and from the end that the separator is determined from."""
_SAMPLE_LENGTH = 2000
"""Characters of each that are looked at."""
_HEADER_WITHIN = 100_000
"""Characters at the beginning in which the header is looked for."""
_BETWEEN = 4
"""Lines of text (units, remarks) between header and first row at most."""
_CANDIDATES = 100
"""Lines that may be the header at most."""
_SEVERAL = 3
"""Rows of numbers before the header that make another table."""
_MOST_BETWEEN = 100
"""The same with comments."""
_EASYEXPERT = ("DataName", "DataValue")
"""First cells of header and rows in exports of Keysight EasyEXPERT (B1500A), which are in SI units."""


@dataclass(frozen=True)
class Layout:
    """The table within a file."""

    separator: str | None
    headings: list[str] | None
    """None: there is no header."""
    units: list[str] = field(default_factory=list)
    """Of a row of units below the header; empty: none."""
    rows: list[Line] = field(default_factory=list)
    header_line: int | None = None
    notes: tuple[str, ...] = ()
    """What was skipped, and which format was recognized."""


def find_table(lines: Sequence[Line], where: str, columns: list[str] | None, decimal_comma: bool) -> Layout:
    """The table in the lines of a file that are not blank, comments included.

    The header is the first line, or comment, that names a known column and is followed by a row with as many cells
    and numbers in those columns. With declared `columns` the rows begin at the first line that has as many cells, and
    numbers in the declared ones. Lines before the header and lines of text after the last row are skipped, with a
    note.

    Raises:
        InputError: no rows, or a header that does not fit them.
    """
    if lines and (match := re.fullmatch(r"sep=(.)", lines[0][1])) and match[1] in SEPARATORS:
        lines = lines[1:]
    rows = [line for line in lines if not line[1].startswith(COMMENTS)]
    if not rows:
        raise InputError("a file without rows", where=where, limit="a table of numbers")
    sample = rows if len(rows) <= 2 * _SAMPLE else [*rows[:_SAMPLE], *rows[-_SAMPLE:]]
    separator = separator_of([text[:_SAMPLE_LENGTH] for _, text in sample], decimal_comma)
    if any(text.startswith(_EASYEXPERT[1]) for _, text in sample):
        return _easyexpert(rows, where, columns is not None)
    if columns is not None:
        start = _declared_start(rows, separator, columns, decimal_comma)
        layout = Layout(separator, None, rows=rows[start:])
        first = rows[start][0]
    else:
        layout = _with_header(lines, rows, separator, decimal_comma, where)
        first = layout.rows[0][0]
    return _trimmed(layout, rows, first, decimal_comma)


def _with_header(
    lines: Sequence[Line], rows: Sequence[Line], separator: str | None, decimal_comma: bool, where: str
) -> Layout:
    """The layout by the header with the most known columns, of those that most rows fit."""
    candidates: list[tuple[float, tuple[float, ...], Layout]] = []
    budget = _HEADER_WITHIN
    for place, (number, text) in enumerate(lines):
        bare = text.lstrip("#%/ \t") if text.startswith(COMMENTS) else text
        budget -= len(bare) + 20
        if budget < 0 or len(candidates) == _CANDIDATES:
            break
        if not any(_known(way) for way in _headings(bare, separator)):
            continue
        between, row = _first_row(lines, place + 1, separator, decimal_comma)
        if row is None:
            continue
        headings = _matching(bare, separator, split(row[1], separator), decimal_comma)
        if headings is None:
            continue
        units = next((found for line in between if (found := _units(line, separator, headings))), [])
        if headings[0] == "X_Value":
            headings, units = _labview(lines[:place], separator, headings, units)
        start = next(place for place, line in enumerate(rows) if line[0] == row[0])
        named = [name_and_unit(heading) for heading in headings]
        complete = sum(1 for name, unit in named if name and (unit or UNITS[name] is None)) + sum(map(bool, units))
        fitting = _fitting(rows[start:], separator, headings, decimal_comma)
        layout = Layout(separator, headings, units, list(rows[start:]), header_line=number)
        # Lines between this header and the table lower the share of rows that fit.
        candidates.append((fitting, (complete, _known(headings), fitting / (len(rows) - start)), layout))
    if not candidates:
        return _without_match(lines, rows, separator, decimal_comma, where)
    most = max(fitting for fitting, _, _ in candidates)
    able = [(score, layout) for fitting, score, layout in candidates if fitting >= 0.6 * most]
    best = max(score for score, _ in able)
    chosen = [layout for score, layout in able if score == best][-1]
    before = [row for row in rows if row[0] < chosen.rows[0][0]]
    if _fitting(before, separator, chosen.headings or [], decimal_comma) >= _SEVERAL:
        raise InputError(
            "several tables in one file", where=f"{where}, line {chosen.header_line}", limit="one table of numbers",
            hint="Put each into a file of its own",
        )  # fmt: skip
    return chosen


def _fitting(rows: Sequence[Line], separator: str | None, headings: Sequence[str], decimal_comma: bool) -> float:
    """Number of rows, estimated from 64 of them, that have numbers or nothing below the known headings."""
    known = [place for place, heading in enumerate(headings) if name_and_unit(heading)[0]]
    sample = rows[:: max(len(rows) // 64, 1)]
    fitting = 0
    for _, text in sample:
        cells = split(text, separator)
        if len(cells) > known[-1] and not any(cells[len(headings) :]):
            used = [cells[place] for place in known]
            fitting += all(is_numeric(cell, decimal_comma) or parse(cell)[1] != TEXT for cell in used)
    return fitting * len(rows) / max(len(sample), 1)


def _labview(
    preamble: Sequence[Line], separator: str | None, headings: list[str], units: list[str]
) -> tuple[list[str], list[str]]:
    """Headings and units of a LabVIEW measurement file (.lvm), whose preamble holds the units."""
    labels = {cells[0]: cells[1:] for _, text in preamble if (cells := split(text, separator))}
    if "Y_Unit_Label" in labels and not units:
        units = ["s", *labels["Y_Unit_Label"], *[""] * len(headings)][: len(headings)]
    if labels.get("X_Dimension", [""])[:1] == ["Time"]:
        headings = ["time", *headings[1:]]
        units = units or ["s", *[""] * (len(headings) - 1)]
    return headings, units


def _first_row(
    lines: Sequence[Line], begin: int, separator: str | None, decimal_comma: bool
) -> tuple[list[str], Line | None]:
    """The first line with a number from place `begin` on, and the text between; None where too much text is."""
    between, texts = [], 0
    for line in lines[begin : begin + _MOST_BETWEEN]:
        if line[1].startswith(COMMENTS):
            between.append(line[1].lstrip("#%/ \t"))
            continue
        if any(is_numeric(cell, decimal_comma) for cell in split(line[1], separator)):
            return between, line
        between.append(line[1])
        texts += 1
        if texts > _BETWEEN:
            break
    return between, None


def _known(headings: Sequence[str]) -> int:
    return sum(1 for heading in headings if name_and_unit(heading)[0])


def _matching(text: str, separator: str | None, row: list[str], decimal_comma: bool) -> list[str] | None:
    """The headings in a line, where they fit the first row: as many, and numbers below the known ones."""
    for headings in _headings(text, separator):
        known = [place for place, heading in enumerate(headings) if name_and_unit(heading)[0]]
        if not known or any(is_numeric(heading, decimal_comma) for heading in headings):
            continue
        extra = headings[len(row) :]
        if any(row[len(headings) :]) or any(name_and_unit(heading)[0] for heading in extra):
            continue
        # Text below a known name: a row all the same, where there is a number below another.
        if any(is_numeric(row[place], decimal_comma) for place in known if place < len(row)):
            return headings
    return None


def _headings(text: str, separator: str | None) -> list[list[str]]:
    """Ways to part a line into headings: by the separator of the table first."""
    ways = [split(text, separator)] if separator is not None else []
    if separator is None and any(sign in text for sign in "[("):
        # Names with units in brackets hold blanks themselves.
        ways.append([found.strip() for found in re.findall(r"[^\[\](),;]+[\[(][^\[\]()]*[\])]|[^\s\[\](),;]+", text)])
    ways += [split(text, other) for other in SEPARATORS if other != separator or separator is None]
    for way in list(ways):
        # "Time, s, Voltage, V": names and units in turn.
        if len(way) >= 4 and len(way) % 2 == 0 and all(is_unit(unit) for unit in way[1::2]):
            ways.append([f"{name} [{unit}]" for name, unit in zip(way[::2], way[1::2], strict=True)])
    return ways


def _units(text: str, separator: str | None, headings: list[str]) -> list[str]:
    """The units in a row of units below the headings; empty where it is none."""
    bare = [[cell.strip("[]() ") for cell in way] for way in _headings(text, separator)]
    for cells in bare:
        if len(cells) <= len(headings) and any(cells):
            padded = [*cells, *[""] * (len(headings) - len(cells))]
            lacking = [place for place, heading in enumerate(headings) if name_and_unit(heading)[0]]
            if any(padded[place] for place in lacking) and all(
                is_unit(padded[place]) or padded[place] in ("", "1", "-", "#") for place in lacking
            ):
                return padded
    return []


def _without_match(
    lines: Sequence[Line], rows: Sequence[Line], separator: str | None, decimal_comma: bool, where: str
) -> Layout:
    """The layout of a file in which no header was recognized, or an error that says why there is none."""
    width = len(split(rows[-1][1], separator))
    numbered = []
    for place, (_, text) in enumerate(rows[:_MOST_BETWEEN]):
        cells = split(text, separator)
        if any(is_numeric(cell, decimal_comma) for cell in cells):
            numbered.append((place, len(cells)))
    # The first row as wide as the last one: lines before the table may hold numbers too.
    first = next((place for place, size in numbered if size == width), numbered[0][0] if numbered else len(rows))
    if first == len(rows):
        raise InputError("a header and no rows below it", where=where, value=rows[-1][1])
    row = split(rows[first][1], separator)
    if first:
        heading = rows[first - 1][1]
    else:
        heading = next(
            (
                text.lstrip("#%/ \t")
                for number, text in reversed(lines[:_MOST_BETWEEN])
                if number < rows[0][0] and "[" in text
            ),
            None,
        )
    ways = [way for way in _headings(heading, separator) if any(way)] if heading else []
    known = [way for way in ways if any(name_and_unit(each)[0] for each in way)]
    if known and not any(len(way) == len(row) for way in known):
        raise InputError(
            "a header that does not fit its rows", where=f"{where}, line {rows[first][0]}",
            value=f"{len(known[0])} names for {len(row)} columns",
            hint="Decimal commas need another separator between columns, and the option --decimal-comma",
        )  # fmt: skip
    fitting = [way for way in (*known, *ways) if len(way) == len(row)]
    if first and not fitting and all(is_numeric(cell, decimal_comma) for cell in row):
        fitting = ways[:1]
    return Layout(separator, fitting[0] if fitting else None, rows=list(rows[first:]))


def _declared_start(rows: Sequence[Line], separator: str | None, columns: list[str], decimal_comma: bool) -> int:
    """Place of the first row that has numbers in the declared columns; 0 where there is none."""
    repeated = columns[-1] == "..."
    for place, (_, text) in enumerate(rows):
        cells = split(text, separator)
        wanted = columns[:-1] + [columns[-2]] * (len(cells) - len(columns) + 1) if repeated else columns
        if len(wanted) != len(cells):
            continue
        used = [cell for cell, name in zip(cells, wanted, strict=True) if name != "-"]
        numbers = [is_numeric(cell, decimal_comma) for cell in used]
        if any(numbers) and all(number or parse(cell)[1] != TEXT for cell, number in zip(used, numbers, strict=True)):
            return place
    # Nothing fits: the error about the first row with a number says why.
    return next(
        (
            place
            for place, (_, text) in enumerate(rows)
            if any(is_numeric(cell, decimal_comma) for cell in split(text, separator))
        ),
        0,
    )


def _trimmed(layout: Layout, rows: Sequence[Line], first: int, decimal_comma: bool) -> Layout:
    """`layout` without the lines of text after its last row, with notes of what is skipped before and after."""
    kept = layout.rows
    end = len(kept)
    while end > 1:
        cells = split(kept[end - 1][1], layout.separator)
        kinds = [parse(cell, decimal_comma)[1] for cell in cells]
        if TEXT not in kinds or CODE in kinds or any(is_numeric(cell, decimal_comma) for cell in cells):
            break
        end -= 1
    notes = []
    before = sum(1 for number, _ in rows if number < first and number != layout.header_line) - bool(layout.units)
    if layout.headings is None:
        before -= 1  # the header that the declared columns replace
    if before > 0:
        notes.append(f"{before} lines before the first row (line {first}) are skipped")
    if end < len(kept):
        notes.append(f"{len(kept) - end} lines of text after the last row (line {kept[end - 1][0]}) are skipped")
    return dataclasses.replace(layout, rows=kept[:end], notes=tuple(notes))


def _easyexpert(rows: Sequence[Line], where: str, is_declared: bool) -> Layout:
    """The table of an EasyEXPERT export: the line DataName names the columns, lines DataValue hold them."""
    header = [line for line in rows if line[1].startswith(_EASYEXPERT[0])]
    body = [line for line in rows if line[1].startswith(_EASYEXPERT[1])]
    if len(header) > 1:
        raise InputError(
            "several tables in one file", where=f"{where}, line {header[1][0]}", value=header[1][1],
            hint="Put each into a file of its own",
        )  # fmt: skip
    separator = "\t" if "\t" in body[0][1] else ","
    skipped = len(rows) - len(body) - len(header)
    notes = [f"{skipped} lines beside the table are skipped"] if skipped else []
    if not header or is_declared:
        return Layout(separator, None, rows=body, notes=tuple(notes))
    headings, named = [], []
    for heading in split(header[0][1], separator):
        form = re.fullmatch(r"(?i)(v|i|time|t)\d*", heading)
        full = {"v": "voltage [V]", "i": "current [A]", "t": "time [s]"}[heading[0].lower()] if form else heading
        headings.append(full)
        named += [f"{heading} as {full}"] if form else []
    notes.append(f"EasyEXPERT export, in SI units: {', '.join(named[:6])}")
    return Layout(separator, headings, rows=body, notes=tuple(notes))


def declared_columns(columns: str, width: int, where: str) -> list[str]:
    """The declaration of every column, from `--columns`."""
    names = [name.strip() for name in columns.split(",")]
    if names[-1] == "..." and len(names) > 1:
        names = names[:-1] + [names[-2]] * (width - len(names) + 1)
    if len(names) != width:
        raise ConfigError(
            "declared columns that do not fit the file", where=f"--columns, {where}", value=f"{len(names)} declared",
            limit=f"{width} columns", hint='A column that is not wanted is declared as "-"; "..." repeats the last',
        )  # fmt: skip
    for name in names:
        if name != "-":
            declared(name, f'--columns "{name[:40]}"')
    return names
