"""`mdls-cosim calibrate`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mdls_cosim.cli.app import INTERRUPTED, app
from mdls_cosim.cli.calibrate_options import CalibrateOptions
from mdls_cosim.cli.cells import print_lifetimes
from mdls_cosim.cli.files import check_input, check_output, size_of
from mdls_cosim.cli.options import takes
from mdls_cosim.cli.terminal import log, print_error, print_line, print_table, progress_bar

if TYPE_CHECKING:
    from mdls_cosim.calibrate import Calibration, Loop, Measurement

_TABLES = (".csv", ".txt", ".tsv", ".dat")
"""Files of a folder that are read as tables."""


@app.command()
@takes(CalibrateOptions)
def calibrate(options: CalibrateOptions) -> None:
    """Calibrate a device on measurements.

    Reads measured I-V loops, pulse trains, tables of levels, drift traces or endurance tables, finds the parameters of
    a device model and how well they are known, and writes a parameter file that a tile names:
    parameters = "PARAMS.toml". Columns carry their units: time [s], voltage [V] (over the device), applied voltage [V]
    (over device and resistor), current [uA], conductance [uS], resistance [kohm], target [uS], on resistance [kohm],
    off resistance [kohm]; cycle, ramp, pulse, level and device are numbers. Other columns are ignored.

    \b
    Examples:
      mdls-cosim calibrate loop.csv --device vteam --out mine.toml
      mdls-cosim calibrate 1Hz.csv 100Hz.csv --hold-out 10Hz.csv --device auto --out mine.toml
      mdls-cosim calibrate sine.csv --columns "applied voltage [V], current [uA]" --frequency "10 Hz"
        --series-resistance "5 kohm" --device metastable_switch --out mine.toml
      mdls-cosim calibrate FOLDER --device vteam --out mine.toml
      mdls-cosim calibrate ramps.csv --columns "current [A], ..." --read-voltage "0.1 V" --out pulses.toml

    A folder of loops, each file of a device of its own (or see --device-name), gives the spread of the parameters from
    device to device and from cycle to cycle. So does one file with a column device, and a .toml whose entries have a
    key device.

    An interrupted --device auto keeps the fits that are done; --resume continues it.

    \b
    Files with a setup each stand in a .toml, its keys named as the options:
      [[measured]]
      file = "10Hz.csv"
      frequency = "10 Hz"
      hold_out = true
    """
    _check_outputs(options)
    if any(path.is_dir() for path in options.measured):
        _write(options, _devices_found(options))
        return
    measurements, spared = _read(options)
    _check_series(options, (*measurements, *spared))
    named = {getattr(each, "device", None) for each in measurements} - {None} if _are_loops(measurements) else set()
    if len(named) > 1:
        _write(options, _spread_found(options, measurements, spared))
        return
    try:
        found = _found(options, measurements, spared)
    except KeyboardInterrupt:
        if not options.ranking.exists():
            raise
        print_error(f"interrupted; {_kept(options.ranking)}")
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        if options.ranking.exists():
            log().print(_kept(options.ranking), markup=False, soft_wrap=True)
        raise
    _write(options, found)
    options.ranking.unlink(missing_ok=True)


def _check_outputs(options: CalibrateOptions) -> None:
    from mdls_cosim.errors import ConfigError, StoreError

    check_output(options.out, options.force)
    if options.picture.suffix.lower() != ".png":
        raise ConfigError("not a kind of plot", where="--plot", value=options.picture.name, limit="FILE.png")
    check_output(options.picture, options.force)
    if options.resume and options.device != "auto":
        raise ConfigError("nothing to continue", where="--resume", value=options.device, limit="--device auto")
    if options.ranking.exists() and not (options.resume or options.force):
        raise StoreError(
            "an interrupted ranking is here", where=str(options.ranking),
            hint="--resume continues it, --force begins anew",
        )  # fmt: skip


def _check_series(options: CalibrateOptions, measurements: tuple[Measurement, ...]) -> None:
    from mdls_cosim.errors import ConfigError

    whole = [each for each in measurements if getattr(each, "applied", False)]
    bare = [each for each in whole if getattr(each, "series_resistance", None) is None]
    if bare and not options.fitted_series:
        raise ConfigError(
            "applied voltages without the series resistance", where=bare[0].name,
            hint='Give it: --series-resistance "5 kohm", or --series-resistance fit',
        )  # fmt: skip


def _found(options: CalibrateOptions, measurements: list[Measurement], spared: list[Measurement]) -> Calibration:
    from mdls_cosim.calibrate import calibrate as run

    if options.ranking.exists() and not options.resume:
        options.ranking.unlink()
    if options.resume and options.ranking.exists():
        print_line(_kept(options.ranking, going_on=True))
    with progress_bar("fitting") as advance:
        return run(
            measurements, options.device, held_out=spared, cycles_held_out=options.cycles_held_out,
            series_resistance=options.fitted_series, parallel_capacitance=options.capacitance(),
            bootstrap=options.bootstrap, seed=options.seed, progress=advance, keep=options.ranking,
            resume=options.resume,
        )  # fmt: skip


def _devices_found(options: CalibrateOptions) -> Calibration:
    """The statistics of a folder of loops."""
    from mdls_cosim.errors import ConfigError

    if options.device == "auto":
        raise ConfigError(
            "statistics of several devices are those of one model", where="--device", value="auto", limit="a model",
            hint="Rank the models on one file first",
        )  # fmt: skip
    if len(options.measured) != 1 or options.hold_out:
        raise ConfigError("a folder stands alone", where="MEASURED", value=len(options.measured), limit="one folder")
    (folder,) = options.measured
    tables = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in _TABLES)
    others = sum(1 for path in folder.iterdir() if path not in tables)
    if not tables:
        raise ConfigError("a folder without tables", where=str(folder), limit=", ".join(_TABLES))
    measurements, _ = _read(replace(options, measured=tables))
    _check_series(options, tuple(measurements))
    print_line(
        f"{len(tables)} files of {len(_by_device(options, measurements))} devices ({others} other entries of {folder} "
        "are not read)"
        + ("" if options.device_name else "; a file without devices in it is one, --device-name says otherwise")
    )
    return _spread_found(options, measurements, [])


def _spread_found(options: CalibrateOptions, measurements: list[Measurement], spared: list[Measurement]) -> Calibration:
    """The statistics of loops of several devices."""
    from mdls_cosim.calibrate.statistics import calibrate_devices
    from mdls_cosim.errors import ConfigError

    if options.device == "auto":
        raise ConfigError(
            "statistics of several devices are those of one model", where="--device", value="auto", limit="a model",
            hint="Rank the models on one file first",
        )  # fmt: skip
    if spared:
        raise ConfigError("loops held out of statistics of several devices", where=spared[0].name, limit="none")
    devices = _by_device(options, measurements)
    with progress_bar("fitting") as advance:
        return calibrate_devices(
            devices, options.device, series_resistance=options.fitted_series,
            parallel_capacitance=options.capacitance(), seed=options.seed, progress=advance,
        )  # fmt: skip


def _by_device(options: CalibrateOptions, measurements: list[Measurement]) -> dict[str, list[Loop]]:
    """Loops by the device that they state, or that the file's name states."""
    from mdls_cosim.calibrate import Loop
    from mdls_cosim.errors import ConfigError

    devices: dict[str, list[Loop]] = {}
    for loop in measurements:
        if not isinstance(loop, Loop):
            raise ConfigError("loops are needed", where=loop.name, value=type(loop).__name__, limit="Loop")
        devices.setdefault(loop.device or _device_of(loop.name, options.device_name), []).append(loop)
    return devices


