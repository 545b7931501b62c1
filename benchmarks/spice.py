"""Throughput of ngspice: vectors a second of sinh tiles, on all workers, loading included.

    python benchmarks/spice.py [--quick] [--json] [--workers N]

Tight tolerances; every deck has conductances of its own and is read with 16 vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np

from mdls_cosim.characterize import jobs, run_jobs
from mdls_cosim.devices import Sinh
from mdls_cosim.spice import NgspiceEngine
from mdls_cosim.tiles import TileSpec

VECTORS = 16
DECKS = {32: 24, 64: 6, 128: 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer decks, and no 128x128 tiles")
    parser.add_argument("--save", metavar="FILE.npz", help="inputs and predictions behind the figures")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="ngspice processes")
    options = parser.parse_args()
    with NgspiceEngine() as engine:
        info = engine.info()
    print(f"ngspice {info.version}, solver {info.solver}, {options.workers} workers, {VECTORS} vectors a deck")
    generator = np.random.default_rng(0)
    rates: dict[str, float] = {}
    saved: dict[str, np.ndarray] = {}
    for size, decks in DECKS.items():
        if size == 128 and (options.quick or info.solver != "klu"):
            continue
        if size == 64 and info.solver != "klu":
            continue
        spec = TileSpec(
            rows=size,
            cols=size,
            cell=Sinh(nonlinearity=3.0),
            row_line_resistance=1.0,
            column_line_resistance=1.0,
            driver_resistance=10.0,
            sense_resistance=10.0,
        )
        count = max(options.workers, decks // 3 if options.quick else decks)
        conductances = generator.uniform(1e-6, 1e-4, (count, size, size))
        voltages = generator.uniform(0.0, 0.3, (count, VECTORS, size))
        began = time.perf_counter()  # making the decks is part of the work
        currents = np.stack(run_jobs(jobs(spec, conductances, voltages), options.workers))
        rates[str(size)] = round(count * VECTORS / (time.perf_counter() - began), 2)
        saved[f"conductances_{size}"], saved[f"voltages_{size}"] = conductances, voltages
        saved[f"currents_{size}"] = currents
        print(f"{size:>4}x{size:<4} {rates[str(size)]:>8.1f} vectors/s")
    if options.save:
        np.savez_compressed(options.save, **saved)  # pyright: ignore[reportArgumentType]
    if options.json:
        print(json.dumps({"vectors_per_second": rates, "solver": info.solver}))


if __name__ == "__main__":
    main()
