"""Devices in time: `evolve` and `after_pulses` against ngspice on their twins, and against scipy on their equations.

The equations that scipy integrates are those written a second time in tests/reference, not the devices' own.
"""

from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import get_args

import device_member
import numpy as np
import pytest
import torch
from device_member import Member
from scipy.integrate import solve_ivp

from mdls_cosim.characterize.transients import EDGE, pulse_train
from mdls_cosim.devices import DynamicDevice, Memristor
from mdls_cosim.devices.dynamics import after_pulses, evolve, trace
from mdls_cosim.spice import Waves
from mdls_cosim.tiles import TileSpec, tile_deck

MEMBERS: dict[str, Member] = {}
for path in sorted(Path(device_member.__file__).parent.glob("members_*.py")):
    MEMBERS |= import_module(path.stem).DEVICES


@dataclass(frozen=True)
class Case:
    """A member of tests/reference, driven so that it switches."""

    member: str
    start: float
    """State at the beginning."""
    amplitude: float
    """Of the loop [V]."""
    frequency: float
    """[Hz]."""
    pulses: tuple[float, ...]
    """Voltages of the train [V]."""
    width: float
    """[s]."""
    sign: int = 1
    """Of the first half period of the loop."""
    samples: int = 100
    """Of a period; the wave is straight between them."""
    tight: float = 1e-10
    """Tolerance at which `evolve` counts as exact; the error is twenty times as large at most, or 5e-9."""
    ngspice: float = 1e-6
    """Tolerance of ngspice, far below the errors that are allowed."""


CASES = {
    "vteam": Case("vteam", 0.3, 1.9, 4e5, (-1.9, -2.0, 0.6, 0.8, -1.9, 0.4), 2e-7),
    "exponential vteam": Case("exponential vteam", 0.5, 0.5, 5e3, (-0.2, -0.15, 0.5, 0.6, -0.17), 5e-5, sign=-1),
    "metastable switch": Case("metastable switch", 0.2, 0.5, 1e3, (0.4, 0.3, -0.3, -0.5, 0.2), 1e-4),
    "with diodes": Case("metastable switch with diodes", 0.6, 0.4, 60.0, (-0.3, -0.1, 0.4, 0.2), 2e-3),
    "reversed": Case("metastable switch, reversed", 0.6, 0.4, 60.0, (-0.3, -0.1, 0.4, 0.2), 2e-3),
    "biolek drift": Case("biolek drift", 0.3, 1.2, 1.0, (1.2, 1.5, -2.0, 1.2, -1.0), 0.2),
    "steep biolek drift": Case("steep biolek drift", 0.3, 1.2, 1.0, (1.0, 1.5, -2.0, 1.2, -1.0), 0.2),
    "joglekar drift": Case("joglekar drift", 0.3, 1.2, 1.0, (1.0, 0.6, -1.4, 1.1, -1.0), 0.2),
    "prodromakis drift": Case("prodromakis drift", 0.3, 0.9, 1.0, (0.9, 0.4, -1.2, 0.8, -0.9), 0.2),
    "yakopcic": Case("yakopcic", 0.2, 1.0, 0.5, (0.9, 1.1, -0.7, -1.0, 0.8), 0.3),
    "reversed yakopcic": Case("reversed yakopcic", 0.5, 0.5, 300.0, (0.4, 0.5, -0.4, -0.6, 0.3), 1e-3),
    "data driven": Case("data driven", 0.2, 1.1, 1e3, (-0.9, -1.2, 1.0, -0.8, 1.1), 1e-4, sign=-1),
    "simplified data driven": Case("simplified data driven", 0.3, 1.2, 5e3, (1.2, -0.9, -1.2, 1.0, 1.1), 1e-3),
    "stanford pku": Case("stanford pku", 0.3, 1.0, 3e6, (0.9, 0.9, -1.0, -1.1, 1.0), 1e-7),
    # A polygon of 20 corners: its equations are implicit, and slow in their second writing.
    # Its implicit current costs milliseconds a call: fewer pulses, and fewer steps.
    "jart vcm": Case("jart vcm", 0.3, 1.3, 3e7, (-0.9, 1.4, -0.9), 2e-7, sign=-1, samples=20, tight=1e-8, ngspice=1e-5),
    # Its filament heats itself: from gap to contact within a thousandth of the period.
    "stanford pku, abrupt": Case("stanford pku", 0.0, 1.2, 1e5, (1.3, 1.2, -1.1, 1.4, -1.3), 1e-6),
}


