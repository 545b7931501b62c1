"""States in time: `evolve` to a tolerance, `after_pulses` for pulse trains, `trace` with fixed steps for fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, DynamicDevice
from mdls_cosim.devices.dynamics.evolution import Evolution
from mdls_cosim.devices.dynamics.exponential_rosenbrock import midpoint_step
from mdls_cosim.devices.dynamics.population import (
    chunks,
    common_shape,
    converted,
    converted_population,
    flat,
    flat_population,
    leader,
    part,
    part_of_population,
)
from mdls_cosim.errors import ConvergenceError, InputError


def evolve(
    device: DynamicDevice,
    states: Array,
    times: Array,
    voltages: Array,
    *,
    temperature: float = ROOM_TEMPERATURE,
    speed: Array = 1.0,
    relative_tolerance: float = 1e-6,
    absolute_tolerance: float = 1e-8,
) -> Array:
    """States at `times` under voltages that go straight from point to point.

        dx/dt = speed rate(V(t), x)

    Every device takes steps of its own, of fourth order, their error held to the tolerances; a step never bridges a
    point. Stable for stiff devices (`exponential_rosenbrock`). Torch gradients pass; a voltage that has a
    point exactly on a threshold has none there.

    Args:
        device: also a population (`Device.varied`), its parameters broadcasting with the states
        states: the first, within 0 - 1, broadcasting to (*devices)
        times: (points,) or (points, *devices) [s], never falling
        voltages: (points,) or (points, *devices) [V]
        temperature: of the surroundings [K]
        speed: factor of the rate, a number or (*devices)
        relative_tolerance, absolute_tolerance: of the state, in each step; absolute at least 1e-6 in float32

    Returns:
        (points, *devices), within 0 - 1, of the kind (numpy, torch; precision) of `states`, or if that is a number of
        the first array among parameters, voltages and speed.

    Raises:
        InputError: arrays that do not fit together, times that fall, a state outside 0 - 1.
        ConvergenceError: the tolerances cannot be held; `failed` lists the devices.
    """
    like = leader(device, states, voltages, speed)
    times = _times(times)
    durations = converted(like, times[1:, ...] - times[:-1, ...])
    states, voltages, speed = _states(like, states), converted(like, voltages), converted(like, speed)
    _check_voltages(voltages, times.shape[0])
    _check_conditions(speed, temperature)
    shape = common_shape(device, states, speed, voltages[0, ...], durations[0, ...])
    durations, voltages = flat(durations, shape, 1), flat(voltages, shape, 1)
    constant = _constant(voltages)

    def follow(chunk: slice, evolution: Evolution) -> list[Array]:
        levels, pieces = part(voltages, chunk), part(durations, chunk)
        found = [evolution.states]
        for index, (start, end) in enumerate(pairwise(levels)):
            evolution.advance(pieces[index, ...], start, None if constant[index] else end)
            found.append(evolution.states)
        return found

    return _in_chunks(follow, device, states, speed, shape, temperature, relative_tolerance, absolute_tolerance)


def after_pulses(
    device: DynamicDevice,
    states: Array,
    voltages: Array,
    width: Array,
    *,
    edge: float = 0.0,
    pause: float = 0.0,
    every: bool = False,
    temperature: float = ROOM_TEMPERATURE,
    speed: Array = 1.0,
    relative_tolerance: float = 1e-6,
    absolute_tolerance: float = 1e-8,
) -> Array:
    """States after a train of pulses, by the device's closed solution where it has one.

    A pulse is a straight rise over `edge`, `width` at its voltage, a straight fall over `edge`, and `pause` at 0 V.
    Without edges and with a device that has `state_after`, that is exact, and the tolerances play no part; else as
    `evolve`, whose arguments the others are.

    Args:
        voltages: (pulses,) or (pulses, *devices) [V]
        width: a number, or (*devices) [s]
        edge, pause: [s]
        every: whether to return the states after every pulse, and its pause

    Returns:
        (*devices), or with `every` (pulses, *devices).

    Raises:
        InputError: arrays that do not fit together, a negative time, a state outside 0 - 1.
        ConvergenceError: the tolerances cannot be held; `failed` lists the devices.
    """
    like = leader(device, states, voltages, width, speed)
    xp = array_namespace(like)
    states, voltages = _states(like, states), converted(like, voltages)
    width, speed = converted(like, width), converted(like, speed)
    _check_voltages(voltages, None)
    _check_conditions(speed, temperature)
    if not (0 <= edge < math.inf and 0 <= pause < math.inf and bool(xp.all((width >= 0) & xp.isfinite(width)))):
        raise InputError("a negative or infinite time", where="width, edge, pause", limit="0 s or more, finite")
    shape = common_shape(device, states, speed, width, voltages[0, ...] if voltages.shape[0] else states)
    voltages, width = flat(voltages, shape, 1), flat(width, shape)
    edge_, pause_ = converted(like, [edge]), converted(like, [pause])

    def follow(chunk: slice, evolution: Evolution) -> list[Array]:
        found = [evolution.states]
        for level in part(voltages, chunk):
            rest = xp.zeros_like(level)
            if edge:
                evolution.advance(edge_, rest, level)
            evolution.hold(part(width, chunk), level)
            if edge:
                evolution.advance(edge_, level, rest)
            if pause:
                evolution.hold(pause_, rest)
            if every:
                found.append(evolution.states)
        return found if every else [evolution.states]

    found = _in_chunks(follow, device, states, speed, shape, temperature, relative_tolerance, absolute_tolerance)
    return found[1:, ...] if every else found[0, ...]


def trace(
    device: DynamicDevice,
    states: Array,
    times: Array,
    voltages: Array,
    substeps: int = 1,
    temperature: float = ROOM_TEMPERATURE,
    speed: Array = 1.0,
) -> Array:
    """States at `times`, by fixed steps without error control: what a fit of thousands of candidates can afford.

    One step of second order between points (`exponential_rosenbrock.midpoint_step`, two rates), or `substeps` of them.
    Halving the steps shows the error; `evolve`, whose arguments the others are, controls it. A switching that runs away
    within less than a step overshoots.

    Raises:
        InputError: arrays that do not fit together, times that fall, a state outside 0 - 1.
    """
    if substeps < 1:
        raise InputError("no steps between the points", where="substeps", value=substeps, limit="1 or more")
    like = leader(device, states, voltages, speed)
    xp = array_namespace(like)
    times = _times(times)
    steps = converted(like, times[1:, ...] - times[:-1, ...])
    states, voltages, speed = _states(like, states), converted(like, voltages), converted(like, speed)
    _check_voltages(voltages, times.shape[0])
    _check_conditions(speed, temperature)
    shape = common_shape(device, states, speed, voltages[0, ...], steps[0, ...])
    state, device = xp.broadcast_to(states, shape or (1,)), converted_population(like, device)
    # Array libraries treat arrays of shape () as numbers here and there; an axis of one costs nothing.
    voltages = voltages[:, None] if voltages.ndim == 1 else voltages

    def rate(voltage: Array, state: Array) -> Array:
        return device.state_rate(voltage, state, temperature)

    found = [state]
    for (start, end), step in zip(pairwise(voltages), steps, strict=True):
        duration = speed * step / substeps
        for index in range(substeps):
            middle = start + (end - start) * ((index + 0.5) / substeps)
            state = midpoint_step(rate, middle, state, duration)
        found.append(state)
    return xp.reshape(xp.stack(found), (len(found), *shape))


def _in_chunks(
    follow: Callable[[slice, Evolution], list[Array]],
    device: DynamicDevice,
    states: Array,
    speed: Array,
    shape: tuple[int, ...],
    temperature: float,
    relative_tolerance: float,
    absolute_tolerance: float,
) -> Array:
    """What `follow` returns for all devices, (its length, *shape)."""
    xp = array_namespace(states)
    population, speed = flat_population(converted_population(states, device), shape), flat(speed, shape)
    states = xp.reshape(xp.broadcast_to(states, shape), (-1,))
    found = []
    for chunk in chunks(states, states.shape[0]):
        evolution = Evolution(
            part_of_population(population, chunk),
            states[chunk],
            temperature=temperature,
            speed=part(speed, chunk),
            relative_tolerance=relative_tolerance,
            absolute_tolerance=absolute_tolerance,
        )
        try:
            found.append(xp.stack(follow(chunk, evolution)))
        except ConvergenceError as error:
            places = [np.unravel_index(chunk.start + place, shape) for place in error.failed]
            error.failed = [tuple(map(int, place)) for place in places]
            raise
    joined = found[0] if len(found) == 1 else xp.concat(found, axis=1)
    return xp.reshape(joined, (joined.shape[0], *shape))


def _times(times: Array) -> Array:
    """Checked, in their own precision: their differences may be far below float32's."""
    times = times if is_array_api_obj(times) else np.asarray(times, dtype=np.float64)
    xp = array_namespace(times)
    if times.ndim == 0 or times.shape[0] < 2:
        raise InputError("too few points in time", where="times", value=tuple(times.shape), limit="2 at least")
    if not bool(xp.all(times[1:, ...] >= times[:-1, ...]) & xp.all(xp.isfinite(times))):
        raise InputError("times that fall, or are not numbers", where="times", limit="never falling, finite")
    return times


