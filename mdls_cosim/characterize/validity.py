"""Uses of a parameter set beyond its measurements, in the experiments of a characterization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mdls_cosim.characterize.energy import EnergyPlan
from mdls_cosim.characterize.experiment import Experiment
from mdls_cosim.characterize.iv import IvPlan
from mdls_cosim.characterize.pulse import PulsePlan
from mdls_cosim.characterize.settle import SettlePlan
from mdls_cosim.characterize.sneak import SneakPlan
from mdls_cosim.characterize.temperature import TemperaturePlan
from mdls_cosim.characterize.write import WritePlan
from mdls_cosim.dataset import Array
from mdls_cosim.devices import Device, DynamicDevice
from mdls_cosim.devices.validity import Quantity, warn_outside
from mdls_cosim.tiles import TileSpec


def outside_measurements(
    name: str, tile: TileSpec, plan: Experiment, span: tuple[float, float], arrays: Mapping[str, Array]
) -> dict[str, int]:
    """Numbers of uses beyond the validity of the parameter set of the tile's device, by quantity; zeros are left out.

    Voltages are those of the drives, the most that a cell sees; currents those of a device at the highest programmed
    conductance under them; times those of pulses, loops and reads that are simulated in time.

    Args:
        name: of the experiment.
        span: conductances that cells are programmed to [S].
        arrays: that it gave.
    """
    device = tile.device
    if device is None or device.origin is None:
        return {}
    voltages = np.concatenate([np.ravel(each) for each in _voltages(plan, device, arrays)] or [np.zeros(0)])
    voltages = voltages[np.isfinite(voltages)]
    conductances = arrays.get("conductances", arrays.get("targets"))
    programmed = np.array(span) if conductances is None else np.ravel(conductances.values)
    uses: dict[Quantity, Any] = {
        "voltage": voltages,
        "current": _currents(device, voltages, span[1], tile),
        "time": np.array(_times(plan)),
        "temperature": np.array(plan.temperatures if isinstance(plan, TemperaturePlan) else (tile.temperature,)),
        "conductance": _small_signal(device, programmed[np.isfinite(programmed)], tile),
    }
    return {**warn_outside(device.origin, uses, f"the experiment {name}")}


def _voltages(plan: Experiment, device: Device, arrays: Mapping[str, Array]) -> list[np.ndarray]:
    """Drives of an experiment [V], those that raise and lower a state with their signs."""
    found = [arrays["voltages"].values] if "voltages" in arrays else []
    up = device.raising_sign if isinstance(device, DynamicDevice) else 1
    if isinstance(plan, IvPlan):
        found += [sign * np.array(plan.amplitudes) for sign in (1, -1)] if plan.frequencies else []
    elif isinstance(plan, SneakPlan):
        found.append(np.array([plan.voltage]))
    elif isinstance(plan, PulsePlan):
        found += [up * np.array(plan.potentiation), -up * np.array(plan.depression)]
    elif isinstance(plan, WritePlan):
        found.append(np.array([up * plan.raising, -up * plan.lowering]))
    elif isinstance(plan, EnergyPlan):
        found.append(np.array([plan.voltage, *([] if plan.write is None else [plan.write.voltage])]))
    return found


def _times(plan: Experiment) -> list[float]:
    """Of pulses, loops and timed reads [s]; static reads take none."""
    if isinstance(plan, IvPlan):
        return [1 / each for each in plan.frequencies]
    if isinstance(plan, PulsePlan):
        return list(plan.widths)
    if isinstance(plan, WritePlan):
        return [plan.width]
    if isinstance(plan, EnergyPlan):
        return [plan.read_time, *([] if plan.write is None else [plan.write.width])]
    return [plan.rise] if isinstance(plan, SettlePlan) else []


def _currents(device: Device, voltages: np.ndarray, highest: float, tile: TileSpec) -> np.ndarray:
    state = np.asarray(device.state_for(np.array(highest), tile.reference_voltage))
    return np.asarray(device.current(voltages, state, tile.temperature))


def _small_signal(device: Device, conductances: np.ndarray, tile: TileSpec) -> np.ndarray:
    """The same states' conductances at 0 V [S], which parameter sets state."""
    if not tile.reference_voltage:
        return conductances
    return np.asarray(device.conductance(device.state_for(conductances, tile.reference_voltage), 0.0))
