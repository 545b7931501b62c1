"""The spread of a model's parameters from device to device and from cycle to cycle, from loops of several devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mdls_cosim.calibrate.confidence import from_hessian
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.loop_problem import LoopProblem, Prepared, prepare
from mdls_cosim.calibrate.loops import CANDIDATES, fit_loops
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.parameter_text import symbol_of, unit_of
from mdls_cosim.calibrate.random_effects import ParameterSpread, between_and_within, family_of
from mdls_cosim.calibrate.result import Calibration, Value
from mdls_cosim.calibrate.search import refine
from mdls_cosim.calibrate.set_up import scales_of
from mdls_cosim.calibrate.spaces import Space, search_spaces
from mdls_cosim.calibrate.spread import whole_cycles
from mdls_cosim.calibrate.validity import loop_validity
from mdls_cosim.devices import Device
from mdls_cosim.devices.variability import DeviceToDevice, Lognormal, Normal, ProgrammingError, Variability
from mdls_cosim.errors import InputError

_NOMINAL_CYCLES = 3
"""Cycles of each that it is fitted to."""
_STARTS = 21
"""First states that are tried for a cycle."""
_LOCAL = 0.2
"""Largest distance from its start that a cycle's fit may reach, in shares of the searched range."""
_RESOLVED = 0.15
"""Relative standard deviation of a parameter's estimate from one cycle, above which it is held."""
_DRAWS = 400
"""Devices that are drawn for the spread of the conductance from cycle to cycle."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """The typical device of several, and how its parameters spread."""

    nominal: LoopFit
    """The fit that all others begin at."""
    device: Device
    """With the centers of the distributions."""
    spread: dict[str, ParameterSpread]
    effects: tuple[Any, ...]
    """For [variability]."""
    loops: tuple[Loop, ...]
    """Those that the nominal device was fitted to."""
    notes: tuple[str, ...]


def spread_of_devices(
    devices: Mapping[str, Sequence[Loop]],
    model: str,
    *,
    series_resistance: float | Literal["fit"] | None = None,
    parallel_capacitance: float | Literal["fit"] = 0.0,
    seed: int = 0,
    candidates: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Distributions of the parameters of `model` over `devices`, each with its loops, and over their cycles.

    The device whose largest current is the median of all is fitted first, to three cycles of each of its loops. From
    there each device is fitted as a whole, and each of its cycles from that fit and from the first one: locally, in the
    parameters that one cycle of every device determines, and the first state; all else is held. Loops of one cycle of a
    device are fitted together, as one cycle. The analysis of variance (`random_effects`) separates device-to-device
    spread, cycle-to-cycle spread and the uncertainty of the fits. Correlations between parameters are left out.

    Raises:
        InputError: fewer than two cycles in all, or no parameter that the loops determine.
        ConfigError, InputError: see `fit_loops`.
    """
    middle = _middle(devices)
    chosen = tuple(_first_cycles(loop) for loop in devices[middle])
    share = 0.4

    def advance(done: float) -> None:
        if progress is not None:
            progress(int(1000 * done), 1000)

    nominal = fit_loops(
        chosen, model, series_resistance=series_resistance, parallel_capacitance=parallel_capacitance, seed=seed,
        candidates=candidates or CANDIDATES, progress=lambda done, planned: advance(share * done / planned),
    )  # fmt: skip
    space = _space_of(nominal, model, scales_of(chosen, nominal.series_resistance))
    free = [place for place, each in enumerate(space.free) if nominal.determined[each.name]]
    if not free:
        raise InputError("no parameter that the loops determine", where=", ".join(devices), value=model)
    usual = np.array([each.share(nominal.values[each.name]) for each in space.free])
    for loops in devices.values():
        free = _resolved(_units(loops, nominal)[0], space, nominal, free, usual)
    estimates, variances, wholes = [], [], []
    for number, loops in enumerate(devices.values()):
        units = _units(loops, nominal)
        if len(units) > 1:
            whole = _estimate(_units(loops, nominal, apart=False)[0], space, nominal, free, [usual[free]])
            found = [_estimate(unit, space, nominal, free, [whole[0], usual[free]]) for unit in units]
        else:
            found = [_estimate(units[0], space, nominal, free, [usual[free]])]
            whole = found[0]
        wholes.append(whole)
        estimates.append(np.stack([each[0] for each in found]))
        variances.append(np.stack([each[1] for each in found]))
        advance(share + (1 - share) * (number + 1) / len(devices))
    if sum(map(len, estimates)) < 2:
        raise InputError(
            "one cycle of one device has no spread", where=", ".join(devices), limit="two cycles or two devices"
        )
    spread, notes = _spreads(space, free, nominal, estimates, variances, wholes)
    held = [each.name for place, each in enumerate(space.free) if place not in free]
    if held:
        notes.append(
            f"held, as one cycle does not determine them (their spread goes into the others): {', '.join(held)}"
        )
    device = nominal.device.replace(**{name: each.center for name, each in spread.items()})
    cycles = sum(map(len, estimates))
    notes.insert(0, f"{len(devices)} devices, {cycles} cycles; fits begin at {middle}")
    effects, more = _effects(device, spread, seed)
    return Statistics(nominal, device, spread, effects, chosen, (*notes, *more))


