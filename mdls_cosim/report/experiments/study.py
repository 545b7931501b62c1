"""What every chapter of a report reads, an experiment's arrays case by case; and what it makes, figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mdls_cosim.dataset import Dataset
from mdls_cosim.quantities import format_quantity
from mdls_cosim.report.style import STYLE
from mdls_cosim.report.tables import Table

Floats = NDArray[Any]

WIDTH = 7.2
"""Of every figure [inches of 100 pixels]."""
LINES = ("-", "--", ":", "-.")
"""Corners differ in the line's style; colours tell what is swept."""
MOST_PANELS = 6


@dataclass(frozen=True)
class Case:
    """The arrays of one experiment on one tile, each with a leading axis `seed` (of length 1 where there is one)."""

    label: str
    rows: int | None
    cols: int | None
    corner: str | None
    arrays: dict[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def pooled(self, name: str) -> Floats:
        """The array with seeds and its first axis as one: seeds are further tiles, targets, cycles."""
        values = self.arrays[name]
        return values.reshape(-1, *values.shape[2:])

    @property
    def lines(self) -> float:
        """N of an N x N tile; of others the geometric mean of rows and columns."""
        return float(np.sqrt((self.rows or 1) * (self.cols or 1)))


@dataclass(frozen=True)
class Study:
    """One experiment of a Dataset: its cases, corner by corner and then by size, and its plan."""

    experiment: str
    cases: tuple[Case, ...]
    plan: Mapping[str, Any]
    span: tuple[float, float] | None
    """Lowest and highest conductance [S]."""

    @classmethod
    def of(cls, dataset: Dataset, experiment: str) -> Self:
        """What `dataset` holds of `experiment`."""
        corners = dataset.config.get("corners") or {}
        # From cold to hot; files keep no other order.
        order = sorted(corners, key=lambda name: (corners[name].get("temperature") or 0.0, name))
        cases = []
        for variant in dataset.variants(experiment):
            arrays = {
                name: array.values if array.dims[:1] == ("seed",) else array.values[None]
                for name, array in variant.arrays.items()
            }
            cases.append(Case(variant.label, variant.rows, variant.cols, variant.corner, arrays))
        cases.sort(key=lambda case: (order.index(case.corner) if case.corner in order else 0, case.lines))
        span = dataset.config.get("conductance_range")
        return cls(
            experiment,
            tuple(cases),
            dataset.config.get(experiment) or {},
            None if span is None else (float(span[0]), float(span[1])),
        )

    @property
    def corners(self) -> dict[str | None, list[Case]]:
        """Cases by corner, small tiles first."""
        found: dict[str | None, list[Case]] = {}
        for case in self.cases:
            found.setdefault(case.corner, []).append(case)
        return found

    @property
    def several_sizes(self) -> bool:
        return len({(case.rows, case.cols) for case in self.cases}) > 1

    @property
    def sizeless(self) -> list[Case]:
        """One case a corner: of experiments on single cells, which are the same at every size."""
        return [cases[0] for cases in self.corners.values()]

    def missing(self, name: str, axes: int = 1) -> tuple[int, int]:
        """How many points have failed, and of how many: those whose part of array `name` is NaN altogether.

        axes: leading axes, besides the seed, that count points.
        """
        lost = [
            np.isnan(case[name]).all(axis=tuple(range(axes + 1, case[name].ndim)))
            for case in self.cases
            if name in case
        ]
        return sum(int(each.sum()) for each in lost), sum(each.size for each in lost)


@dataclass(frozen=True)
class Drawing:
    """A figure of a chapter."""

    name: str
    """Of its file: "read_columns"."""
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Chapter:
    """What a report says of one experiment."""

    title: str
    sentence: str
    """What the experiment shows."""
    draw: Callable[[Study], list[Drawing]]
    tabulate: Callable[[Study], list[tuple[str, Table]]]
    """Captions and tables."""

    def drawings(self, study: Study) -> list[Drawing]:
        """Every figure that there are numbers for."""
        with rc_context(STYLE):
            return self.draw(study)


def panels(count: int, height: float = 3.0, most: int = 3, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes, at most `most` beside each other, all with a grid."""
    columns = min(count, most)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    found = list(np.ravel(figure.subplots(rows, columns, squeeze=False, **shared)))
    for axes in found[count:]:
        axes.remove()
    for axes in found[:count]:
        axes.grid()
    return figure, found[:count]


def selected(items: Sequence[Any], most: int = MOST_PANELS) -> list[Any]:
    """At most so many of them, first and last among them."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]


def note_missing(figure: Figure, missing: tuple[int, int], what: str) -> None:
    """Writes below the figure how many points are not in it, if any."""
    lost, planned = missing
    if lost:
        figure.supxlabel(
            f"{lost} of {planned} {what} failed and {'is' if lost == 1 else 'are'} not shown",
            x=0.01, ha="left", fontsize=9.5, style="italic",
        )  # fmt: skip


def said(value: float, unit: str, digits: int = 4) -> str:
    """`value` with its unit; "–" where it is not known."""
    return format_quantity(float(value), unit, digits) if np.isfinite(value) else "–"


def percent_label(fraction: float, place: int | None = None) -> str:
    """Of an axis over decades: 0.0001 is "0.01 %"."""
    return f"{fraction * 100:g} %"


def mean(values: Floats, axis: int | tuple[int, ...] | None = None) -> Any:
    """Of what is known; NaN where nothing is."""
    return _plain(np.ma.masked_invalid(values).mean(axis=axis))


def ends(values: Floats, axis: int | tuple[int, ...] | None = None) -> tuple[Any, Any]:
    """Lowest and highest of what is known; NaN where nothing is."""
    if not values.size:
        return np.nan, np.nan
    known = np.ma.masked_invalid(values)
    return _plain(known.min(axis=axis)), _plain(known.max(axis=axis))


def spread(values: Floats, axis: int) -> Any:
    """Sample standard deviation of what is known; 0 for a single value."""
    known = np.ma.masked_invalid(values)
    if values.shape[axis] < 2:
        return _plain(known.mean(axis=axis) * 0.0)
    return _plain(known.std(axis=axis, ddof=1))


def median(values: Floats, axis: int | None = None) -> Any:
    """Of what is known; NaN where nothing is."""
    return _plain(np.ma.median(np.ma.masked_invalid(values), axis=axis))


def known(values: Floats) -> Floats:
    """The finite ones of them, flat."""
    return values[np.isfinite(values)]


def _plain(values: Any) -> Any:
    found = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    return found if found.ndim else float(found)
