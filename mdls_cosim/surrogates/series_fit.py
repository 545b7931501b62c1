"""Fits the coefficients of the series to currents of tiles whose electrical parameters are known."""

from __future__ import annotations

import torch
from torch import Tensor

from mdls_cosim.surrogates.parameters import Reads
from mdls_cosim.surrogates.series import START, Terms
from mdls_cosim.tiles import TileSpec

# The fourth power of the classes' errors counts, so that the worst do.
_POWER = 4
# Holds what the data leave open where perturbation theory has it: a coefficient that is off by one must be worth an
# error smaller by a thousandth.
_RIDGE = 1e-3
# Errors of this size are those of the labels.
_FLOOR = 1e-10
_ITERATIONS = 200


def fit_coefficients(spec: TileSpec, reads: Reads, classes: Tensor) -> dict[str, tuple[float, ...]]:
    """Coefficients of `SeriesSurrogate`, by quasi-Newton minimisation of the classes' relative errors.

    Args:
        spec: the tile.
        reads: what the tiles answered.
        classes: (tile, vector), whole numbers from 0: each class's error counts against its own RMS current.
    """
    conductances, voltages, currents = reads.conductances, reads.voltages, reads.currents
    amplitude = float(voltages.abs().max())
    terms = Terms(spec, conductances, amplitude)
    members = torch.nn.functional.one_hot(classes.flatten()).to(currents).T  # (class, read)
    members = members / members.sum(-1, keepdim=True)
    scale = (members @ currents.square().mean(-1).flatten()).clamp_min(1e-60)
    start = torch.tensor([value for values in START.values() for value in values], dtype=currents.dtype)
    sought = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [sought],
        max_iter=_ITERATIONS,
        history_size=30,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-10,
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        missed = terms.products(_named(sought)).currents(voltages) - currents
        errors = (members @ missed.square().mean(-1).flatten()) / scale
        typical = errors.pow(_POWER / 2).mean().pow(2 / _POWER)
        value = (typical + _FLOOR**2).log() + _RIDGE * (sought - start).square().sum()
        value.backward()
        return value

    optimiser.step(loss)  # pyright: ignore[reportArgumentType]
    found = {name: tuple(values.tolist()) for name, values in _named(sought.detach()).items()}
    return {**found, "amplitude": (amplitude,)}


def _named(flat: Tensor) -> dict[str, Tensor]:
    parts = flat.split([len(values) for values in START.values()])
    return dict(zip(START, parts, strict=True))
