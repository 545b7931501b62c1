"""The current of a cell between its row line and its column line, as the torch rungs need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mdls_cosim.devices import ROOM_TEMPERATURE, Device
from mdls_cosim.devices.roots import rising_root
from mdls_cosim.errors import NotAvailable
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell

_LEAST_VOLTAGE = 1e-6
"""Below this [V] two parts in series divide the voltage as they do at it."""


class CellLaw(Protocol):
    """A two-terminal cell: a smooth current that rises with the voltage, at a state."""

    @property
    def linear(self) -> bool:
        """The current is proportional to the voltage."""
        ...

    def current(self, voltage: Tensor, state: Tensor) -> Tensor:
        """[A] at `voltage` [V] from row to column line; the arguments broadcast."""
        ...


@dataclass(frozen=True)
class DeviceLaw:
    """A memristor alone, at the temperature of its tile."""

    device: Device
    temperature: float = ROOM_TEMPERATURE

    @property
    def linear(self) -> bool:
        return self.device.linear

    def current(self, voltage: Tensor, state: Tensor) -> Tensor:
        return self.device.current(voltage, state, self.temperature)


@dataclass(frozen=True)
class SeriesLaw:
    """A memristor with a selector or a transistor behind it: i_m(V - m) = i_s(m), m being the voltage of the second.

    Solved element by element to rounding (`devices.roots`); derivatives follow from the equation, not from the steps.
    Of a transistor the source is taken to be at ground: the rise of the column line (millivolts, against volts at the
    gate) moves its threshold by as much, which is left out.
    """

    first: Device
    second: Callable[[Tensor], Tensor]
    """Current [A] of the selector, or of the channel, at its voltage [V]."""
    temperature: float = ROOM_TEMPERATURE

    @property
    def linear(self) -> bool:
        return False

    def current(self, voltage: Tensor, state: Tensor) -> Tensor:
        dtype = torch.result_type(voltage, state)
        voltage, state = torch.broadcast_tensors(voltage.double(), state.double())
        # The share of the voltage that lies over the selector: a monotone cell splits it into two of one sign. At 0 V
        # any share would do; the one next to it has the right slope.
        away = torch.where(voltage.abs() < _LEAST_VOLTAGE, _LEAST_VOLTAGE + 0 * voltage, voltage)
        share = rising_root(self._mismatch, (away, state), (0.0, 1.0), 0.5, 1e-9)
        return self.second(share * voltage).to(dtype)

    def _mismatch(self, share: Tensor, voltage: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """i_s(s V) - i_m((1 - s) V), with the sign of V so that it rises with the share s; and its slope."""
        tracked = torch.is_grad_enabled() and any(each.requires_grad for each in (share, voltage, state))
        with torch.enable_grad():
            unknown = share if tracked and share.requires_grad else share.detach().requires_grad_()
            left = self.second(unknown * voltage) - self.first.current((1 - unknown) * voltage, state, self.temperature)
            value = torch.where(voltage < 0, -left, left)
            (slope,) = torch.autograd.grad(value.sum(), unknown, create_graph=tracked)
        return (value, slope) if tracked else (value.detach(), slope)


def cell_law(spec: TileSpec) -> CellLaw:
    """The cell of a tile, where it is one of two terminals.

    Raises:
        NotAvailable: a cell that only its SPICE circuit knows.
    """
    cell, kelvin = spec.cell, spec.temperature
    if isinstance(cell, Device):
        return DeviceLaw(cell, kelvin)
    if isinstance(cell, SelectorCell) and not cell.selector.hysteretic:
        return SeriesLaw(cell.device, lambda volts: cell.selector.current(volts, 0.0), kelvin)
    if isinstance(cell, TransistorCell) and kelvin == ROOM_TEMPERATURE:
        return SeriesLaw(cell.device, lambda volts: cell.transistor.current(volts, cell.gate_voltage, 0 * volts))
    raise NotAvailable(
        f"{spec.cell.model} cells: known to the SPICE circuit only",
        hint="Run this tile on SpiceTile, or characterize it.",
    )
