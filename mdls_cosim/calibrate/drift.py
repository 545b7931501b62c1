"""Drift traces: how a programmed conductance falls with time, device by device, and the noise of reading it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdls_cosim.calibrate.measurement import DriftTrace
from mdls_cosim.calibrate.result import Calibration, Value
from mdls_cosim.devices import Device
from mdls_cosim.devices.variability import Drift, ReadNoise, Variability
from mdls_cosim.errors import InputError

LEAST_READS = 5
"""Of a device: fewer do not part the drift from the noise."""
_LEAST_SPAN = 3.0
"""Last time over first: a power law shows over no less."""


@dataclass(frozen=True, eq=False)
class DriftFit:
    """Power laws G(t) = G0 (t/t0)^-nu of the devices of a trace."""

    reference_time: float
    """t0 [s]: the earliest reading."""
    device: np.ndarray
    """(devices,) their numbers."""
    starts: np.ndarray
    """(devices,) G0 [S]."""
    exponents: np.ndarray
    """(devices,) nu."""
    exponent_errors: np.ndarray
    """(devices,) standard errors of nu."""
    mean: float
    """Mean of nu over the devices."""
    spread: float
    """Standard deviation of nu over the devices, the errors of the single values taken off; 0 for one device."""
    read_noise: float
    """Standard deviation of a reading about the law, as a share of the conductance."""
    intervals: dict[str, tuple[float, float]]
    """95 % of mean, spread and read_noise."""
    error: float
    """RMS of the readings less the law, over the law."""
    held_out: float | None
    """The same of the last quarter of the readings, the law fitted to the others: its use beyond its times."""
    method: str
    notes: tuple[str, ...]

    def conductances(self, times: np.ndarray) -> np.ndarray:
        """(devices, times) [S] of the fitted laws at `times` (times,) [s]."""
        return self.starts[:, None] * (np.asarray(times)[None] / self.reference_time) ** -self.exponents[:, None]


def fit_drift(trace: DriftTrace, *, bootstrap: int = 500, seed: int = 0) -> DriftFit:
    """The power law of every device in `trace`, and the distribution of the exponents.

    Log G over log t is a straight line, fitted by least squares; a reading's noise is taken as a constant share of
    the conductance. Intervals: quantiles over `bootstrap` draws of the devices with replacement, five devices or
    more; else from the standard errors of the lines. It leaves out any dependence of the exponent on the conductance
    (a note says where the data show one), and noise that grows with time.

    Raises:
        InputError: too few readings of a device, or over too short a time; a conductance of zero.
    """
    if (trace.conductances <= 0).any():
        raise InputError("a conductance of zero, which has no power law", where=trace.name)
    reference = float(trace.times.min())
    numbers = np.unique(trace.device)
    lines, misses, held = [], [], []
    for number in numbers:
        mine = trace.device == number
        times, logs = np.log(trace.times[mine] / reference), np.log(trace.conductances[mine])
        order = np.argsort(times)
        times, logs = times[order], logs[order]
        if len(times) < LEAST_READS:
            raise InputError(
                "too few readings of a device", where=f"{trace.name}, device {number}", value=len(times),
                limit=f"{LEAST_READS} or more",
            )  # fmt: skip
        if np.exp(times[-1] - times[0]) < _LEAST_SPAN:
            raise InputError(
                "readings over too short a time for a drift", where=f"{trace.name}, device {number}",
                value=f"last time {np.exp(times[-1] - times[0]):.3g} times the first", limit=f"{_LEAST_SPAN:g} times",
            )  # fmt: skip
        slope, level, error, miss = _line(times, logs)
        lines.append((level, -slope, error))
        misses.append(miss)
        kept = len(times) - len(times) // 4
        if kept >= LEAST_READS:
            early_slope, early_level, _, _ = _line(times[:kept], logs[:kept])
            held.append(np.expm1(logs[kept:] - early_level - early_slope * times[kept:]))
    levels, exponents, errors = (np.array(each) for each in zip(*lines, strict=True))
    mean, spread, noise = _moments(exponents, errors, misses)
    generator = np.random.default_rng(seed)
    if len(numbers) >= 5:
        drawn = generator.integers(0, len(numbers), (bootstrap, len(numbers)))
        samples = np.array([_moments(exponents[each], errors[each], [misses[one] for one in each]) for each in drawn])
        method = f"{bootstrap} draws of the devices with replacement"
    else:
        widths = np.sqrt(errors**2 + spread**2)
        drawn = exponents + generator.standard_normal((bootstrap, len(numbers))) * widths
        points = sum(len(miss) - 2 for miss in misses)
        scatter = noise * np.sqrt(generator.chisquare(points, bootstrap) / points)
        samples = np.array(
            [(*_moments(each, errors, misses)[:2], one) for each, one in zip(drawn, scatter, strict=True)]
        )
        method = "standard errors of the lines"
    bounds = np.quantile(samples, (0.025, 0.975), axis=0)
    notes = _notes(levels, exponents, numbers)
    return DriftFit(
        reference, numbers, np.exp(levels), exponents, errors, mean, spread, noise,
        dict(zip(("mean", "spread", "read_noise"), zip(*bounds.tolist(), strict=True), strict=True)),
        float(np.sqrt(np.mean(np.expm1(np.concatenate(misses)) ** 2))),
        float(np.sqrt(np.mean(np.concatenate(held) ** 2))) if held else None, method, notes,
    )  # fmt: skip


def calibrate_drift(trace: DriftTrace, device: Device, bootstrap: int | None, seed: int) -> Calibration:
    """A Calibration of drift traces: `fit_drift`, told beside `device`."""
    fit = fit_drift(trace, bootstrap=500 if bootstrap is None else bootstrap, seed=seed)
    values = {
        "exponent_mean": Value.within(fit.mean, "", fit.intervals["mean"]),
        "exponent_spread": Value.within(fit.spread, "", fit.intervals["spread"]),
        "read_noise": Value.within(fit.read_noise, "", fit.intervals["read_noise"]),
        "reference_time": Value(fit.reference_time, "s"),
    }
    effects = (
        Drift(exponent=fit.mean, exponent_spread=fit.spread, start_time=fit.reference_time),
        ReadNoise(relative=fit.read_noise),
    )
    modelled = {
        str(number): fit.starts[place] * (trace.times / fit.reference_time) ** -fit.exponents[place]
        for place, number in enumerate(fit.device)
    }
    return Calibration(
        title=f"Drift calibrated on {trace.name}",
        kind="drift",
        device=device,
        values=values,
        method=fit.method,
        errors={trace.name: fit.error},
        held_out={} if fit.held_out is None else {"last quarter of the readings": fit.held_out},
        error_meaning="RMS of measured less modelled conductance, over the modelled",
        variability=Variability(effects=effects),
        notes=fit.notes,
        validity={
            "time": (float(trace.times.min()), float(trace.times.max()), "second"),
            "conductance": (float(trace.conductances.min()), float(trace.conductances.max()), "siemens"),
        },
        seed=seed,
        modelled=modelled,
        measurements=((trace, False),),
    )


def _line(times: np.ndarray, logs: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Slope, level, standard error of the slope, and residuals of the line through (times, logs)."""
    centred = times - times.mean()
    square = np.sum(centred**2)
    slope = float(np.sum(centred * logs) / square)
    level = float(logs.mean() - slope * times.mean())
    miss = logs - level - slope * times
    return slope, level, float(np.sqrt(np.sum(miss**2) / (len(times) - 2) / square)), miss


