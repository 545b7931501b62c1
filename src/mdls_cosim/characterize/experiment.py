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


class Experiment(Config, ABC):
    """The plan of one experiment. A field of `Characterization` that holds one is run; nothing else registers it."""

    @abstractmethod
    def make_points(self, tile: TileSpec, span: tuple[float, float], seed: int) -> list[Point]:
        """The points for one tile; cells are programmed within `span` [S], and every draw is by `seed`.

        Each is labelled by what tells it from the others of this tile and seed, like "tile 5".
        """

    @abstractmethod
    def collect(
        self,
        tile: TileSpec,
        span: tuple[float, float],
        seed: int,
        results: Sequence[Mapping[str, NDArray[np.float64]]],
    ) -> dict[str, Array]:
        """The experiment's arrays, from the results of the points in their order; a failed point gave NaN."""
