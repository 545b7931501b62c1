"""The parent's side of one worker process: start, exchange a job within a deadline, kill."""

import os
import selectors
import subprocess
import sys
import tempfile
import time
import weakref
from typing import IO, Any

import numpy as np

from mdls_cosim.spice.protocol import LENGTHS, frame, split
from mdls_cosim.spice.user_settings import plain_environment

__all__ = ["DeadlineExceeded", "WorkerDied", "WorkerProcess"]

_CHUNK = 1 << 16
_LOG_TAIL = 4000  # bytes


class DeadlineExceeded(Exception):
    """The worker did not answer in time."""


class WorkerDied(Exception):
    """The worker ended instead of answering; the text says how."""


class WorkerProcess:
    """One worker program with its pipes.

    What ngspice says goes to an unlinked file, not to a pipe: nobody need read it for the worker to go on.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        # -P: a module of the user's working folder must not take the place of one that the worker imports.
        # A session of its own: an interrupt from the keyboard is the parent's to handle.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mdls_cosim.spice.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"OMP_NUM_THREADS": "1", **plain_environment(), **environment},
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._input.fileno(), False)
        os.set_blocking(self._output.fileno(), False)
        self._owner = os.getpid()
        # Also at the interpreter's exit, and when an engine is forgotten without close().
        self._finalizer = weakref.finalize(self, _end, self._process, self._log, self._owner)

    @property
    def pid(self) -> int:
        return self._process.pid

    def usable(self) -> bool:
        """Whether it runs and belongs to this process: a worker cannot be shared across a fork."""
        return self._finalizer.alive and self._owner == os.getpid() and self._process.poll() is None

    def kill(self) -> None:
        """End it at once, whatever it does, and free everything."""
        self._finalizer()

    def log(self) -> str:
        """The last lines that ngspice said."""
        if not self._finalizer.alive:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _LOG_TAIL, max(0, size - _LOG_TAIL)).decode("utf-8", "replace")

    def receive(self, deadline: float) -> tuple[dict[str, Any], np.ndarray]:
        """The next message, within `deadline` [s]."""
        return self._talk(b"", deadline)

    def exchange(
        self, header: dict[str, Any], values: np.ndarray, deadline: float
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Send a job and wait for its answer, within `deadline` [s]."""
        # The child's stderr shares this file's offset, so both go back to the start.
        os.ftruncate(self._log.fileno(), 0)
        os.lseek(self._log.fileno(), 0, os.SEEK_SET)
        return self._talk(frame(header, values), deadline)

    def _talk(self, message: bytes, deadline: float) -> tuple[dict[str, Any], np.ndarray]:
        end = time.monotonic() + deadline
        rest, answer = memoryview(message), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if rest:
                selector.register(self._input, selectors.EVENT_WRITE)
            while len(answer) < (total := _length(answer)):
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineExceeded
                for key, _ in selector.select(left):
                    if key.fileobj is self._output:
                        chunk = os.read(self._output.fileno(), min(_CHUNK, total - len(answer)))
                        if not chunk:
                            raise WorkerDied(self._cause())
                        answer += chunk
                    else:
                        try:
                            rest = rest[os.write(self._input.fileno(), rest[:_CHUNK]) :]
                        except BrokenPipeError:
                            rest = rest[:0]  # its last words may still be in the other pipe
                        if not rest:
                            selector.unregister(self._input)
        header_length, _ = LENGTHS.unpack_from(answer)
        return split(bytes(answer[LENGTHS.size :]), header_length)

    def _cause(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if code >= 0:
            return f"exit status {code}"
        import signal

        return f"signal {-code} ({signal.Signals(-code).name})"


def _length(answer: bytearray) -> int:
    """How many bytes the message has, as far as is known."""
    if len(answer) < LENGTHS.size:
        return LENGTHS.size
    return LENGTHS.size + sum(LENGTHS.unpack_from(answer))


def _end(process: "subprocess.Popen[bytes]", log: IO[bytes], owner: int) -> None:
    """Close the pipes; kill and reap the process if it is this process's own child."""
    if owner == os.getpid():
        process.kill()
        process.wait()
    else:
        process.returncode = 0  # the child of another process: nothing to reap here
    for stream in (process.stdin, process.stdout, log):
        if stream is not None:
            stream.close()
