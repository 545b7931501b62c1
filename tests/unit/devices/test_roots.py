"""Roots of many equations at once."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from mdls_cosim.devices import roots
from mdls_cosim.devices.roots import BLOCK, rising_root
from mdls_cosim.errors import ConvergenceError

BRACKET = (-60.0, 60.0)


def diode(u, scale, target):
    """scale (e^u - 1) + u - target, and its slope: the voltage over a diode with a resistor in series."""
    growth = np.exp(u) if isinstance(u, np.ndarray) else u.exp()
    return scale * (growth - 1) + u - target, scale * growth + 1


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return np.exp(generator.uniform(-30, 3, count)), generator.uniform(-20, 20, count)


@pytest.mark.parametrize("start", [-50.0, 0.0, 50.0])
def test_every_element_has_its_own_root(start: float):
    scale, target = drawn(200)
    found = rising_root(diode, (scale, target), BRACKET, start)
    expected = [
        brentq(lambda u, a=a, b=b: a * math.expm1(u) + u - b, *BRACKET, xtol=1e-15, rtol=1e-15)
        for a, b in zip(scale, target, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_blocks_are_put_together_in_order(count: int):
    scale, target = drawn(count, 1)
    found = rising_root(diode, (scale, target), BRACKET, 0.0)
    assert found.shape == (count,)
    np.testing.assert_allclose(diode(found, scale, target)[0], 0, atol=1e-13)


def test_arguments_broadcast_and_numbers_stay_numbers():
    scale, target = drawn(12, 2)
    found = rising_root(diode, (scale[:3, None], target[3:7]), BRACKET, 0.0)
    assert found.shape == (3, 4)
    np.testing.assert_array_equal(found[1, 2], rising_root(diode, (scale[1], target[5:6]), BRACKET, 0.0)[0])
    np.testing.assert_array_equal(found[2], rising_root(diode, (float(scale[2]), target[3:7]), BRACKET, 0.0))


def test_newton_alone_would_diverge_here():
    """atan: from 10 Newton's method runs away."""
    root = np.linspace(-3, 3, 7)
    found = rising_root(lambda u, r: (np.arctan(u - r), 1 / (1 + (u - r) ** 2)), (root,), BRACKET, 10.0)
    np.testing.assert_allclose(found, root, atol=1e-15)


def test_a_kink_at_the_root():
    def kinked(u, root):
        slope = np.where(u > root, 1e3, 1e-2)
        return slope * (u - root), slope

    root = np.linspace(-5, 5, 11)
    np.testing.assert_allclose(rising_root(kinked, (root,), BRACKET, 0.3), root, atol=1e-14)


def test_a_root_outside_gives_the_nearest_end():
    found = rising_root(lambda u, r: (u - r, 1 + 0 * u), (np.array([-70.0, 5.0, 1e3]),), BRACKET, 0.0)
    np.testing.assert_allclose(found, [-60, 5, 60], atol=1e-6)


def test_not_a_number_stays_where_it_is():
    found = rising_root(diode, (np.array([1.0, np.nan, 1.0]), np.array([2.0, 2.0, np.nan])), BRACKET, 0.0)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])


def test_noise_ends_within_the_bracket():
    """A value that is not to be trusted and a slope that is wrong: the halving ends it all the same."""
    generator = np.random.default_rng(3)

    def noise(u, target):
        return u - target + generator.normal(0, 1e-3, u.shape), np.full_like(u, 1e-6)

    found = rising_root(noise, (np.zeros(400),), (-1.0, 1.0), 0.0, tolerance=1e-30)
    assert np.all(np.abs(found) <= 1)


def test_too_many_steps_are_an_error(monkeypatch):
    monkeypatch.setattr(roots, "MOST_STEPS", 2)
    with pytest.raises(ConvergenceError, match="3 of 4 elements"):
        rising_root(diode, (np.ones(4), np.array([0.0, 5.0, 9.0, -9.0])), BRACKET, 0.0)


def test_gradients_first_and_second():
    scale, target = (torch.as_tensor(each).requires_grad_() for each in drawn(6, 4))

    def solve(a, b):
        return rising_root(diode, (a, b), BRACKET, 0.0)

    root = solve(scale, target)
    (slope,) = torch.autograd.grad(root.sum(), target)
    np.testing.assert_allclose(slope, 1 / (1 + scale * root.exp()).detach(), rtol=1e-12)
    assert torch.autograd.gradcheck(solve, (scale.detach() + 0.1, target), eps=1e-6, rtol=1e-6)
    near = (scale.detach() + 0.1).requires_grad_()
    assert torch.autograd.gradgradcheck(solve, (near, target), eps=1e-6, rtol=1e-5)


def test_the_iteration_is_not_recorded():
    """Two steps are: the graph is as long for a far start as for a near one."""
    scale, target = (torch.as_tensor(each).requires_grad_() for each in drawn(4, 5))

    def depth(start: float) -> int:
        seen, waiting = set(), [rising_root(diode, (scale, target), BRACKET, start).grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [parent for parent, _ in node.next_functions]
        return len(seen)

    assert depth(-50.0) == depth(0.0)