def _middle(devices: Mapping[str, Sequence[Loop]]) -> str:
    """The device whose largest current is the median."""
    largest = {name: max(float(np.abs(loop.currents).max()) for loop in loops) for name, loops in devices.items()}
    return sorted(largest, key=lambda name: largest[name])[len(largest) // 2]


def _first_cycles(loop: Loop) -> Loop:
    kept = np.asarray(loop.cycle) < np.asarray(loop.cycle).min() + _NOMINAL_CYCLES
    if kept.all():
        return loop
    applied = None if loop.applied_voltages is None else loop.applied_voltages[kept]
    return dataclasses.replace(
        loop, times=loop.times[kept], voltages=loop.voltages[kept], currents=loop.currents[kept],
        cycle=np.asarray(loop.cycle)[kept], applied_voltages=applied,
    )  # fmt: skip


def _space_of(fit: LoopFit, model: str, scales: Any) -> Space:
    """The form of the model that was fitted."""
    return next(
        space
        for space in search_spaces(model, scales)
        if all(getattr(fit.device, name) == value for name, value in space.fixed.items())
    )


def _units(loops: Sequence[Loop], nominal: LoopFit, apart: bool = True) -> list[list[Prepared]]:
    """What is fitted by itself: each cycle of loops of several, and all loops of one cycle together.

    Args:
        apart: False: all loops with all of their cycles together.
    """
    raising = nominal.device.replace(reversed=False).raising_sign
    sign = -1 if nominal.device.reversed else 1
    units: list[list[Prepared]] = []
    single: list[Prepared] = []
    for loop in loops:
        prepared = prepare(loop, sign, nominal.series_resistance, raising=raising)
        parts = whole_cycles(loop, prepared) if apart and len(loop.cycles) > 1 else []
        if len(parts) > 1:
            units += [[part] for part in parts]
        else:
            single.append(prepared)
    return units + ([single] if single else [])


def _resolved(
    unit: Sequence[Prepared], space: Space, nominal: LoopFit, free: Sequence[int], usual: np.ndarray
) -> list[int]:
    """Parameters that one cycle determines: of those that trade against each other the least certain are held.

    Args:
        usual: shares of all parameters of the nominal device.
    """
    kept = list(free)
    while len(kept) > 1:
        shares, variances = _estimate(unit, space, nominal, kept, [usual[kept]])
        deviations = []
        for share, variance, place in zip(shares, variances, kept, strict=True):
            parameter = space.free[place]
            slope = (
                np.log(parameter.high / parameter.low)
                if parameter.scale == "log"
                else (parameter.high - parameter.low) / max(abs(parameter.value(share)), 1e-300)
            )
            deviations.append(float(np.sqrt(variance)) * abs(slope))
        worst = int(np.argmax(deviations))
        if deviations[worst] < _RESOLVED:
            break
        del kept[worst]
    return kept


def _estimate(
    unit: Sequence[Prepared], space: Space, nominal: LoopFit, free: Sequence[int], starts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the free parameters that fit `unit` best near one of `starts`, and the variances of their errors.

    The fit is local: from each start no parameter moves by more than `_LOCAL` of its range, and the best end counts. A
    wider search lets single cycles end in other minima, which look like a spread.
    """
    problem = LoopProblem(space, unit, None, nominal.parallel_capacitance)
    base = np.array([each.share(nominal.values[each.name]) for each in space.free])
    started = sum(loop.period is None for loop in unit)

    def residuals(own: np.ndarray) -> np.ndarray:
        shares = np.tile(np.concatenate([base, np.zeros(started)]), (len(own), 1))
        shares[:, free] = own[:, : len(free)]
        shares[:, len(space.free) :] = own[:, len(free) :]
        return problem.residuals(shares)

    ends: list[tuple[float, np.ndarray]] = []
    for start in starts:
        states = _first_states(residuals, unit, start)
        low = np.concatenate([np.clip(start - _LOCAL, 0, 1), np.zeros(started)])
        width = np.concatenate([np.clip(start + _LOCAL, 0, 1), np.ones(started)]) - low

        def nearby(own: np.ndarray, low: np.ndarray = low, width: np.ndarray = width) -> np.ndarray:
            return residuals(low + width * own)

        begin = (np.concatenate([start, states]) - low) / width
        found = refine(nearby, begin[None], iterations=40, tolerance=1e-6)
        ends.append((float(found.costs[0]), low + width * found.shares[0]))
    shares = min(ends, key=lambda end: end[0])[1]
    labels = np.concatenate([10 * place + loop.parts for place, loop in enumerate(unit)])
    confidence = from_hessian(residuals, shares, [len(loop.times) for loop in unit], labels)
    return shares[: len(free)], np.diag(confidence.covariance)[: len(free)]


def _first_states(
    residuals: Callable[[np.ndarray], np.ndarray], unit: Sequence[Prepared], start: np.ndarray
) -> np.ndarray:
    """Of each loop that does not repeat, the first state that fits best with the parameters `start`."""
    own = [loop.period is None for loop in unit]
    if not any(own):
        return np.zeros(0)
    grid = np.linspace(0, 1, _STARTS)
    tried = np.hstack([np.tile(start, (_STARTS, 1)), np.repeat(grid[:, None], sum(own), axis=1)])
    parts = np.split(residuals(tried) ** 2, np.cumsum([len(loop.times) for loop in unit])[:-1], axis=1)
    best = [part.mean(axis=1).argmin() for part, chosen in zip(parts, own, strict=True) if chosen]
    return grid[np.array(best)]


def _spreads(
    space: Space,
    free: Sequence[int],
    nominal: LoopFit,
    estimates: list[np.ndarray],
    variances: list[np.ndarray],
    wholes: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[dict[str, ParameterSpread], list[str]]:
    spread, notes = {}, []
    for column, place in enumerate(free):
        parameter = space.free[place]
        logarithmic = parameter.scale == "log"
        shares = [each[:, column] for each in estimates]
        values = [np.asarray(parameter.value(each)) for each in shares]
        family = family_of([float(each.mean()) for each in values], "lognormal" if logarithmic else "normal")
        if family is None or any(np.any(np.sign(each) != np.sign(values[0][0])) for each in values):
            notes.append(f"{parameter.name}: values of both signs, which no factor makes; its spread is left out")
            continue
        # d ln p/d share, for the errors; a normal factor has the same relative error.
        slopes = [
            np.full(len(each), np.log(parameter.high / parameter.low))
            if logarithmic
            else (parameter.high - parameter.low) / own
            for each, own in zip(shares, values, strict=True)
        ]
        errors = [own[:, column] * slope**2 for own, slope in zip(variances, slopes, strict=True)]
        whole = [np.atleast_1d(np.asarray(parameter.value(each[0][column]))) for each in wholes]
        slope = np.log(parameter.high / parameter.low) if logarithmic else None
        whole_errors = [
            np.atleast_1d(each[1][column] * (slope or (parameter.high - parameter.low) / own[0]) ** 2)
            for each, own in zip(wholes, whole, strict=True)
        ]
        sign = float(np.sign(values[0][0]))
        mean = float(np.mean(whole))
        if family == "lognormal":
            values, whole = ([np.log(np.abs(each)) for each in group] for group in (values, whole))
        else:
            values, whole = ([each / mean for each in group] for group in (values, whole))
        _, _, within = between_and_within(values, errors)
        # The mean of a device's cycles carries their spread.
        cycle = 0.0 if within is None else within.sigma**2
        carried = [own + cycle / len(each) for own, each in zip(whole_errors, values, strict=True)]
        center, between, _ = between_and_within(whole, carried)
        center = sign * float(np.exp(center)) if family == "lognormal" else mean
        unit = unit_of(nominal.device, parameter.name)
        spread[parameter.name] = ParameterSpread(
            family=family, center=center, unit=symbol_of(unit) if unit else "", device_to_device=between,
            cycle_to_cycle=within,
        )  # fmt: skip
    return spread, notes


def _effects(device: Device, spread: Mapping[str, ParameterSpread], seed: int) -> tuple[tuple[Any, ...], list[str]]:
    """The effects that the spreads beyond the uncertainty of the fits make."""
    effects: list[Any] = []
    notes = []
    for name, each in spread.items():
        between = each.device_to_device
        if between is not None and between.significant:
            effects.append(DeviceToDevice(parameter=name, distribution=_distribution(each.family, between.sigma)))
    absent = [name for name, each in spread.items() if each.device_to_device and not each.device_to_device.significant]
    if absent:
        notes.append(f"no spread between devices beyond the uncertainty of the fits: {', '.join(absent)}")
    cycles = {
        name: each.cycle_to_cycle.sigma
        for name, each in spread.items()
        if each.cycle_to_cycle is not None and each.cycle_to_cycle.significant
    }
    if cycles:
        rng = np.random.default_rng(seed)
        drawn = {name: getattr(device, name) * np.exp(sigma * rng.normal(size=(_DRAWS, 1))) for name, sigma in
                 cycles.items()}  # fmt: skip
        states = np.linspace(0, 1, 9)
        nominal = np.asarray(device.conductance(states))
        sigmas = np.asarray(device.varied(drawn).conductance(np.tile(states, (_DRAWS, 1)))).std(axis=0)
        if sigmas.max() > 1e-3 * nominal.max():
            scale = float(nominal.max())
            fitted = np.polynomial.polynomial.polyfit(nominal / scale, sigmas, 2)
            effects.append(ProgrammingError(polynomial=tuple(map(float, fitted)), polynomial_scale=scale))
            notes.append(
                f"the spread of {', '.join(cycles)} from cycle to cycle acts on writes without verify, as a "
                "programming error; a verify loop removes it"
            )
    return tuple(effects), notes


def _distribution(family: str, sigma: float) -> Normal | Lognormal:
    return Normal(sigma=sigma) if family == "normal" and sigma * 4 < 1 else Lognormal(sigma=sigma)


def calibrate_devices(
    devices: Mapping[str, Sequence[Loop]], model: str, *, seed: int = 0, **settings: Any
) -> Calibration:
    """`spread_of_devices` as a calibration: the typical device, its [variability], the fit that all began at.

    Errors, branches and intervals are those of the first fit, of the device in the middle.
    """
    found = spread_of_devices(devices, model, seed=seed, **settings)
    fit = found.nominal
    kept = [effect for effect in fit.variability if effect.effect == "read_noise"]
    effects = (*found.effects, *kept)
    every = [loop for loops in devices.values() for loop in loops]
    return Calibration(
        title=f"{model}, typical of {len(devices)} devices",
        kind="loop",
        device=found.device,
        values={name: Value(each.center, each.unit) for name, each in found.spread.items()},
        method="none: see the spread",
        errors=dict(fit.errors),
        branches=dict(fit.branches),
        error_meaning="RMS of measured less modelled current over its range, of the device that the fits begin at",
        variability=Variability(effects=effects) if effects else None,
        spread=found.spread,
        notes=(*found.notes, *fit.notes),
        validity=loop_validity(found.device, found.loops, fit.voltages.values(), fit.states.values()),
        files={loop.name: loop.content_hash for loop in every},
        seed=seed,
        modelled=dict(fit.modelled),
        measurements=tuple((loop, False) for loop in found.loops),
    )
