"""The ranges that a parameter set states: those of the fitted circuit, not of the applied voltage."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mdls_cosim.calibrate import DriftTrace, LevelTable, Loop, calibrate
from mdls_cosim.calibrate.circuit import Drive, respond
from mdls_cosim.calibrate.validity import loop_validity
from mdls_cosim.devices import Vteam

DEVICE = Vteam(on_resistance=2e3, off_resistance=20e3, on_rate=2e4, off_rate=2e4, on_voltage=-0.3, off_voltage=0.3)


def test_the_voltage_is_that_over_the_device():
    """V = V_applied - R I at every point, and the conductance that I/V, of a device of linear conduction."""
    times = np.linspace(0.0, 0.1, 401)
    applied, resistance = 1.2 * np.sin(2 * np.pi * times / 0.1), 5e3
    population = DEVICE.varied({"on_resistance": np.array([[2e3]])})
    drive = Drive(times[:, None], applied[:, None], np.array([resistance]), 300.0)
    response = respond(population, drive, np.array([[0.5]]), substeps=4)
    currents = response.currents[0, 0]
    over = applied - resistance * currents
    assert response.voltages[0, 0] == pytest.approx(over, abs=1e-6)
    loop = Loop("a loop", times, applied, currents, applied=True, series_resistance=resistance, temperature=310.0)
    found = loop_validity(DEVICE, [loop], [response.voltages], [response.states])
    assert found["voltage"][:2] == pytest.approx((over.min(), over.max()), abs=1e-6)
    assert found["voltage"][1] < 0.9 * found["applied voltage"][1]
    assert found["applied voltage"][:2] == pytest.approx((-1.2, 1.2))
    ratio = currents[np.abs(over) > 0.01] / over[np.abs(over) > 0.01]
    assert found["conductance"][:2] == pytest.approx((ratio.min(), ratio.max()), rel=1e-2)
    assert found["time"][:2] == pytest.approx((2.5e-4, 0.1))
    assert found["temperature"] == (310.0, 310.0, "kelvin")


def test_tables_state_temperature_and_read_voltage():
    generator = np.random.default_rng(0)
    levels = np.repeat([10e-6, 30e-6, 90e-6], 8)
    table = LevelTable("levels", np.repeat([0, 1, 2], 8), levels * (1 + 0.02 * generator.standard_normal(24)))
    found = calibrate([dataclasses.replace(table, read_voltage=-0.1, temperature=350.0)], bootstrap=4)
    assert found.validity["voltage"] == (-0.1, 0.0, "volt")
    assert found.validity["temperature"] == (350.0, 350.0, "kelvin")
    assert found.validity["conductance"][1] > 80e-6
    assert "voltage" not in calibrate([table], bootstrap=4).validity
    times = np.logspace(0, 3, 40)
    trace = DriftTrace("drift", times, 50e-6 * times**-0.05, read_voltage=0.2)
    drift = calibrate([trace], bootstrap=4)
    assert drift.validity["time"] == (1.0, 1000.0, "second")
    assert drift.validity["voltage"] == (0.0, 0.2, "volt")
