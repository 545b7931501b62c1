"""What a transient analysis is given, the waves of its sources, and what it returns, the waveforms of its probes.

Time is discretised by the trapezoidal rule, with steps that ngspice chooses by its estimate of the local error. Its
error falls with `reltol` as reltol^0.6, whatever the circuit; the largest error over all times, relative to full scale:

    reltol (tolerance)          1e-6 (2e-4)   1e-7 (5e-5)   1e-8 (1e-5)   1e-9 (2e-6)
    RC ladder of 10, step wave  1.2e-4        3e-5          7e-6          1.6e-6        against the matrix exponential
      time points               411           820           920           1900
    state of a threshold cell   4e-4                        2.8e-5        6e-6          against scipy's LSODA
      time points               470                         1300          2700

Gear's formulas of order 2 and 6 need the same steps for twice to thrice the error. `trtol` only repeats reltol. With
`chgtol` at its default of 1e-14 C the charges of a tile (1 fF at 0.1 V) pass unchecked, at 1e-20 C a circuit that is
nearly settled takes twice the steps: it is 10 mV times the smallest capacitor. The first step, which no error estimate
controls, must be small (`tstep`): a tenth of the first knot left 5e-5. `vntol` changes nothing.

`abstol` is what a transient stalls on. A capacitor from a net to a voltage source, over a step h, is a conductor of
2C/h, whose current is rounded to eps V 2C/h, in every iteration differently: below that no current of a source
converges, and each shorter step makes it worse (fF, steps of 1e-19 s, a settled circuit: 1e-15 A never ends). It lies
above that rounding for the shortest steps to come, which are the first and a tenth of the shortest edge, and
otherwise at reltol chgtol / longest_step, where it does not loosen the control of the error.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mdls_cosim.errors import InputError
from mdls_cosim.spice.elements import format_number
from mdls_cosim.spice.points import columns_of

__all__ = ["Waveforms", "Waves"]

_TOLERANCES = "vntol=1e-12 gmin=1e-15"
_LEAST_CHARGE = 1e-20  # [C], where no capacitor is among the elements
_RESOLVED_VOLTAGE = 0.01  # [V]

# The first step, as a part of the longest; ngspice takes a hundredth of `tstep`.
FIRST_STEP = 1e-5

# More steps than this would take an hour, and gigabytes for a few probes.
MOST_STEPS = 5_000_000

# Time points are 64-bit numbers: knots closer than this part of the whole run cannot be told apart well.
CLOSEST = 1e-9


@dataclass(frozen=True)
class Waves:
    """The voltages of the driven sources over time, piecewise linear.

    times:        (knots,) [s], rising from 0; the analysis stops at the last
    values:       (knots, sources) [V]
    longest_step: [s], the longest internal step
    from_rest:    True: capacitors start at their ic=, everything else at 0 V. ngspice gives no point at 0 itself: the
                  one here is extrapolated from the two after it, the first 1e-5 of the longest step away.
                  False: starts from the operating point of the first values; ic= is ignored
    tolerance:    error aimed at, relative to full scale
    """

    times: np.ndarray
    values: np.ndarray
    longest_step: float
    from_rest: bool = True
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        times = np.array(self.times, dtype=np.float64)
        values = np.array(self.values, dtype=np.float64)
        if times.ndim != 1 or len(times) < 2 or values.ndim != 2 or len(values) != len(times):
            raise InputError(
                "knots of waves",
                value=f"times of shape {times.shape}, values of shape {values.shape}",
                limit="(knots >= 2,) and (knots, sources)",
            )
        if not (np.isfinite(times).all() and np.isfinite(values).all()):
            raise InputError("knots of waves", value="NaN or infinity", limit="finite numbers")
        gaps = np.diff(times)
        if times[0] != 0 or (gaps < CLOSEST * times[-1]).any():
            knot = 0 if times[0] != 0 else int(np.argmin(gaps)) + 1
            raise InputError(
                f"knot {knot} of waves",
                value=f"{times[knot]} s",
                limit=f"rising from 0, by {CLOSEST:g} of the last time at least",
                hint="Give an edge a width: it is a ramp between two knots.",
            )
        steps = times[-1] / self.longest_step if self.longest_step > 0 else np.inf
        if not 0 < steps <= MOST_STEPS:
            raise InputError(
                "longest_step of waves",
                value=f"{self.longest_step} s",
                limit=f"above 0 s, at most {MOST_STEPS} steps in {times[-1]:g} s",
            )
        if not 1e-8 <= self.tolerance <= 1e-2:
            raise InputError("tolerance of waves", value=self.tolerance, limit="1e-8 to 1e-2")
        for array in (times, values):
            array.setflags(write=False)
        for name, value in (("times", times), ("values", values), ("longest_step", float(self.longest_step))):
            object.__setattr__(self, name, value)

    @property
    def stop(self) -> float:
        """The last time [s]."""
        return float(self.times[-1])

    @property
    def least_step(self) -> float:
        """The least that `longest_step` may be [s]."""
        return self.stop / MOST_STEPS

    @property
    def first_step(self) -> float:
        """The first internal step [s]."""
        return min(FIRST_STEP * self.longest_step, 0.01 * float(self.times[1]))

    @property
    def command(self) -> str:
        """The analysis as a command."""
        step = min(self.longest_step, self.stop)
        uic = " uic" if self.from_rest else ""
        return f"tran {format_number(100 * self.first_step)} {format_number(self.stop)} 0 {format_number(step)}{uic}"

    def options(self, least: float | None, tied: float) -> str:
        """Tolerances, for a circuit whose least capacitor is `least` [F] (None: none is among its elements).

        tied: root of the sum of squares of the capacitors that lie between two nets other than ground [F]
        """
        reltol = 0.32 * self.tolerance**1.5
        charge = _LEAST_CHARGE if least is None else _RESOLVED_VOLTAGE * least
        gap = float(np.diff(self.times).min())
        abstol = 1e-12
        if least is not None:
            shortest = min(self.first_step, 0.1 * gap)
            noise = 4 * sys.float_info.epsilon * float(np.abs(self.values).max(initial=0.0)) * tied / shortest
            abstol = min(max(reltol * charge / self.longest_step, noise, 1e-18), 1e-9)
        # A break point closer to the time reached than minbreak is passed over.
        closest = min(1e-3 * gap, 5e-5 * self.longest_step)
        numbers = {"reltol": reltol, "chgtol": charge, "abstol": abstol, "minbreak": closest}
        return f"{' '.join(f'{name}={value:.3g}' for name, value in numbers.items())} {_TOLERANCES}"

    def sources(self, count: int) -> list[str]:
        """The value of each source as SPICE text."""
        times = [format_number(time) for time in self.times]
        return [wave_text(times, self.values[:, column]) for column in range(count)]


def wave_text(times: list[str], values: np.ndarray) -> str:
    """`PWL(t0 v0 t1 v1 …)`, or the number if it does not change."""
    if (values == values[0]).all():
        return format_number(values[0])
    return f"PWL({' '.join(f'{time} {format_number(value)}' for time, value in zip(times, values, strict=True))})"


@dataclass(frozen=True)
class Waveforms:
    """The solution of one deck over time, checked.

    probes:   the vectors that the deck reads, in its order
    times:    (points,) [s], rising from 0 to the stop time; the knots of the waves are among them
    values:   (points, probes) [V] or [A]
    seconds:  the time that the simulator took, loading included
    fallback: the name of the fall-back that succeeded; None for the first way
    """

    probes: tuple[str, ...]
    times: np.ndarray
    values: np.ndarray
    seconds: float
    fallback: str | None = None

    def column(self, probe: str) -> np.ndarray:
        """The values of one probe, (points,)."""
        return self.columns([probe])[:, 0]

    def columns(self, probes: Iterable[str]) -> np.ndarray:
        """The values of several probes, (points, len(probes)). Raises InputError for one that was not read."""
        return columns_of(self.probes, self.values, probes)

    def at(self, times: ArrayLike) -> np.ndarray:
        """The values of all probes at these times [s], (len(times), probes): linear between points, exact at knots."""
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        if wanted.ndim != 1 or not ((wanted >= 0) & (wanted <= self.times[-1])).all():
            raise InputError("times of waveforms", value=wanted, limit=f"0 to {self.times[-1]:g} s")
        return np.stack([np.interp(wanted, self.times, column) for column in self.values.T], axis=1)
