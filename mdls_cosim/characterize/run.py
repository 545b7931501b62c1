"""Runs points on any executor and gives their outcomes in the order of the plan."""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.characterize.workers import (
    EngineSettings,
    Outcome,
    attempt,
    end_job,
    engine_info,
    solve_point,
    start_engine,
)
from mdls_cosim.errors import ExecutorError, InputError
from mdls_cosim.spice import Engine, EngineInfo

Progress = Callable[[int, int], None]
"""Called with (finished, planned) operating points."""

Result = TypeVar("Result")
Name = TypeVar("Name", bound=Hashable)

_IN_FLIGHT_UNKNOWN = 512  # points handed to an executor that does not say how many workers it has
_IN_FLIGHT_PER_WORKER = 4


class Record(Protocol):
    """Where outcomes are kept as they come, and where those of an earlier run are: a journal."""

    def known(self, point: Point) -> Outcome | None: ...

    def keep(self, point: Point, outcome: Outcome) -> Outcome: ...


def solve_points(
    points: Sequence[Point],
    workers: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> list[Results]:
    """What every point gives, in the order of `points`.

    Args:
        workers: ngspice processes side by side; one a processor if absent.
        progress: called as points finish.
        engine: run everything on this engine instead, one point after the other.

    Raises:
        SpiceError: of the first point that failed; points not yet begun are dropped.
    """
    with Crew(workers=workers, engine=engine, most=len(points)) as crew:
        # By number: the key of a large point takes a noticeable part of the time of solving it.
        outcomes = crew.run(dict(enumerate(points)), progress=progress, strict=True)
    return [results for number in range(len(points)) if (results := outcomes[number].results) is not None]


def run_points(
    points: Sequence[Point],
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    journal: Record | None = None,
    progress: Progress | None = None,
    keep_decks: str | os.PathLike[str] | None = None,
    strict: bool = False,
    settings: EngineSettings | None = None,
) -> list[Outcome]:
    """The outcome of every point, in the order of `points`; points of one key are solved once.

    A simulation that fails is an outcome with its cause. Ctrl-C, or an error that is none of a simulation, ends the
    run: nothing new starts, what ngspice is doing is ended, and what had finished is in the journal.

    Args:
        executor: any of `concurrent.futures`; absent: threads of this process, each with an ngspice of its own.
        workers: ngspice processes side by side, without an executor; one a processor if absent.
        engine: run everything on this engine instead, one point after the other.
        journal: finished points are taken from it and put into it.
        progress: called as points finish.
        keep_decks: folder for every deck that is simulated, a file each.
        strict: the first simulation that fails ends the run.
        settings: what engines are started with.

    Raises:
        SpiceNotFound: no ngspice on this machine.
        SpiceError: with `strict`, that of the first point that failed.
        ExecutorError: the executor lost its workers.
    """
    settings = settings or EngineSettings()
    if keep_decks is not None:
        folder = Path(keep_decks).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        settings = replace(settings, keep_decks=str(folder))
    with Crew(executor, workers, engine, settings, most=len(points)) as crew:
        outcomes = crew.run({point.key: point for point in points}, journal, progress, strict)
    return [replace(outcomes[point.key], label=point.label) for point in points]


class Crew:
    """Whoever solves the points of a run: an executor, threads of this process, or one engine.

    A context manager. Leaving it ends at once what still runs in this process, and closes what it started.
    """

    def __init__(
        self,
        executor: Executor | None = None,
        workers: int | None = None,
        engine: Engine | None = None,
        settings: EngineSettings | None = None,
        most: int | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError("workers is out of range", value=workers, limit="1 or more")
        self.settings = settings or EngineSettings()
        self._given = engine
        self._engines: list[Engine] = [] if engine is None else [engine]
        self._mine = threading.local()
        self._stopped = threading.Event()
        self._unfinished: set[Future[Any]] = set()
        self._pool: ThreadPoolExecutor | None = None
        if executor is None:
            wanted = 1 if engine is not None else (workers or os.cpu_count() or 1)
            known = max(1, wanted if most is None else min(wanted, most))
            executor = self._pool = ThreadPoolExecutor(known, thread_name_prefix="ngspice")
        else:
            known = getattr(executor, "_max_workers", None)
        self._executor = executor
        self._in_flight = _IN_FLIGHT_UNKNOWN if known is None else known * _IN_FLIGHT_PER_WORKER

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._given is None:
            for engine in self._engines:
                engine.close()

    def info(self) -> EngineInfo:
        """What simulates there."""
        if self._pool is not None:
            return self._answer(self._submit(lambda: self._engine().info()))
        return self._answer(self._submit(engine_info, self.settings))

    def run(
        self,
        points: Mapping[Name, Point],
        journal: Record | None = None,
        progress: Progress | None = None,
        strict: bool = False,
    ) -> dict[Name, Outcome]:
        """The outcome of every point, by the same names; see `run_points`."""
        outcomes: dict[Name, Outcome] = {}
        if journal is not None:
            outcomes = {name: known for name, point in points.items() if (known := journal.known(point)) is not None}
        total = sum(point.operating_points for point in points.values())
        finished = sum(points[name].operating_points for name in outcomes)
        if progress is not None and finished:
            progress(finished, total)
        waiting = iter([name for name in points if name not in outcomes])
        ready: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        running: dict[Future[Outcome], Name] = {}

        def start(count: int) -> None:
            for name in itertools.islice(waiting, count):
                future = self._start(points[name])
                running[future] = name
                future.add_done_callback(ready.put)

        def keep(name: Name, outcome: Outcome) -> None:
            outcomes[name] = outcome if journal is None else journal.keep(points[name], outcome)

        simulator: tuple[str, str] | None = None
        try:
            start(self._in_flight)
            while running:
                future = ready.get()
                outcome, name = self._answer(future), running[future]
                simulator = _same(simulator, outcome)
                keep(name, outcome)
                del running[future]
                if strict and outcome.error is not None:
                    raise outcome.error
                start(1)
                finished += points[name].operating_points
                if progress is not None:
                    progress(finished, total)
        except BaseException:
            self.end()
            # What ended by itself before the end is kept; what was ended is not finished.
            for future, name in running.items():
                if future.done() and not future.cancelled() and future.exception() is None and future.result().done:
                    keep(name, future.result())
            raise
        return outcomes

    def end(self) -> None:
        """Nothing new starts; what runs in this process is ended at once."""
        self._stopped.set()
        for future in self._unfinished:
            future.cancel()
        while self._pool is not None and wait(self._unfinished, timeout=0).not_done:
            for engine in self._engines:
                end_job(engine)
            wait(self._unfinished, timeout=0.05)

    def _start(self, point: Point) -> Future[Outcome]:
        if self._pool is not None:
            return self._submit(lambda: attempt(point, self._engine(), self.settings, self._stopped.is_set))
        return self._submit(solve_point, point, self.settings)

    def _submit(self, task: Callable[..., Result], *arguments: Any) -> Future[Result]:
        with executor_errors():
            future = self._executor.submit(task, *arguments)
        self._unfinished.add(future)
        return future

    def _answer(self, future: Future[Result]) -> Result:
        with executor_errors():
            answer = future.result()
        self._unfinished.discard(future)
        return answer

    def _engine(self) -> Engine:
        """This thread's own engine."""
        if self._given is not None:
            return self._given
        engine: Engine | None = getattr(self._mine, "engine", None)
        if engine is None:
            engine = self._mine.engine = start_engine(self.settings)
            self._engines.append(engine)
        return engine


def _same(simulator: tuple[str, str] | None, outcome: Outcome) -> tuple[str, str] | None:
    """The one simulator of a run; ExecutorError where workers have different ones."""
    found = outcome.simulator if any(outcome.simulator) else simulator
    if simulator is not None and found != simulator:
        raise ExecutorError(
            "the workers have different simulators, and so different numbers",
            where=outcome.label,
            value="ngspice {} with {}".format(*outcome.simulator),
            limit="ngspice {} with {}".format(*simulator),
            hint="Install one ngspice on all of them",
        )
    return found


@contextmanager
def executor_errors() -> Iterator[None]:
    """What an executor raises where it has lost its workers, in this package's terms."""
    try:
        yield
    except Exception as error:
        lost = isinstance(error, BrokenExecutor | CancelledError) or type(error).__module__.startswith("distributed.")
        if not lost:
            raise
        raise ExecutorError(
            f"the executor lost its workers ({type(error).__name__}: {error})",
            hint="Start them again, fewer if memory was short; `--resume` goes on with what had finished",
        ) from error
