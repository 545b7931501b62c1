"""Measurements from tables: loops with and without times, pulses, levels, drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import DriftTrace, LevelTable, Loop, PulseTrain, Setup, read_measurement
from mdls_cosim.calibrate.waveforms import cycles_of, fit_sine, ramp_times
from mdls_cosim.errors import ConfigError, InputError


def table(folder: Path, header: str, *columns: np.ndarray) -> Path:
    path = folder / "table.csv"
    np.savetxt(path, np.stack(columns, axis=1), delimiter=",", header=header, comments="")
    return path


def one(path: Path, **setup):
    (measurement,), _ = read_measurement(path, Setup(**setup))
    return measurement


class TestSine:
    @pytest.mark.parametrize(
        ("samples", "count", "phase", "offset"),
        [(200.0, 200, -2.0, 0.0), (73.3, 400, 0.4, 0.2), (200.0, 150, 3.0, -0.1), (12.5, 300, 1.0, 0)],
    )
    def test_finds_the_sine(self, samples: float, count: int, phase: float, offset: float) -> None:
        noise = 1e-3 * np.random.default_rng(1).standard_normal(count)
        found = fit_sine(offset + 0.8 * np.sin(2 * np.pi * np.arange(count) / samples + phase) + noise)
        # Cramer-Rao: the period is known to about sqrt(6/N) noise/(pi A) of a period in the whole record.
        assert found.samples == pytest.approx(samples, rel=8 * np.sqrt(6 / count) * 1e-3 / 0.8 * samples / count)
        assert found.amplitude == pytest.approx(0.8, abs=1e-3)
        assert found.offset == pytest.approx(offset, abs=1e-3)
        assert found.residual == pytest.approx(1e-3 / 0.8, rel=0.2)
        times = found.times(10.0, count)
        assert np.diff(times) == pytest.approx(0.1 / found.samples)
        np.testing.assert_allclose(0.8 * np.sin(20 * np.pi * times) + offset, 0.8 * np.sin(
            2 * np.pi * np.arange(count) / samples + phase) + offset, atol=2e-3)  # fmt: skip

    def test_refuses_what_is_no_sine(self) -> None:
        with pytest.raises(InputError, match="not a sine"):
            fit_sine(np.random.default_rng(0).standard_normal(200))

    def test_a_triangle_is_refused_with_its_residual(self) -> None:
        place = np.arange(1000) / 200
        # Its harmonics: the RMS of 1/9, 1/25, ... of the fundamental, over the fundamental.
        expected = np.sqrt(sum(1 / n**4 for n in range(3, 99, 2)) / 2)
        with pytest.raises(InputError, match=f"{expected:.1%} of the amplitude"):
            fit_sine(2 * np.abs(2 * (place % 1) - 1) - 1)


class TestCycles:
    def test_two_and_a_half_sines(self) -> None:
        times = np.arange(250) * 0.01
        cycle, period = cycles_of(times, np.sin(2 * np.pi * times))
        assert period == pytest.approx(1.0)
        np.testing.assert_array_equal(np.bincount(cycle), [100, 100, 50])

    def test_one_sweep_is_one_cycle(self) -> None:
        voltages = np.concatenate([np.linspace(0, 1, 20), np.linspace(1, -1, 40), np.linspace(-1, 0, 20)])
        cycle, period = cycles_of(np.arange(80.0), voltages)
        assert not cycle.any()
        assert period is None

    def test_three_sweeps_with_noise(self) -> None:
        sweep = np.concatenate([np.linspace(0, 1, 20), np.linspace(1, -1, 40), np.linspace(-1, 0, 20)])
        voltages = np.tile(sweep, 3) + 0.01 * np.random.default_rng(0).standard_normal(240)
        cycle, period = cycles_of(np.arange(240.0), voltages)
        assert period == pytest.approx(80, rel=0.03)
        np.testing.assert_allclose(np.bincount(cycle), [80, 80, 80], atol=3)

    def test_ramp(self) -> None:
        times = ramp_times(np.array([0.0, 0.5, 1.0, 1.0, 0.5]), 2.0)
        np.testing.assert_allclose(times, [0, 0.25, 0.5, 0.75, 1.0])


class TestLoops:
    times = np.arange(100) * 1e-3
    voltages = np.sin(2 * np.pi * 10 * times)

    def test_with_times(self, tmp_path: Path) -> None:
        path = table(
            tmp_path, "time [ms],voltage [V],current [uA],cycle", self.times * 1e3, self.voltages, self.voltages,
            np.arange(100) // 50 + 3,
        )  # fmt: skip
        loop = one(path, temperature=350.0)
        assert isinstance(loop, Loop)
        np.testing.assert_allclose(loop.times, self.times, atol=1e-18)
        np.testing.assert_allclose(loop.currents, self.voltages * 1e-6, rtol=1e-15)
        assert (loop.applied, loop.periodic, loop.time_residual, loop.temperature) == (False, False, None, 350.0)
        np.testing.assert_array_equal(loop.cycles, [0, 1])
        assert loop.content_hash.startswith("sha256:")

    def test_times_that_begin_anew_in_every_cycle(self, tmp_path: Path) -> None:
        cycle = np.arange(100) // 40 + 1
        path = table(
            tmp_path, "time [s],voltage [V],current [uA],cycle", self.times - (cycle - 1) * 40e-3, self.voltages,
            self.voltages, cycle,
        )  # fmt: skip
        loop = one(path)
        np.testing.assert_allclose(loop.times, self.times, atol=1e-12)
        assert any("2 times; cycles are joined 0.001 s apart" in note for note in loop.notes)
        path = table(tmp_path, "time [s],voltage [V],current [uA]", self.times % 40e-3, self.voltages, self.voltages)
        with pytest.raises(InputError, match=r"times that do not increase.* line 42: .*a column cycle"):
            one(path)

    def test_applied_voltage_and_both(self, tmp_path: Path) -> None:
        path = table(tmp_path, "applied voltage [V],current [A]", self.voltages, self.voltages)
        loop = one(path, frequency=10.0, series_resistance=5e3)
        assert loop.applied
        assert loop.series_resistance == 5e3
        assert loop.periodic
        assert loop.time_residual == pytest.approx(0, abs=1e-6)
        assert np.ptp(loop.times) == pytest.approx(0.099, rel=1e-5)
        path = table(
            tmp_path, "applied voltage [V],voltage [V],current [A]", self.voltages, self.voltages**3, self.voltages
        )
        loop = one(path, frequency=10.0)  # the times come from the applied sine, not from the bent voltage
        assert not loop.applied
        np.testing.assert_allclose(loop.voltages, self.voltages**3)
        np.testing.assert_allclose(loop.applied_voltages, self.voltages)
        assert np.ptp(loop.times) == pytest.approx(0.099, rel=1e-5)

    def test_without_times_it_asks(self, tmp_path: Path) -> None:
        path = table(tmp_path, "voltage [V],current [A]", self.voltages, self.voltages)
        with pytest.raises(InputError, match="--frequency"):
            read_measurement(path)
        assert np.ptp(one(path, ramp_rate=1.0).times) == pytest.approx(np.abs(np.diff(self.voltages)).sum())

    def test_times_out_of_order_name_the_line(self, tmp_path: Path) -> None:
        times = self.times.copy()
        times[7] = times[6]
        path = table(tmp_path, "time [s],voltage [V],current [A]", times, self.voltages, self.voltages)
        with pytest.raises(InputError, match=r"do not increase at .*line 9"):
            read_measurement(path)

    @pytest.mark.parametrize("constant", ["voltages", "currents"])
    def test_what_does_not_vary(self, constant: str) -> None:
        arrays = {"voltages": self.voltages, "currents": self.voltages} | {constant: np.zeros(100)}
        with pytest.raises(InputError, match=f"{constant} that are all the same"):
            Loop("loop", self.times, **arrays)

    def test_impossible_arrays(self) -> None:
        with pytest.raises(InputError, match="too few points"):
            Loop("loop", self.times[:4], self.voltages[:4], self.voltages[:4])
        with pytest.raises(InputError, match=r"NaN.*currents, point 3"):
            Loop("loop", self.times, self.voltages, np.where(np.arange(100) == 2, np.nan, self.voltages))
        with pytest.raises(InputError, match="differ in length"):
            Loop("loop", self.times, self.voltages[:-1], self.voltages)

    def test_current_sign(self, tmp_path: Path) -> None:
        right = one(table(tmp_path, "time [s],voltage [V],current [A]", self.times, self.voltages, self.voltages))
        path = table(tmp_path, "time [s],voltage [V],current [A]", self.times, self.voltages, -self.voltages)
        with pytest.raises(InputError, match=r"currents against their voltages.*--current-sign reverse"):
            one(path)
        np.testing.assert_array_equal(one(path, current_sign="reverse").currents, right.currents)
        path = table(tmp_path, "time [s],voltage [V],current [A]", self.times, self.voltages, np.abs(self.voltages))
        with pytest.raises(InputError, match=r"one sign at both polarities.*--current-sign voltage"):
            one(path)
        np.testing.assert_allclose(one(path, current_sign="voltage").currents, right.currents, atol=1e-15)

    def test_negative_read_currents(self, tmp_path: Path) -> None:
        path = table(tmp_path, "pulse,current [A]", np.arange(30), -np.linspace(1e-7, 5e-7, 30))
        with pytest.raises(InputError, match=r"--current-sign reverse"):
            read_measurement(path, Setup(read_voltage=0.1))
        (train,), _ = read_measurement(path, Setup(read_voltage=0.1, current_sign="reverse"))
        assert train.direction == 1

    def test_known_columns_that_are_not_used_are_noted(self, tmp_path: Path) -> None:
        path = table(
            tmp_path, "time [s],voltage [V],current [A],resistance [ohm],level", self.times, self.voltages,
            self.voltages, np.full(100, 9.9e37), self.times * 0,
        )  # fmt: skip
        (loop,), read = read_measurement(path)
        assert isinstance(loop, Loop)
        assert read.notes == ("columns that a loop does not use: resistance, level",)

    def test_rows_without_numbers_are_left_out_where_asked(self, tmp_path: Path) -> None:
        currents = self.voltages.copy()
        currents[[7, 9]] = [9.91e37, np.nan]
        path = table(tmp_path, "time [s],voltage [V],current [A]", self.times, self.voltages, currents)
        with pytest.raises(InputError, match=r"line 9.*--skip-missing"):
            read_measurement(path)
        loop = one(path, skip_missing=True)
        assert len(loop.times) == 98
        assert loop.notes == ("2 of 100 rows without a number left out (first: line 9)",)


class TestPulses:
    up = np.linspace(1e-6, 5e-6, 30)

    def test_columns_are_ramps_of_their_own_direction(self, tmp_path: Path) -> None:
        path = table(tmp_path, "conductance [uS],conductance [uS],conductance [uS]", self.up * 1e6, self.up[::-1] * 1e6,
                     self.up * 1e6)  # fmt: skip
        (rising, falling), _ = read_measurement(path)
        assert (rising.direction, falling.direction) == (1, -1)
        np.testing.assert_allclose(rising.conductances, [self.up, self.up])
        np.testing.assert_allclose(falling.conductances, [self.up[::-1]])

    def test_ramps_below_each_other_and_currents(self, tmp_path: Path) -> None:
        pulse = np.tile(np.arange(30), 2)
        currents = 0.1 * np.concatenate([self.up, self.up[::-1]])
        path = table(tmp_path, "pulse,current [A]", pulse, currents)
        with pytest.raises(InputError, match="--read-voltage"):
            read_measurement(path)
        (rising, falling), _ = read_measurement(path, Setup(read_voltage=0.1))
        np.testing.assert_allclose(rising.conductances[0], self.up)
        np.testing.assert_allclose(falling.conductances[0], self.up[::-1])

    def test_ramps_of_unequal_length_end_with_empty_cells(self, tmp_path: Path) -> None:
        short = self.up.copy()
        short[25:] = np.nan
        path = table(tmp_path, "conductance [S],conductance [S]", self.up, short)
        (rising,), _ = read_measurement(path)
        assert np.isfinite(rising.conductances).sum(axis=1).tolist() == [30, 25]
        short[10] = np.nan
        path = table(tmp_path, "conductance [S],conductance [S]", self.up, short)
        with pytest.raises(InputError, match=r"without its conductance at .*ramp 2, pulse 11"):
            read_measurement(path)

    def test_a_ramp_without_direction(self, tmp_path: Path) -> None:
        path = table(tmp_path, "pulse,conductance [S]", np.arange(60), np.concatenate([self.up, self.up[::-1]]))
        with pytest.raises(InputError, match="neither rises nor falls"):
            read_measurement(path)

    def test_shares(self, tmp_path: Path) -> None:
        (train,), _ = read_measurement(table(tmp_path, "conductance [1]", self.up * 1e5), Setup(kind="pulses"))
        assert isinstance(train, PulseTrain)
        assert train.unit == ""


def test_levels(tmp_path: Path) -> None:
    targets = np.repeat([30.0, 10.0, 20.0], 4)
    levels = one(table(tmp_path, "target [uS],conductance [uS]", targets, targets + 0.1))
    assert isinstance(levels, LevelTable)
    np.testing.assert_array_equal(levels.levels, np.repeat([2, 0, 1], 4))
    np.testing.assert_allclose(levels.targets, targets * 1e-6)


def test_drift_and_resistances(tmp_path: Path) -> None:
    times = np.tile(np.geomspace(1, 100, 10), 2)
    trace = one(table(tmp_path, "device,time [s],resistance [kohm]", np.repeat([4, 7], 10), times, np.full(20, 50.0)))
    assert isinstance(trace, DriftTrace)
    np.testing.assert_allclose(trace.conductances, 2e-5)
    np.testing.assert_array_equal(np.unique(trace.device), [4, 7])
    with pytest.raises(InputError, match="counted from the programming"):
        one(table(tmp_path, "time [s],conductance [S]", times[:10] - 2, times[:10]))


def test_readings_at_time_zero_are_left_out(tmp_path: Path) -> None:
    times = np.tile(np.concatenate([[0.0], np.geomspace(1, 100, 9)]), 2)
    path = table(tmp_path, "device,time [s],conductance [uS]", np.repeat([1, 2], 10), times, np.arange(20) + 1.0)
    trace = one(path)
    assert trace.times.min() == 1
    np.testing.assert_allclose(trace.conductances * 1e6, [*range(2, 11), *range(12, 21)])
    assert trace.notes == ("2 readings at t = 0 left out: a power law of the time begins after it",)


def test_kind_that_does_not_fit(tmp_path: Path) -> None:
    path = table(tmp_path, "time [s],conductance [S]", np.arange(1.0, 20), np.arange(1.0, 20))
    assert isinstance(one(path), DriftTrace)
    with pytest.raises(InputError, match=r"no column for the current|no column for the voltage"):
        read_measurement(path, Setup(kind="loop"))
    with pytest.raises(InputError, match="level or target"):
        read_measurement(path, Setup(kind="levels"))
    with pytest.raises(ConfigError, match=r"kind"):
        Setup(kind="sweep")  # pyright: ignore[reportArgumentType]
    path = table(tmp_path, "cycle,device", np.arange(3), np.arange(3))
    with pytest.raises(InputError, match="columns that make no measurement"):
        read_measurement(path)
