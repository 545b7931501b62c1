"""Converters against a numpy quantiser written out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdls_cosim.analog import Adc, Dac, IdealAdc, IdealDac
from mdls_cosim.analog.periphery import code_range, quantise
from mdls_cosim.errors import ConfigError


def test_three_bits_signed_has_seven_codes_around_zero():
    values = torch.tensor([-5.0, -3.0, -2.4, -0.6, -0.4, 0.0, 0.4, 0.6, 1.6, 3.0, 3.4, 3.6])
    result = quantise(values, full_scale=3.0, bits=3, signed=True)
    assert result.values.tolist() == [-3, -3, -2, -1, 0, 0, 0, 1, 2, 3, 3, 3]
    # -5 and 3.6 round to codes that do not exist; 3.4 still rounds to the last code.
    assert result.saturated == 2


def test_unsigned_spends_every_code_above_zero():
    values = torch.tensor([-1.0, -0.4, 0.4, 0.6, 6.9, 7.0, 7.6])
    result = quantise(values, full_scale=7.0, bits=3, signed=False)
    assert result.values.tolist() == [0, 0, 0, 1, 7, 7, 7]
    assert result.saturated == 2


@given(
    values=st.lists(st.floats(-4, 4), min_size=1, max_size=20),
    full_scale=st.floats(0.1, 3),
    bits=st.integers(2, 12),
    signed=st.booleans(),
)
def test_agrees_with_numpy(values, full_scale, bits, signed):
    highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    lowest = -highest if signed else 0
    step = full_scale / highest
    codes = np.rint(np.array(values) / step)
    result = quantise(torch.tensor(values, dtype=torch.float64), full_scale, bits, signed)
    assert np.array_equal(result.values.numpy(), np.clip(codes, lowest, highest) * step)
    assert result.saturated == np.count_nonzero((codes < lowest) | (codes > highest))


@given(bits=st.integers(2, 10), signed=st.booleans())
def test_error_within_range_is_half_a_step(bits, signed):
    values = torch.linspace(-1 if signed else 0, 1, 501, dtype=torch.float64)
    result = quantise(values, 1.0, bits, signed)
    step = 1.0 / code_range(bits, signed)[1]
    assert (result.values - values).abs().max() <= step / 2 * (1 + 1e-12)  # rounding of the products
    assert result.saturated == 0


def test_gradient_is_straight_through_within_range_and_zero_beyond():
    values = torch.tensor([-2.0, -0.3, 0.3, 2.0], requires_grad=True)
    result = quantise(values, 1.0, 4, signed=True)
    result.values.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 0]
    with torch.no_grad():
        assert torch.equal(result.values, quantise(values, 1.0, 4, signed=True).values)


def test_one_signed_bit_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"either side of zero.*2 bits or more"):
        quantise(torch.ones(1), 1.0, 1, signed=True)
    assert quantise(torch.tensor([0.2, 0.8]), 1.0, 1, signed=False).values.tolist() == [0, 1]


@pytest.mark.parametrize("ideal", [IdealDac(), IdealAdc()])
def test_ideal_converters_change_nothing(ideal):
    values = torch.tensor([-1e9, 0.1, 1e9])
    result = ideal.convert(values, 1.0, True)
    assert torch.equal(result.values, values)
    assert result.saturated == 0


@pytest.mark.parametrize("wrong", [{"bits": 0}, {"bits": 33}, {"bits": 2.5}, {"bits": 4, "full_scale": 0.0}, {}])
@pytest.mark.parametrize("kind", [Dac, Adc])
def test_impossible_converters_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match="full_scale" if "full_scale" in wrong else "bits"):
        kind(**wrong)
