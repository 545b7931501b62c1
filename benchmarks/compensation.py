"""What digital corrections take back of drift and of IR drop: the accuracy of the demo's CNN on handwritten digits.

    python benchmarks/compensation.py

Prints a row of accuracies for every time after the programming of phase-change cells (Nandakumar et al.; 8-bit
converters), and for every wire resistance of ohmic cells (6-bit converters, calibrated on ideal tiles).
"""

from __future__ import annotations

import torch

from mdls_cosim.analog import Adc, Dac, Hardware, Moment
from mdls_cosim.cli.demo import trained_cnn
from mdls_cosim.devices.variability import Variability
from mdls_cosim.network import calibrate_columns, compensate_drift, convert, evaluate, on_rung
from mdls_cosim.network.data import digits
from mdls_cosim.tiles import TileSpec

TIMES = ("20 s", "1 hour", "1 day", "30 day", "1 year")
WIRES = (5.0, 10.0, 20.0)  # ohm a segment
CHIPS = 5
CALIBRATION = 256  # images


def main() -> None:
    torch.set_num_threads(1)
    data = digits()
    training, test = data.train, data.test
    some = training[0][:CALIBRATION]
    digital = trained_cnn(training, seed=0)
    print(f"float                  {evaluate(digital, test, 1)}")

    phase_change = Hardware(
        tile=TileSpec(rows=32, cols=32),
        dac=Dac(bits=8),
        adc=Adc(bits=8),
        conductance_range=(0.1e-6, 25e-6),
        variability=Variability.from_parameters("phase_change_nandakumar"),
    )
    model, _ = convert(digital, phase_change, calibration=some)
    for time in TIMES:
        moment = Moment.of(time)
        print(f"{time:<8} as it is      {evaluate(model, test, CHIPS, moment=moment)}")
        print(f"{time:<8} one factor    {evaluate(model, test, CHIPS, moment=moment, prepare=compensate_drift)}")
        by_column = evaluate(model, test, CHIPS, moment=moment, prepare=lambda chip: calibrate_columns(chip, some))
        print(f"{time:<8} by column     {by_column}")

    ohmic = Hardware(
        tile=TileSpec(rows=32, cols=32, driver_resistance=10.0, sense_resistance=10.0),
        rung="ideal",
        dac=Dac(bits=6),
        adc=Adc(bits=6),
        conductance_range=(50e-6, 500e-6),
        weight_clip=3.0,
    )
    ideal, _ = convert(digital, ohmic, calibration=some)
    for wire in WIRES:
        wired = on_rung(ideal, "surrogate", ohmic.spec.replace(row_line_resistance=wire, column_line_resistance=wire))
        print(f"{wire:g} ohm    as it is      {evaluate(wired, test, 1)}")
        found = evaluate(wired, test, 1, prepare=lambda chip: calibrate_columns(chip, some))
        print(f"{wire:g} ohm    by column     {found}")


if __name__ == "__main__":
    main()
