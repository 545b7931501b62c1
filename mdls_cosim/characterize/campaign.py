"""From a specification to a Dataset: plan the points, run them, assemble what they gave in the order of the plan."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from mdls_cosim.characterize.characterization import Characterization
from mdls_cosim.characterize.declared import check_declared
from mdls_cosim.characterize.experiment import Experiment
from mdls_cosim.characterize.journal import Journal
from mdls_cosim.characterize.point import Point
from mdls_cosim.characterize.run import Crew, Progress
from mdls_cosim.characterize.validity import outside_measurements
from mdls_cosim.characterize.workers import EngineSettings, Outcome
from mdls_cosim.dataset import Array, Dataset, Failure
from mdls_cosim.errors import ConfigError, InputError, MdlsError, SpiceError
from mdls_cosim.provenance import canonical_json, tool_versions
from mdls_cosim.spice import SLOW_CELLS, Engine, EngineInfo, model_names, read_model
from mdls_cosim.tiles import TileSpec


@dataclass(frozen=True, eq=False)
class Part:
    """One experiment on one tile with one seed, and its points."""

    group: str
    """Where its arrays go in the Dataset: "read", "read 16x16 hot"."""
    experiment: str
    plan: Experiment
    tile: TileSpec
    seed: int
    points: tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class Summary:
    """A campaign that has run."""

    dataset: Dataset
    points: int
    """Different ones."""
    operating_points: int
    """Solved in this run."""
    reused: int
    """Points taken from the journal."""
    failed: int
    fallbacks: Counter[str]
    """Operating points that needed a fall-back, by its name."""


class Campaign:
    """The points of a specification, planned before anything runs.

    Raises:
        ConfigError: an experiment cannot be run on one of the tiles.
    """

    def __init__(self, spec: Characterization) -> None:
        self.spec = spec
        self.parts = _parts(spec)
        self.points: list[Point] = list({point.key: point for part in self.parts for point in part.points}.values())
        """In the order of the plan, each key once."""

    @property
    def plan_hash(self) -> str:
        """Of the keys of all points in their order, and the specification."""
        digest = hashlib.sha256(canonical_json(self.spec).encode())
        for point in self.points:
            digest.update(point.key.encode())
        return f"sha256:{digest.hexdigest()}"

    def run(
        self,
        *,
        executor: Executor | None = None,
        workers: int | None = None,
        engine: Engine | None = None,
        journal: Journal | None = None,
        progress: Progress | None = None,
        strict: bool = False,
        settings: EngineSettings | None = None,
    ) -> Summary:
        """Runs all points that the journal does not have, and assembles the Dataset; see `run_points`.

        Raises:
            StoreError: the points of the journal were made with other tools.
            InputError: users' cells do not have the conductances that they are programmed to; see `check_declared`.
        """
        with Crew(executor, workers, engine, settings, most=len(self.points)) as crew:
            info = crew.info()
            self._refuse_slow(info, settings)
            voltages = [getattr(plan, "voltage", 0.0) for plan in self.spec.experiments.values()]
            check_declared(crew, (part.tile for part in self.parts), self.spec.conductance_range, voltages)
            if journal is not None:
                journal.begin(self.plan_hash, journal_tools(info))
            found = crew.run({point.key: point for point in self.points}, journal, progress, strict)
        dataset = self._assemble(found, {**tool_versions(), "ngspice": info.version, "solver": info.solver})
        fresh = [point for point in self.points if not found[point.key].reused]
        return Summary(
            dataset,
            points=len(self.points),
            operating_points=sum(point.operating_points for point in fresh),
            reused=len(self.points) - len(fresh),
            failed=sum(not outcome.done for outcome in found.values()),
            fallbacks=Counter(name for outcome in found.values() for name in outcome.fallbacks),
        )

    def _refuse_slow(self, info: EngineInfo, settings: EngineSettings | None) -> None:
        """Before anything runs: sizes that take minutes a point without KLU."""
        largest = max((part.tile for part in self.parts), key=lambda tile: tile.rows * tile.cols)
        if info.solver == "klu" or (settings is not None and settings.allow_slow):
            return
        if largest.rows * largest.cols > SLOW_CELLS:
            raise SpiceError(
                "so large a tile takes minutes an operating point without the KLU solver",
                where=f"tile {largest.rows}x{largest.cols}",
                value=f"{largest.rows * largest.cols} cells",
                limit=f"{SLOW_CELLS} for ngspice {info.version}",
                hint="Install ngspice 42 or newer (`mdls-cosim doctor` says how), or add --allow-slow.",
            )

    def _assemble(self, found: Mapping[str, Outcome], tools: Mapping[str, str]) -> Dataset:
        groups: dict[str, list[dict[str, Array]]] = {}
        failures: dict[str, Failure] = {}
        outside: dict[str, dict[str, int]] = {}
        span = self.spec.conductance_range
        for part in self.parts:
            outcomes = [(point, found[point.key]) for point in part.points]
            results = [outcome.results or point.blank() for point, outcome in outcomes]
            arrays = part.plan.collect(part.tile, span, part.seed, results)
            groups.setdefault(part.group, []).append(arrays)
            beyond = outside_measurements(part.group, part.tile, part.plan, span, arrays)
            if beyond:
                counts = outside.setdefault(part.group, {})
                counts |= {name: counts.get(name, 0) + count for name, count in beyond.items()}
            for point, outcome in outcomes:
                if not outcome.done and point.key not in failures:
                    failures[point.key] = Failure(
                        part.experiment, point.label, outcome.cause, outcome.deck, outcome.log, outcome.attempts
                    )
        repeated = self.spec.seeds > 1
        experiments = {name: _stacked(name, repeats) if repeated else repeats[0] for name, repeats in groups.items()}
        return Dataset.create(
            experiments,
            config=self.spec.as_dict(),
            seed=self.spec.seed,
            tools=tools,
            failures=tuple(failures.values()),
            outside=outside,
        )


def characterize(
    spec: Characterization,
    workers: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    *,
    executor: Executor | None = None,
    strict: bool = True,
) -> Dataset:
    """Runs the experiments of `spec` in ngspice.

    Args:
        spec: what to run.
        workers: ngspice processes side by side; one a processor if absent.
        progress: called with (finished, planned) operating points.
        engine: run on this engine instead of on workers of its own.
        executor: any of `concurrent.futures`, in place of workers of its own.
        strict: a simulation that fails is raised; without, its numbers are NaN and `Dataset.failures` tells of it.

    Raises:
        SpiceError: a simulation failed, or no ngspice was found.
    """
    campaign = Campaign(spec)
    return campaign.run(executor=executor, workers=workers, engine=engine, progress=progress, strict=strict).dataset


def journal_tools(info: EngineInfo) -> dict[str, str]:
    """Versions of everything that shapes the numbers of a point."""
    models = hashlib.sha256("\n".join(f"{name}\n{read_model(name)}" for name in model_names()).encode()).hexdigest()
    return {
        "mdls_cosim": tool_versions()["mdls_cosim"],
        "ngspice": info.version,
        "solver": info.solver,
        "spice_models": models[:16],
    }


def _parts(spec: Characterization) -> list[Part]:
    parts = []
    variants = spec.variants()
    for name, plan in spec.experiments.items():
        for variant in variants:
            group = f"{name} {variant.name}".rstrip()
            for seed in range(spec.seed, spec.seed + spec.seeds):
                place = f"{group}, seed {seed}" if spec.seeds > 1 else group
                points = _labelled(plan, variant.tile, spec.conductance_range, seed, place)
                parts.append(Part(group, name, plan, variant.tile, seed, points))
    return parts


def _labelled(plan: Experiment, tile: TileSpec, span: tuple[float, float], seed: int, place: str) -> tuple[Point, ...]:
    try:
        points = plan.make_points(tile, span, seed)
    except MdlsError as error:
        inner = place if error.where is None else f"{place}, {error.where}"
        raise ConfigError(
            f"the experiment cannot be planned: {error.what}",
            where=inner,
            value=error.value,
            limit=error.limit,
            hint=error.hint,
        ) from error
    return tuple(replace(point, label=f"{place}, {point.label}") for point in points)


def _stacked(group: str, repeats: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The arrays of several seeds as one, along a leading axis."""
    for name, first in repeats[0].items():
        for arrays in repeats[1:]:
            if arrays[name].values.shape != first.values.shape:
                raise InputError(
                    "seeds gave arrays of different shapes, which cannot be stacked",
                    where=f"{group}/{name}",
                    value=arrays[name].values.shape,
                    limit=first.values.shape,
                    hint="Run the seeds one by one",
                )
    return {
        name: Array(np.stack([arrays[name].values for arrays in repeats]), first.units, ("seed", *first.dims))
        for name, first in repeats[0].items()
    }
