"""Fits devices to measured loops and pulse trains, and says how far off they are, file by file.

    MDLS_COSIM_DATA=FOLDER python calibration/fit_measured.py [--quick] [--ranking] [--write FOLDER]

The folder holds `knowm_sdc/` (github.com/knowm/memristor-discovery, data/: W-SDC devices M1 and M2 behind 5 or 47 kohm,
one settled period of a sine a file), `bipolar_iv/` (github.com/fgr1986/vlsi_memristor_compact_model),
`sandia_pulse_trains/` (github.com/sandialabs/cross-sim) and `gong_pulse_response/` (github.com/IBM/aihwkit).

Errors are the RMS of modelled less measured current over the range of the measured, in percent. The drive of a Knowm
loop is the applied sine; device, series resistor and the capacitance of the set-up (fitted) are simulated under it.
--write puts the parameter sets knowm_sdc_m1_47k.toml and knowm_sdc_m1_5k.toml there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mdls_cosim.calibrate import Calibration, Loop, PulseTrain, Setup, Value, calibrate, read_measurement
from mdls_cosim.calibrate.loops import LoopFit, fit_loops
from mdls_cosim.calibrate.parameter_text import symbol_of, unit_of
from mdls_cosim.calibrate.ranking import rank
from mdls_cosim.errors import MdlsError

MODEL = "metastable_switch"
"""Knowm's own model of its device."""
FREQUENCIES = (1, 10, 100, 1000)
RESISTORS = ("47k", "5k")
TWICE = "47k_0.8V_10Hz_M2"
"""In the source it is the same file as that of M1, whose small negative currents it shares: taken as M1's."""
ATTRIBUTION = "Knowm Memristor Discovery from Knowm Inc (github.com/knowm/memristor-discovery, 9e01a9b, GPL-3.0)"


