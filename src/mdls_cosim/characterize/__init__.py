"""Characterization: experiments that turn a circuit into a Dataset."""

from mdls_cosim.characterize.characterization import Characterization, characterize
from mdls_cosim.characterize.iv import IvPlan
from mdls_cosim.characterize.patterns import (
    CONDUCTANCE_CLASSES,
    INPUT_CLASSES,
    ConductanceClass,
    InputClass,
    draw_conductances,
    draw_inputs,
)
from mdls_cosim.characterize.read import Cases, ReadPlan, draw, draw_tiles, jobs
from mdls_cosim.characterize.run import Job, Progress, run_jobs

__all__ = [
    "CONDUCTANCE_CLASSES",
    "INPUT_CLASSES",
    "Cases",
    "Characterization",
    "ConductanceClass",
    "InputClass",
    "IvPlan",
    "Job",
    "Progress",
    "ReadPlan",
    "characterize",
    "draw",
    "draw_conductances",
    "draw_inputs",
    "draw_tiles",
    "jobs",
    "run_jobs",
]
