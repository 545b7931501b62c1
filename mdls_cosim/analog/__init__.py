"""Layers of a network on memristor tiles: mapping, partition into tiles, DAC and ADC."""

from mdls_cosim.analog.accumulator import Accumulator
from mdls_cosim.analog.adc import Adc, IdealAdc, LogarithmicAdc
from mdls_cosim.analog.attention import AnalogMultiheadAttention, AnalogTransformerEncoderLayer
from mdls_cosim.analog.composite import Composite
from mdls_cosim.analog.conv import (
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv3d,
    AnalogConvTranspose1d,
    AnalogConvTranspose2d,
    AnalogConvTranspose3d,
)
from mdls_cosim.analog.counters import Counters
from mdls_cosim.analog.dac import BitSerialDac, Dac, IdealDac, PulseWidthDac
from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer, Moment
from mdls_cosim.analog.linear import AnalogLinear, AnalogMatrix
from mdls_cosim.analog.mapping import Mapping
from mdls_cosim.analog.partition import Partition
from mdls_cosim.analog.product import AnalogProduct, MatrixProduct
from mdls_cosim.analog.recurrent import AnalogGRU, AnalogGRUCell, AnalogLSTM, AnalogLSTMCell, AnalogRNN, AnalogRNNCell

__all__ = [
    "Accumulator",
    "Adc",
    "AnalogConv1d",
    "AnalogConv2d",
    "AnalogConv3d",
    "AnalogConvTranspose1d",
    "AnalogConvTranspose2d",
    "AnalogConvTranspose3d",
    "AnalogGRU",
    "AnalogGRUCell",
    "AnalogLSTM",
    "AnalogLSTMCell",
    "AnalogLayer",
    "AnalogLinear",
    "AnalogMatrix",
    "AnalogMultiheadAttention",
    "AnalogProduct",
    "AnalogRNN",
    "AnalogRNNCell",
    "AnalogTransformerEncoderLayer",
    "BitSerialDac",
    "Composite",
    "Counters",
    "Dac",
    "Hardware",
    "IdealAdc",
    "IdealDac",
    "LogarithmicAdc",
    "Mapping",
    "MatrixProduct",
    "Moment",
    "Partition",
    "PulseWidthDac",
]
