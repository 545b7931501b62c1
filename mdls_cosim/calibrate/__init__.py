"""Calibrate: from measured I-V loops, pulse trains, levels and drift to a parameter set, with its confidence."""

from mdls_cosim.calibrate.agreement import Branch, States
from mdls_cosim.calibrate.measurement import DriftTrace, EnduranceTable, LevelTable, Loop, Measurement, PulseTrain
from mdls_cosim.calibrate.pulse_response import PulseLaw, PulseResponse
from mdls_cosim.calibrate.reading import KINDS, MeasuredFile, MeasuredFiles, Setup, read_measurement
from mdls_cosim.calibrate.result import Calibration, Ranked, Value
from mdls_cosim.calibrate.run import calibrate

__all__ = [
    "KINDS",
    "Branch",
    "Calibration",
    "DriftTrace",
    "EnduranceTable",
    "LevelTable",
    "Loop",
    "MeasuredFile",
    "MeasuredFiles",
    "Measurement",
    "PulseLaw",
    "PulseResponse",
    "PulseTrain",
    "Ranked",
    "Setup",
    "States",
    "Value",
    "calibrate",
    "read_measurement",
]
