"""Every effect's statistics against their closed forms.

Seeds are fixed, so nothing here is left to chance; limits are five standard errors, or a Kolmogorov-Smirnov test at
1e-3.
"""

import numpy as np
import pytest
from scipy import stats

from mdls_cosim.devices import PassiveTio2, PhaseChange
from mdls_cosim.devices.variability import (
    CycleToCycle,
    DeviceToDevice,
    Drift,
    Effect,
    Endurance,
    FiniteStates,
    Flicker,
    Lognormal,
    Normal,
    PolynomialSpread,
    ProgrammingError,
    Randomness,
    RandomTelegraphNoise,
    ReadNoise,
    Retention,
    Samples,
    Stuck,
    Variability,
)
from mdls_cosim.devices.variability.telegraph import _last_mark

SPAN = (0.0, 100e-6)
CELLS = 200_000
ELECTRON_VOLT = 1.602176634e-19
BOLTZMANN_EV = 8.617333262e-5


def written(*effects: Effect, target: float | np.ndarray = 50e-6, seed: int = 11, **more) -> np.ndarray:
    targets = np.broadcast_to(np.asarray(target, dtype=float), (CELLS,)).copy()
    return Variability(effects=effects).programmed(targets, SPAN, seed, **more).conductances


def found(*effects: Effect, start: float | np.ndarray = 50e-6, seed: int = 11, **more) -> np.ndarray:
    cells = np.broadcast_to(np.asarray(start, dtype=float), (CELLS,)).copy()
    return Variability(effects=effects).at(cells, SPAN, seed, **more).conductances


def agrees(sample: np.ndarray, distribution) -> bool:
    return stats.kstest(sample, distribution.cdf).pvalue > 1e-3


class TestSpread:
    def test_lognormal(self):
        factors = written(DeviceToDevice(distribution=Lognormal(sigma=0.3))) / 50e-6
        assert agrees(factors, stats.lognorm(0.3))
        assert factors.mean() == pytest.approx(np.exp(0.045), abs=5 * 0.32 / CELLS**0.5)

    @pytest.mark.parametrize("truncation", [1.0, 2.5, 4.0])
    def test_normal_is_truncated(self, truncation: float):
        factors = written(DeviceToDevice(distribution=Normal(sigma=0.2, truncation=truncation))) / 50e-6
        assert agrees(factors, stats.truncnorm(-truncation, truncation, loc=1, scale=0.2))
        assert np.all(np.abs(factors - 1) <= 0.2 * truncation * (1 + 1e-12))
        own = stats.norm
        shrunk = (1 - 2 * truncation * own.pdf(truncation) / (2 * own.cdf(truncation) - 1)) ** 0.5
        assert factors.std() == pytest.approx(0.2 * shrunk, rel=5 / (2 * CELLS) ** 0.5)

    def test_samples_are_as_frequent_as_measured(self):
        factors = written(DeviceToDevice(distribution=Samples(values=(0.5, 1.0, 1.0, 1.5)))) / 50e-6
        counts = [np.sum(np.isclose(factors, value)) for value in (0.5, 1.0, 1.5)]
        assert stats.chisquare(counts, [CELLS / 4, CELLS / 2, CELLS / 4]).pvalue > 1e-3

    def test_a_polynomial_of_the_conductance(self):
        spread = PolynomialSpread(coefficients=(1e-6, 2e-6, -0.1e-6), scale=10e-6)
        for target in (10e-6, 50e-6, 100e-6):
            share = target / 10e-6
            sigma = 1e-6 + 2e-6 * share - 0.1e-6 * share**2
            assert agrees(written(DeviceToDevice(distribution=spread), target=target), stats.norm(target, sigma))

    def test_cycles_and_cells_are_independent(self):
        speeds = Variability(effects=(CycleToCycle(distribution=Lognormal(sigma=0.4)),))
        cycles = np.log([speeds.factors((CELLS,), 3, cycle) for cycle in range(4)])
        for cycle in cycles:
            assert agrees(cycle, stats.norm(0, 0.4))
        between = np.corrcoef(cycles) - np.eye(4)
        assert np.abs(between).max() < 5 / CELLS**0.5
        assert abs(np.corrcoef(cycles[0, 1:], cycles[0, :-1])[0, 1]) < 5 / CELLS**0.5

    def test_the_passive_devices(self):
        """Of 20 uS at 300 K: sigma(A1) = -1.07 + 5 + 0.5907 - 0.52 uS about A1 = 20.09 uS."""
        device = PassiveTio2()
        target = float(device.conductance(np.asarray(20e-6)))
        found = device.variability().programmed(np.full(CELLS, target), device.conductance_range(), 4).conductances
        expected = -1.07e-6 + 0.25 * 20e-6 + 2.2e-8 * 26.85 - 1300 * (20e-6) ** 2
        assert np.std(found) == pytest.approx(expected, rel=5 / (2 * CELLS) ** 0.5)
        assert np.mean(found) == pytest.approx(target, abs=5 * expected / CELLS**0.5)


