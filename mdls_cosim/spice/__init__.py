"""Circuits as text, and ngspice behind one interface: decks in, checked operating points out."""

from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.elements import format_number
from mdls_cosim.spice.engine import Engine, EngineInfo
from mdls_cosim.spice.library import model_names, read_model
from mdls_cosim.spice.ngspice import SLOW_CELLS, NgspiceEngine
from mdls_cosim.spice.points import OperatingPoints
from mdls_cosim.spice.transient import Waveforms, Waves

__all__ = [
    "SLOW_CELLS",
    "Deck",
    "Engine",
    "EngineInfo",
    "NgspiceEngine",
    "OperatingPoints",
    "Waveforms",
    "Waves",
    "format_number",
    "model_names",
    "read_model",
]
