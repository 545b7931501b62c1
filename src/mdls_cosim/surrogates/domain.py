"""Where a surrogate was fitted: the ranges that its stated error speaks of."""

from __future__ import annotations

from mdls_cosim.config import Config
from mdls_cosim.quantities import Conductance, Temperature, Voltage


class Domain(Config):
    """Ranges seen by the fit; absent means unlimited."""

    rows: int | None = None
    """Row lines of the fitted tile; fewer are inside."""
    cols: int | None = None
    """Column lines of the fitted tile; fewer are inside."""
    conductances: tuple[Conductance, Conductance] | None = None
    """Lowest and highest programmed conductance [S]."""
    input_voltage: Voltage | None = None
    """Largest row voltage of either sign [V]."""
    cell_voltage: Voltage | None = None
    """Largest voltage over a cell, of either sign [V]."""
    temperature: Temperature | None = None
    """Of the tile [K]."""


class HeldOutError(Config):
    """Error on ngspice data that the fit never saw, relative to the RMS current."""

    rms: float
    """RMS error over all held-out reads."""
    p99: float
    """99th percentile of the absolute error."""
    classes: dict[str, float]
    """RMS error by class, `conductance class / input class`, relative to the RMS current of that class."""
    bound: float
    """What a fresh draw of any class may show at most: twice the worst class, as classes are small samples."""
