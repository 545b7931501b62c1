"""Random telegraph noise: traps that catch and release an electron."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from mdls_cosim.devices.base import Array
from mdls_cosim.devices.variability.effect import Reading, ReadingEffect, acceleration
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.quantities import RATIO, SHARE, Duration, Energy

UINT = np.uint64
CHUNK = 1 << 15
"""Devices at a time: what fits into a processor's cache."""


class RandomTelegraphNoise(ReadingEffect):
    """One trap in a share of the cells, of two states: full it takes away a part of the conductance.

        G(t) = G [1 + a (p - s(t))],    s = 1 while the trap is full, 0 while it is empty
        P(s = 1) = p = t_e/(t_c + t_e),    <s(t) s(t')> - p^2 = p (1 - p) e^(-|t - t'|/tau),    1/tau = 1/t_c + 1/t_e

    t_c is the mean time until an empty trap fills, t_e until a full one empties; `time_spread` and `amplitude_spread`
    are lognormal between devices. G is the mean over time. The path of a trap is a function of seed, device and time:
    reads at two times, in any order, see the same history (an exact two-state Markov process: it forgets its state at
    the events of a Poisson process of rate 1/tau and draws the next from p). Leaves out traps that shift each other,
    and any influence of the read voltage on the times. Several effects make several traps.
    """

    effect: Literal["telegraph"] = "telegraph"
    amplitude: Annotated[float, SHARE, Field(gt=0, le=1)]
    """a: part of the conductance that a full trap takes away; the median device's."""
    capture_time: Duration
    """t_c [s] at 300 K; the median device's."""
    emission_time: Duration
    """t_e [s] at 300 K; the median device's."""
    share: Annotated[float, SHARE, Field(gt=0, le=1)] = 1.0
    """Of the cells that have such a trap."""
    amplitude_spread: Annotated[float, RATIO, Field(ge=0, le=3)] = 0.0
    """Of ln a between devices."""
    time_spread: Annotated[float, RATIO, Field(ge=0, le=20)] = 0.0
    """Of ln t_c and ln t_e, together, between devices."""
    activation_energy: Energy = 0.0
    """Of both times [J], in text "0.5 eV"."""

    stage: ClassVar[int] = 10

    @property
    def occupancy(self) -> float:
        """p: how likely a trap is full."""
        return self.emission_time / (self.capture_time + self.emission_time)

    def read(self, conductances: Array, randomness: Randomness, reading: Reading) -> Array:
        shape = tuple(conductances.shape)
        trapped = randomness.stream("share").uniform(shape) < self.share
        sizes = np.full(shape, self.amplitude)
        if self.amplitude_spread:
            sizes *= np.exp(self.amplitude_spread * randomness.stream("amplitude").normal(shape))
        full = self.full(shape, randomness, reading.time, reading.temperature, trapped)
        return conductances * moved(1 + np.where(trapped, sizes * (self.occupancy - full), 0.0), conductances)

    def full(
        self,
        shape: tuple[int, ...],
        randomness: Randomness,
        time: float,
        temperature: float,
        cells: np.ndarray | None = None,
    ) -> np.ndarray:
        """s(t), 0 or 1, of every cell; of those outside of `cells` (true or false) 0, at less cost."""
        rate = (1 / self.capture_time + 1 / self.emission_time) * acceleration(self.activation_energy, temperature)
        passed = np.full(shape, time * rate)
        if self.time_spread:
            passed *= np.exp(-self.time_spread * randomness.stream("time").normal(shape))
        found = np.zeros(passed.size)
        devices = np.arange(passed.size) if cells is None else np.flatnonzero(cells)
        passed = passed.ravel()
        for start in range(0, devices.size, CHUNK):
            some = devices[start : start + CHUNK]
            found[some] = _last_mark(randomness.key(), some, passed[some]) < self.occupancy
        return found.reshape(shape)


def _last_mark(key: int, devices: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The uniform number that the last event up to `times` carries; events come at rate 1, for ever.

    Time is cut into blocks of length 1. The events of a block follow from key, device and block alone (exponential
    gaps from the block's start, which is exact as the process has no memory), so nothing before it is needed; a block
    without an event sends the search to the one before.
    """
    # Past 2^52 blocks a float holds no place within the block any more.
    times = np.minimum(times, 2.0**52)
    block = np.floor(times)
    upto = times - block
    block = block.astype(np.int64).astype(UINT)
    own = _mixed(_mixed(devices.astype(UINT)) ^ UINT(key))
    marks = np.empty(devices.size)
    open_ones = np.arange(devices.size)
    while open_ones.size:
        seeds = _mixed(own[open_ones] ^ _mixed(block[open_ones]))
        hit = np.zeros(open_ones.size, dtype=bool)
        active, position = np.arange(open_ones.size), np.zeros(open_ones.size)
        event = 0
        while active.size:
            position = position - np.log(_uniform(seeds[active], 2 * event))
            before = position <= upto[open_ones[active]]
            active, position = active[before], position[before]
            marks[open_ones[active]] = _uniform(seeds[active], 2 * event + 1)
            hit[active] = True
            event += 1
        open_ones = open_ones[~hit]
        block[open_ones] -= UINT(1)
        upto[open_ones] = 1.0
    return marks


def _uniform(seeds: np.ndarray, number: int) -> np.ndarray:
    """Draw `number` of each seed, within 0 - 1, both excluded."""
    # Array, not scalar, arithmetic: it wraps around without a warning.
    bits = _mixed(seeds + np.full(1, number + 1, dtype=UINT) * UINT(0x9E3779B97F4A7C15))
    return ((bits >> UINT(11)).astype(float) + 0.5) * 2.0**-53


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of `bits`: the finaliser of SplitMix64 (10.1145/2660193.2660195)."""
    bits = (bits ^ (bits >> UINT(30))) * UINT(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> UINT(27))) * UINT(0x94D049BB133111EB)
    return bits ^ (bits >> UINT(31))
