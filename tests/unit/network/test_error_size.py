"""Sizes of errors and their intervals."""

import numpy as np
import pytest

from mdls_cosim.network.error_size import Sample


def sized(error, truth, sample, step=None):
    return sample.size(error, truth, error, truth, step)


def test_columns_without_an_output_do_not_count():
    random = np.random.default_rng(0)
    truth, error = random.normal(size=(2, 2, 3, 10, 4))
    valid = np.array([[True] * 4, [True] * 4, [True, False, False, False]])
    found = sized(error, truth, Sample(valid, 10, True, 0), step=0.5)
    keep = np.broadcast_to(valid[:, None], (2, 3, 10, 4))
    rms = np.sqrt(np.mean(truth[keep] ** 2))
    assert found.rms == pytest.approx(np.sqrt(np.mean(error[keep] ** 2)) / rms)
    assert found.p99 == pytest.approx(np.percentile(np.abs(error[keep]), 99) / rms)
    assert found.adc_steps == pytest.approx(np.sqrt(np.mean(error[keep] ** 2)) / 0.5)


def test_the_interval_of_independent_normal_errors_is_that_of_theory():
    # The RMS of n normal numbers spreads by 1/sqrt(2 n) of it, so the interval is 1.96 of that to either side.
    random = np.random.default_rng(1)
    reads = 2000
    found = sized(
        random.normal(size=(1, 1, reads, 1)), np.ones((1, 1, reads, 1)), Sample(np.ones((1, 1), bool), reads, True, 0)
    )
    assert found.rms_interval is not None
    low, high = found.rms_interval
    # 1000 resamples know the width to some percent.
    assert (high - low) / 2 == pytest.approx(1.96 / np.sqrt(2 * reads), rel=0.12)


def test_columns_that_err_together_are_no_independent_evidence():
    random = np.random.default_rng(2)
    together = np.repeat(random.normal(size=(1, 1, 100, 1)), 50, -1)
    apart = random.normal(size=(1, 1, 100, 50))
    sample = Sample(np.ones((1, 50), bool), 100, True, 0)
    wide, narrow = (sized(error, np.ones_like(error), sample).rms_interval for error in (together, apart))
    # 50 independent columns narrow it by sqrt(50) = 7.
    assert 4 < (wide[1] - wide[0]) / (narrow[1] - narrow[0]) < 11


def test_a_sample_of_tiles_widens_the_interval():
    error = np.ones((1, 6, 50, 4)) * np.arange(1, 7)[None, :, None, None]
    valid = np.ones((6, 4), bool)
    every, some = (
        sized(error, np.ones_like(error), Sample(valid, 50, whole, 0)).rms_interval for whole in (True, False)
    )
    assert every[0] == every[1]
    assert some[0] < every[0] < some[1]


def test_one_tile_of_several_tells_no_interval():
    error = np.random.default_rng(3).normal(size=(1, 1, 50, 4))
    one = np.ones((1, 4), bool)
    found = sized(error, np.ones_like(error), Sample(one, 50, False, 0), step=1.0)
    assert found.rms_interval is found.p99_interval is found.adc_steps_interval is None
    # Of the only tile reads are all that is a sample.
    assert sized(error, np.ones_like(error), Sample(one, 50, True, 0)).rms_interval is not None


def test_rare_large_errors_reach_the_percentile_and_its_interval():
    # Two reads of 40 hold all errors: one resample in eight has neither, and its 99th percentile is zero.
    error = np.zeros((1, 1, 40, 20))
    error[0, 0, :2] = 1.0
    found = sized(error, np.ones_like(error), Sample(np.ones((1, 20), bool), 40, True, 0))
    assert found.p99 == 1.0
    assert found.p99_interval == (0.0, 1.0)


def test_one_read_tells_no_interval():
    found = sized(np.ones((1, 1, 1, 3)), np.ones((1, 1, 1, 3)), Sample(np.ones((1, 3), bool), 1, True, 0), step=1.0)
    assert found.rms == 1.0
    assert found.rms_interval is found.p99_interval is found.adc_steps_interval is None