def _states(like: Array, states: Array) -> Array:
    states = converted(like, states)
    if not bool(array_namespace(like).all((states >= 0) & (states <= 1))):
        raise InputError("a state outside its range, or not a number", where="states", limit="0 - 1")
    return states


def _check_voltages(voltages: Array, points: int | None) -> None:
    if voltages.ndim == 0 or (points is not None and voltages.shape[0] != points):
        raise InputError(
            "not one voltage a time" if points is not None else "no axis of pulses",
            where="voltages",
            value=tuple(voltages.shape),
            limit="(pulses,) or (pulses, *devices)" if points is None else f"({points},) or ({points}, *devices)",
        )
    xp = array_namespace(voltages)
    if not bool(xp.all(xp.isfinite(voltages))):
        raise InputError("voltages that are not finite", where="voltages")


def _check_conditions(speed: Array, temperature: float) -> None:
    xp = array_namespace(speed)
    if not bool(xp.all((speed >= 0) & xp.isfinite(speed))):
        raise InputError("a negative speed, or one that is not finite", where="speed", limit="0 or more, finite")
    if not 0 < temperature < math.inf:
        raise InputError("an impossible temperature", where="temperature", value=f"{temperature} K", limit="above 0 K")


def _constant(voltages: Array) -> list[bool]:
    """Whether a straight piece keeps its voltage: then the rate depends on the state only, which saves work."""
    if getattr(voltages, "requires_grad", False):
        return [False] * (voltages.shape[0] - 1)
    xp = array_namespace(voltages)
    return [bool(same) for same in xp.all(voltages[1:, :] == voltages[:-1, :], axis=1)]
