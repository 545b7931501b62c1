"""Settling times and pulse responses against ngspice: errors on tiles and pulses that nothing was fitted to.

    python benchmarks/transients.py [--quick] [--json]

Settling: RMS difference over all outputs of the tiles of two classes (uniform, clustered, 1 - 100 uS) and four inputs
(sparse, dense, half on, signed, to 0.3 V), relative to the RMS settling time to half a step of 6 bits; and the largest
relative error of the time after which all outputs of a read have settled. Pulses: RMS error relative to the range after
every pulse of held-out trains.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from mdls_cosim.characterize import Characterization, PulsePlan, characterize
from mdls_cosim.characterize.settle import SettlePlan
from mdls_cosim.devices import Ohmic, Sinh, Vteam
from mdls_cosim.devices.metastable_switch import MetastableSwitch
from mdls_cosim.devices.yakopcic import Yakopcic
from mdls_cosim.spice import NgspiceEngine
from mdls_cosim.surrogates.fit_pulses import fit_pulses
from mdls_cosim.surrogates.settling import settling_errors
from mdls_cosim.tiles import TileSpec, TransimpedanceAmplifier

WIRES = {"2 ohm, ends 500 ohm": (2.0, 500.0), "20 ohm, ends 100 ohm": (20.0, 100.0), "1 ohm, ends 10 ohm": (1.0, 10.0)}
CELLS = {"ohmic": Ohmic(), "sinh 3 /V": Sinh(nonlinearity=3.0)}

FAST = Vteam(parameters="vteam_example")  # pyright: ignore[reportCallIssue]
DEVICES = {
    "vteam": (
        FAST,
        (1.2e-5, 4e-4),
        (0.8, 0.9, 1.0, 1.1, 1.25, 1.4),
        (0.55, 0.6, 0.65, 0.7, 0.78, 0.86),
        (20e-9, 50e-9, 120e-9, 300e-9, 700e-9),
    ),
    "vteam, exponential": (
        FAST.replace(conduction="exponential", window_exponent=2),
        (1.2e-5, 4e-4),
        (0.8, 0.9, 1.0, 1.1, 1.25, 1.4),
        (0.55, 0.6, 0.65, 0.7, 0.78, 0.86),
        (20e-9, 50e-9, 120e-9, 300e-9, 700e-9),
    ),
    "yakopcic": (
        Yakopcic(),
        (5e-6, 1.2e-4),
        (0.6, 0.8, 1.0, 1.2, 1.5),
        (0.5, 0.7, 0.9, 1.1, 1.4),
        (1e-3, 3e-3, 1e-2, 3e-2),
    ),
    "metastable switch": (
        MetastableSwitch(),
        (7e-4, 1.9e-3),
        (0.15, 0.2, 0.25, 0.3, 0.4),
        (0.15, 0.2, 0.25, 0.3, 0.4),
        (1e-6, 3e-6, 1e-5, 3e-5),
    ),
}


def settling(spec: TileSpec, sizes: tuple[int, ...], engine: NgspiceEngine) -> dict[str, dict[str, float]]:
    plan = SettlePlan(rise=5e-12, conductance_classes=("uniform", "clustered"))
    asked = Characterization(tile=spec, sizes=sizes, conductance_range=(1e-6, 1e-4), settle=plan)
    return {
        error.label or f"{sizes[0]}x{sizes[0]}": {"rms": error.rms, "slowest": error.slowest}
        for error in settling_errors(characterize(asked, engine=engine))
    }


def tile(size: int, wire: float, end: float, cell: Ohmic | Sinh) -> TileSpec:
    return TileSpec(
        rows=size,
        cols=size,
        cell=cell,
        row_line_resistance=wire,
        column_line_resistance=wire,
        driver_resistance=end,
        sense_resistance=end,
        row_line_capacitance=1e-15,
        column_line_capacitance=1e-15,
        cell_capacitance=0.2e-15,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="small tiles, one device")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = (4, 8) if options.quick else (4, 8, 16, 32)
    figures: dict[str, Any] = {"settling": {}, "pulses": {}}
    with NgspiceEngine() as engine:
        print(f"{'settling, RMS / slowest output':42}" + "".join(f"{f'{size}x{size}':>20}" for size in sizes))
        for wires, (line, end) in WIRES.items():
            for name, cell in CELLS.items():
                show(f"{wires}, {name}", settling(tile(sizes[0], line, end, cell), sizes, engine), figures)
        for bandwidth in (1e9, 1e10, 1e11):
            amplifier = TransimpedanceAmplifier(feedback_resistance=5e3, gain=1e3, gain_bandwidth=bandwidth)
            spec = tile(sizes[0], 2.0, 500.0, Ohmic()).replace(amplifier=amplifier, sense_resistance=0.0)
            show(f"amplifier of {bandwidth / 1e9:g} GHz, ohmic", settling(spec, sizes[:2], engine), figures)
        print(f"\n{'pulses, held-out trains':24}{'RMS':>10}{'worst':>10}{'one pulse':>12}{'fit':>9}")
        for name, (device, span, up, down, widths) in list(DEVICES.items())[: 1 if options.quick else None]:
            plan = PulsePlan(potentiation=up, depression=down, widths=widths, pulses=10 if options.quick else 30)
            asked = Characterization(tile=TileSpec(rows=1, cols=1, cell=device), conductance_range=span, pulse=plan)
            dataset = characterize(asked, engine=engine)
            began = time.perf_counter()
            error = fit_pulses(dataset).error
            assert error is not None
            took = time.perf_counter() - began
            figures["pulses"][name] = {"train": error.train, "worst": error.worst, "step": error.step, "fit_s": took}
            print(f"{name:24}{error.train:10.2%}{error.worst:10.2%}{error.step:12.3%}{took:7.1f} s", flush=True)
    if options.json:
        print(json.dumps(figures))


def show(name: str, errors: dict[str, dict[str, float]], figures: dict[str, Any]) -> None:
    figures["settling"][name] = errors
    cells = "".join(f"{error['rms']:>11.2%} /{error['slowest']:>7.2%}" for error in errors.values())
    print(f"{name:42}{cells}", flush=True)


if __name__ == "__main__":
    main()
