"""The current of a cell between its row line and its column line, as the torch rungs need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mdls_cosim.devices import ROOM_TEMPERATURE, Device
from mdls_cosim.devices.roots import rising_root
from mdls_cosim.errors import NotAvailable
from mdls_cosim.tiles import SelectorCell, TileSpec

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
    """A memristor and a selector without hysteresis in series: i_m(V - m) = i_s(m), m being the selector's voltage.

    Solved element by element to rounding (`devices.roots`); derivatives follow from the equation, not from the steps.
    """

    cell: SelectorCell
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
        return self.cell.selector.current(share * voltage, 0.0).to(dtype)

    def _mismatch(self, share: Tensor, voltage: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """i_s(s V) - i_m((1 - s) V), with the sign of V so that it rises with the share s; and its slope."""
        tracked = torch.is_grad_enabled() and any(each.requires_grad for each in (share, voltage, state))
        with torch.enable_grad():
            unknown = share if tracked and share.requires_grad else share.detach().requires_grad_()
            through = self.cell.selector.current(unknown * voltage, 0.0)
            left = through - self.cell.device.current((1 - unknown) * voltage, state, self.temperature)
            value = torch.where(voltage < 0, -left, left)
            (slope,) = torch.autograd.grad(value.sum(), unknown, create_graph=tracked)
        return (value, slope) if tracked else (value.detach(), slope)


def cell_law(spec: TileSpec) -> CellLaw:
    """The cell of a tile, where it is one of two terminals.

    Raises:
        NotAvailable: a cell that only its SPICE circuit knows.
    """
    if isinstance(spec.cell, Device):
        return DeviceLaw(spec.cell, spec.temperature)
    if isinstance(spec.cell, SelectorCell) and not spec.cell.selector.hysteretic:
        return SeriesLaw(spec.cell, spec.temperature)
    raise NotAvailable(
        f"{spec.cell.model} cells: known to the SPICE circuit only",
        hint="Run this tile on SpiceTile, or characterize it.",
    )
