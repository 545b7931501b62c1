"""Numbers and names as a reader wants them: percent, units, words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mdls_cosim.errors import MdlsError
from mdls_cosim.quantities import parse_quantity

ACRONYMS = {
    "adc": "ADC",
    "dac": "DAC",
    "ir": "IR",
    "cnn": "CNN",
    "spice": "SPICE",
    "rms": "RMS",
    "klu": "KLU",
    "iv": "I-V",
    "p99": "99th percentile",
    "utc": "UTC",
}
"""Words of identifiers that are not written in lower case."""


@dataclass(frozen=True)
class Level:
    """An accuracy over runs as fractions of 1, or a metric; the spread is absent for a single run without one."""

    mean: float
    std: float | None = None
    runs: int | None = None
    metric: str = "accuracy"
    """What the numbers are."""

    @property
    def text(self) -> str:
        """As percent, or a metric as it is, with the spread."""
        if self.metric != "accuracy":
            return f"{self.mean:.4g}" if not self.std else f"{self.mean:.4g}\u00a0±\u00a0{self.std:.2g}"
        return percent(self.mean) if not self.std else f"{self.mean * 100:.1f}\u00a0±\u00a0{self.std * 100:.1f}\u00a0%"


def metric_words(about: Mapping[str, Any] | None) -> str:
    """The name of what a result has in place of an accuracy; "accuracy" in files that do not say."""
    return str((about or {}).get("metric") or "accuracy")


def level(entry: Any) -> Level | None:
    """What `entry` ({"mean", "std", "runs"} or a plain number) says, or None where it says nothing."""
    if isinstance(entry, Mapping):
        mean = finite(entry.get("mean"))
        if mean is None:
            return None
        runs = entry.get("runs")
        count = len(runs) if isinstance(runs, list | tuple) else runs if isinstance(runs, int) else None
        return Level(mean, finite(entry.get("std")), count)
    mean = finite(entry)
    return None if mean is None else Level(mean)


def levels(entries: Any) -> dict[str, Level]:
    """Every entry that holds a level."""
    if not isinstance(entries, Mapping):
        return {}
    found = {str(name): level(entry) for name, entry in entries.items()}
    return {name: value for name, value in found.items() if value is not None}


def wire_levels(entries: Any) -> list[tuple[float, str, Level]]:
    """(resistance [ohm], its text, accuracy) in rising order, from {"0.5 ohm": …}; keys that are none are left out."""
    found = []
    for name, value in levels(entries).items():
        try:
            found.append((parse_quantity(name, "ohm"), name, value))
        except MdlsError:
            continue
    return sorted(found, key=lambda point: point[0])


def finite(value: Any) -> float | None:
    """`value` as a float if it is a finite number, else None."""
    if isinstance(value, bool | str) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def percent(fraction: float) -> str:
    """0.9712 as "97.1 %"; the space does not break."""
    return f"{fraction * 100:.1f}\u00a0%"


def error_percent(fraction: Any) -> str:
    """A small relative error, in three digits: 0.0012 as "0.120 %"; "–" where it is absent."""
    number = finite(fraction)
    if number is None:
        return "–"
    share = number * 100
    if share and abs(share) < 1e-4:
        return f"{share:.1e}\u00a0%"
    return f"{digits(share, 3)}\u00a0%"


def seconds(value: float) -> str:
    """A duration: "0.4 s", "12 s", "2 min 5 s"."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def words(identifier: str) -> str:
    """ "row_line_resistance" as "row line resistance"; acronyms in capitals."""
    return " ".join(ACRONYMS.get(word, word) for word in identifier.replace("_", " ").split())


def capital(text: str) -> str:
    """With its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]


def digits(value: float, count: int) -> str:
    """`value` in `count` significant digits, zeros at the end included."""
    return f"{value:#.{count}g}".removesuffix(".") if value else "0"


def flat(entries: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """(words, value) of nested settings, "dac": {"bits": "6"} as ("DAC bits", "6"); a number is shown as it is."""
    for key, value in entries.items():
        name = f"{prefix} {words(str(key))}".strip()
        if isinstance(value, Mapping):
            yield from flat(value, name)
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(_plain, value))
        else:
            yield name, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text}" for name, text in flat(value))
    number = finite(value)
    if number is None:
        return "–" if value is None else str(value)
    return f"{value:d}" if isinstance(value, int) else f"{number:.6g}"
