"""Runs of a pulse law and their least-squares fit, many data sets at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RUNAWAY = 1e6
"""Bound of a run and its slopes under a law that no data supports."""


def run_law(coefficients: np.ndarray, starts: np.ndarray, pulses: int) -> np.ndarray:
    """Shares (..., ramps, pulses) of the law's runs from `starts` (..., ramps); coefficients (..., powers)."""
    return run_with_slopes(coefficients, starts, pulses, slopes=False)[0]


def run_with_slopes(
    coefficients: np.ndarray, starts: np.ndarray, pulses: int, slopes: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs (..., ramps, pulses), and their derivatives by coefficients (..., powers) and by the start."""
    powers = coefficients.shape[-1]
    share = np.array(starts, dtype=np.float64)
    by_law, by_start = np.zeros((*share.shape, powers)), np.ones(share.shape)
    runs = np.empty((*share.shape, pulses))
    law_slopes = np.empty((*share.shape, pulses, powers)) if slopes else by_law
    start_slopes = np.empty((*share.shape, pulses)) if slopes else by_start
    law = coefficients[..., None, :]
    for pulse in range(pulses):
        runs[..., pulse] = share
        if slopes:
            law_slopes[..., pulse, :] = by_law
            start_slopes[..., pulse] = by_start
        # A law under trial may run away far outside of the range, where its values and slopes no longer matter.
        within = np.clip(share, -1.0, 2.0)
        terms = within[..., None] ** np.arange(powers)
        if slopes:
            growth = 1 + np.sum(law[..., 1:] * np.arange(1, powers) * terms[..., :-1], axis=-1)
            by_law = np.clip(by_law * growth[..., None] + terms, -_RUNAWAY, _RUNAWAY)
            by_start = np.clip(by_start * growth, -_RUNAWAY, _RUNAWAY)
        share = np.clip(share + np.sum(law * terms, axis=-1), -_RUNAWAY, _RUNAWAY)
    return runs, law_slopes, start_slopes


def fit_degrees(ramps: np.ndarray, orders: Sequence[int]) -> list[np.ndarray]:
    """Coefficients fitted to `ramps` (ramps, pulses) for degrees that rise by one, each begun at the one before."""
    lasting = np.isfinite(ramps)
    last = lasting.shape[1] - 1 - np.argmax(lasting[:, ::-1], axis=1)
    rise = ramps[np.arange(len(ramps)), last] - ramps[:, 0]
    guess = np.array([np.mean(rise / np.maximum(last, 1))])
    found = []
    starts = ramps[:, 0]
    for order in orders:
        guess = np.pad(guess, (0, order + 1 - len(guess)))
        fit, starts_of = fit_law(ramps[None], np.ones((1, len(ramps))), guess[None], starts[None])
        guess, starts = fit[0], starts_of[0]
        found.append(guess)
    return found


def fit_starts(coefficients: np.ndarray, ramps: np.ndarray) -> np.ndarray:
    """Least-squares starts (ramps,) under the law."""
    starts = ramps[:, 0].copy()
    for _ in range(8):
        runs, _, slopes = run_with_slopes(coefficients, starts, ramps.shape[1])
        miss = np.where(np.isnan(ramps), 0.0, ramps - runs)
        slopes = np.where(np.isnan(ramps), 0.0, slopes)
        starts = starts + np.sum(slopes * miss, axis=1) / np.sum(slopes**2, axis=1)
    return starts


def fit_law(
    ramps: np.ndarray, weights: np.ndarray, law: np.ndarray, starts: np.ndarray, rounds: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (batch, powers) and starts (batch, ramps) of least squares, damped after Levenberg and Marquardt.

    `ramps` (batch, ramps, pulses), `weights` (batch, ramps). The starts, each of which only its own ramp sees, are
    eliminated: what is solved has the size of the law.
    """
    pulses = ramps.shape[-1]
    known = np.isfinite(ramps)
    weight = np.sqrt(weights)[..., None] * known
    target = np.where(known, ramps, 0.0)
    damping = np.full(len(ramps), 1e-3)
    identity = np.eye(law.shape[-1])

    def cost_of(runs: np.ndarray) -> np.ndarray:
        return np.sum((weight * (target - np.where(known, runs, 0.0))) ** 2, axis=(1, 2))

    runs, by_law, by_start = run_with_slopes(law, starts, pulses)
    cost = cost_of(runs)
    for _ in range(rounds):
        miss = weight * (target - np.where(known, runs, 0.0))
        law_slopes, start_slopes = by_law * weight[..., None], by_start * weight
        own = np.maximum(np.sum(start_slopes**2, axis=-1), 1e-300)
        cross = np.einsum("brp,brpk->brk", start_slopes, law_slopes)
        start_pull = np.sum(start_slopes * miss, axis=-1)
        normal = np.einsum("brpk,brpl->bkl", law_slopes, law_slopes) - np.einsum(
            "brk,brl->bkl", cross / own[..., None], cross
        )
        pull = np.einsum("brpk,brp->bk", law_slopes, miss) - np.einsum("brk,br->bk", cross / own[..., None], start_pull)
        scale = np.maximum(np.einsum("bkk->bk", normal), 1e-300)
        damped = normal + damping[:, None, None] * identity * scale[:, None, :]
        move = np.linalg.solve(damped, pull[..., None])[..., 0]
        next_law = law + move
        next_starts = starts + (start_pull - np.einsum("brk,bk->br", cross, move)) / own
        trial = run_with_slopes(next_law, next_starts, pulses)
        next_cost = cost_of(trial[0])
        better = next_cost <= cost
        damping = np.where(better, damping / 10, damping * 10)
        done = np.all(better & (cost - next_cost <= 1e-10 * cost))
        law = np.where(better[:, None], next_law, law)
        starts = np.where(better[:, None], next_starts, starts)
        runs, by_law, by_start = (
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(trial, (runs, by_law, by_start), strict=True)
        )
        cost = np.where(better, next_cost, cost)
        if done or damping.min() > 1e12:
            break
    return law, starts
