"""Digital weights that the programmed conductances of a layer stand for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mdls_cosim.analog.layer import AnalogLayer


@dataclass(frozen=True)
class EffectiveWeights:
    """Weights and bias of a layer on ideal tiles between ideal converters, in float64."""

    matrix: Float[Tensor, "groups inputs outputs"]
    """Its groups are those of the layer; fewer where cells between groups that share tiles are not at weight zero."""
    bias: Float[Tensor, " outputs"] | None
    """Bias plus digital shift; None where the layer has no bias and the shift is zero."""

    @classmethod
    @torch.no_grad()
    def of(cls, layer: AnalogLayer) -> EffectiveWeights:
        """What the chip holds at the present read conditions, with the digital correction (`gain`, `shift`)."""
        of_blocks = _of_blocks(layer)
        grouping = layer.grouping
        inputs, outputs = (size // grouping.shared for size in of_blocks.shape[1:])
        real = grouping.groups * outputs
        shift = layer.shift.flatten()[:real]
        bias = None if layer.bias is None else layer.bias.double()
        if bool(shift.any()):
            bias = shift if bias is None else bias + shift
        if grouping.shared == 1:
            return cls(of_blocks, bias)
        split = of_blocks.reshape(-1, grouping.shared, inputs, grouping.shared, outputs)
        own = split.diagonal(dim1=1, dim2=3).movedim(-1, 1).flatten(0, 1)[: grouping.groups]
        if torch.equal(grouping.block_diagonal(own, 0.0), _real(of_blocks, layer)):
            return cls(own, bias)
        if not grouping.empty:
            return cls(of_blocks, bias)
        dense = torch.block_diag(*of_blocks)
        return cls(dense[None, : grouping.groups * inputs, :real], bias)


def _of_blocks(layer: AnalogLayer) -> Float[Tensor, "blocks inputs outputs"]:
    """The weights of every set of groups that share tiles, cells between the groups included."""
    hardware, mapping, part, layout = layer.hardware, layer.hardware.weight_mapping, layer.partition, layer.layout
    lowest, highest = hardware.conductance_range
    taken = layout.matrix(layer.present_conductances().double())
    places = torch.tensor(layout.place_values(), dtype=torch.float64, device=taken.device)
    tiles = torch.einsum("c,cgtio->gtio", places, taken)
    if mapping.planes == 1:
        tiles = tiles - (lowest + (highest - lowest) * mapping.zero) * layer.zero_share
    # Places without an input, which nothing drives, go to a last row that is left out.
    rows = part.inputs_of_tile.flatten().to(tiles.device)
    matrix = tiles.new_zeros((part.groups, part.inputs + 1, part.outputs))
    matrix[:, rows] = tiles.flatten(1, 2)
    return matrix[:, : part.inputs] * (layer.weight_scale * layer.gain / ((highest - lowest) * mapping.unit))


def _real(of_blocks: Tensor, layer: AnalogLayer) -> Tensor:
    """`of_blocks` with zeros for the empty groups behind the last one."""
    grouping, found = layer.grouping, of_blocks.clone()
    inputs, outputs = (size // grouping.shared for size in of_blocks.shape[1:])
    if used := grouping.shared - grouping.empty:
        found[-1, used * inputs :] = 0.0
        found[-1, :, used * outputs :] = 0.0
    return found