def _are_loops(measurements: list[Measurement]) -> bool:
    from mdls_cosim.calibrate import Loop

    return all(isinstance(each, Loop) for each in measurements)


def _of_device(measurement: Measurement, device: str | None, where: str) -> Measurement:
    """`measurement` with the device that the list states for its file."""
    from mdls_cosim.calibrate import Loop
    from mdls_cosim.errors import ConfigError

    if device is None:
        return measurement
    if not isinstance(measurement, Loop) or measurement.device is not None:
        raise ConfigError(
            "a device for a file that is no loop, or that has a column device", where=where, value=device,
            limit="loops of one device",
        )  # fmt: skip
    return replace(measurement, device=device)


def _device_of(name: str, pattern: str | None) -> str:
    """The device that a file belongs to, by its name."""
    from mdls_cosim.errors import ConfigError

    if pattern is None:
        return name
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise ConfigError("not a regular expression", where="--device-name", value=pattern, hint=str(error)) from None
    if match is None:
        raise ConfigError("a file name that the pattern does not match", where=name, value=pattern)
    return match[1] if match.groups() and match[1] else match[0]


def _kept(path: Path, going_on: bool = False) -> str:
    """What an interrupted ranking has kept."""
    from mdls_cosim.calibrate.ranking_file import kept_models

    models = kept_models(path)
    kept = f"{len(models)} fitted models ({', '.join(models)}) are in {path}"
    return f"{kept}; the others are fitted" if going_on else f"{kept}; --resume continues with the others"