class TestProgramming:
    def test_relative_absolute_and_polynomial_add_in_squares(self):
        error = ProgrammingError(relative=0.03, absolute=1e-6, polynomial=(0.0, 0.02e-6), polynomial_scale=1e-6)
        for target in (20e-6, 80e-6):
            sigma = ((0.03 * target) ** 2 + 1e-12 + (0.02 * target) ** 2) ** 0.5
            assert agrees(written(error, target=target), stats.norm(target, sigma))

    @pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
    def test_phase_change(self, share: float):
        """Word for word from 10.1109/ICECS46596.2019.8964852, in uS."""
        (error, *_) = PhaseChange().variability().effects
        sigma = 1e-6 * max(-1.1731 * share**2 + 1.9650 * share + 0.26348, 0)
        found = written(error, target=share * 25e-6)
        held = stats.norm(share * 25e-6, sigma)
        zero = held.cdf(0)
        assert np.mean(found == 0) == pytest.approx(zero, abs=5 * (zero / CELLS) ** 0.5 + 1e-12)
        assert agrees(found[found > 0], stats.truncnorm(-share * 25e-6 / sigma, np.inf, loc=held.mean(), scale=sigma))

    def test_a_negative_polynomial_is_no_spread(self):
        error = ProgrammingError(polynomial=(1e-6, -1e-6), polynomial_scale=40e-6)
        assert np.all(written(error, target=60e-6) == 60e-6)

    def test_writes_are_independent(self):
        error = ProgrammingError(relative=0.1)
        writes = [written(error, programming=number) for number in range(3)]
        assert np.abs(np.corrcoef(writes) - np.eye(3)).max() < 5 / CELLS**0.5

    def test_rounding_to_n_states_is_uniform_within_a_step(self):
        targets = np.random.default_rng(2).uniform(*SPAN, CELLS)
        step = 100e-6 / 31
        # A uniform target's distance from the nearest state: +-step/2 (the ends have half a step, like all others).
        assert agrees(written(FiniteStates(states=32), target=targets) - targets, stats.uniform(-step / 2, step))

    def test_stuck_cells_are_as_many_as_told(self):
        cells = written(Stuck(on=0.03, off=0.07))
        for value, share in ((100e-6, 0.03), (0.0, 0.07)):
            assert np.mean(cells == value) == pytest.approx(share, abs=5 * (share * (1 - share) / CELLS) ** 0.5)


class TestEndurance:
    def test_lives_are_weibulls(self):
        mortal = Endurance(lifetime=1e6, shape=1.7)
        for cycles in (1e5, 5e5, 1e6, 3e6):
            failed = np.mean(written(mortal, cycles=cycles) == 100e-6)
            expected = 1 - np.exp(-((cycles / 1e6) ** 1.7))
            assert failed == pytest.approx(expected, abs=5 * (expected * (1 - expected) / CELLS) ** 0.5)

    def test_the_window_loses_a_share_in_every_decade(self):
        closing = Endurance(closing=0.1, onset=1.0, centre=0.0)
        tops = [written(closing, target=100e-6, cycles=cycles)[0] for cycles in (1e3, 1e4, 1e5)]
        np.testing.assert_allclose(np.diff(tops), -10e-6, rtol=1e-3)  # log10(1 + n) for log10 n


class TestDrift:
    def test_ln_g_falls_straight_with_ln_t(self):
        drift = Drift(exponent=0.06, exponent_spread=0.02, start_time=20.0)
        times = np.array([40.0, 4e2, 4e4, 4e7])
        logs = np.log([found(drift, time=time) / 50e-6 for time in times])
        exponents = -logs / np.log(times / 20)[:, None]
        np.testing.assert_allclose(exponents[1:], np.broadcast_to(exponents[0], (3, CELLS)), rtol=1e-9, atol=1e-12)
        assert agrees(exponents[0], stats.norm(0.06, 0.02))

    def test_nothing_drifts_before_its_start(self):
        assert np.all(found(Drift(exponent=0.06, start_time=20.0), time=20.0) == 50e-6)

    @pytest.mark.parametrize("share", [1.0, 0.3, 0.03, 1e-3])
    def test_phase_change_exponents(self, share: float):
        """Word for word from 10.1109/ICECS46596.2019.8964852."""
        drift = PhaseChange().variability().effects[1]
        exponents = -np.log(found(drift, start=share * 25e-6, time=2e4) / (share * 25e-6)) / np.log(1e3)
        mean = min(max(-0.0155 * np.log(share) + 0.0244, 0.049), 0.1)
        spread = min(max(-0.0125 * np.log(share) - 0.0059, 0.008), 0.045)
        assert agrees(exponents, stats.norm(mean, spread))

    def test_arrhenius(self):
        """The same loss takes exp(E_a/k (1/T - 1/300 K)) times as long at T."""
        drift = Drift(exponent=0.06, start_time=1.0, activation_energy=0.7 * ELECTRON_VOLT)
        slower = np.exp(0.7 / BOLTZMANN_EV * (1 / 350 - 1 / 300))
        at_room = found(drift, time=1e6)
        np.testing.assert_allclose(found(drift, time=1e6 * slower, temperature=350.0), at_room, rtol=1e-7)


