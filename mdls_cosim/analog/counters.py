"""What happened in a layer that a report must tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Counts of one layer, or sums over several."""

    reads: int = 0
    """Input vectors put to the tiles (a convolution reads one per position)."""
    dac_conversions: int = 0
    """Activations converted; one that a convolution uses at several positions counts once."""
    dac_saturated: int = 0
    """Of these, beyond the last code."""
    adc_conversions: int = 0
    """Currents converted, of columns that hold weights."""
    adc_saturated: int = 0
    """Of these, beyond the last code."""
    accumulator_saturated: int = 0
    """Additions of partial sums that went beyond the register."""
    outside: dict[str, int] = field(default_factory=dict)
    """By limit, on any tile: uses of a surrogate outside its domain (cells whenever tiles are programmed, reads
    whenever they are read); on every rung cells held at the "range of the device" after drift or noise, and uses
    beyond the measurements of a parameter set ("measured voltage", of drives; the other quantities of cells)."""

    def add_outside(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Adds what a surrogate counted between two looks at it."""
        for limit, count in after.items():
            if grown := count - before.get(limit, 0):
                self.outside[limit] = self.outside.get(limit, 0) + grown

    def copy(self) -> Counters:
        return Counters(**{**vars(self), "outside": dict(self.outside)})

    def since(self, earlier: Counters) -> Counters:
        """What was added after `earlier` was copied from this."""
        difference = Counters(**{name: count - getattr(earlier, name) for name, count in self._plain().items()})
        difference.add_outside(earlier.outside, self.outside)
        return difference

    def plus(self, other: Counters) -> Counters:
        total = Counters(**{name: count + getattr(other, name) for name, count in self._plain().items()})
        total.add_outside({}, self.outside)
        total.add_outside({}, other.outside)
        return total

    def as_dict(self) -> dict[str, object]:
        return {**vars(self), "outside": dict(self.outside)}

    def _plain(self) -> dict[str, int]:
        return {name: count for name, count in vars(self).items() if name != "outside"}
