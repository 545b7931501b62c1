"""The worker program: one ngspice library in one process, fed over pipes (`python -m mdls_cosim.spice.worker`).

It is a process of its own because ngspice can exit, crash, hang, and carry a fault over from one circuit to the
next. stdin and stdout carry the frames of protocol.py; whatever ngspice says goes to stderr. The worker leaves
at once when its stdin ends, also in the middle of a job, so that a parent that dies leaves no worker behind.

This is the only module that imports PySpice. PySpice's own circuit and result objects are not used: they are
slow, and they keep everything they ever made.
"""

import ctypes
import ctypes.util
import logging
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import numpy as np

from mdls_cosim.spice.protocol import LENGTHS, frame, split
from mdls_cosim.spice.user_settings import without_user_settings

LIBRARY_VARIABLE = "NGSPICE_LIBRARY"

# ngspice prints this at every analysis, and it is the only thing that tells which solver really ran: the banner
# says what was compiled in, and an ngspice without KLU takes `.options klu` with no more than a warning.
_KLU_RUNS = "Using KLU"
_PROBE_CIRCUIT = "* solver\nV1 a 0 1\nR1 a b 1000\nR2 b 0 1000\n.options klu\n.end\n"
_LOAD_FAILED = re.compile(r"error|unknown|undefined|can't|cannot|fatal|too few|too many", re.IGNORECASE)
_TELLING = ("unknown", "undefined", "syntax", "no such function", "singular", "too many", "error", "can't", "cannot")
_TELLING += ("fatal", "too few", "iteration", "failed", "")


_MARK = re.compile(r"^stderr (?:warning: |note: |(?:fatal )?error: )?", re.IGNORECASE)


class JobFailed(Exception):
    """A job that gave no trustworthy result; `stage` says where: load, solve or read."""

    def __init__(self, stage: str, what: str) -> None:
        super().__init__(what)
        self.stage = stage


class LibraryMissing(Exception):
    """There is no ngspice library to load."""


