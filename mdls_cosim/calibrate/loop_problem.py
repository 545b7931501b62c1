"""Loops made ready for a fit: one residual vector for a whole batch of candidates."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdls_cosim.calibrate.branches import quarters, scales
from mdls_cosim.calibrate.circuit import Drive, Response, respond
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.spaces import Free, Space
from mdls_cosim.devices import DynamicDevice

STEPS_IN_CYCLE = 100
"""Steps of the integration in a cycle at least; points between which more are needed are joined by straight lines."""
_MOST_PERIODS = 30
"""To wait for the state of a periodic drive to close, in a final evaluation."""
_CLOSED = 1e-4
"""Difference of the state between two periods that counts as closed."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A loop as the fit sees it: in the device's own polarity, with its drive and its resistor."""

    name: str
    times: np.ndarray
    """(points,) [s]."""
    drive: np.ndarray
    """(points,) [V] of the drive, or of the device where `resistance` is None."""
    currents: np.ndarray
    """(points,) [A]."""
    resistance: float | None
    """[ohm]; NaN: to be fitted."""
    period: float | None
    """[s] of one settled cycle, beginning where the drive turns to raise the conductance; None: the start is fitted."""
    cycle_points: int
    """Points of a cycle."""
    temperature: float
    """[K]."""
    span: float
    """Largest less smallest measured current [A]."""
    parts: np.ndarray
    """(points,) quarter of the loop, see `branches.NAMES`."""
    scales: np.ndarray
    """(points,) [A]: what the residual of each point is divided by, see `branches.scales`."""
    turn: int = 0
    """By how many points a settled cycle was turned to begin there: point 0 here was this one of the measurement."""

    def thinned(self, most: int) -> Prepared:
        """Every n-th point, so that at most about `most` remain, but 40 of a cycle at least."""
        stride = max(1, min(math.ceil(len(self.times) / most), self.cycle_points // 40))
        return dataclasses.replace(
            self,
            times=self.times[::stride],
            drive=self.drive[::stride],
            currents=self.currents[::stride],
            parts=self.parts[::stride],
            scales=self.scales[::stride],
            cycle_points=-(-self.cycle_points // stride),
        )

    def measured_order(self, values: np.ndarray) -> np.ndarray:
        """`values` (points,) of this loop from the first measured point on."""
        return np.roll(values, self.turn)


def prepare(
    loop: Loop, sign: int = 1, series_resistance: float | None = None, *, fitted: bool = False, raising: int = 1
) -> Prepared:
    """`loop` as a fit sees it.

    Args:
        sign: -1 turns the device round.
        series_resistance: [ohm], in place of the loop's own.
        fitted: the resistance is to be found.
        raising: sign of the voltage that raises the conductance, once turned.
    """
    resistance = math.nan if fitted else series_resistance if series_resistance is not None else loop.series_resistance
    if loop.applied:
        drive = loop.voltages
    elif loop.applied_voltages is not None and resistance is not None:
        # The drive is what the set-up imposes; the voltage of the device alone leaves its circuit out.
        drive = loop.applied_voltages
    else:
        drive, resistance = loop.voltages, None
    cycle = np.asarray(loop.cycle)
    cycle_points = int(np.bincount(cycle - cycle.min()).max())
    parts = quarters(drive, cycle_points)
    weights = scales(loop.currents, parts)
    times, drive, currents = loop.times, sign * drive, sign * loop.currents
    period, turn = None, 0
    # With several cycles at hand nothing need be assumed of what came before them.
    if loop.periodic and cycle_points == len(times):
        period = loop.period or float(np.median(np.diff(times))) * cycle_points
        turn = _rise(drive, raising)
        times = np.concatenate([times[turn:], times[:turn] + period])
        drive, currents, parts, weights = (np.roll(each, -turn) for each in (drive, currents, parts, weights))
    span = float(np.ptp(currents))
    return Prepared(
        loop.name, times, drive, currents, resistance, period, cycle_points, loop.temperature, span, parts, weights,
        turn,
    )  # fmt: skip


def _rise(drive: np.ndarray, raising: int) -> int:
    """The first point after the strongest voltage of the lowering sign where the drive is no more of that sign."""
    rising = raising * drive
    lowest = int(np.argmin(rising))
    after = np.roll(rising, -lowest) >= 0
    return (lowest + int(np.argmax(after))) % len(drive)


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a batch of shares stands for."""

    device: DynamicDevice
    """The population."""
    series_resistance: np.ndarray | None
    """(candidates, 1) [ohm] where it is fitted."""
    capacitance: np.ndarray | float
    """(candidates, 1) or a number [F]."""
    starts: np.ndarray
    """(candidates, loops that are not periodic) first states."""


@dataclass(frozen=True, eq=False)
class LoopProblem:
    """Loops, a space, and what else is fitted: shares (candidates, parameters) in, residuals out.

    The parameters are those of the space, then `series_resistance` and `parallel_capacitance` where they are fitted,
    then the first state of every loop that is not periodic. A residual is the current less the measured one, relative
    to the RMS current of its quarter of the loop (`branches.scales`). All loops count the same, and of each loop all
    quarters, whatever their currents and numbers of points.
    """

    space: Space
    loops: Sequence[Prepared]
    resistor: Free | None = None
    capacitor: Free | float = 0.0
    periods: int = 1
    """Repeated before the one that counts, where the drive is periodic."""
    refined: int = 1
    """Steps are so many times as fine."""
    groups: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        alike = defaultdict(list)
        for place, loop in enumerate(self.loops):
            key = (len(loop.times), loop.cycle_points, loop.period is None, loop.resistance is None, loop.temperature)
            alike[key].append(place)
        object.__setattr__(self, "groups", list(alike.values()))

    @property
    def parameters(self) -> tuple[Free, ...]:
        """All that is fitted, in order."""
        extra = [each for each in (self.resistor, self.capacitor) if isinstance(each, Free)]
        return (*self.space.free, *extra, *(Free(f"start of {name}", 0.0, 1.0, "linear") for name in self._started))

    @property
    def _started(self) -> list[str]:
        return [loop.name for loop in self.loops if loop.period is None]

    def candidates(self, shares: np.ndarray) -> Candidates:
        """What `shares` (candidates, parameters) stand for."""
        place = len(self.space.free)
        resistance, capacitance = None, self.capacitor
        if self.resistor is not None:
            resistance = self.resistor.value(shares[:, [place]])
            place += 1
        if isinstance(capacitance, Free):
            capacitance = capacitance.value(shares[:, [place]])
            place += 1
        return Candidates(self.space.population(shares), resistance, capacitance, shares[:, place:])

    def residuals(self, shares: np.ndarray) -> np.ndarray:
        """(candidates, points of all loops); their mean square is that of the relative errors of quarters and loops."""
        found = self.currents(shares)
        total = sum(len(loop.times) for loop in self.loops)
        return np.concatenate(
            [
                (currents - loop.currents) / loop.scales * math.sqrt(total / (len(self.loops) * len(loop.times)))
                for currents, loop in zip(found, self.loops, strict=True)
            ],
            axis=1,
        )

    def currents(self, shares: np.ndarray) -> list[np.ndarray]:
        """Of each loop (candidates, points) [A]."""
        # Far from the data anything may overflow: the search sees that as a bad candidate.
        with np.errstate(all="ignore"):
            return [response.currents[:, 0] for response in self.respond(self.candidates(shares))]

    def respond(self, candidates: Candidates, *, finer: int = 1, until_closed: bool = False) -> list[Response]:
        """Of each loop, arrays (candidates, 1, points); steps `finer` times as fine as those of the problem."""
        started = {name: place for place, name in enumerate(self._started)}
        found: dict[int, Response] = {}
        for group in self.groups:
            own = [self.loops[place] for place in group]
            periodic = own[0].period is not None
            substeps = finer * self.refined * substeps_for(own[0].cycle_points)
            if periodic:
                starts = _settled(
                    own, candidates, substeps, _MOST_PERIODS if until_closed else self.periods, until_closed
                )
            else:
                starts = candidates.starts[:, [started[loop.name] for loop in own]]
            response = simulate(own, candidates, starts, substeps)
            for column, place in enumerate(group):
                found[place] = Response(
                    response.currents[:, [column]], response.states[:, [column]], response.voltages[:, [column]]
                )
        return [found[place] for place in range(len(self.loops))]


def substeps_for(cycle_points: int) -> int:
    """Steps between two points, where a cycle has so many."""
    return max(1, math.ceil(STEPS_IN_CYCLE / cycle_points))


def _settled(
    loops: Sequence[Prepared], candidates: Candidates, substeps: int, periods: int, until_closed: bool
) -> np.ndarray:
    """(candidates, loops) states at the first point, after `periods` of the drive or once a period changes nothing."""
    count = loops[0].cycle_points
    closing = [
        dataclasses.replace(
            loop,
            times=np.append(loop.times[:count], loop.times[0] + (loop.period or 0.0)),
            drive=np.append(loop.drive[:count], loop.drive[0]),
        )
        for loop in loops
    ]
    # Some drives leave a device that is on where it is. It was off when it was made, and so it begins there.
    states = np.zeros((_count(candidates), len(loops)))
    for _ in range(periods):
        before = states
        states = simulate(closing, candidates, states, substeps).states[..., -1]
        if until_closed and np.abs(states - before).max() < _CLOSED:
            break
    return states


def simulate(
    loops: Sequence[Prepared],
    candidates: Candidates,
    starts: np.ndarray,
    substeps: int,
    speed: np.ndarray | float = 1.0,
) -> Response:
    """Of `loops` with equally many points, alike in having a resistor or not; `starts` (candidates, loops)."""
    resistance = None
    if loops[0].resistance is not None:
        resistance = np.array([math.nan if loop.resistance is None else loop.resistance for loop in loops])
    drive = Drive(
        np.stack([loop.times for loop in loops], axis=-1),
        np.stack([loop.drive for loop in loops], axis=-1),
        resistance,
        loops[0].temperature,
    )
    return respond(
        candidates.device, drive, starts, series_resistance=candidates.series_resistance,
        capacitance=candidates.capacitance, speed=speed, substeps=substeps,
    )  # fmt: skip


def _count(candidates: Candidates) -> int:
    """Number of candidates."""
    own: list[Any] = [getattr(candidates.device, name) for name in type(candidates.device).model_fields]
    return max(len(each) for each in own if isinstance(each, np.ndarray))
