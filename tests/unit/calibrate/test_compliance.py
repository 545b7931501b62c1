"""Points at a compliance limit: plateaus of current and voltage, in either polarity, with noise; and what is none."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import Loop, Setup, read_measurement
from mdls_cosim.calibrate.compliance import limited_points
from mdls_cosim.calibrate.loop_problem import LoopProblem, prepare
from mdls_cosim.calibrate.loops import fit_loops
from mdls_cosim.calibrate.spaces import FITTED_MODELS, Scales, search_spaces
from mdls_cosim.devices import LinearIonDrift, evolve
from mdls_cosim.errors import ConfigError, InputError

CASES = Path(__file__).parents[2] / "cases/circuit"
ON, OFF, THRESHOLD = 2e3, 50e3, 0.5


def sweep(points: int = 240, sine: bool = False) -> np.ndarray:
    if sine:
        return 1.2 * np.sin(2 * np.pi * np.arange(points) / points)
    quarter = points // 4
    corners = (0, 1.2, 0, -1.2, 0)
    return np.concatenate([np.linspace(a, b, quarter) for a, b in itertools.pairwise(corners)])


def device_currents(voltages: np.ndarray) -> np.ndarray:
    """Currents of a bipolar device that switches gradually beyond +-0.5 V."""
    state, currents = 0.0, []
    for voltage in voltages:
        if voltage > THRESHOLD:
            state = min(1.0, state + 0.1 * voltage / THRESHOLD)
        if voltage < -THRESHOLD:
            state = max(0.0, state + 0.05 * voltage / THRESHOLD)
        currents.append(voltage * (state / ON + (1 - state) / OFF))
    return np.array(currents)


def one_cycle(values: np.ndarray) -> np.ndarray:
    return np.zeros(len(values), dtype=int)


@pytest.mark.parametrize("sine", [False, True])
@pytest.mark.parametrize("points", [60, 240, 1000])
@pytest.mark.parametrize(("positive", "negative"), [(2e-4, np.inf), (np.inf, 1e-4), (2e-4, 1e-4)])
def test_plateaus_without_noise(sine: bool, points: int, positive: float, negative: float) -> None:
    voltages = sweep(points, sine)
    true = device_currents(voltages)
    limited = np.clip(true, -negative, positive)
    found = limited_points(voltages, limited, one_cycle(voltages))
    # A point within 0.5 % of the limit counts as limited.
    expected = (limited != true) | ((np.abs(limited / positive - 1) < 5e-3) | (np.abs(limited / -negative - 1) < 5e-3))
    np.testing.assert_array_equal(found.points, expected)
    assert found.quantity == "current"
    assert found.levels == tuple(level for level in (positive, -negative) if np.isfinite(level))
    # Either sign of the current and either order of the polarities.
    np.testing.assert_array_equal(limited_points(-voltages, -limited, one_cycle(voltages)).points, expected)


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.03, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_plateaus_with_noise(noise: float, seed: int) -> None:
    voltages = sweep()
    true = device_currents(voltages)
    limited = np.minimum(true, 2e-4)
    noisy = limited + noise * 2e-4 * np.random.default_rng(seed).standard_normal(len(true))
    found = limited_points(voltages, noisy, one_cycle(voltages))
    # At the ends of the plateau a point within the noise of the limit may go either way.
    assert np.sum(found.points != (limited != true)) <= 8
    assert found.levels[0] == pytest.approx(2e-4, rel=noise)


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.01, 0.05])
@pytest.mark.parametrize("sine", [False, True])
def test_what_is_no_plateau(noise: float, sine: bool) -> None:
    voltages = sweep(sine=sine)
    generator = np.random.default_rng(5)
    for currents in (device_currents(voltages), voltages / ON, np.sinh(3 * voltages) * 1e-5):
        measured = currents + noise * np.abs(currents).max() * generator.standard_normal(len(currents))
        assert not limited_points(voltages, measured, one_cycle(voltages)).points.any()


def test_cycles_have_limits_of_their_own() -> None:
    voltages = np.tile(sweep(), 3)
    true = np.tile(device_currents(sweep()), 3)
    cycle = np.repeat(np.arange(3), 240)
    limited = np.minimum(true, np.array([5e-5, 1e-4, 2e-4])[cycle])
    found = limited_points(voltages, limited, cycle)
    np.testing.assert_array_equal(found.points, limited != true)
    assert found.levels == pytest.approx((5e-5, 1e-4, 2e-4))


def test_a_voltage_plateau_of_a_programmed_current() -> None:
    currents = 1e-3 * sweep() / 1.2
    true = device_currents(sweep()) / 1e-3  # a device's response, with the axes exchanged
    limited = np.clip(true, -0.1, 0.2)
    found = limited_points(limited, currents, one_cycle(currents))
    assert found.quantity == "voltage"
    np.testing.assert_array_equal(found.points, limited != true)


def test_a_plateau_that_rises_slightly() -> None:
    voltages = sweep()
    true = device_currents(voltages)
    limited = np.where(true > 2e-4, 2e-4 * (1 + 0.004 * voltages), true)
    np.testing.assert_array_equal(limited_points(voltages, limited, one_cycle(voltages)).points, limited != true)


def test_points_whose_voltage_was_measured_are_kept() -> None:
    # In compliance the meter reads the voltage that the device needs: voltage and current are both true.
    voltages = sweep()
    true = device_currents(voltages)
    in_compliance = true > 2e-4
    measured = np.where(in_compliance, voltages * 2e-4 / np.where(true == 0, 1.0, true), voltages)
    assert not limited_points(measured, np.minimum(true, 2e-4), one_cycle(voltages)).points.any()


def test_options() -> None:
    voltages = sweep()
    limited = np.minimum(device_currents(voltages), 2e-4)
    assert not limited_points(voltages, limited, one_cycle(voltages), "none").points.any()
    given = limited_points(voltages, limited, one_cycle(voltages), "300 uA")
    np.testing.assert_array_equal(given.points, np.abs(limited) >= 0.97 * 3e-4)
    assert limited_points(voltages, limited, one_cycle(voltages), "1.2 V").points.sum() == 8
    with pytest.raises(InputError, match=r"a current beyond the compliance at loop.*at most 50"):
        limited_points(voltages, limited, one_cycle(voltages), "50 uA")
    for wrong in ("200", "5 ohm", "-1 A", "", "automatic"):
        with pytest.raises(ConfigError, match="not a compliance"):
            Setup(compliance=wrong)


def test_the_note_counts() -> None:
    (loop,), _ = read_measurement(CASES / "D14-compliance.csv")
    assert isinstance(loop, Loop)
    assert loop.notes == ("55 of 241 points at the current compliance (200 µA) left out; --compliance none keeps them",)
    assert loop.limited is not None
    assert loop.limited.shape == (3, 55)
    assert len(loop.times) == 186
    (kept,), _ = read_measurement(CASES / "D14-compliance.csv", Setup(compliance="none"))
    assert isinstance(kept, Loop)
    assert len(kept.times) == 241


def test_the_resistance_is_that_of_the_points_that_count() -> None:
    # Read off the falling branch: 196.1 uA at 0.5 V, 2.55 kohm; 50 kohm before. With the plateau it was 128 ohm.
    (loop,), _ = read_measurement(CASES / "D14-compliance.csv")
    assert isinstance(loop, Loop)
    part = slice(None, None, 3)
    thinned = dataclasses.replace(
        loop, times=loop.times[part], voltages=loop.voltages[part], currents=loop.currents[part],
        cycle=np.asarray(loop.cycle)[part], limited=None,
    )  # fmt: skip
    fit = fit_loops([thinned], "vteam", candidates=64)
    assert fit.values["on_resistance"] == pytest.approx(2.55e3, rel=0.02)
    assert fit.values["off_resistance"] == pytest.approx(50e3, rel=0.02)
    assert fit.error < 2e-3


def test_a_loop_that_is_all_plateau(tmp_path: Path) -> None:
    voltages = sweep(40)
    path = tmp_path / "loop.csv"
    currents = np.where(voltages > 0, 1e-6, -1e-6)
    np.savetxt(
        path, np.stack([np.arange(40.0), voltages, currents], axis=1), delimiter=",",
        header="time [s],voltage [V],current [A]", comments="",
    )  # fmt: skip
    with pytest.raises(InputError, match="almost all at the compliance limit"):
        read_measurement(path)


def loops_of_model(model: str, seed: int, sine: bool, points: int, cycles: int) -> tuple[np.ndarray, ...]:
    """Cycle numbers, voltages (points,) and currents (devices, points) of devices from all over the searched space."""
    generator = np.random.default_rng(seed)
    phase = np.arange(points * cycles) / points
    drive = np.sin(2 * np.pi * phase) if sine else np.interp(phase % 1, [0, 0.25, 0.75, 1], [0, 1, -1, 0])
    cycle = np.floor(phase).astype(np.int64)
    found = []
    for space in search_spaces(model, Scales(1.2, 1e-4, 2e-4, 0.2, 0.2)):
        loop = Loop("drive", 0.2 * phase, 1.2 * drive, drive, cycle=cycle)
        problem = LoopProblem(space, [prepare(loop)])
        currents = problem.currents(generator.random((6, len(problem.parameters))))[0]
        found.append(currents[np.isfinite(currents).all(axis=1) & (np.ptp(currents, axis=1) > 1e-9)])
    return cycle, 1.2 * drive, np.concatenate(found)


@pytest.mark.parametrize("model", FITTED_MODELS)
@pytest.mark.parametrize("noise", [0.0, 0.003, 0.02])
def test_devices_without_a_limit_lose_no_point(model: str, noise: float) -> None:
    generator = np.random.default_rng(1)
    for seed, (sine, points, cycles) in enumerate(itertools.product((False, True), (50, 240), (1, 3))):
        cycle, voltages, currents = loops_of_model(model, seed, sine, points, cycles)
        for each in currents:
            measured = each + noise * np.abs(each).max() * generator.standard_normal(each.shape)
            assert not limited_points(voltages, measured, cycle).points.any()


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_devices_with_a_limit_lose_its_points(noise: float) -> None:
    generator = np.random.default_rng(2)
    wrong, tried = 0, 0
    for model, sine in itertools.product(FITTED_MODELS, (False, True)):
        cycle, voltages, currents = loops_of_model(model, 2, sine, 240, 2)
        for each in currents:
            limit = 0.4 * each.max()
            out = each > limit
            first = out & (cycle == 0)
            if first.sum() < 15 or out.mean() > 0.4 or voltages[first].max() < 1.6 * voltages[first].min():
                continue  # a plateau that is too short, or a voltage that hardly changes along it: left alone
            measured = np.minimum(each, limit) + noise * limit * generator.standard_normal(each.shape)
            found = limited_points(voltages, measured, cycle)
            # At its knees a point or two of each plateau may go either way.
            wrong += int(np.sum(found.points != out) > 0.1 * out.sum() + 8)
            tried += 1
    assert tried >= 40
    assert wrong <= 0.05 * tried


def test_a_slow_reset_is_no_limit() -> None:
    # Switching off while the voltage rises holds the current within 2 % over half of the sweep, in two of three cycles.
    times = np.arange(150) / 250
    voltages = 1.6 * np.sin(10 * np.pi * times)
    for factor in (0.612, 0.125):
        device = LinearIonDrift(on_resistance=1e3, off_resistance=16e3, mobility=1e-14 * np.exp(factor))
        currents = device.current(voltages, evolve(device, np.asarray(0.1), times, voltages))
        for seed in range(20):
            noise = 0.003 * np.ptp(currents) * np.random.default_rng(seed).standard_normal(150)
            assert not limited_points(voltages, currents + noise, np.arange(150) // 50).points.any()


def test_a_level_that_another_cycle_passes_is_no_limit() -> None:
    voltages = np.tile(sweep(), 2)
    true = np.tile(device_currents(sweep()), 2)
    cycle = np.repeat(np.arange(2), 240)
    noise = 0.01 * 2e-4 * np.random.default_rng(0).standard_normal(480)
    both = limited_points(voltages, np.minimum(true, 2e-4) + noise, cycle)
    assert set(cycle[both.points]) == {0, 1}
    one = np.where(cycle == 0, np.minimum(true, 2e-4), true)
    assert not limited_points(voltages, one + noise, cycle).points.any()
    # Without noise there is no doubt.
    assert set(cycle[limited_points(voltages, one, cycle).points]) == {0}
