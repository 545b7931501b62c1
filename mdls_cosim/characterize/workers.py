"""Where a point is solved: one engine a task, kept alive from point to point, in this process or in another."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from mdls_cosim.characterize.point import Point, Results
from mdls_cosim.errors import InputError, MdlsError, SpiceError, SpiceNotFound
from mdls_cosim.spice import Deck, Engine, EngineInfo, NgspiceEngine, Waves

IDLE_SECONDS = 20.0
"""After which an engine that no task uses ends its ngspice; it starts again with the next task."""


@dataclass(frozen=True)
class EngineSettings:
    """What engines are started with, wherever a point is solved. None of it changes a number."""

    deadline: float = 120.0
    """Of one job of ngspice [s]."""
    allow_slow: bool = False
    """Take sizes that need minutes where ngspice has no KLU solver."""
    keep_decks: str | None = None
    """Folder for every deck as a file that runs alone; the workers must reach it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a point: `results`, or why there are none."""

    label: str
    results: Results | None
    """None: it failed."""
    error: MdlsError | None = None
    deck: str = ""
    """Of a failed point: the circuit that failed, a file that runs alone."""
    seconds: float = 0.0
    """Of solving it."""
    attempts: int = 1
    """How often it was tried, runs before this one included."""
    fallbacks: tuple[str, ...] = ()
    """Names of the fall-backs that operating points needed."""
    simulator: tuple[str, str] = ("", "")
    """ngspice's version and matrix solver; empty where the engine does not tell."""
    reused: bool = False
    """Taken from the journal."""

    @property
    def done(self) -> bool:
        return self.results is not None

    @property
    def cause(self) -> str:
        """Why it failed, in one line."""
        return "" if self.error is None else str(self.error)

    @property
    def log(self) -> str:
        """What ngspice said of it."""
        return getattr(self.error, "log", "")


class Stopped(BaseException):
    """The run ends: no further deck of this point is simulated."""


