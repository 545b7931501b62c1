"""Uses of tiles beyond the measurements of their device's parameter set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdls_cosim.devices.validity import Quantity, warn_outside
from mdls_cosim.tiles import TileSpec

_WHO = "a read of tiles"


def programmed_outside(
    spec: TileSpec,
    conductances: Tensor,
    *,
    read_voltage: float | None = None,
    time: float = 0.0,
    temperature: float | None = None,
) -> dict[str, int]:
    """Cells that lie beyond the measurements as they are programmed, by quantity; zeros are left out.

    Args:
        spec: the tile.
        conductances: of its cells at `spec.reference_voltage` [S].
        read_voltage: largest drive of either sign [V]; currents of single devices under it are then checked.
        time: since the programming [s]; 0 is not checked.
        temperature: [K]; None: that of the tile. Time and temperature count all cells.
    """
    device = spec.device
    origin = None if device is None else device.origin
    if device is None or origin is None:
        return {}
    known, kelvin = origin.validity, spec.temperature if temperature is None else temperature
    cells = conductances.detach().double().cpu().numpy()
    uses: dict[Quantity, np.ndarray] = {}
    if known.temperature is not None:
        uses["temperature"] = np.full(cells.size, kelvin)
    if known.time is not None and time > known.time[1]:
        uses["time"] = np.full(cells.size, time)
    if known.conductance is not None or (known.current is not None and read_voltage):
        # Conductances beyond the device are refused or clipped elsewhere.
        states = np.asarray(device.state_for(np.clip(cells, *_finite(spec)), spec.reference_voltage))
        uses["conductance"] = np.asarray(device.conductance(states, 0.0)) if spec.reference_voltage else cells
        if read_voltage:
            driven = [np.asarray(device.current(np.array(sign * read_voltage), states, kelvin)) for sign in (1, -1)]
            uses["current"] = np.stack(driven)
    return {**warn_outside(origin, uses, _WHO)}


def drives_outside(spec: TileSpec, voltages: Tensor, scale: float = 1.0) -> int:
    """Number of row voltages, `voltages` times `scale` [V], beyond those that were measured over the device.

    They are the most that a cell sees.
    """
    device = spec.device
    origin = None if device is None else device.origin
    if origin is None or origin.validity.voltage is None or not voltages.numel():
        return 0
    low, high = (float(end) * scale for end in torch.aminmax(voltages.detach()))
    if not origin.validity.outside("voltage", np.array([low, high])).any():
        return 0
    given = voltages.detach().double().cpu().numpy() * scale
    return warn_outside(origin, {"voltage": given}, _WHO).get("voltage", 0)


def _finite(spec: TileSpec) -> tuple[float, float]:
    assert spec.device is not None
    low, high = spec.device.conductance_range(spec.reference_voltage)
    return float(low), float(high)
