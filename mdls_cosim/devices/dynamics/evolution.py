"""Integration of states to a tolerance, every device with a step of its own."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from array_api_compat import array_namespace

from mdls_cosim.devices.base import Array, DynamicDevice
from mdls_cosim.devices.dynamics.exponential_rosenbrock import fourth_order_step
from mdls_cosim.devices.dynamics.population import part, part_of_population
from mdls_cosim.errors import ConvergenceError

AnyDynamicDevice = TypeVar("AnyDynamicDevice", bound=DynamicDevice)

MOST_STEPS = 20_000
"""Steps of a device within one straight piece of its voltage."""
# Uneven, so that a step does not end just where a ramp of round numbers meets a round threshold: there the rate has a
# corner, and the gradient at its end would be that of neither side.
_FIRST_STEP = 0.0937  # of the first piece; rejected where too long
_SHORTEST = 1e-25  # as a part of a piece
# At a corner of the rate within a step the fourth-order term, the estimate of the error, may vanish by chance. The
# third-order term does not with it; where both are smooth this share of it is too small to matter.
_LOWER = 0.3
_SHRINK, _GROW, _SAFETY = 0.217, 4.73, 0.9


class Evolution(Generic[AnyDynamicDevice]):
    """Devices on their way through time, in one flat batch.

    Steps are of fourth order with an estimate of their error (`exponential_rosenbrock.fourth_order_step`); each device
    chooses its own, so a step is as long as that device allows and no other waits for it. Devices that have arrived
    leave the batch. Where torch follows gradients, they pass through accepted steps; the step sizes have none.

    Args:
        device: or a flat population
        states: (devices,), the first, within 0 - 1
        speed: factor of the rate, (devices,) or (1,)
        relative_tolerance, absolute_tolerance: of the error of each step, against the state; absolute 8 roundings at
            least, 1e-6 in float32
    """

    def __init__(
        self,
        device: AnyDynamicDevice,
        states: Array,
        *,
        temperature: float,
        speed: Array,
        relative_tolerance: float,
        absolute_tolerance: float,
    ) -> None:
        self.device, self.states, self.temperature, self.speed = device, states, temperature, speed
        # Below, rounding would be taken for an error.
        floor = 8 * float(array_namespace(states).finfo(states.dtype).eps)
        self._relative, self._absolute = relative_tolerance, max(absolute_tolerance, floor)
        self._steps: Array | None = None  # (devices,) [s times speed], what each may try next

    # A step far too long may leave what a float32 holds; it is rejected, and nothing is lost.
    @np.errstate(over="ignore", invalid="ignore")
    def advance(self, duration: Array, start: Array, end: Array | None = None) -> None:
        """Through `duration` [s] while the voltage goes straight from `start` to `end` [V]; each (devices,) or (1,).

        No `end`: the voltage stays.

        Raises:
            ConvergenceError: steps that become too short or too many; `failed` lists the devices.
        """
        xp = array_namespace(self.states)
        total = duration * self.speed + xp.zeros_like(self.states)
        if not bool(xp.any(total > 0)):
            return
        steps = _FIRST_STEP * total if self._steps is None else self._steps
        device, state, places = self.device, self.states, None
        ramp = None if end is None else end - start
        # Position and step as parts of the piece: times of nanoseconds and of years look alike.
        position, step = xp.zeros_like(state), steps / xp.where(total > 0, total, 1.0)
        position = xp.where(total > 0, position, 1.0)
        arrived = state
        for _ in range(MOST_STEPS):
            left = 1 - position
            taken = xp.minimum(step, left)
            new, third, fourth = fourth_order_step(
                lambda voltage, x, device=device: device.state_rate(voltage, x, self.temperature),
                start if ramp is None else start + ramp * position,
                None if ramp is None else ramp * taken,
                state,
                taken * total,
            )
            scale = self._absolute + self._relative * xp.maximum(xp.abs(_value(state)), xp.abs(_value(new)))
            error = xp.maximum(xp.abs(_value(fourth)), _LOWER * xp.abs(_value(third)) ** (4 / 3))
            ratio = error / scale
            accepted = ratio <= 1
            state = xp.where(accepted, new, state)
            position = xp.where(accepted, xp.where(step >= left, 1.0, position + taken), position)
            factor = _SAFETY / xp.maximum(ratio, 1e-6) ** 0.25
            factor = xp.where(xp.isnan(factor), _SHRINK, xp.minimum(xp.maximum(factor, _SHRINK), _GROW))
            # A step cut short by the end of the piece says nothing against the longer one.
            step = xp.where(accepted, xp.maximum(taken * factor, xp.where(taken < step, step, 0.0)), taken * factor)
            running = position < 1
            count = int(xp.count_nonzero(running))
            stuck = running & (step < _SHORTEST)
            if bool(xp.any(stuck)):
                self._fail(xp, stuck, places, "steps that become too short")
            if 2 * count > state.shape[0]:
                continue
            # The batch is half empty or more: what has arrived leaves it.
            if places is None:
                arrived, steps = state + 0.0, step * total  # a copy: it is written to below
            else:
                arrived[places], steps[places] = state, step * total
            if count == 0:
                self.states, self._steps = arrived, steps
                return
            keep = xp.nonzero(running)[0]
            places = keep if places is None else places[keep]
            device, state, total = part_of_population(device, keep), state[keep], total[keep]
            position, step, start = position[keep], step[keep], part(start, keep)
            ramp = None if ramp is None else part(ramp, keep)
        self._fail(xp, position < 1, places, f"{MOST_STEPS} steps were not enough")

    def hold(self, duration: Array, voltage: Array) -> None:
        """Through `duration` [s] at `voltage` [V], each (devices,) or (1,), by the closed solution where there is one.

        Raises:
            ConvergenceError: as `advance`.
        """
        xp = array_namespace(self.states)
        if not bool(xp.any(voltage != 0)) and not bool(
            xp.any(self.device.state_rate(voltage, self.states, self.temperature) != 0)
        ):
            return
        solved = self.device.state_after(voltage, self.states, self.speed * duration, self.temperature)
        if solved is None:
            self.advance(duration, voltage)
        else:
            self.states = solved

    @staticmethod
    def _fail(xp: Any, which: Array, places: Array | None, what: str) -> None:
        found = xp.nonzero(which)[0]
        found = found if places is None else places[found]
        raise ConvergenceError(
            f"the states of {found.shape[0]} devices could not be followed: {what}",
            failed=[int(place) for place in found],
            hint="Look there for a jump of the rate or a rate that is no number, or loosen the tolerances.",
        )


def _value(array: Array) -> Array:
    """Without gradients, where the library has them."""
    return array.detach() if hasattr(array, "detach") else array
