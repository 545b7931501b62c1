"""Experiment `iv`: the I-V of a single cell, at rest and in loops.

One cell between an ideal source and an ideal virtual ground. At rest: swept from -V to +V at conductances over the
span, states held. Loops: a sine A sin(2 pi f t) from the lowest conductance of the span, the state moving by its own
equation, for every frequency and amplitude. A memristor's loop is pinched: I = 0 wherever V = 0; and its lobes shrink
towards high frequency, where the state no longer follows (Chua and Kang, 10.1109/PROC.1976.10092).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mdls_cosim.characterize.circuits import solve
from mdls_cosim.characterize.experiment import Experiment, Found, Span
from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.characterize.transients import check_start, raising_sign, start_states
from mdls_cosim.dataset import Array
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import Amplitude, Frequency, Voltage
from mdls_cosim.spice import Engine, Waves
from mdls_cosim.tiles import TileSpec, gate_voltage, tile_deck


class IvPlan(Experiment):
    """What experiment `iv` sweeps."""

    voltage: Amplitude = 0.3
    """Largest voltage of either sign [V]."""
    points: Annotated[int, Field(ge=3, le=10_001)] = 41
    """Voltages in a sweep."""
    cells: Annotated[int, Field(ge=1, le=1_000)] = 7
    """Conductances, evenly spaced over the span."""
    gates: tuple[Voltage, ...] = ()
    """Gate voltages of cells with a gate [V], at `voltage` and the highest conductance; empty: no gate sweep."""
    frequencies: tuple[Frequency, ...] = ()
    """Of the loops [Hz]; empty: no loops."""
    amplitudes: tuple[Amplitude, ...] = ()
    """Of the loops [V]."""
    loop_cycles: Annotated[int, Field(ge=1, le=1_000)] = 2
    """Periods of the sine; the first starts from the lowest conductance."""
    loop_points: Annotated[int, Field(ge=16, le=10_000)] = 200
    """Samples of a period."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.frequencies) != bool(self.amplitudes):
            raise ConfigError(
                "loops need both",
                where="frequencies, amplitudes",
                value=f"{len(self.frequencies)} frequencies, {len(self.amplitudes)} amplitudes",
                limit="one of each at least, or none",
            )
        return self

    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """One a conductance, one a gate voltage, one a loop: a tile of one cell without any wire."""
        single = tile.bare(1, 1)
        points: list[Point] = [
            IvPoint(f"cell {index}", single, float(value), self._sweep())
            for index, value in enumerate(self._conductances(span))
        ]
        if self.gates and gate_voltage(tile.cell) is None:
            raise ConfigError("a gate sweep of cells without a gate", where="iv.gates", value=tile.cell.model)
        at = np.array([self.voltage])
        points += [GatePoint(f"gate {gate:g} V", single, span[1], at, gate) for gate in self.gates]
        if self.frequencies:
            raising_sign(tile)
        for frequency, amplitude in self._loops():
            label = f"loop {frequency:g} Hz, {amplitude:g} V"
            points.append(LoopPoint(label, single, span[0], amplitude, frequency, self.loop_cycles, self.loop_points))
        return points

    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """`conductances`, `voltages` and `currents`; `gate_currents` at `gates`; `loop_voltages`, `loop_currents`,
        `loop_states`."""
        static = np.stack([result["currents"] for result in results[: self.cells]])
        arrays = {
            "conductances": Array(self._conductances(span), "S", ("cell",)),
            "voltages": Array(np.tile(self._sweep(), (self.cells, 1)), "V", ("cell", "point")),
            "currents": Array(static, "A", ("cell", "point")),
        }
        loops = results[self.cells + len(self.gates) :]
        if self.gates:
            gated = np.concatenate([result["currents"] for result in results[self.cells :][: len(self.gates)]])
            arrays["gates"] = Array(np.array(self.gates), "V", ("gate",))
            arrays["gate_currents"] = Array(gated, "A", ("gate",))
        if not self.frequencies:
            return arrays
        shape, dims = (len(self.frequencies), len(self.amplitudes), -1), ("frequency", "amplitude", "sample")
        arrays["frequencies"] = Array(np.array(self.frequencies), "Hz", ("frequency",))
        arrays["amplitudes"] = Array(np.array(self.amplitudes), "V", ("amplitude",))
        for name, unit in (("voltages", "V"), ("currents", "A"), ("states", "1")):
            found = np.stack([result[f"loop_{name}"] for result in loops])
            arrays[f"loop_{name}"] = Array(found.reshape(shape), unit, dims)
        return arrays

    def _loops(self) -> list[tuple[float, float]]:
        return [(frequency, amplitude) for frequency in self.frequencies for amplitude in self.amplitudes]

    def _sweep(self) -> NDArray[np.float64]:
        return np.linspace(-self.voltage, self.voltage, self.points)

    def _conductances(self, span: tuple[float, float]) -> NDArray[np.float64]:
        return np.linspace(span[0], span[1], self.cells)


