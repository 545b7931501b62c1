"""ADCs against quantisers written out by hand, their errors against their statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mdls_cosim.analog.accumulator import Accumulator
from mdls_cosim.analog.adc import Adc, AdcErrors, AnyAdc, IdealAdc, LogarithmicAdc, full_scale_from
from mdls_cosim.analog.codes import clamp_codes
from mdls_cosim.errors import ConfigError, InputError


def test_three_bits_signed_has_seven_codes_around_zero():
    values = torch.tensor([-5.0, -3.0, -2.4, -0.6, -0.4, 0.0, 0.4, 0.6, 1.6, 3.0, 3.4, 3.6])
    result = Adc(bits=3).convert(values, signed=True)
    assert result.values.tolist() == [-3, -3, -2, -1, 0, 0, 0, 1, 2, 3, 3, 3]
    # -5 and 3.6 round to codes that do not exist; 3.4 still rounds to the last code.
    assert result.saturated == 2


def test_unsigned_spends_every_code_above_zero():
    values = torch.tensor([-1.0, -0.4, 0.4, 0.6, 6.9, 7.0, 7.6])
    result = Adc(bits=3).convert(values, signed=False)
    assert result.values.tolist() == [0, 0, 0, 1, 7, 7, 7]
    assert result.saturated == 2


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-4, 4), max_size=20),
    full_scale=st.floats(0.1, 3),
    bits=st.integers(2, 12),
    signed=st.booleans(),
    wants_gradient=st.booleans(),
)
def test_agrees_with_numpy(values, full_scale, bits, signed, wants_gradient):
    highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    steps = np.array(values, dtype=float) * (highest / full_scale)
    adc = Adc(bits=bits)
    assert adc.unit(signed) == highest
    given_steps = torch.tensor(steps, requires_grad=wants_gradient)
    result = adc.convert(given_steps, signed)
    codes = np.clip(np.rint(steps), -highest if signed else 0, highest)
    assert np.array_equal(result.values.detach().numpy(), codes)
    assert result.saturated == np.count_nonzero(np.rint(steps) != codes)
    if wants_gradient:
        assert np.array_equal(given_steps.detach().numpy(), steps)


@settings(deadline=None)
@given(bits=st.integers(2, 10), signed=st.booleans())
def test_error_within_range_is_half_a_step(bits, signed):
    adc = Adc(bits=bits)
    values = torch.linspace(-1 if signed else 0, 1, 501, dtype=torch.float64) * adc.unit(signed)
    result = adc.convert(values.clone(), signed)
    assert (result.values - values).abs().max() <= 0.5
    assert result.saturated == 0


def test_nan_stays_and_does_not_hide_saturation():
    result = Adc(bits=3).convert(torch.tensor([float("nan"), 9.0, 1.0]), signed=True)
    assert result.values[0].isnan()
    assert result.values[1:].tolist() == [3, 1]
    assert result.saturated == 1


@pytest.mark.parametrize("compiling", [True, False])
@pytest.mark.parametrize("mark", [True, False])
def test_codes_are_counted_on_either_side(mark, compiling, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)  # as on an accelerator: nothing may wait
    codes = torch.tensor([-9.0, -4, -3, 0, 3, 4, 5, 8])
    saturated, beyond = clamp_codes(codes, -3, 4, mark)
    assert isinstance(saturated, torch.Tensor) == compiling
    assert int(saturated) == 4
    assert codes.tolist() == [-3, -3, -3, 0, 3, 4, 4, 4]
    assert (beyond is not None) == mark
    assert beyond is None or beyond.tolist() == [True, True, False, False, False, False, True, True]


@pytest.mark.parametrize("adc", [Adc(bits=4), LogarithmicAdc(bits=4)])
def test_gradient_is_straight_through_within_range_and_zero_beyond(adc):
    unit = adc.unit(True)
    values = (torch.tensor([-2.0, -0.3, 0.0, 1.0, 2.0]) * unit).requires_grad_()
    result = adc.convert(values, True)
    result.values.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 1, 0]
    assert result.saturated == 2
    assert torch.equal(result.values, adc.convert(values.detach().clone(), True).values)


def test_what_comes_back_may_be_written_over_in_training():
    values = torch.tensor([0.3, 1.7], requires_grad=True)
    result = Adc(bits=4).convert(values, True).values.mul_(3.0)
    result.sum().backward()
    assert result.tolist() == [0, 6]
    assert values.grad is not None
    assert values.grad.tolist() == [3, 3]


def test_ideal_converter_changes_nothing():
    values = torch.tensor([-1e9, 0.1, 1e9])
    result = IdealAdc().convert(values.clone(), True)
    assert torch.equal(result.values, values)
    assert result.saturated == 0
    assert IdealAdc().errors((3, 4), 0) is None


@pytest.mark.parametrize("kind", [Adc, LogarithmicAdc])
@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 0},
        {"bits": 33},
        {"bits": 2.5},
        {"bits": 4, "full_scale": 0.0},
        {},
        {"bits": 4, "range": "mean"},
        {"bits": 4, "range": 101.0},
        {"bits": 4, "noise": -1.0},
        {"bits": 4, "columns_per_adc": 0},
    ],
)
def test_impossible_converters_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match=next((name for name in wrong if name != "bits"), "bits")):
        kind(**wrong)


def test_one_signed_bit_is_refused_with_the_reason():
    for kind in (Adc, LogarithmicAdc):
        with pytest.raises(ConfigError, match=r"either side of zero.*2 bits or more"):
            kind(bits=1).convert(torch.ones(1), signed=True)
    assert Adc(bits=1).convert(torch.tensor([0.2, 0.8]), signed=False).values.tolist() == [0, 1]


@pytest.mark.parametrize(("bits", "signed"), [(2, True), (1, False)])
def test_a_logarithm_of_one_magnitude_is_refused(bits, signed):
    with pytest.raises(ConfigError, match=rf"two magnitudes or more.*{bits + 1} bits or more"):
        LogarithmicAdc(bits=bits).convert(torch.ones(1), signed)


@pytest.mark.parametrize("adc", [IdealAdc(), Adc(bits=5, range=99.9, offset=0.5), LogarithmicAdc(bits=5, decades=3)])
def test_kind_leads_back_to_the_same_adc(adc):
    assert TypeAdapter(AnyAdc).validate_python(adc.as_dict()) == adc


# Logarithmic


@settings(deadline=None)
@given(bits=st.integers(3, 9), decades=st.floats(0.5, 5), signed=st.booleans())
def test_logarithmic_codes_are_spaced_by_one_ratio(bits, decades, signed):
    highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    exponents = torch.linspace(-decades - 1, 0.3, 2001, dtype=torch.float64)
    magnitudes = torch.cat([torch.zeros(1, dtype=torch.float64), 10**exponents])
    adc = LogarithmicAdc(bits=bits, decades=decades)
    result = adc.convert(magnitudes.clone(), signed)
    converted = result.values

    half_ratio = 10 ** (decades / (highest - 1) / 2)
    smallest = 10**-decades / half_ratio
    inside = (magnitudes >= smallest * (1 + 1e-9)) & (magnitudes <= half_ratio * (1 - 1e-9))
    ratio = converted[inside] / magnitudes[inside]
    assert ratio.max() <= half_ratio * (1 + 1e-9)
    assert ratio.min() >= 1 / half_ratio * (1 - 1e-9)
    assert (converted[magnitudes < smallest * (1 - 1e-9)] == 0).all()
    assert converted[0] == 0
    assert (converted.diff() >= 0).all()
    assert converted[-1] == 1
    assert len(converted[:-1].unique()) <= highest + 1
    above = magnitudes > half_ratio
    assert int((above & ((magnitudes / half_ratio - 1).abs() > 1e-9)).sum()) == pytest.approx(result.saturated, abs=1)

    mirrored = adc.convert(-magnitudes, signed)
    if signed:
        assert torch.equal(mirrored.values, -converted)
        assert mirrored.saturated == result.saturated
    else:
        assert (mirrored.values == 0).all()
        assert mirrored.saturated == int((magnitudes >= smallest).sum())


def test_logarithmic_errors_are_factors_and_leave_zero_alone():
    adc = LogarithmicAdc(bits=6, decades=3.0, noise=2.0)
    values = torch.tensor([0.0, 0.1, -0.1], dtype=torch.float64)
    one_step = AdcErrors(offset=torch.tensor([1.0]))
    moved = adc.replace(noise=0.0).convert(values.clone(), True, one_step).values
    plain = adc.replace(noise=0.0).convert(values.clone(), True).values
    assert moved[0] == 0
    torch.testing.assert_close(moved[1:] / plain[1:], torch.full((2,), 10 ** (3 / 30), dtype=torch.float64))
    noisy = adc.convert(torch.zeros(1000), True, generator=torch.Generator().manual_seed(0))
    assert (noisy.values == 0).all()


# Errors


def test_errors_have_the_stated_spread_and_are_shared_by_neighbours():
    adc = Adc(bits=8, offset=0.7, gain_error=0.02, columns_per_adc=4)
    errors = adc.errors((40, 100, 10), seed=5)
    assert errors is not None
    assert errors.bow is None
    for part, spread in ((errors.offset, 0.7), (errors.gain, 0.02)):
        assert part is not None
        assert part.shape == (40, 100, 10)
        # Ten columns have three converters, of four, four and two columns.
        own = part[..., ::4]
        assert torch.equal(part, own.repeat_interleave(4, -1)[..., :10])
        assert own.unique().numel() == 40 * 100 * 3
        # 12000 draws: the standard deviation is known to 0.65 % (one sigma), the mean to 0.9 % of it.
        assert float(own.std()) == pytest.approx(spread, rel=0.03)
        assert abs(float(own.mean())) < 0.04 * spread


def test_errors_depend_on_the_seed_alone():
    adc = Adc(bits=6, offset=1.0)
    more = adc.replace(gain_error=0.1, integral_nonlinearity=1.0)
    first, again, with_others, other = (a.errors((3, 8), s) for a, s in ((adc, 1), (adc, 1), (more, 1), (adc, 2)))
    assert first is not None
    assert again is not None
    assert with_others is not None
    assert other is not None
    assert first.offset is not None
    assert torch.equal(first.offset, again.offset)
    assert torch.equal(first.offset, with_others.offset)
    assert not torch.equal(first.offset, other.offset)
    assert Adc(bits=6, noise=1.0).errors((3, 8), 1) is None


@pytest.mark.parametrize("signed", [True, False])
def test_integral_nonlinearity_peaks_as_stated_and_is_zero_at_both_ends(signed):
    adc = Adc(bits=12, integral_nonlinearity=20.0)
    errors = adc.errors((2000, 1), seed=0)
    assert errors is not None
    highest = adc.unit(signed)
    ramp = torch.linspace(-highest if signed else 0, highest, 4001, dtype=torch.float64)
    deviation = adc.convert(ramp.repeat(2000, 1), signed, errors).values - ramp
    # Rounding to codes moves every peak by half a step at most.
    assert deviation.abs().amax(-1).sub(20).abs().max() <= 0.5
    assert deviation[:, [0, -1]].abs().max() <= 0.5
    # A bow keeps its sign, an S does not: both are among what is drawn.
    both_signs = (deviation.amax(-1) > 5) & (deviation.amin(-1) < -5)
    assert 0.1 < float(both_signs.double().mean()) < 0.9


def test_offset_gain_and_integral_act_on_the_columns_they_belong_to():
    errors = AdcErrors(
        offset=torch.tensor([2.0, 0.0, 0.0]),
        gain=torch.tensor([0.0, 0.1, 0.0]),
        bow=torch.tensor([0.0, 0.0, 3.0]),
        skew=torch.zeros(3),
    )
    values = torch.tensor([[-20.0, -20.0, 0.0], [20.0, 20.0, 31.0]])
    converted = Adc(bits=6).convert(values, True, errors).values
    assert converted.tolist() == [[-18, -22, 3], [22, 22, 31]]
    # Another shape: two vectors of one tile, the vectors between tile and columns.
    three_tiles = errors.apply(lambda part: part.reshape(3, 1, 1))
    assert Adc(bits=6).convert(torch.zeros(3, 2, 1), True, three_tiles).values.flatten().tolist() == [2, 2, 0, 0, 3, 3]


def test_noise_is_drawn_from_the_generator():
    adc = Adc(bits=12, noise=30.0)
    values = torch.full((50_000,), 100.0)
    converted = adc.convert(values.clone(), True, generator=torch.Generator().manual_seed(3)).values
    # Rounding adds a twelfth of a squared step to a variance of 900; the spread of 50 000 draws is known to 0.32 %.
    assert float(converted.std()) == pytest.approx(30.0, rel=0.015)
    assert float(converted.mean()) == pytest.approx(100.0, abs=0.7)
    again = adc.convert(values.clone(), True, generator=torch.Generator().manual_seed(3)).values
    assert torch.equal(converted, again)
    with pytest.raises(InputError, match="generator"):
        adc.convert(values, True)


# Ranges


def heavy_tailed(count=20_000):
    return torch.distributions.StudentT(2.0).sample((count,)).double()


def converted_error(adc, samples, full_scale, signed=True):
    """Mean squared error of a conversion with this full scale."""
    unit = adc.unit(signed) / full_scale
    return float((adc.convert(samples * unit, signed).values / unit - samples).square().mean())


@pytest.mark.parametrize("kind", [Adc, LogarithmicAdc])
def test_ranges_that_clip_beat_the_largest_value_on_heavy_tails(kind):
    torch.manual_seed(0)
    samples = heavy_tailed()
    adc = kind(bits=5)
    largest = full_scale_from(samples, adc, True)
    assert largest == float(samples.abs().max())
    least = full_scale_from(samples, adc.replace(range="minimum error"), True)
    best = converted_error(adc, samples, least)
    # No full scale of a grid of another spacing does better by more than what lies between two of its own points.
    assert best <= 1.02 * min(converted_error(adc, samples, largest * share) for share in np.geomspace(1e-3, 1, 77))
    assert best < converted_error(adc, samples, largest)
    if kind is Adc:
        percentile = full_scale_from(samples, adc.replace(range=99.9), True)
        typical = samples[samples.abs() < percentile]
        assert converted_error(adc, typical, percentile) < 0.2 * converted_error(adc, typical, largest)


def test_percentile_is_of_the_magnitudes_that_are_not_zero():
    samples = torch.cat([torch.zeros(5000), torch.arange(1.0, 1001.0)])
    assert full_scale_from(samples, Adc(bits=4, range=99.0), False) == 990
    assert full_scale_from(-samples, Adc(bits=4, range=99.0), True) == 990
    assert full_scale_from(samples, Adc(bits=4, range=100.0), True) == 1000


def test_ranges_at_their_ends():
    samples = torch.tensor([-3.0, 1.0])
    assert full_scale_from(samples, IdealAdc(), True) == 1
    assert full_scale_from(samples, Adc(bits=4, full_scale=2.5), True) == 2.5
    assert full_scale_from(samples, Adc(bits=4), True) == 3
    assert full_scale_from(samples, Adc(bits=4), False) == 1
    for method in ("max", 99.0, "minimum error"):
        assert full_scale_from(torch.zeros(4), Adc(bits=4, range=method), True) == 0
    with pytest.raises(InputError, match="not finite"):
        full_scale_from(torch.tensor([1.0, float("nan")]), Adc(bits=4), True)


# Accumulator


@settings(deadline=None)
@given(
    partials=st.lists(st.lists(st.integers(-40, 40), min_size=3, max_size=3), min_size=1, max_size=6),
    bits=st.integers(3, 9),
    step=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_accumulator_is_a_register_that_saturates(partials, bits, step):
    highest = 2 ** (bits - 1) - 1
    totals, saturated = [0, 0, 0], 0
    for partial in partials:
        for column, number in enumerate(partial):
            wished = totals[column] + number
            totals[column] = max(-highest, min(highest, wished))
            saturated += totals[column] != wished
    result = Accumulator(bits=bits, step=step).add(torch.tensor(partials, dtype=torch.float64) * step, 0)
    assert result.values.tolist() == [total * step for total in totals]
    assert result.saturated == saturated


def test_accumulator_rounds_what_is_less_than_its_last_bit():
    partials = torch.tensor([1.2, 0.9, -0.8])  # the total: 1.2 -> 2, 2.9 -> 2, 1.2 -> 2
    assert Accumulator(bits=4, step=2.0).add(partials, 0).values == 2


def test_accumulator_without_a_width_is_the_sum():
    partials = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    result = Accumulator().add(partials, 1)
    assert torch.equal(result.values, partials.sum(1))
    assert result.saturated == 0


def test_accumulator_adds_along_the_named_dimension_and_carries_the_gradient():
    partials = torch.tensor([[3.0, 3.0, -5.0], [1.0, 1.2, 0.9]], requires_grad=True)
    result = Accumulator(bits=3).add(partials, -1)
    assert result.values.tolist() == [-2, 3]  # 3, 3 (6 does not fit), -2; 1, 2, 3
    assert result.saturated == 1
    result.values.sum().backward()
    assert partials.grad is not None
    assert partials.grad.tolist() == [[0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"bits": 33}, {"step": 0.0}])
def test_impossible_accumulators_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Accumulator(**wrong)
