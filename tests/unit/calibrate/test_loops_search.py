"""The global search, the refinement and the confidence, on problems whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from mdls_cosim.calibrate.confidence import correlation_time, from_bootstrap, from_hessian
from mdls_cosim.calibrate.search import explore, linearised, refine


def nothing() -> None:
    """No progress to tell."""


def rosenbrock(shares: np.ndarray) -> np.ndarray:
    """Its least, zero, is at 0.75, 0.75 of the shares."""
    x, y = (4 * shares - 2).T
    return np.stack([1 - x, 10 * (y - x**2)], axis=1)


def test_refinement_follows_a_curved_valley_to_its_end() -> None:
    found = refine(rosenbrock, np.array([[0.2, 0.7], [0.05, 0.05]]), iterations=200, tolerance=1e-12)
    np.testing.assert_allclose(found.shares, 0.75, atol=1e-4)
    assert (found.costs < 1e-8).all()


def test_refinement_stops_at_the_faces_of_the_cube_where_least_squares_within_bounds_does() -> None:
    rng = np.random.default_rng(3)
    matrix, right = rng.normal(size=(20, 4)), rng.normal(size=20) * 3
    expected = lsq_linear(matrix, right, bounds=(0, 1)).x
    assert ((expected < 1e-6) | (expected > 1 - 1e-6)).any()
    found = refine(lambda shares: shares @ matrix.T - right, np.full((1, 4), 0.5), iterations=100, tolerance=1e-12)
    np.testing.assert_allclose(found.shares[0], expected, atol=1e-5)


def test_targets_shift_each_start_for_itself() -> None:
    targets = np.array([[0.2, 0.3], [0.6, 0.9]])
    found = refine(lambda shares: shares, np.full((2, 2), 0.5), targets, iterations=50, tolerance=1e-12)
    np.testing.assert_allclose(found.shares, targets, atol=1e-6)


def test_exploration_sorts_its_candidates_and_repeats_for_a_seed() -> None:
    first, second = explore(rosenbrock, 2, 512, 7, nothing), explore(rosenbrock, 2, 512, 7, nothing)
    np.testing.assert_array_equal(first.shares, second.shares)
    assert (np.diff(first.costs) >= 0).all()
    np.testing.assert_allclose(first.costs, np.mean(rosenbrock(first.shares) ** 2, axis=1))
    assert not np.array_equal(first.shares, explore(rosenbrock, 2, 512, 8, nothing).shares)


def test_candidates_without_a_finite_answer_come_last() -> None:
    def broken(shares: np.ndarray) -> np.ndarray:
        return np.where(shares[:, :1] < 0.5, np.nan, shares[:, :1])

    found = explore(broken, 1, 64, 0, nothing)
    assert (found.shares[:32] >= 0.5).all()
    assert np.isfinite(found.costs).all()


def test_derivatives_are_those_of_the_function_also_at_the_upper_face() -> None:
    shares = np.array([[0.3, 1.0]])
    value, jacobian = linearised(rosenbrock, shares)
    x = 4 * 0.3 - 2
    np.testing.assert_allclose(value, rosenbrock(shares))
    np.testing.assert_allclose(jacobian[0], [[-4, 0], [-80 * x, 40]], rtol=2e-3, atol=1e-9)


def autoregressive(rng: np.random.Generator, count: int, memory: float) -> np.ndarray:
    noise = rng.normal(size=count)
    for place in range(1, count):
        noise[place] += memory * noise[place - 1]
    return noise


def test_the_correlation_time_is_that_of_an_autoregressive_process() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([autoregressive(rng, 100_000, 0.8) for _ in range(2)])
    assert correlation_time(values, [100_000, 100_000]) == pytest.approx((1 + 0.8) / (1 - 0.8), rel=0.1)
    assert correlation_time(rng.normal(size=100_000), [100_000]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_hessian_intervals_of_a_straight_line_cover_it_as_often_as_they_say(memory: float) -> None:
    rng = np.random.default_rng(5)
    position = np.linspace(-1, 1, 400)
    basis = np.stack([np.ones(400), position], axis=1)
    truth = np.array([0.5, 0.4])
    inside = []
    for _ in range(300):
        data = basis @ truth + 0.05 * autoregressive(rng, 400, memory)

        def residuals(shares: np.ndarray, data: np.ndarray = data) -> np.ndarray:
            return shares @ basis.T - data

        best = np.linalg.lstsq(basis, data, rcond=None)[0]
        found = from_hessian(residuals, best, [400])
        inside.append((found.low <= truth) & (truth <= found.high))
    # 600 trials at 95 %: 0.9 % standard deviation; the estimate of the correlation time costs a little more.
    assert 0.90 < np.mean(inside) < 0.985


def test_bootstrap_and_hessian_agree_on_a_straight_line() -> None:
    rng = np.random.default_rng(6)
    basis = np.stack([np.ones(400), np.linspace(-1, 1, 400)], axis=1)
    data = basis @ [0.5, 0.4] + 0.05 * autoregressive(rng, 400, 0.5)

    def residuals(shares: np.ndarray) -> np.ndarray:
        return shares @ basis.T - data

    best = np.linalg.lstsq(basis, data, rcond=None)[0]
    hessian = from_hessian(residuals, best, [400])
    bootstrap = from_bootstrap(residuals, best, [400], 400, 0)
    np.testing.assert_allclose(bootstrap.high - bootstrap.low, hessian.high - hessian.low, rtol=0.35)
    assert hessian.determined.all()
    assert bootstrap.determined.all()


def test_a_parameter_that_changes_nothing_is_not_determined_and_its_interval_is_the_bounds() -> None:
    data = np.random.default_rng(1).normal(size=200)

    def residuals(shares: np.ndarray) -> np.ndarray:
        return shares[:, :1] + 0 * shares[:, 1:] - 0.5 - 0.01 * data

    found = from_hessian(residuals, np.array([0.5, 0.5]), [200])
    assert found.determined.tolist() == [True, False]
    assert found.low[1] == 0
    assert found.high[1] == 1


def test_a_parameter_at_its_bound_is_not_determined() -> None:
    found = from_hessian(lambda shares: shares + np.array([[0.01, -0.01]]), np.array([0.0]), [2])
    assert not found.determined[0]
