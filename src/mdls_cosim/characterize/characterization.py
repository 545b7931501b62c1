"""From a specification to a Dataset: plan, run in ngspice, collect."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from mdls_cosim.characterize import iv as iv_experiment
from mdls_cosim.characterize import read as read_experiment
from mdls_cosim.characterize.iv import IvPlan
from mdls_cosim.characterize.read import ReadPlan
from mdls_cosim.characterize.run import Progress, run_jobs
from mdls_cosim.config import Config
from mdls_cosim.dataset import Array, Dataset
from mdls_cosim.provenance import tool_versions
from mdls_cosim.quantities import Conductance
from mdls_cosim.spice import Engine, NgspiceEngine
from mdls_cosim.tiles import TileSpec


class Characterization(Config):
    """A tile, and the experiments to run on it. In TOML: tables `[tile]`, `[tile.cell]`, `[iv]` and `[read]`."""

    tile: TileSpec
    """The circuit."""
    conductance_range: tuple[Conductance, Conductance] = (1e-6, 100e-6)
    """Lowest and highest conductance that cells are programmed to [S]."""
    iv: IvPlan | None = None
    """The I-V of single cells; absent: not run."""
    read: ReadPlan | None = None
    """Reads of whole tiles; absent: not run."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of every random draw."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.conductance_range
        if low >= high:
            raise ValueError(f"conductance_range must rise, lowest before highest; got {low:g} S, {high:g} S")
        if self.iv is None and self.read is None:
            raise ValueError("no experiment is asked for; add a table [iv] or [read]")
        return self


def characterize(
    spec: Characterization,
    workers: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Dataset:
    """Runs the experiments of `spec` in ngspice.

    Args:
        spec: what to run.
        workers: ngspice processes side by side; one a processor if absent.
        progress: called with (finished, planned) operating points.
        engine: run on this engine instead of on workers of its own.

    Raises:
        SpiceError: a simulation failed, or no ngspice was found.
    """
    plan, cases = [], None
    if spec.iv is not None:
        plan += iv_experiment.plan(spec.tile, spec.iv, spec.conductance_range)
    split = len(plan)
    if spec.read is not None:
        cases = read_experiment.draw(spec.tile, spec.read, spec.conductance_range, np.random.default_rng(spec.seed))
        plan += read_experiment.jobs(spec.tile, cases.conductances, cases.voltages)
    results = run_jobs(plan, workers, progress, engine)
    experiments: dict[str, dict[str, Array]] = {}
    if spec.iv is not None:
        experiments["iv"] = iv_experiment.collect(spec.iv, spec.conductance_range, results[:split])
    if cases is not None:
        experiments["read"] = read_experiment.collect(cases, results[split:])
    return Dataset.create(experiments, config=spec.as_dict(), seed=spec.seed, tools=_tools(engine))


def _tools(engine: Engine | None) -> dict[str, str]:
    """Versions of everything that shaped the numbers, the simulator and its matrix solver among them."""
    if engine is None:
        with NgspiceEngine() as own:
            info = own.info()
    else:
        info = engine.info()
    return {**tool_versions(), "ngspice": info.version, "solver": info.solver}