class Recorder:
    """An engine that looks over another's shoulder: keeps decks, counts fall-backs, notes the deck that failed."""

    def __init__(
        self, engine: Engine, label: str, keep: str | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self.fallbacks: list[str] = []
        self.failed_deck = ""
        self._engine = engine
        self._label = label
        self._keep = keep
        self._stopped = stopped
        self._decks = 0

    def run(self, deck: Deck, values: np.ndarray, *options: Any, **named: Any) -> Any:
        return self._watched(
            lambda: self._engine.run(deck, values, *options, **named), lambda: deck.standalone(np.asarray(values))
        )

    def transient(self, deck: Deck, waves: Waves, *options: Any, **named: Any) -> Any:
        return self._watched(
            lambda: self._engine.transient(deck, waves, *options, **named), lambda: deck.standalone_transient(waves)
        )

    def info(self) -> EngineInfo:
        return self._engine.info()

    def close(self) -> None:
        """Nothing: the engine belongs to its task, not to the point."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def _watched(self, solve: Callable[[], Any], text: Callable[[], str]) -> Any:
        if self._stopped():
            raise Stopped
        if self._keep is not None:
            (Path(self._keep) / deck_file(self._label, self._decks)).write_text(text(), encoding="utf-8")
        self._decks += 1
        try:
            result = solve()
        except SpiceError:
            self.failed_deck = text()
            raise
        if fallback := getattr(result, "fallback", None):
            self.fallbacks.append(fallback)
        return result


def deck_file(label: str, number: int) -> str:
    """The name of the file that keeps a point's deck `number`."""
    return f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', label)}-deck{number}.cir"


def attempt(
    point: Point, engine: Engine, settings: EngineSettings, stopped: Callable[[], bool] = lambda: False
) -> Outcome:
    """Solves a point on an engine. A simulation that fails is an Outcome; anything else that goes wrong is raised."""
    recorder = Recorder(engine, point.label, settings.keep_decks, stopped)
    began = time.perf_counter()
    try:
        results, error = point.solve(recorder), None
    except SpiceNotFound:
        raise
    except SpiceError as failure:
        results, error = None, failure
    if results is not None:
        results = {name: np.asarray(array, dtype=np.float64) for name, array in results.items()}
        _check_shapes(point, results)
    return Outcome(
        point.label,
        results,
        error,
        recorder.failed_deck,
        time.perf_counter() - began,
        fallbacks=tuple(recorder.fallbacks),
        simulator=_simulator(engine) if results is not None else ("", ""),
    )


def _check_shapes(point: Point, results: Results) -> None:
    found = {name: array.shape for name, array in results.items()}
    told = {name: array.shape for name, array in point.blank().items()}
    if found != told:
        raise InputError("a point gave other arrays than it said", where=point.label, value=found, limit=told)


def _simulator(engine: Engine) -> tuple[str, str]:
    info = getattr(engine, "info", None)
    if info is None:
        return "", ""
    told = info()
    return told.version, told.solver


# --- engines of this process, one a thread --------------------------------------------------------------------------


@dataclass(eq=False)
class _Owned:
    engine: NgspiceEngine
    settings: EngineSettings
    busy: bool = False
    used: float = field(default_factory=time.monotonic)


class _Engines:
    """The engines of all threads of this process. A thread's own ends with it."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[_Owned] = weakref.WeakSet()
        self._reaper: threading.Thread | None = None

    def of_this_thread(self, settings: EngineSettings) -> _Owned:
        plain = replace(settings, keep_decks=None)
        owned: _Owned | None = getattr(self._local, "owned", None)
        if owned is None or owned.settings != plain:
            if owned is not None:
                owned.engine.close()
            owned = _Owned(start_engine(plain), plain)
            self._local.owned = owned
        with self._lock:
            self._all.add(owned)
            if self._reaper is None:
                self._reaper = threading.Thread(target=self._reap, name="idle engines", daemon=True)
                self._reaper.start()
        return owned

    def everyone(self) -> list[_Owned]:
        with self._lock:
            return list(self._all)

    def _reap(self) -> None:
        while True:
            time.sleep(IDLE_SECONDS / 4)
            for owned in self.everyone():
                if not owned.busy and time.monotonic() - owned.used > IDLE_SECONDS:
                    owned.engine.close()


_engines = _Engines()


def _forget_engines() -> None:
    """In a forked child: the parent's engines and threads are not its own."""
    global _engines
    _engines = _Engines()


os.register_at_fork(after_in_child=_forget_engines)


def start_engine(settings: EngineSettings) -> NgspiceEngine:
    return NgspiceEngine(deadline=settings.deadline, allow_slow=settings.allow_slow)


def solve_point(point: Point, settings: EngineSettings) -> Outcome:
    """Solves a point on this thread's own engine: what an executor elsewhere is given."""
    owned = _engines.of_this_thread(settings)
    owned.busy = True
    try:
        return attempt(point, owned.engine, settings)
    finally:
        owned.busy, owned.used = False, time.monotonic()


def engine_info(settings: EngineSettings) -> EngineInfo:
    """What simulates on this thread."""
    owned = _engines.of_this_thread(settings)
    owned.busy = True
    try:
        return owned.engine.info()
    finally:
        owned.busy, owned.used = False, time.monotonic()


def end_jobs(patience: float = 5.0) -> None:
    """Ends what runs in the engines of this process, at once; their points then fail."""
    end = time.monotonic() + patience
    while (busy := [owned for owned in _engines.everyone() if owned.busy]) and time.monotonic() < end:
        for owned in busy:
            end_job(owned.engine)
        time.sleep(0.05)  # an engine tries once more where its ngspice died


def end_job(engine: Engine) -> bool:
    """Kills the ngspice of an engine, whatever it does; the engine starts another with its next job."""
    pid = getattr(engine, "worker_pid", None)
    if pid is None:
        return False
    # close() would wait for the job to finish.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True
