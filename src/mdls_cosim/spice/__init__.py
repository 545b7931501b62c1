"""Circuits as text, and ngspice behind one interface: decks in, checked operating points out."""

from mdls_cosim.spice.deck import Deck
from mdls_cosim.spice.elements import format_number
from mdls_cosim.spice.engine import Engine, EngineInfo, OperatingPoints
from mdls_cosim.spice.library import model_names, read_model
from mdls_cosim.spice.ngspice import NgspiceEngine

__all__ = [
    "Deck",
    "Engine",
    "EngineInfo",
    "NgspiceEngine",
    "OperatingPoints",
    "format_number",
    "model_names",
    "read_model",
]
