"""The flow of a rate: how far a device is along its range after a pulse.

A device whose state moves by dx/dt = f(V, x) composes: a pulse of width t1 + t2 does what one of t1 and then one of t2
do. Maps that compose so are the flow of a rate, and every rate has a clock T_A(p) in which it runs evenly:

    T_A(after) = T_A(before) + width,     dT_A/dp = 1/f_A(p) > 0

Here p is how far the conductance is along its range, 0 to 1 in the direction of the pulse, and ln f_A(p) is piecewise
linear between knots, so that T_A and its inverse are closed forms. Between amplitudes ln f is a cubic of ln A. `width`
is the time at full voltage: edges scale with it, and what they do is in f.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from mdls_cosim.errors import InputError

Floats = NDArray[np.float64]

_CHUNK = 1 << 14  # cells whose clocks are held at once, where each has an amplitude of its own: they fit a cache


@dataclass(frozen=True, eq=False)
class Rates:
    """ln f of one direction on a grid."""

    amplitudes: Floats
    """(amplitudes,) rising [V]."""
    knots: Floats
    """(knots,) from 0 to 1: how far along the range."""
    logs: Floats
    """(amplitudes, knots): logarithm of the rate [1/s] of p."""


class Clock:
    """The flow of one direction; its tables follow the cells to their torch device."""

    def __init__(self, rates: Rates) -> None:
        amplitudes, knots, logs = rates.amplitudes, rates.knots, rates.logs
        if not (
            amplitudes.ndim == knots.ndim == 1
            and logs.shape == (len(amplitudes), len(knots))
            and len(knots) > 1
            and len(amplitudes)
            and (amplitudes > 0).all()
            and (np.diff(amplitudes) > 0).all()
            and (np.diff(knots) > 0).all()
            and (knots[0], knots[-1]) == (0, 1)
            and np.isfinite(amplitudes).all()
            and np.isfinite(logs).all()
        ):
            raise InputError(
                "rates that are no table", limit="amplitudes that rise, knots that rise from 0 to 1, finite rates"
            )
        if len(amplitudes) > 1:
            spline = CubicSpline(np.log(amplitudes), logs, bc_type="natural" if len(amplitudes) < 4 else "not-a-knot")
            coefficients, slope = spline.c, float(spline(np.log(amplitudes[0]), 1).mean())
        else:
            coefficients, slope = np.stack([0 * logs, 0 * logs, 0 * logs, logs]), 1.0
        self._tables = [
            torch.as_tensor(np.ascontiguousarray(each, dtype=np.float64)) for each in (amplitudes, knots, coefficients)
        ]
        # Below the weakest pulse of the data the rate falls off as a power of the amplitude.
        self._power = max(1.0, slope)

    def flow(self, before: Tensor, amplitudes: Tensor, advance: Tensor) -> Tensor:
        """By how much p rises in `advance` [s] at `amplitudes` [V], which is one number or of the shape of `before`."""
        if self._tables[0].device != before.device:
            self._tables = [each.to(before.device) for each in self._tables]
        grid, knots, _ = self._tables
        weaker = (amplitudes / grid[0]).clamp_max(1.0)
        advance = advance * weaker**self._power
        if amplitudes.ndim == 0:
            return flow(self._logs(amplitudes), knots, before, advance)
        parts = [each.reshape(-1).split(_CHUNK) for each in (amplitudes, before, advance)]
        gains = [flow(self._logs(some), knots, start, span) for some, start, span in zip(*parts, strict=True)]
        return torch.cat(gains).reshape(before.shape)

    def _logs(self, amplitudes: Tensor) -> Tensor:
        """ln f at the knots, (…, knots)."""
        grid, _, coefficients = self._tables
        inside = torch.minimum(torch.maximum(amplitudes, grid[0]), grid[-1])
        place = (torch.searchsorted(grid, inside.detach(), right=True) - 1).clamp(0, max(0, len(grid) - 2))
        beyond = (inside.log() - grid.log()[place])[..., None]
        cubic, square, line, start = coefficients[:, place]
        return ((cubic * beyond + square) * beyond + line) * beyond + start


def flow(logs: Tensor, knots: Tensor, before: Tensor, advance: Tensor) -> Tensor:
    """By how much p rises in `advance` [s] by the rate whose logarithm at `knots` is `logs`, straight between them.

    Within a segment of length h, where ln f = l + s z with z from 0 to 1, the clock is T = h e^-l (1 - e^(-s z))/s.

    Args:
        logs: (knots,), or (cells, knots) for cells each with its own.
        knots: (knots,) from 0 to 1.
        before, advance: (cells).
    """
    steps = knots.diff()
    slopes, pace = logs.diff(dim=-1), torch.exp(-logs)
    times = steps * pace[..., :-1] * _decaying(slopes)
    clock = torch.cat([torch.zeros_like(times[..., :1]), times.cumsum(-1)], -1)

    def at(table: Tensor, place: Tensor) -> Tensor:
        return table[place] if table.ndim == 1 else table.gather(-1, place[..., None])[..., 0]

    def located(edges: Tensor, value: Tensor) -> Tensor:
        value = value.detach().contiguous()
        found = torch.searchsorted(edges.detach(), value if edges.ndim == 1 else value[..., None], right=True)
        return (found.reshape(value.shape) - 1).clamp(0, len(knots) - 2)

    # Below the range the rate is that of its beginning; beyond its end nothing moves.
    first = pace[..., 0]
    place = located(knots, before)
    share = ((before - knots[place]) / steps[place]).clamp(0, 1)
    own = at(slopes, place)
    now = at(clock, place) + steps[place] * at(pace, place) * share * _decaying(own * share)
    now = torch.where(before < 0, before * first, now)
    then = now + advance
    place = located(clock, then)
    done = ((then - at(clock, place)) / (steps[place] * at(pace, place))).clamp_min(0)
    own = at(slopes, place)
    # 1 - s y is e^(-s z), at least e^-s within the segment.
    after = knots[place] + steps[place] * (done * _growing(own * done, own)).clamp_max(1)
    after = torch.where(then < 0, then / first, after)
    gain = torch.where(before >= 1, 0.0 * after, after - before)
    # Rounding alone could lead backwards; and without an advance nothing moves, exactly. The gradients stay.
    astray = torch.where(advance == 0, gain, gain.clamp_max(0))
    return gain - astray.detach()


def _decaying(exponent: Tensor) -> Tensor:
    """(1 - e^-x)/x."""
    small = exponent.abs() < 1e-5
    safe = torch.where(small, 1.0, exponent)
    return torch.where(small, 1 - exponent / 2, -torch.expm1(-safe) / safe)


def _growing(product: Tensor, slope: Tensor) -> Tensor:
    """-ln(1 - x)/x, for x up to 1 - e^-s."""
    limit = -torch.expm1(-slope)
    product = torch.where(slope > 0, torch.minimum(product, limit), product)
    small = product.abs() < 1e-5
    safe = torch.where(small, 0.5, product)
    return torch.where(small, 1 + product / 2, -torch.log1p(-safe) / safe)
