"""`mdls-cosim demo`: the whole chain on real data."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.terminal import log, print_line, progress_bar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mdls_cosim.dataset import Dataset
    from mdls_cosim.surrogates import Surrogate
    from mdls_cosim.tiles import TileSpec

# The tile: filamentary oxide cells of 2 - 20 kOhm, read at 0.2 V, in 32x32 with 5 ohm of wire a cell.
SIZE = 32
NONLINEARITY = 3.0  # 1/V
CONDUCTANCES = (50e-6, 500e-6)  # S, what weights are mapped to
CHARACTERIZED = (10e-6, 550e-6)  # S, wider by four standard deviations of the programming error
READ_VOLTAGE = 0.2  # V
WIRE = 5.0  # ohm a segment
ENDS = 10.0  # ohm, drivers and sense nodes
WIRE_SWEEP = (0.0, 0.5, 1.0, 2.0, 5.0)  # ohm a segment

# The chip.
STATES = 6
BITS = 6
PROGRAMMING_ERROR = 0.02  # of the conductance range
WEIGHT_CLIP = 3.0  # root mean squares

RUNS = 10
SWEEP_RUNS = 5
PAIRED_IMAGES = 100
PAIRED_RUNS = 2
AUDIT_VECTORS = 50
VALIDATION_CASES = 5
EPOCHS = 20
LEARNING_RATE = 3e-3


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results; made if missing.")] = Path(
        "demo-out"
    ),
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of every random draw.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="ngspice processes; one a processor if absent.")] = None,
) -> None:
    """Run the whole chain on real data.

    Characterizes a 32x32 tile in ngspice, fits and validates a surrogate, trains a small CNN on handwritten digits,
    puts it on the tiles and reports its accuracy: as trained, on ideal tiles, on the surrogate. Checks the surrogate
    against the exact solution and against ngspice on what really reaches every layer. Takes a few minutes.

    Writes results.json, report.html, the figures, and the data and surrogate of the tile.

    \b
    Example:
      mdls-cosim demo --out demo-out
    """
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    with _stage("load", seconds, "loading"):
        from mdls_cosim.network import audit, convert, evaluate, on_rung
        from mdls_cosim.network.data import digits
        from mdls_cosim.report import fitted_parameters, render_demo

        data = digits(seed=seed)
        train_set, test_set = data.train, data.test

    surrogates, dataset = _tiles(seed, workers, out, seconds)
    surrogate = surrogates[WIRE]
    truth = _spec(WIRE)
    validation = _validation(surrogate, seed, workers, seconds)

    with _stage("train", seconds, f"training a CNN on {len(train_set[0])} digits"):
        model = trained_cnn(train_set, seed)
    with _stage("evaluate", seconds, f"evaluating on {len(test_set[0])} digits, {RUNS} chips"):
        # Converters are designed for the ideal tile; the chip then gets the physics of the real one.
        ideal, conversion = convert(model, _hardware(surrogate), seed=seed, calibration=train_set[0][:256])
        accuracy = {
            "float": evaluate(model, test_set, RUNS, seed),
            "ideal": evaluate(ideal, test_set, RUNS, seed),
            "surrogate": evaluate(on_rung(ideal, "surrogate"), test_set, RUNS, seed),
        }
    with _stage("wire sweep", seconds, f"sweeping the wire resistance, {SWEEP_RUNS} chips"):
        sweep = {
            wire: accuracy["surrogate"]
            if wire == WIRE
            else evaluate(on_rung(ideal, "surrogate", surrogates[wire]), test_set, SWEEP_RUNS, seed)
            for wire in WIRE_SWEEP
        }
    with _stage("paired", seconds, f"{PAIRED_IMAGES} digits and {PAIRED_RUNS} chips on the exact solution"):
        few = test_set[0][:PAIRED_IMAGES], test_set[1][:PAIRED_IMAGES]
        paired = {
            "surrogate": evaluate(on_rung(ideal, "surrogate"), few, PAIRED_RUNS, seed),
            "nodal": evaluate(on_rung(ideal, "nodal", truth), few, PAIRED_RUNS, seed),
        }
    with _stage("audit", seconds, f"re-simulating {AUDIT_VECTORS} inputs of every layer in ngspice"):
        audited = audit(on_rung(ideal, "surrogate"), test_set, AUDIT_VECTORS, seed)

    results: dict[str, Any] = {
        "accuracy": {name: _spread(found) for name, found in accuracy.items()},
        "paired": {
            "surrogate": paired["surrogate"].mean,
            "nodal": paired["nodal"].mean,
            "images": PAIRED_IMAGES,
            "seeds": PAIRED_RUNS,
        },
        "wire_sweep": {f"{wire:g} ohm": found.mean for wire, found in sweep.items()},
        "wire_sweep_runs": {f"{wire:g} ohm": list(found.runs) for wire, found in sweep.items()},
        "audit": audited.as_dict(),
        "tool": dict(dataset.provenance.tools),
        "fit": fitted_parameters(surrogate.spec.as_dict(), truth.as_dict()),
        "held_out_error": None if surrogate.error is None else surrogate.error.as_dict(),
        "validation": {"classes": validation.classes, "bound": validation.bound, "passed": validation.passed},
        "conversion": conversion.as_dict(),
        "counters": accuracy["surrogate"].total.as_dict(),
        "hardware": _description(truth),
        "seed": seed,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    with _stage("report", seconds, "writing the report"):
        _write(out / "results.json", json.dumps(results, indent=2) + "\n")
        curves = {
            "iv": _curves(dataset, surrogate),
            "ir_drop": {"cell_voltages": _drop(ideal, truth), "applied": READ_VOLTAGE},
            "scatter": {
                "surrogate": audited.pairs[:, 0],
                "spice": audited.pairs[:, 1],
                "layer": [f"layer {name}" for name in audited.pair_layers],
            },
        }
        shown = {**results, "wire_sweep": {f"{wire:g} ohm": _spread(found) for wire, found in sweep.items()}}
        render_demo(shown, curves, out / "report.html", figures=out / "figures")
    print_line()
    for name, found in accuracy.items():
        print_line(f"{name:<10} {found}")
    print_line(
        f"on {PAIRED_IMAGES} digits: surrogate {100 * paired['surrogate'].mean:.1f} %, "
        f"exact solution {100 * paired['nodal'].mean:.1f} %"
    )
    print_line(
        f"audit in ngspice, {audited.vectors} inputs of each of {len(audited.layers)} layers: "
        f"RMS error {100 * audited.rms:.2g} % of the RMS current"
    )
    print_line(f"wrote {out / 'results.json'} and {out / 'report.html'} after {sum(seconds.values()):.0f} s")


@contextmanager
def _stage(name: str, seconds: dict[str, float], doing: str) -> Iterator[None]:
    """Says what is being done, and adds how long it took."""
    began = time.perf_counter()
    with log().status(doing):
        yield
    took = time.perf_counter() - began
    seconds[name] = seconds.get(name, 0.0) + took
    log().print(f"{doing} [dim]({took:.1f} s)[/dim]")


def _spec(wire: float) -> TileSpec:
    from mdls_cosim.devices import Sinh
    from mdls_cosim.tiles import TileSpec

    return TileSpec(
        rows=SIZE,
        cols=SIZE,
        cell=Sinh(nonlinearity=NONLINEARITY),
        row_line_resistance=wire,
        column_line_resistance=wire,
        driver_resistance=ENDS,
        sense_resistance=ENDS,
    )


def _tiles(
    seed: int, workers: int | None, out: Path, seconds: dict[str, float]
) -> tuple[dict[float, Surrogate], Dataset]:
    """A surrogate for each wire resistance, and the Dataset behind the demo's own."""
    from mdls_cosim.characterize import Characterization, IvPlan, ReadPlan, characterize
    from mdls_cosim.surrogates import fit

    surrogates, datasets = {}, {}
    for wire in WIRE_SWEEP:
        own = wire == WIRE
        plan = Characterization(
            tile=_spec(wire),
            conductance_range=CHARACTERIZED,
            iv=IvPlan(voltage=READ_VOLTAGE, cells=5, points=41 if own else 11),
            read=ReadPlan(voltage=READ_VOLTAGE, tiles=2, vectors=4),
            seed=seed,
        )
        began = time.perf_counter()
        with progress_bar(f"ngspice, wires of {wire:g} ohm", "points") as progress:
            datasets[wire] = characterize(plan, workers, progress)
        seconds["characterize"] = seconds.get("characterize", 0.0) + time.perf_counter() - began
        with _stage("fit", seconds, f"fitting the surrogate for wires of {wire:g} ohm"):
            surrogates[wire] = fit(datasets[wire])
    datasets[WIRE].save(out / "tile.h5")
    surrogates[WIRE].save(out / "surrogate.h5")
    return surrogates, datasets[WIRE]


