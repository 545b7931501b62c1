"""ngspice as an engine: a worker process of its own, a deadline on each job, and a new worker on any doubt."""

import itertools
import threading
import time
from typing import Any, Self

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
from mdls_cosim.spice import fallbacks, strategy
from mdls_cosim.spice.checks import checked_waveforms
from mdls_cosim.spice.deck import Deck, checked_values, checked_waves
from mdls_cosim.spice.engine import EngineInfo
from mdls_cosim.spice.fallbacks import Accept, Simulator
from mdls_cosim.spice.points import OperatingPoints
from mdls_cosim.spice.process import DeadlineExceeded, WorkerDied, WorkerProcess
from mdls_cosim.spice.transient import Waveforms, Waves

__all__ = ["INSTALL_HINT", "SLOW_CELLS", "NgspiceEngine"]

INSTALL_HINT = (
    "Install ngspice 42 or newer with its shared library (`mdls-cosim doctor` says how), "
    "or name the library file in NGSPICE_LIBRARY."
)

_START_DEADLINE = 60.0  # [s]; a worker starts in half a second on an idle machine

# Cells and other branch equations beyond wires, resistors and sources: a 64x64 tile takes half a minute or more an
# operating point without KLU, a 48x48 one some seconds.
SLOW_CELLS = 48 * 48
_CHEAP = "rvic"


