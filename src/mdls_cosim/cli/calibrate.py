"""`mdls-cosim calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdls_cosim.cli.app import app
from mdls_cosim.cli.cells import print_lifetimes
from mdls_cosim.cli.files import Force, check_input, check_output, size_of
from mdls_cosim.cli.terminal import print_line, print_table, progress_bar

if TYPE_CHECKING:
    from mdls_cosim.calibrate import Calibration, Measurement

Option = typer.Option


@app.command()
def calibrate(
    measured: Annotated[
        list[Path], typer.Argument(metavar="MEASURED.csv...", help="Measured tables, or a .toml listing them.")
    ],
    out: Annotated[Path, Option("--out", metavar="PARAMS.toml", help="The parameter file to write.")],
    device: Annotated[
        str,
        Option(
            "--device", metavar="NAME|auto",
            help="The model to fit to loops (vteam, ...), or auto: all, ranked. For the other kinds: the "
            "model or the parameter file of the device that they belong to.",
        ),
    ] = "auto",
    hold_out: Annotated[
        list[Path] | None, Option("--hold-out", metavar="FILE", help="Compared, not fitted; may be repeated.")
    ] = None,
    kind: Annotated[
        str | None, Option("--kind", metavar="loop|pulses|levels|drift|endurance", help="If the columns do not tell.")
    ] = None,
    columns: Annotated[
        str | None,
        Option("--columns", metavar="TEXT", help='Of files without a header: "voltage [V], current [uA]"; "-" skips a '
               'column, "..." repeats the last.'),
    ] = None,
    decimal_comma: Annotated[bool, Option("--decimal-comma", help="Numbers are written 0,5.")] = False,
    frequency: Annotated[
        str | None, Option("--frequency", metavar='"10 Hz"', help="Of the sine that drove loops without times.")
    ] = None,
    ramp_rate: Annotated[
        str | None, Option("--ramp-rate", metavar='"1 V/s"', help="Of the sweep that drove loops without times.")
    ] = None,
    settled: Annotated[
        bool, Option("--settled", help="Loops with times are one period of a drive that had long been repeating.")
    ] = False,
    series_resistance: Annotated[
        str | None,
        Option("--series-resistance", metavar='"5 kohm"|fit', help="Of the resistor that applied voltages include."),
    ] = None,
    parallel_capacitance: Annotated[
        str | None, Option("--parallel-capacitance", metavar='"1 nF"|fit', help="Of cables across the device.")
    ] = None,
    read_voltage: Annotated[
        str | None, Option("--read-voltage", metavar='"0.1 V"', help="Of currents in pulses, levels, drift, endurance.")
    ] = None,
    temperature: Annotated[str, Option("--temperature", metavar='"300 K"', help="Ambient.")] = "300 K",
    compliance: Annotated[
        str,
        Option("--compliance", metavar='auto|none|"200 uA"', help="Points of loops at a compliance limit are left out: "
               "plateaus that are recognized, none, or points at the limit given."),
    ] = "auto",
    current_sign: Annotated[
        str,
        Option("--current-sign", metavar="keep|reverse|voltage", help="reverse: counted out of the device; voltage: "
               "magnitudes."),
    ] = "keep",
    skip_missing: Annotated[
        bool, Option("--skip-missing", help="Leave out rows with an empty cell or an overflow code, and count them.")
    ] = False,
    cycles_held_out: Annotated[
        int | None, Option("--cycles-held-out", min=0, metavar="N", help="Last cycles of a loop that are not fitted.")
    ] = None,
    bootstrap: Annotated[
        int | None, Option("--bootstrap", min=0, metavar="N", help="Fits to resampled data, for the intervals.")
    ] = None,
    seed: Annotated[int, Option("--seed", min=0, help="Of every random draw.")] = 0,
    plot: Annotated[
        Path | None, Option("--plot", metavar="FILE.png", help="Model over data; by default beside PARAMS.toml.")
    ] = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Calibrate a device on measurements.

    Reads measured I-V loops, pulse trains, tables of levels, drift traces or endurance tables, finds the parameters of
    a device model and how well they are known, and writes a parameter file that a tile names:
    parameters = "PARAMS.toml". Columns carry their units: time [s], voltage [V] (over the device), applied voltage [V]
    (over device and resistor), current [uA],
    conductance [uS], resistance [kohm], target [uS], on resistance [kohm], off resistance [kohm]; cycle, ramp, pulse,
    level and device are numbers. Other columns are ignored.

    \b
    Examples:
      mdls-cosim calibrate loop.csv --device vteam --out mine.toml
      mdls-cosim calibrate 1Hz.csv 100Hz.csv --hold-out 10Hz.csv --device auto --out mine.toml
      mdls-cosim calibrate sine.csv --columns "applied voltage [V], current [uA]" --frequency "10 Hz"
        --series-resistance "5 kohm" --device metastable_switch --out mine.toml
      mdls-cosim calibrate ramps.csv --columns "current [A], ..." --read-voltage "0.1 V" --out pulses.toml
    \b
    Files with a setup each stand in a .toml, its keys named as the options:
      [[measured]]
      file = "10Hz.csv"
      frequency = "10 Hz"
      hold_out = true
    """
    check_output(out, force)
    picture = plot or out.with_suffix(".png")
    from mdls_cosim.calibrate import calibrate as run
    from mdls_cosim.errors import ConfigError
    from mdls_cosim.quantities import parse_quantity

    if picture.suffix.lower() != ".png":
        raise ConfigError("not a kind of plot", where="--plot", value=picture.name, limit="FILE.png")
    check_output(picture, force)
    fitted_series = series_resistance == "fit"
    options: dict[str, Any] = {
        "kind": kind, "columns": columns, "decimal_comma": decimal_comma, "frequency": frequency,
        "ramp_rate": ramp_rate, "settled": settled, "series_resistance": None if fitted_series else series_resistance,
        "read_voltage": read_voltage, "temperature": temperature, "compliance": compliance,
        "current_sign": current_sign, "skip_missing": skip_missing,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value not in (None, False)}
    measurements, spared = _read(measured, hold_out or [], given, out)
    capacitance: Any = parallel_capacitance
    if capacitance != "fit":
        capacitance = parse_quantity(capacitance, "farad") if capacitance is not None else 0.0
    whole = [each for each in (*measurements, *spared) if getattr(each, "applied", False)]
    if bare := [each for each in whole if getattr(each, "series_resistance", None) is None and not fitted_series]:
        raise ConfigError(
            "applied voltages without the series resistance", where=bare[0].name,
            hint='Give it: --series-resistance "5 kohm", or --series-resistance fit',
        )  # fmt: skip
    with progress_bar("fitting") as advance:
        found = run(
            measurements, device, held_out=spared, cycles_held_out=cycles_held_out,
            series_resistance="fit" if fitted_series else None, parallel_capacitance=capacitance,
            bootstrap=bootstrap, seed=seed, progress=advance,
        )  # fmt: skip
    from mdls_cosim.report.calibration import draw_calibration, error_table, ranking_table, value_table
    from mdls_cosim.report.figures import to_png
    from mdls_cosim.report.loop_panels import branch_table, state_table

    drawn = to_png(draw_calibration(found))
    found.save(out)
    picture.write_bytes(drawn)
    print_table(value_table(found), f"{found.title}; intervals: {found.method}")
    print_table(error_table(found), found.error_meaning)
    print_table(branch_table(found), "Error of each branch, relative to its RMS current (out and back: to their own)")
    print_table(state_table(found), "Measured / model near a voltage over the device")
    print_table(ranking_table(found), "Ranking")
    print_line()
    for note in found.notes:
        print_line(f"note: {note}")
    print_line(f"error: {_error_line(found)}")
    print_lifetimes(found.device, None if read_voltage is None else parse_quantity(read_voltage, "volt"))
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


def _read(
    measured: list[Path], hold_out: list[Path], options: dict[str, Any], out: Path
) -> tuple[list[Measurement], list[Measurement]]:
    """Measurements to fit and to hold out, from tables and lists of tables."""
    from mdls_cosim.calibrate import MeasuredFile, Setup, read_measurement
    from mdls_cosim.config import read_toml
    from mdls_cosim.errors import ConfigError

    found: tuple[list[Measurement], list[Measurement]] = ([], [])
    Setup.from_text_dict(options, "options")  # so that a wrong option is named as one, not as an entry of a list
    for path, spared in [*((path, False) for path in measured), *((path, True) for path in hold_out)]:
        check_input(path)
        check_output(out, True, source=path)
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
            found[spared or one.hold_out].extend(measurements)
            for note in table.notes:
                print_line(f"{table_path.name}: {note}")
            if table.unused:
                print_line(f"{table_path.name}: columns not used: {', '.join(table.unused)}")
    return found
