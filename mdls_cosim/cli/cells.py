"""What commands print of the cells of a tile: the lifetime of their state, and warnings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from mdls_cosim.cli.terminal import print_line, print_title

if TYPE_CHECKING:
    from mdls_cosim.devices import Device
    from mdls_cosim.network.experiment import Work

READ_VOLTAGE = 0.2
"""At which the lifetime is stated where nothing says at which voltage [V] cells are read: that of `Hardware`."""


def print_lifetimes(
    device: Device | None,
    read_voltage: float | None = None,
    temperature: float = 300.0,
    computed: Collection[str] = (),
) -> None:
    """Prints the lifetimes of a device at 0 V and at plus and minus the read voltage [V], and warnings of short ones.

    Args:
        computed: names of effects, "own_retention" and "read_disturb", that compute them already: no warning.
    """
    from mdls_cosim.devices.lifetime import lifetime_warnings, lifetimes

    found = lifetimes(device, READ_VOLTAGE if read_voltage is None else read_voltage, temperature)
    if not found:
        return
    print_title(f"Lifetime of the state, by the device's own equation at {temperature:g} K")
    for each in found:
        print_line(str(each))
    missing = [each for each in found if ("read_disturb" if each.voltage else "own_retention") not in computed]
    for warning in lifetime_warnings(missing):
        print_line(f"warning: {warning}", style="yellow")


def print_tile_lifetimes(
    spec: Mapping[str, Any], read_voltage: float | None = None, computed: Collection[str] = ()
) -> None:
    """As `print_lifetimes`, of the device in the cells of a stored tile; nothing where it has none of this package."""
    from mdls_cosim.errors import MdlsError
    from mdls_cosim.tiles import TileSpec

    try:
        tile = TileSpec(**spec)
    except MdlsError:  # of another version: the rest of the file is shown nonetheless
        return
    print_lifetimes(tile.device, read_voltage, tile.temperature, computed)


def print_network_cells(work: Work) -> None:
    """Prints what a simulation's cells are and do by themselves: every sentence once, over all of its points."""
    from mdls_cosim.analog.cell_lines import cell_lines

    lines: dict[str, None] = {}
    for point in work.plan.points:
        for hardware in (point.hardware, *point.rules.values()):
            if hardware is not None:
                lines |= dict.fromkeys(cell_lines(hardware, point.reading.time, point.reading.temperature))
    for line in lines:
        print_line(line, style="yellow" if line.startswith("warning") else None)
