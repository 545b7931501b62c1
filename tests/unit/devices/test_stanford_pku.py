"""The Stanford-PKU model: its limits, its bounds, its heat, its random walk."""

import math

import numpy as np
import pytest
import torch

from mdls_cosim.devices.parameter_files import read_parameters
from mdls_cosim.devices.stanford_pku import StanfordPku
from mdls_cosim.errors import ConfigError

DEVICE = StanfordPku()
K_OVER_Q = 8.617333262e-5


def published_gap_rate(voltage: float, gap: float, ambient: float = 300.0, least_field: float = 1.4e9) -> float:
    """dg/dt [m/s] of the source: no motion below F_min, and bounds that it leaves to a clip."""
    current = 1e-3 * math.exp(-gap / 0.25e-9) * math.sinh(voltage / 0.25)
    volts = K_OVER_Q * (ambient + abs(voltage * current) * 2.1e3)
    gamma = 16 - 0.8 * (gap / 1e-9) ** 3
    if gamma * abs(voltage) / 12e-9 < least_field:
        gamma = 0.0
    return -10 * math.exp(-0.6 / volts) * math.sinh(gamma * 0.25 / 12 * voltage / volts)


@pytest.mark.parametrize("voltage", [-2.0, -1.5, -0.8, 0.3, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("x", [0.25, 0.5, 0.7])
def test_away_from_threshold_and_bounds_it_is_the_published_rate(voltage: float, x: float):
    gap = 1.7e-9 - x * 1.5e-9
    field = (16 - 0.8 * (gap * 1e9) ** 3) * abs(voltage) / 12e-9
    assert abs(field - 1.4e9) > 12 * DEVICE.field_width  # where the step is over
    expected = -published_gap_rate(voltage, gap) / 1.5e-9
    found = float(DEVICE.state_rate(np.array(voltage), np.array(x)))
    # e^-12 of the rate without threshold.
    free = abs(published_gap_rate(voltage, gap, least_field=0.0)) / 1.5e-9
    assert found == pytest.approx(expected, abs=6.2e-6 * free)
    warm = float(DEVICE.state_rate(np.array(voltage), np.array(x), 360.0))
    free = abs(published_gap_rate(voltage, gap, 360.0, 0.0)) / 1.5e-9
    assert warm == pytest.approx(-published_gap_rate(voltage, gap, 360.0) / 1.5e-9, abs=6.2e-6 * free)


def test_narrow_widths_give_the_published_step():
    sharp = DEVICE.replace(field_width=1e3, bound_width=1e-6)
    gap = 1.7e-9 - 0.5 * 1.5e-9
    onset = 1.4e9 * 12e-9 / (16 - 0.8 * (gap * 1e9) ** 3)
    for share, moves in ((0.9999, False), (1.0001, True)):
        found = float(sharp.state_rate(np.array(share * onset), np.array(0.5)))
        expected = -published_gap_rate(share * onset, gap) / 1.5e-9
        assert (expected > 0) == moves
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_gap_beyond_its_bounds_is_pulled_back_and_rests_at_them():
    for voltage, end, beyond in ((1.6, 1.0, 1.001), (-1.6, 0.0, -0.001)):
        there, outside = DEVICE.state_rate(np.array(voltage), np.array([end, beyond]))
        assert there == 0
        assert outside * voltage < 0
    # The other way it leaves at full speed.
    assert DEVICE.state_rate(np.array(-1.6), np.array(1.0)) < -1e5
    assert DEVICE.state_rate(np.array(1.9), np.array(0.0)) > 1e5


def test_its_heat_is_its_power():
    voltage, state = np.array([-1.2, 0.4, 1.5]), np.array([0.2, 0.6, 0.9])
    power = voltage * DEVICE.current(voltage, state)
    assert np.all(power > 0)
    np.testing.assert_allclose(DEVICE.filament_temperature(voltage, state, 320.0), 320 + 2.1e3 * power, rtol=1e-14)


def test_the_set_of_the_package_is_the_default():
    written = StanfordPku.from_text_dict(read_parameters("stanford_pku_hfox"))
    assert written.migration_energy == pytest.approx(DEVICE.migration_energy, rel=1e-14)
    assert written.replace(migration_energy=DEVICE.migration_energy) == DEVICE


@pytest.mark.parametrize(
    "changes",
    [
        {"largest_gap": 0.2e-9},
        {"velocity": 0.0},
        {"thermal_resistance": -1.0},
        {"bound_width": 0.0},
        {"field_width": "5 V"},
        {"window": 1},
    ],
    ids=str,
)
def test_impossible_ones_are_refused(changes):
    with pytest.raises(ConfigError):
        StanfordPku(**changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_stays_finite_far_outside_of_validity(dtype):
    voltage = torch.linspace(-5, 5, 201, dtype=dtype)[:, None].requires_grad_()
    state = torch.linspace(-1e-3, 1 + 1e-3, 41, dtype=dtype).requires_grad_()
    for kelvin in (200.0, 500.0):
        current = DEVICE.current(voltage, state, kelvin)
        rate = DEVICE.state_rate(voltage, state, kelvin)
        assert torch.isfinite(current).all()
        assert torch.isfinite(rate).all()
    gradients = torch.autograd.grad(torch.log1p(rate.abs()).sum() + torch.log1p(current.abs()).sum(), (voltage, state))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


class TestRandomWalk:
    def test_one_interval_is_one_draw_of_the_source(self):
        """There the gap moves by N(0, 1) delta/(1 + exp((T_crit - T)/T_smth)) times the step of 1 ns."""
        voltage, state = np.array(1.1), np.array(0.6)
        kelvin = DEVICE.filament_temperature(voltage, state, 298.0)
        step = 0.02 / (1 + math.exp((450 - kelvin) / 500)) * 1e-9
        noise = DEVICE.state_noise(voltage, state, 298.0)
        assert noise * 1e-9**0.5 * 1.5e-9 == pytest.approx(step, rel=1e-12)

    def test_without_drift_the_spread_is_that_of_diffusion(self):
        """At 0 V, 298 K: 0.27 nm in 1 us."""
        noise = DEVICE.state_noise(np.array(0.0), np.array(0.5), 298.0)
        assert noise * 1e-6**0.5 * 1.5 == pytest.approx(0.02 / (1 + math.exp(152 / 500)) * 1e-9**0.5 * 1e-3 * 1e9)

    def test_the_variance_converges_as_the_step_shrinks(self):
        """Euler and Maruyama, every step size along the same paths; the source's recipe does not converge."""
        device = DEVICE.replace(noise_velocity=5e-3)
        paths, finest, end = 4000, 512, 40e-9
        draws = np.random.default_rng(7).standard_normal((finest, paths)) * (end / finest) ** 0.5
        voltage = np.full(paths, -1.2)

        def variance(steps: int) -> float:
            state, step = np.full(paths, 0.9), end / steps
            for increment in draws.reshape(steps, -1, paths).sum(1):
                drift, noise = device.state_rate(voltage, state), device.state_noise(voltage, state)
                state = state + drift * step + noise * increment
            return float(state.var())

        found = [variance(steps) for steps in (8, 16, 32, 64, 128, 256, 512)]
        gaps = np.abs(np.diff(found))
        assert gaps[0] > 3e-3 * found[-1]  # the steps do matter
        # First order: each gap is half of the one before, all but the statistics of the last ones.
        assert np.all(gaps[1:] < 0.75 * gaps[:-1])
        assert gaps[-1] < 1e-3 * found[-1]
