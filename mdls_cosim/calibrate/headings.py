"""Column headings of measurement files: which quantity a column holds, and in which unit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import parse_quantity

UNITS: dict[str, str | None] = {
    "time": "second",
    "voltage": "volt",
    "applied voltage": "volt",
    "current": "ampere",
    "conductance": "siemens",
    "resistance": "ohm",
    "target": "siemens",
    "on resistance": "ohm",
    "off resistance": "ohm",
    "on conductance": "siemens",
    "off conductance": "siemens",
    "on current": "ampere",
    "off current": "ampere",
    "cycle": None,
    "ramp": None,
    "pulse": None,
    "level": None,
    "device": None,
}
"""Name of every known column, and the unit that its declared unit must convert to; None: a count."""

RECIPROCAL = {"target": "ohm"}
"""Columns that may be given in a second unit, as one over the value."""

_STATES = {"on": ("on", "lrs"), "off": ("off", "hrs")}
_ALIASES: dict[str, tuple[str, ...]] = {
    "time": ("elapsed time", "relative time", "time elapsed", "timestamp", "time stamp", "test time"),
    "voltage": ("volt", "volts", "device voltage", "measured voltage", "v meas", "v device"),
    "applied voltage": ("v applied", "v app", "vapp", "applied v"),
    "current": ("device current", "measured current", "i meas", "i device"),
    "target": ("target conductance", "target resistance", "g target", "r target", "target g", "target r"),
    "cycle": ("cycles", "cycle number", "cycle no", "cycle count", "cycle index", "number of cycles"),
    "pulse": ("pulses", "pulse number", "pulse no", "pulse count", "pulse index"),
    "ramp": ("ramp number", "ramp no", "ramp index"),
    "level": ("level number", "level no", "level index"),
    "device": ("device number", "device no", "device index"),
    **{
        f"{state} {quantity}": tuple(
            form
            for word in words
            for form in (f"{word} {quantity}", f"{quantity} {word}", f"{symbol} {word}", f"{symbol}{word}")
        )
        for state, words in _STATES.items()
        for quantity, symbol in (("resistance", "r"), ("conductance", "g"), ("current", "i"))
    },
}
_LETTERS = {"V": "voltage", "v": "voltage", "U": "voltage", "I": "current", "i": "current", "t": "time",
            "G": "conductance", "R": "resistance"}  # fmt: skip
"""Symbols, by case: T is a temperature."""
_KNOWN = {name: name for name in UNITS} | {alias: name for name, own in _ALIASES.items() for alias in own}

_BRACKETS = re.compile(r"(.*?)\s*[\[({]\s*([^\[\](){}]*?)\s*[\])}]", re.DOTALL)
_PARTED = re.compile(r"(.+?)\s*[/,:]\s*(\S+)", re.DOTALL)  # Current/A; Time, s
_JOINED = re.compile(r"(.+)[_\s](\S+)", re.DOTALL)  # Voltage_V, Time ms
_UNIT = re.compile(r"(?:1/)?[A-Za-zµμΩΩ]{1,14}")
_USUAL = re.compile(r"[fpnuµμmkMG]?(?:V|A|s|S|Ω|\u2126|[Oo]hms?|OHMS?)|min|h")
_WORDS = {"volts": "V", "volt": "V", "amps": "A", "amp": "A", "amperes": "A", "ampere": "A", "seconds": "s",
          "second": "s", "sec": "s", "secs": "s", "ohms": "ohm", "siemens": "S", "milliseconds": "ms",
          "microseconds": "us", "millivolts": "mV", "milliamps": "mA", "microamps": "uA", "nanoamps": "nA"}  # fmt: skip
_CHANNEL = re.compile(r"(?i)(?:smu|ch|channel)[ _-]?\d{0,3}[a-d]?[ .:_-]+")
_NUMBER = re.compile(r"[ _-]?\d{1,4}$")
_COUNTS = ("", "1", "#", "-", "count", "counts")
_LONGEST = 80
"""Characters of a heading: longer ones are no names."""


@dataclass(frozen=True)
class Column:
    """What a column holds: its name in UNITS, and the unit of its numbers ("" for a count or a share)."""

    name: str
    unit: str


def example(name: str) -> str:
    """A heading for the column `name`, with a unit."""
    units = {"second": "s", "volt": "V", "ampere": "uA", "siemens": "uS", "ohm": "kohm", None: ""}
    unit = units[UNITS[name]]
    return f"{name} [{unit}]" if unit else name


def known_name(text: str) -> str | None:
    """The name in UNITS for a heading without its unit, or None.

    A channel before it ("Smu-1 Voltage", "CH2 Current") and a number behind it ("V1", "current 2") are ignored.
    """
    bare = _CHANNEL.sub("", text.strip())
    for form in (bare, _NUMBER.sub("", bare)):
        if form in _LETTERS:
            return _LETTERS[form]
        if name := _KNOWN.get(" ".join(re.sub(r"[_.\-#]", " ", form.lower()).split())):
            return name
    return None


def name_and_unit(text: str) -> tuple[str | None, str | None]:
    """The known name in a heading, and the unit beside it; None where there is none.

    Forms: `current [uA]`, `I (uA)`, `Current/uA`, `Time, s`, `Current_uA`, `Time ms`.
    """
    text = " ".join(text.split())
    if not text or len(text) > _LONGEST:
        return None, None
    if name := known_name(text):
        return name, None
    if match := _BRACKETS.fullmatch(text):
        return known_name(match[1]), match[2]
    for form in (_PARTED, _JOINED):
        if (match := form.fullmatch(text)) and (name := known_name(match[1])) and is_unit(match[2]):
            return name, match[2]
    return None, None


def is_unit(text: str) -> bool:
    """Whether `text` is a unit of some column, in one of its usual spellings."""
    return len(text) <= 16 and (text.lower() in _WORDS or _USUAL.fullmatch(text) is not None)


def declared(text: str, where: str, strict: bool = True, unit: str | None = None) -> Column | None:
    """The column that a heading declares; None for an unknown name, unless `strict`.

    Args:
        text: the heading, such as "current [uA]".
        where: place of the heading, for messages.
        unit: used where the heading has none, from a row of units.

    Raises:
        ConfigError: the unit is missing or of another dimension; or the name is unknown, where `strict`.
    """
    name, own = name_and_unit(text)
    if name is None:
        if not strict:
            return None
        raise ConfigError("an unknown column", where=where, limit="names that the documentation of calibrate lists")
    unit = own or unit
    wanted = UNITS[name]
    if wanted is None:
        if unit not in (None, *_COUNTS):
            raise ConfigError("a unit for a count", where=where, value=unit, limit="none")
        return Column(name, "")
    if not unit:
        raise ConfigError(
            "a column without its unit", where=where, limit=f'a name with its unit, such as "{example(name)}"',
            hint='Declare the columns with --columns; "-" leaves one out',
        )  # fmt: skip
    if unit == "1" and name == "conductance":
        return Column(name, "")
    try:
        _scale(unit, wanted)
    except ConfigError as error:
        other = RECIPROCAL.get(name)
        if other is None or not _converts(unit, other):
            raise ConfigError(error.what, where=where, value=unit, limit=error.limit) from None
    return Column(name, _spelled(unit))


def scale_of(column: Column) -> tuple[float, bool]:
    """Factor from the numbers of a column to SI, and whether SI is one over the product."""
    wanted = UNITS[column.name]
    if wanted is None or not column.unit:
        return 1.0, False
    if _converts(column.unit, wanted):
        return _scale(column.unit, wanted), False
    return _scale(column.unit, RECIPROCAL[column.name]), True


def _converts(text: str, unit: str) -> bool:
    try:
        _scale(text, unit)
    except ConfigError:
        return False
    return True


def _scale(text: str, unit: str) -> float:
    """Value of one `text` in `unit`."""
    written = _spelled(text)
    if not _UNIT.fullmatch(written):
        raise ConfigError("an unknown unit", value=text)
    return parse_quantity(f"1 {written}", unit)


def _spelled(text: str) -> str:
    """A unit as quantities spell it, from the spelling of an instrument ("Volts", "KOhm", "sec")."""
    written = _WORDS.get(text.lower(), text).replace("Âµ", "µ").replace("Î¼", "µ")
    written = re.sub(r"(?i)ohms?$", "ohm", written)
    return "kohm" if written == "Kohm" else written
