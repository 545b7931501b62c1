"""Noise of the cells at the column currents of a tile: three products a read, in place of draws of every cell."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mdls_cosim.devices import Device
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity.cell_law import CellLaw, law_and_states
from mdls_cosim.fidelity.elimination import Wires, factorise, mirror
from mdls_cosim.fidelity.interface import check_conductances, check_voltages
from mdls_cosim.tiles import TileSpec

_POWERS = 6
"""Highest power of the row voltage in the squared current of a cell."""
_NODES = 12
"""Voltages at which cells are looked at."""
_EDGE = 1e-6
"""Of the largest voltage: inputs sit on the edge of their range."""


class CurrentNoise:
    """Standard deviation of the column currents of programmed tiles whose cells fluctuate independently.

    A cell of current i(w) (1 + d), d of standard deviation s, adds to column j's current the share beta of s i(w) that
    reaches the sense node:

        var I_j = sum_i (beta s i(w))^2,    w = alpha V_i - R_i I_j

    with the shares alpha and beta of the tile linearised at the mean slope of its cells, and the rise of the column
    line under its own current, R_i being the sense resistance and half of the wire below row i. i(alpha V)^2 and its
    derivative are fitted by powers of V to the sixth, so that a read costs three products whatever the cell. What it
    leaves out: the part of a cell's current that reaches other columns, and changes of the shares with the inputs; they
    are 1 % at ohmic cells and 10 % at sinh 10 /V, 0.2 V, of the worst reads' noise.

    Args:
        spec: the tile.
        conductances: (*tiles, rows, cols) [S].
        spread: of every cell's current, a share of it; broadcasts with the conductances.
        largest_voltage: of the rows, of either sign [V]; beyond it the interpolation does not hold.
        devices: the memristor of every cell, where they differ (`TileModel.program`).

    Raises:
        InputError: conductances of another shape or that no cell has; a spread below zero, not finite or of another
            shape; a largest voltage that is not above zero.
    """

    def __init__(
        self,
        spec: TileSpec,
        conductances: Tensor,
        spread: Tensor | float,
        largest_voltage: float,
        devices: Device | None = None,
    ) -> None:
        check_conductances(spec, conductances)
        wires = Wires.of(spec)
        if spec.device is not None and devices is None:
            spec.device.check_range(conductances, spec.reference_voltage)
        law, states = law_and_states(spec, conductances, devices)
        given = torch.as_tensor(spread, dtype=torch.float64, device=conductances.device)
        try:
            torch.broadcast_shapes(given.shape, conductances.shape)
        except RuntimeError:
            raise InputError(
                "a spread that does not broadcast with the conductances",
                value=tuple(given.shape),
                limit=tuple(conductances.shape),
                hint="one number for all cells, or one for each",
            ) from None
        if not bool((torch.isfinite(given) & (given >= 0)).all()):
            raise InputError("a spread of the cells", value=float(given.min()), limit="0 or more, finite")
        if not (0 < largest_voltage < math.inf):
            raise InputError("largest_voltage", value=f"{largest_voltage} V", limit="above 0 V, finite")
        # Chebyshev's points: what is interpolated at them is nowhere far off between.
        angles = math.pi * (torch.arange(_NODES, dtype=torch.float64, device=conductances.device) + 0.5) / _NODES
        nodes = largest_voltage * angles.cos()
        # The tile is linearised where cells work: at the mean slope over the nodes, not at rest.
        slope = torch.stack([_squares(law, states, node)[2] for node in nodes]).mean(0)
        self._effective, alpha, beta, rise = _shares(slope, wires)
        weight = (beta * given) ** 2
        self._spec, self._tiles = spec, conductances.shape[:-2]
        self._scale = largest_voltage
        found = [_squares(law, states, alpha * node) for node in nodes]
        powers = (nodes / largest_voltage)[:, None] ** torch.arange(_POWERS + 1, device=nodes.device)
        self._squares = _fitted(powers[:, 2:], torch.stack([each[0] for each in found]), weight)
        self._slopes = _fitted(powers[:, 1:-1], torch.stack([each[1] for each in found]), -rise * weight)
        self._curvature = (weight * rise**2 * slope**2).sum(-2)
        # Behind an amplifier of finite gain -v_out/R_f falls short of the column's current.
        self._gain = 1.0 if spec.amplifier is None else spec.amplifier.sensed_share

    def __call__(self, voltages: Tensor) -> Tensor:
        """(*tiles, batch, cols) [A] under `voltages` (*tiles, batch, rows) [V].

        Raises:
            InputError: voltages of the wrong shape, not finite, or beyond the largest one.
        """
        largest = check_voltages(self._spec, self._tiles, voltages)
        if largest > self._scale * (1 + max(_EDGE, torch.finfo(voltages.dtype).eps)):
            raise InputError(
                "voltages beyond those that the noise was interpolated for",
                value=f"{largest:.6g} V",
                limit=f"{self._scale:.6g} V of either sign",
                hint="make it with a larger `largest_voltage`",
            )
        scaled = voltages.double() / self._scale
        currents = voltages.double() @ self._effective
        powers = [scaled]
        for _ in range(_POWERS - 1):
            powers.append(powers[-1] * scaled)
        variance = torch.cat(powers[1:], -1) @ self._squares
        variance = variance + (torch.cat(powers[:-1], -1) @ self._slopes) * currents
        variance = variance + self._curvature[..., None, :] * currents**2
        return (self._gain * variance.clamp_min(0.0).sqrt()).to(voltages)


class OhmicNoise(NamedTuple):
    """As `CurrentNoise`, of ohmic cells: the variance is a quadratic form of the row voltages.

        var I_j = sum_i V_i^2 squares_ij + I_j sum_i V_i slopes_ij + I_j^2 curvature_j

    with I_j as the tile hands it over. Without wires the first term is all.
    """

    squares: Tensor
    """(*tiles, rows, cols) [S^2]."""
    slopes: Tensor | None
    """(*tiles, rows, cols) [S]; None: there are no wires."""
    curvature: Tensor | None
    """(*tiles, cols), no unit; None: there are no wires."""

    @classmethod
    def of(cls, spec: TileSpec, conductances: Tensor, sigma: Tensor) -> OhmicNoise:
        """Of cells of `conductances` that scatter by `sigma`, both (*tiles, rows, cols) [S]."""
        _, alpha, beta, rise = _shares(conductances.double(), Wires.of(spec))
        gain = 1.0 if spec.amplifier is None else spec.amplifier.sensed_share
        weight = (beta * sigma) ** 2
        # The current that raises the line is the column's, of which an amplifier tells a share: gain and 1/gain.
        slopes, curvature = -2 * gain * weight * alpha * rise, (weight * rise**2).sum(-2)
        wired = bool((rise != 0).any())
        return cls(gain**2 * weight * alpha**2, slopes if wired else None, curvature if wired else None)

    @classmethod
    def without_wires(cls, sigma: Tensor) -> OhmicNoise:
        """Of cells between row voltages and columns at 0 V."""
        return cls(sigma**2, None, None)


def _shares(slope: Tensor, wires: Wires) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The effective conductances [S], the shares alpha and beta, and R_i [ohm]."""
    effective, alpha = factorise(slope, wires).responses()
    beta = mirror(factorise(mirror(slope), wires.mirrored()).responses()[1])
    return effective, alpha, beta, wires.mean_rise(slope.shape[-2], alpha)


def _squares(law: CellLaw, states: Tensor, across: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """i^2 at the cell voltages `across` [V], its derivative 2 i i', and i'."""
    with torch.enable_grad():
        voltage = torch.broadcast_to(across, states.shape).detach().clone().requires_grad_()
        current = law.current(voltage, states.detach())
        (slope,) = torch.autograd.grad(current.sum(), voltage)
    current = current.detach()
    return current**2, 2 * current * slope, slope


def _fitted(powers: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Coefficients of the columns of `powers` (nodes, terms), least squares, times `weight`: a block of rows a term."""
    coefficients = torch.einsum("pn,n...->p...", torch.linalg.pinv(powers), values)
    return torch.cat(list(coefficients * weight), -2)
