"""Levels and their spreads: known polynomials within their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from mdls_cosim.calibrate import LevelTable
from mdls_cosim.calibrate.levels import calibrate_levels, fit_levels
from mdls_cosim.devices import Ohmic
from mdls_cosim.devices.variability import FiniteStates, ProgrammingError, Variability
from mdls_cosim.errors import InputError

MEANS = np.linspace(5e-6, 40e-6, 8)


def measured(seed: int, repeats: int = 60, sigma=lambda g: 2e-7 + 0.02 * g, bias: float = 0.0) -> LevelTable:
    generator = np.random.default_rng(seed)
    level = generator.permutation(np.repeat(np.arange(8), repeats))
    target = MEANS[level]
    found = target * (1 + bias) + sigma(target) * generator.standard_normal(len(level))
    return LevelTable("levels.csv", 3 * level, found, target)


def test_known_spreads_are_recovered_within_their_intervals() -> None:
    inside, seeds = 0, range(30)
    for seed in seeds:
        fit = fit_levels(measured(seed), bootstrap=200, seed=seed)
        # A mean of 60 is known to 0.13 of the spread; 240 such means stay within four times that.
        assert (np.abs(fit.levels - MEANS) < 4 * (2e-7 + 0.02 * MEANS) / np.sqrt(60)).all()
        assert fit.spread(MEANS) == pytest.approx(2e-7 + 0.02 * MEANS, rel=0.25)
        if len(fit.coefficients) == 2:
            inside += fit.intervals["p1"][0] <= 0.02 <= fit.intervals["p1"][1]
            inside += fit.intervals["p0"][0] <= 2e-7 / fit.scale <= fit.intervals["p0"][1]
        else:
            inside += 2  # another degree: its coefficients are others, its curve was checked above
    # 60 intervals of 95 %: 50 or more inside with a probability above 99.9 %.
    assert inside >= 50


def test_degree_follows_the_data() -> None:
    flat = [
        len(fit_levels(measured(seed, sigma=lambda g: 3e-7 + 0 * g), bootstrap=0).coefficients) for seed in range(9)
    ]
    assert np.median(flat) == 1
    curved = fit_levels(measured(0, 400, lambda g: 1e-7 + 1.2e-6 * (g / 40e-6) ** 2), bootstrap=0)
    assert len(curved.coefficients) >= 3


def test_bias_and_overlap_are_noted() -> None:
    fit = fit_levels(measured(1, bias=0.05, sigma=lambda g: 1e-7 + 4e-6 * (g > 2e-5)))
    assert fit.bias == pytest.approx(0.05 * MEANS, abs=2e-6)
    assert any("within one spread" in note for note in fit.notes)
    assert any("miss their targets" in note for note in fit.notes)


def test_held_out_half_is_standardised() -> None:
    held = [fit_levels(measured(seed), bootstrap=0).held_out for seed in range(10)]
    # Each is the RMS of 240 standardised errors: known to 1/sqrt(480), 4.6 %, by itself; the mean of ten to 1.5 %.
    assert np.mean(held) == pytest.approx(1.0, abs=0.06)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_effects_repeat_the_table() -> None:
    found = calibrate_levels(measured(2, 200), Ohmic(), None, 0)
    assert isinstance(found.variability, Variability)
    states, error = found.variability.effects
    assert isinstance(states, FiniteStates)
    assert isinstance(error, ProgrammingError)
    programmed = found.variability.programmed(np.repeat(MEANS, 4000), (MEANS[0], MEANS[-1]), seed=1).conductances
    again = programmed.reshape(8, 4000)
    assert again.mean(axis=1) == pytest.approx(MEANS, rel=0.01)
    assert again.std(axis=1) == pytest.approx(2e-7 + 0.02 * MEANS, rel=0.15)


def test_what_cannot_be() -> None:
    table = measured(0)
    one = table.levels == 3
    with pytest.raises(InputError, match="one level only"):
        fit_levels(LevelTable("x", table.levels[one], table.conductances[one]))
    keep = ~one | (np.cumsum(one) <= 2)
    with pytest.raises(InputError, match=r"too few measurements of a level at x, level 3: got 2"):
        fit_levels(LevelTable("x", table.levels[keep], table.conductances[keep]))
    with pytest.raises(InputError, match="all the same"):
        fit_levels(LevelTable("x", table.levels, MEANS[table.levels // 3]))
    with pytest.raises(InputError, match="negative"):
        LevelTable("x", table.levels, -table.conductances)
