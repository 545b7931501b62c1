"""Tiles: the crossbar as a circuit, and as a SPICE deck."""

from mdls_cosim.tiles.deck import column_net, row_net, tile_deck
from mdls_cosim.tiles.spec import TileSpec

__all__ = ["TileSpec", "column_net", "row_net", "tile_deck"]
