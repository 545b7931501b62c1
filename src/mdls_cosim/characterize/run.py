"""Runs decks on several ngspice workers and gives their results in the order of the plan."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdls_cosim.errors import InputError
from mdls_cosim.spice import Deck, Engine, NgspiceEngine

Progress = Callable[[int, int], None]
"""Called with (finished, planned) operating points."""


@dataclass(frozen=True)
class Job:
    """One circuit and the source values it is solved at, (vectors, sources) [V]."""

    deck: Deck
    values: NDArray[np.float64]


def run_jobs(
    jobs: Sequence[Job],
    workers: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> list[NDArray[np.float64]]:
    """The probes of every job, (vectors, probes), in the order of `jobs`.

    Args:
        workers: ngspice processes side by side; one a processor if absent.
        progress: called as jobs finish.
        engine: run everything on this engine instead, one job after the other.

    Raises:
        SpiceError: of the first job that failed; jobs not yet begun are dropped.
    """
    if workers is not None and workers < 1:
        raise InputError("workers is out of range", value=workers, limit="1 or more")
    planned = sum(len(job.values) for job in jobs)
    finished = 0
    results: list[NDArray[np.float64] | None] = [None] * len(jobs)
    with ExitStack() as stack:
        if engine is not None:
            engines = [engine]
        else:
            count = max(1, min(workers or os.cpu_count() or 1, len(jobs)))
            engines = [NgspiceEngine() for _ in range(count)]
            for owned in engines:
                stack.callback(owned.close)
        idle: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for each in engines:
            idle.put(each)

        def solve(job: Job) -> NDArray[np.float64]:
            mine = idle.get()
            try:
                return mine.run(job.deck, job.values).values
            finally:
                idle.put(mine)

        executor: Executor = ThreadPoolExecutor(len(engines), thread_name_prefix="ngspice")
        # Dropped before the engines close, so that Ctrl-C or a failed job does not wait for the rest of the plan.
        stack.callback(executor.shutdown, wait=True, cancel_futures=True)
        futures = {executor.submit(solve, job): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            index = futures[future]
            results[index] = future.result()
            finished += len(jobs[index].values)
            if progress is not None:
                progress(finished, planned)
    return [result for result in results if result is not None]
