"""ngspice as an engine: a worker process of its own, a deadline on each job, and a new worker on any doubt."""

import itertools
import threading
import time
from typing import Self

import numpy as np

from mdls_cosim.errors import (
    ConfigError,
    DeckError,
    SpiceCrash,
    SpiceError,
    SpiceNoConvergence,
    SpiceNotFound,
    SpiceTimeout,
)
from mdls_cosim.spice import strategy
from mdls_cosim.spice.checks import check_result
from mdls_cosim.spice.deck import Deck, checked_values
from mdls_cosim.spice.engine import EngineInfo, OperatingPoints
from mdls_cosim.spice.process import DeadlineExceeded, WorkerDied, WorkerProcess

__all__ = ["INSTALL_HINT", "NgspiceEngine"]

INSTALL_HINT = (
    "Install ngspice 42 or newer with its shared library (`mdls-cosim doctor` says how), "
    "or name the library file in NGSPICE_LIBRARY."
)

_START_DEADLINE = 60.0  # [s]; a worker starts in half a second on an idle machine

# Cells and other branch equations beyond wires, resistors and sources: a 64x64 tile takes half a minute or more an
# operating point without KLU, a 48x48 one some seconds.
_SLOW_ELEMENTS = 48 * 48
_CHEAP = "rvic"


