"""Points of a loop at which the instrument limited the current or the voltage: recognized and left out.

A source in compliance holds the limit, whatever is programmed: the current stays at one value while the programmed
voltage moves on (or the voltage, where a current is programmed). Such points say nothing about the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import format_quantity, parse_quantity

AUTO, NONE = "auto", "none"

_LEAST_POINTS, _NOISY_POINTS = 4, 10
"""Of a plateau: without noise, and with."""
_WIDE = 0.25
"""Relative deviation from the level within which the noise on a plateau is estimated."""
_TOP = 0.9
"""Share of the largest magnitude from which on points may belong to a plateau."""
_LEAST_RANGE, _NOISY_RANGE = 0.1, 0.3
"""Relative change of the driving quantity along a plateau at least: without noise, and with."""
_MOST_SLOPE = 0.2
"""d ln(limited)/d ln(drive) along a plateau at most; an ohmic device has 1."""
_TOLERANCE = 5e-3
"""Relative deviation from the level of a plateau without noise."""
_ABOVE_NOISE = 1.5
"""Standard deviation along a plateau over that of its noise at most, besides..."""
_EXACT, _LONG_EXACT, _LONG_RANGE = 2e-4, 3e-3, 0.5
"""...this share of the level; the second one where the driving quantity changes by a half or more."""
_LEAST_STEP = 0.25
"""Median step of the driving quantity along a plateau over that of the loop: a voltage that was measured, and not
programmed, stays near its value in compliance, and such points are true."""
_NOISY = 2e-3
"""Relative noise from which on a plateau counts as noisy."""
_MOST_NOISE = 0.06
"""Relative standard deviation of the noise on a plateau."""
_AT_LIMIT = 0.97
"""Share of a limit that was given from which on a point counts as limited..."""
_ABOVE_LIMIT = 1.1
"""...and share that no point may exceed."""
_MOST_LEVELS = 8
"""Plateau levels that are listed."""
_KNEE_DEGREE = 4
"""Of the polynomial that a plateau and its neighborhood are compared with..."""
_KNEE_ADVANTAGE = 12.0
"""...and the difference of Bayes' information criterion by which two corners must describe them better."""
_LEAST_SIDE = 3
"""Points of the neighborhood at least, of the other polarity if need be."""
_ROUNDING = 1e-4
"""Relative deviation below which a better description counts for nothing."""
_OVERTOPPED = 5.0
"""Standard deviations of the noise above a level at which another cycle without a plateau contradicts it."""
_REGULAR = 1.6
"""Largest step over the median step of a programmed sweep; 1 for a triangle, 1.5 for a sine."""


@dataclass(frozen=True, eq=False)
class Limited:
    """The points of a loop that a compliance limit set."""

    points: np.ndarray
    """(points,) of bool."""
    quantity: Literal["current", "voltage"] = "current"
    """The one that was limited."""
    levels: tuple[float, ...] = ()
    """Its values on the plateaus, with their signs [A] or [V]."""

    @property
    def note(self) -> str:
        """A sentence on the points, for the reader; empty where there are none."""
        count = int(self.points.sum())
        if not count:
            return ""
        unit = "A" if self.quantity == "current" else "V"
        levels = ", ".join(format_quantity(level, unit, 3) for level in self.levels[:4])
        return (
            f"{count} of {len(self.points)} points at the {self.quantity} compliance ({levels}) left out; "
            "--compliance none keeps them"
        )


def check_option(text: str) -> str:
    """`text` where it is "auto", "none" or a limit with its unit, such as "200 uA".

    Raises:
        ConfigError: it is something else.
    """
    if text not in (AUTO, NONE):
        _limit(text)
    return text


def limited_points(
    drive: np.ndarray, currents: np.ndarray, cycle: np.ndarray, option: str = AUTO, where: str = "loop"
) -> Limited:
    """The points of a loop in compliance.

    "auto" looks for plateaus, in each cycle and polarity: at least four points in a row that share the largest
    current, up to noise of 5 %, while the voltage changes by a tenth or more and the current does not follow it. A
    plateau begins and ends with a corner, unless one of another cycle at the same level does, and no other cycle
    passes its level. A device whose current saturates smoothly keeps its points.
    Where a current was programmed (it moves in regular steps and the voltage does not), plateaus of the voltage are
    looked for instead. A limit, such as "200 uA", takes all points at 97 % of it or more, in either polarity.

    Args:
        drive: voltages over the device and its resistor, (points,) [V].
        currents: (points,) [A].
        cycle: (points,) number of the cycle.
        option: "auto", "none", or a limit with its unit.
        where: name of the loop, for messages.

    Raises:
        ConfigError: the option is none of these.
        InputError: points exceed the limit that was given.
    """
    nothing = np.zeros(len(drive), dtype=bool)
    if option == NONE or len(drive) < _LEAST_POINTS:
        return Limited(nothing)
    if option != AUTO:
        quantity, limit = _limit(option)
        return _at_limit(drive if quantity == "voltage" else currents, quantity, limit, where)
    if _is_programmed(currents) and not _is_programmed(drive):
        points, levels = _plateaus(drive, currents, cycle)
        return Limited(points, "voltage", levels)
    points, levels = _plateaus(currents, drive, cycle)
    return Limited(points, "current", levels)


