"""Cells of a line of text: how they are separated, and which of them are numbers."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence

SEPARATORS = ("\t", ";", ",", None)
"""Between cells; None: any number of blanks."""

MOST_COLUMNS = 4096
"""Of a table."""

OVERFLOW = 1e22
"""Numbers from here on are codes of instruments for "overflow" or "no reading" (9.9E37, 9.91E37, 7E22, 3.4E38, 1E99):
no voltage, current, time or resistance has this size in any unit."""

GOOD, MISSING, CODE, TEXT = range(4)
"""What a cell holds: a number; nothing or NaN; an instrument's code in place of a number; other text."""

_CODES = re.compile(
    r"[+-]?(?:ov(?:er)?[ _-]?(?:ld|load|flow|range|rflw|fl|f|l)?|ofl|out of range|ol|o\.l\.?|ovrflw|inf(?:inity)?"
    r"|1\.#(?:inf|qnan|ind|snan)\w*|-{1,}|\*{2,}|#{2,}|n/?a|n\.a\.?|null|none|invalid|compl?(?:iance)?|#div/0!|#value!|#num!|#n/a)",
    re.IGNORECASE,
)
_NAN = re.compile(r"[+-]?nan", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_LONGEST = 64
"""Characters of a number."""


def parse(cell: str, decimal_comma: bool = False) -> tuple[float, int]:
    """The number in a cell, NaN where there is none; and GOOD, MISSING, CODE or TEXT."""
    if not cell:
        return math.nan, MISSING
    if len(cell) > _LONGEST:
        return math.nan, TEXT
    if cell.isascii() and "_" not in cell and not cell[-1].isalpha():
        try:
            value = float(cell.replace(",", ".") if decimal_comma else cell)
        except ValueError:
            pass
        else:
            # A number that no float holds is infinite here.
            return (value, GOOD) if abs(value) < OVERFLOW else (math.nan, CODE)
    if _NAN.fullmatch(cell):
        return math.nan, MISSING
    if _CODES.fullmatch(cell):
        return math.nan, CODE
    if "\u2212" in cell:  # a typographic minus, of a number or of its exponent
        return parse(cell.replace("\u2212", "-"), decimal_comma)
    return math.nan, TEXT


def has_decimal_comma(cell: str) -> bool:
    """Whether the cell looks like a number with a decimal comma."""
    return len(cell) <= _LONGEST and _DECIMAL_COMMA.fullmatch(cell) is not None


def is_numeric(cell: str, decimal_comma: bool) -> bool:
    """Whether the cell is a number, or would be one with a decimal comma."""
    return parse(cell, decimal_comma)[1] == GOOD or has_decimal_comma(cell)


def split(line: str, separator: str | None) -> list[str]:
    """The cells of a line, without the blanks and quotes around them."""
    if separator is None:
        return [cell.strip('"') for cell in line.split()]
    if '"' in line:
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            cells = line.split(separator)
        return [cell.strip().strip('"').strip() for cell in cells]
    return [cell.strip() for cell in line.split(separator)]


def separator_of(lines: Sequence[str], decimal_comma: bool) -> str | None:
    """The separator with which most lines are alike and rows of numbers; None: blanks."""
    best, chosen = (-1, -1), None
    for separator in SEPARATORS:
        if decimal_comma and separator == ",":
            continue
        full: Counter[int] = Counter()
        alike: Counter[tuple[int, int]] = Counter()
        for line in lines:
            cells = split(line, separator)
            found = sum(
                parse(cell, decimal_comma)[1] == GOOD
                or (separator != "," and len(cells) > 1 and has_decimal_comma(cell))
                for cell in cells
            )
            if found:
                alike[len(cells), found] += found
                full[len(cells)] += found == sum(1 for cell in cells if cell)
        score = (max(full.values(), default=0), max(alike.values(), default=0))
        if score > best:
            best, chosen = score, separator
    return chosen
