"""What the place of strong weights in a tile is worth: the accuracy of the demo's CNN on handwritten digits.

    python benchmarks/placement.py

Prints a row for every tile and wire resistance: with weights in their order, and with `placement="permuted"`, which
puts strong rows next to the sense side and strong columns next to the driver. The error is that of the ten outputs, a
share of their RMS on tiles without wires. 6-bit converters, calibrated on ideal tiles; 50 - 500 uS.
"""

from __future__ import annotations

import torch

from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.cli.demo import trained_cnn
from mdls_cosim.network import convert, evaluate, on_rung
from mdls_cosim.network.data import digits
from mdls_cosim.tiles import TileSpec

SIZES = (32, 64)
WIRES = (1.0, 2.0, 5.0, 10.0)  # ohm a segment
CALIBRATION = 256  # images


def main() -> None:
    torch.set_num_threads(1)
    data = digits()
    training, test = data.train, data.test
    digital = trained_cnn(training, seed=0)
    print(f"float {evaluate(digital, test, 1)}")
    for size in SIZES:
        hardware = Hardware(
            tile=TileSpec(rows=size, cols=size, driver_resistance=10.0, sense_resistance=10.0),
            rung="ideal",
            dac=Dac(bits=6),
            adc=Adc(bits=6),
            conductance_range=(50e-6, 500e-6),
            weight_clip=3.0,
        )
        for wire in WIRES:
            spec = hardware.spec.replace(row_line_resistance=wire, column_line_resistance=wire)
            told = []
            for placement in ("linear", "permuted"):
                ideal, _ = convert(
                    digital, hardware.replace(placement=placement), calibration=training[0][:CALIBRATION]
                )
                wired = on_rung(ideal, "surrogate", spec)
                with torch.no_grad():
                    expected, found = ideal(test[0]), wired(test[0])
                error = float((found - expected).norm() / expected.norm())
                accuracy = evaluate(wired, test, 1).mean
                told.append(f"{placement} {100 * accuracy:5.1f} %, error {100 * error:5.1f} %")
            print(f"{size}x{size}, {wire:2g} ohm    {'    '.join(told)}")


if __name__ == "__main__":
    main()
