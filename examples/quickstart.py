"""A torch model of your own on a tile characterized in ngspice: accuracy before and after.

Needs surrogate.h5, made from the tile in examples/tile.toml:

    mdls-cosim characterize examples/tile.toml --out tile.h5
    mdls-cosim fit tile.h5 --out surrogate.h5
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.network import convert, evaluate, train
from mdls_cosim.surrogates import load

surrogate = load(sys.argv[1] if len(sys.argv) > 1 else "surrogate.h5")
digits = load_digits(return_X_y=True)
inputs, labels = torch.tensor(digits[0] / 16).float(), torch.tensor(digits[1])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
train(model, (inputs[:1200], labels[:1200]), epochs=30, learning_rate=3e-3)

hardware = Hardware(tile=surrogate, states=6, dac=Dac(bits=6), adc=Adc(bits=6))
analog, report = convert(model, hardware, rules={"2": {"states": 16}}, calibration=inputs[:256])
print(report)
print("float ", evaluate(model, (inputs[1200:], labels[1200:]), runs=1))
print("tiles ", evaluate(analog, (inputs[1200:], labels[1200:]), runs=1))
