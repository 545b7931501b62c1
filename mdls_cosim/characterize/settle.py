"""Experiment `settle`: how long a tile's outputs take after its inputs change.

Line capacitances to ground and cell capacitances charge through drivers, wires, cells and the sense side: from rest,
all rows step to their voltages within `rise`, and each column's output (its current; behind an amplifier its sensed
current) approaches that of the operating point. It has settled when it stays within half a least significant bit,

    |I(t) - I(inf)| <= FS / 2^(bits + 1),     FS: the largest |I(inf)| of the tile over all inputs drawn.

For a line alone this is the step response of a distributed RC line, of Elmore delay sum_k R_k C_k
(10.1063/1.1697872).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mdls_cosim.characterize.circuits import programmed, solve
from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.patterns import (
    CONDUCTANCE_CLASSES,
    INPUT_CLASSES,
    ConductanceClass,
    InputClass,
    draw_conductances,
    draw_inputs,
)
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.dataset import Array
from mdls_cosim.errors import ConfigError, SpiceNoConvergence
from mdls_cosim.quantities import Amplitude, Duration
from mdls_cosim.spice import Engine, Waves
from mdls_cosim.tiles import TileSpec, measured_currents, per_line, tile_deck

Floats = NDArray[np.float64]

RISE = 10e-12
"""Time in which the sources reach their voltage, unless it is given [s]."""
_SAMPLES = 200  # of the waveform kept for a plot
_MOST_EXTENSIONS = 12


class SettlePlan(Experiment):
    """What experiment `settle` steps."""

    voltage: Amplitude = 0.3
    """Largest row voltage [V]."""
    bits: Annotated[int, Field(ge=1, le=16, strict=True)] = 6
    """Of the converter whose half step is the band."""
    rise: Duration = RISE
    """Time in which the sources reach their voltage [s]."""
    conductance_classes: Annotated[tuple[ConductanceClass, ...], Field(min_length=1)] = ("uniform",)
    """Classes of conductances; one tile of each."""
    input_classes: Annotated[tuple[InputClass, ...], Field(min_length=1)] = INPUT_CLASSES
    """Classes of inputs; one input of each for every tile."""

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One a tile."""
        if not (tile.row_line_capacitance or tile.column_line_capacitance or tile.cell_capacitance):
            raise ConfigError(
                "a tile without capacitance settles at once",
                where="tile",
                limit="row_line_capacitance, column_line_capacitance or cell_capacitance above 0 F",
            )
        generator = np.random.default_rng(seed)
        points: list[Point] = []
        for kind in self.conductance_classes:
            conductances = draw_conductances(kind, tile.rows, tile.cols, span, generator)
            inputs = [draw_inputs(each, 1, tile.rows, self.voltage, generator) for each in self.input_classes]
            points.append(SettlePoint(kind, tile, self.bits, self.rise, conductances, np.concatenate(inputs)))
        return points

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`settling_time`, `final_currents` (tile, vector, col); `waveforms` of the slowest output."""
        points = [point for point in self.make_points(tile, span, seed) if isinstance(point, SettlePoint)]
        stacked = {name: np.stack([result[name] for result in results]) for name in results[0]}
        return {
            "conductances": Array(np.stack([point.conductances for point in points]), "S", ("tile", "row", "col")),
            "voltages": Array(np.stack([point.voltages for point in points]), "V", ("tile", "vector", "row")),
            "settling_time": Array(stacked["settling_time"], "s", ("tile", "vector", "col")),
            "final_currents": Array(stacked["final_currents"], "A", ("tile", "vector", "col")),
            "waveform_times": Array(stacked["waveform_times"], "s", ("tile", "vector", "sample")),
            "waveforms": Array(stacked["waveforms"], "A", ("tile", "vector", "sample")),
            "conductance_class": Array(
                np.array([CONDUCTANCE_CLASSES.index(kind) for kind in self.conductance_classes]), "1", ("tile",)
            ),
            "input_class": Array(
                np.array([INPUT_CLASSES.index(kind) for kind in self.input_classes]), "1", ("vector",)
            ),
        }


@dataclass(frozen=True, eq=False)
class SettlePoint(Point):
    """Steps of one tile; gives `settling_time` [s], `final_currents` [A] (vector, col), and of the slowest output of
    every vector `waveforms` [A] at `waveform_times` [s] (vector, sample)."""

    experiment: ClassVar[str] = "settle"

    tile: TileSpec
    bits: int
    rise: float
    conductances: Floats
    voltages: Floats
    """(vector, row) [V]."""

    def solve(self, engine: Engine) -> Results:
        tile, columns = self.tile, range(self.tile.cols)
        final = solve(engine, tile, self.conductances, self.voltages).measured(columns)
        band = np.abs(final).max() / 2 ** (self.bits + 1)
        deck = tile_deck(tile, **programmed(engine, tile, self.conductances), transient=True)
        times, sampled_times, samples = np.zeros(final.shape), [], []
        for vector, voltages in enumerate(self.voltages):
            stop = self.rise + 5 * slowest_time_constant(tile, self.conductances)
            for _ in range(_MOST_EXTENSIONS):
                waves = Waves(
                    np.array([0.0, self.rise, stop]),
                    np.stack([np.zeros_like(voltages), voltages, voltages]),
                    longest_step=stop / 50,
                )
                result = engine.transient(deck, waves)
                miss = np.abs(measured_currents(tile, result, columns) - final[vector])
                # Settled for good, as far as can be told: well inside the band over the last third.
                if (miss[result.times > 2 * stop / 3] < band / 2).all():
                    break
                stop *= 2
            else:
                raise SpiceNoConvergence("the outputs do not settle", where=deck.title, value=f"not in {stop:.3g} s")
            times[vector] = [_last_crossing(result.times, miss[:, col], band) for col in columns]
            slowest = int(times[vector].argmax())
            shown = np.linspace(0.0, min(stop, 1.5 * times[vector, slowest] + self.rise), _SAMPLES)
            currents = measured_currents(tile, result, [slowest])[:, 0]
            sampled_times.append(shown)
            samples.append(np.interp(shown, result.times, currents))
        return {
            "settling_time": times,
            "final_currents": final,
            "waveform_times": np.stack(sampled_times),
            "waveforms": np.stack(samples),
        }

    def blank(self) -> Results:
        outputs, samples = (len(self.voltages), self.tile.cols), (len(self.voltages), _SAMPLES)
        shapes = {"settling_time": outputs, "final_currents": outputs, "waveform_times": samples, "waveforms": samples}
        return {name: np.full(shape, np.nan) for name, shape in shapes.items()}

    @property
    def operating_points(self) -> int:
        return len(self.voltages)


@dataclass(frozen=True, eq=False)
class TimedReadPoint(Point):
    """Reads of one tile, each from rest and measured while it settles; gives `currents` (vector, col) [A].

    All rows step from 0 V to their voltages within `RISE` (or a tenth of the read, if that is less). What the sense
    side says at the end of the read is the current; states that move do so from where they were set.
    """

    experiment: ClassVar[str] = "read"

    tile: TileSpec
    conductances: Floats
    """(row, col) [S]."""
    voltages: Floats
    """(vector, row) [V]."""
    read_time: float
    """From when the rows begin to step [s]."""

    def solve(self, engine: Engine) -> Results:
        deck = tile_deck(self.tile, **programmed(engine, self.tile, self.conductances), transient=True)
        rise = min(RISE, self.read_time / 10)
        found = []
        for voltages in self.voltages:
            waves = Waves(
                np.array([0.0, rise, self.read_time]),
                np.stack([np.zeros_like(voltages), voltages, voltages]),
                longest_step=self.read_time / 50,
            )
            found.append(measured_currents(self.tile, engine.transient(deck, waves), range(self.tile.cols))[-1])
        return {"currents": np.stack(found)}

    def blank(self) -> Results:
        return {"currents": np.full((len(self.voltages), self.tile.cols), np.nan)}

    @property
    def operating_points(self) -> int:
        return len(self.voltages)


def slowest_time_constant(tile: TileSpec, conductances: Floats) -> float:
    """About how long lines and amplifier take [s].

    All of a line's resistance times all of its capacitance, and an amplifier's noise gain 1 + R_f sum(G) over
    2 pi GBW.
    """
    drivers, row_wires = (max(per_line(each, tile.rows)) for each in (tile.driver_resistance, tile.row_line_resistance))
    senses, column_wires = (
        max(per_line(each, tile.cols)) for each in (tile.sense_resistance, tile.column_line_resistance)
    )
    row_resistance = drivers + tile.cols * row_wires
    column_resistance = senses + tile.rows * column_wires
    row = row_resistance * tile.cols * (tile.row_line_capacitance + tile.cell_capacitance)
    column = column_resistance * tile.rows * (tile.column_line_capacitance + tile.cell_capacitance)
    pole = 0.0
    if tile.amplifier is not None:
        noise_gain = 1 + tile.amplifier.feedback_resistance * float(conductances.sum(axis=0).max())
        pole = noise_gain / (2 * np.pi * tile.amplifier.gain_bandwidth)
    return max(row + column + pole, 1e-13)


def _last_crossing(times: Floats, miss: Floats, band: float) -> float:
    """The last time at which `miss` leaves the band, by linear interpolation [s]; 0 if it never did."""
    outside = np.flatnonzero(miss > band)
    if not len(outside):
        return 0.0
    last = int(outside[-1])
    share = (miss[last] - band) / (miss[last] - miss[last + 1])
    return float(times[last] + share * (times[last + 1] - times[last]))
