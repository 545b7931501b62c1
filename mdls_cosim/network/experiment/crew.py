"""Who solves the units of a simulation: this process, processes of its own, or an executor elsewhere."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from mdls_cosim.characterize import Journal, Outcome, Progress, executor_errors
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.network.experiment.units import Bench, Unit, here, install, solve
from mdls_cosim.network.source import source_hash
from mdls_cosim.network.zoo.factory import searched_first

_IN_FLIGHT_PER_WORKER = 2
_IN_FLIGHT_UNKNOWN = 256


class Crew:
    """An executor, and how units are handed to it."""

    def __init__(self, executor: Executor, in_flight: int, token: str, content: Any) -> None:
        self._executor = executor
        self._in_flight = in_flight
        self._token = token
        self._content = content

    def each(self, items: Sequence[str], task: Callable[[str], tuple[Any, ...]]) -> Iterator[tuple[str, Any]]:
        """What the task of every item gives, as it comes."""
        waiting = iter(items)
        running: dict[Future[Any], str] = {}
        while True:
            for item in itertools.islice(waiting, self._in_flight - len(running)):
                with executor_errors():
                    running[self._executor.submit(*task(item))] = item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                with executor_errors():
                    answer = future.result()
                yield running.pop(future), answer

    def run(
        self,
        units: Mapping[str, Unit],
        known: Mapping[str, Outcome],
        journal: Journal | None,
        progress: Progress | None,
    ) -> dict[str, Outcome]:
        """The outcome of every unit; each is kept as it comes."""
        outcomes = dict(known)
        missing = [key for key in units if key not in outcomes]
        if progress is not None and (outcomes or not missing):
            progress(len(outcomes), len(units))
        for key, outcome in self.each(missing, lambda key: (solve, units[key], self._token, self._content)):
            outcomes[key] = outcome if journal is None else journal.keep(units[key], outcome)
            if progress is not None:
                progress(len(outcomes), len(units))
        return outcomes


class _ThisProcess(Executor):
    """Computes at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def crew_of(executor: Executor | None, workers: int | None, bench: Bench, most: int) -> Iterator[Crew]:
    """Whoever solves units; left by an error, what still runs in processes of its own is ended."""
    if workers is not None and workers < 1:
        raise InputError("workers is out of range", value=workers, limit="1 or more")
    if executor is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = min(workers or cores, most)
        if count == 1:
            token = hashlib.sha256(os.urandom(16)).hexdigest()
            here.benches[token] = bench.placed()
            try:
                yield Crew(_ThisProcess(), 1, token, None)
            finally:
                here.benches.pop(token, None)
                here.local.converted = None
            return
        content, token = _packed(bench)
        before = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(
            count,
            multiprocessing.get_context("spawn"),  # torch's threads do not survive a fork
            install,
            (content, token),
        )
        try:
            yield Crew(pool, count * _IN_FLIGHT_PER_WORKER, token, None)
        except BaseException:
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return
    content, token = _packed(bench)
    share = getattr(executor, "share", None)  # a cluster takes it once
    known = getattr(executor, "_max_workers", None)
    in_flight = _IN_FLIGHT_UNKNOWN if known is None else known * _IN_FLIGHT_PER_WORKER
    yield Crew(executor, in_flight, token, content if share is None else share(content))


def _packed(bench: Bench) -> tuple[bytes, str]:
    """For another process, and its hash."""
    try:
        folder = None if bench.folder is None else os.path.abspath(bench.folder)
        with searched_first(folder):
            code = source_hash(bench.modules)
        content = pickle.dumps((folder, bench.modules, code, pickle.dumps(bench)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the network cannot be sent to another process ({error})",
            hint="Define its classes at the top of a module; or run with --workers 1",
        ) from None
    return content, hashlib.sha256(content).hexdigest()
