"""Noise of the cells at every read, as noise of what the converters get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mdls_cosim.analog.readers import CONVERSIONS, Layout, Reader, TileReader
from mdls_cosim.surrogates import CurrentNoise, OhmicNoise


class CellNoise(ABC):
    """Noise of the cells in the partials of a reader: normal, drawn anew for every vector, column and conversion.

    Of first order in the spread of the cells. While one ADC converts, a cell keeps its deviation: the deviations of
    non-linear tiles in the time slices of one read add up, which is the most that the sum can scatter. What row lines
    carry to other columns is left out.
    """

    def __init__(self, layout: Layout) -> None:
        mapping, part = layout.mapping, layout.partition
        self._layout = layout
        self._each_plane = replace(layout, analog=False)
        # Outputs of a tile share an offset column, and its noise.
        self._shared = mapping.name == "offset_column"
        self._merged = layout.analog and mapping.planes == 2 and not self._shared
        self._tile_of_output = torch.arange(part.outputs) // part.outputs_per_tile

    @torch.no_grad()  # of a generator: whoever draws from it keeps its own mode
    def drawn(self, slices: Sequence[tuple[float, Tensor]], generator: torch.Generator) -> Iterator[Tensor]:
        """What to add to the partials of one read, part after part.

        Args:
            slices: share of the time, and what the kernel slides over.
        """
        for parts in zip(*(self._variances(images.detach()) for _, images in slices), strict=True):
            deviations = [part.clamp_min(0.0).sqrt_() for part in parts]
            total = deviations[0]
            if len(slices) > 1 or slices[0][0] != 1:
                total = sum(share * part for (share, _), part in zip(slices, deviations, strict=True))
            assert isinstance(total, Tensor)
            yield self._draw(total, generator)

    @abstractmethod
    def _variances(self, images: Tensor) -> Iterator[Tensor]:
        """Of every conversion (of every plane, where planes share a column), in squares of the partials' units."""

    def _sum_planes(self, variances: Tensor, dim: int) -> Tensor:
        """(…, slices x planes, …) to (…, conversions, …), unless planes are drawn one by one."""
        return variances.unflatten(dim, (-1, 2)).sum(dim + 1) if self._merged else variances

    def _draw(self, deviations: Tensor, generator: torch.Generator) -> Tensor:
        def normal(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=deviations.dtype, device=deviations.device)

        if not self._shared:
            return normal(deviations.shape).mul_(deviations)
        signal, offset = deviations.unflatten(CONVERSIONS, (-1, 2)).unbind(CONVERSIONS + 1)
        tiles = self._tile_of_output.to(deviations.device)
        shape = torch.Size((*offset.shape[:-1], int(tiles[-1]) + 1))
        signal = normal(signal.shape).mul_(signal)
        offset = normal(shape).index_select(-1, tiles).mul_(offset)
        if self._layout.analog:
            return signal - offset
        return torch.stack([signal, offset], CONVERSIONS + 1).flatten(CONVERSIONS, CONVERSIONS + 1)


class LinearNoise(CellNoise):
    """Of linear tiles, through readers of their own: of squared matrices under squared voltages (`OhmicNoise`).

    Args:
        make_reader: of matrices (conversions, groups, row_tiles, inputs_per_tile, outputs).
        matrix: the effective conductances (arrays, *tiles, rows, cols) [S].
        unit: what one siemens counts in the partials at full drive.
        like: where, and in which dtype, to compute.
    """

    def __init__(
        self,
        layout: Layout,
        make_reader: Callable[[Tensor], Reader],
        terms: OhmicNoise,
        matrix: Tensor,
        unit: float,
        like: Tensor,
    ) -> None:
        super().__init__(layout)
        planes = self._each_plane
        squares = planes.matrix(terms.squares) * unit**2
        self._wired: tuple[Reader, Tensor] | None = None
        if terms.slopes is not None and terms.curvature is not None:
            both = torch.cat([planes.matrix(terms.slopes), planes.matrix(matrix)]) * unit
            reader = make_reader(both.to(like))
            curvature = planes.currents(terms.curvature.unsqueeze(-2))[..., 0, :]
            self._wired = reader, reader.spread(curvature.to(like))
        # The sum over planes is taken as early as the terms let us.
        self._squares = make_reader(self._sum_planes(squares, 0).to(like))

    def _variances(self, images: Tensor) -> Iterator[Tensor]:
        squared = self._squares.partials(images.square())
        if self._wired is None:
            yield from (variance for variance, _ in squared)
            return
        reader, curvature = self._wired
        for (variance, _), (both, where) in zip(squared, reader.partials(images), strict=True):
            slope, current = both.chunk(2, CONVERSIONS)
            here = curvature[:, where]
            yield variance + self._sum_planes(current * (slope + here * current), CONVERSIONS)


class TileNoise(CellNoise):
    """Of any tile whose cells have a law, by `CurrentNoise`; `per_ampere` is what one ampere counts in the partials.

    Beyond the voltage that `noise` is made for, its value there.
    """

    def __init__(
        self, layout: Layout, reader: TileReader, noise: CurrentNoise, largest: float, per_ampere: float
    ) -> None:
        super().__init__(layout)
        self._reader, self._noise, self._largest, self._per_ampere = reader, noise, largest, per_ampere

    def _variances(self, images: Tensor) -> Iterator[Tensor]:
        voltages = self._reader.voltages(images).unsqueeze(-3).clamp(-self._largest, self._largest)
        variances = (self._noise(voltages) * self._per_ampere).square()
        yield self._sum_planes(self._each_plane.currents(variances).movedim(0, CONVERSIONS), CONVERSIONS)
