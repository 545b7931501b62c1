"""Pulse laws: the closed form, known laws recovered from noisy ramps within their intervals, spreads told apart."""

from __future__ import annotations

import numpy as np
import pytest

from mdls_cosim.calibrate import PulseLaw, PulseResponse, PulseTrain
from mdls_cosim.calibrate.pulse_runs import fit_degrees, fit_law, fit_starts, run_law, run_with_slopes
from mdls_cosim.calibrate.pulses import fit_pulses, split_ramps
from mdls_cosim.errors import InputError

LOW, HIGH = 1e-6, 11e-6


def ramps(law: PulseLaw, count: int, pulses: int, read_noise: float, seed: int, start: float = 0.02) -> np.ndarray:
    """(count, pulses) shares, written anew pulse by pulse from the definitions of the spreads."""
    generator = np.random.default_rng(seed)
    found = np.empty((count, pulses))
    for ramp in range(count):
        share = start + 0.01 * generator.standard_normal()
        factor = 1 + law.ramp_spread * generator.standard_normal()
        for pulse in range(pulses):
            found[ramp, pulse] = share + read_noise * generator.standard_normal()
            powers = sum(c * share**k for k, c in enumerate(law.coefficients))
            share += factor * powers + law.spread * generator.standard_normal()
    return found


def train(shares: np.ndarray, direction: int = 1) -> PulseTrain:
    return PulseTrain("ramps", direction, LOW + (HIGH - LOW) * shares)


class TestRuns:
    def test_degree_one_is_the_saturating_exponential(self) -> None:
        c0, c1 = 0.03, -0.025
        n = np.arange(200)
        decay = -1 / np.log1p(c1)
        expected = c0 / -c1 + (0.1 - c0 / -c1) * np.exp(-n / decay)
        np.testing.assert_allclose(run_law(np.array([c0, c1]), np.array([0.1]), 200)[0], expected, rtol=1e-12)

    def test_slopes_against_differences(self) -> None:
        law, starts = np.array([0.01, 0.005, -0.012]), np.array([0.1, 0.3])
        _, by_law, by_start = run_with_slopes(law, starts, 60)
        for power in range(3):
            shift = 1e-6 * np.eye(3)[power]
            expected = (run_law(law + shift, starts, 60) - run_law(law - shift, starts, 60)) / 2e-6
            np.testing.assert_allclose(by_law[..., power], expected, rtol=1e-6, atol=1e-8)
        expected = (run_law(law, starts + 1e-6, 60) - run_law(law, starts - 1e-6, 60)) / 2e-6
        np.testing.assert_allclose(by_start, expected, rtol=1e-6)

    def test_exact_runs_are_found_exactly(self) -> None:
        law = np.array([0.012, 0.004, -0.01])
        exact = run_law(law, np.array([0.0, 0.05, 0.1]), 120)
        found = fit_degrees(exact, (0, 1, 2))[-1]
        np.testing.assert_allclose(found, law, rtol=1e-6)
        np.testing.assert_allclose(fit_starts(law, exact), [0.0, 0.05, 0.1], atol=1e-12)

    def test_weights_choose_ramps(self) -> None:
        data = np.concatenate([run_law(np.array([0.01, -0.005]), np.zeros(2), 80),
                               run_law(np.array([0.005, 0.002]), np.zeros(2), 80)])[None]  # fmt: skip
        law, _ = fit_law(data, np.array([[0.0, 0.0, 1.0, 2.0]]), np.array([[0.008, 0.0]]), data[:, :, 0])
        np.testing.assert_allclose(law[0], [0.005, 0.002], rtol=1e-6)

    def test_a_law_that_runs_away_stays_finite(self) -> None:
        for part in run_with_slopes(np.array([5.0, 9.0, 30.0]), np.array([0.5]), 500):
            assert np.isfinite(part).all()


@pytest.mark.parametrize("count", [12, 3])
def test_known_laws_are_recovered_within_their_intervals(count: int) -> None:
    law = PulseLaw(coefficients=(0.02, -0.015), spread=0.002)
    true = {"raising.c0": 0.02, "raising.c1": -0.015, "raising.spread": 0.002, "read_noise": 0.004}
    inside = dict.fromkeys(true, 0)
    seeds = range(12)
    for seed in seeds:
        shares = ramps(law, count, 100, 0.004, seed)
        fit = fit_pulses([train(shares)], bootstrap=50, seed=seed)
        # The fit's own range is that of the data: told in the range of the truth.
        low, high = fit.response.lowest, fit.response.highest
        assert low is not None
        assert high is not None
        scale, shift = (high - low) / (HIGH - LOW), (low - LOW) / (HIGH - LOW)
        told = dict(true)
        told["raising.c0"] = (0.02 - 0.015 * shift) / scale
        told["raising.spread"], told["read_noise"] = 0.002 / scale, 0.004 / scale
        for name, value in told.items():
            low_end, high_end = fit.intervals[name]
            inside[name] += low_end <= value <= high_end
    # Of 12 intervals that hold at 95 %, 9 or more do so in 99.8 of 100 cases; at 80 %, in 80.
    assert min(inside.values()) >= 9, inside