class TestRetention:
    @pytest.mark.parametrize("stretching", [1.0, 0.4])
    def test_it_relaxes_as_a_stretched_exponential(self, stretching: float):
        relax = Retention(time_constant=1e4, stretching=stretching, level=10e-6)
        for time in (0.0, 1e3, 1e4, 1e5):
            left = (found(relax, time=time) - 10e-6) / 40e-6
            np.testing.assert_allclose(left, np.exp(-((time / 1e4) ** stretching)), rtol=1e-9, atol=1e-12)

    def test_it_relaxes_to_the_lowest_conductance_from_either_side(self):
        relax = Variability(effects=(Retention(time_constant=1.0),))
        np.testing.assert_allclose(relax.at(np.array([1e-6, 9e-6]), (5e-6, 9e-6), 1, time=50.0).conductances, 5e-6)

    @pytest.mark.parametrize("stretching", [1.0, 0.4])
    def test_time_constants_are_lognormal(self, stretching: float):
        relax = Retention(time_constant=1e4, stretching=stretching, spread=0.8)
        constants = 5e3 / (-np.log(found(relax, time=5e3) / 50e-6)) ** (1 / stretching)
        assert agrees(constants, stats.lognorm(0.8, scale=1e4))

    def test_arrhenius(self):
        relax = Retention(time_constant=1e8, activation_energy=1.1 * ELECTRON_VOLT)
        inverse = 1 / np.array([300.0, 350.0, 400.0, 450.0])
        constants = [1e3 / -np.log(found(relax, time=1e3, temperature=float(1 / own))[0] / 50e-6) for own in inverse]
        slopes = np.diff(np.log(constants)) / np.diff(inverse) * BOLTZMANN_EV
        # At 300 K a hundred-thousandth is lost: its logarithm has eleven digits left.
        np.testing.assert_allclose(slopes, 1.1, rtol=1e-8)
        assert constants[0] == pytest.approx(1e8)


TRAP = RandomTelegraphNoise(amplitude=0.2, capture_time=3e-3, emission_time=1e-3)
TAU = 0.75e-3
FULL = 0.25


def full(times, trap: RandomTelegraphNoise = TRAP, cells: int = 40_000) -> np.ndarray:
    """Whether traps are full at `times` [s]: (times, cells)."""
    return np.array([trap.full((cells,), Randomness(8), float(time), 300.0) for time in times])


