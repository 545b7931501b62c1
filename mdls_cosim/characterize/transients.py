"""What experiments in time share: pulses as waves of sources, and the way between states and conductances."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdls_cosim.characterize.circuits import cell_conductances, programmed
from mdls_cosim.devices import DynamicDevice, Memristor
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.spice import Engine, Waveforms, Waves
from mdls_cosim.tiles import SubcircuitCell, TileSpec

Floats = NDArray[np.float64]

EDGE = 0.1
"""Rise and fall of a pulse, as a share of its width."""
_MOVING = sorted(kind.spice_model for kind in get_args(Memristor) if issubclass(kind, DynamicDevice))
_FIRST_STEPS = 4  # of a transient, after which its states are compared with what was set
_START = 0.01  # a state's first value may miss what was set by so much of its range
_STEPS = 20  # longest internal step: so many a width; ngspice takes smaller ones where it has to


def raising_sign(tile: TileSpec) -> int:
    """Sign of the cell voltage that raises the conductance.

    Raises:
        ConfigError: the state of these cells does not move.
    """
    cell, device = tile.cell, tile.device
    if isinstance(cell, SubcircuitCell) and "state" in cell.pins:
        return 1 if cell.state.raised_by == "positive" else -1
    if not isinstance(device, DynamicDevice):
        raise ConfigError(
            "these cells have no state that moves",
            where="tile.cell",
            value=cell.model if device is None else device.spice_model,
            limit=f'{", ".join(_MOVING)}, or a subcircuit with a pin "state"',
            hint="Experiments iv (loops), pulse and write need one.",
        )
    return device.raising_sign


def start_states(engine: Engine, tile: TileSpec, conductances: Floats) -> Floats:
    """The states that show these conductances (rows, cols) [S]."""
    given = programmed(engine, tile, conductances)
    if "states" in given:
        return given["states"]
    assert tile.device is not None
    return np.asarray(tile.device.state_for(given["conductances"], tile.reference_voltage))


def check_start(tile: TileSpec, waves: Waves, result: Waveforms, states: Floats) -> None:
    """Refuse a transient in which the states of users' cells do not start where they were set, (rows, cols).

    Raises:
        InputError: a capacitor inside the cell, which is not seen in its text, sets another voltage.
    """
    cell = tile.cell
    if not isinstance(cell, SubcircuitCell):
        return
    found = states_at(tile, result, _FIRST_STEPS * waves.first_step)[0][0]
    size = max(abs(cell.state.lowest), abs(cell.state.highest), cell.state.highest - cell.state.lowest)
    wrong = ~(np.abs(found - states) <= _START * size)
    if wrong.any():
        row, col = (int(index) for index in np.argwhere(wrong)[0])
        raise InputError(
            f"the state of {cell.subcircuit} does not start where it was set",
            where=f"row {row}, column {col}",
            value=f"{found[row, col]:.6g}",
            limit=f"{states[row, col]:.6g}",
            hint="Is there a capacitor, or a source, at the pin of the state inside the cell?",
        )


def conductances_of(engine: Engine, tile: TileSpec, states: Floats, second_states: Floats | None = None) -> Floats:
    """I/V of the memristor alone in these states, any shape, at the tile's reference voltage [S]."""
    if tile.device is None:
        second = None if second_states is None else second_states.ravel()
        return cell_conductances(engine, tile, states.ravel(), second).reshape(states.shape)
    return np.asarray(tile.device.conductance(states, tile.reference_voltage))


def states_at(tile: TileSpec, result: Waveforms, times: ArrayLike) -> tuple[Floats, Floats | None]:
    """States, and second states where the cells have them, at times [s]: (times, rows, cols)."""
    cells = [f"{row}_{col}" for row in range(tile.rows) for col in range(tile.cols)]
    sampled = result.at(times)

    def of(line: str) -> Floats:
        chosen = sampled[:, [result.probes.index(f"v({line}{cell})") for cell in cells]]
        return chosen.reshape(-1, tile.rows, tile.cols)

    two = isinstance(tile.cell, SubcircuitCell) and tile.cell.second_state is not None
    return of("state"), of("second") if two else None


def pulse_train(voltages: Floats, width: float) -> tuple[Waves, Floats]:
    """Trapezoidal pulses of `voltages` (pulses, sources) [V], `width` [s] at full voltage, a width of pause after each.

    Returns the waves, and the time at which each pulse has ended and its pause is over, (pulses,) [s].
    """
    count, sources = voltages.shape
    edge = EDGE * width
    knots = np.cumsum([edge, width, edge, width])
    period = knots[-1]
    times = (np.arange(count)[:, None] * period + knots).ravel()
    values = np.zeros((count, 4, sources))
    values[:, :2] = voltages[:, None]
    waves = Waves(
        np.concatenate([[0.0], times]),
        np.concatenate([np.zeros((1, sources)), values.reshape(-1, sources)]),
        longest_step=width / _STEPS,
    )
    return waves, times[3::4]
