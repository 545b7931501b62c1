"""Fits and validates surrogates for a matrix of cells, wires and sizes in ngspice, unattended, and prints one table.

    python benchmarks/fit_surrogates.py OUT [--cells NAME,...] [--wires OHM,...] [--sizes N,...] [--tiles N] [--quick]

Each case is characterized (five classes of conductances, four of inputs), fitted, and validated on fresh tiles.
OUT gets DATA.h5, SURROGATE.h5 and RESULT.json of every case, and table.md. What is there is kept: started again, the
script goes on where it was stopped, within a case too, and makes what it cannot read anew. A case that fails is told in
the table, whatever the reason, and the rest goes on; then, and where a surrogate is not valid, it exits with 1.

Errors are shares of the RMS current, in percent: over all held-out reads, of the worst class (against that class's own
current), and of the worst class on fresh tiles.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdls_cosim.characterize import Campaign, Characterization, IvPlan, Journal, ReadPlan
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import ExponentialSelector, Nmos, Ohmic, PassiveTio2, PolynomialRead, Sinh
from mdls_cosim.errors import MdlsError, StoreError
from mdls_cosim.provenance import canonical_json
from mdls_cosim.surrogates import fit, validate
from mdls_cosim.tiles import SelectorCell, TileSpec, TransistorCell
from mdls_cosim.tiles.cells import AnyCell

ENDS = 10.0
"""Driver and sense resistance [ohm]."""
CELLS: dict[str, tuple[AnyCell, tuple[float, float], float]] = {
    "ohmic": (Ohmic(), (1e-6, 100e-6), 0.3),
    "sinh3": (Sinh(nonlinearity=3.0), (1e-6, 100e-6), 0.3),
    "sinh6": (Sinh(nonlinearity=6.0), (1e-6, 100e-6), 0.3),
    "sinh10": (Sinh(nonlinearity=10.0), (1e-6, 100e-6), 0.2),
    "passive_tio2": (PassiveTio2(), (2e-6, 90e-6), 0.3),
    "polynomial_read": (PolynomialRead(), (50e-6, 225e-6), 0.3),
    "1s1r_ohmic": (SelectorCell(device=Ohmic(), selector=ExponentialSelector(slope_voltage=0.08)), (1e-6, 100e-6), 1.0),
    "1t1r_sinh3": (
        TransistorCell(device=Sinh(nonlinearity=3.0), transistor=Nmos(body_effect=0.4, channel_modulation=0.05)),
        (1e-6, 100e-6),
        0.3,
    ),
}
"""Name -> cell, conductance range [S] of its memristor, largest row voltage [V]."""
WIRES = (0.5, 1.0, 2.0)
SIZES = (16, 32, 64)
NUMBERS = ("rms", "p99", "worst", "fresh", "bound", "valid", "ngspice_seconds", "fit_seconds")
HEADINGS = ("case", "RMS", "p99", "worst class", "fresh, worst", "bound", "valid", "ngspice s", "fit s")


@dataclass(frozen=True)
class Case:
    """One cell, wire and size."""

    cell: str
    wire: float
    size: int

    @property
    def name(self) -> str:
        return f"{self.cell}_{self.wire:g}ohm_{self.size}"

    def plan(self, tiles: int) -> Characterization:
        """What is simulated for the fit."""
        cell, span, voltage = CELLS[self.cell]
        tile = TileSpec(
            rows=self.size,
            cols=self.size,
            cell=cell,
            row_line_resistance=self.wire,
            column_line_resistance=self.wire,
            driver_resistance=ENDS,
            sense_resistance=ENDS,
        )
        return Characterization(
            tile=tile,
            conductance_range=span,
            iv=IvPlan(voltage=voltage),
            read=ReadPlan(voltage=voltage, tiles=tiles, vectors=3),
            seed=1,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the files")
    parser.add_argument("--cells", default=",".join(CELLS), help=f"of {', '.join(CELLS)}")
    parser.add_argument("--wires", default=",".join(f"{wire:g}" for wire in WIRES), help="segment resistances [ohm]")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="rows and columns")
    parser.add_argument("--tiles", type=int, default=6, help="of each class of conductances; a third is held out")
    parser.add_argument("--quick", action="store_true", help="two cells, one wire, 8x8 tiles")
    options = parser.parse_args(arguments)
    cells, wires, sizes = options.cells.split(","), options.wires.split(","), options.sizes.split(",")
    if options.quick:
        cells, wires, sizes = ["ohmic", "sinh3"], ["1"], ["8"]
    if unknown := set(cells) - set(CELLS):
        parser.error(f"unknown cells: {', '.join(sorted(unknown))}; allowed: {', '.join(CELLS)}")
    try:
        cases = [Case(cell, float(wire), int(size)) for cell, wire, size in itertools.product(cells, wires, sizes)]
    except ValueError as error:
        parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for place, case in enumerate(cases, 1):
        began = time.perf_counter()
        results.append(result(case, options.out, options.tiles))
        say(f"{place} of {len(cases)}: {case.name}, {time.perf_counter() - began:.0f} s")
    lines = list(table(results))
    write(options.out / "table.md", "\n".join(lines) + "\n")
    say("\n" + "\n".join(lines))
    sys.exit(0 if all(each.get("valid") for each in results) else 1)


def result(case: Case, out: Path, tiles: int) -> dict[str, Any]:
    """Errors of one case, from its file if it is there and of the same plan."""
    found: dict[str, Any] = {"name": case.name}
    path = out / f"{case.name}.json"
    try:
        plan = case.plan(tiles)
        found["plan"] = canonical_json(plan)
        kept = read_result(path)
        if kept.get("plan") == found["plan"] and "failed" not in kept:
            return kept
        found |= made(case, plan, out)
    except MdlsError as error:
        found["failed"] = str(error)
    except Exception as error:  # of one case: the others are worth going on with
        traceback.print_exc()
        found["failed"] = f"{type(error).__name__}: {error}"
    write(path, json.dumps(found, indent=1))
    return found


def read_result(path: Path) -> dict[str, Any]:
    """What `path` says; nothing where it is missing, or no result."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    complete = isinstance(found, dict) and ("failed" in found or found.keys() >= set(NUMBERS))
    return found if complete else {}