class NgspiceEngine:
    """Runs decks in ngspice's shared library, in a worker process.

    library:    the ngspice library file; None: NGSPICE_LIBRARY, or the usual names
    deadline:   [s] for each job; a job is one deck with up to a few hundred vectors
    allow_slow: take sizes that need minutes where ngspice has no KLU solver
    fallbacks:  where ngspice does not converge, try the ways of fallbacks.py; where the worker dies, try once more.
                Each try is a job with a deadline of its own

    The worker starts with the first job. It is killed and replaced after every failure, whatever it was: an ngspice
    that has seen one bad circuit is not trusted with the next. Calls from several threads wait for each other; use
    one engine per thread for speed.
    """

    def __init__(
        self, library: str | None = None, deadline: float = 120.0, allow_slow: bool = False, fallbacks: bool = True
    ) -> None:
        if not 0 < deadline < float("inf"):
            raise ConfigError("deadline of an engine", value=f"{deadline} s", limit="above 0 s, finite")
        self.deadline = float(deadline)
        self.allow_slow = bool(allow_slow)
        self.fallbacks = bool(fallbacks)
        self._library = library
        self._lock = threading.RLock()
        self._worker: WorkerProcess | None = None
        self._info: EngineInfo | None = None
        self._numbers = itertools.count(1)

    def run(self, deck: Deck, values: np.ndarray, strategy_name: strategy.Strategy | None = None) -> OperatingPoints:
        """Solve the deck for every row of `values`, (vectors, sources) [V].

        strategy_name: how (strategy.py); None: one by which no vector depends on another
        Raises InputError for values that are not usable, and a SpiceError for everything that ngspice does:
        DeckError, SpiceNoConvergence, SpiceTimeout, SpiceCrash, KirchhoffError, SpiceNotFound.
        """
        values = checked_values(deck, values)
        _read_vectors(deck)
        method = strategy_name or strategy.chosen(deck)
        results: list[np.ndarray] = []
        needed: list[str | None] = []
        with self._lock:
            simulator = self._simulator(deck)
            start = time.perf_counter()
            for job in strategy.jobs(deck, values, method, simulator.klu, next(self._numbers)):
                rows = values[job.start : job.stop]
                try:
                    results.append(simulator.points(deck, job.header, rows))
                except SpiceNoConvergence as cause:
                    if not self.fallbacks:
                        raise
                    result, name = fallbacks.rescued_points(simulator, deck, job, rows, cause)
                    results.append(result)
                    needed.append(name)
            seconds = time.perf_counter() - start
        result = np.concatenate(results)[:, : len(deck.probes)]
        return OperatingPoints(deck.probes, result, seconds, fallbacks.last_needed(needed))

    def transient(self, deck: Deck, waves: Waves) -> Waveforms:
        """Solve the deck over time while its sources follow `waves`.

        Raises InputError for waves that do not fit the deck, and the errors of `run`; SpiceNoConvergence where the
        time step becomes too small.
        """
        checked_waves(deck, waves)
        names = _read_vectors(deck)
        cause: SpiceNoConvergence | None = None
        with self._lock:
            simulator = self._simulator(deck)
            start = time.perf_counter()
            for name, slower in fallbacks.transient_ways(waves)[: None if self.fallbacks else 1]:
                header = strategy.transient(deck, slower, simulator.klu, next(self._numbers))

                def accept(_answer: dict[str, Any], flat: np.ndarray, ran: Waves = slower) -> tuple[np.ndarray, ...]:
                    if flat.size % (1 + len(names)):
                        raise SpiceError("wrong length of a result", value=flat.size, limit=f"rows of {1 + len(names)}")
                    table = flat.reshape(-1, 1 + len(names))
                    times, values = checked_waveforms(deck, ran, names, table[:, 0], table[:, 1:])
                    return times, values[:, : len(deck.probes)]

                try:
                    times, values = self._exchange(deck, header, waves.times, accept)
                except SpiceNoConvergence as error:
                    cause = cause or error
                    continue
                return Waveforms(deck.probes, times, values, time.perf_counter() - start, name)
        assert cause is not None
        raise fallbacks.given_up(cause, fallbacks.TRANSIENT_FALLBACKS) if self.fallbacks else cause

    def _simulator(self, deck: Deck) -> Simulator:
        info = self.info()
        self._refuse_slow(deck, info)
        return Simulator(self._exchange, info.solver == "klu", self._numbers)

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
        if info.solver != "klu" and count > SLOW_CELLS and not self.allow_slow:
            raise SpiceError(
                "so large a circuit takes minutes without the KLU solver",
                where=deck.title,
                value=f"{count} cells",
                limit=f"{SLOW_CELLS} for ngspice {info.version}",
                hint="Install ngspice 42 or newer, or pass allow_slow=True and a longer deadline.",
            )

    def _exchange(self, deck: Deck, header: dict[str, Any], values: np.ndarray, accept: Accept) -> Any:
        """What `accept` makes of the answer to one job; on any doubt the worker is gone afterwards."""
        for last in (False, True) if self.fallbacks else (True,):
            self.info()
            worker = self._worker
            assert worker is not None
            try:
                answer, flat = worker.exchange(header, values, self.deadline)
                if "failed" in answer:
                    raise _failure(answer, deck.title)
                return accept(answer, flat)
            except BaseException as error:
                log = worker.log()
                self._discard()
                told = self._told(error, deck, header["circuit"], log)
                if last or not isinstance(told, SpiceCrash):
                    raise told from None
        raise AssertionError

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


def _read_vectors(deck: Deck) -> tuple[str, ...]:
    names = strategy.vectors(deck)
    if not names:
        raise DeckError("a deck without probes gives no result", where=deck.title, hint="Name some in Deck.probes.")
    return names


def _failure(answer: dict[str, Any], where: str) -> SpiceError:
    """The error that a worker's report of failure stands for."""
    said = answer["what"]
    match answer["failed"]:
        case "load":
            return DeckError(f"ngspice refused the circuit ({said})", where=where, hint="All it said is in .log.")
        case "solve":
            hint = "A floating net, a loop of voltage sources, or an element too steep does this; see .log."
            return SpiceNoConvergence(f"no solution ({said})", where=where, hint=hint)
        case "exit":
            return SpiceCrash(f"ngspice ended itself ({said})", where=where, hint="All it said is in .log.")
        case _:
            return SpiceError(f"no trustworthy result ({said})", where=where, hint="All ngspice said is in .log.")
