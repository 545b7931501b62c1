"""How large errors of currents are, and how well a sample of reads tells it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

LEVEL = 0.95
"""Of the intervals."""
RESAMPLES = 1000
_TAIL = 0.01
_HEAD = 0.08  # of all errors, the largest: nearly every resample's 99th percentile is among them
_HELD = 2**22  # weights of errors at a time

Interval = tuple[float, float]


@dataclass(frozen=True)
class ErrorSize:
    """Errors of the column currents of a layer, with intervals of 95 %; None where a single read, or a single tile of
    several, tells none.

    Relative to the root mean square of the reference's currents.
    """

    rms: float
    rms_interval: Interval | None
    p99: float
    """99th percentile of the magnitude."""
    p99_interval: Interval | None
    converted_rms: float
    """Of what the converters get (a pair subtracted, where that is analog), relative to the RMS of that."""
    adc_steps: float | None
    """RMS error of what the ADC gets, in its steps; None without uniform codes."""
    adc_steps_interval: Interval | None


@dataclass(frozen=True, eq=False)
class Sample:
    """Which reads of which tiles errors are of: arrays of errors are (any, tiles, reads, outputs)."""

    valid: NDArray[np.bool_]
    """Columns of a tile that hold an output, (tiles, outputs)."""
    reads: int
    every_tile: bool
    """No tile of the layer is missing: only reads are a sample."""
    seed: int

    def size(
        self,
        error: NDArray[np.float64],
        reference: NDArray[np.float64],
        converted: NDArray[np.float64],
        converted_reference: NDArray[np.float64],
        step: float | None,
    ) -> ErrorSize:
        """The size of `error` beside the currents of the `reference` [A], by column and as converters get them.

        Intervals are those of the bootstrap over reads, and over tiles too where these are a sample (independently:
        Owen, https://doi.org/10.1214/07-AOAS122), at percentiles widened for few reads as Student's t is (Hesterberg,
        https://doi.org/10.1080/00031305.2015.1089789). They leave out what no drawn read has shown.
        """
        power, truth = self._power(error), self._power(reference)
        at_adc, truth_at_adc = self._power(converted), self._power(converted_reference)
        counts = np.broadcast_to(len(converted) * self.valid.sum(-1)[:, None].astype(np.float64), at_adc.shape)
        rms_current = float(np.sqrt(truth.sum() / (len(reference) * self.valid.sum() * self.reads)))
        # One of its kind says nothing of how much others differ from it.
        told = self.reads > 1 and (self.every_tile or len(self.valid) > 1)
        drawn = self._draws() if told else None

        def ratio(above: NDArray[np.float64], below: NDArray[np.float64], unit: float = 1.0) -> float:
            return float(np.sqrt(above.sum() / (below.sum() or 1.0))) / unit

        def interval(above: NDArray[np.float64], below: NDArray[np.float64], unit: float = 1.0) -> Interval | None:
            if drawn is None:
                return None
            tiles, reads = drawn
            sums = [((tiles @ each) * reads).sum(-1) for each in (above, below)]
            return self._between(np.sqrt(sums[0] / np.where(sums[1] > 0, sums[1], 1.0)) / unit)

        p99, p99s = self._p99(np.abs(error) / (rms_current or 1.0), drawn)
        return ErrorSize(
            rms=ratio(power, truth),
            rms_interval=interval(power, truth),
            p99=p99,
            p99_interval=None if p99s is None else self._between(p99s),
            converted_rms=ratio(at_adc, truth_at_adc),
            adc_steps=None if step is None else ratio(at_adc, counts, step),
            adc_steps_interval=None if step is None else interval(at_adc, counts, step),
        )

    def _power(self, currents: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of squares by (tile, read)."""
        return np.einsum("atro,to->tr", np.square(currents), self.valid.astype(np.float64))

    def _draws(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How often every tile and every read is in each resample."""
        random = np.random.default_rng(self.seed)
        tiles = len(self.valid)
        reads = random.multinomial(self.reads, np.full(self.reads, 1 / self.reads), RESAMPLES)
        if self.every_tile:
            return np.ones((RESAMPLES, tiles)), reads.astype(np.float64)
        sites = random.multinomial(tiles, np.full(tiles, 1 / tiles), RESAMPLES)
        return sites.astype(np.float64), reads.astype(np.float64)

    def _between(self, resampled: NDArray[np.float64]) -> Interval:
        count = self.reads if self.every_tile else min(self.reads, len(self.valid))
        tail = ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - LEVEL) / 2))
        low, high = np.quantile(resampled, [tail, 1 - tail])
        return float(low), float(high)

    def _p99(
        self, magnitudes: NDArray[np.float64], drawn: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    ) -> tuple[float, NDArray[np.float64] | None]:
        """The 99th percentile, and that of every resample."""
        valid = np.broadcast_to(self.valid[:, None, :], magnitudes.shape[1:])
        flat = magnitudes[:, valid].ravel()
        found = float(np.percentile(flat, 99))
        if drawn is None:
            return found, None
        tile, read, _ = np.nonzero(valid)
        owners = [np.tile(each, len(magnitudes)) for each in (tile, read)]
        order = np.argsort(-flat, kind="stable")
        head = order[: max(1, int(_HEAD * len(order)))]
        columns = len(magnitudes) * self.valid.sum(-1)
        limits = _TAIL * (drawn[0] @ columns) * self.reads
        percentiles = np.full(RESAMPLES, np.nan)
        for shown in (head, order):
            left = np.flatnonzero(np.isnan(percentiles))
            for some in np.array_split(left, -(-len(left) * len(shown) // _HELD)) if len(left) else ():
                weights = drawn[0][np.ix_(some, owners[0][shown])] * drawn[1][np.ix_(some, owners[1][shown])]
                reached = np.cumsum(weights, -1, out=weights) >= limits[some, None]
                known = reached[:, -1]
                percentiles[some[known]] = flat[shown[reached[known].argmax(-1)]]
        return found, percentiles
