"""Drawn conductances and inputs: inside their span, what their class says, and the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, INPUT_CLASSES, draw_conductances, draw_inputs

SPAN = (1e-6, 1e-4)


def tile(kind, rows=40, cols=30, span=SPAN, seed=0) -> np.ndarray:
    return draw_conductances(kind, rows, cols, span, np.random.default_rng(seed))


def inputs(kind, vectors=50, rows=32, amplitude=0.3, seed=0) -> np.ndarray:
    return draw_inputs(kind, vectors, rows, amplitude, np.random.default_rng(seed))


@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from(CONDUCTANCE_CLASSES),
    rows=st.integers(1, 12),
    cols=st.integers(1, 12),
    low=st.one_of(st.just(0.0), st.floats(1e-9, 1e-5)),
    seed=st.integers(0, 2**32 - 1),
)
def test_conductances_stay_in_their_span(kind, rows, cols, low, seed):
    drawn = tile(kind, rows, cols, (low, 1e-4), seed)
    assert drawn.shape == (rows, cols)
    assert drawn.min() >= low * (1 - 1e-12)
    assert drawn.max() <= 1e-4 * (1 + 1e-12)
    np.testing.assert_array_equal(tile(kind, rows, cols, (low, 1e-4), seed), drawn)


@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from(INPUT_CLASSES),
    rows=st.integers(1, 40),
    amplitude=st.floats(1e-3, 2.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_inputs_stay_within_their_amplitude(kind, rows, amplitude, seed):
    drawn = inputs(kind, 4, rows, amplitude, seed)
    assert drawn.shape == (4, rows)
    assert np.abs(drawn).max() <= amplitude
    assert (drawn.min() < 0) <= (kind == "signed")
    np.testing.assert_array_equal(inputs(kind, 4, rows, amplitude, seed), drawn)


@pytest.mark.parametrize("kind", CONDUCTANCE_CLASSES)
def test_another_seed_is_another_tile(kind):
    assert not np.array_equal(tile(kind, seed=1), tile(kind, seed=2))


@pytest.mark.parametrize("kind", INPUT_CLASSES)
def test_another_seed_is_another_input(kind):
    assert not np.array_equal(inputs(kind, seed=1), inputs(kind, seed=2))


def test_uniform_conductances_fill_the_span():
    quarters = np.quantile(tile("uniform", 100, 100), [0.25, 0.5, 0.75])
    # Standard error of a quantile of 10 000 draws: half a percent of the span.
    np.testing.assert_allclose(quarters, SPAN[0] + (SPAN[1] - SPAN[0]) * np.array([0.25, 0.5, 0.75]), atol=2e-6)


def test_log_uniform_conductances_fill_the_decades():
    quarters = np.quantile(np.log10(tile("log_uniform", 100, 100)), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, [-5.5, -5.0, -4.5], atol=0.05)


def test_bimodal_conductances_sit_at_both_ends():
    drawn = tile("bimodal")
    middle = (drawn > SPAN[0] + 0.11 * (SPAN[1] - SPAN[0])) & (drawn < SPAN[1] - 0.11 * (SPAN[1] - SPAN[0]))
    assert not middle.any()
    assert 0.4 < (drawn > 5e-5).mean() < 0.6


def test_half_sparse_tiles_are_half_at_the_lowest():
    assert 0.4 < (tile("half_sparse") == SPAN[0]).mean() < 0.6


def test_clustered_tiles_have_rectangles():
    drawn = tile("clustered")
    high = drawn > 5e-5
    assert 0 < high.sum() < high.size
    # Independent cells of that density would almost never agree with their neighbour this often.
    assert (high[:, 1:] == high[:, :-1]).mean() > 0.9


def test_sparse_inputs_drive_one_row_in_eight():
    drawn = inputs("sparse")
    assert set((drawn != 0).sum(1)) == {4}
    assert (inputs("sparse", rows=3) != 0).sum(1).tolist() == [1] * 50


def test_half_on_inputs_are_all_or_nothing():
    drawn = inputs("half_on")
    assert set(np.unique(drawn)) == {0.0, 0.3}
    assert set((drawn > 0).sum(1)) == {16}


def test_dense_and_signed_inputs_fill_their_range():
    assert inputs("dense").mean() == pytest.approx(0.15, abs=0.02)
    assert inputs("signed").mean() == pytest.approx(0.0, abs=0.03)
    assert inputs("signed").min() < -0.28
