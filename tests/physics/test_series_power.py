"""The series surrogate's power against the exact solution, class by class: nothing of it is fitted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, INPUT_CLASSES, draw_conductances, draw_inputs
from mdls_cosim.devices import Device, PassiveTio2, PolynomialRead, Sinh
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.surrogates.series import START, SeriesSurrogate
from mdls_cosim.tiles import TileSpec


def tile(device: Device, rows: int, cols: int, wire: float = 1.0) -> TileSpec:
    return TileSpec(
        rows=rows, cols=cols, cell=device, row_line_resistance=wire, column_line_resistance=wire,
        driver_resistance=10.0, sense_resistance=10.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("device", "span", "largest"),
    [
        (Sinh(nonlinearity=3.0), (1e-6, 100e-6), 0.3),
        (Sinh(nonlinearity=6.0), (1e-6, 100e-6), 0.3),
        (Sinh(nonlinearity=10.0), (1e-6, 100e-6), 0.2),
        (PassiveTio2(), (2e-6, 98e-6), 0.3),
        (PolynomialRead(), (50e-6, 225e-6), 0.3),
    ],
    ids=lambda each: getattr(each, "model", None),
)
def test_it_is_within_one_percent_of_the_exact_power(device: Device, span: tuple[float, float], largest: float) -> None:
    rows, cols = 48, 40
    spec, generator = tile(device, rows, cols), np.random.default_rng(5)
    surrogate = SeriesSurrogate(spec, coefficients={**START, "amplitude": (largest,)})
    worst = 0.0
    for kind in CONDUCTANCE_CLASSES:
        conductances = torch.as_tensor(draw_conductances(kind, rows, cols, span, generator))
        exact, found = NodalTile(spec, tolerance=1e-8).program(conductances), surrogate.program(conductances)
        for each in INPUT_CLASSES:
            voltages = torch.as_tensor(draw_inputs(each, 3, rows, largest, generator))
            power = exact.power(voltages)
            missed = (found.power(voltages) - power).square().mean().sqrt() / power.square().mean().sqrt()
            worst = max(worst, float(missed))
    assert worst < 0.01


def test_without_wires_it_is_that_of_the_cells() -> None:
    # Of a cubic cell the series is the law itself.
    spec = tile(PolynomialRead(), 6, 5, wire=0.0).replace(driver_resistance=0.0, sense_resistance=0.0)
    conductances = 5e-5 + 1.5e-4 * torch.rand(2, 6, 5, dtype=torch.float64)
    voltages = 0.6 * torch.rand(2, 4, 6, dtype=torch.float64) - 0.3
    surrogate = SeriesSurrogate(spec, coefficients={**START, "amplitude": (0.3,)})
    volts = voltages[..., None]
    ideal = (volts * spec.device.current(volts, conductances[:, None])).sum((-2, -1))
    torch.testing.assert_close(surrogate.program(conductances).power(voltages), ideal, rtol=1e-9, atol=0)


def test_gradients_and_dtypes() -> None:
    spec = tile(Sinh(nonlinearity=3.0), 4, 3)
    surrogate = SeriesSurrogate(spec, coefficients={**START, "amplitude": (0.3,)})
    conductances = (1 + 90 * torch.rand(4, 3, dtype=torch.float64)).requires_grad_()
    voltages = (0.3 * torch.rand(2, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda g, v: 1e6 * surrogate.program(1e-6 * g).power(v), (conductances, voltages), atol=1e-4
    )
    assert surrogate.program(1e-6 * conductances.detach()).power(voltages.detach().float()).dtype == torch.float32