class TestTelegraphNoise:
    @pytest.mark.parametrize("time", [0.0, 1e-4, 1.7e-3, 3.0, 1e9])
    def test_a_trap_is_full_as_often_as_it_should_be(self, time: float):
        states = full([time], cells=CELLS)[0]
        assert states.mean() == pytest.approx(FULL, abs=5 * (FULL * (1 - FULL) / CELLS) ** 0.5)
        # Neighbours know nothing of each other.
        assert abs(np.corrcoef(states[1:], states[:-1])[0, 1]) < 5 / CELLS**0.5

    def test_the_autocorrelation_decays_with_both_rates_together(self):
        start = 0.37
        lags = TAU * np.array([0.0, 0.1, 0.5, 1.0, 2.0, 4.0])
        states = full(start + lags, cells=CELLS)
        for lag, later in zip(lags, states, strict=True):
            found = np.mean((states[0] - FULL) * (later - FULL)) / (FULL * (1 - FULL))
            # The product's standard deviation over the variance is at most 2 here.
            assert found == pytest.approx(np.exp(-lag / TAU), abs=5 * 2 / CELLS**0.5)

    def test_dwell_times_are_exponential(self):
        """Long traces of some traps, sampled at a three-hundredth of tau: shorter visits are missed, and few."""
        step = TAU / 300
        times, cells = np.arange(30_000) * step, np.arange(60)
        marks = _last_mark(Randomness(8).key(), np.tile(cells, times.size), np.repeat(times / TAU, cells.size))
        trace = (marks < FULL).astype(float).reshape(times.size, cells.size)
        np.testing.assert_array_equal(trace[::5000], full(times[::5000], cells=60))
        for value, mean in ((1.0, 1e-3), (0.0, 3e-3)):
            dwells = []
            for cell in trace.T:
                edges = np.flatnonzero(np.diff(cell)) + 1
                dwells += np.diff(edges)[cell[edges[:-1]] == value].tolist()
            found = np.array(dwells) * step
            # Missed visits lengthen the rest by step/(2 t) of either state: 0.25 % at most.
            assert found.mean() == pytest.approx(mean, rel=5 / len(found) ** 0.5 + 0.003)
            assert found.std() == pytest.approx(mean, rel=10 / len(found) ** 0.5 + 0.003)

    def test_the_history_does_not_depend_on_who_asks_when(self):
        times = np.array([5e-3, 1e-3, 2.0, 1e-3, 0.0])
        states = full(times)
        np.testing.assert_array_equal(states[1], states[3])
        np.testing.assert_array_equal(full(times[::-1]), states[::-1])

    def test_the_conductance_has_two_values_about_its_mean(self):
        """G (1 + a p) while empty, G (1 + a p - a) while full."""
        values = found(TRAP, time=1.0)
        np.testing.assert_allclose(np.unique(values), [50e-6 * 0.85, 50e-6 * 1.05], rtol=1e-12)
        spread = 50e-6 * 0.2 * (FULL * (1 - FULL)) ** 0.5
        assert values.mean() == pytest.approx(50e-6, abs=5 * spread / CELLS**0.5)
        assert values.std() == pytest.approx(spread, rel=0.01)

    def test_only_a_share_has_a_trap(self):
        quiet = np.mean(found(TRAP.replace(share=0.3), time=1.0) == 50e-6)
        assert quiet == pytest.approx(0.7, abs=5 * (0.21 / CELLS) ** 0.5)

    def test_amplitudes_are_lognormal(self):
        values = found(TRAP.replace(amplitude=0.01, amplitude_spread=0.5), time=1.0) / 50e-6 - 1
        sizes = np.where(values > 0, values / FULL, -values / (1 - FULL))
        assert agrees(sizes, stats.lognorm(0.5, scale=0.01))

    def test_spread_times_keep_the_occupancy_and_slow_the_decay(self):
        wide = TRAP.replace(time_spread=1.5)
        states = full([1.0, 1.0 + TAU], wide, CELLS)
        assert states.mean() == pytest.approx(FULL, abs=5 * (FULL * (1 - FULL) / CELLS) ** 0.5)
        found = np.mean((states[0] - FULL) * (states[1] - FULL)) / (FULL * (1 - FULL))
        draws = np.linspace(-8, 8, 4001)
        expected = np.sum(np.exp(-np.exp(-1.5 * draws)) * stats.norm.pdf(draws)) * (draws[1] - draws[0])
        assert found == pytest.approx(expected, abs=5 * 2 / CELLS**0.5)

    def test_warm_traps_are_faster(self):
        warm = TRAP.replace(activation_energy=0.3 * ELECTRON_VOLT)
        factor = np.exp(-0.3 / BOLTZMANN_EV * (1 / 350 - 1 / 300))
        hot = warm.full((1000,), Randomness(8), 5e-3, 350.0)
        np.testing.assert_array_equal(hot, warm.full((1000,), Randomness(8), 5e-3 * factor, 300.0))
        assert factor > 5


class TestReadNoise:
    def test_relative_and_absolute_add_in_squares(self):
        noise = ReadNoise(relative=0.02, absolute=1e-6)
        assert agrees(found(noise), stats.norm(50e-6, (1e-12 + 1e-12) ** 0.5))

    @pytest.mark.parametrize(("share", "time"), [(1.0, 20.0), (0.2, 1e5), (1e-3, 1e5)])
    def test_phase_change_noise(self, share: float, time: float):
        """Word for word from 10.1109/ICECS46596.2019.8964852: of the drifted conductance, Q of the programmed one."""
        _, drift, noise = PhaseChange().variability().effects
        strength = min(0.0088 / share**0.65, 0.2)
        relative = strength * np.log((time + 250e-9) / 500e-9) ** 0.5
        for effects in ((noise,), (drift, noise)):
            drifted = found(*effects[:-1], start=share * 25e-6, time=time)
            noisy = found(*effects, start=share * 25e-6, time=time)
            kept = noisy > 0
            draws = noisy[kept] / drifted[kept] - 1
            assert agrees(draws, stats.truncnorm(-1 / relative, np.inf, scale=relative))

    def test_no_flicker_within_the_first_read(self):
        assert np.all(found(ReadNoise(flicker=Flicker(strength=0.1))) == 50e-6)

    def test_reads_are_independent(self):
        reads = [found(ReadNoise(relative=0.1), read=number) for number in range(3)]
        assert np.abs(np.corrcoef(reads) - np.eye(3)).max() < 5 / CELLS**0.5
