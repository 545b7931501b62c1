"""The result of a fit of loops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdls_cosim.calibrate.agreement import Branch
from mdls_cosim.devices import DynamicDevice


@dataclass(frozen=True, eq=False)
class LoopFit:
    """A device fitted to loops, with its errors by loop and by branch."""

    device: DynamicDevice
    values: dict[str, float]
    """Of the fitted parameters, SI."""
    intervals: dict[str, tuple[float, float]]
    """95 %."""
    determined: dict[str, bool]
    """False: the data do not tell the parameter."""
    method: str
    """Where the intervals come from: "hessian" or "bootstrap"."""
    errors: dict[str, float]
    """By name of the loop: RMS of modelled less measured current over the measured range."""
    held_out: dict[str, float]
    """The same of loops that were not fitted."""
    modelled: dict[str, np.ndarray]
    """Currents of the model at the points of each loop [A]."""
    starts: dict[str, float]
    """State at the first point of each loop."""
    voltages: dict[str, np.ndarray] = field(default_factory=dict)
    """By name of the fitted loop: voltage over the device of the model's circuit [V], of the measured sign."""
    states: dict[str, np.ndarray] = field(default_factory=dict)
    """By name of the fitted loop: states of the model."""
    series_resistance: float | None = None
    """Fitted or given in place of the loops' own [ohm]."""
    parallel_capacitance: float = 0.0
    """Across the device [F], of the set-up."""
    branches: dict[str, tuple[Branch, ...]] = field(default_factory=dict)
    """By name of the loop, fitted and held out: the agreement of each branch."""
    misfit: float = 0.0
    """RMS of what the fit minimizes: the relative errors of all quarters of all loops."""
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """Of all fitted parameters, in shares of their bounds."""
    points: int = 0
    """Fitted currents."""
    variability: tuple[Any, ...] = ()
    """Effects of `devices.variability` that repeated cycles show."""
    notes: tuple[str, ...] = ()
    """Sentences for the reader."""

    @property
    def error(self) -> float:
        """RMS of `errors`."""
        return _rms(self.errors)

    @property
    def held_out_error(self) -> float | None:
        """RMS of `held_out`; None where nothing was held out."""
        return _rms(self.held_out) if self.held_out else None

    @property
    def branch_error(self) -> float | None:
        """RMS of the relative errors of the fitted loops' branches; None where they are not known."""
        return branches_error(self.branches, self.errors)

    @property
    def held_out_branch_error(self) -> float | None:
        """RMS of the relative errors of the held-out loops' branches."""
        return branches_error(self.branches, self.held_out)


def branches_error(branches: Mapping[str, Sequence[Branch]], names: Iterable[str]) -> float | None:
    """RMS of the relative errors of the branches of the loops `names`; None where there are none."""
    errors = [branch.error for name in names for branch in branches.get(name, ())]
    return math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else None


def _rms(errors: Mapping[str, float]) -> float:
    return math.sqrt(sum(error**2 for error in errors.values()) / len(errors)) if errors else 0.0
