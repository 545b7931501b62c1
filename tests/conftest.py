"""What all tests share: when ngspice tests are skipped, one engine a worker, one thread a worker, tile drawing."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

# Before the first import of numpy or torch: many small matrices in many workers want one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from mdls_cosim.characterize import Characterization, IvPlan, ReadPlan, draw
from mdls_cosim.dataset import Array, Dataset
from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.devices.validity import forget_warnings
from mdls_cosim.errors import SpiceNotFound
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.spice import NgspiceEngine
from mdls_cosim.tiles import TileSpec

torch.set_num_threads(1)


@cache
def _no_ngspice() -> str | None:
    """Why no ngspice answers. Only its absence is a reason to skip: one that misbehaves must fail its tests."""
    try:
        with NgspiceEngine() as engine:
            engine.info()
    except SpiceNotFound as error:
        return str(error)
    return None


# Each sets up something that takes long, once for all of its tests. Not by marks: pytest 9.2 takes the group out of the
# names by which pytest-xdist 3.8 hands tests to workers.
ON_ONE_WORKER = ("tests/e2e/test_demo.py", "tests/e2e/test_campaign.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests one by one to whichever worker is free, but those of such a file to one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileWhereItPays(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in ON_ONE_WORKER else nodeid

    return ByFileWhereItPays(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    forget_warnings()  # each test is warned as if it came first
    if item.get_closest_marker("ngspice") and (reason := _no_ngspice()):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def engine() -> Iterator[NgspiceEngine]:
    """One ngspice for all tests of a worker."""
    with NgspiceEngine() as engine:
        yield engine


# Four resistances that no two of them can be swapped unseen [ohm].
RESISTANCES = {
    "row_line_resistance": 1.0,
    "column_line_resistance": 2.5,
    "driver_resistance": 12.0,
    "sense_resistance": 7.0,
}


@pytest.fixture(scope="session")
def tile_spec() -> Callable[..., TileSpec]:
    """`tile_spec(rows, cols, zero=(names), nonlinearity=None, **changes)`: four different resistances, some zero."""

    def build(rows: int, cols: int, zero=(), nonlinearity: float | None = None, **changes) -> TileSpec:
        cell = Ohmic() if nonlinearity is None else Sinh(nonlinearity=nonlinearity)
        resistances = {**RESISTANCES, **dict.fromkeys(zero, 0.0)}
        return TileSpec(**{"rows": rows, "cols": cols, "cell": cell, **resistances, **changes})

    return build


@pytest.fixture(scope="session")
def draw_tile() -> Callable[..., np.ndarray]:
    """`draw_tile(shape, seed)`: conductances over two decades, 1 - 100 uS, a tenth of the cells open (G = 0)."""

    def draw(shape: tuple[int, ...], seed: int, low: float = 1e-6, high: float = 1e-4, open_share: float = 0.1):
        generator = np.random.default_rng([seed, *shape])
        conductances = np.exp(generator.uniform(np.log(low), np.log(high), shape))
        return np.where(generator.random(shape) < open_share, 0.0, conductances)

    return draw


@pytest.fixture(scope="session")
def draw_voltages() -> Callable[..., np.ndarray]:
    """`draw_voltages(shape, seed, amplitude)`: inputs of both signs [V]."""

    def draw(shape: tuple[int, ...], seed: int, amplitude: float = 0.3) -> np.ndarray:
        return np.random.default_rng([seed, 7, *shape]).uniform(-amplitude, amplitude, shape)

    return draw


@pytest.fixture(scope="session")
def nodal_dataset() -> Callable[..., Dataset]:
    """`nodal_dataset(spec, span, seed, iv, **plan)`: a Dataset as `characterize` makes it, solved by NodalTile.

    For tests of what is done with data; those of where data come from run ngspice.
    """

    def make(spec: TileSpec, span=(1e-6, 1e-4), seed: int = 0, iv: bool = False, **plan) -> Dataset:
        reads = ReadPlan(**plan)
        cases = draw(spec, reads, span, np.random.default_rng(seed))
        exact = NodalTile(spec, tolerance=1e-13)
        currents = exact.program(torch.as_tensor(cases.conductances))(torch.as_tensor(cases.voltages))
        experiments = {
            "read": {
                "conductances": Array(cases.conductances, "S", ("tile", "row", "col")),
                "voltages": Array(cases.voltages, "V", ("tile", "vector", "row")),
                "currents": Array(currents.numpy(), "A", ("tile", "vector", "col")),
                "conductance_class": Array(cases.conductance_class, "1", ("tile",)),
                "input_class": Array(cases.input_class, "1", ("vector",)),
            }
        }
        if iv:
            conductances = np.linspace(*span, 5)
            voltages = np.tile(np.linspace(-reads.voltage, reads.voltage, 21), (5, 1))
            state = spec.cell.state_for(conductances, spec.reference_voltage)[:, None]
            experiments["iv"] = {
                "conductances": Array(conductances, "S", ("cell",)),
                "voltages": Array(voltages, "V", ("cell", "point")),
                "currents": Array(spec.cell.current(voltages, state), "A", ("cell", "point")),
            }
        config = Characterization(
            tile=spec, conductance_range=span, iv=IvPlan() if iv else None, read=reads, seed=seed
        ).as_dict()
        return Dataset.create(experiments, config=config, seed=seed)

    return make
