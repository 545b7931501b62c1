"""Exponential Rosenbrock steps for many devices at once, each with one state.

    dx/dt = f(t, x) = J x + v t + g(t, x),   J = df/dx, v = df/dt at the beginning of the step
    phi_k(z) = int_0^1 e^((1-s) z) s^(k-1)/(k-1)! ds,   z = h J for a step h

The linear part is solved exactly by these functions; what is left, g, is treated as in a Runge-Kutta method. A device's
state is one number, so its Jacobian is one too, and e^z is cheap. Stiff decay (z to -infinity) is damped as by an
L-stable method; runaway (z > 0), where an implicit or a Rosenbrock step has a pole, grows as it should.

M. Hochbruck, A. Ostermann and J. Schweitzer, 10.1137/080717717: the methods; midpoint_step is the exponential
Rosenbrock-Euler method with the voltage in the middle of the step in place of v, fourth_order_step is exprb43.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

Array = Any  # any array of the array API standard
Rate = Callable[[Array, Array], Array]
"""dx/dt at voltages and states."""

_LARGEST = 30.0  # z counts as 30 above: e^30 leads out of 0 - 1 from any rate that matters, and never overflows
_OUTSIDE = 1e-3  # stages of a step may look so far out of 0 - 1; equations of devices are finite there


def midpoint_step(rate: Rate, voltage: Array, state: Array, duration: Array) -> Array:
    """The state after `duration` [s] with the rate at the voltage in the middle of the step: x + h phi_1(h J) f.

    Of second order; exact where the rate is linear in the state and the voltage constant. Kept within 0 - 1.
    `rate` is called once, with states (2, *devices).
    """
    xp = array_namespace(state)
    probe = _inwards(state)
    rates = rate(voltage, xp.stack([state, state + probe]))
    slope = (rates[1, ...] - rates[0, ...]) / probe
    return _within(xp, state + duration * rates[0, ...] * _phi_1(duration * slope))


def fourth_order_step(
    rate: Rate, voltage: Array, ramp: Array | None, state: Array, duration: Array
) -> tuple[Array, Array, Array]:
    """The state after `duration` [s], of fourth order, and its own terms of third and of fourth order.

    The last is the difference to a result of third order, and so an estimate of that one's error. The voltage begins at
    `voltage` [V] and changes by `ramp` [V] over the step; None: it stays. The state is kept within 0 - 1. `rate` is
    called three times, the first time with states (2 or 3, *devices).
    """
    xp = array_namespace(state)
    probe = _inwards(state)
    lift: Array = 0.0  # h^2 v, which acts through phi_2
    middle = end = voltage
    if ramp is None:
        rates = duration * rate(voltage, xp.stack([state, state + probe]))
    else:
        small = xp.finfo(state.dtype).eps ** 0.5
        # In the direction that the voltage takes, and so on the side of a threshold that it enters.
        small = xp.where(ramp < 0, -small, small)
        rates = duration * rate(xp.stack([voltage, voltage, voltage + small]), xp.stack([state, state + probe, state]))
        middle, end = voltage + ramp / 2, voltage + ramp
        lift = (rates[2, ...] - rates[0, ...]) / small * ramp
    now = rates[0, ...]
    z = xp.minimum((rates[1, ...] - now) / probe, _LARGEST)
    (half_1, half_2), (phi_1, phi_2, phi_3, phi_4) = _phi(z)

    halfway = state + 0.5 * half_1 * now + 0.25 * half_2 * lift
    first = duration * rate(middle, _near(xp, halfway)) - now - z * (halfway - state) - 0.5 * lift
    whole = state + phi_1 * now + phi_2 * lift
    ahead = whole + phi_1 * first
    second = duration * rate(end, _near(xp, ahead)) - now - z * (ahead - state) - lift
    third = phi_3 * (16 * first - 2 * second)
    fourth = phi_4 * (12 * second - 48 * first)
    return _within(xp, whole + third + fourth), third, fourth


def _within(xp: Any, state: Array) -> Array:
    # At a state of exactly 0 or 1 the gradient passes, which minimum and maximum would halve.
    return xp.where(state < 0, 0.0, xp.where(state > 1, 1.0, state))


def _near(xp: Any, state: Array) -> Array:
    return xp.maximum(xp.minimum(state, 1 + _OUTSIDE), -_OUTSIDE)


def _inwards(state: Array) -> Array:
    """How far away to look for the slope in the state: a root of the precision, towards the middle of 0 - 1."""
    xp = array_namespace(state)
    probe = 0.5 * xp.finfo(state.dtype).eps ** 0.5
    return xp.where(state < 0.5, probe, -probe)


def _phi_1(z: Array) -> Array:
    """(e^z - 1)/z, 1 at 0."""
    xp = array_namespace(z)
    z = xp.minimum(z, _LARGEST)
    # The derivative of the quotient loses digits where the series has them. Both branches are differentiated: neither
    # may divide by zero.
    small = xp.abs(z) < 0.02
    safe = xp.where(small, 1.0, z)
    series = 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6))))
    return xp.where(small, series, xp.expm1(safe) / safe)


def _phi(z: Array) -> tuple[tuple[Array, Array], tuple[Array, Array, Array, Array]]:
    """phi_1, phi_2 of z/2, and phi_1 to phi_4 of z.

    Of y = z/2 by the series of phi_4 and the recurrence downwards near 0, upwards elsewhere; of z by the sums
    2^k phi_k(2y) = e^y phi_k(y) + sum_(j=1..k) phi_j(y)/(k-j)!.
    """
    xp = array_namespace(z)
    y = z / 2
    small = xp.abs(y) < 0.5
    near, far = xp.where(small, y, 0.0), xp.where(small, 1.0, y)
    series = 1.0
    for divisor in range(13, 4, -1):
        series = 1 + near / divisor * series
    near_4 = series / 24
    near_3 = near * near_4 + 1 / 6
    near_2 = near * near_3 + 0.5
    far_1 = xp.expm1(far) / far
    far_2 = (far_1 - 1) / far
    far_3 = (far_2 - 0.5) / far
    one = xp.where(small, near * near_2 + 1, far_1)
    two = xp.where(small, near_2, far_2)
    three = xp.where(small, near_3, far_3)
    four = xp.where(small, near_4, (far_3 - 1 / 6) / far)
    grown = 2 + y * one  # e^y + 1
    return (one, two), (
        grown * one / 2,
        (grown * two + one) / 4,
        (grown * three + two + one / 2) / 8,
        (grown * four + three + two / 2 + one / 6) / 16,
    )
