"""Signed weights as conductances: pairs of cells or one cell about a zero, slices, scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mdls_cosim.errors import ConfigError

MappingName = Literal["pair", "interleaved_pair", "offset_column", "digital_offset"]
Scaling = Literal["layer", "column", "network"]

_MANTISSA = 52
"""Bits of a float64, less one for the rounding."""


@dataclass(frozen=True)
class Mapping:
    """How one signed weight becomes planes of conductances, and where these planes sit.

        pair                w > 0 in one array, w < 0 in a second one, subtracted: (G+ - G-)
        interleaved_pair    the same two cells in neighbouring columns of one array, which share the drop of its rows
        offset_column       one cell, G = G_zero + w: a column of every tile holds G_zero and is subtracted
        digital_offset      one cell as before, and G_zero times the sum of the inputs is subtracted digitally

    With `states` n a cell holds one of n uniform levels, and with slices a weight is a number of so many digits to the
    base n, each in a cell of its own, the least significant first; results are added with their place values.
    """

    name: MappingName
    states: int | None
    slices: int = 1

    def __post_init__(self) -> None:
        if self.slices > 1 and self.states is None:
            raise ConfigError(
                "slices of weights need cells of finite states", where="slices", value=self.slices, hint="set states"
            )
        if self.states is not None and self.slices * math.log2(self.states) > _MANTISSA:
            raise ConfigError(
                "more levels than a float64 can tell apart",
                where="states, slices",
                value=f"{self.states}^{self.slices}",
                limit=f"2^{_MANTISSA}",
            )
        if not self.signed_cells and self._levels == 1:
            raise ConfigError(
                "two levels have no zero between them",
                where="states",
                value=self.states,
                limit=f"3 or more with mapping={self.name!r} and one slice",
            )

    @property
    def signed_cells(self) -> bool:
        """Positive and negative weights have cells of their own."""
        return self.name in ("pair", "interleaved_pair")

    @property
    def arrays(self) -> int:
        """Physical arrays of one slice."""
        return 2 if self.name == "pair" else 1

    @property
    def planes(self) -> int:
        """Currents that make one output: the second is subtracted from the first, where there are two."""
        return 1 if self.name == "digital_offset" else 2

    def outputs_per_tile(self, cols: int) -> int:
        """Outputs that fit on the columns of one tile.

        Raises:
            ConfigError: none does.
        """
        outputs = {"interleaved_pair": cols // 2, "offset_column": cols - 1}.get(self.name, cols)
        if outputs < 1:
            raise ConfigError(
                f"the tile is too narrow for mapping={self.name!r}", where="tile.cols", value=cols, limit="2 or more"
            )
        return outputs

    @property
    def _levels(self) -> int:
        """The highest code of all digits together."""
        return 0 if self.states is None else self.states**self.slices - 1

    @property
    def zero(self) -> float:
        """Share of the conductance range that stands for the weight zero."""
        if self.signed_cells:
            return 0.0
        return 0.5 if self.states is None else (self._levels // 2) / self._levels

    @property
    def unit(self) -> float:
        """Shares of the range that the largest weight differs from zero by."""
        return 1.0 if self.signed_cells else self.zero

    def place_values(self) -> list[float]:
        """What the share of every slice's cell counts; they sum to 1."""
        if self.states is None:
            return [1.0]
        return [self.states**place * (self.states - 1) / self._levels for place in range(self.slices)]

    def shares(self, weights: Float[Tensor, "*shape"]) -> Float[Tensor, "slices planes *shape"]:
        """Shares 0 … 1 of the conductance range of every cell, for weights within -1 … 1.

        Each code is the nearest one. The error of a weight is at most half a code: 1/(2 (n^slices - 1)) of the largest
        weight for pairs, twice that for one cell (less the code that an even number of levels cannot use).
        """
        if self.signed_cells:
            planes = torch.stack([weights, -weights]).clamp(min=0)
        else:
            planes = torch.stack([weights * self.unit + self.zero, torch.full_like(weights, self.zero)])[: self.planes]
        if self.states is None:
            return planes[None]
        codes = (planes * self._levels).round()
        digits = []
        for _ in range(self.slices):
            rest = (codes / self.states).floor()
            digits.append((codes - self.states * rest) / (self.states - 1))
            codes = rest
        return torch.stack(digits)

    def lay(self, planes: Tensor, cols: int, fill: float) -> Tensor:
        """Onto physical tiles: (slices, planes, *tiles, rows, outputs) to (arrays, *tiles, rows, cols).

        Columns without weights hold `fill`; the offset column is nearest the drivers.
        """
        slices = planes.shape[0]
        match self.name:
            case "pair":
                laid = planes.flatten(0, 1)
            case "interleaved_pair":
                laid = torch.stack([planes[:, 0], planes[:, 1]], -1).flatten(-2)
            case "offset_column":
                laid = torch.cat([planes[:, 1, ..., :1], planes[:, 0]], -1)
            case "digital_offset":
                laid = planes[:, 0]
        assert laid.shape[0] == slices * self.arrays
        return torch.nn.functional.pad(laid, (0, cols - laid.shape[-1]), value=fill)

    def take(self, columns: Tensor, outputs: int) -> Tensor:
        """What belongs to the outputs: (arrays, *tiles, any, cols) to (slices, planes, *tiles, any, outputs)."""
        match self.name:
            case "pair":
                return columns.unflatten(0, (self.slices, 2))[..., :outputs]
            case "interleaved_pair":
                return torch.stack([columns[..., 0 : 2 * outputs : 2], columns[..., 1 : 2 * outputs : 2]], 1)
            case "offset_column":
                signal = columns[..., 1 : outputs + 1]
                return torch.stack([signal, columns[..., :1].expand_as(signal)], 1)
            case "digital_offset":
                return columns[:, None, ..., :outputs]


class Scaled(NamedTuple):
    """Weights ready for mapping."""

    weights: Tensor
    """Within -1 … 1."""
    scale: Tensor
    """The weight that 1 stands for, (groups, 1, outputs)."""
    clipped: int
    """How many weights lay beyond the scale."""


def scale_weights(
    matrix: Float[Tensor, "groups inputs outputs"],
    scaling: Scaling | Literal["group"],
    clip: float | None,
    network: float | None = None,
) -> Scaled:
    """max |w| of a layer, column, network or group, or `clip` times the root mean square of that where it is less.

    Args:
        network: the scale with scaling "network"; None: that of this layer.
    """
    groups, _, outputs = matrix.shape
    over = {"column": (1,), "group": (1, 2)}.get(scaling, (0, 1, 2))
    if not matrix.numel():
        return Scaled(matrix, matrix.new_ones((groups, 1, outputs)), 0)
    scale = matrix.abs().amax(over, keepdim=True)
    if clip is not None:
        scale = torch.minimum(scale, clip * matrix.square().mean(over, keepdim=True).sqrt())
    if scaling == "network" and network is not None:
        scale = torch.full_like(scale, network)
    scale = torch.where(scale == 0, 1.0, scale).expand(groups, 1, outputs)  # only zeros: any scale maps them
    scaled = matrix / scale
    return Scaled(scaled.clamp(-1, 1), scale.contiguous(), int((scaled.abs() > 1).sum()))
