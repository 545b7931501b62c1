"""Progress of a fit of loops."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, planned)."""


class Meter:
    """Progress of a fit whose length is only known roughly: a share is set aside for each stage."""

    _SHARES = (0.0, 0.25, 0.6, 1.0)

    def __init__(self, progress: Progress | None, spaces: int, candidates: int, bootstrap: int) -> None:
        self._progress, self._spaces = progress, spaces
        self._per_space = 1000
        self._total = spaces * self._per_space + (self._per_space if bootstrap else 0)
        self._done, self._end, self._finished = 0.0, 0.0, 0

    def stage(self, number: int) -> None:
        """Stage `number` of the next form of the model begins; after the last, that form is done."""
        base = self._finished * self._per_space
        self._done = base + self._SHARES[number] * self._per_space
        if number == len(self._SHARES) - 1:
            self._finished += 1
            self._end = self._total if self._finished == self._spaces else self._done
        else:
            self._end = base + self._SHARES[number + 1] * self._per_space
        self._tell()

    def step(self) -> None:
        """A batch is done: nearer to the end of the stage, never past it."""
        self._done += 0.04 * (self._end - self._done)
        self._tell()

    def finish(self) -> None:
        self._done = self._total
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(int(self._done), self._total)
