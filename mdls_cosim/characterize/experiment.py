"""What every experiment is: points from a tile, arrays from their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mdls_cosim.characterize.point import Point
from mdls_cosim.config import Config
from mdls_cosim.dataset import Array
from mdls_cosim.tiles import TileSpec

Span = tuple[float, float]
"""Lowest and highest conductance that cells are programmed to [S]."""
Found = Sequence[Mapping[str, NDArray[np.float64]]]
"""What the points of an experiment gave, in their order; a failed point gave NaN."""


class Experiment(Config, ABC):
    """The plan of one experiment. A field of `Characterization` that holds one is run; nothing else registers it."""

    @abstractmethod
    def make_points(self, tile: TileSpec, span: Span, seed: int) -> list[Point]:
        """The points for one tile; cells are programmed within `span` [S], and every draw is by `seed`.

        Each is labelled by what tells it from the others of this tile and seed, like "tile 5".
        """

    @abstractmethod
    def collect(self, tile: TileSpec, span: Span, seed: int, results: Found) -> dict[str, Array]:
        """The experiment's arrays, from the results of its points."""
