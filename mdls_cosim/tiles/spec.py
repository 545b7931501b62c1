"""One crossbar tile as a circuit."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from mdls_cosim.config import Config
from mdls_cosim.devices import ROOM_TEMPERATURE, Device, Ohmic
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import (
    RATIO,
    Capacitance,
    Frequency,
    LineResistance,
    PerKelvin,
    PositiveResistance,
    Temperature,
    Voltage,
    format_quantity,
)
from mdls_cosim.tiles.cells import AnyCell, memristor

LineCount = Annotated[int, Field(ge=1, le=4096, strict=True)]
DEFAULT_CONDUCTANCES = (1e-6, 100e-6)
"""Conductance range [S] of cells whose device sets none: ohmic and sinh devices, subcircuits."""
RESISTANCES = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
"""Names of a tile's four resistances: of its row lines, its column lines, its row lines, its column lines."""


def per_line(resistance: float | tuple[float, ...], lines: int) -> tuple[float, ...]:
    """One resistance [ohm] for each line, of a TileSpec's own or of the one for all."""
    return resistance if isinstance(resistance, tuple) else (resistance,) * lines


class TransimpedanceAmplifier(Config):
    """The sense side as an amplifier of finite gain: its input is no perfect virtual ground.

    At rest it is a sense resistance R_f/(1 + A) whose sensed current -v_out/R_f is A/(1 + A) of the column's; its pole
    settles in 1/(2 pi GBW) or slower. SPICE twin: spice_models/transimpedance.sub.
    """

    feedback_resistance: PositiveResistance = 10e3
    """R_f [ohm]."""
    gain: Annotated[float, RATIO, Field(gt=0, allow_inf_nan=False)] = 1e4
    """A, at rest."""
    gain_bandwidth: Frequency = 100e6
    """GBW [Hz]."""

    @property
    def input_resistance(self) -> float:
        """R_f/(1 + A) at rest [ohm]."""
        return self.feedback_resistance / (1 + self.gain)

    @property
    def sensed_share(self) -> float:
        """A/(1 + A), of the column's current at rest."""
        return self.gain / (1 + self.gain)


