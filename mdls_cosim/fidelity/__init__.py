"""One interface, three of its four fidelities: ideal, nodal and SPICE (the fourth, the surrogate, has its own room)."""

from mdls_cosim.fidelity.ideal import IdealTile
from mdls_cosim.fidelity.interface import Programmed, TileModel
from mdls_cosim.fidelity.nodal import NodalTile, ProgrammedNodal
from mdls_cosim.fidelity.spice import SpiceTile

__all__ = ["IdealTile", "NodalTile", "Programmed", "ProgrammedNodal", "SpiceTile", "TileModel"]
