"""Whole networks on tiles against the same networks in plain torch, side by side in one run.

    python benchmarks/networks.py [--quick] [--json] [--torch-device cuda]

Inference at batch 32: 6 conductance states, 6-bit DAC and ADC, 128x128 tiles, the exact IR drop of 1 ohm a segment and
10 ohm at the ends, converters calibrated on other images. Times are medians of rounds in which native and converted
models take turns. Memory is the peak of a process of its own that runs one model, less what the process holds after its
imports; its C library gives freed arrays back at once (MALLOC_MMAP_THRESHOLD_), so that what a model needs counts and
not what malloc keeps. Weights are random: they change neither time nor memory. Beside it, where it is installed:
aihwkit-lightning, with 6-bit converters and no IR drop.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.devices import Sinh
from mdls_cosim.network import convert
from mdls_cosim.network.calibrate import calibrate
from mdls_cosim.network.experiment.surrogates import label_plan
from mdls_cosim.network.zoo import model
from mdls_cosim.surrogates import fit_to_exact
from mdls_cosim.tiles import TileSpec

BATCH = 32
BITS = 6
STATES = 6
TILE = TileSpec(
    rows=128,
    cols=128,
    row_line_resistance=1.0,
    column_line_resistance=1.0,
    driver_resistance=10.0,
    sense_resistance=10.0,
)
SINH = TILE.replace(rows=64, cols=64, cell=Sinh(nonlinearity=10.0))

Case = tuple[str, str, str]
"""Network, kind of hardware, name in the table."""
CASES: tuple[Case, ...] = (
    ("vgg8", "analog", "subtracted before one ADC"),
    ("vgg8", "digital", "subtracted after two ADCs"),
    ("vgg8", "16x16", "16x16 tiles"),
    ("vgg8", "sinh10", "sinh 10 /V cells, 64x64, series surrogate"),
    ("vgg8", "compiled", "torch.compile, both models"),
    ("googlenet", "analog", "subtracted before one ADC"),
)


def hardware(kind: str) -> Hardware:
    """What a case runs on."""
    common: dict[str, Any] = {"states": STATES, "dac": Dac(bits=BITS), "adc": Adc(bits=BITS)}
    match kind:
        case "digital":
            return Hardware(tile=TILE, subtraction="digital", **common)
        case "16x16":
            return Hardware(tile=TILE.replace(rows=16, cols=16), **common)
        case "sinh10":
            bare = Hardware(tile=SINH, **common)
            return bare.replace(tile=fit_to_exact(label_plan(bare, seed=0)))
        case _:
            return Hardware(tile=TILE, **common)


def images(seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.rand((BATCH, 3, 32, 32), generator=torch.Generator().manual_seed(seed)).to(device)


def native(network: str, device: str = "cpu") -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(network).eval().to(device)


def converted(network: str, kind: str, device: str = "cpu") -> tuple[nn.Module, float]:
    """The model on tiles, calibrated, and the seconds that conversion and programming took."""
    plain, chosen = native(network, device), hardware(kind)
    began = time.perf_counter()
    found, _ = convert(plain, chosen)
    with torch.inference_mode():
        found(images(device=device)[:2])  # programs the tiles
    synchronize(device)
    took = time.perf_counter() - began
    calibrate(found, images(1, device))
    return found, took


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def side_by_side(reads: dict[str, Callable[[], Any]], rounds: int, device: str = "cpu") -> dict[str, float]:
    """Median seconds of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in reads}
    for count in range(rounds + 1):
        for name, read in reads.items():
            began = time.perf_counter()
            read()
            synchronize(device)
            if count:  # the first round warms up
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def measured(network: str, kind: str, rounds: int, device: str) -> dict[str, float]:
    plain = native(network, device)
    chip, convert_s = converted(network, "analog" if kind == "compiled" else kind, device)
    if kind == "compiled":
        plain, chip = torch.compile(plain), torch.compile(chip)  # pyright: ignore[reportAssignmentType]
    given = images(device=device)
    with torch.inference_mode():
        seconds = side_by_side({"native": lambda: plain(given), "converted": lambda: chip(given)}, rounds, device)
    told = kind != "compiled" and device == "cpu"
    memory = {name: peak_memory(network, name, kind) for name in ("native", "converted")} if told else {}
    return {
        "native_s": seconds["native"],
        "converted_s": seconds["converted"],
        "inference_ratio": seconds["converted"] / seconds["native"],
        "memory_ratio": memory["converted"] / memory["native"] if memory else float("nan"),
        "convert_s": convert_s,
    }