def library_candidates() -> list[str]:
    """Where to look for the library: the environment's choice alone, or the usual names."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        return [chosen]
    suffixed = ["libngspice.0.dylib", "libngspice.dylib"] if sys.platform == "darwin" else []
    found = ctypes.util.find_library("ngspice")
    prefixes = [os.path.join(sys.prefix, "lib")] + ["/opt/homebrew/lib", "/usr/local/lib"] * (sys.platform == "darwin")
    names = [*suffixed, "libngspice.so.0", "libngspice.so"]
    inside = [path for prefix in prefixes for name in names if os.path.exists(path := os.path.join(prefix, name))]
    return inside + names + ([found] if found else [])


def _loads(path: str) -> bool:
    try:
        ctypes.CDLL(path)
    except OSError:
        return False
    return True


class Ngspice:
    """The ngspice library behind a handful of calls."""

    def __init__(self, on_exit: Any) -> None:
        logging.getLogger("PySpice").setLevel(logging.CRITICAL)  # else it warns of every ngspice after 34
        import PySpice.Spice.NgSpice.Shared as binding

        self.binding = binding
        self.said: list[str] = []
        self.compiled: dict[str, tuple[int, int]] = {}
        self.stage = "start"

        base: Any = binding.NgSpiceShared

        class Library(base):
            # The callbacks of PySpice, kept short: its own ones append to lists that nobody empties.
            @staticmethod
            def _send_char(message: Any, _id: Any, _data: Any) -> int:
                text: Any = binding.ffi.string(message)
                self.heard(text.decode("utf-8", "replace"))
                return 0

            @staticmethod
            def _send_stat(_message: Any, _id: Any, _data: Any) -> int:
                return 0

            @staticmethod
            def _exit(status: int, _unload: Any, asked: Any, _id: Any, _data: Any) -> NoReturn:
                on_exit(bool(asked), status, self.stage, self.complaint())
                os._exit(70)

            def _get_version(self) -> None:
                # PySpice reads it from lists that are not filled here; ours is read below.
                self._ngspice_version = "last"

        candidates = library_candidates()
        # Tried out first: PySpice cannot be asked twice, as it declares ngspice's types anew each time.
        path = next((path for path in candidates if _loads(path)), None)
        if path is None:
            raise LibraryMissing(f"{', '.join(candidates)}, which cannot be loaded")
        Library.LIBRARY_PATH = path
        try:
            with without_user_settings():
                self.shared = Library()
        except AttributeError:
            raise LibraryMissing(f"{path}, which is not ngspice") from None
        self.library = _loaded_path(path)
        self.native: Any = self.shared._ngspice_shared
        self.ffi: Any = binding.ffi
        self.command("version -f")
        banner = " ".join(self.said)
        match = re.search(r"ngspice-(\S+)", banner)
        self.version = match[1] if match else "unknown"
        # Without this a floating node "solves" to 0 V by a transient analysis behind the operating point.
        self.command("optran 1 1 1 0 0 0")
        self.loaded = False
        self.solver = "sparse"
        self.load(_PROBE_CIRCUIT)
        self.command("op")
        middle = self.vector("b", 1)
        if any(_KLU_RUNS in line for line in self.said) and abs(middle[0] - 0.5) < 1e-9:
            self.solver = "klu"

    def heard(self, line: str) -> None:
        self.said.append(line)
        os.write(2, line.encode("utf-8", "replace") + b"\n")

    def forget(self) -> None:
        """Free ngspice's history of commands; it keeps every one, and a job may send thousands."""
        self.native.ngSpice_Command(self.ffi.NULL)

    def command(self, text: str) -> None:
        """Run one command; a return code is no proof of success, only of failure."""
        self.said.clear()
        if self.native.ngSpice_Command(text.encode()):
            raise JobFailed("solve", f"the command '{text[:60]}' failed")

    def load(self, circuit: str, osdi: Sequence[str] = ()) -> None:
        """Replace the circuit by this one, free everything kept from before; load compiled models that are new."""
        self.command("destroy all")
        if self.loaded:
            self.command("remcirc")
            self.loaded = False
        # With no circuit there: its tables are as long as the list of devices was, and ngspice reads past their end.
        for path in osdi:
            self.load_compiled(path)
        self.said.clear()
        self.stage = "load"
        # One buffer and pointers into it: a string of its own for each of thousands of lines takes 30 times as long.
        text = bytearray(circuit.encode())
        letters = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(letters == ord("\n"))
        letters[ends] = 0
        pointers = np.zeros(len(ends) + 1, dtype=np.uintp)
        pointers[:-1] = int(self.ffi.cast("uintptr_t", self.ffi.from_buffer(text)))
        pointers[1:-1] += (ends[:-1] + 1).astype(np.uintp)
        failed = self.native.ngSpice_Circ(self.ffi.cast("char **", self.ffi.from_buffer(pointers)))
        self.loaded = True
        self.stage = "solve"
        if failed or any(line.startswith("stderr") and _LOAD_FAILED.search(line) for line in self.said):
            raise JobFailed("load", self.complaint() or "without a word")

    def load_compiled(self, path: str) -> None:
        """Load a compiled Verilog-A model, once: ngspice keeps it for good."""
        status = os.stat(path)
        version = (status.st_mtime_ns, status.st_size)
        if self.compiled.get(path, version) != version:
            raise JobFailed("read", f"the compiled model {path} has changed; a new worker will load it")
        if path in self.compiled:
            return
        self.said.clear()
        self.native.ngSpice_Command(f"osdi {path}".encode())
        if any(line.startswith("stderr") for line in self.said):
            raise JobFailed("load", f"the compiled model {path}: {self.complaint()}")
        self.compiled[path] = version

    def current_plot(self) -> str:
        return self.ffi.string(self.native.ngSpice_CurPlot()).decode()

    def vector(self, name: str, length: int | None = None) -> np.ndarray:
        """A copy of a vector of the current plot, (length,); None: however long it is."""
        info = self.native.ngGet_Vec_Info(name.encode())
        if info == self.ffi.NULL or info.v_realdata == self.ffi.NULL or info.v_length < 1:
            raise JobFailed("read", f"the simulation gave no {name}")
        if length is not None and info.v_length != length:
            raise JobFailed("read", f"the simulation gave {info.v_length} of {length} values of {name}")
        return np.frombuffer(self.ffi.buffer(info.v_realdata, 8 * info.v_length), dtype=np.float64).copy()

    def all_vectors(self) -> list[str]:
        """The names of all vectors of the current plot."""
        names = self.native.ngSpice_AllVecs(self.native.ngSpice_CurPlot())
        found: list[str] = []
        while names[len(found)] != self.ffi.NULL:
            found.append(self.ffi.string(names[len(found)]).decode())
        return found

    def check_whole_solution(self) -> None:
        """Every vector of the current plot is finite: KLU answers a current into a floating net by an infinite one."""
        for name in self.all_vectors():
            if not np.isfinite(self.vector(name)).all():
                raise JobFailed("solve", f"{name} is infinite: a current flows into a floating net")

    def analyse(self, command: str, kind: str) -> None:
        """Run an analysis and make sure that it left a new plot: the caller has destroyed all others."""
        self.command(command)
        if any("aborted" in line for line in self.said) or not self.current_plot().startswith(kind):
            raise JobFailed("solve", self.complaint() or "the analysis left no result")

    def complaint(self) -> str:
        """What ngspice said of a failure, in one line: the most telling first, with what it announces ("…:")."""
        lines = [_MARK.sub("", " ".join(line.split())) for line in self.said if line.startswith("stderr")]
        for word in _TELLING:
            for index, line in enumerate(lines):
                if word in line.lower():
                    return " ".join([line, *(lines[index + 1 : index + 3] if line.endswith(":") else [])])
        return ""


