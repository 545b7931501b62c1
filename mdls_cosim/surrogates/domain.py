"""Where a surrogate was fitted: the ranges that its stated error speaks of."""

from __future__ import annotations

import warnings
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError, DomainError, DomainWarning
from mdls_cosim.quantities import SHARE, Amplitude, Conductance, Temperature
from mdls_cosim.tiles.spec import LineCount

Error = Annotated[float, Field(ge=0)]
"""Of currents or conductances, as a share."""


def check_rising(where: str, span: tuple[float, float], unit: str) -> None:
    """ConfigError where the first of two limits is the larger one."""
    low, high = span
    if low > high:
        raise ConfigError("a range whose ends are swapped", where=where, value=f"{low:g} to {high:g} {unit}")


InputSigns = Literal["positive", "negative", "both"]
"""Signs of the row voltages of one read: all at 0 V or above, all at 0 V or below, or some of either sign."""
INPUT_SIGNS: tuple[InputSigns, ...] = get_args(InputSigns)


class Domain(Config):
    """Ranges and classes seen by the fit; absent means unlimited, for classes also "not recorded"."""

    rows: LineCount | None = None
    """Row lines of the fitted tile; fewer are inside."""
    cols: LineCount | None = None
    """Column lines of the fitted tile; fewer are inside."""
    conductances: tuple[Conductance, Conductance] | None = None
    """Lowest and highest programmed conductance [S]."""
    input_voltage: Amplitude | None = None
    """Largest row voltage of either sign [V]."""
    cell_voltage: Amplitude | None = None
    """Largest voltage over a cell that inputs of the fit's kinds reach, of either sign [V], as a read estimates it
    (`ProgrammedSurrogate.reach`)."""
    temperature: Temperature | None = None
    """Of the tile [K]."""
    input_signs: tuple[InputSigns, ...] | None = None
    """Signs of the fitted inputs; reads of other signs are outside. Absent for ohmic cells, which superpose."""
    conductance_classes: tuple[str, ...] | None = None
    """Classes of conductances in the fitted data (`characterize.patterns`)."""
    input_classes: tuple[str, ...] | None = None
    """Classes of inputs in the fitted data."""

    def covers(self, conductance_class: str, input_class: str) -> bool:
        """Whether the fit saw this pair of classes; True where the classes were not recorded."""
        return (self.conductance_classes is None or conductance_class in self.conductance_classes) and (
            self.input_classes is None or input_class in self.input_classes
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.conductances is not None:
            check_rising("conductances", self.conductances, "S")
        return self


class Guarded:
    """A fitted model that tells of uses outside its domain: `strict` raises a DomainError, else the first of each limit
    is a DomainWarning. Whoever computes counts them all."""

    strict: bool = False
    _told: frozenset[str] = frozenset()

    def tell_outside(self, limit: str, count: int, value: str, allowed: str) -> None:
        """Tells of `count` uses outside the domain, if any; nothing of a limit that was told before."""
        if not count:
            return
        said = DomainError(
            f"a surrogate is used outside the domain of its fit: {limit}",
            value=f"{value}, {count} {'times' if count > 1 else 'time'}",
            limit=allowed,
            hint="Its stated error does not hold there: fit one that covers it.",
        )
        if self.strict:
            raise said
        if limit not in self._told:
            self._told |= {limit}
            warnings.warn(f"{said} Further uses are counted and not told.", DomainWarning, stacklevel=4)

    def forget_told(self) -> None:
        """The next use outside is the first again."""
        self._told = frozenset()


class HeldOutError(Config):
    """Error on ngspice data that the fit never saw, relative to the RMS current."""

    rms: Annotated[Error, SHARE]
    """RMS error over all held-out reads."""
    p99: Annotated[Error, SHARE]
    """99th percentile of the absolute error."""
    classes: Annotated[dict[str, Error], SHARE, Field(min_length=1)]
    """RMS error by class, `conductance class / input class`, relative to the RMS current of that class."""
    bound: Annotated[Error, SHARE]
    """What a fresh draw of any class may show at most: twice the worst class, as classes are small samples."""
