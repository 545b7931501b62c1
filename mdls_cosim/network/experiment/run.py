"""Runs a simulation: every point and every chip is a unit of work, kept in a journal, solved in any process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdls_cosim.analog import Hardware
from mdls_cosim.characterize import Characterization, Journal, Outcome, Progress
from mdls_cosim.dataset import Failure
from mdls_cosim.errors import StoreError
from mdls_cosim.network.experiment.crew import Crew, crew_of
from mdls_cosim.network.experiment.plan import Plan, Point
from mdls_cosim.network.experiment.results import Names, SimulationResult, point_arrays, sweep_arrays
from mdls_cosim.network.experiment.simulation import Simulation
from mdls_cosim.network.experiment.subject import Subject
from mdls_cosim.network.experiment.surrogates import kept_surrogate, label_plan, needs_fit, plan_key, with_surrogate
from mdls_cosim.network.experiment.units import Bench, Unit, fit
from mdls_cosim.network.zoo.factory import searched_first
from mdls_cosim.provenance import canonical_json, tool_versions
from mdls_cosim.store import Array
from mdls_cosim.surrogates import Surrogate

Stage = Callable[[str], None]
"""Called with what is done next, where that is no unit of work."""


@dataclass(frozen=True, eq=False)
class Summary:
    """A simulation that has run."""

    result: SimulationResult
    units: int
    reused: int
    """Units taken from the journal."""
    failed: int
    surrogates: int
    """Fitted in this run."""


class Work:
    """A simulation with its network and its points: what is left is to run it.

    Args:
        simulation: what to find out.
        subject: its network, with weights, and its data.
        where: the file of the experiment, for what errors name.
        threads: of torch in each process. More than one help large networks of which few fit in memory; another number
            changes the last digits of sums.
        torch_device: where units are computed, "cpu" or "cuda"; another one changes the last digits of sums.
    """

    def __init__(
        self,
        simulation: Simulation,
        subject: Subject,
        where: str = "experiment",
        threads: int = 1,
        torch_device: str = "cpu",
    ) -> None:
        self.simulation = simulation
        self.subject = subject
        self.plan: Plan = simulation.plan(where)
        subject.check(simulation, self.plan, where)
        images, labels = subject.test(simulation.images)
        self.bench = Bench(
            subject.model,
            images,
            labels,
            subject.train[0][: simulation.calibration.images],
            simulation.calibration.on,
            simulation.seed,
            simulation.batch_size,
            simulation.layer_images,
            threads,
            torch_device,
            subject.folder,
            subject.modules,
            subject.metric,
            simulation.output,
        )

    @cached_property
    def fits(self) -> dict[str, Characterization]:
        """Surrogates that the points need, by the key of what they are fitted to."""
        plans = {}
        for point in self.plan.points:
            for hardware in (point.hardware, *point.rules.values()):
                if hardware is not None and needs_fit(hardware):
                    plan = label_plan(hardware, self.simulation.seed)
                    plans[plan_key(plan)] = plan
        return plans

    @property
    def tools(self) -> dict[str, str]:
        """Versions of what shapes the numbers of a unit."""
        versions = tool_versions()
        return {name: versions[name] for name in ("mdls_cosim", "torch") if name in versions}

    def units(self, fitted: Mapping[str, Surrogate]) -> list[list[Unit]]:
        """Of every point one a run; the errors of the layers come after those of the base."""
        every = [self._units(point, fitted) for point in self.plan.points]
        base = every[0][0]
        key = _hash({"point": base.key, "layers": self.simulation.layer_images})
        every[0] = [*every[0], replace(base, label="layers", key=key, run=None)]
        return every

    def _units(self, point: Point, fitted: Mapping[str, Surrogate]) -> list[Unit]:
        seed = self.simulation.seed
        hardware = with_surrogate(point.hardware, fitted, seed)
        assert hardware is not None
        rules = {pattern: with_surrogate(each, fitted, seed) for pattern, each in point.rules.items()}
        told = {
            "hardware": _told(hardware),
            "rules": {pattern: None if each is None else _told(each) for pattern, each in rules.items()},
            "calibration": self.simulation.calibration,
            "seed": seed,
            "subject": self.subject.hashes,
            "images": len(self.bench.images),
            "batch_size": self.simulation.batch_size,
            "code": self.subject.code,
            "metric": self.simulation.metric,
            "output": self.simulation.output,
        }
        if self.bench.torch_device != "cpu":
            told["torch_device"] = torch.device(self.bench.torch_device).type
        key = _hash(told)
        read = {"point": key, "reading": point.reading}
        # Where nothing is random every run is the first.
        random = any(each is not None and each.random for each in (hardware, *rules.values()))
        runs = range(self.simulation.runs) if random else [0] * self.simulation.runs
        return [
            Unit(f"{point.label}, run {run}", _hash({**read, "run": run}), key, hardware, rules, point.reading, run)
            for run in runs
        ]

    def run(
        self,
        folder: Path,
        *,
        workers: int | None = None,
        executor: Executor | None = None,
        journal: Journal | None = None,
        progress: Progress | None = None,
        stage: Stage = lambda doing: None,
    ) -> Summary:
        """Runs all units that the journal does not have, and collects the result in the order of the plan.

        A unit that fails (no convergence) is NaN with its cause; hardware that cannot be stops the run.

        Args:
            folder: where fitted surrogates are kept.
            workers: processes side by side; one a processor if absent; 1: this process.
            executor: any of `concurrent.futures`, in place of processes of its own.
            journal: finished units are taken from it and put into it.
            progress: called with (finished, planned) units.
            stage: told what is done before.

        Raises:
            StoreError: the journal's units belong to another experiment, or were made with other tools.
            ExecutorError: workers were lost.
        """
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(self.bench.threads)
            with searched_first(self.bench.folder):  # for imports inside the network's functions
                return self._run(folder, workers, executor, journal, progress, stage)
        finally:
            torch.set_num_threads(threads)

    def _run(
        self,
        folder: Path,
        workers: int | None,
        executor: Executor | None,
        journal: Journal | None,
        progress: Progress | None,
        stage: Stage,
    ) -> Summary:
        stage("reading the test images with the float network")
        accuracy = self.subject.float_accuracy(
            self.bench.images, self.bench.labels, self.simulation.batch_size, self.simulation.output
        )
        planned = sum(self.simulation.runs for _ in self.plan.points) + 1
        with crew_of(executor, workers, self.bench, max(planned, len(self.fits))) as crew:
            fitted, fresh = self._fit(folder / "surrogates", crew, stage)
            units = self.units(fitted)
            known = self._known(journal, [unit for each in units for unit in each], stage)
            outcomes = crew.run({unit.key: unit for each in units for unit in each}, known, journal, progress)
        result = self._collect(units, outcomes, accuracy, fitted)
        different = {unit.key for each in units for unit in each}
        return Summary(
            result,
            units=len(different),
            reused=len(known),
            failed=sum(not outcomes[key].done for key in different),
            surrogates=fresh,
        )

    def _known(self, journal: Journal | None, units: Sequence[Unit], stage: Stage) -> dict[str, Outcome]:
        """What the journal has of these units."""
        if journal is None:
            return {}
        kept = journal.kept()
        found = {unit.key: outcome for unit in units if (outcome := journal.known(unit)) is not None}
        asked = _hash(self.simulation.as_given())
        if kept.done and not found:
            if not (journal.plan or "").endswith(asked):
                raise StoreError(
                    "the journal holds runs of another experiment",
                    where=str(journal.path),
                    value=f"{kept.done} runs, none of which this one asks for",
                    hint="Name another folder with --out, or start over with --force",
                )
            stage(
                f"the code of the network or the metric, the weights or the data have changed since the {kept.done} "
                f"runs in {journal.path}: all runs are computed again"
            )
        journal.begin(f"{_hash([unit.key for unit in units])} of experiment {asked}", self.tools)
        return found

    def _fit(self, folder: Path, crew: Crew, stage: Stage) -> tuple[dict[str, Surrogate], int]:
        """The surrogates that points need: those kept, and the others fitted now."""
        kept = {key: kept_surrogate(folder, key) for key in self.fits}
        fitted = {key: surrogate for key, surrogate in kept.items() if surrogate is not None}
        missing = [key for key in self.fits if key not in fitted]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            stage(f"fitting {len(missing)} surrogate{'s' if len(missing) > 1 else ''} to exact solutions")
        for key, surrogate in crew.each(missing, lambda key: (fit, self.fits[key], self.bench.threads)):
            surrogate.save(folder / f"{key}.h5")
            fitted[key] = surrogate
        return {key: fitted[key] for key in self.fits}, len(missing)

    def _collect(
        self,
        units: Sequence[Sequence[Unit]],
        outcomes: Mapping[str, Outcome],
        accuracy: float,
        fitted: Mapping[str, Surrogate],
    ) -> SimulationResult:
        runs = np.empty((len(units), self.simulation.runs), dtype=object)
        for place, each in enumerate(units):
            for run in range(self.simulation.runs):
                runs[place, run] = outcomes[each[run].key].results
        names = Names.of(list(runs.flat))
        layers = outcomes[units[0][-1].key].results
        base = point_arrays(runs[0], names) | {"float_accuracy": Array(np.array(accuracy), "1", ())}
        for name in ("layer_error", "layer_error_in_network"):
            errors = np.full(len(names.layers), np.nan)
            for layer, error in zip(layers["layers"].tolist(), layers[name], strict=True) if layers else ():
                errors[names.layers.index(layer)] = error
            base[name] = Array(errors, "1", ("layer",))
        sweeps = {sweep.name: sweep_arrays(sweep, runs[sweep.points], names) for sweep in self.plan.sweeps}
        first = next((found for found in runs.flat if found is not None), None)
        config = {
            "simulation": self.simulation.as_given(),
            "hardware": _told(self.plan.points[0].hardware),
            "subject": self.subject.about | {f"{name}_hash": each for name, each in self.subject.hashes.items()},
            "images": len(self.bench.images),
            "layers": names.layers,
            "limits": names.limits,
            "skipped": [] if first is None else [json.loads(each) for each in first["skipped"].tolist()],
            "sweeps": {
                sweep.name: [{"name": axis.name, "texts": axis.texts, "numeric": axis.numeric} for axis in sweep.axes]
                for sweep in self.plan.sweeps
            },
            "surrogates": [
                {
                    "spec": surrogate.spec.as_dict(),
                    "content_hash": surrogate.provenance.content_hash,
                    "error": None if surrogate.error is None else surrogate.error.as_dict(),
                }
                for surrogate in fitted.values()
            ],
        }
        failures = {
            unit.key: Failure("simulate", unit.label, outcome.cause, outcome.deck, outcome.log, outcome.attempts)
            for each in units
            for unit in each
            if not (outcome := outcomes[unit.key]).done
        }
        parents = [surrogate.provenance.content_hash for surrogate in fitted.values()]
        tile = self.plan.points[0].hardware.tile
        if isinstance(tile, Surrogate):
            parents.append(tile.provenance.content_hash)
        return SimulationResult.create(
            base, sweeps, config, self.simulation.seed, tuple(parents), tuple(failures.values())
        )


def _told(hardware: Hardware) -> dict[str, Any]:
    """Hardware as plain values, a surrogate by its content too."""
    told = hardware.as_dict()
    if isinstance(hardware.tile, Surrogate):
        told["tile"] = {**told["tile"], "content_hash": hardware.tile.provenance.content_hash}
    return told


def _hash(value: Any) -> str:
    return f"sha256:{hashlib.sha256(canonical_json(value).encode()).hexdigest()}"