Answer = tuple[dict[str, Any], np.ndarray]


def operating_points(ngspice: Ngspice, job: dict[str, Any], values: np.ndarray) -> Answer:
    """Load a circuit and solve it for every row of `values` by `alter` and `op`: (vectors, vectors read).

    A job that names no vectors reads all voltages of its one point, and their names come back with them.
    """
    names, marker = job["vectors"], job["marker"]
    sources = [name.encode() for name in job["sources"]]
    values = values.reshape(-1, len(sources)) if sources else np.zeros((job["count"], 0))
    results = np.empty((len(values), len(names)))
    ngspice.load(job["circuit"], job["osdi"])
    present: list[float | None] = [0.0] * len(sources)
    for index, row in enumerate(values.tolist()):
        for position, value in enumerate(row):
            if value != present[position]:
                ngspice.native.ngSpice_Command(b"alter %s dc = %.17g" % (sources[position], value))
                present[position] = value
        try:
            ngspice.analyse("op", "op")
            check_marker(ngspice.vector(marker["name"], 1), marker["values"][0])
            if job["whole"]:
                ngspice.check_whole_solution()
            if not names:
                voltages = [name for name in ngspice.all_vectors() if "#" not in name and name != marker["name"]]
                return {"names": voltages}, np.array([ngspice.vector(name, 1)[0] for name in voltages])
            results[index] = [ngspice.vector(name, 1)[0] for name in names]
        except JobFailed as failure:
            raise JobFailed(failure.stage, f"{failure}, vector {job['first'] + index}") from failure
        ngspice.command("destroy all")
    return {}, results


def sweep(ngspice: Ngspice, job: dict[str, Any], _values: np.ndarray) -> Answer:
    """Load a circuit whose sources are functions of an index, sweep the index: (vectors, vectors read)."""
    names, marker = job["vectors"], job["marker"]
    expected = np.asarray(marker["values"])
    ngspice.load(job["circuit"], job["osdi"])
    ngspice.analyse(job["command"], "dc")
    check_marker(ngspice.vector(marker["name"], len(expected)), expected)
    if job["whole"]:
        ngspice.check_whole_solution()
    return {}, np.stack([ngspice.vector(name, len(expected)) for name in names], axis=1)


