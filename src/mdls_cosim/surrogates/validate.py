"""Fresh small arrays in ngspice against a surrogate: does the recorded bound hold?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mdls_cosim.characterize import Progress, ReadPlan, draw_tiles, read_tiles
from mdls_cosim.errors import InputError
from mdls_cosim.spice import Engine
from mdls_cosim.surrogates.fit import class_errors, class_names
from mdls_cosim.surrogates.surrogate import Surrogate

# Keeps the draws apart from those of every characterization, whatever seed the user picks.
_STREAM = 0x76616C

# What an unfitted, exact surrogate may differ from ngspice by: its own solver's tolerances.
_EXACT_BOUND = 1e-6


@dataclass(frozen=True)
class Validation:
    """Errors relative to the RMS current, by `conductance class / input class`."""

    classes: dict[str, float]
    bound: float
    cases: int

    @property
    def worst(self) -> float:
        """Error of the worst class."""
        return max(self.classes.values())

    @property
    def passed(self) -> bool:
        """No class is beyond the recorded bound."""
        return self.worst <= self.bound


def validate(
    surrogate: Surrogate,
    cases: int = 10,
    seed: int = 1,
    *,
    vectors: int = 4,
    workers: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Validation:
    """Draws tiles and inputs that no fit has seen, runs them in ngspice and compares.

    ngspice simulates the tile that the fit's data came from (`reference_spec`), so that a fit of wrong parameters
    shows; where the data were measured, the fitted tile.

    Args:
        surrogate: what to check.
        cases: tiles, taking the conductance classes in turn; each is read with `vectors` inputs of every input class.
        seed: of the draws.
        workers, engine: as for `characterize`.

    Raises:
        InputError: no case is asked for.
        SpiceError: a simulation failed.
    """
    if cases < 1:
        raise InputError("cases is out of range", value=cases, limit="1 or more")
    spec = surrogate.reference_spec or surrogate.spec
    span = surrogate.domain.conductances or (1e-6, 100e-6)
    amplitude = surrogate.domain.input_voltage or 0.3
    plan = ReadPlan(voltage=amplitude, vectors=vectors)
    codes = np.arange(cases, dtype=np.int64) % len(plan.conductance_classes)
    drawn = draw_tiles(spec, plan, codes, span, np.random.default_rng([seed, _STREAM]))
    currents = torch.as_tensor(read_tiles(spec, drawn.conductances, drawn.voltages, workers, progress, engine))
    missed = surrogate.program(torch.as_tensor(drawn.conductances))(torch.as_tensor(drawn.voltages)) - currents
    names = class_names(
        [plan.conductance_classes[code] for code in codes], [plan.input_classes[code] for code in drawn.input_class]
    )
    classes = class_errors(missed, currents, names)
    bound = _EXACT_BOUND if surrogate.error is None else surrogate.error.bound
    return Validation(classes, bound, cases)