@dataclass(frozen=True, eq=False)
class IvPoint(Point):
    """The sweep of one cell; gives `currents` (point,) [A]."""

    experiment: ClassVar[str] = "iv"

    tile: TileSpec
    """Of one cell."""
    conductance: float
    """[S]."""
    voltages: NDArray[np.float64]
    """(point,) [V]."""

    def solve(self, engine: Engine) -> Results:
        return self._currents(engine, None)

    def _currents(self, engine: Engine, gates: list[float] | None) -> Results:
        solution = solve(engine, self.tile, [[self.conductance]], self.voltages[:, None], gates=gates)
        return {"currents": solution.measured([0])[:, 0]}

    def blank(self) -> Results:
        return {"currents": np.full(len(self.voltages), np.nan)}

    @property
    def operating_points(self) -> int:
        return len(self.voltages)


@dataclass(frozen=True, eq=False)
class GatePoint(IvPoint):
    """The sweep of one cell, programmed at the cell's own gate voltage, at another gate voltage."""

    gate: float
    """[V]."""

    def solve(self, engine: Engine) -> Results:
        return self._currents(engine, [self.gate])


@dataclass(frozen=True, eq=False)
class LoopPoint(Point):
    """A sine over one cell; gives `loop_voltages` [V], `loop_currents` [A], `loop_states`, (cycles points + 1,)."""

    experiment: ClassVar[str] = "iv"

    tile: TileSpec
    """Of one cell."""
    start: float
    """Conductance at the beginning [S]."""
    amplitude: float
    """[V]."""
    frequency: float
    """[Hz]."""
    cycles: int
    points: int
    """Samples of a period."""

    def solve(self, engine: Engine) -> Results:
        states = start_states(engine, self.tile, np.full((1, 1), self.start))
        deck = tile_deck(self.tile, states=states, transient=True, nodes=True)
        phase = np.arange(self.cycles * self.points + 1) / self.points
        voltages = self.amplitude * np.sin(2 * np.pi * phase)
        # Straight between samples, which are finer than what is looked at.
        waves = Waves(phase / self.frequency, voltages[:, None], longest_step=1 / (self.frequency * self.points))
        result = engine.transient(deck, waves)
        check_start(self.tile, waves, result, states)
        sampled = result.at(waves.times)
        current, state = (sampled[:, result.probes.index(name)] for name in ("i(vcol0)", "v(state0_0)"))
        state[0], current[0] = states[0, 0], 0.0
        return {"loop_voltages": voltages, "loop_currents": current, "loop_states": state}

    def blank(self) -> Results:
        samples = self.cycles * self.points + 1
        return {name: np.full(samples, np.nan) for name in ("loop_voltages", "loop_currents", "loop_states")}

    @property
    def operating_points(self) -> int:
        return self.cycles * self.points
