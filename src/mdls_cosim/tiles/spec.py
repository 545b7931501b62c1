"""One crossbar tile as a circuit."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mdls_cosim.config import Config
from mdls_cosim.devices import ROOM_TEMPERATURE, Device, Ohmic
from mdls_cosim.errors import ConfigError, NotAvailable
from mdls_cosim.quantities import (
    Capacitance,
    Frequency,
    PerKelvin,
    PositiveResistance,
    Resistance,
    Temperature,
    Voltage,
)
from mdls_cosim.tiles.cells import AnyCell, memristor

LineCount = Annotated[int, Field(ge=1, le=4096, strict=True)]


class TransimpedanceAmplifier(Config):
    """The sense side as an amplifier of finite gain: its input is no perfect virtual ground.

    At rest it is a sense resistance R_f/(1 + A) whose sensed current -v_out/R_f is A/(1 + A) of the column's; its pole
    settles in 1/(2 pi GBW) or slower. SPICE twin: spice_models/transimpedance.sub.
    """

    feedback_resistance: PositiveResistance = 10e3
    """R_f [ohm]."""
    gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e4
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

    Any resistance may be zero: exactly ideal (nodes merge, ends are held), never a small number. Capacitances matter
    to transients only. It leaves out coupling between neighbouring lines, leakage between them, and the spread of
    wire resistances.
    """

    rows: LineCount
    """Number of row lines."""
    cols: LineCount
    """Number of column lines."""
    cell: AnyCell = Ohmic()
    """What sits at every crossing: a device alone, or in a selector, transistor or subcircuit cell."""
    row_line_resistance: Resistance = 0.0
    """Per segment between neighbouring cells of a row line, at 300 K [ohm]."""
    column_line_resistance: Resistance = 0.0
    """Per segment between neighbouring cells of a column line, at 300 K [ohm]."""
    driver_resistance: Resistance = 0.0
    """Between each voltage source and its line [ohm]."""
    sense_resistance: Resistance = 0.0
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
        return self

    @property
    def wire_factor(self) -> float:
        """Line resistances at `temperature` over those at 300 K."""
        return 1 + self.wire_temperature_coefficient * (self.temperature - ROOM_TEMPERATURE)

    @property
    def device(self) -> Device | None:
        """The memristor of the cell; None for a user's subcircuit."""
        return memristor(self.cell)

    @property
    def passive_cell(self) -> Device:
        """The device at every crossing of a tile that the torch rungs can solve.

        Raises:
            NotAvailable: the tile has something that only its SPICE circuit knows; the message names it.
        """
        only = self._circuit_only()
        if only is not None:
            raise NotAvailable(
                f"{only}: known to the SPICE circuit only", hint="Run this tile on SpiceTile, or characterize it."
            )
        assert isinstance(self.cell, Device)
        return self.cell

    def _circuit_only(self) -> str | None:
        if not isinstance(self.cell, Device):
            return f"{self.cell.model} cells"
        if self.drive == "double":
            return "rows driven at both ends"
        if self.amplifier is not None:
            return "a sense amplifier"
        thermal = self.wire_temperature_coefficient or self.cell.activation_energy or self.cell.thermal
        if self.temperature != ROOM_TEMPERATURE and thermal:
            return f"a temperature of {self.temperature:g} K with coefficients"
        return None

    def bare(self, rows: int, cols: int) -> Self:
        """A tile of these cells with ideal wires, drivers and sense side, without capacitances."""
        names = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
        names += ("row_line_capacitance", "column_line_capacitance", "cell_capacitance")
        return self.replace(rows=rows, cols=cols, amplifier=None, drive="single", **dict.fromkeys(names, 0.0))
