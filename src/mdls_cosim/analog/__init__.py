"""Layers of a network on memristor tiles: mapping, partition into tiles, DAC and ADC."""

from mdls_cosim.analog.conv import AnalogConv2d
from mdls_cosim.analog.counters import Counters
from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.analog.linear import AnalogLinear
from mdls_cosim.analog.mapping import ProgrammingError
from mdls_cosim.analog.partition import Partition
from mdls_cosim.analog.periphery import Adc, Dac, IdealAdc, IdealDac

__all__ = [
    "Adc",
    "AnalogConv2d",
    "AnalogLayer",
    "AnalogLinear",
    "Counters",
    "Dac",
    "Hardware",
    "IdealAdc",
    "IdealDac",
    "Partition",
    "ProgrammingError",
]
