"""Throughput of ngspice: vectors a second of sinh tiles, on all workers, loading included; and memory over many jobs.

    python benchmarks/spice.py [--quick] [--json] [--workers N] [--jobs N]

Tight tolerances; every deck has conductances of its own and is read with 16 vectors. The time is from conductances to
currents: making the deck, loading it, solving; the workers run already. The median of several rounds counts, and the
best is shown beside it: other loads of the machine only ever take away. Memory: the resident memory of
this process and of one worker, after all jobs less after a tenth of them; 4x4 tiles, each with conductances of its
own, every third of them a transient analysis.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mdls_cosim.characterize import Crew, ReadPoint
from mdls_cosim.devices import Sinh
from mdls_cosim.spice import NgspiceEngine, Waves
from mdls_cosim.tiles import TileSpec, tile_deck

VECTORS = 16
JOBS = 10_000
DECKS = {32: 24, 64: 6, 128: 2}
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer decks, and no 128x128 tiles")
    parser.add_argument("--save", metavar="FILE.npz", help="inputs and predictions behind the figures")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="ngspice processes")
    parser.add_argument("--jobs", type=int, help=f"jobs of the memory test (default {JOBS}; {JOBS // 20} if --quick)")
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
        points = {index: ReadPoint("", spec, conductances[index], voltages[index]) for index in range(count)}
        seconds, outcomes = [], {}
        with Crew(workers=options.workers, most=count) as crew:
            crew.run({index: points[index] for index in range(options.workers)}, strict=True)
            for _ in range(2 if options.quick else ROUNDS):
                began = time.perf_counter()
                outcomes = crew.run(points, strict=True)
                seconds.append(time.perf_counter() - began)
        rates[str(size)] = round(count * VECTORS / float(np.median(seconds)), 2)
        saved[f"conductances_{size}"], saved[f"voltages_{size}"] = conductances, voltages
        saved[f"currents_{size}"] = np.stack([(outcomes[index].results or {})["currents"] for index in range(count)])
        best = count * VECTORS / min(seconds)
        print(f"{size:>4}x{size:<4} {rates[str(size)]:>8.1f} vectors/s, the best round {best:.1f}")
    count = options.jobs or (JOBS // 20 if options.quick else JOBS)
    growth = memory_growth(count)
    if growth is not None:
        print(f"memory over {count} jobs: parent {growth['parent']:+.1f} MB, worker {growth['worker']:+.1f} MB")
    if options.save:
        np.savez_compressed(options.save, **saved)  # pyright: ignore[reportArgumentType]
    if options.json:
        print(json.dumps({"vectors_per_second": rates, "solver": info.solver, "memory_growth_mb": growth}))


def memory_growth(jobs: int) -> dict[str, float] | None:
    """Growth of the resident memory of this process and of a worker [MB], once a tenth of the jobs are done.

    None where the system has no /proc to read it from.
    """
    if not Path("/proc/self/statm").exists():
        return None
    generator = np.random.default_rng(0)
    spec = TileSpec(rows=4, cols=4, cell=Sinh(nonlinearity=3.0), row_line_resistance=1.0, driver_resistance=10.0)
    waves = Waves(np.array([0.0, 1e-10, 1e-9]), np.outer([0.0, 0.2, 0.2], np.ones(4)), 1e-10, tolerance=1e-2)
    with NgspiceEngine() as engine:

        def run(count: int) -> None:
            for index in range(count):
                deck = tile_deck(spec, generator.uniform(1e-6, 1e-4, (4, 4)))
                if index % 3 == 2:
                    loads = tuple(f"Cload{row} row{row}_col3 0 1e-15" for row in range(4))
                    engine.transient(replace(deck, elements=(*deck.elements, *loads), balance=()), waves)
                else:
                    engine.run(deck, generator.uniform(-0.3, 0.3, (1 + index % 3, 4)))

        def resident() -> dict[str, float]:
            return {"parent": resident_megabytes("self"), "worker": resident_megabytes(engine.worker_pid)}

        run(max(1, jobs // 10))
        before = resident()
        run(jobs - max(1, jobs // 10))
        return {name: round(value - before[name], 2) for name, value in resident().items()}


def resident_megabytes(process: int | str | None) -> float:
    """Resident memory of a process [MB]."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


if __name__ == "__main__":
    main()
