"""What became of every layer in a conversion."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mdls_cosim.analog import AnalogLayer, Hardware
from mdls_cosim.surrogates import Surrogate


@dataclass(frozen=True)
class FittedSurrogate:
    """A surrogate by its origin: two of one origin are the same."""

    content_hash: str
    parents: tuple[str, ...]
    """Content hashes of the data that it was fitted to."""
    error: float | None
    """Its held-out RMS error, a share of the RMS current."""

    @classmethod
    def of(cls, hardware: Hardware) -> FittedSurrogate | None:
        """The one that computes the tiles of `hardware`; None on other rungs, and where nothing was fitted."""
        tile = hardware.tile
        if hardware.rung != "surrogate" or not isinstance(tile, Surrogate) or not tile.provenance.parents:
            return None
        error = None if tile.error is None else tile.error.rms
        return cls(tile.provenance.content_hash, tile.provenance.parents, error)

    def __str__(self) -> str:
        error = "" if self.error is None else f", error {100 * self.error:.3g} %"
        return f"{self.content_hash} from {', '.join(self.parents)}{error}"


@dataclass(frozen=True)
class ConvertedLayer:
    """One layer on tiles."""

    name: str
    """In the model; empty for the model itself."""
    kind: str
    shape: tuple[int, ...]
    """Of the weights."""
    arrays: int
    """Physical arrays, both of every pair and of every slice."""
    cells_used: int
    """Cells that hold a weight, or a part of one."""
    cells: int
    rung: str
    clipped_weights: int
    """Beyond the scale of the layer."""
    clipped_conductances: int
    """By the programming error, at the bounds of the cell."""
    outcome: dict[str, int] = field(default_factory=dict)
    """What else happened to cells at the programming, by effect: stuck, worn, failed, outside of the states."""
    surrogate: FittedSurrogate | None = None
    """Of the surrogate rung, what its tiles are computed by, where that was fitted."""

    @classmethod
    def of(cls, name: str, layer: AnalogLayer) -> ConvertedLayer:
        return cls(
            name=name,
            kind=type(layer).__name__,
            shape=tuple(layer.weight.shape),
            arrays=layer.arrays,
            cells_used=layer.cells_used,
            cells=layer.conductances.numel(),
            rung=layer.hardware.rung,
            clipped_weights=layer.clipped_weights,
            clipped_conductances=layer.clipped_conductances,
            outcome={name: count for name, count in layer.outcome.items() if name != "clipped"},
            surrogate=FittedSurrogate.of(layer.hardware),
        )


@dataclass(frozen=True)
class SkippedLayer:
    """One layer that stays digital."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """Which layers were converted, which were not and why, and what was clipped. `str()` gives a table."""

    converted: tuple[ConvertedLayer, ...]
    skipped: tuple[SkippedLayer, ...]
    seed: int
    calibrated: bool
    """Whether the DACs and ADCs of every converted layer know their ranges already."""
    unread: tuple[str, ...] = ()
    """Converted layers that nothing reached in the calibration: their weights are used elsewhere, or not at all."""
    unranged: tuple[str, ...] = ()
    """Converted layers whose converters have no range after the calibration: nothing, or only zeros, reached them. They
    take their range from the first input that is not zero."""
    cells: tuple[str, ...] = ()
    """Of each kind of cell on the converted layers: effects of a parameter set that act, those that are left out, the
    lifetime of the state, and warnings."""
    digital_products: tuple[str, ...] = ()
    """Weights and other tensors that the model itself multiplied by in the calibration, past any layer: such products
    are digital. With `attention="tiles"` also products of two activations that stayed digital."""
    untraced: dict[str, str] = field(default_factory=dict)
    """With `attention="tiles"`: modules that torch.fx cannot trace, and why. Products in their own `forward` are
    digital."""

    @property
    def clipped(self) -> int:
        """Weights and conductances clipped, over all layers."""
        return sum(layer.clipped_weights + layer.clipped_conductances for layer in self.converted)

    @property
    def surrogates(self) -> dict[FittedSurrogate, list[str]]:
        """Names of the layers on each fitted surrogate: more than one where origins are mixed in the network."""
        found: dict[FittedSurrogate, list[str]] = {}
        for layer in self.converted:
            if layer.surrogate is not None:
                found.setdefault(layer.surrogate, []).append(layer.name or "(model)")
        return found

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clipped": self.clipped}

    def __str__(self) -> str:
        rows = [("layer", "kind", "weights", "arrays", "cells used", "rung", "clipped", "cells")]
        rows += [
            (
                layer.name or "(model)",
                layer.kind,
                "x".join(map(str, layer.shape)),
                str(layer.arrays),
                f"{layer.cells_used}/{layer.cells}",
                layer.rung,
                f"{layer.clipped_weights} weights, {layer.clipped_conductances} cells",
                ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in layer.outcome.items()),
            )
            for layer in self.converted
        ]
        lines = [f"converted {len(self.converted)}, skipped {len(self.skipped)}, clipped {self.clipped}", *_table(rows)]
        if self.skipped:
            lines += [
                "skipped",
                *_table([(layer.name or "(model)", layer.kind, layer.reason) for layer in self.skipped]),
            ]
        lines += self.cells
        if self.unread:
            names = ", ".join(name or "(model)" for name in self.unread)
            lines.append(f"converted and never read in the calibration: {names}")
        if silent := [name or "(model)" for name in self.unranged if name not in self.unread]:
            lines.append(
                f"converters without a range, the calibration reached them with zeros only: {', '.join(silent)}"
            )
        if self.digital_products:
            lines.append(f"multiplied by digitally, past any layer: {', '.join(self.digital_products)}")
        if self.untraced:
            lines.append("not traced by torch.fx: attention in the forward of these modules stays digital")
            lines += _table(list(self.untraced.items()))
        if len(self.surrogates) > 1:
            lines.append(f"{len(self.surrogates)} surrogates of different origin")
            lines += [f"  {', '.join(names)}: {surrogate}" for surrogate, names in self.surrogates.items()]
        return "\n".join(lines)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
