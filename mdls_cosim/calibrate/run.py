"""Calibrate: measurements of one kind in, a Calibration out."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mdls_cosim.calibrate.drift import calibrate_drift
from mdls_cosim.calibrate.endurance import calibrate_endurance
from mdls_cosim.calibrate.levels import calibrate_levels
from mdls_cosim.calibrate.measurement import (
    LEAST_POINTS,
    DriftTrace,
    EnduranceTable,
    LevelTable,
    Loop,
    Measurement,
    PulseTrain,
    names_of,
)
from mdls_cosim.calibrate.parameter_text import symbol_of, unit_of
from mdls_cosim.calibrate.pulses import calibrate_pulses
from mdls_cosim.calibrate.reading import kind_of
from mdls_cosim.calibrate.result import Calibration, Ranked, Value
from mdls_cosim.calibrate.validity import loop_validity, reading_ranges
from mdls_cosim.devices import AnyDevice, Device, Ohmic
from mdls_cosim.devices.lifetime import lifetime_warnings, lifetimes
from mdls_cosim.devices.parameter_files import parameter_set_names, read_parameter_file
from mdls_cosim.devices.variability import Variability
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import format_quantity

if TYPE_CHECKING:
    from mdls_cosim.calibrate.loop_fit import LoopFit

AUTO = "auto"
"""In place of a device: all models with a search space are fitted, and ranked."""

_SPARED = 4
"""One cycle in so many is held out, where nothing else says so."""

_RANKED = 3
"""One loop in so many is held out where models are to be ranked and nothing else is held out."""

READ_VOLTAGE = 0.2
"""At plus and minus which the lifetime of a fitted device is stated, besides that at 0 V [V]."""

_SET_UP = {"series_resistance": "ohm", "parallel_capacitance": "farad"}
"""What a fit finds besides the device: the circuit that it was measured in."""

Some = TypeVar("Some", Loop, PulseTrain, LevelTable, DriftTrace, EnduranceTable)


def calibrate(
    measurements: Sequence[Measurement],
    device: str | Device = AUTO,
    *,
    held_out: Sequence[Measurement] = (),
    cycles_held_out: int | None = None,
    series_resistance: float | Literal["fit"] | None = None,
    parallel_capacitance: float | Literal["fit"] = 0.0,
    bootstrap: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    keep: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Calibration:
    """What `measurements`, all of one kind, say of a device.

    Loops give the parameters of a dynamic device. Pulse trains give a PulseResponse, level tables the levels and the
    programming error, drift traces the drift and the read noise: properties of a cell whose current they do not
    tell, so they go beside a device that is given.

    Args:
        device: key of a model ("vteam") or "auto" for loops. For the other kinds the device that the result names: a
            model, or a parameter set, whose spread of other kinds is kept; Ohmic where "auto".
        held_out: measurements that are not fitted, only compared.
        cycles_held_out: of each loop, so many last cycles are not fitted. By default one in four where there are
            three or more, and nothing else is held out; and of three loops or more one in three, where models are to
            be ranked and nothing else is held out.
        series_resistance: of loops measured over device and resistor [ohm], in place of the loops' own; or "fit".
        parallel_capacitance: of cables and probes across the device [F]; or "fit".
        bootstrap: fits to resampled data; None: what suits the kind (for loops none, the Hessian instead).
        progress: called with (done, planned).
        keep: a file into which each fit of "auto" goes once it is done.
        resume: continue with the fits that this file holds.

    Raises:
        StoreError: that file cannot be written, or belongs to other data or settings.
        InputError: nothing to calibrate on, measurements of several kinds, data that cannot be fitted.
        ConfigError: an unknown device.
    """
    kinds = {kind_of(each) for each in (*measurements, *held_out)}
    if len(kinds) != 1 or not measurements:
        raise InputError(
            "measurements of one kind are needed", value=sorted(kinds) or "none",
            hint="Calibrate loops, pulses, levels and drift one by one",
        )  # fmt: skip
    (kind,) = kinds
    if kind == "loop":
        loops, others = _of(Loop, measurements), _of(Loop, held_out)
        loops, spared = _split(loops, cycles_held_out, wanted=not others)
        if device == AUTO and not (others or spared) and len(loops) >= _RANKED:
            others = loops[_RANKED - 1 :: _RANKED]
            loops = tuple(loop for place, loop in enumerate(loops, 1) if place % _RANKED)
        settings = {
            "series_resistance": series_resistance, "parallel_capacitance": parallel_capacitance, "seed": seed,
            "bootstrap": 0 if bootstrap is None else bootstrap, "progress": progress,
        }  # fmt: skip
        if device == AUTO:
            settings |= {"keep": keep, "resume": resume}
        return _with_notes(_from_loops(loops, (*spared, *others), device, settings), (*measurements, *held_out))
    beside, known = (device, None) if isinstance(device, Device) else _named(device)
    if kind == "pulses":
        found = calibrate_pulses(
            _of(PulseTrain, measurements), _of(PulseTrain, held_out), beside, bootstrap, seed, progress
        )
    elif held_out or len(measurements) > 1:
        raise InputError(
            f"one file of {kind} at a time, and none held out", value=len(measurements) + len(held_out),
            hint="Put the devices or measurements into one file; part of it is held out by itself",
        )  # fmt: skip
    elif kind == "levels":
        found = calibrate_levels(_of(LevelTable, measurements)[0], beside, bootstrap, seed)
    elif kind == "endurance":
        found = calibrate_endurance(_of(EnduranceTable, measurements)[0], beside, bootstrap, seed)
    else:
        found = calibrate_drift(_of(DriftTrace, measurements)[0], beside, bootstrap, seed)
    found = dataclasses.replace(found, notes=(*found.notes, *_outside(found)))
    if known is not None:
        mine = {effect.effect for effect in found.variability.effects} if found.variability else set()
        kept = tuple(effect for effect in known.effects if effect.effect not in mine)
        found = dataclasses.replace(
            found, variability=Variability(effects=kept + (found.variability.effects if found.variability else ()))
        )
    files = {each.name.split(", ")[0]: each.content_hash for each in (*measurements, *held_out)}
    found = dataclasses.replace(found, validity={**found.validity, **reading_ranges((*measurements, *held_out))})
    return _with_notes(dataclasses.replace(found, files=files), (*measurements, *held_out))


def _with_notes(found: Calibration, measurements: Sequence[Measurement]) -> Calibration:
    """`found` with the notes of what was left out of its measurements."""
    notes = [f"{each.name}: {note}" for each in measurements for note in each.notes]
    return dataclasses.replace(found, notes=tuple(dict.fromkeys((*found.notes, *notes))))


def _outside(found: Calibration) -> list[str]:
    """What was measured beyond what the device that it is told beside can show."""
    if "conductance" not in found.validity:
        return []
    low, high, unit = found.validity["conductance"]
    least, most = found.device.conductance_range()
    if least <= low and high <= most:
        return []
    measured, shown = (
        f"{format_quantity(one, unit, 3)} to {format_quantity(other, unit, 3)}"
        for one, other in ((low, high), (least, most))
    )
    return [f"conductances of {measured} were measured; the device beside which they are told shows {shown}"]


def _named(name: str) -> tuple[Device, Variability | None]:
    """The device, and the spread if any, that pulses, levels or drift belong to: of a parameter set, or of a model."""
    if name == AUTO:
        return Ohmic(), None
    table: dict[str, Any] = {"model": name}
    spread = None
    if name.endswith(".toml") or name in parameter_set_names():
        content = read_parameter_file(name)
        table = content["device"]
        if "variability" in content:
            spread = Variability.from_text_dict(content["variability"], f"{name}: variability")
    try:
        device = TypeAdapter(AnyDevice).validate_python(table, context={"text": True, "folder": ""})
    except ValidationError as error:
        raise ConfigError(
            "no such device", where="--device", value=name,
            limit=f"a model, or a parameter set: a TOML file or {', '.join(parameter_set_names())}",
            hint=str(error.errors()[0]["msg"]),
        ) from None  # fmt: skip
    return device, spread


def _of(kind: type[Some], measurements: Sequence[Measurement]) -> tuple[Some, ...]:
    return tuple(each for each in measurements if isinstance(each, kind))


def _split(loops: Sequence[Loop], last: int | None, wanted: bool) -> tuple[tuple[Loop, ...], tuple[Loop, ...]]:
    """Loops without the cycles that are held out, and those cycles as loops of their own."""
    fitted, spared = [], []
    for loop in loops:
        numbers = loop.cycles
        count = last if last is not None else (max(len(numbers) // _SPARED, 1) if wanted and len(numbers) > 2 else 0)
        if last is not None and last >= len(numbers):
            raise InputError(
                "more cycles to hold out than there are to spare", where=loop.name, value=last,
                limit=f"at most {len(numbers) - 1} of its {len(numbers)}",
            )  # fmt: skip
        kept = (
            ~np.isin(np.asarray(loop.cycle), numbers[len(numbers) - count :])
            if count
            else np.ones(len(loop.times), dtype=bool)
        )
        if (~kept).sum() < LEAST_POINTS:
            fitted.append(loop)
            continue
        fitted.append(_part(loop, kept, loop.name))
        spared.append(_part(loop, ~kept, f"{loop.name}, last {count} of {len(numbers)} cycles", follows=loop.name))
    return tuple(fitted), tuple(spared)


def _part(loop: Loop, kept: np.ndarray, name: str, follows: str | None = None) -> Loop:
    applied = None if loop.applied_voltages is None else loop.applied_voltages[kept]
    return dataclasses.replace(
        loop,
        name=name,
        times=loop.times[kept],
        voltages=loop.voltages[kept],
        currents=loop.currents[kept],
        cycle=np.asarray(loop.cycle)[kept],
        applied_voltages=applied,
        follows=follows,
    )


def _from_loops(
    loops: Sequence[Loop], held_out: Sequence[Loop], device: str | Device, settings: dict[str, Any]
) -> Calibration:
    from mdls_cosim.calibrate.loops import fit_loops
    from mdls_cosim.calibrate.ranking import rank
    from mdls_cosim.calibrate.spaces import FITTED_MODELS

    model = device if isinstance(device, str) else str(getattr(device, "model", ""))
    if model not in (AUTO, *FITTED_MODELS):
        near = difflib.get_close_matches(model, FITTED_MODELS, n=1)
        raise ConfigError(
            "no model that loops are fitted with", where="--device", value=model,
            limit=", ".join((AUTO, *FITTED_MODELS)), hint=f"Did you mean {near[0]}?" if near else None,
        )  # fmt: skip
    if model == AUTO:
        fits = rank(loops, held_out, **settings)
    else:
        fits = [fit_loops(loops, model, held_out=held_out, **settings)]
    best = fits[0]
    every = (*loops, *held_out)
    notes = [*lifetime_warnings(lifetimes(best.device, READ_VOLTAGE)), *best.notes]
    notes += [
        f"{loop.name}: times rebuilt from the phase of its sine; it fits to {loop.time_residual:.2%} of its amplitude"
        for loop in every
        if loop.time_residual is not None
    ]
    given = {loop.series_resistance for loop in every if loop.applied and loop.series_resistance is not None}
    if best.series_resistance is None and given:
        notes.append(f"fitted behind {', '.join(format_quantity(each, 'ohm', 4) for each in sorted(given))}, as given")
    return Calibration(
        title=f"{best.device.model} calibrated on {names_of(loops)}",  # pyright: ignore[reportAttributeAccessIssue]
        kind="loop",
        device=best.device,
        values=_loop_values(best),
        method=best.method,
        errors=dict(best.errors),
        held_out=dict(best.held_out),
        branches=dict(best.branches),
        ranking=tuple(map(_ranked, fits)) if model == AUTO else (),
        variability=Variability(effects=tuple(best.variability)) if best.variability else None,
        notes=tuple(dict.fromkeys(notes)),
        validity=loop_validity(best.device, loops, best.voltages.values(), best.states.values()),
        files={loop.name.split(", last ")[0]: loop.content_hash for loop in every},
        seed=settings["seed"],
        modelled=dict(best.modelled),
        measurements=(*((loop, False) for loop in loops), *((loop, True) for loop in held_out)),
    )


def _ranked(fit: LoopFit) -> Ranked:
    model = str(getattr(fit.device, "model", "?"))
    return Ranked(model, fit.error, fit.held_out_error, fit.branch_error, fit.held_out_branch_error)


def _loop_values(fit: LoopFit) -> dict[str, Value]:
    found = {}
    for name, value in fit.values.items():
        unit = _SET_UP.get(name) or unit_of(fit.device, name)
        low, high = fit.intervals.get(name, (None, None))
        found[name] = Value(value, symbol_of(unit) if unit else "", low, high, fit.determined.get(name, True))
    return found
