"""Experiments: what a simulation is to find out, its network and data, its work on any processors, its results."""

from mdls_cosim.network.experiment.plan import Plan, Point, Reading, Sweep
from mdls_cosim.network.experiment.results import SimulationResult
from mdls_cosim.network.experiment.run import Summary, Work
from mdls_cosim.network.experiment.simulation import Simulation
from mdls_cosim.network.experiment.subject import Subject

__all__ = ["Plan", "Point", "Reading", "Simulation", "SimulationResult", "Subject", "Summary", "Sweep", "Work"]
