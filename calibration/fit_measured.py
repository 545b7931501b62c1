"""Fits devices to measured loops and pulse trains, and says how far off they are, file by file.

    MDLS_COSIM_DATA=FOLDER python calibration/fit_measured.py [--quick | --sets] [--ranking] [--write FOLDER]
        [--validity FOLDER]

The folder holds `knowm_sdc/` (github.com/knowm/memristor-discovery, data/: W-SDC devices M1 and M2 behind 5 or 47 kohm,
one settled period of a sine a file), `bipolar_iv/` (github.com/fgr1986/vlsi_memristor_compact_model),
`sandia_pulse_trains/` (github.com/sandialabs/cross-sim) and `gong_pulse_response/` (github.com/IBM/aihwkit).

Errors are the RMS of modelled less measured current, over the range of the measured or over the RMS current of a branch
(the points of one sign of the drive), in percent. The drive of a Knowm
loop is the applied sine; device, series resistor and the capacitance of the set-up (fitted) are simulated under it.
--write puts the parameter sets knowm_sdc_m1_47k.toml and knowm_sdc_m1_5k.toml there; --validity fits nothing, and
writes into those that are there the ranges that their circuit runs through under the drives of their loops.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mdls_cosim.calibrate import Branch, Calibration, Loop, PulseTrain, Setup, Value, calibrate, read_measurement
from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.loop_problem import Candidates, LoopProblem, prepare
from mdls_cosim.calibrate.loops import fit_loops
from mdls_cosim.calibrate.parameter_text import symbol_of, unit_of
from mdls_cosim.calibrate.ranking import rank
from mdls_cosim.calibrate.set_up import scales_of
from mdls_cosim.calibrate.spaces import search_spaces
from mdls_cosim.calibrate.validity import loop_validity
from mdls_cosim.devices import DynamicDevice
from mdls_cosim.errors import MdlsError
from mdls_cosim.quantities import format_quantity

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
    options.add_argument("--sets", action="store_true", help="only the fits to all frequencies behind each resistor")
    options.add_argument("--ranking", action="store_true", help="also rank all models on each resistor")
    options.add_argument("--validity", metavar="FOLDER", help="only correct the validity of the sets in this folder")
    options.add_argument("--write", metavar="FOLDER", help="write the parameter sets into this folder")
    given = options.parse_args()
    folder = os.environ.get("MDLS_COSIM_DATA")
    if not folder or not (Path(folder) / "knowm_sdc").is_dir():
        sys.exit("MDLS_COSIM_DATA names no folder with knowm_sdc/ in it: nothing to fit")
    loops = knowm(Path(folder) / "knowm_sdc")
    if given.validity:
        for resistor in RESISTORS:
            revalidate(Path(given.validity) / f"knowm_sdc_m1_{resistor}.toml", family(loops, resistor, "M1"))
        return
    candidates = 256 if given.quick else 1024
    if given.sets:
        fits = {}
        for resistor in RESISTORS:
            own = family(loops, resistor, "M1")
            others = [loop for name, loop in loops.items() if loop not in own and name != TWICE]
            fits[resistor] = fitted(own, others, candidates)
            print_branches(fits[resistor], resistor, {})
    else:
        fits = knowm_table(loops, candidates, given.quick)
    if given.ranking:
        for resistor in RESISTORS:
            ranking(loops, resistor, candidates)
    if not (given.quick or given.sets):
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
    fits, left_out_branches = {}, {}
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
            without = fitted(rest, [left_out], candidates)
            columns[left_out.name]["held-out frequency"] = without.held_out[left_out.name]
            left_out_branches[left_out.name] = without.branches[left_out.name]
    if not quick:
        every = [loop for name, loop in loops.items() if name.endswith("M1")]
        for name, error in fitted(every, (), candidates).errors.items():
            columns[name]["all of M1"] = error
        for resistor in resistors:
            for name, error in fitted(family(loops, resistor, "M2"), (), candidates).errors.items():
                columns[name]["M2's own fit"] = error
    print_table(columns)
    for resistor, fit in fits.items():
        print_branches(fit, resistor, left_out_branches)
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


def print_branches(fit: LoopFit, resistor: str, left_out: Mapping[str, Sequence[Branch]]) -> None:
    """A row a branch of the fitted files: its errors, and the states of data and model near 0.1 V."""
    say(f"\n{MODEL} behind {resistor}: error in percent of the RMS current of the branch; measured / model states")
    heads = ("branch", "RMS current", "fitted", "out", "back", "held out", "at", "off state", "on/off", "switches at")
    widths = (10, 12, 8, 6, 6, 10, 9, 19, 13, 22)
    say(f"{'file':<18}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    for name in fit.errors:
        for place, branch in enumerate(fit.branches[name]):
            other = left_out.get(name, ())
            pair = (branch.measured, branch.modelled)
            cells = (
                branch.sign, quantity(branch.rms_current, "A"), *map(percent, (branch.error, branch.error_out)),
                percent(branch.error_back), percent(other[place].error if place < len(other) else None),
                quantity(branch.reference_voltage, "V"), " / ".join(quantity(one.high_resistive, "S") for one in pair),
                " / ".join("-" if one.ratio is None else f"{one.ratio:.1f}" for one in pair),
                " / ".join(quantity(one.switching_voltage, "V") for one in pair),
            )  # fmt: skip
            say(f"{name:<18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    for sign in ("positive", "negative"):
        errors = [branch.error for name in fit.errors for branch in fit.branches[name] if branch.sign == sign]
        held = [branch.error for name in fit.errors for branch in left_out.get(name, ()) if branch.sign == sign]
        said = f"{sign}: rms {percent(rms(errors))}"
        say(said + (f", of a held-out frequency {percent(rms(held))}" if held else ""))


def rms(values: Sequence[float]) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def percent(share: float | None) -> str:
    """In percent with one digit."""
    return "-" if share is None else f"{100 * share:.1f}"


def quantity(value: float | None, unit: str) -> str:
    """In three digits with its unit."""
    return "-" if value is None else format_quantity(value, unit, 3)


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
        say(
            f"{place:>3}  {model_of(fit):<20} fitted {100 * fit.error:5.1f}   held out {held_out:5.1f}"
            f"   branches: fitted {percent(fit.branch_error)}, held out {percent(fit.held_out_branch_error)}"
        )


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
        say(f"  {model_of(fit):<20} fitted {100 * fit.error:5.1f}   branches {percent(fit.branch_error)}")


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
        branches={name: fit.branches[name] for name in fit.errors},
        notes=(f"Data: {ATTRIBUTION}", *fit.notes),
        validity=loop_validity(fit.device, loops, fit.voltages.values(), fit.states.values()),
        files={loop.name: loop.content_hash for loop in loops},
        seed=0,
    )


def revalidate(path: Path, loops: Sequence[Loop]) -> None:
    """Writes the validity of a parameter set anew, from its circuit under the drives of `loops`."""
    found = Calibration.load(path)
    device = found.device
    assert isinstance(device, DynamicDevice)
    model = device.replace(reversed=False)
    turned, raising = (-1 if device.reversed else 1), model.raising_sign
    prepared = [prepare(loop, turned, raising=raising) for loop in loops]
    numbers = {name: value for name in type(model).model_fields if isinstance(value := getattr(model, name), float)}
    population = model.varied({name: np.array([[value]]) for name, value in numbers.items()})
    capacitance = found.values["parallel_capacitance"].value
    problem = LoopProblem(search_spaces(MODEL, scales_of(loops, None))[0], prepared, capacitor=capacitance)
    responses = problem.respond(Candidates(population, None, capacitance, np.zeros((1, 0))), finer=2, until_closed=True)
    voltages = [turned * response.voltages for response in responses]
    ranges = loop_validity(device, loops, voltages, [response.states for response in responses])
    replace(found, validity=ranges).save(path)
    say(f"written: {path}")


def say(line: str) -> None:
    """To standard output at once: a full run takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
