"""Fresh small arrays in ngspice against a surrogate: does the recorded bound hold?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import t as student_t
from torch import Tensor

from mdls_cosim.characterize import Progress, ReadPlan, draw_tiles, read_tiles
from mdls_cosim.errors import InputError
from mdls_cosim.spice import Engine
from mdls_cosim.surrogates.domain import Domain
from mdls_cosim.surrogates.fit import class_errors
from mdls_cosim.surrogates.read_classes import class_names
from mdls_cosim.surrogates.surrogate import Surrogate

# Keeps the draws apart from those of every characterization, whatever seed the user picks.
_STREAM = 0x76616C

# Of two tiles the interval spans many decades (Student's t with one degree of freedom), which informs nobody.
_LEAST_TILES = 3
_CONFIDENCE = 0.95

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
    """95 % of each class's error, from how it scatters between tiles; of classes of three tiles and more."""
    domain: Domain = field(default_factory=Domain)
    """Of the surrogate: the recorded bound was measured on its classes only."""

    @property
    def worst(self) -> float:
        """Error of the worst class; NaN where that of any class is none."""
        errors = list(self.classes.values())
        return math.nan if any(map(math.isnan, errors)) else max(errors)

    @property
    def passed(self) -> bool:
        """Every class has an error, and none is beyond the recorded bound."""
        return self.worst <= self.bound

    @property
    def unfitted(self) -> frozenset[str]:
        """Classes that the data of the fit did not hold."""
        return frozenset(name for name in self.classes if not self.domain.covers(*_pair(name)))

    @property
    def worst_fitted(self) -> float | None:
        """Error of the worst class that was fitted; None where none of them was drawn."""
        errors = [error for name, error in self.classes.items() if name not in self.unfitted]
        if not errors:
            return None
        return math.nan if any(map(math.isnan, errors)) else max(errors)

    @property
    def missing_classes(self) -> dict[str, tuple[str, ...]]:
        """Keys of the table [read] and the classes to add to them, for the unfitted classes beyond the bound."""
        pairs = [_pair(name) for name in sorted(self.unfitted) if not self.classes[name] <= self.bound]
        fitted = {"conductance_classes": self.domain.conductance_classes, "input_classes": self.domain.input_classes}
        missing = {
            key: tuple(dict.fromkeys(pair[side] for pair in pairs if seen is not None and pair[side] not in seen))
            for side, (key, seen) in enumerate(fitted.items())
        }
        return {key: classes for key, classes in missing.items() if classes}


def _pair(name: str) -> tuple[str, str]:
    """Conductance class and input class of "uniform / dense"."""
    conductance_class, _, input_class = name.partition(" / ")
    return conductance_class, input_class


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
    intervals = _intervals(missed, currents, names)
    return Validation(classes, bound, cases, (spec.rows, spec.cols), intervals, surrogate.domain)


def _intervals(missed: Tensor, currents: Tensor, names: np.ndarray) -> dict[str, tuple[float, float]]:
    """95 % intervals of the classes' errors e, Student's t on the logarithm: the reads of one tile are not independent,
    and a class has a handful of tiles.

    With m_t the mean square of what is missed in tile t of n and c_t that of its currents, e^2 = sum m_t / sum c_t, and

        ln e^2 +- t(n - 1) max(sqrt(s^2/n + s^4/(2 (n - 1))), sqrt(sum (m_t - e^2 c_t)^2/(n (n - 1)))/(e^2 mean c_t))

    s is the standard deviation of ln m_t/c_t. The first is that of a lognormal quantity's mean (Cox), right for few
    tiles of like currents; the second that of a ratio of sums, the larger one where a tile of large currents rules.
    """
    found = {}
    for name in dict.fromkeys(names.ravel().tolist()):
        mine = torch.as_tensor(names == name)
        tiles = mine.any(1).nonzero()[:, 0]
        count = len(tiles)
        if count < _LEAST_TILES:
            continue
        error, current = (
            np.array([max(float(each[tile][mine[tile]].square().mean()), 1e-60) for tile in tiles])
            for each in (missed, currents)
        )
        share = error.mean() / current.mean()
        scatter = np.log(error / current).var(ddof=1)
        between = scatter / count + scatter**2 / (2 * (count - 1))
        of_ratio = np.square(error - share * current).sum() / (count * (count - 1)) / error.mean() ** 2
        wide = student_t.ppf((1 + _CONFIDENCE) / 2, count - 1) * np.sqrt(max(between, of_ratio))
        # Of two tiles that differ much the upper end is beyond any number.
        with np.errstate(over="ignore"):
            low, high = (float(np.sqrt(share) * np.exp(sign * wide / 2)) for sign in (-1, 1))
        found[name] = (low, high)
    return found
