"""mdls_cosim: memristor co-simulation from the device to the deep network."""

from importlib.metadata import version

__version__ = version("mdls_cosim")
