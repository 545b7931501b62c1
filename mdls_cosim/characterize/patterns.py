"""Seeded random conductances and inputs, by class: what a fit learns from and what it is tested on.

Uniform random patterns flatter: IR drop adds up where conductances or inputs are clustered, and sneak currents show
where they are sparse. So every class is drawn, and every error is reported by class.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

ConductanceClass = Literal["uniform", "log_uniform", "bimodal", "half_sparse", "clustered"]
InputClass = Literal["sparse", "dense", "half_on", "signed"]
CONDUCTANCE_CLASSES: tuple[ConductanceClass, ...] = get_args(ConductanceClass)
INPUT_CLASSES: tuple[InputClass, ...] = get_args(InputClass)

Floats = NDArray[np.float64]


def draw_conductances(
    kind: ConductanceClass, rows: int, cols: int, span: tuple[float, float], generator: np.random.Generator
) -> Floats:
    """One tile's conductances (rows, cols) within `span` [S].

    uniform, log_uniform: independent cells. bimodal: each cell near one end of the span. half_sparse: uniform, with
    half of the cells at the lowest. clustered: rectangles of high conductance in a tile of low ones.
    """
    low, high = span
    uniform = generator.uniform(low, high, (rows, cols))
    if kind == "uniform":
        return uniform
    if kind == "log_uniform":
        # A span that begins at zero has no logarithm; three decades are then drawn.
        start = max(low, high * 1e-3)
        return np.exp(generator.uniform(np.log(start), np.log(high), (rows, cols)))
    near_low = low + (high - low) * generator.uniform(0.0, 0.1, (rows, cols))
    near_high = high - (high - low) * generator.uniform(0.0, 0.1, (rows, cols))
    if kind == "bimodal":
        return np.where(generator.random((rows, cols)) < 0.5, near_low, near_high)
    if kind == "half_sparse":
        return np.where(generator.random((rows, cols)) < 0.5, low, uniform)
    clustered = near_low
    for _ in range(3):
        top, left = generator.integers(0, rows), generator.integers(0, cols)
        bottom = top + generator.integers(1, max(2, rows // 2 + 1))
        right = left + generator.integers(1, max(2, cols // 2 + 1))
        clustered[top:bottom, left:right] = near_high[top:bottom, left:right]
    return clustered


def draw_inputs(kind: InputClass, vectors: int, rows: int, amplitude: float, generator: np.random.Generator) -> Floats:
    """Row voltages (vectors, rows) within +-`amplitude` [V].

    sparse: one row in eight driven (at least one). dense: all rows, uniform. half_on: half of the rows at the
    amplitude, the rest at 0 V. signed: all rows, uniform, of either sign.
    """
    if kind == "dense":
        return generator.uniform(0.0, amplitude, (vectors, rows))
    if kind == "signed":
        return generator.uniform(-amplitude, amplitude, (vectors, rows))
    order = generator.random((vectors, rows)).argsort(axis=1)
    if kind == "sparse":
        driven = order < max(1, rows // 8)
        return np.where(driven, generator.uniform(0.0, amplitude, (vectors, rows)), 0.0)
    return np.where(order < max(1, rows // 2), amplitude, 0.0)