def write(path: Path, text: str) -> None:
    """The file is whole or not there, whenever the script is stopped."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def made(case: Case, plan: Characterization, out: Path) -> dict[str, Any]:
    """Characterized, fitted, validated."""
    data = out / f"{case.name}.h5"
    began = time.perf_counter()
    dataset = read_dataset(data)
    if dataset is None or dataset.config != json.loads(canonical_json(plan)):
        kept = data.with_name(f"{data.name}.journal")
        try:
            journal = Journal.open(kept, resume=True)
        except StoreError:  # it cannot be read, or another process writes it, which then says so again
            journal = Journal.open(kept, start_over=True)
        with journal:
            dataset = Campaign(plan).run(journal=journal, strict=True).dataset
            dataset.save(data)
            journal.remove()
    simulated = time.perf_counter()
    surrogate = fit(dataset)
    fitted = time.perf_counter()
    surrogate.save(out / f"{case.name}_surrogate.h5")
    checked = validate(surrogate, cases=15)
    error = surrogate.error
    assert error is not None  # of reads that were held out
    return {
        "rms": error.rms,
        "p99": error.p99,
        "worst": max(error.classes.values()),
        "classes": error.classes,
        "fresh": checked.worst,
        "fresh_classes": checked.classes,
        "bound": checked.bound,
        "valid": checked.passed,
        "ngspice_seconds": simulated - began,
        "fit_seconds": fitted - simulated,
    }


def read_dataset(path: Path) -> Dataset | None:
    """The Dataset at `path`; None where there is none, or none that can be read."""
    try:
        return Dataset.load(path)
    except StoreError:
        return None


def table(results: list[dict[str, Any]]) -> Iterator[str]:
    """In Markdown."""
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|---" + "|---:" * (len(HEADINGS) - 1) + "|"
    for each in results:
        if "failed" in each:
            yield f"| {each['name']} | {each['failed']} " + "| " * (len(HEADINGS) - 2) + "|"
            continue
        errors = [f"{100 * each[name]:.3g}" for name in ("rms", "p99", "worst", "fresh", "bound")]
        seconds = [f"{each[name]:.0f}" for name in ("ngspice_seconds", "fit_seconds")]
        yield "| " + " | ".join([each["name"], *errors, "yes" if each["valid"] else "NO", *seconds]) + " |"


def say(line: str) -> None:
    """To standard output at once: a whole run takes long."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