def test_spreads_are_told_apart() -> None:
    steps = PulseLaw(coefficients=(0.01, -0.004), spread=0.004)
    only_reads = PulseLaw(coefficients=(0.01, -0.004))
    uneven = PulseLaw(coefficients=(0.01, -0.004), spread=0.001, ramp_spread=0.03)
    for law, noise in ((steps, 0.0), (only_reads, 0.004), (uneven, 0.002)):
        fit = fit_pulses([train(ramps(law, 40, 120, noise, 5))], bootstrap=0)
        found = fit.response.raising
        assert found is not None
        scale = (fit.response.highest - fit.response.lowest) / (HIGH - LOW)  # pyright: ignore[reportOptionalOperand]
        assert found.spread * scale == pytest.approx(law.spread, rel=0.15, abs=4e-4)
        assert fit.response.read_noise * scale == pytest.approx(noise, rel=0.1, abs=6e-4)
        assert found.ramp_spread == pytest.approx(law.ramp_spread, rel=0.35, abs=0.006)


def test_degree_is_chosen_on_held_out_ramps() -> None:
    for coefficients, degree in (((0.012,), 0), ((0.016, -0.012), 1), ((0.004, 0.04, -0.04), 2)):
        law = PulseLaw(coefficients=coefficients, spread=1e-4)
        fitted, spared = split_ramps([train(ramps(law, 16, 90, 1e-4, 3))])
        assert (len(fitted[0].conductances), len(spared[0].conductances)) == (12, 4)
        fit = fit_pulses(fitted, held_out=spared, bootstrap=0)
        assert fit.response.raising is not None
        assert len(fit.response.raising.coefficients) == degree + 1
        assert fit.held_out["ramps, 4 of 16 ramps"] < 0.01
        assert fit.degrees["raising"][degree] == fit.held_out["ramps, 4 of 16 ramps"]


def test_both_directions_share_the_range() -> None:
    up = ramps(PulseLaw(coefficients=(0.02, -0.015), spread=1e-3), 4, 100, 1e-3, 0)
    down = ramps(PulseLaw(coefficients=(-0.001, -0.02), spread=1e-3), 4, 80, 1e-3, 1, start=0.95)
    fit = fit_pulses([train(up), PulseTrain("down", -1, LOW + (HIGH - LOW) * down)], bootstrap=4)
    response = fit.response
    assert response.raising is not None
    assert response.lowering is not None
    assert response.raising.step(np.array(0.5)) > 0 > response.lowering.step(np.array(0.5))
    every = LOW + (HIGH - LOW) * np.concatenate([up.ravel(), down.ravel()])
    np.testing.assert_allclose([response.lowest, response.highest], np.quantile(every, (0.01, 0.99)))
    assert set(fit.errors) == {"ramps", "down"}
    assert fit.modelled["down"].shape == (4, 80)
    assert fit.modelled["down"] == pytest.approx(LOW + (HIGH - LOW) * down, abs=0.1 * (HIGH - LOW))


def test_shares_have_no_range() -> None:
    fit = fit_pulses([PulseTrain("shares", 1, ramps(PulseLaw(coefficients=(0.01,)), 1, 100, 0.01, 0), "")], bootstrap=0)
    assert fit.response.lowest is None
    assert any("u = 0 at" in note for note in fit.notes)


def test_what_cannot_be() -> None:
    shares = ramps(PulseLaw(coefficients=(0.01,)), 2, 50, 0.0, 0)
    with pytest.raises(InputError, match="with a unit and without"):
        fit_pulses([train(shares), PulseTrain("other", 1, shares, "")])
    with pytest.raises(InputError, match="direction that is not fitted"):
        fit_pulses([train(shares)], held_out=[train(shares[:, ::-1], -1)])
    with pytest.raises(InputError, match="no pulse train"):
        fit_pulses([])
    with pytest.raises(InputError, match="too few pulses"):
        train(shares[:, :3])
    with pytest.raises(InputError, match="NaN"):
        train(np.where(np.arange(50) == 4, np.nan, shares))


def test_response_from_text() -> None:
    table = {"lowest": "1 uS", "highest": "11 uS", "raising": {"coefficients": [0.1, -0.1]}, "read_noise": 0.01}
    response = PulseResponse.from_text_dict(table)
    assert response.highest == 11e-6
    assert response.raising is not None
    assert response.raising.step(np.array([0.0, 1.0])).tolist() == [0.1, 0.0]
