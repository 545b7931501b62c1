"""What repeated cycles of a loop tell: how much the speed differs from cycle to cycle, and the noise of a read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mdls_cosim.calibrate.confidence import correlation_time
from mdls_cosim.calibrate.loop_problem import Candidates, Prepared, simulate, substeps_for
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.search import linearised, refine
from mdls_cosim.devices.variability import CycleToCycle, Lognormal, ReadNoise

LEAST_CYCLES = 3
"""That a spread is taken from."""
_MOST_CYCLES = 100
"""That are refitted, evenly spread over the measurement."""
_FACTOR = 30.0
"""Largest and one over the smallest speed that is looked for."""
_GRID = (41, 11)
"""Speeds and first states that are tried for each cycle."""


def cycle_spread(
    loops: Sequence[Loop], prepared: Sequence[Prepared], best: Candidates
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Effects that repeated cycles show, and sentences on them.

    The speed of each cycle (a factor of dx/dt) and its first state are fitted to that cycle alone, all else as
    calibrated. The variance of ln speed, less what the noise of the fits adds to it, is that of a lognormal
    CycleToCycle. The read noise is the current's second difference over the current, where the voltage is above a
    fifth of its largest: steps of the device count as little in it as its median allows.
    """
    excess, factors, noises, silent = [], [], [], []
    for loop, own in zip(loops, prepared, strict=True):
        if len(loop.cycles) < LEAST_CYCLES:
            silent.append(loop.name)
            continue
        found = np.array([_speed(part, best) for part in whole_cycles(loop, own)])
        if len(found) >= LEAST_CYCLES:
            logarithms, variances = found.T
            factors.append(np.exp(logarithms))
            excess.append((np.var(logarithms, ddof=1) - variances.mean(), len(found) - 1))
        noises.append(_relative_noise(loop))
    notes = []
    if silent:
        whose = "Every file" if len(silent) == len(loops) else ", ".join(silent)
        notes.append(f"{whose}: fewer than {LEAST_CYCLES} cycles, so no cycle-to-cycle figure")
    effects: list[Any] = []
    if excess:
        weight = sum(count for _, count in excess)
        sigma = float(np.sqrt(max(sum(value * count for value, count in excess) / weight, 0.0)))
        cycles = sum(len(each) for each in factors)
        notes.append(f"Speed from cycle to cycle: sigma of its logarithm {sigma:.3g}, from {cycles} cycles")
        effects.append(CycleToCycle(quantity="speed", distribution=Lognormal(sigma=sigma)))
    if noises:
        effects.append(ReadNoise(relative=float(np.median(noises))))
    return tuple(effects), tuple(notes)


def whole_cycles(loop: Loop, prepared: Prepared) -> list[Prepared]:
    """Whole cycles of a loop, at most `_MOST_CYCLES`."""
    cycle = np.asarray(loop.cycle)
    whole = [number for number in loop.cycles if np.sum(cycle == number) >= 0.9 * prepared.cycle_points]
    chosen = [
        whole[place] for place in np.unique(np.linspace(0, len(whole) - 1, min(len(whole), _MOST_CYCLES), dtype=int))
    ]
    return [
        dataclasses.replace(
            prepared,
            times=prepared.times[cycle == number],
            drive=prepared.drive[cycle == number],
            currents=prepared.currents[cycle == number],
            parts=prepared.parts[cycle == number],
            scales=prepared.scales[cycle == number],
            period=None,
        )
        for number in chosen
    ]


def _speed(loop: Prepared, best: Candidates) -> tuple[float, float]:
    """ln of the speed in this cycle, and the variance of that."""
    widest = np.log(_FACTOR)

    def residuals(shares: np.ndarray) -> np.ndarray:
        speed = np.exp(widest * (2 * shares[:, :1] - 1))
        found = simulate([loop], best, shares[:, 1:], substeps_for(loop.cycle_points), speed)
        return (found.currents[:, 0] - loop.currents) / loop.scales

    speeds, states = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, _GRID[0]), np.linspace(0, 1, _GRID[1])))
    grid = np.stack([speeds, states], axis=1)
    costs = np.mean(residuals(grid) ** 2, axis=1)
    shares = refine(residuals, grid[np.argsort(costs)[:2]], iterations=20).shares[:1]
    value, jacobian = linearised(residuals, shares)
    variance = float(value[0] @ value[0]) / max(value.shape[1] - 2, 1) * correlation_time(value[0], [value.shape[1]])
    covariance = variance * np.linalg.pinv(jacobian[0].T @ jacobian[0])
    return float(widest * (2 * shares[0, 0] - 1)), float((2 * widest) ** 2 * covariance[0, 0])


def _relative_noise(loop: Loop) -> float:
    middle = np.abs(loop.voltages[1:-1]) > 0.2 * np.abs(loop.voltages).max()
    current = np.abs(loop.currents[1:-1])
    middle &= current > 0
    return float(np.median(np.abs(np.diff(loop.currents, 2))[middle] / current[middle]) / (0.6745 * np.sqrt(6)))