def states_by_scipy(name: str, start: float, times: np.ndarray, voltages: np.ndarray) -> np.ndarray:
    """LSODA in pieces: none bridges a corner of the voltage."""
    member = MEMBERS[CASES[name].member]
    states = [start]
    for (began, ended), (first, last) in zip(pairwise(times), pairwise(voltages), strict=True):
        span = ended - began

        def slope(share: float, x: np.ndarray, first=first, last=last, span=span) -> list[float]:
            # Steps that are then rejected may look to where exponentials overflow.
            return [span * member.rate(first + (last - first) * share, min(max(float(x[0]), -1e-3), 1.001))]

        found = solve_ivp(slope, (0.0, 1.0), states[-1:], method="LSODA", rtol=1e-10, atol=1e-13)
        assert found.success, found.message
        states.append(found.y[0, -1])
    return np.array(states)


def sine(case: Case) -> tuple[np.ndarray, np.ndarray]:
    phase = np.arange(case.samples + 1) / case.samples
    return phase / case.frequency, case.sign * case.amplitude * np.sin(2 * np.pi * phase)


def train(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the train."""
    waves, _ = pulse_train(np.array(case.pulses)[:, None], case.width)
    return waves.times, waves.values[:, 0]


def test_every_device_that_moves_is_driven_here():
    moving = {device for device in get_args(Memristor) if issubclass(device, DynamicDevice)}
    assert {type(MEMBERS[case.member].device) for case in CASES.values()} == moving


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


class TestAgainstScipy:
    def test_a_loop(self, name: str):
        member, case = MEMBERS[CASES[name].member], CASES[name]
        times, voltages = sine(case)
        expected = states_by_scipy(name, case.start, times, voltages)
        assert np.ptp(expected) > 0.3
        loose, close = (
            evolve(
                member.device,
                np.array(case.start),
                times,
                voltages,
                relative_tolerance=tolerance,
                absolute_tolerance=0.01 * tolerance,
            )
            for tolerance in (1e-6, case.tight)
        )
        np.testing.assert_allclose(loose, expected, atol=2e-6)
        np.testing.assert_allclose(close, expected, atol=max(5e-9, 20 * case.tight))

    def test_a_train(self, name: str):
        member, case = MEMBERS[CASES[name].member], CASES[name]
        times, voltages = train(case)
        expected = states_by_scipy(name, case.start, times, voltages)[4::4]
        assert np.ptp(expected) > 0.3
        found = after_pulses(
            member.device,
            np.array([case.start]),
            case.pulses,
            case.width,
            edge=EDGE * case.width,
            pause=case.width,
            every=True,
        )
        np.testing.assert_allclose(found[:, 0], expected, atol=2e-6)

    def test_a_train_without_edges(self, name: str):
        """By the closed form, where there is one."""
        member, case = MEMBERS[CASES[name].member], CASES[name]
        expected, x = [], case.start
        for volts in case.pulses:
            for level in (volts, 0.0):
                x = float(states_by_scipy(name, x, np.array([0.0, case.width]), np.array([level, level]))[-1])
            expected.append(x)
        found = after_pulses(
            member.device, np.array([case.start]), case.pulses, case.width, pause=case.width, every=True
        )
        closed = member.device.state_after(np.ones(1), np.full(1, 0.5), np.ones(1)) is not None
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-9 if closed else 2e-6)

    def test_fixed_steps_converge_in_second_order(self, name: str):
        """Corners of the rate inside a step leave more; the mean over the loop shows the order."""
        member, case = MEMBERS[CASES[name].member], CASES[name]
        times, voltages = sine(case)
        exact = evolve(
            member.device,
            np.array(case.start),
            times,
            voltages,
            relative_tolerance=case.tight,
            absolute_tolerance=0.01 * case.tight,
        )
        coarse = 400 // case.samples
        errors = [
            np.abs(trace(member.device, np.array(case.start), times, voltages, substeps) - exact).mean()
            for substeps in (coarse, 4 * coarse)
        ]
        assert errors[1] < 2e-4
        assert errors[1] < errors[0] / 8


class TestLaws:
    def test_a_loop_is_pinched_and_bounded(self, name: str):
        device, case = MEMBERS[CASES[name].member].device, CASES[name]
        times, voltages = sine(case)
        starts = np.array([0.0, case.start, 1.0])
        states = evolve(device, starts, times, voltages)
        assert np.all((states >= 0) & (states <= 1))
        currents = device.current(voltages[:, None], states)
        zero = np.abs(voltages) < 1e-12 * case.amplitude
        assert zero.sum() == 3
        peak = np.abs(currents).max()
        assert np.abs(currents[zero]).max() < 1e-11 * peak
        assert np.all(voltages[:, None] * currents >= -1e-11 * peak)
        # Two branches: at one voltage, rising and falling, the current differs.
        quarter = case.samples // 4
        lobe = currents[: 2 * quarter + 1, 1]
        assert np.abs(lobe - lobe[::-1])[1:quarter].max() > 0.02 * np.abs(lobe).max()

    def test_the_sign_that_raises_the_conductance(self, name: str):
        device, case = MEMBERS[CASES[name].member].device, CASES[name]
        volts = case.amplitude * device.raising_sign
        before = np.full(1, 0.5)
        up = after_pulses(device, before, [volts], 0.1 / case.frequency)
        down = after_pulses(device, before, [-volts], 0.1 / case.frequency)
        assert device.conductance(down)[0] < device.conductance(before)[0] < device.conductance(up)[0]

    def test_a_population_moves_as_its_devices_one_by_one(self, name: str):
        """Each with its own parameters, speed and state; also in torch, and in float32."""
        member, case = MEMBERS[CASES[name].member], CASES[name]
        device = member.device
        numbers = [key for key in type(device).model_fields if isinstance(getattr(device, key), float)]
        generator = np.random.default_rng(3)
        varied = {key: getattr(device, key) * generator.uniform(0.97, 1.03, 6) for key in numbers}
        # Where a window sticks, what rounding brings to the end stays there for ever: not so far.
        starts = generator.uniform(0.1, 0.4 if member.sticks else 0.9, 6)
        speeds = generator.uniform(0.7, 1.4, 6)
        times, voltages = (array[:: case.samples // 10] for array in sine(case))
        voltages = voltages * (0.5 if member.sticks else 1.0)
        together = evolve(device.varied(varied), starts, times, voltages, speed=speeds)
        assert np.ptp(together, axis=0).min() > 0.01
        for index in range(0, 6, 2):
            alone = device.varied({key: values[index : index + 1] for key, values in varied.items()})
            one = evolve(alone, starts[index : index + 1], times, voltages, speed=float(speeds[index]))
            np.testing.assert_allclose(together[:, index], one[:, 0], rtol=0, atol=1e-7)
        tensors = {key: torch.as_tensor(values) for key, values in varied.items()}
        moved = evolve(device.varied(tensors), torch.as_tensor(starts), times, voltages, speed=torch.as_tensor(speeds))
        # Rounding decides whether a step at the limit of the tolerance, 1e-6, is taken.
        np.testing.assert_allclose(moved.numpy(), together, rtol=0, atol=1e-7)
        single = evolve(device.varied(varied), starts.astype(np.float32), times, voltages, speed=speeds)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, together, rtol=0, atol=1e-3)


@pytest.mark.ngspice
class TestAgainstNgspice:
    """Within 1e-3 of the largest current, at steps so short that halving them changes nothing of that size."""

    def test_a_loop(self, name: str, engine):
        member, case = MEMBERS[CASES[name].member], CASES[name]
        times, voltages = sine(case)
        states = evolve(member.device, np.array(case.start), times, voltages)
        self.compare(engine, member.device, case, times, voltages, states, 1 / (case.frequency * case.samples))

    def test_a_train(self, name: str, engine):
        member, case = MEMBERS[CASES[name].member], CASES[name]
        times, voltages = train(case)
        states = evolve(member.device, np.array(case.start), times, voltages)
        self.compare(engine, member.device, case, times, voltages, states, case.width / 50)

    def compare(self, engine, device, case, times, voltages, states, longest_step) -> None:
        tile = TileSpec(rows=1, cols=1, cell=device)
        deck = tile_deck(tile, states=np.full((1, 1), case.start), transient=True, nodes=True)
        currents = device.current(voltages, states)
        peak = np.abs(currents).max()
        runs = []
        for step in (longest_step, longest_step / 2):
            result = engine.transient(deck, Waves(times, voltages[:, None], longest_step=step, tolerance=case.ngspice))
            sampled = result.at(times)
            runs.append([sampled[1:, result.probes.index(probe)] for probe in ("i(vcol0)", "v(state0_0)")])
        assert np.abs(runs[1][0] - runs[0][0]).max() < 2e-4 * peak
        assert np.abs(runs[1][0] - currents[1:]).max() < 1e-3 * peak
        assert np.abs(runs[1][1] - states[1:]).max() < 1e-3
