"""Quarters of a loop, their weights, and the agreement of a model with each branch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mdls_cosim.calibrate.agreement import agreement
from mdls_cosim.calibrate.branches import quarters, scales
from mdls_cosim.calibrate.loop_problem import LoopProblem, prepare
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.spaces import Scales, search_spaces

POINTS = 400
ANGLE = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
SINE = np.sin(ANGLE)
ON, OFF, THRESHOLD = 1e-3, 2e-5, 0.6
"""[S], [S], [V] of a switch that turns on at +0.6 V and off at -0.6 V."""


def switch_loop(scale_of_negative: float = 1.0, series: float = 0.0) -> Loop:
    """An ideal switch under a sine of 1 V, alone or behind a resistor [ohm]: it switches at its own +-0.6 V."""
    turns_on = np.arcsin(THRESHOLD * (1 + series * OFF))
    turns_off = np.pi + np.arcsin(THRESHOLD * (1 + series * ON))
    conductances = np.where((turns_on < ANGLE) & (turns_off > ANGLE), ON, OFF)
    conductances = np.where(SINE < 0, scale_of_negative, 1.0) * conductances
    currents = SINE * conductances / (1 + series * conductances)
    return Loop("switch", np.arange(POINTS) * 1e-3, SINE, currents, applied=series > 0)


@pytest.mark.parametrize("shift", [0, 37, 100, 250])
@pytest.mark.parametrize("form", ["sine", "triangle", "noisy", "staircase"])
def test_quarters_are_those_of_the_phase_wherever_the_cycle_begins(shift: int, form: str) -> None:
    drive = {
        "sine": SINE,
        "triangle": 2 / np.pi * np.arcsin(SINE),
        "noisy": SINE + 0.002 * np.random.default_rng(0).normal(size=POINTS),
        "staircase": np.sin(ANGLE[np.arange(POINTS) // 4 * 4]),
    }[form]
    expected = np.array([0, 1, 2, 3])[(ANGLE // (np.pi / 2)).astype(int)]
    found = np.roll(quarters(np.roll(drive, -shift), POINTS), shift)
    # At the turns and at 0 V a few points may be of the neighbour, and the file's first and last points.
    assert np.mean(found != expected) < 0.04


def test_a_turned_drive_has_turned_quarters() -> None:
    np.testing.assert_array_equal(quarters(-SINE, POINTS), (quarters(SINE, POINTS) + 2) % 4)


def test_a_sweep_of_one_sign_has_two_quarters() -> None:
    assert set(quarters(np.abs(np.sin(ANGLE / 2)), POINTS)) == {0, 1}


def test_the_mean_square_of_scaled_residuals_is_that_of_the_relative_errors_of_the_parts() -> None:
    rng = np.random.default_rng(1)
    loop = switch_loop(0.01)
    parts = quarters(SINE, POINTS)
    parts[:30] = 3  # unequal numbers of points
    residual = rng.normal(size=POINTS) * np.abs(loop.currents)
    shares = [np.mean(residual[parts == n] ** 2) / np.mean(loop.currents[parts == n] ** 2) for n in range(4)]
    assert np.mean((residual / scales(loop.currents, parts)) ** 2) == pytest.approx(np.mean(shares), rel=1e-3)


def test_a_branch_that_is_all_noise_counts_little() -> None:
    noise = 1e-6 * np.random.default_rng(0).normal(size=POINTS)
    currents = np.where(SINE > 0, 1e-3 * SINE, 0.0) + noise
    found = scales(currents, quarters(SINE, POINTS))
    assert found[SINE < -0.1].min() > 8e-6


def test_a_fit_sees_a_small_branch_as_it_sees_the_large_one() -> None:
    """20 % off on a branch a hundred times smaller: 0.1 % of the range, and 20 % of what the branch is."""
    loop = switch_loop(0.01)
    off = np.where(SINE < 0, 1.2, 1.0) * loop.currents
    problem = LoopProblem(search_spaces("vteam", Scales(1.0, 1e-3, 1e-3, 0.4, 0.4))[0], [prepare(loop)])
    (prepared,) = problem.loops
    residual = (off - prepared.currents) / prepared.scales
    assert np.sqrt(np.mean(residual**2)) == pytest.approx(0.2 / np.sqrt(2), rel=0.02)
    assert np.sqrt(np.mean((off - loop.currents) ** 2)) / np.ptp(loop.currents) < 2e-3


class TestAgreement:
    @pytest.mark.parametrize("series", [0.0, 500.0])
    @pytest.mark.parametrize("cycles", [1, 3])
    def test_states_of_an_ideal_switch(self, series: float, cycles: int) -> None:
        loop = switch_loop(series=series)
        loop = dataclasses.replace(
            loop,
            times=np.arange(cycles * POINTS) * 1e-3,
            voltages=np.tile(loop.voltages, cycles),
            currents=np.tile(loop.currents, cycles),
            cycle=np.repeat(np.arange(cycles), POINTS),
        )
        positive, negative = agreement(loop, loop.currents, series or None)
        assert (positive.sign, negative.sign) == ("positive", "negative")
        for branch, sign in ((positive, 1), (negative, -1)):
            assert branch.error == 0.0
            assert branch.reference_voltage == pytest.approx(0.1 * sign)
            for states in (branch.measured, branch.modelled):
                assert states.high_resistive == pytest.approx(OFF)
                assert states.low_resistive == pytest.approx(ON)
                assert states.ratio == pytest.approx(ON / OFF)
                assert states.switching_voltage == pytest.approx(sign * THRESHOLD, abs=0.02)

    def test_errors_are_relative_to_the_branch(self) -> None:
        loop = switch_loop(0.01)
        factors = np.array([1.1, 0.9, 1.3, 0.6])[quarters(SINE, POINTS)]
        positive, negative = agreement(loop, factors * loop.currents)
        assert (positive.error_out, positive.error_back) == pytest.approx((0.1, 0.1))
        assert (negative.error_out, negative.error_back) == pytest.approx((0.3, 0.4))
        assert positive.error == pytest.approx(0.1)
        assert 0.3 < negative.error < 0.4
        assert positive.modelled.high_resistive == pytest.approx(1.1 * OFF)
        assert negative.modelled.high_resistive == pytest.approx(0.6 * 0.01 * OFF)
        assert negative.modelled.ratio == pytest.approx(1.3 / 0.6 * ON / OFF)

    def test_the_switching_voltage_of_the_model_is_its_own(self) -> None:
        loop = switch_loop()
        later = np.where((np.arcsin(0.8) < ANGLE) & (np.pi + np.arcsin(0.3) > ANGLE), ON, OFF) * SINE
        positive, negative = agreement(loop, later)
        assert positive.modelled.switching_voltage == pytest.approx(0.8, abs=0.02)
        assert negative.modelled.switching_voltage == pytest.approx(-0.3, abs=0.02)
        assert positive.measured.switching_voltage == pytest.approx(0.6, abs=0.02)

    def test_one_sided_resistive_and_blocking_loops(self) -> None:
        rising = np.abs(np.sin(ANGLE / 2))
        one = Loop("one", np.arange(POINTS) * 1e-3, rising, 1e-5 * rising)
        (branch,) = agreement(one, one.currents)
        assert branch.sign == "positive"
        assert branch.measured.ratio == pytest.approx(1)
        assert branch.measured.switching_voltage is None
        blocking = Loop("diode", np.arange(POINTS) * 1e-3, SINE, np.where(SINE > 0, 1e-5 * SINE, 0.0))
        assert [each.sign for each in agreement(blocking, blocking.currents)] == ["positive"]

    def test_small_amplitudes_have_a_reference_of_their_own(self) -> None:
        loop = switch_loop()
        small = dataclasses.replace(loop, voltages=0.05 * loop.voltages)
        positive, _ = agreement(small, small.currents)
        assert positive.reference_voltage == pytest.approx(0.025, rel=1e-3)
        assert positive.measured.high_resistive == pytest.approx(20 * OFF)
