"""The circuit of a measured loop against an integration of its two equations by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from mdls_cosim.calibrate.circuit import Drive, respond
from mdls_cosim.devices import DynamicDevice, MetastableSwitch, Vteam

SWITCH = MetastableSwitch(
    on_resistance=500.0,
    off_resistance=3e4,
    on_voltage=0.3,
    off_voltage=0.2,
    time_constant=2e-4,
    slope_voltage=0.03,
    memory_share=0.7,
    forward_current=1e-6,
    reverse_current=3e-7,
    forward_slope=6.0,
    reverse_slope=4.0,
)
VTEAM = Vteam(
    on_resistance=2e3,
    off_resistance=5e4,
    on_voltage=-0.3,
    off_voltage=0.2,
    on_rate=100.0,
    off_rate=40.0,
    on_exponent=2.0,
    off_exponent=1.5,
)
AMPLITUDE, PERIOD = 1.0, 0.02
START = 0.3


def drive(time: float | np.ndarray) -> np.ndarray:
    return AMPLITUDE * np.sin(2 * np.pi * np.asarray(time) / PERIOD)


def reference(device: DynamicDevice, times: np.ndarray, resistance: float, capacitance: float) -> np.ndarray:
    """Currents through the resistor [A]: the node's voltage is a second state, or solved for where C is zero."""

    def flow(voltage: float, state: float) -> float:
        return float(device.current(np.asarray(voltage), np.asarray(state)))

    def node(time: float, state: float) -> float:
        def excess(voltage: float) -> float:
            return voltage - float(drive(time)) + resistance * flow(voltage, state)

        return float(brentq(excess, -2 * AMPLITUDE, 2 * AMPLITUDE, xtol=1e-14))  # pyright: ignore[reportArgumentType]

    def without(time: float, state: np.ndarray) -> list[float]:
        return [float(device.state_rate(np.asarray(node(time, state[0])), np.asarray(state[0])))]

    def charged(time: float, both: np.ndarray) -> list[float]:
        voltage, state = both
        charging = (float(drive(time)) - voltage) / resistance - flow(voltage, state)
        return [charging / capacitance, float(device.state_rate(np.asarray(voltage), np.asarray(state)))]

    if capacitance:
        found = solve_ivp(charged, times[[0, -1]], [0.0, START], "Radau", times, rtol=1e-9, atol=1e-11)
        return (drive(times) - found.y[0]) / resistance
    found = solve_ivp(without, times[[0, -1]], [START], "LSODA", times, rtol=1e-9, atol=1e-11, max_step=PERIOD / 200)
    across = np.array([node(time, state) for time, state in zip(times, found.y[0], strict=True)])
    return (drive(times) - across) / resistance


def modelled(
    device: DynamicDevice, times: np.ndarray, resistance: float, capacitance: float, substeps: int
) -> np.ndarray:
    given = Drive(times[:, None], drive(times)[:, None], np.array([resistance]), 300.0)
    population = device.varied({"off_resistance": np.array([[device.off_resistance]])})  # pyright: ignore[reportAttributeAccessIssue]
    found = respond(population, given, np.array([[START]]), capacitance=capacitance, substeps=substeps)
    return found.currents[0, 0]


@pytest.mark.parametrize("device", [SWITCH, VTEAM], ids=["metastable_switch", "vteam"])
def test_the_circuit_without_capacitor_converges_to_the_reference(device: DynamicDevice) -> None:
    times = np.linspace(0.0, PERIOD, 401)
    expected = reference(device, times, 4e3, 0.0)
    errors = [np.abs(modelled(device, times, 4e3, 0.0, n) - expected).max() / np.ptp(expected) for n in (1, 4)]
    # What stays is the drive's own error, a straight line between points of a sine: (2 pi/400)^2/8 = 3e-5 of its size.
    assert errors[1] < 2e-4
    assert errors[0] < 2e-3


def test_steps_of_the_circuit_are_of_second_order() -> None:
    times = np.linspace(0.0, PERIOD, 101)
    finest = modelled(SWITCH, times, 4e3, 0.0, 64)
    errors = [np.abs(modelled(SWITCH, times, 4e3, 0.0, n) - finest).max() for n in (2, 4, 8)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert (orders > 1.7).all()


def test_a_capacitor_draws_its_current_and_converges_in_first_order() -> None:
    times = np.linspace(0.0, PERIOD, 401)
    capacitance = 2e-8  # R C = 80 us: a good step of the drive
    expected = reference(SWITCH, times, 4e3, capacitance)
    without = modelled(SWITCH, times, 4e3, 0.0, 1)
    errors = [
        np.abs(modelled(SWITCH, times, 4e3, capacitance, n)[1:] - expected[1:]).max() / np.ptp(expected) for n in (1, 4)
    ]
    assert np.abs(without - expected).max() / np.ptp(expected) > 0.02  # it matters
    assert errors[1] < 5e-3
    assert errors[1] < 0.4 * errors[0]


def test_a_candidate_with_a_resistor_of_its_own_is_that_circuit() -> None:
    times = np.linspace(0.0, PERIOD, 201)
    given = Drive(times[:, None], drive(times)[:, None], np.array([np.nan]), 300.0)
    population = SWITCH.varied({"on_resistance": np.array([[500.0], [500.0]])})
    both = respond(population, given, np.full((2, 1), START), series_resistance=np.array([[1e3], [4e3]]))
    for place, resistance in enumerate((1e3, 4e3)):
        np.testing.assert_allclose(
            both.currents[place, 0], modelled(SWITCH, times, resistance, 0.0, 1), rtol=1e-6, atol=1e-12
        )


def test_a_device_driven_directly_gives_its_own_current_and_that_of_the_capacitor() -> None:
    times = np.linspace(0.0, PERIOD, 201)
    given = Drive(times[:, None], drive(times)[:, None], None, 300.0)
    population = SWITCH.varied({"on_resistance": np.array([[500.0]])})
    bare = respond(population, given, np.array([[START]]))
    charged = respond(population, given, np.array([[START]]), capacitance=1e-8)
    np.testing.assert_allclose(
        bare.currents[0, 0], SWITCH.current(drive(times), bare.states[0, 0]), rtol=1e-12, atol=1e-18
    )
    np.testing.assert_allclose(
        (charged.currents - bare.currents)[0, 0, 1:], 1e-8 * np.diff(drive(times)) / np.diff(times), rtol=1e-6
    )
