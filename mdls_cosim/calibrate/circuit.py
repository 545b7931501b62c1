"""The circuit that measured a loop: the device alone or in series with a resistor, for many candidates at once.

    drive ---[ R ]---+--- device --- ground          I_R = (V_drive - V)/R = I(V, x) + C dV/dt
                     |                               dx/dt = rate(V, x)
                     +---[ C ]------ ground

R is the series resistor of the set-up, C the capacitance that lies across the device: cables, probes, the instrument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mdls_cosim.devices import DynamicDevice
from mdls_cosim.devices.dynamics.exponential_rosenbrock import midpoint_step

_NEWTON = 60
"""Iterations at most; two or three are the rule, and a bisection to 1e-7 V would need 25."""
_VOLTAGE_TOLERANCE = 1e-7
"""Of the last step [V]; Newton's next one would be its square."""
_PROBE = 1e-6
"""Difference [V] for the slope of the current."""


@dataclass(frozen=True, eq=False)
class Drive:
    """Loops with equally many points at one temperature, side by side."""

    times: np.ndarray
    """(points, loops) [s]."""
    voltages: np.ndarray
    """(points, loops) [V], straight between the points: of the drive where there is a resistor, else of the device."""
    resistance: np.ndarray | None
    """(loops,) [ohm], NaN where each candidate has its own; None: the voltages are the device's."""
    temperature: float
    """[K]."""


@dataclass(frozen=True, eq=False)
class Response:
    """What the candidates answer to a drive."""

    currents: np.ndarray
    """(candidates, loops, points) [A], through the resistor where there is one."""
    states: np.ndarray
    """(candidates, loops, points)."""
    voltages: np.ndarray
    """(candidates, loops, points) [V] over the device."""


def respond(
    device: DynamicDevice,
    drive: Drive,
    starts: np.ndarray,
    *,
    series_resistance: np.ndarray | None = None,
    capacitance: np.ndarray | float = 0.0,
    speed: np.ndarray | float = 1.0,
    substeps: int = 1,
) -> Response:
    """Currents and states of a population under `drive`, by fixed steps of second order.

    Args:
        device: a population, its parameters (candidates, 1).
        starts: (candidates, loops) first states.
        series_resistance: (candidates, 1) [ohm], in place of the NaN of `drive.resistance`.
        capacitance: (candidates, 1) or a number [F].
        speed: factor of the rate, (candidates, 1) or a number.
        substeps: steps between points; halving them shows the error.
    """
    resistance = drive.resistance
    if resistance is not None and series_resistance is not None:
        resistance = np.where(np.isnan(resistance), series_resistance, resistance)
    state = np.array(starts, dtype=np.float64)
    states, currents, voltages = np.empty((3, *state.shape, len(drive.times)))
    steps = np.diff(drive.times, axis=0) / substeps
    node = _Node(device, drive.temperature, resistance, capacitance, state.shape)
    states[..., 0] = state
    currents[..., 0], voltages[..., 0] = node.settle(drive.voltages[0], state), node.voltage
    for point, step in enumerate(steps, 1):
        start, end = drive.voltages[point - 1], drive.voltages[point]
        for part in range(substeps):
            middle = start + (end - start) * ((part + 0.5) / substeps)
            state = midpoint_step(node.rate(step / 2), middle, state, speed * step)
            last = part == substeps - 1
            if last or node.charged:
                current = node.move(start + (end - start) * ((part + 1) / substeps), state, step)
        states[..., point], currents[..., point] = state, current  # pyright: ignore[reportPossiblyUnboundVariable]
        voltages[..., point] = node.voltage
    return Response(currents, states, voltages)


class _Node:
    """The node between resistor and device, and its voltage as time goes on."""

    def __init__(
        self,
        device: DynamicDevice,
        temperature: float,
        resistance: np.ndarray | None,
        capacitance: np.ndarray | float,
        shape: tuple[int, ...],
    ) -> None:
        self._device, self._temperature = device, temperature
        self._resistance, self._capacitance = resistance, capacitance
        self.charged = bool(np.any(capacitance))
        self._voltage = self._solved = np.zeros(shape)
        # Of the last solution: its drive [V], and by how much its voltage follows the drive.
        self._driven, self._gain = 0.0, 1.0

    @property
    def voltage(self) -> np.ndarray:
        """Over the device [V], where the node was last moved to."""
        return self._voltage

    def settle(self, drive: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The current [A] at the first point, where nothing changes yet."""
        if self._resistance is None:
            self._voltage = np.broadcast_to(drive, state.shape)
            return self._current(self._voltage, state)
        self._voltage = self._solve(drive, state, 0.0)
        return (drive - self._voltage) / self._resistance

    def rate(self, duration: np.ndarray) -> Any:
        """dx/dt at a voltage of the drive, `duration` [s] after the node was last moved."""

        def rate(drive: np.ndarray, states: np.ndarray) -> np.ndarray:
            voltage = drive if self._resistance is None else self._solve(drive, states, self._capacitance / duration)
            return self._device.state_rate(np.asarray(voltage), states, self._temperature)

        return rate

    def move(self, drive: np.ndarray, state: np.ndarray, duration: np.ndarray) -> np.ndarray:
        """The measured current [A], with the node `duration` [s] further on."""
        companion = self._capacitance / duration
        if self._resistance is None:
            charging = companion * (drive - self._voltage) if self.charged else 0.0
            self._voltage = np.broadcast_to(drive, state.shape)
            return self._current(self._voltage, state) + charging
        self._voltage = self._solve(drive, state, companion)
        return (drive - self._voltage) / self._resistance

    def _current(self, voltage: np.ndarray, state: np.ndarray) -> np.ndarray:
        return self._device.current(np.asarray(voltage), state, self._temperature)

    def _solve(self, drive: np.ndarray, states: np.ndarray, companion: Any) -> np.ndarray:
        """The node's voltage [V], by Newton's method within a bracket: the current of a passive device rises with it.

        The capacitor is its companion conductance [S] of a backward Euler step from the last voltage.
        """
        before = self._voltage
        # From where the last tangent leads, which is one iteration less than from the last voltage.
        voltage = np.broadcast_to(self._solved + self._gain * (drive - self._driven), states.shape)
        low = np.minimum(np.minimum(drive, before), 0.0)
        high = np.maximum(np.maximum(drive, before), 0.0)
        voltage = np.minimum(np.maximum(voltage, low), high)
        for _ in range(_NEWTON):
            probed = self._current(np.stack([voltage, voltage + _PROBE]), states)
            excess = voltage - drive + self._resistance * (probed[0] + companion * (voltage - before))
            slope = (probed[1] - probed[0]) / _PROBE + companion
            low, high = np.where(excess <= 0, voltage, low), np.where(excess >= 0, voltage, high)
            gain = 1 / (1 + self._resistance * np.maximum(slope, 0.0))
            new = voltage - gain * excess
            new = np.where((new >= low) & (new <= high), new, (low + high) / 2)
            done = np.abs(new - voltage).max() < _VOLTAGE_TOLERANCE
            voltage = new
            if done:
                break
        first = (0,) * (states.ndim - before.ndim)
        self._solved, self._driven, self._gain = voltage[first], drive, gain[first]  # pyright: ignore[reportPossiblyUnboundVariable]
        return voltage
