"""Reads of the tiles of a layer: through a tile model, as matrix products, or as convolutions.

`layout` maps the numbers of tiles to the weights of a layer, `window` describes the sliding window of a convolution,
and `backends` computes the currents of all row tiles before their conversion.
"""

from mdls_cosim.analog.readers.backends import (
    ConvolutionReader,
    MatrixReader,
    ProductReader,
    Reader,
    TapReader,
    TileReader,
)
from mdls_cosim.analog.readers.layout import CONVERSIONS, LaidTerm, Layout
from mdls_cosim.analog.readers.window import Window

__all__ = [
    "CONVERSIONS",
    "ConvolutionReader",
    "LaidTerm",
    "Layout",
    "MatrixReader",
    "ProductReader",
    "Reader",
    "TapReader",
    "TileReader",
    "Window",
]