def main() -> None:
    """Reads the options, fits, prints the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="one resistor, one held-out frequency, fewer candidates")
    options.add_argument("--ranking", action="store_true", help="also rank all models on each resistor")
    options.add_argument("--write", metavar="FOLDER", help="write the parameter sets into this folder")
    given = options.parse_args()
    folder = os.environ.get("MDLS_COSIM_DATA")
    if not folder or not (Path(folder) / "knowm_sdc").is_dir():
        sys.exit("MDLS_COSIM_DATA names no folder with knowm_sdc/ in it: nothing to fit")
    loops = knowm(Path(folder) / "knowm_sdc")
    candidates = 256 if given.quick else 1024
    fits = knowm_table(loops, candidates, given.quick)
    if given.ranking:
        for resistor in RESISTORS:
            ranking(loops, resistor, candidates)
    if not given.quick:
        bipolar(Path(folder) / "bipolar_iv")
        pulses(Path(folder))
    if given.write:
        for resistor, fit in fits.items():
            own = family(loops, resistor, "M1")
            target = Path(given.write) / f"knowm_sdc_m1_{resistor}.toml"
            described(fit, own, resistor).save(target)
            say(f"written: {target}")


def knowm(folder: Path) -> dict[str, Loop]:
    """All loops by name, e.g. "5k_0.8V_10Hz_M1": the applied voltage and the current (the device's follows by R)."""
    loops = {}
    for path in sorted(folder.glob("*_series.csv")):
        name = path.name.removesuffix("_series.csv")
        resistor, _, frequency, _ = name.split("_")
        setup = Setup(
            columns="applied voltage [V], current [uA]",
            frequency=float(frequency.removesuffix("Hz")),
            series_resistance=1e3 * float(resistor.removesuffix("k")),
        )
        (loop,), _ = read_measurement(path, setup)
        if isinstance(loop, Loop):
            loops[name] = replace(loop, name=name)
    return loops


def family(loops: dict[str, Loop], resistor: str, device: str) -> list[Loop]:
    """The loops of 0.8 V of a device behind a resistor, by frequency."""
    names = [f"{resistor}_0.8V_{frequency}Hz_{device}" for frequency in FREQUENCIES]
    return [loops[name] for name in names if name != TWICE]


def knowm_table(loops: dict[str, Loop], candidates: int, quick: bool) -> dict[str, LoopFit]:
    """Prints the errors file by file; returns the fit to all frequencies of each resistor."""
    residual = max(loop.time_residual or 0.0 for loop in loops.values())
    say(f"\nKnowm W-SDC, {MODEL}: error in percent of the current range")
    say(f"times rebuilt from the applied sine, which fits to {residual:.2%} of its amplitude at worst")
    say("one period a file: no cycle-to-cycle figure\n")
    resistors = RESISTORS[:1] if quick else RESISTORS
    columns: dict[str, dict[str, float]] = {name: {} for name in loops if name != TWICE}
    fits = {}
    for resistor in resistors:
        own = family(loops, resistor, "M1")
        others = [loop for name, loop in loops.items() if loop not in own and name != TWICE]
        fits[resistor] = fit = fitted(own, others, candidates)
        for name, error in fit.errors.items():
            columns[name]["fitted"] = error
        for name, error in fit.held_out.items():
            same = name.startswith(f"{resistor}_")
            if name.endswith("M2"):
                what = "other device" if name.startswith(f"{resistor}_0.8V") else ""
            else:
                what = "other amplitude" if same else "other resistor" if "_0.8V_" in name else ""
            if what:
                columns[name][what] = error
        for left_out in own[2:3] if quick else own:
            rest = [loop for loop in own if loop is not left_out]
            columns[left_out.name]["held-out frequency"] = fitted(rest, [left_out], candidates).held_out[left_out.name]
    if not quick:
        every = [loop for name, loop in loops.items() if name.endswith("M1")]
        for name, error in fitted(every, (), candidates).errors.items():
            columns[name]["all of M1"] = error
        for resistor in resistors:
            for name, error in fitted(family(loops, resistor, "M2"), (), candidates).errors.items():
                columns[name]["M2's own fit"] = error
    print_table(columns)
    return fits


def fitted(loops: Sequence[Loop], held_out: Sequence[Loop], candidates: int) -> LoopFit:
    """The model fitted to `loops`, with the set-up's capacitance."""
    return fit_loops(loops, MODEL, held_out=held_out, parallel_capacitance="fit", candidates=candidates)


def print_table(columns: dict[str, dict[str, float]]) -> None:
    """A row a file; columns: what the file was to the fit."""
    heads = (
        "fitted", "held-out frequency", "other resistor", "other amplitude", "other device", "all of M1", "M2's own fit"
    )  # fmt: skip
    say(f"{'file':<22}" + "".join(f"{head:>19}" for head in heads))
    for name, errors in columns.items():
        if errors:
            say(
                f"{name:<22}"
                + "".join(f"{100 * errors[head]:>19.1f}" if head in errors else " " * 19 for head in heads)
            )
    for head in heads:
        if values := [errors[head] for errors in columns.values() if head in errors]:
            say(f"{head}: rms {100 * np.sqrt(np.mean(np.square(values))):.1f}, worst {100 * max(values):.1f}")


def ranking(loops: dict[str, Loop], resistor: str, candidates: int) -> None:
    """Prints all models, fitted to three frequencies and ranked by the fourth, 100 Hz."""
    own = family(loops, resistor, "M1")
    left_out = own[2]
    fits = rank(
        [loop for loop in own if loop is not left_out], [left_out], parallel_capacitance="fit", candidates=candidates
    )
    say(f"\nmodels on {resistor}, M1: held out {left_out.name}")
    for place, fit in enumerate(fits, 1):
        held_out = 100 * (fit.held_out_error or 0.0)
        say(f"{place:>3}  {model_of(fit):<20} fitted {100 * fit.error:5.1f}   held out {held_out:5.1f}")


def model_of(fit: LoopFit) -> str:
    """Key of the fitted model."""
    return str(getattr(fit.device, "model", ""))


def bipolar(folder: Path) -> None:
    """Prints the fit of the one bipolar sweep, whose times nobody wrote down."""
    path = folder / "example_bipolar_measurement.txt"
    if not path.is_file():
        return
    (loop,), _ = read_measurement(path, Setup(columns="voltage [V], current [A]", ramp_rate=1.0))
    if not isinstance(loop, Loop):
        return
    say("\nbipolar sweep, one cycle, times as of a ramp of 1 V/s (assumed: all rates scale with it); nothing held out.")
    say("The current compliance of 100 uA is no part of any model.")
    for fit in rank([loop]):
        say(f"  {model_of(fit):<20} fitted {100 * fit.error:5.1f}")


def pulses(folder: Path) -> None:
    """Prints the pulse responses; the last quarter of the ramps is held out where there are several."""
    files = {
        "sandia set": ("sandia_pulse_trains/set.csv", "current [A]", 0.1),
        "sandia reset": ("sandia_pulse_trains/reset.csv", "current [A]", 0.1),
        "gong": ("gong_pulse_response/gong_et_al.csv", "conductance [1]", None),
    }
    for name, (place, column, read_voltage) in files.items():
        path = folder / place
        if not path.is_file():
            continue
        with open(path, encoding="utf-8-sig") as lines:
            count = len(lines.readline().split(","))
        setup = Setup(kind="pulses", columns=", ".join([column] * count), read_voltage=read_voltage)
        try:
            trains = [each for each in read_measurement(path, setup)[0] if isinstance(each, PulseTrain)]
            found = calibrate(trains)
        except MdlsError as error:
            say(f"\n{name}: {error}")
            continue
        held_out = "" if found.held_out_error is None else f", held-out ramps {100 * found.held_out_error:.1f}"
        say(f"\n{name}: pulse response, fitted {100 * found.error:.1f}{held_out}")


def described(fit: LoopFit, loops: Sequence[Loop], resistor: str) -> Calibration:
    """The fit as a parameter set, with its source."""
    values = {}
    for name, value in fit.values.items():
        unit = "farad" if name == "parallel_capacitance" else unit_of(fit.device, name)
        low, high = fit.intervals[name]
        values[name] = Value(value, symbol_of(unit) if unit else "", low, high, fit.determined[name])
    return Calibration(
        title=f"Knowm W-SDC memristor M1 behind {resistor}ohm, {MODEL}",
        kind="loop",
        device=fit.device,
        values=values,
        method=fit.method,
        errors=fit.errors,
        held_out=fit.held_out,
        notes=(f"Data: {ATTRIBUTION}", *fit.notes),
        validity={
            "applied voltage": (-0.8, 0.8, "volt"),
            "current": (
                min(loop.currents.min() for loop in loops),
                max(loop.currents.max() for loop in loops),
                "ampere",
            ),
            "time": (5e-6, 1.0, "second"),
        },
        files={loop.name: loop.content_hash for loop in loops},
        seed=0,
    )


def say(line: str) -> None:
    """To standard output at once: a full run takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