def peak_memory(network: str, which: str, kind: str) -> float:
    """Bytes, from a process of its own."""
    command = [sys.executable, __file__, "--peak-of", network, which, kind]
    giving_back = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **giving_back})
    return float(done.stdout)


def _peak_of(network: str, which: str, kind: str) -> float:
    start = _resident("VmRSS")
    found = native(network) if which == "native" else converted(network, kind)[0]
    with torch.inference_mode():
        found(images())  # lays out what reads need, and leaves the programmed tiles behind
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed until now goes back to the system
        Path("/proc/self/clear_refs").write_text("5")  # and its peak is forgotten
        for _ in range(3):
            found(images())
    return _resident("VmHWM") - start


def _resident(name: str) -> float:
    """A line of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * float(line.split()[1])
    raise RuntimeError(name)


def lightning(rounds: int) -> dict[str, float] | None:
    """VGG-8 in aihwkit-lightning beside native; None where it is not installed.

    Its converters are those of the table and its tiles have as many rows; columns it does not split, and wires and
    conductance states it does not have.
    """
    try:
        from aihwkit_lightning.nn.conversion import convert_to_analog  # pyright: ignore[reportMissingImports]
        from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = TILE.rows
    config.forward.inp_res = config.forward.out_res = 2**BITS - 2  # steps from end to end, zero among the levels
    config.forward.out_bound = 2.0  # of a column: times the largest input and the largest weight
    config.pre_post.input_range.enable = True
    plain, given = native("vgg8"), images()
    other: Any = convert_to_analog(native("vgg8"), config)
    with torch.no_grad():
        other.train()(given)  # takes the ranges of the inputs from data
    other.eval()
    with torch.inference_mode():
        seconds = side_by_side({"native": lambda: plain(given), "other": lambda: other(given)}, rounds)
    return {
        "native_s": seconds["native"],
        "converted_s": seconds["other"],
        "inference_ratio": seconds["other"] / seconds["native"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and only the first two cases")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--only", metavar="KIND", help="only the cases of this kind of hardware, or lightning")
    parser.add_argument("--torch-device", default="cpu", help="where both models run; precision stays float32")
    parser.add_argument("--peak-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(_peak_of(*options.peak_of))
        return
    rounds = 3 if options.quick else 9
    device = options.torch_device
    place = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {place}, float32, batch {BATCH}")
    print(f"{'':<52} native   converted   ratio   memory   convert")
    results: dict[str, dict[str, float]] = {}
    for network, kind, name in CASES[:2] if options.quick else CASES:
        if options.only and kind != options.only:
            continue
        found = measured(network, kind, rounds, device)
        print(
            f"{network:<10} {name:<41} {1e3 * found['native_s']:6.1f} ms {1e3 * found['converted_s']:6.1f} ms"
            f"  {found['inference_ratio']:6.2f}   {found['memory_ratio']:6.2f}   {found['convert_s']:6.1f} s",
            flush=True,
        )
        results[network if kind == "analog" else f"{network}_{kind}"] = found
    if options.only in (None, "lightning") and device == "cpu":
        other = lightning(rounds)
        if other is None:
            print("aihwkit-lightning is not installed: pip install --no-deps aihwkit-lightning (it pins one torch)")
        else:
            print(
                f"{'vgg8':<10} {'aihwkit-lightning, no wires, no states':<41} {1e3 * other['native_s']:6.1f} ms "
                f"{1e3 * other['converted_s']:6.1f} ms  {other['inference_ratio']:6.2f}"
            )
            results["aihwkit_lightning_vgg8"] = other
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
