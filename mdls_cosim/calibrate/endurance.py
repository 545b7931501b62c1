"""Endurance tables: how the window between on and off closes with switching cycles, and when cells fail."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, brentq, least_squares

from mdls_cosim.calibrate.measurement import EnduranceTable
from mdls_cosim.calibrate.result import Calibration, Value
from mdls_cosim.calibrate.table_file import TableFile
from mdls_cosim.devices import Device
from mdls_cosim.devices.variability import Endurance, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.quantities import format_quantity

LEAST_CYCLES = 6
"""Rows of a device: fewer do not give a law."""

_STUCK = 0.2
"""Share of the first window below which a cell counts as failed, to the end of its record..."""
_ABRUPT = 2.5
"""...and by how many times the window was larger just before."""
_ASSUMED_SHAPE = 2.0
"""Weibull's slope where too few cells failed to tell it."""
_LEAST_FAILED = 3
"""Failed cells that a shape is fitted to."""
_CLOSES = 16.0
"""Reduction of chi^2 by three more parameters from which on the window closes at all."""
_NO_ONSET = 1e3
"""Cycles: the default of the effect, where nothing closes."""


@dataclass(frozen=True, eq=False)
class EnduranceFit:
    """The law of `devices.variability.Endurance` fitted to a table, conductances in S."""

    on: float
    """Before any cycle [S]."""
    off: float
    """Before any cycle [S]."""
    closing: float
    """Part of the window that is lost in a decade of cycles."""
    onset: float
    """Cycles from which on it closes."""
    centre: float
    """Where it closes to: 0 the off conductance, 1 the on conductance."""
    lifetime: float | None
    """Cycles after which 63 % of the cells have failed; None: none failed."""
    shape: float
    """Weibull's slope of the lives."""
    fails: str
    """Where most failed cells stay: "on" or "off"."""
    failed: int
    """Cells that failed."""
    devices: int
    intervals: dict[str, tuple[float, float]]
    """95 %, from tables drawn with replacement."""
    error: float
    """RMS of measured less fitted conductances over the first window."""
    held_out: float | None
    """The same of the last quarter of the cycles, fitted to the others."""
    alive: np.ndarray
    """(rows,) of bool: the cell had not failed."""
    notes: tuple[str, ...] = ()

    def conductances(self, cycles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """On and off conductances [S] after `cycles`."""
        return _law(np.array([self.on, self.off, self.closing, self.onset, self.centre]), cycles)


def endurance_columns(table: TableFile) -> tuple[str, ...]:
    """The columns of `table` that hold both states; empty where there are none."""
    for quantity in ("conductance", "resistance", "current"):
        names = (f"on {quantity}", f"off {quantity}")
        if all(table.has(name) for name in names):
            return names
    return ()


def read_endurance(table: TableFile, read_voltage: float | None) -> EnduranceTable:
    """The endurance table in a file: cycle, and on and off conductance, resistance, or current at a read voltage.

    Raises:
        InputError: columns are missing, or a resistance is not above zero.
    """
    names = endurance_columns(table)
    if not names:
        raise InputError(
            "no columns for the on and the off state", where=table.path,
            value=", ".join(column.name for column in table.columns),
            hint='Name them "on resistance [kohm]" and "off resistance [kohm]", or conductances, or currents',
        )  # fmt: skip
    states = []
    for name in names:
        values = table.column(name)
        if name.endswith("resistance"):
            if values.min() <= 0:
                raise InputError(f"an {name} that is not above zero", where=table.path, value=float(values.min()))
            values = 1 / values
        elif name.endswith("current"):
            if not read_voltage:
                raise InputError(
                    "currents without their read voltage", where=table.path, hint='Give it: --read-voltage "0.1 V"'
                )
            values = values / read_voltage
        states.append(values)
    device = table.counts("device") if table.has("device") else np.zeros(len(table.lines), dtype=np.int64)
    return EnduranceTable(table.name, table.column("cycle"), states[0], states[1], device, table.content_hash)


def fit_endurance(table: EnduranceTable, *, bootstrap: int = 100, seed: int = 0) -> EnduranceFit:
    """The closing window and the lives of the cells in `table`.

    A cell has failed where its window stays below a fifth of what it was at first, after a sudden loss of more than
    half; what it shows from there on is not fitted. The window law is fitted to the rest by least squares, robust
    against outliers (soft L1); lives are Weibull's, cells that did not fail being censored at their last cycle.
    Leaves out the spread from cell to cell: `calibrate` of a table of levels gives that.

    Raises:
        InputError: too few cycles, or no window between on and off.
    """
    numbers, places = np.unique(table.device, return_inverse=True)
    if min(np.bincount(places)) < LEAST_CYCLES:
        raise InputError(
            "too few cycles for an endurance law", where=table.name, value=int(min(np.bincount(places))),
            limit=f"{LEAST_CYCLES} or more rows of each device",
        )  # fmt: skip
    lives, ended, stays, alive = [], [], [], np.ones(len(table.cycles), dtype=bool)
    for number in numbers:
        rows = np.flatnonzero(table.device == number)
        rows = rows[np.argsort(table.cycles[rows], kind="stable")]
        begin = _failure(table.on[rows] - table.off[rows])
        ended.append(begin is not None)
        lives.append(float(table.cycles[rows[-1 if begin is None else begin]]))
        if begin is not None:
            alive[rows[begin:]] = False
            middle = (np.median(table.on[rows[:begin]]) + np.median(table.off[rows[:begin]])) / 2
            stays.append(float(np.mean(table.on[rows[begin:]] + table.off[rows[begin:]])) / 2 > middle)
    if alive.sum() < LEAST_CYCLES:
        raise InputError("too few cycles before the cells fail", where=table.name, value=int(alive.sum()))
    best = _fit(table.cycles[alive], table.on[alive], table.off[alive])
    span = best[0] - best[1]
    if span <= 0:
        raise InputError(
            "no window between on and off", where=table.name,
            value=f"{format_quantity(best[0], 'S', 3)} on, {format_quantity(best[1], 'S', 3)} off",
            hint="Exchange the columns, if the on state is the one of the lower conductance in the file",
        )  # fmt: skip
    lifetime, shape = _weibull(np.array(lives), np.array(ended))
    failed = int(np.sum(ended))
    on, off, closing, onset, centre = best.tolist()
    fit = EnduranceFit(
        on, off, closing, onset, centre, lifetime, shape, "on" if 2 * sum(stays) >= max(failed, 1) else "off", failed,
        len(numbers), {}, _miss(best, table, alive, span), _held_out(table, alive), alive,
    )  # fmt: skip
    intervals = _intervals(table, best, alive, np.array(lives), np.array(ended), places, bootstrap, seed)
    return dataclasses.replace(fit, intervals=intervals, notes=_notes(fit, float(table.cycles.max())))


def _notes(fit: EnduranceFit, last: float) -> tuple[str, ...]:
    notes = []
    if not fit.closing:
        notes.append(f"the window does not close beyond the scatter up to {last:.3g} cycles")
    lost = 1 - max(1 - fit.closing * np.log10(1 + last / fit.onset), 0.0)
    if fit.closing:
        notes.append(f"{lost:.1%} of the window is lost after {last:.3g} cycles; later ones are extrapolated")
    if not fit.failed:
        notes.append(f"no cell failed up to {last:.3g} cycles: no lifetime")
    else:
        notes.append(f"{fit.failed} of {fit.devices} cells failed, {fit.fails} at the end")
        if fit.failed < _LEAST_FAILED:
            notes.append(f"fewer than {_LEAST_FAILED} failed cells: Weibull's slope is assumed, {_ASSUMED_SHAPE:g}")
    return tuple(notes)


def calibrate_endurance(table: EnduranceTable, device: Device, bootstrap: int | None, seed: int) -> Calibration:
    """A Calibration of an endurance table: `fit_endurance`, with the device that it belongs to."""
    fit = fit_endurance(table, bootstrap=100 if bootstrap is None else bootstrap, seed=seed)
    units = {"on": "S", "off": "S"}
    names = {"on": "on_conductance", "off": "off_conductance"}
    values = {
        names.get(name, name): Value.within(getattr(fit, name), units.get(name, ""), fit.intervals.get(name))
        for name in ("on", "off", "closing", *(("onset", "centre") if fit.closing else ()), "lifetime", "shape")
        if getattr(fit, name) is not None and (name != "shape" or fit.failed >= _LEAST_FAILED)
    }
    effect = Endurance(
        closing=fit.closing, onset=fit.onset, centre=fit.centre, lifetime=fit.lifetime, shape=fit.shape,
        fails=fit.fails,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    on, off = fit.conductances(table.cycles)
    everything = np.concatenate([table.on, table.off])
    return Calibration(
        title=f"Endurance calibrated on {table.name}",
        kind="endurance",
        device=device,
        values=values,
        method=f"{100 if bootstrap is None else bootstrap} tables drawn with replacement",
        errors={table.name: fit.error},
        held_out={} if fit.held_out is None else {"last quarter of the cycles": fit.held_out},
        error_meaning="RMS of measured less fitted conductances, over the first window",
        variability=Variability(effects=(effect,)),
        notes=fit.notes,
        validity={"conductance": (float(everything.min()), float(everything.max()), "siemens")},
        seed=seed,
        modelled={"on": on, "off": off},
        measurements=((table, False),),
    )


def _law(values: np.ndarray, cycles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on, off, closing, onset, centre = values
    lost = 1 - np.maximum(1 - closing * np.log10(1 + cycles / onset), 0.0)
    return on - lost * (1 - centre) * (on - off), off + lost * centre * (on - off)


def _fit(cycles: np.ndarray, on: np.ndarray, off: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
    """on, off, closing, onset and center of least squares; each state counts by its own scatter.

    Where a window that does not close fits as well, it is the answer. `near`: values to begin at; None: several.
    """
    scatter = [max(_noise(cycles, values), 1e-3 * float(np.abs(values).mean()), 1e-30) for values in (on, off)]
    most = max(float(cycles.max()), 2.0)
    first = np.argsort(cycles, kind="stable")[: max(len(cycles) // 4, 3)]
    high, low = float(np.median(on[first])), float(np.median(off[first]))
    span = max(high - low, 1e-3 * max(abs(high), 1e-30))

    def values(shares: np.ndarray) -> np.ndarray:
        return np.array([high + span * shares[0], low + span * shares[1], shares[2], most ** shares[3], shares[4]])

    def residuals(shares: np.ndarray) -> np.ndarray:
        found = _law(values(shares), cycles)
        return np.concatenate([(found[0] - on) / scatter[0], (found[1] - off) / scatter[1]])

    def solved(start: tuple[float, ...], most_closing: float) -> OptimizeResult:
        bounds = ((-1.0, -1.0, 0.0, 0.0, 0.0), (1.0, 1.0, most_closing, 1.0, 1.0))
        return least_squares(residuals, start, bounds=bounds, loss="soft_l1", max_nfev=200)

    starts = [(0.0, 0.0, 0.1, onset, center) for onset in (0.2, 0.5, 0.8) for center in (0.2, 0.8)]
    if near is not None:
        starts = [(0.0, 0.0, float(near[2]), float(np.clip(np.log(near[3]) / np.log(most), 0, 1)), float(near[4]))]
        starts = [tuple(np.clip(starts[0], 1e-6, 1 - 1e-6))]
    best = min((solved(start, 1.0) for start in starts), key=lambda fit: fit.cost)
    still = solved((0.0, 0.0, 0.0, 0.5, 0.5), 1e-12)
    if 2 * (still.cost - best.cost) < _CLOSES:
        on_value, off_value = values(still.x)[:2]
        return np.array([on_value, off_value, 0.0, _NO_ONSET, 0.5])
    return values(best.x)


def _noise(cycles: np.ndarray, values: np.ndarray) -> float:
    ordered = values[np.argsort(cycles, kind="stable")]
    return float(np.median(np.abs(np.diff(ordered))) / (0.6745 * np.sqrt(2)))


def _failure(window: np.ndarray) -> int | None:
    """Place from which on the cell has failed, or None."""
    first = float(np.median(window[: max(len(window) // 4, 3)]))
    small = window < _STUCK * first
    if not small[-1] or first <= 0:
        return None
    begin = len(window) - int(np.argmin(small[::-1])) if not small.all() else 0
    if begin == 0:
        return None
    before = float(np.median(window[max(begin - 3, 0) : begin]))
    return begin if before > _ABRUPT * max(float(np.median(window[begin : begin + 3])), 0.0) else None


def _weibull(lives: np.ndarray, ended: np.ndarray) -> tuple[float | None, float]:
    """Lifetime and slope of the greatest likelihood; lives of cells that did not fail are censored."""
    if not ended.any():
        return None, _ASSUMED_SHAPE
    scale = float(lives.max())
    logs = np.log(np.maximum(lives, 1e-9) / scale)
    shape = _ASSUMED_SHAPE
    if ended.sum() >= _LEAST_FAILED:

        def slope(shape: float) -> float:
            weight = np.exp(shape * logs)
            return float(weight @ logs / weight.sum() - 1 / shape - logs[ended].mean())

        low, high = 0.05, 50.0
        shape = float(brentq(slope, low, high)) if slope(low) < 0 < slope(high) else high  # pyright: ignore[reportArgumentType]
    return scale * float((np.exp(shape * logs).sum() / ended.sum()) ** (1 / shape)), shape


def _miss(values: np.ndarray, table: EnduranceTable, rows: np.ndarray, span: float) -> float:
    on, off = _law(values, table.cycles[rows])
    return float(np.sqrt(np.mean(np.concatenate([on - table.on[rows], off - table.off[rows]]) ** 2)) / span)


def _held_out(table: EnduranceTable, alive: np.ndarray) -> float | None:
    """Error of the last quarter of the cycles of cells that live, fitted to the others."""
    rows = np.flatnonzero(alive)
    rows = rows[np.argsort(table.cycles[rows], kind="stable")]
    kept = rows[: len(rows) - len(rows) // 4]
    if len(kept) < LEAST_CYCLES or len(kept) == len(rows):
        return None
    best = _fit(table.cycles[kept], table.on[kept], table.off[kept])
    later = np.zeros(len(alive), dtype=bool)
    later[rows[len(kept) :]] = True
    return _miss(best, table, later, best[0] - best[1]) if best[0] > best[1] else None


def _intervals(
    table: EnduranceTable, near: np.ndarray, alive: np.ndarray, lives: np.ndarray, ended: np.ndarray,
    places: np.ndarray, bootstrap: int, seed: int,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """95 % of each value: over draws of the devices with replacement where there are five, else of the rows."""
    generator = np.random.default_rng(seed)
    count = len(lives)
    samples: list[dict[str, float]] = []
    for _ in range(bootstrap):
        devices = generator.integers(0, count, count)
        if count >= 5:
            rows = np.concatenate([np.flatnonzero((places == device) & alive) for device in devices])
        else:
            rows = generator.choice(np.flatnonzero(alive), int(alive.sum()))
        best = _fit(table.cycles[rows], table.on[rows], table.off[rows], near)
        sample: dict[str, float] = {}
        sample.update(zip(("on", "off", "closing", "onset", "centre"), best.tolist(), strict=True))
        lifetime, shape = _weibull(lives[devices], ended[devices])
        if lifetime is not None and count >= 5:
            sample.update(lifetime=lifetime, shape=shape)
        samples.append(sample)
    found = {}
    for name in ("on", "off", "closing", "onset", "centre", "lifetime", "shape"):
        drawn = [sample[name] for sample in samples if name in sample]
        if len(drawn) >= 20:
            low, high = np.quantile(drawn, (0.025, 0.975))
            found[name] = (float(low), float(high))
    return found
