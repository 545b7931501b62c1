"""Weights to conductances and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdls_cosim.analog import ProgrammingError
from mdls_cosim.analog.mapping import pair_conductances, scale_weights
from mdls_cosim.errors import ConfigError

RANGE = (1e-6, 100e-6)


def test_signs_go_to_their_array():
    weights = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    positive, negative = pair_conductances(weights, 2.0, RANGE, None)
    # The subtraction 100 uS - 1 uS and back costs one rounding.
    torch.testing.assert_close(positive, torch.tensor([100e-6, 1e-6, 1e-6], dtype=torch.float64), rtol=1e-15, atol=0)
    torch.testing.assert_close(negative, torch.tensor([1e-6, 50.5e-6, 1e-6], dtype=torch.float64), rtol=1e-15, atol=0)


@given(
    weights=st.lists(st.floats(-3, 3).map(lambda weight: round(weight, 9)), min_size=1, max_size=30),
    lowest=st.floats(0, 1e-5),
    span=st.floats(1e-6, 1e-3),
)
def test_difference_gives_the_weights_back(weights, lowest, span):
    weights = torch.tensor(weights, dtype=torch.float64)
    scale = scale_weights(weights).scale
    positive, negative = pair_conductances(weights, scale, (lowest, lowest + span), None)
    back = (positive - negative) * scale / span
    # Cancellation of two conductances of up to lowest + span.
    torch.testing.assert_close(back, weights, rtol=0, atol=1e-14 * scale * (lowest + span) / span)


def test_six_states_are_exactly_six_conductances():
    weights = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    conductances = pair_conductances(weights, 1.0, RANGE, 6)
    expected = [1e-6 + 99e-6 * level / 5 for level in range(6)]
    assert len(conductances.unique()) == 6
    torch.testing.assert_close(conductances.unique(), torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)
    # Nearest: never further than half a level.
    exact = pair_conductances(weights, 1.0, RANGE, None)
    assert (conductances - exact).abs().max() <= 99e-6 / 5 / 2 * (1 + 1e-9)


def test_scale_is_the_largest_weight_or_clips_beyond_a_multiple_of_the_rms():
    weights = torch.tensor([3.0, -4.0, 0.0, 0.0])
    unclipped = scale_weights(weights)
    assert (unclipped.scale, unclipped.clipped) == (4.0, 0)
    assert torch.equal(unclipped.weights, weights)
    scaled = scale_weights(weights, clip=1.0)  # rms 2.5
    assert scaled.scale == 2.5
    assert scaled.weights.tolist() == [2.5, -2.5, 0, 0]
    assert scaled.clipped == 2
    assert scale_weights(weights, clip=100.0).clipped == 0


def test_zeros_have_a_scale():
    scaled = scale_weights(torch.zeros(3))
    assert scaled.scale == 1.0
    assert torch.all(pair_conductances(scaled.weights, scaled.scale, RANGE, 6) == 1e-6)


def test_programming_error_has_the_stated_spread():
    targets = torch.full((200_000,), 50e-6, dtype=torch.float64)
    error = ProgrammingError(relative=0.05, absolute=1e-6)
    result, clipped = error.apply(targets, torch.Generator().manual_seed(1))
    expected = (0.05 * 50e-6) ** 2 + 1e-6**2
    # Of 200 000 draws the sample variance is within 5 * sqrt(2 / n) of the true one but once in a million.
    assert abs(float(result.var()) / expected - 1) < 5 * (2 / 200_000) ** 0.5
    assert abs(float(result.mean()) - 50e-6) < 5 * (expected / 200_000) ** 0.5
    assert clipped == 0


def test_programming_error_is_clipped_and_counted():
    targets = torch.full((1000,), 10e-6, dtype=torch.float64)
    wide = ProgrammingError(absolute=20e-6)
    free = targets + 20e-6 * torch.randn((2, 1000), dtype=torch.float64, generator=torch.Generator().manual_seed(3))[1]
    result, clipped = wide.apply(targets, torch.Generator().manual_seed(3))
    assert torch.equal(result, free.clamp(min=0))
    assert clipped == int((free < 0).sum()) > 100
    bounded = wide.replace(minimum=5e-6, maximum=15e-6)
    result, clipped = bounded.apply(targets, torch.Generator().manual_seed(3))
    assert float(result.min()) == 5e-6
    assert float(result.max()) == 15e-6
    assert clipped == int(((free < 5e-6) | (free > 15e-6)).sum())


def test_programming_error_refuses_negative_spread():
    with pytest.raises(ConfigError, match="relative"):
        ProgrammingError(relative=-0.1)
