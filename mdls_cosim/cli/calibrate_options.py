"""The options of `mdls-cosim calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from mdls_cosim.cli.files import Force

_SETUP = (
    "kind", "columns", "decimal_comma", "frequency", "ramp_rate", "settled", "read_voltage", "temperature",
    "compliance", "current_sign", "skip_missing",
)  # fmt: skip
"""Options that are fields of `calibrate.Setup`; `series_resistance` is one too, unless it is fitted."""


@dataclass(frozen=True)
class CalibrateOptions:
    """What was asked for on the command line."""

    measured: Annotated[
        list[Path],
        Argument(metavar="MEASURED.csv...", help="Measured tables, a .toml that lists them, or a folder of loops."),
    ]
    out: Annotated[Path, Option("--out", metavar="PARAMS.toml", help="The parameter file to write.")]
    device: Annotated[
        str,
        Option(
            "--device", metavar="NAME|auto",
            help="The model to fit to loops (vteam, ...), or auto: all, ranked. For the other kinds: the "
            "model or the parameter file of the device that they belong to.",
        ),
    ] = "auto"  # fmt: skip
    hold_out: Annotated[
        list[Path] | None, Option("--hold-out", metavar="FILE", help="Compared, not fitted; may be repeated.")
    ] = None
    kind: Annotated[
        str | None, Option("--kind", metavar="loop|pulses|levels|drift|endurance", help="If the columns do not tell.")
    ] = None
    columns: Annotated[
        str | None,
        Option(
            "--columns", metavar="TEXT",
            help='Of files without a header: "voltage [V], current [uA]"; "-" skips a column, "..." repeats the last.',
        ),
    ] = None  # fmt: skip
    decimal_comma: Annotated[bool, Option("--decimal-comma", help="Numbers are written 0,5.")] = False
    frequency: Annotated[
        str | None, Option("--frequency", metavar='"10 Hz"', help="Of the sine that drove loops without times.")
    ] = None
    ramp_rate: Annotated[
        str | None, Option("--ramp-rate", metavar='"1 V/s"', help="Of the sweep that drove loops without times.")
    ] = None
    settled: Annotated[
        bool, Option("--settled", help="Loops with times are one period of a drive that had long been repeating.")
    ] = False
    series_resistance: Annotated[
        str | None,
        Option("--series-resistance", metavar='"5 kohm"|fit', help="Of the resistor that applied voltages include."),
    ] = None
    parallel_capacitance: Annotated[
        str | None, Option("--parallel-capacitance", metavar='"1 nF"|fit', help="Of cables across the device.")
    ] = None
    read_voltage: Annotated[
        str | None, Option("--read-voltage", metavar='"0.1 V"', help="Of currents in pulses, levels, drift, endurance.")
    ] = None
    temperature: Annotated[str, Option("--temperature", metavar='"300 K"', help="Ambient.")] = "300 K"
    compliance: Annotated[
        str,
        Option(
            "--compliance", metavar='auto|none|"200 uA"',
            help="Points of loops at a compliance limit are left out: plateaus that are recognized, none, or points at "
            "the limit given.",
        ),
    ] = "auto"  # fmt: skip
    current_sign: Annotated[
        str,
        Option(
            "--current-sign", metavar="keep|reverse|voltage",
            help="reverse: counted out of the device; voltage: magnitudes.",
        ),
    ] = "keep"  # fmt: skip
    skip_missing: Annotated[
        bool, Option("--skip-missing", help="Leave out rows with an empty cell or an overflow code, and count them.")
    ] = False
    cycles_held_out: Annotated[
        int | None, Option("--cycles-held-out", min=0, metavar="N", help="Last cycles of a loop that are not fitted.")
    ] = None
    bootstrap: Annotated[
        int | None, Option("--bootstrap", min=0, metavar="N", help="Fits to resampled data, for the intervals.")
    ] = None
    device_name: Annotated[
        str | None,
        Option(
            "--device-name", metavar="REGEX",
            help="Of a folder: the part of a file's name (the first group, or all of the match) that names its device. "
            "Without it every file is a device of its own.",
        ),
    ] = None  # fmt: skip
    seed: Annotated[int, Option("--seed", min=0, max=2**62, help="Of every random draw.")] = 0
    plot: Annotated[
        Path | None, Option("--plot", metavar="FILE.png", help="Model over data; by default beside PARAMS.toml.")
    ] = None
    resume: Annotated[
        bool, Option("--resume", help="Continue an interrupted --device auto with the fits that are done.")
    ] = False
    force: Force = False

    @property
    def picture(self) -> Path:
        """Where the picture goes."""
        return self.plot or self.out.with_suffix(".png")

    @property
    def ranking(self) -> Path:
        """Where the fits of `--device auto` are kept until all are done."""
        return self.out.with_suffix(".ranking.json")

    @property
    def fitted_series(self) -> Literal["fit"] | None:
        """The series resistance is fitted."""
        return "fit" if self.series_resistance == "fit" else None

    @property
    def read_volts(self) -> float | None:
        """The read voltage [V]; None where it is not given."""
        from mdls_cosim.quantities import parse_quantity

        return None if self.read_voltage is None else parse_quantity(self.read_voltage, "volt")

    def setup(self) -> dict[str, Any]:
        """The options of every file, as `calibrate.Setup` takes them from text."""
        given = {name: getattr(self, name) for name in _SETUP}
        given["series_resistance"] = None if self.fitted_series else self.series_resistance
        return {name: value for name, value in given.items() if value not in (None, False)}

    def capacitance(self) -> float | Literal["fit"]:
        """The capacitance across the device [F].

        Raises:
            ConfigError: it is not a capacitance.
        """
        from mdls_cosim.quantities import parse_quantity

        if self.parallel_capacitance == "fit":
            return "fit"
        return 0.0 if self.parallel_capacitance is None else parse_quantity(self.parallel_capacitance, "farad")