def _validation(surrogate: Surrogate, seed: int, workers: int | None, seconds: dict[str, float]) -> Any:
    from mdls_cosim.surrogates import validate

    began = time.perf_counter()
    with progress_bar("ngspice, validation on fresh tiles", "points") as progress:
        validation = validate(surrogate, VALIDATION_CASES, seed, workers=workers, progress=progress)
    seconds["validate"] = time.perf_counter() - began
    return validation


def trained_cnn(data: tuple[Tensor, Tensor], seed: int) -> nn.Module:
    """A small CNN without biases, so that all of its arithmetic is on the tiles."""
    import torch
    from torch import nn

    from mdls_cosim.network import train

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 32, bias=False),
            nn.ReLU(),
            nn.Linear(32, 10, bias=False),
        )
    train(model, data, EPOCHS, LEARNING_RATE, seed)
    return model


def _hardware(surrogate: Surrogate) -> Any:
    from mdls_cosim.analog import Adc, Dac, Hardware
    from mdls_cosim.devices.variability import ProgrammingError, Variability

    return Hardware(
        tile=surrogate,
        rung="ideal",
        states=STATES,
        dac=Dac(bits=BITS),
        adc=Adc(bits=BITS),
        conductance_range=CONDUCTANCES,
        read_voltage=READ_VOLTAGE,
        variability=Variability(effects=(ProgrammingError(relative=PROGRAMMING_ERROR),)),
        weight_clip=WEIGHT_CLIP,
    )