def _write(options: CalibrateOptions, found: Calibration) -> None:
    """The parameter file, the picture, and both in words."""
    from mdls_cosim.report.calibration import draw_calibration, error_table, ranking_table, value_table
    from mdls_cosim.report.figures import to_png
    from mdls_cosim.report.loop_tables import BRANCHES, SPREADS, STATES, branch_table, spread_table, state_table

    out, picture = options.out, options.picture
    drawn = to_png(draw_calibration(found))
    found.save(out)
    picture.write_bytes(drawn)
    print_table(value_table(found), f"{found.title}; intervals: {found.method}")
    print_table(error_table(found), found.error_meaning)
    print_table(branch_table(found.branches, found.errors, found.held_out), BRANCHES)
    print_table(state_table(found.branches, found.errors, found.held_out), STATES)
    print_table(ranking_table(found), "Ranking")
    print_table(spread_table(found.spread), SPREADS)
    print_line()
    for note in found.notes:
        print_line(f"note: {note}")
    print_line(f"error: {_error_line(found)}")
    print_lifetimes(found.device, options.read_volts)
    print_line(f"wrote {out} ({size_of(out)}) and {picture} ({size_of(picture)})")


def _error_line(found: Calibration) -> str:
    """Errors of what was fitted and held out, over the range and relative to the branches."""
    from mdls_cosim.report.wording import error_percent

    def said(error: float, branches: float | None) -> str:
        if branches is None:
            return error_percent(error)
        return f"{error_percent(error)} of the range, {error_percent(branches)} of the branches' RMS currents"

    held_out = found.held_out_error
    spared = "nothing was held out" if held_out is None else f"held out {said(held_out, found.held_out_branch_error)}"
    return f"fitted {said(found.error, found.branch_error)}, {spared}"


def _read(asked: CalibrateOptions) -> tuple[list[Measurement], list[Measurement]]:
    """Measurements to fit and to hold out, from tables and lists of tables."""
    from mdls_cosim.calibrate import MeasuredFile, Setup, read_measurement
    from mdls_cosim.config import read_toml
    from mdls_cosim.errors import ConfigError

    options = asked.setup()
    found: tuple[list[Measurement], list[Measurement]] = ([], [])
    read: dict[str, Path] = {}
    Setup.from_text_dict(options, "options")  # so that a wrong option is named as one, not as an entry of a list
    for path, spared in [*((path, False) for path in asked.measured), *((path, True) for path in asked.hold_out or ())]:
        check_input(path)
        check_output(asked.out, True, source=path)
        entries: list[tuple[dict[str, Any], str]] = [({"file": path.name}, str(path))]
        if path.suffix.lower() == ".toml":
            listed = read_toml(path).get("measured")
            if not (isinstance(listed, list) and listed and all(isinstance(each, dict) for each in listed)):
                raise ConfigError(
                    "no list of measurements", where=str(path), limit='tables [[measured]] with a key "file"'
                )
            entries = [(each, f"{path}: measured[{place}]") for place, each in enumerate(listed)]
        for entry, where in entries:
            one = MeasuredFile.from_text_dict({**options, **entry}, where)
            table_path = check_input(path.parent / one.file)
            setup = Setup.model_construct(**{name: getattr(one, name) for name in Setup.model_fields})
            measurements, table = read_measurement(table_path, setup)
            measurements = [_of_device(each, one.device, where) for each in measurements]
            if (same := read.setdefault(table.content_hash, table_path)) != table_path:
                raise ConfigError(
                    "two files of the same content", where=str(table_path)[-80:], value=str(same)[-80:],
                    hint="A copy is no other device, and no measurement that was held out",
                )  # fmt: skip
            found[spared or one.hold_out].extend(measurements)
            for note in table.notes:
                print_line(f"{table_path.name}: {note}")
            if table.unused:
                print_line(f"{table_path.name}: columns not used: {', '.join(table.unused)}")
    return found