class NgspiceEngine:
    """Runs decks in ngspice's shared library, in a worker process.

    library:    the ngspice library file; None: NGSPICE_LIBRARY, or the usual names
    deadline:   [s] for each job; a job is one deck with up to a few hundred vectors
    allow_slow: take sizes that need minutes where ngspice has no KLU solver

    The worker starts with the first job. It is killed and replaced after every failure, whatever it was: an ngspice
    that has seen one bad circuit is not trusted with the next. Calls from several threads wait for each other; use
    one engine per thread for speed.
    """

    def __init__(self, library: str | None = None, deadline: float = 120.0, allow_slow: bool = False) -> None:
        if not 0 < deadline < float("inf"):
            raise ConfigError("deadline of an engine", value=f"{deadline} s", limit="above 0 s, finite")
        self.deadline = float(deadline)
        self.allow_slow = bool(allow_slow)
        self._library = library
        self._lock = threading.RLock()
        self._worker: WorkerProcess | None = None
        self._info: EngineInfo | None = None
        self._numbers = itertools.count(1)

    def run(self, deck: Deck, values: np.ndarray, strategy_name: strategy.Strategy | None = None) -> OperatingPoints:
        """Solve the deck for every row of `values`, (vectors, sources) [V].

        strategy_name: how (strategy.py); None: the faster one
        Raises InputError for values that are not usable, and a SpiceError for everything that ngspice does:
        DeckError, SpiceNoConvergence, SpiceTimeout, SpiceCrash, KirchhoffError, SpiceNotFound.
        """
        values = checked_values(deck, values)
        names = strategy.vectors(deck)
        if not names:
            raise DeckError("a deck without probes gives no result", where=deck.title, hint="Name some in Deck.probes.")
        method = strategy_name or strategy.chosen(deck, len(values))
        with self._lock:
            info = self.info()
            self._refuse_slow(deck, info)
            start = time.perf_counter()
            jobs = strategy.jobs(deck, values, method, info.solver == "klu", next(self._numbers))
            results = [self._solve(deck, job, values[job.start : job.stop], names) for job in jobs]
            seconds = time.perf_counter() - start
        result = np.concatenate(results)[:, : len(deck.probes)]
        return OperatingPoints(deck.probes, result, seconds)

    def info(self) -> EngineInfo:
        """Version, matrix solver and library; starts the worker if it does not run."""
        with self._lock:
            if self._worker is None or not self._worker.usable():
                self._discard()
                self._info = self._start()
            assert self._info is not None
            return self._info

    @property
    def worker_pid(self) -> int | None:
        """The process id of the running worker."""
        worker = self._worker
        return worker.pid if worker is not None and worker.usable() else None

    def close(self) -> None:
        """End the worker. A later run starts another."""
        with self._lock:
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _discard(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _start(self) -> EngineInfo:
        environment = {} if self._library is None else {"NGSPICE_LIBRARY": self._library}
        self._worker = worker = WorkerProcess(environment)
        try:
            header, _ = worker.receive(_START_DEADLINE)
        except BaseException as error:
            log = worker.log()
            self._discard()
            if isinstance(error, DeadlineExceeded):
                raise SpiceTimeout("the ngspice worker does not start", limit=f"{_START_DEADLINE} s", log=log) from None
            if isinstance(error, WorkerDied):
                raise SpiceCrash(f"the ngspice worker does not start ({error})", hint="See .log.", log=log) from None
            raise
        if "failed" in header:
            log = worker.log()
            self._discard()
            if header["failed"] == "missing":
                raise SpiceNotFound(f"no ngspice library ({header['what']})", hint=INSTALL_HINT, log=log)
            raise SpiceCrash(f"the ngspice library does not work ({header['what']})", hint=INSTALL_HINT, log=log)
        return EngineInfo(**{name: header[name] for name in ("version", "solver", "pyspice", "library")})

    def _refuse_slow(self, deck: Deck, info: EngineInfo) -> None:
        count = sum(line[0].lower() not in _CHEAP for line in deck.elements)
        if info.solver != "klu" and count > _SLOW_ELEMENTS and not self.allow_slow:
            raise SpiceError(
                "so large a circuit takes minutes without the KLU solver",
                where=deck.title,
                value=f"{count} cells",
                limit=f"{_SLOW_ELEMENTS} for ngspice {info.version}",
                hint="Install ngspice 42 or newer, or pass allow_slow=True and a longer deadline.",
            )

    def _solve(self, deck: Deck, job: strategy.Job, values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """One job, checked; on any doubt the worker is gone afterwards."""
        worker = self._worker
        assert worker is not None
        sent = values if job.header["kind"] == "operating_points" else values[:0]
        try:
            answer, flat = worker.exchange(job.header, sent, self.deadline)
            if "failed" in answer:
                raise _failure(answer, deck.title)
            if flat.size != len(values) * len(names):
                raise SpiceError(
                    "wrong length of a result", value=flat.size, limit=f"{len(values)} vectors of {len(names)}"
                )
            result = flat.reshape(len(values), len(names))
            check_result(deck, values, names, result, job.start)
            return result
        except BaseException as error:
            log = worker.log()
            self._discard()
            raise self._told(error, deck, job.header["circuit"], log) from None

    def _told(self, error: BaseException, deck: Deck, circuit: str, log: str) -> BaseException:
        """The error to raise: in this package's terms, with the place, the deck and the log."""
        told = error
        if isinstance(error, DeadlineExceeded):
            told = SpiceTimeout(
                "ngspice did not answer in time",
                where=deck.title,
                limit=f"{self.deadline:g} s",
                hint="Give the engine a longer deadline, or make the circuit smaller.",
            )
        elif isinstance(error, WorkerDied):
            told = SpiceCrash(f"ngspice died ({error})", where=deck.title, hint="Its last words are in .log.")
        if isinstance(told, SpiceError):
            told.deck, told.log = circuit, log
        return told


def _failure(answer: dict, where: str) -> SpiceError:
    """The error that a worker's report of failure stands for."""
    said = answer["what"]
    match answer["failed"]:
        case "load":
            return DeckError(f"ngspice refused the circuit ({said})", where=where, hint="All it said is in .log.")
        case "solve":
            hint = "A floating net, a loop of voltage sources, or an element too steep does this; see .log."
            return SpiceNoConvergence(f"no operating point ({said})", where=where, hint=hint)
        case "exit":
            return SpiceCrash(f"ngspice ended itself ({said})", where=where, hint="All it said is in .log.")
        case _:
            return SpiceError(f"no trustworthy result ({said})", where=where, hint="All ngspice said is in .log.")
