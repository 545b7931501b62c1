"""Levels and their spreads: known polynomials within their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import LevelTable, read_measurement
from mdls_cosim.calibrate.levels import calibrate_levels, fit_levels
from mdls_cosim.devices import Ohmic
from mdls_cosim.devices.variability import FiniteStates, ProgrammingError, Variability
from mdls_cosim.devices.variability.effect import Programming
from mdls_cosim.devices.variability.randomness import Randomness
from mdls_cosim.errors import InputError

CASES = Path(__file__).parents[2] / "cases/circuit"

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


def test_two_levels_keep_both_spreads() -> None:
    # 50 readings each, drawn with 0.30 uS about 1 uS and 10 uS about 100 uS.
    (table,), _ = read_measurement(CASES / "D25-binary.csv")
    assert isinstance(table, LevelTable)
    fit = fit_levels(table, bootstrap=50)
    assert fit.spread(np.array([1e-6, 100e-6])) == pytest.approx([0.30e-6, 10e-6], rel=0.2)
    error = calibrate_levels(table, Ohmic(), 50, 0).variability.effects[1]  # pyright: ignore[reportOptionalMemberAccess]
    assert isinstance(error, ProgrammingError)
    written = error.program(np.full(4000, 100e-6), Randomness(0), Programming((1e-6, 100e-6), 0, 0)).conductances
    assert np.std(written) == pytest.approx(10e-6, rel=0.2)


@pytest.mark.parametrize(
    ("means", "spreads"),
    [
        ((1, 100), (10, 0.3)),
        ((1, 10, 100), (0.3, 1, 10)),
        ((1, 50, 100), (0.3, 10, 0.3)),
        ((1, 50, 100), (0.3, 0.3, 10)),
        ((5, 10, 20), (0.1, 0.1, 2)),
        ((1, 50, 100), (10, 0.3, 10)),
    ],
)
def test_few_levels_of_very_different_spreads(means: tuple[float, ...], spreads: tuple[float, ...]) -> None:
    generator = np.random.default_rng(3)
    level = np.repeat(np.arange(len(means)), 60)
    drawn = generator.standard_normal((len(means), 60))
    drawn = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, ddof=1, keepdims=True)
    found = 1e-6 * (50 + np.array(means)[:, None] + np.array(spreads)[:, None] * drawn).ravel()
    fit = fit_levels(LevelTable("levels", level, found), bootstrap=0)
    assert fit.spread(fit.levels) == pytest.approx(1e-6 * np.array(spreads), rel=0.2)
    between = fit.spread(np.linspace(fit.levels[0], fit.levels[-1], 200))
    assert between.min() > 0.4e-6 * min(spreads)
    assert not any("misses" in note for note in fit.notes)


def test_a_spread_that_no_polynomial_follows_is_noted() -> None:
    fit = fit_levels(measured(0, 200, lambda g: np.where(np.abs(g - 20e-6) < 1e-7, 5e-6, 1e-8)), bootstrap=0)
    assert any("sigma(G) misses the spread of" in note for note in fit.notes)
