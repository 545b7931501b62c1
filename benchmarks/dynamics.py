"""States of devices through pulse trains: cells per second, and against torchdiffeq at equal error.

    python benchmarks/dynamics.py [--quick] [--json] [--save FILE.npz]

One train for all cells, which differ: rates spread lognormally by a third, states start anywhere. torchdiffeq (pip
install torchdiffeq; left out where it is missing) gets the same rate function, pulse by pulse, with the loosest
tolerance at which its largest error is no larger than that of `evolve` at its default. Errors are against the closed
form, or `evolve` at a tolerance of 1e-10 where there is none.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mdls_cosim.devices import DynamicDevice, Vteam
from mdls_cosim.devices.data_driven import DataDriven
from mdls_cosim.devices.dynamics import after_pulses, trace
from mdls_cosim.devices.jart_vcm import JartVcm
from mdls_cosim.devices.linear_ion_drift import LinearIonDrift
from mdls_cosim.devices.metastable_switch import MetastableSwitch
from mdls_cosim.devices.stanford_pku import StanfordPku
from mdls_cosim.devices.yakopcic import Yakopcic

try:
    from torchdiffeq import odeint  # pyright: ignore[reportMissingImports]
except ImportError:
    odeint = None


@dataclass(frozen=True)
class Case:
    device: DynamicDevice
    spread: str
    """The parameter that differs between cells."""
    pulses: tuple[float, float]
    """Raising and lowering [V]."""
    width: float
    """[s]."""
    cells: int = 100_000


CASES = {
    "vteam": Case(Vteam(), "off_rate", (-1.8, 0.55), 1e-8),
    "linear ion drift": Case(LinearIonDrift(), "mobility", (1.2, -1.2), 0.02),
    "yakopcic": Case(Yakopcic(), "positive_rate", (0.9, -0.7), 0.02),
    "data driven": Case(DataDriven(), "off_rate", (-0.9, 0.9), 1e-6),
    "metastable switch": Case(MetastableSwitch(), "time_constant", (0.3, -0.3), 1e-5),
    "stanford pku": Case(StanfordPku(), "velocity", (1.3, -1.2), 1e-8),
    "jart vcm": Case(JartVcm(), "attempt_frequency", (-0.9, 1.3), 1e-8, cells=2_000),
}


def drawn(case: Case, cells: int, pulses: int, kind: Callable[..., Any]) -> tuple[DynamicDevice, Any, Any]:
    """A population, its first states, and the voltages of a train, in turn up and down."""
    generator = np.random.default_rng(0)
    spread = getattr(case.device, case.spread) * np.exp(generator.normal(0, 0.33, cells))
    states = generator.uniform(0.05, 0.95, cells)
    return case.device.varied({case.spread: kind(spread)}), kind(states), kind(np.resize(case.pulses, pulses))


def train_seconds(device: DynamicDevice, states: Any, voltages: Any, width: float, repeats: int = 1) -> float:
    return seconds(lambda: after_pulses(device, states, voltages, width), repeats)


def integrated(device: DynamicDevice) -> DynamicDevice:
    """The same device without its closed solution."""

    class Integrated(type(device)):
        def state_after(self, *given: Any, **more: Any) -> None:
            return None

    own = {name: getattr(device, name) for name in type(device).model_fields}
    return Integrated.model_construct(**own)


def seconds(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def by_torchdiffeq(device: DynamicDevice, states: Any, voltages: Any, width: float, tolerance: float) -> Any:
    assert odeint is not None
    for level in voltages:
        # Time in widths: its default step and tolerances suit numbers of about one.
        found = odeint(
            lambda _, x, level=level: width * device.state_rate(level, torch.clip(x, 0.0, 1.0)),
            states,
            torch.tensor([0.0, 1.0], dtype=states.dtype),
            rtol=tolerance,
            atol=0.01 * tolerance,
            method="dopri5",
            options={"max_num_steps": 20_000},
        )
        assert isinstance(found, torch.Tensor)
        states = torch.clip(found[-1], 0.0, 1.0)
    return states


def against_torchdiffeq(
    name: str, cells: int, pulses: int, repeats: int, saved: dict[str, Any]
) -> dict[str, float | None]:
    case = CASES[name]
    device, states, voltages = drawn(case, cells, pulses, torch.as_tensor)
    plain = integrated(device)
    if device.state_after(voltages[:1], states, torch.tensor(case.width)) is None:
        exact = after_pulses(plain, states, voltages, case.width, relative_tolerance=1e-10, absolute_tolerance=1e-12)
    else:
        exact = after_pulses(device, states, voltages, case.width)
    own = after_pulses(plain, states, voltages, case.width)
    error = float((own - exact).abs().max())
    saved |= {f"{name}_{what}": each.numpy() for what, each in (("before", states), ("after", own), ("exact", exact))}
    saved[f"{name}_voltages"] = voltages.numpy()
    result: dict[str, float | None] = {
        "error": error,
        "seconds": seconds(lambda: after_pulses(plain, states, voltages, case.width), repeats),
        "torchdiffeq_error": None,
        "torchdiffeq_seconds": None,
    }
    if odeint is None:
        return result
    for tolerance in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11):
        try:
            found = by_torchdiffeq(plain, states, voltages, case.width, tolerance)
        except AssertionError as failure:  # its way to say that a step is too short, or that there are too many
            print(f"  torchdiffeq at {tolerance:g}: {failure}")
            return result
        if (worst := float((found - exact).abs().max())) <= error:
            result["torchdiffeq_error"] = worst
            result["torchdiffeq_seconds"] = seconds(
                lambda tolerance=tolerance: by_torchdiffeq(plain, states, voltages, case.width, tolerance), repeats
            )
            break
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer cells, pulses and repeats")
    parser.add_argument("--save", metavar="FILE.npz", help="states and trains behind the errors")
    options = parser.parse_args()
    shrink, repeats = (20, 1) if options.quick else (1, 3)
    figures: dict[str, Any] = {"threads": torch.get_num_threads()}
    print(f"torch threads: {torch.get_num_threads()}")

    cells, pulses = 1_000_000 // shrink, 100
    case = CASES["vteam"]
    for kind, convert in (("numpy", np.asarray), ("torch", torch.as_tensor)):
        device, states, voltages = drawn(case, cells, pulses, convert)
        taken = train_seconds(device, states, voltages, case.width, repeats)
        figures[f"closed_{kind}_seconds"] = round(taken, 3)
        print(f"vteam, {cells} cells, {pulses} pulses, closed form, {kind}: {taken:.2f} s")
    device, states, voltages = drawn(case, cells, pulses // 10, np.asarray)
    taken = train_seconds(integrated(device), states, voltages, case.width)
    figures["evolve_seconds_10_pulses"] = round(taken, 3)
    print(f"vteam, {cells} cells, {pulses // 10} pulses, evolve, numpy: {taken:.2f} s")

    print(f"\n{'10 pulses':<20}{'cells':>10}{'closed form':>14}{'evolve':>12}{'ns/cell/pulse':>16}")
    figures["models"] = {}
    for name, case in CASES.items():
        count = case.cells // shrink
        device, states, voltages = drawn(case, count, 10, np.asarray)
        slow = train_seconds(integrated(device), states, voltages, case.width)
        has = device.state_after(voltages[:1], states[:1], np.full(1, case.width)) is not None
        fast = train_seconds(device, states, voltages, case.width, repeats) if has else None
        figures["models"][name] = {
            "cells": count,
            "evolve_seconds": round(slow, 3),
            "closed_seconds": fast and round(fast, 4),
        }
        closed = "-" if fast is None else f"{fast:.3f} s"
        print(f"{name:<20}{count:>10}{closed:>14}{slow:>10.2f} s{slow / count * 1e8:>16.0f}")

    candidates, points = 4096 // shrink, 200
    grid = Vteam().varied({"on_voltage": -np.linspace(1.0, 1.5, candidates)[:, None]})
    times = np.linspace(0, 1e-6, points)
    loop = 1.8 * np.sin(2e6 * np.pi * times)[:, None] * np.linspace(0.7, 1, 8)
    taken = seconds(lambda: trace(grid, np.full((candidates, 8), 0.5), times, loop), repeats)
    figures["trace_seconds"] = round(taken, 3)
    print(f"\ntrace, {candidates} candidates x 8 loops x {points} points: {taken:.2f} s")

    print(f"\n{'against torchdiffeq':<20}{'error':>10}{'evolve':>10}{'error':>10}{'dopri5':>10}{'ratio':>8}")
    figures["torchdiffeq"] = {}
    saved: dict[str, Any] = {}
    for name in ("vteam", "yakopcic", "stanford pku"):
        found = against_torchdiffeq(name, 20_000 // shrink, 4, repeats, saved)
        figures["torchdiffeq"][name] = found
        theirs, mine = found["torchdiffeq_seconds"], found["seconds"]
        if theirs is None or mine is None:
            print(f"{name:<20}{found['error']:>10.1e}{mine:>8.2f} s{'-':>10}{'-':>10}{'-':>8}")
        else:
            print(
                f"{name:<20}{found['error']:>10.1e}{mine:>8.2f} s{found['torchdiffeq_error']:>10.1e}{theirs:>8.2f} s"
                f"{theirs / mine:>8.1f}"
            )
    if options.save:
        np.savez_compressed(options.save, **saved)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
