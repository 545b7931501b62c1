"""Published measurements, from the folder that MDLS_COSIM_DATA names; `calibration/fit_measured.py` fits them all."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.calibrate import Loop, PulseTrain, Setup, calibrate, loop_problem, read_measurement
from mdls_cosim.calibrate.loops import fit_loops

FOLDER = Path(os.environ.get("MDLS_COSIM_DATA", ""))
pytestmark = pytest.mark.skipif(
    not (FOLDER / "knowm_sdc").is_dir(), reason="MDLS_COSIM_DATA names no folder of measurements"
)


def test_a_loop_of_a_knowm_device_is_fitted_to_five_percent(monkeypatch: pytest.MonkeyPatch):
    setup = Setup(columns="applied voltage [V], current [uA]", frequency=10.0, series_resistance=5e3)
    (loop,), _ = read_measurement(FOLDER / "knowm_sdc" / "5k_0.8V_10Hz_M1_series.csv", setup)
    assert isinstance(loop, Loop)
    assert loop.periodic
    assert loop.time_residual is not None
    assert loop.time_residual < 0.01
    # Every fourth point, and one step of the search between two, for time; `calibration/fit_measured.py` takes all. The
    # error is told at finer steps.
    monkeypatch.setattr(loop_problem, "STEPS_IN_CYCLE", 50)
    thinned = {name: getattr(loop, name)[::4] for name in ("times", "voltages", "currents")}
    loop = dataclasses.replace(loop, **thinned, cycle=np.asarray(loop.cycle)[::4])
    fit = fit_loops([loop], "metastable_switch", candidates=64)
    assert fit.error < 0.05
    assert any("cycle-to-cycle" in note for note in fit.notes)


def test_pulse_ramps_predict_ramps_that_were_held_out():
    setup = Setup(kind="pulses", columns=", ".join(["current [A]"] * 39), read_voltage=0.1)
    trains = [
        each
        for each in read_measurement(FOLDER / "sandia_pulse_trains" / "set.csv", setup)[0]
        if isinstance(each, PulseTrain)
    ]
    found = calibrate(trains)
    assert found.error < 0.02
    assert found.held_out_error is not None
    assert found.held_out_error < 0.05