class TileSpec(Config):
    """A crossbar of `rows` x `cols` cells with its wires, drivers and sense side.

        V_i --driver--+--row--+--row--+        row lines: driven at column 0 (drive "double": at both ends)
                      |       |       |
                    cell    cell    cell       cell (i, j): from row line i to column line j
                      |       |       |
                      +       +       +
                    column  column  column     column lines: sensed below the last row
                      |       |       |
                    sense   sense   sense
                      |       |       |
                     I_0     I_1     I_2       into a virtual ground (0 V), positive into it

    Any resistance may be zero: exactly ideal (nodes merge, ends are held), never a small number. Each of the four is
    one number for all lines, or a tuple of one for each (rows or cols of them), as of wider or of measured lines.
    Capacitances matter to transients only. It leaves out coupling between neighbouring lines, leakage between them,
    and what differs from segment to segment of a line.
    """

    rows: LineCount
    """Number of row lines."""
    cols: LineCount
    """Number of column lines."""
    cell: AnyCell = Ohmic()
    """What sits at every crossing: a device alone, or in a selector, transistor or subcircuit cell."""
    row_line_resistance: LineResistance = 0.0
    """Per segment between neighbouring cells of a row line, at 300 K [ohm]."""
    column_line_resistance: LineResistance = 0.0
    """Per segment between neighbouring cells of a column line, at 300 K [ohm]."""
    driver_resistance: LineResistance = 0.0
    """Between each voltage source and its line [ohm]."""
    sense_resistance: LineResistance = 0.0
    """Between each column line and its virtual ground [ohm]."""
    drive: Literal["single", "double"] = "single"
    """Row lines driven at column 0 only, or at both ends, through one driver resistance each."""
    amplifier: TransimpedanceAmplifier | None = None
    """What holds the virtual ground; absent: an ideal one."""
    row_line_capacitance: Capacitance = 0.0
    """Of a row line to ground, per cell [F]."""
    column_line_capacitance: Capacitance = 0.0
    """Of a column line to ground, per cell [F]."""
    cell_capacitance: Capacitance = 0.0
    """Across each cell, from its row line to its column line [F]."""
    reference_voltage: Voltage = 0.0
    """Where `conductances` are defined as I/V of the device [V]; 0 V is the small-signal limit."""
    temperature: Temperature = 300.0
    """Of the whole tile [K]."""
    wire_temperature_coefficient: PerKelvin = 0.0
    """Relative change of the line resistances per kelvin from 300 K [1/K]; copper 0.0039."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.wire_factor <= 0:
            raise ConfigError(
                "wires of no resistance at this temperature",
                where="wire_temperature_coefficient",
                value=f"{self.wire_temperature_coefficient:g} 1/K at {self.temperature:g} K",
                limit="1 + coefficient (T - 300 K) above 0",
            )
        for name, lines in zip(RESISTANCES, (self.rows, self.cols, self.rows, self.cols), strict=True):
            given = getattr(self, name)
            if isinstance(given, tuple) and len(given) != lines:
                raise ConfigError(
                    "not one resistance for each line",
                    where=name,
                    value=len(given),
                    limit=f"one value for all, or {lines}",
                    hint="One value for all lines fits tiles of any size.",
                )
        return self

    @property
    def wire_factor(self) -> float:
        """Line resistances at `temperature` over those at 300 K."""
        return 1 + self.wire_temperature_coefficient * (self.temperature - ROOM_TEMPERATURE)

    @property
    def equal_lines(self) -> bool:
        """Each of the four resistances is one for all lines."""
        return not any(isinstance(getattr(self, name), tuple) for name in RESISTANCES)

    @property
    def settles(self) -> bool:
        """It takes its time: there are capacitances, or an amplifier with its pole."""
        capacitances = self.row_line_capacitance or self.column_line_capacitance or self.cell_capacitance
        return bool(capacitances) or self.amplifier is not None

    @property
    def device(self) -> Device | None:
        """The memristor of the cell; None for a user's subcircuit."""
        return memristor(self.cell)

    @property
    def conductance_range(self) -> tuple[float, float]:
        """Lowest and highest conductance [S] that cells are programmed to unless another range is given.

        The conductances that were measured, where the device is that of a parameter set which states them; else the
        range of the device at `reference_voltage`; `DEFAULT_CONDUCTANCES` where the device has none.
        """
        lowest, highest = self._device_range()
        measured = self._measured_range()
        if measured is not None:
            lowest, highest = max(lowest, measured[0]), min(highest, measured[1])
        return (lowest, highest) if math.isfinite(highest) else DEFAULT_CONDUCTANCES

    def _measured_range(self) -> tuple[float, float] | None:
        """Conductances at `reference_voltage` [S] of the states in which the device was measured; None: not known.

        Of a device whose other parameters were changed they are not known either.
        """
        device = self.device
        origin = None if device is None else device.origin
        if device is None or origin is None or origin.changed or origin.validity.conductance is None:
            return None
        low, high = device.conductance_range(0.0)
        ends = np.clip(np.array(origin.validity.conductance), low, high)
        shown = np.asarray(device.conductance(device.state_for(ends, 0.0), self.reference_voltage))
        return (float(shown.min()), float(shown.max())) if shown.min() < shown.max() else None

    def check_conductances(self, where: str, *conductances: float) -> None:
        """Refuse programmed conductances [S] that the device of the cells cannot hold.

        Args:
            where: name of the field that holds them.

        Raises:
            ConfigError: with the range of the device.
        """
        if self.device is None:
            return
        try:
            self.device.check_range(np.array(conductances), self.reference_voltage)
        except InputError as error:
            raise ConfigError(
                f"the device, {self.device.kind}, does not reach so far",
                where=where,
                value=" to ".join(format_quantity(each, "siemens", 4) for each in conductances),
                limit=" to ".join(format_quantity(each, "siemens", 4) for each in self._device_range()),
                hint=f"Leave {where} out: it then follows from the device",
            ) from error

    def _device_range(self) -> tuple[float, float]:
        if self.device is None:
            return 0.0, math.inf
        lowest, highest = self.device.conductance_range(self.reference_voltage)
        return float(lowest), float(highest)

    def bare(self, rows: int, cols: int) -> Self:
        """A tile of these cells with ideal wires, drivers and sense side, without capacitances."""
        names = (*RESISTANCES, "row_line_capacitance", "column_line_capacitance", "cell_capacitance")
        return self.replace(rows=rows, cols=cols, amplifier=None, drive="single", **dict.fromkeys(names, 0.0))
