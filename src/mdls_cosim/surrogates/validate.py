"""Fresh small arrays in ngspice against a surrogate: does the recorded bound hold?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mdls_cosim.characterize import Progress, ReadPlan, draw_tiles, read_tiles
from mdls_cosim.errors import InputError
from mdls_cosim.spice import Engine
from mdls_cosim.surrogates.fit import class_errors, class_names
from mdls_cosim.surrogates.surrogate import Surrogate

# Keeps the draws apart from those of every characterization, whatever seed the user picks.
_STREAM = 0x76616C

_DRAWS = 1000
_LEAST_TILES = 3

# What an unfitted, exact surrogate may differ from ngspice by: its own solver's tolerances.
_EXACT_BOUND = 1e-6


@dataclass(frozen=True)
class Validation:
    """Errors relative to the RMS current, by `conductance class / input class`."""

    classes: dict[str, float]
    bound: float
    cases: int
    size: tuple[int, int]
    """Rows and columns of the tiles."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95 % of each class's error, from tiles drawn with replacement; of classes of three tiles and more."""

    @property
    def worst(self) -> float:
        """Error of the worst class; NaN where that of any class is none."""
        errors = list(self.classes.values())
        return math.nan if any(map(math.isnan, errors)) else max(errors)

    @property
    def passed(self) -> bool:
        """Every class has an error, and none is beyond the recorded bound."""
        return self.worst <= self.bound


def validate(
    surrogate: Surrogate,
    cases: int = 20,
    seed: int = 1,
    *,
    rows: int | None = None,
    cols: int | None = None,
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
        rows, cols: of the tiles; absent: those of the fit. Larger ones are outside the domain, and it says so.
        workers, engine: as for `characterize`.

    Raises:
        InputError: no case is asked for.
        SpiceError: a simulation failed.
    """
    if cases < 1:
        raise InputError("cases is out of range", value=cases, limit="1 or more")
    size = {"rows": rows or surrogate.spec.rows, "cols": cols or surrogate.spec.cols}
    spec = (surrogate.reference_spec or surrogate.spec).replace(**size)
    surrogate = surrogate.for_tile(**size)
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
    missed = missed.detach()
    classes = class_errors(missed, currents, names)
    bound = _EXACT_BOUND if surrogate.error is None else surrogate.error.bound
    intervals = _intervals(missed, currents, names, np.random.default_rng([seed, _STREAM, 1]))
    return Validation(classes, bound, cases, (spec.rows, spec.cols), intervals)


def _intervals(
    missed: Tensor, currents: Tensor, names: np.ndarray, generator: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Quantiles of a class's error over tiles drawn with replacement: the reads of one tile are not independent."""
    found = {}
    for name in dict.fromkeys(names.ravel().tolist()):
        mine = torch.as_tensor(names == name)
        tiles = mine.any(1).nonzero()[:, 0]
        if len(tiles) < _LEAST_TILES:
            continue
        squares = [
            np.array([float(each[tile][mine[tile]].square().sum()) for tile in tiles]) for each in (missed, currents)
        ]
        drawn = generator.integers(len(tiles), size=(_DRAWS, len(tiles)))
        errors = np.sqrt(squares[0][drawn].sum(1) / np.maximum(squares[1][drawn].sum(1), 1e-60))
        low, high = np.quantile(errors, (0.025, 0.975))
        found[name] = (float(low), float(high))
    return found
