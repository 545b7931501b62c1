"""Drift: known exponents, their spread and the read noise within their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from mdls_cosim.calibrate import DriftTrace
from mdls_cosim.calibrate.drift import calibrate_drift, fit_drift
from mdls_cosim.devices import Ohmic
from mdls_cosim.devices.variability import Variability
from mdls_cosim.errors import InputError

TIMES = np.geomspace(2.0, 2e4, 25)
TRUE = {"mean": 0.05, "spread": 0.012, "read_noise": 0.01}


def measured(seed: int, devices: int = 30, slope: float = 0.0) -> DriftTrace:
    generator = np.random.default_rng(seed)
    starts = np.exp(generator.uniform(np.log(1e-6), np.log(3e-5), devices))
    exponents = generator.normal(0.05, 0.012, devices) + slope * np.log(starts / 5e-6)
    values = starts[:, None] * (TIMES / 2.0) ** -exponents[:, None]
    values = values * (1 + 0.01 * generator.standard_normal(values.shape))
    order = generator.permutation(values.size)
    return DriftTrace(
        "drift.csv", np.tile(TIMES, devices)[order], values.ravel()[order], np.repeat(np.arange(devices), 25)[order]
    )


def test_known_values_are_recovered_within_their_intervals() -> None:
    inside = dict.fromkeys(TRUE, 0)
    for seed in range(40):
        fit = fit_drift(measured(seed), bootstrap=300, seed=seed)
        for name, value in TRUE.items():
            low, high = fit.intervals[name]
            inside[name] += low <= value <= high
    # The bootstrap of a standard deviation from 30 devices covers about 90 %; of 40 at that rate 31 or more are inside
    # with a probability above 98 %.
    assert min(inside.values()) >= 31, inside


def test_noise_alone_gives_no_spread() -> None:
    generator = np.random.default_rng(3)
    values = 1e-5 * (TIMES / 2) ** -0.05 * (1 + 0.02 * generator.standard_normal((20, 25)))
    fit = fit_drift(DriftTrace("x", np.tile(TIMES, 20), values.ravel(), np.repeat(np.arange(20), 25)))
    # The exponents themselves scatter by their errors, 0.02/sqrt(25)/std(ln t) = 0.0015.
    assert fit.exponents.std() == pytest.approx(0.0014, rel=0.5)
    assert fit.spread < 0.0008


def test_one_device() -> None:
    fit = fit_drift(measured(0, devices=1))
    assert fit.spread == 0.0
    assert "one device" in fit.notes[0]
    low, high = fit.intervals["mean"]
    assert low < fit.mean < high
    assert high - low == pytest.approx(2 * 1.96 * fit.exponent_errors[0], rel=0.25)


def test_law_and_held_out_times() -> None:
    fit = fit_drift(measured(4))
    assert fit.reference_time == 2.0
    assert fit.conductances(np.array([2.0]))[:, 0] == pytest.approx(fit.starts)
    assert fit.conductances(np.array([20.0]))[:, 0] == pytest.approx(fit.starts * 10**-fit.exponents)
    assert fit.error == pytest.approx(0.01, rel=0.1)
    # Beyond the fitted times the error of the line adds to the noise.
    assert fit.held_out == pytest.approx(0.0115, rel=0.25)


def test_dependence_on_conductance_is_noted() -> None:
    assert not fit_drift(measured(5)).notes
    (note,) = fit_drift(measured(5, slope=-0.02)).notes
    assert "depends on the conductance: -0.02" in note or "depends on the conductance: -0.01" in note


def test_effects_repeat_the_trace() -> None:
    found = calibrate_drift(measured(6, devices=200), Ohmic(), None, 0)
    assert isinstance(found.variability, Variability)
    start = np.full(20000, 1e-5)
    later = found.variability.at(start, (0.0, 1e-4), seed=2, time=2e4).conductances
    logs = -np.log(later / start) / np.log(1e4)
    assert logs.mean() == pytest.approx(0.05, abs=0.003)
    assert logs.std() == pytest.approx(0.012, rel=0.15)


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="too few readings"):
        fit_drift(DriftTrace("x", TIMES[:3], np.full(3, 1e-6)))
    with pytest.raises(InputError, match="too short a time"):
        fit_drift(DriftTrace("x", np.linspace(10, 20, 9), np.full(9, 1e-6)))
    with pytest.raises(InputError, match="conductance of zero"):
        fit_drift(DriftTrace("x", TIMES, np.zeros(25)))
    with pytest.raises(InputError, match="counted from the programming"):
        DriftTrace("x", TIMES - 2, np.full(25, 1e-6))
