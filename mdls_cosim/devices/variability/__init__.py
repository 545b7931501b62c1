"""Variability and degradation: seeded effects between a wished conductance and the one that a read finds."""

from mdls_cosim.devices.variability.cycle_to_cycle import CycleToCycle
from mdls_cosim.devices.variability.device_to_device import DeviceToDevice
from mdls_cosim.devices.variability.distributions import (
    AnyDistribution,
    FactorDistribution,
    Lognormal,
    Normal,
    PolynomialSpread,
    Samples,
)
from mdls_cosim.devices.variability.drift import Drift, LogExponent
from mdls_cosim.devices.variability.effect import Effect, Outcome, ProgrammingEffect, ReadingEffect
from mdls_cosim.devices.variability.endurance import Endurance
from mdls_cosim.devices.variability.finite_states import FiniteStates
from mdls_cosim.devices.variability.own_motion import OwnRetention, ReadDisturb
from mdls_cosim.devices.variability.population import Cells, Population
from mdls_cosim.devices.variability.programming_error import ProgrammingError
from mdls_cosim.devices.variability.randomness import Randomness
from mdls_cosim.devices.variability.read_noise import Flicker, ReadNoise
from mdls_cosim.devices.variability.retention import Retention
from mdls_cosim.devices.variability.stuck import Stuck
from mdls_cosim.devices.variability.telegraph import RandomTelegraphNoise
from mdls_cosim.devices.variability.variability import AnyEffect, Variability

__all__ = [
    "AnyDistribution",
    "AnyEffect",
    "Cells",
    "CycleToCycle",
    "DeviceToDevice",
    "Drift",
    "Effect",
    "Endurance",
    "FactorDistribution",
    "FiniteStates",
    "Flicker",
    "LogExponent",
    "Lognormal",
    "Normal",
    "Outcome",
    "OwnRetention",
    "PolynomialSpread",
    "Population",
    "ProgrammingEffect",
    "ProgrammingError",
    "RandomTelegraphNoise",
    "Randomness",
    "ReadDisturb",
    "ReadNoise",
    "ReadingEffect",
    "Retention",
    "Samples",
    "Stuck",
    "Variability",
]
