"""Matrix products whose second factor changes with every input: it is written to tiles for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer, Moment, cell_dtype
from mdls_cosim.analog.mapping import Scaling
from mdls_cosim.analog.partition import Partition
from mdls_cosim.analog.uncompiled import uncompiled
from mdls_cosim.devices.variability import Randomness
from mdls_cosim.errors import ConfigError, InputError

WRITTEN_CELLS = 2**22
"""Most cells that should be written at a time."""


class MatrixProduct(nn.Module):
    """X W of two tensors, digital; what `AnalogProduct` takes the place of."""

    def forward(
        self, inputs: Float[Tensor, "*batch vectors inputs"], weights: Float[Tensor, "*batch inputs outputs"]
    ) -> Float[Tensor, "*batch vectors outputs"]:
        return inputs @ weights


class AnalogProduct(AnalogLayer):
    """X W on memristor tiles, where every call brings its own W.

    Every call writes each matrix of the batch to tiles of its own, as a layer writes its weights once, and then reads
    them with the vectors of X. All matrices of a batch are one chip, whose groups they are: written and read together,
    each on a scale of its own ("layer": its largest element; or column by column), so that none depends on what else is
    in the batch. Every write is to fresh cells and converters: all their draws follow from the seed and from the number
    of the write, which counts from the last `program`, `read_at` or loading of a state_dict. Cells are read at once:
    they have no time to drift. Ranges of converters are those of the calibration, over all writes.

    Gradients reach X as in every analog layer, and W straight through the writing: as of X W, zero where W is clipped.

    Args:
        hardware: tiles, mapping and periphery.
        seed: of all writes.
        device: where its ranges and counters are.

    Raises:
        ConfigError: scaling "network", which is one of weights that are known beforehand.
    """

    _CHIP = ("seed",)
    _keeps_weights = False
    _groups_may_share = False  # every matrix of a batch is written to tiles of its own
    _EXACT = (*AnalogLayer._EXACT, "weight")

    seed: Tensor
    """Of the chip; `chip_seed` is that of the last write."""

    def __init__(self, *, hardware: Hardware, seed: int = 0, device: Any = None) -> None:
        if hardware.scaling == "network":
            raise ConfigError(
                "products of attention have no scale of the network: their matrices change with the input",
                where="scaling",
                value="network",
                limit='"layer" or "column"',
                hint='give them a rule of their own, "*.scores": {"scaling": "layer"}, and the same for "*.mixture"',
            )
        super().__init__(hardware, torch.zeros((1, 1, 1), device=device), None)
        nothing = torch.zeros((0, 1, 1), dtype=torch.float64, device=device)
        del self.weight
        # What the last call wrote tells what was audited; it does not belong to the model.
        self.register_buffer("weight", nothing, persistent=False)
        self._lay_out(nothing, persistent=False)
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64, device=device))
        self.writes = 0
        """Since the draws began: every one has new ones."""
        self.program(seed)

    @classmethod
    def from_digital(cls, digital: MatrixProduct, hardware: Hardware, seed: int = 0) -> AnalogProduct:
        """On tiles what `digital` is."""
        return cls(hardware=hardware, seed=seed).train(digital.training)

    def program(self, seed: int = 0) -> None:
        """`seed` draws what every later write finds; the count of writes begins anew."""
        self.seed.fill_(seed)
        self.clipped_weights, self.outcome = 0, {}
        self.read_at(Moment())

    def read_at(self, moment: Moment) -> None:
        """As of any layer; the time does not count, cells being written before every read."""
        super().read_at(replace(Moment.checked(moment), time=0.0))
        self.writes = 0

    @uncompiled
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: Float[Tensor, "*batch vectors inputs"], weights: Float[Tensor, "*batch inputs outputs"]
    ) -> Float[Tensor, "*batch vectors outputs"]:
        self._check(inputs, weights)
        if not inputs.numel() or not weights.numel():
            return inputs @ weights
        # Outside inference mode: its tensors tell nobody of their changes.
        with torch.inference_mode(False), torch.no_grad():
            self._write(weights)
        found = self._run(self.items(inputs)).reshape(*inputs.shape[:-1], weights.shape[-1])
        if not (weights.requires_grad and torch.is_grad_enabled()):
            return found
        scale = self.weight_scale.to(weights).reshape(*weights.shape[:-2], 1, -1)
        through = inputs.detach() @ weights.clamp(-scale, scale)
        return found + (through - through.detach())

    def parts(self, inputs: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Both factors, cut along their first dimension so that memory is bounded: parts for one call each."""
        hardware, spec = self.hardware, self.hardware.spec
        mapping, order = hardware.weight_mapping, hardware.row_order
        rows, columns = weights.shape[-2:]
        cut = Partition.of(1, rows, columns, spec.rows, mapping.outputs_per_tile(spec.cols), 1, order)
        of_one = weights.shape[1:-2].numel() * mapping.slices * mapping.arrays * cut.row_tiles * cut.col_tiles
        some = max(1, WRITTEN_CELLS // max(1, of_one * spec.rows * spec.cols))
        yield from zip(inputs.split(some), weights.split(some), strict=True)

    def _check(self, inputs: Tensor, weights: Tensor) -> None:
        if inputs.ndim < 2 or inputs.shape[:-2] != weights.shape[:-2] or inputs.shape[-1] != weights.shape[-2]:
            raise InputError(
                f"the factors of {type(self).__name__} have the wrong shapes",
                value=f"{tuple(inputs.shape)}, {tuple(weights.shape)}",
                limit="(*batch, vectors, inputs), (*batch, inputs, outputs)",
            )

    def _write(self, weights: Tensor) -> None:
        """New tiles for matrices (*batch, inputs, outputs)."""
        number, moment = self.writes, self.moment
        clipped, outcome = self.clipped_weights, self.outcome
        self._tiles = self._reading = None  # before there are others
        matrices = weights.detach().to(torch.float64).reshape(-1, *weights.shape[-2:])
        self._cell_dtype = cell_dtype(weights)
        self.register_buffer("weight", matrices, persistent=False)
        self._lay_out(matrices, persistent=False)
        super().program(Randomness(int(self.seed)).stream("write", number).key() >> 1)
        self.clipped_weights += clipped
        self.outcome = {name: self.outcome.get(name, 0) + outcome.get(name, 0) for name in {**outcome, **self.outcome}}
        self.read_at(moment)
        self.writes = number + 1

    @property
    def _scaling(self) -> Scaling | Literal["group"]:
        return "column" if self.hardware.scaling == "column" else "group"

    def _matrix(self, groups: int) -> Float[Tensor, "groups inputs outputs"]:
        return self.weight.to(torch.float64)

    def items(self, inputs: Tensor) -> Float[Tensor, "vectors groups inputs"]:
        return inputs.reshape(-1, *inputs.shape[-2:]).transpose(0, 1)

    def _vectors_per_item(self, items: Tensor) -> int:
        return 1

    def _images(self, drives: Tensor) -> Tensor:
        return drives

    def _vectors(self, images: Tensor) -> Tensor:
        return images.transpose(0, 1)

    def _assemble(self, results: Tensor, items: Tensor) -> Float[Tensor, "groups vectors outputs"]:
        return results.transpose(0, 1)

    def _count(self, place: int, count: int | Tensor) -> None:
        # A vector of the layer is one of every matrix.
        super()._count(place, count * self.partition.groups if place == 0 else count)