def _limit(text: str) -> tuple[Literal["current", "voltage"], float]:
    quantities: tuple[tuple[Literal["current", "voltage"], str], ...] = (("current", "ampere"), ("voltage", "volt"))
    for quantity, unit in quantities:
        try:
            value = parse_quantity(text, unit)
        except ConfigError:
            continue
        if value > 0:
            return quantity, value
    raise ConfigError(
        "not a compliance", where="compliance", value=text, limit='auto, none, or a limit above zero such as "200 uA"'
    )


def _at_limit(values: np.ndarray, quantity: Literal["current", "voltage"], limit: float, where: str) -> Limited:
    unit = "A" if quantity == "current" else "V"
    largest = float(np.abs(values).max())
    if largest > _ABOVE_LIMIT * limit:
        raise InputError(
            f"a {quantity} beyond the compliance", where=where, value=format_quantity(largest, unit, 4),
            limit=f"at most {format_quantity(limit, unit, 4)}", hint="Check --compliance and the unit of the column",
        )  # fmt: skip
    points = np.abs(values) >= _AT_LIMIT * limit
    signs = [sign for sign in (1, -1) if (points & (sign * values > 0)).any()]
    return Limited(points, quantity, tuple(sign * limit for sign in signs))


def _is_programmed(values: np.ndarray) -> bool:
    """Whether values move in regular steps, as programmed sweeps do."""
    steps = np.abs(np.diff(values))
    typical = float(np.median(steps))
    return typical > 0 and float(np.quantile(steps, 0.95)) <= _REGULAR * typical


@dataclass(frozen=True, eq=False)
class _Plateau:
    """One row of points at a level."""

    run: np.ndarray
    """(points,) places in the loop."""
    cycle: int
    level: float
    """Size, without its sign."""
    noise: float
    """Standard deviation, in the unit of the level."""
    cornered: bool
    """Whether it begins and ends with a corner."""


