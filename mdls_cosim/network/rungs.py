"""The same chip on another rung."""

from __future__ import annotations

from torch import nn

from mdls_cosim.analog.hardware import Rung
from mdls_cosim.fidelity import TileModel
from mdls_cosim.network.chips import analog_layers, copied
from mdls_cosim.tiles import TileSpec


def on_rung(model: nn.Module, rung: Rung, tile: TileSpec | TileModel | None = None) -> nn.Module:
    """A copy of a converted model whose tiles are computed on another rung.

    Programmed conductances and the ranges of all converters stay: what differs is the physics of the tiles alone.

    Args:
        model: converted; stays as it is.
        rung: for every analog layer.
        tile: replaces the tile of every analog layer; it must have as many rows and columns.

    Raises:
        ConfigError: the rung cannot compute the tile.
        InputError: a tile of another size.
    """
    moved = copied(model)
    for layer in analog_layers(moved).values():
        changes = {} if tile is None else {"tile": tile}
        hardware = layer.hardware.replace(rung=rung, **changes)
        hardware.tile_model()  # fails before any work is done
        layer.move(hardware)
    return moved