def _description(spec: TileSpec) -> dict[str, Any]:
    return {
        **spec.as_dict(),
        "conductance_range": f"{CONDUCTANCES[0] * 1e6:g} - {CONDUCTANCES[1] * 1e6:g} µS, {STATES} states",
        "read_voltage": READ_VOLTAGE,
        "converters": f"{BITS}-bit DAC and ADC, ranges calibrated on ideal tiles",
        "programming_error": f"{100 * PROGRAMMING_ERROR:g} % of the conductance range",
        "weight_clip": f"{WEIGHT_CLIP:g} root mean squares",
    }


def _spread(found: Any) -> dict[str, Any]:
    return {"mean": found.mean, "std": found.std, "runs": list(found.runs)}


def _curves(dataset: Dataset, surrogate: Surrogate) -> dict[str, Any]:
    """The I-V of single cells in ngspice, and of the fitted cell."""
    import torch

    from mdls_cosim.fidelity.cell_law import cell_law

    arrays = {name: array.values for name, array in dataset.experiments["iv"].items()}
    voltages, conductances = (torch.as_tensor(arrays[name]) for name in ("voltages", "conductances"))
    fitted = cell_law(surrogate.spec).current(voltages, conductances[:, None]).numpy()
    return {
        "conductances": arrays["conductances"],
        "voltages": arrays["voltages"],
        "spice": arrays["currents"],
        "fitted": fitted,
    }


def _drop(model: nn.Module, spec: TileSpec) -> Any:
    """Cell voltages of the first tile of the second layer, all rows at the read voltage, by the exact solution."""
    import torch

    from mdls_cosim.fidelity import NodalTile
    from mdls_cosim.network import analog_layers

    layer = list(analog_layers(model).values())[1]
    tile = layer.conductances.reshape(-1, SIZE, SIZE)[0]
    return NodalTile(spec).program(tile).cell_voltages(torch.full((1, SIZE), READ_VOLTAGE).double())[0].numpy()


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