def _plateaus(limited: np.ndarray, driving: np.ndarray, cycle: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
    """Points on plateaus of `limited` along which `driving` moves, and the levels of the plateaus."""
    points = np.zeros(len(limited), dtype=bool)
    levels: list[float] = []
    step = float(np.median(np.abs(np.diff(driving))))
    order = np.argsort(cycle, kind="stable")
    cycles = np.split(order, np.flatnonzero(np.diff(cycle[order])) + 1)
    for sign in (1, -1):
        parts = [own[sign * limited[own] > 0] for own in cycles]
        found = [
            each
            for number, mine in enumerate(parts)
            if len(mine) >= _LEAST_POINTS
            for each in _plateaus_of_cycle(limited, driving, cycles[number], mine, number, step)
        ]
        largest = [_largest(np.abs(limited[mine])) for mine in parts]
        for each in _limits(found, largest):
            points[each.run] = True
            levels.append(sign * float(np.median(np.abs(limited[each.run]))))
    distinct: list[float] = []
    for level in levels:
        if len(distinct) < _MOST_LEVELS and not any(abs(level - other) < 0.02 * abs(other) for other in distinct):
            distinct.append(level)
    return points, tuple(distinct)


def _plateaus_of_cycle(
    values: np.ndarray, driving: np.ndarray, own: np.ndarray, mine: np.ndarray, number: int, step: float
) -> list[_Plateau]:
    """Plateaus at the top of one polarity of one cycle, whose points are the places `mine` of its own."""
    limited, driving = np.abs(values), np.abs(driving)
    size = limited[mine]
    level, noise = _level(size)
    if noise > _MOST_NOISE * level:
        return []
    near = np.abs(size - level) <= max(4 * noise, _TOLERANCE * level)
    return [
        _Plateau(run, number, level, noise, _has_knees(values, own, run, level))
        for run in _runs(mine, near)
        if np.median(np.abs(np.diff(driving[run]))) >= _LEAST_STEP * step
        and _is_flat(limited[run], driving[run], level, noise)
    ]


def _largest(size: np.ndarray) -> float:
    """The largest of `size` but for a single outlier."""
    return float(np.partition(size, -2)[-2]) if len(size) > 1 else 0.0


def _limits(found: list[_Plateau], largest: list[float]) -> list[_Plateau]:
    """Plateaus of `found` with corners, and those of other cycles at the same level.

    A level that another cycle passes is none, unless that cycle has a higher plateau of its own. Exact plateaus,
    without noise, need no such confirmation.
    """
    cornered = [each for each in found if each.cornered]
    limits = {each.cycle for each in cornered}

    def passed(each: _Plateau) -> bool:
        top = each.level + max(_OVERTOPPED * each.noise, _TOLERANCE * each.level)
        return any(size > top for number, size in enumerate(largest) if number not in limits)

    sure = [each for each in cornered if each.noise <= _NOISY * each.level or not passed(each)]
    levels = np.array([each.level for each in sure])
    return [
        each
        for each in found
        if each in sure or (np.abs(each.level - levels) <= max(each.noise, _TOLERANCE * each.level)).any()
    ]


def _has_knees(limited: np.ndarray, own: np.ndarray, run: np.ndarray, level: float) -> bool:
    """Whether the run begins and ends with a corner; a smooth maximum and a slow decay of the current do not.

    At either end two models are compared by Bayes' information criterion: a constant on the run with a parabola on the
    neighborhood beyond it (half of the run's length, of its polarity), and one polynomial of degree 4 through both. An
    end of the cycle counts as a corner.

    Args:
        limited: of the whole loop, with signs.
        own: places of the cycle.
    """
    first, last = int(np.searchsorted(own, run[0])), int(np.searchsorted(own, run[-1], "right"))
    width = max((last - first) // 2, _LEAST_SIDE)
    other = np.flatnonzero(limited[own] * limited[run[0]] <= 0)
    begin = max([first - width, *(other[other < first][-1:] + 1)])
    end = min([last + width, *other[other >= last][:1]])
    before = own[max(min(begin, first - _LEAST_SIDE), 0) : first]
    after = own[last : max(end, last + _LEAST_SIDE)]
    least = (_ROUNDING * level) ** 2
    for side, inward in ((before[::-1], run[::-1]), (after, run)):
        if not side.size:
            continue
        values = limited[np.concatenate([inward, side])]
        count, edge = len(values), len(inward)
        # Noise moves the end of the run by points that lie beyond the corner.
        square = min(_constant_then_parabola(values, place) for place in range(edge - edge // 8, edge + 1))
        corner = count * np.log(square / count + least) + 5 * np.log(count)
        smooth = count * np.log(_left(values, _KNEE_DEGREE) / count + least)
        if corner + _KNEE_ADVANTAGE > smooth + (_KNEE_DEGREE + 1) * np.log(count):
            return False
    return True


def _constant_then_parabola(values: np.ndarray, place: int) -> float:
    """The sum of squares that a constant up to `place` and a parabola from there on leave."""
    flat = values[:place]
    return float(np.sum((flat - flat.mean()) ** 2)) + _left(values[place:], 2)


def _left(values: np.ndarray, degree: int) -> float:
    """The sum of squares that a polynomial of the place leaves of `values`."""
    places = np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(1)
    basis = np.polynomial.chebyshev.chebvander(places, min(degree, len(values) - 1))
    found = np.linalg.lstsq(basis, values, rcond=None)[0]
    return float(np.sum((values - basis @ found) ** 2))


def _level(size: np.ndarray) -> tuple[float, float]:
    """The level of the highest points and the noise on it, from second differences: a slope is no noise."""
    level = float(np.median(size[size >= _TOP * np.partition(size, -2)[-2]]))
    noise = 0.0
    for width in (_WIDE, 0.0):
        near = np.abs(size - level) <= max(width, 4 * noise / level, _TOLERANCE) * level
        bends = np.diff(size, 2)[near[2:] & near[1:-1] & near[:-2]]
        noise = float(np.median(np.abs(bends)) / (0.6745 * np.sqrt(6))) if bends.size else 0.0
        close = np.abs(size - level) <= max(4 * noise, _TOLERANCE * level)
        level = float(np.median(size[close])) if close.any() else level
    return level, noise


def _runs(places: np.ndarray, near: np.ndarray) -> list[np.ndarray]:
    """Rows of points of the loop that are near the level; single points off it within a row belong to it."""
    chosen = places[near]
    if not chosen.size:
        return []
    parts = np.split(chosen, np.flatnonzero(np.diff(chosen) > 2) + 1)
    return [np.arange(part[0], part[-1] + 1) for part in parts if len(part) >= _LEAST_POINTS]


def _is_flat(limited: np.ndarray, driving: np.ndarray, level: float, noise: float) -> bool:
    """Whether `limited` is constant up to its noise and does not follow `driving`, which changes by a tenth or more.

    The peak of a device that switches off at a rising voltage is level at its top, but bends beyond its noise.
    """
    exact = _EXACT if driving.max() < (1 + _LONG_RANGE) * driving.min() else _LONG_EXACT
    if float(np.median(np.abs(limited - np.median(limited)))) > 0.6745 * _ABOVE_NOISE * noise + exact * level:
        return False
    noisy = noise > _NOISY * level
    least = _NOISY_RANGE if noisy else _LEAST_RANGE
    if driving.max() < (1 + least) * max(driving.min(), 1e-300) or (noisy and len(driving) < _NOISY_POINTS):
        return False
    x, y = np.log(np.maximum(driving, 1e-3 * driving.max())), np.log(limited / limited.mean() + 1e-300)
    centered = x - x.mean()
    square = float(centered @ centered)
    slope = float(centered @ y) / square
    error = float(np.sqrt(np.var(y - slope * centered) / square))
    return abs(slope) + error <= _MOST_SLOPE