def transient(ngspice: Ngspice, job: dict[str, Any], knots: np.ndarray) -> Answer:
    """Load a circuit with waves in it, run it to the last knot: (points, time and vectors read)."""
    marker = job["marker"]["name"]
    ngspice.load(job["circuit"], job["osdi"])
    ngspice.analyse(job["command"], "tran")
    times = ngspice.vector("time")
    if not abs(times[-1] - knots[-1]) <= 1e-9 * knots[-1]:
        raise JobFailed("solve", f"{ngspice.complaint() or 'it stopped'}, at {times[-1]:.6g} s of {knots[-1]:.6g} s")
    # The marker rises by 1 from knot to knot: a result of another circuit has another one, or none.
    expected = np.interp(times, knots, np.arange(len(knots)))
    found = ngspice.vector(marker, len(times))
    if not np.abs(found - expected).max() < 1e-3:
        raise JobFailed("read", "the result is of another circuit (its waves differ)")
    if job["whole"]:
        ngspice.check_whole_solution()
    columns = [times, *(ngspice.vector(name, len(times)) for name in job["vectors"])]
    return {}, np.stack(columns, axis=1)


def check_marker(found: np.ndarray, expected: Any) -> None:
    """The marker source carries the job's own number: another value is the answer of another circuit."""
    if not np.array_equal(found, np.broadcast_to(expected, found.shape)):
        raise JobFailed("read", f"the result is of another circuit (marker {found[0]:g})")


def serve(jobs: "queue.Queue[tuple[dict[str, Any], np.ndarray]]", out: int) -> None:
    """Answer jobs until the process ends."""
    current: dict[str, Any] = {"kind": "start"}

    def reply(header: dict[str, Any], values: np.ndarray | None = None) -> None:
        message = memoryview(frame(header, values))
        while message:
            message = message[os.write(out, message) :]

    def on_exit(asked: bool, status: int, stage: str, complaint: str) -> None:
        if asked:
            reply({"failed": "load", "what": "the circuit tells ngspice to quit"})
        elif stage == "load":
            reply({"failed": "load", "what": complaint})
        else:
            reply({"failed": "exit", "what": f"{complaint} (exit status {status})"})

    try:
        ngspice = Ngspice(on_exit)
    except (LibraryMissing, ImportError) as missing:
        reply({"failed": "missing", "what": str(missing)})
        return
    except JobFailed as failure:
        reply({"failed": failure.stage, "what": f"ngspice does not solve a divider: {failure}"})
        return
    reply(
        {
            "version": ngspice.version,
            "solver": ngspice.solver,
            "library": ngspice.library,
            "pyspice": version("PySpice"),
        }
    )
    kinds = {"operating_points": operating_points, "sweep": sweep, "transient": transient}
    while True:
        current, values = jobs.get()
        start = time.perf_counter()
        try:
            told, result = kinds[current["kind"]](ngspice, current, values)
        except JobFailed as failure:
            reply({"failed": failure.stage, "what": str(failure)})
        else:
            reply({"seconds": time.perf_counter() - start, **told}, result)
            ngspice.forget()


def read_jobs(jobs: "queue.Queue[tuple[dict[str, Any], np.ndarray]]") -> NoReturn:
    """Read frames from stdin; leave with the whole process when it ends."""
    stream = os.fdopen(0, "rb")
    while True:
        lengths = stream.read(LENGTHS.size)
        if len(lengths) < LENGTHS.size:
            os._exit(0)
        header_length, body_length = LENGTHS.unpack(lengths)
        content = stream.read(header_length + body_length)
        if len(content) < header_length + body_length:
            os._exit(0)
        jobs.put(split(content, header_length))


def _loaded_path(name: str) -> str:
    """The file behind a library that has just been loaded by name, where the system tells (Linux)."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split(None, 5)[5].strip() for line in maps if "ngspice" in line and "/" in line}
    except OSError:
        return name
    return min((path for path in paths if "libngspice" in os.path.basename(path)), default=name)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    out = os.dup(1)
    os.dup2(2, 1)  # whoever prints to stdout must not break the frames
    jobs: queue.Queue[tuple[dict[str, Any], np.ndarray]] = queue.Queue()
    threading.Thread(target=read_jobs, args=(jobs,), daemon=True).start()
    serve(jobs, out)
    return 1


if __name__ == "__main__":
    sys.exit(main())
