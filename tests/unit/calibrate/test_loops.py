"""Fits of loops: polarity, held-out cycles, spread between cycles, ranking, and what is refused."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from mdls_cosim.calibrate.loop_fit import LoopFit
from mdls_cosim.calibrate.loops import fit_loops
from mdls_cosim.calibrate.measurement import Loop
from mdls_cosim.calibrate.ranking import information_criterion, rank
from mdls_cosim.calibrate.spaces import Scales, Space, search_spaces
from mdls_cosim.calibrate.switching import current_noise, switching
from mdls_cosim.devices import DynamicDevice, LinearIonDrift, Vteam, Yakopcic, evolve
from mdls_cosim.devices.variability import CycleToCycle, ReadNoise
from mdls_cosim.errors import ConfigError, InputError

DEVICE = LinearIonDrift(on_resistance=1e3, off_resistance=16e3, mobility=1e-14)
"""Three parameters: fits take seconds."""
START = 0.1
NOISE = 0.005
"""Of the current range."""


def measured(
    device: DynamicDevice,
    name: str = "loop",
    *,
    frequency: float = 5.0,
    amplitude: float = 1.0,
    cycles: int = 1,
    noise: float = NOISE,
    start: float = START,
    speeds: tuple[float, ...] = (),
    seed: int = 0,
    points: int = 50,
) -> Loop:
    """A loop of `device` under a sine, integrated to a tolerance; one speed a cycle."""
    times = np.arange(cycles * points) / (points * frequency)
    voltages = amplitude * np.sin(2 * np.pi * frequency * times)
    states, state = np.empty(len(times)), start
    for cycle in range(cycles):
        part = slice(cycle * points, min((cycle + 1) * points + 1, len(times)))
        speed = speeds[cycle] if speeds else 1.0
        found = evolve(device, np.asarray(state), times[part], voltages[part], speed=speed)
        states[part], state = found, float(found[-1])
    currents = device.current(voltages, states)
    rng = np.random.default_rng(seed)
    currents = currents + noise * np.ptp(currents) * rng.normal(size=len(times))
    return Loop(name, times, voltages, currents, cycle=np.arange(len(times)) // points)


@functools.cache
def fit_of_drift() -> tuple[LoopFit, Loop, Loop]:
    """A fit to three cycles, with two more held out; and those loops."""
    whole = measured(DEVICE, cycles=5)
    first, last = np.asarray(whole.cycle) < 3, np.asarray(whole.cycle) >= 3

    def part(kept: np.ndarray, name: str, follows: str | None) -> Loop:
        return dataclasses.replace(
            whole,
            name=name,
            times=whole.times[kept],
            voltages=whole.voltages[kept],
            currents=whole.currents[kept],
            cycle=np.asarray(whole.cycle)[kept],
            follows=follows,
        )

    fitted, spared = part(first, "first", None), part(last, "last", "first")
    return fit_loops([fitted], "linear_ion_drift", held_out=[spared], candidates=64), fitted, spared


def test_a_fit_comes_down_to_the_noise_and_predicts_cycles_it_has_not_seen() -> None:
    fit, _, _ = fit_of_drift()
    # The noise over the range of the noisy current, which is a little wider than that of the clean one.
    assert fit.error == pytest.approx(NOISE, rel=0.15)
    assert fit.held_out_error == pytest.approx(NOISE, rel=0.2)
    assert fit.starts["first"] == pytest.approx(START, abs=0.03)
    assert not fit.device.reversed


def test_errors_are_those_of_the_modelled_currents() -> None:
    fit, fitted, spared = fit_of_drift()
    for loop, errors in ((fitted, fit.errors), (spared, fit.held_out)):
        difference = fit.modelled[loop.name] - loop.currents
        assert errors[loop.name] == pytest.approx(np.sqrt(np.mean(difference**2)) / np.ptp(loop.currents), rel=1e-9)


def test_the_misfit_that_is_minimized_is_that_of_the_quarters() -> None:
    fit, _, _ = fit_of_drift()
    positive, negative = fit.branches["first"]
    quarters = (positive.error_out, positive.error_back, negative.error_out, negative.error_back)
    assert all(error is not None for error in quarters)
    # The noise that the scales hold, and steps half as fine in the report, make the difference.
    assert fit.misfit == pytest.approx(np.sqrt(np.mean(np.square(np.array(quarters, dtype=float)))), rel=0.05)
    assert fit.branch_error == pytest.approx(np.sqrt((positive.error**2 + negative.error**2) / 2))
    assert len(fit.branches["last"]) == 2


def test_repeated_cycles_without_spread_give_none_but_the_noise_of_a_read() -> None:
    fit, _, _ = fit_of_drift()
    spread = next(each for each in fit.variability if isinstance(each, CycleToCycle))
    assert spread.distribution.sigma < 0.03  # pyright: ignore[reportAttributeAccessIssue]
    assert any(isinstance(each, ReadNoise) for each in fit.variability)


def test_the_spread_of_speed_between_cycles_is_found() -> None:
    logarithms = 0.25 * np.random.default_rng(2).normal(size=12)
    loop = measured(DEVICE, cycles=12, speeds=tuple(np.exp(logarithms)))
    fit = fit_loops([loop], "linear_ion_drift", candidates=64)
    spread = next(each for each in fit.variability if isinstance(each, CycleToCycle))
    # Against the sample that was drawn: what is left is the noise of the twelve fits.
    assert spread.distribution.sigma == pytest.approx(np.std(logarithms, ddof=1), rel=0.25)  # pyright: ignore[reportAttributeAccessIssue]


def test_one_cycle_gives_no_figure_from_cycle_to_cycle_and_says_so() -> None:
    fit = fit_loops([measured(DEVICE)], "linear_ion_drift", candidates=64)
    assert not fit.variability
    assert any("no cycle-to-cycle figure" in note for note in fit.notes)


def test_a_device_measured_the_other_way_round_is_the_same_device_reversed() -> None:
    fit, fitted, _ = fit_of_drift()
    turned = dataclasses.replace(fitted, voltages=-fitted.voltages, currents=-fitted.currents)
    other = fit_loops([turned], "linear_ion_drift", candidates=64)
    assert other.device == fit.device.replace(reversed=True)
    assert any("reversed" in note for note in other.notes)
    assert other.values == pytest.approx(fit.values, rel=1e-6)
    # The device stands in a tile as it was measured: the voltage that raised its conductance still does.
    assert other.device.raising_sign == -fit.device.raising_sign
    np.testing.assert_allclose(other.modelled["first"], -fit.modelled["first"], rtol=1e-6, atol=1e-12)


def test_values_at_the_bounds_of_the_search_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, fitted, _ = fit_of_drift()
    assert not any("that was searched" in note for note in fit.notes)
    whole = search_spaces

    def narrow(model: str, scales: Scales) -> list[Space]:
        (space,) = whole(model, scales)
        free = [dataclasses.replace(each, low=2e3) if each.name == "on_resistance" else each for each in space.free]
        return [dataclasses.replace(space, free=tuple(free))]

    monkeypatch.setattr("mdls_cosim.calibrate.loops.search_spaces", narrow)
    held = fit_loops([fitted], "linear_ion_drift", candidates=64)
    assert "on_resistance is at the least value that was searched" in held.notes


def test_a_fit_repeats_for_a_seed() -> None:
    loop = measured(DEVICE)
    first, second = (fit_loops([loop], "linear_ion_drift", candidates=64, seed=3) for _ in range(2))
    assert first.values == second.values


def test_progress_rises_to_its_end() -> None:
    told: list[tuple[int, int]] = []
    fit_loops(
        [measured(DEVICE)],
        "linear_ion_drift",
        candidates=64,
        progress=lambda done, planned: told.append((done, planned)),
    )
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1]


def test_the_model_that_made_the_loops_is_ranked_first() -> None:
    true = Yakopcic(positive_rate=20.0, negative_rate=25.0, positive_amplitude=1e-4, negative_amplitude=5e-5)
    loops = [measured(true, f"{f} Hz", frequency=f, seed=int(f)) for f in (2.0, 4.0, 8.0)]
    fits = rank(loops[::2], [loops[1]], devices=["linear_ion_drift", "yakopcic"], candidates=64)
    assert [fit.device.model for fit in fits] == ["yakopcic", "linear_ion_drift"]  # pyright: ignore[reportAttributeAccessIssue]
    assert fits[0].held_out_error is not None
    assert fits[0].held_out_error < 0.02
    assert any("held-out" in note for note in fits[0].notes)


def test_without_held_out_loops_parameters_must_earn_their_place() -> None:
    fit, _, _ = fit_of_drift()
    more = dataclasses.replace(fit, values={**fit.values, "another": 0.0})
    assert information_criterion(more) - information_criterion(fit) == pytest.approx(np.log(fit.points))
    worse = dataclasses.replace(fit, misfit=2 * fit.misfit)
    assert information_criterion(worse) - information_criterion(fit) == pytest.approx(2 * fit.points * np.log(2))


def sine_loop(current: np.ndarray, voltage: np.ndarray) -> Loop:
    return Loop("plain", np.arange(len(voltage)) * 1e-3, voltage, current)


ANGLE = np.linspace(0, 2 * np.pi, 400, endpoint=False)


@pytest.mark.parametrize("case", ["resistor", "noisy resistor", "capacitor", "sinh"])
def test_a_loop_that_does_not_switch_is_refused(case: str) -> None:
    voltage = np.sin(ANGLE)
    noise = np.random.default_rng(0).normal(size=len(ANGLE))
    current = {
        "resistor": voltage,
        "noisy resistor": voltage + 0.2 * noise,
        "capacitor": voltage + 0.3 * np.cos(ANGLE),
        "sinh": np.sinh(3 * voltage),
    }[case]
    loop = sine_loop(1e-4 * current, voltage)
    assert not switching(loop).present
    named = "a charging current" if case == "capacitor" else "does not switch"
    with pytest.raises(InputError, match=named):
        fit_loops([loop], "linear_ion_drift")


def test_the_sign_of_a_loop_is_that_of_the_voltage_that_raises_its_conductance() -> None:
    falling = Vteam(on_voltage=-0.4, off_voltage=0.3, on_rate=30.0, off_rate=20.0, on_exponent=2.0, off_exponent=2.0)
    for device in (DEVICE, falling, Yakopcic(positive_rate=20.0, negative_rate=25.0)):
        loop = measured(device, start=0.4)
        assert switching(loop).present
        assert switching(loop).sign == device.raising_sign


def test_noise_is_told_from_a_smooth_current() -> None:
    noise = np.random.default_rng(0).normal(size=4000)
    angle = np.linspace(0, 2 * np.pi, 4000)
    assert current_noise(np.sin(angle) + 0.01 * noise) == pytest.approx(0.01, rel=0.05)


def test_what_cannot_be_fitted_is_refused_by_name() -> None:
    loop = measured(DEVICE)
    with pytest.raises(InputError, match="no loop"):
        fit_loops([], "linear_ion_drift")
    with pytest.raises(ConfigError, match="sinh"):
        fit_loops([loop], "sinh")
    with pytest.raises(InputError, match="two loops of one name"):
        fit_loops([loop], "linear_ion_drift", held_out=[loop])
    with pytest.raises(InputError, match="series resistance"):
        fit_loops([dataclasses.replace(loop, applied=True)], "linear_ion_drift")
    with pytest.raises(InputError, match="currents against the voltage"):
        fit_loops([dataclasses.replace(loop, currents=-loop.currents)], "linear_ion_drift")
