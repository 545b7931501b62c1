"""How tests of experiments run one, without campaign or file."""

from collections.abc import Callable

import numpy as np
import pytest

from mdls_cosim.characterize.experiment import Experiment
from mdls_cosim.tiles import TileSpec


@pytest.fixture(scope="session")
def measure(engine) -> Callable[..., dict[str, np.ndarray]]:
    """`measure(plan, tile, span, seed=0)`: the arrays of an experiment by name."""

    def run(plan: Experiment, tile: TileSpec, span: tuple[float, float] = (1e-6, 1e-4), seed: int = 0):
        points = plan.make_points(tile, span, seed)
        results = [point.solve(engine) for point in points]
        for point, result in zip(points, results, strict=True):
            blank = point.blank()
            assert {name: array.shape for name, array in blank.items()} == {n: a.shape for n, a in result.items()}
        return {name: array.values for name, array in plan.collect(tile, span, seed, results).items()}

    return run
