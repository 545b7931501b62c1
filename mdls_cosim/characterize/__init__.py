"""Characterization: experiments that turn a circuit into a Dataset, as campaigns of points."""

from mdls_cosim.characterize.campaign import Campaign, Summary, characterize
from mdls_cosim.characterize.characterization import Characterization
from mdls_cosim.characterize.cluster import connected
from mdls_cosim.characterize.energy import EnergyPlan
from mdls_cosim.characterize.experiment import Experiment
from mdls_cosim.characterize.faults import FaultsPlan
from mdls_cosim.characterize.first_deck import first_deck
from mdls_cosim.characterize.iv import IvPlan
from mdls_cosim.characterize.journal import Journal
from mdls_cosim.characterize.patterns import (
    CONDUCTANCE_CLASSES,
    INPUT_CLASSES,
    ConductanceClass,
    InputClass,
    draw_conductances,
    draw_inputs,
)
from mdls_cosim.characterize.point import DeckPoint, Point, Results
from mdls_cosim.characterize.pulse import PulsePlan
from mdls_cosim.characterize.read import Cases, ReadPlan, ReadPoint, draw, draw_tiles, read_tiles
from mdls_cosim.characterize.run import Crew, Progress, executor_errors, run_points, solve_points
from mdls_cosim.characterize.settle import SettlePlan
from mdls_cosim.characterize.sneak import SneakPlan
from mdls_cosim.characterize.temperature import TemperaturePlan
from mdls_cosim.characterize.workers import EngineSettings, Outcome, Recorder
from mdls_cosim.characterize.write import WritePlan

__all__ = [
    "CONDUCTANCE_CLASSES",
    "INPUT_CLASSES",
    "Campaign",
    "Cases",
    "Characterization",
    "ConductanceClass",
    "Crew",
    "DeckPoint",
    "EnergyPlan",
    "EngineSettings",
    "Experiment",
    "FaultsPlan",
    "InputClass",
    "IvPlan",
    "Journal",
    "Outcome",
    "Point",
    "Progress",
    "PulsePlan",
    "ReadPlan",
    "ReadPoint",
    "Recorder",
    "Results",
    "SettlePlan",
    "SneakPlan",
    "Summary",
    "TemperaturePlan",
    "WritePlan",
    "characterize",
    "connected",
    "draw",
    "draw_conductances",
    "draw_inputs",
    "draw_tiles",
    "executor_errors",
    "first_deck",
    "read_tiles",
    "run_points",
    "solve_points",
]
