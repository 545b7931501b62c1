"""Signed weights on pairs of conductances: scale, finite states, programming error."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mdls_cosim.config import Config
from mdls_cosim.quantities import Conductance


class ProgrammingError(Config):
    """What is left between the conductance asked for and the one that the cell holds.

        G = clip(G_target · (1 + relative · n1) + absolute · n2, minimum, maximum),    n1, n2 standard normal

    drawn for every cell of every array, mapped or not, once per programming. It leaves out drift and read noise.
    """

    relative: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    """Standard deviation as a part of the target."""
    absolute: Conductance = 0.0
    """Standard deviation that does not depend on the target [S]."""
    minimum: Conductance = 0.0
    """No cell falls below this [S]; a conductance is never negative."""
    maximum: Conductance | None = None
    """No cell rises above this [S]; None: no limit."""

    def apply(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, int]:
        """The conductances that result, and how many of them were clipped.

        Drawn in float64 on the generator's own device: the same draws wherever `targets` live.
        """
        draws = torch.randn((2, *targets.shape), dtype=torch.float64, generator=generator, device=generator.device).to(
            targets
        )
        hit = targets * (1 + self.relative * draws[0]) + self.absolute * draws[1]
        clipped = hit.clamp(min=self.minimum, max=self.maximum)
        return clipped, int((clipped != hit).sum())


class Scaled(NamedTuple):
    """Weights ready for mapping."""

    weights: Tensor
    """Within -scale … scale."""
    scale: float
    """The weight that the whole conductance range stands for."""
    clipped: int
    """How many weights lay beyond the scale."""


def scale_weights(weights: Tensor, clip: float | None = None) -> Scaled:
    """One scale for a layer: max |w|, or `clip` times the weights' root mean square where that is less."""
    scale = float(weights.abs().max()) if weights.numel() else 0.0
    if clip is not None:
        scale = min(scale, clip * float(weights.square().mean().sqrt()))
    if scale == 0:
        return Scaled(weights, 1.0, 0)  # only zeros: any scale maps them
    clipped = int((weights.abs() > scale).sum())
    return Scaled(weights.clamp(-scale, scale), scale, clipped)


def pair_conductances(
    weights: Float[Tensor, "*shape"], scale: float, conductance_range: tuple[float, float], states: int | None
) -> Float[Tensor, "2 *shape"]:  # noqa: UP037  a shape, not a reference
    """The positive and the negative conductance of every weight [S].

        G_positive = G_min + (G_max - G_min) max(w, 0) / scale,    G_negative likewise of -w,

    so that w = (G_positive - G_negative) · scale / (G_max - G_min), each rounded to the nearest of `states` levels.
    """
    shares = torch.stack([weights, -weights]).clamp(min=0) / scale
    return levels(shares, conductance_range, states)


def levels(shares: Tensor, conductance_range: tuple[float, float], states: int | None) -> Tensor:
    """Conductances [S] at `shares` 0 … 1 of the range, rounded to the nearest of `states` uniform levels."""
    lowest, highest = conductance_range
    if states is not None:
        shares = torch.round(shares * (states - 1)) / (states - 1)
    return lowest + (highest - lowest) * shares
