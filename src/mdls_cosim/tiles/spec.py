"""One crossbar tile as a circuit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mdls_cosim.config import Config
from mdls_cosim.devices import AnyDevice, Ohmic
from mdls_cosim.quantities import Resistance, Temperature, Voltage

LineCount = Annotated[int, Field(ge=1, le=4096, strict=True)]


class TileSpec(Config):
    """A crossbar of `rows` x `cols` cells with its wires, drivers and sense side.

        V_i --driver--+--row--+--row--+        row lines: driven at column 0
                      |       |       |
                    cell    cell    cell       cell (i, j): from row line i to column line j
                      |       |       |
                      +       +       +
                    column  column  column     column lines: sensed below the last row
                      |       |       |
                    sense   sense   sense
                      |       |       |
                     I_0     I_1     I_2       into a virtual ground (0 V), positive into it

    Any resistance may be zero: exactly ideal (nodes merge, ends are held), never a small number. It leaves out
    capacitance, line-to-line leakage and the spread of wire resistances.
    """

    rows: LineCount
    """Number of row lines."""
    cols: LineCount
    """Number of column lines."""
    cell: AnyDevice = Ohmic()
    """The device at every crossing."""
    row_line_resistance: Resistance = 0.0
    """Per segment between neighbouring cells of a row line [ohm]."""
    column_line_resistance: Resistance = 0.0
    """Per segment between neighbouring cells of a column line [ohm]."""
    driver_resistance: Resistance = 0.0
    """Between each voltage source and its row line [ohm]."""
    sense_resistance: Resistance = 0.0
    """Between each column line and its virtual ground [ohm]."""
    reference_voltage: Voltage = 0.0
    """Where `conductances` are defined as I/V of the device [V]; 0 V is the small-signal limit."""
    temperature: Temperature = 300.0
    """Of the whole tile [K]."""