def _moments(exponents: np.ndarray, errors: np.ndarray, misses: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean and spread of the exponents, and the noise of a reading."""
    spread = 0.0
    if len(exponents) > 1:
        spread = float(np.sqrt(max(exponents.var(ddof=1) - np.mean(errors**2), 0.0)))
    freedom = sum(len(miss) - 2 for miss in misses)
    noise = float(np.sqrt(sum(np.sum(miss**2) for miss in misses) / freedom))
    return float(exponents.mean()), spread, noise


def _notes(levels: np.ndarray, exponents: np.ndarray, numbers: np.ndarray) -> tuple[str, ...]:
    if len(numbers) == 1:
        return ("one device: no spread from device to device",)
    if len(numbers) < 8 or not np.ptp(levels) or not np.ptp(exponents):
        return ()
    share = float(np.corrcoef(levels, exponents)[0, 1])
    # Fisher's transform is about normal with this width, where the two are independent.
    if abs(np.arctanh(np.clip(share, -0.999999, 0.999999))) * np.sqrt(len(numbers) - 3) < 2.6:
        return ()
    slope = np.polyfit(levels, exponents, 1)[0]
    return (
        f"the exponent depends on the conductance: {slope:+.3g} for each factor e of it (correlation {share:.2f}); "
        "the distribution leaves that out",
    )
