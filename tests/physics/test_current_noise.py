"""Noise of cells at the columns: against the exact linear response of every cell, and against draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, INPUT_CLASSES, draw_conductances, draw_inputs
from mdls_cosim.devices import Device, Ohmic, PolynomialRead, Sinh
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.fidelity.elimination import Wires, factorise
from mdls_cosim.surrogates.noise import CurrentNoise
from mdls_cosim.tiles import TileSpec, TransimpedanceAmplifier


def tile(device: Device, rows: int, cols: int, ends: float = 10.0) -> TileSpec:
    return TileSpec(
        rows=rows, cols=cols, cell=device, row_line_resistance=1.0, column_line_resistance=1.0,
        driver_resistance=ends, sense_resistance=ends,
    )  # fmt: skip


def exact_noise(
    spec: TileSpec, conductances: torch.Tensor, spread: torch.Tensor, voltages: torch.Tensor
) -> torch.Tensor:
    """(batch, cols), from what a source at each cell, one by one, does to every column of the linearised solution."""
    device, cells = spec.device, spec.rows * spec.cols
    found = []
    for across in NodalTile(spec).program(conductances).cell_voltages(voltages):
        volts = across.clone().requires_grad_()
        current = device.current(volts, device.state_for(conductances, 0.0))
        (slope,) = torch.autograd.grad(current.sum(), volts)
        sources = torch.diag((spread * current.detach()).flatten()).reshape(cells, spec.rows, spec.cols)
        drives = torch.zeros(spec.rows, cells, dtype=torch.float64)
        _, currents = factorise(slope, Wires.of(spec)).solve(drives, sources.permute(2, 1, 0).contiguous())
        found.append(currents.square().sum(-1).sqrt())
    return torch.stack(found)


@pytest.mark.parametrize(
    ("device", "span", "largest", "within"),
    [
        (Ohmic(), (1e-6, 100e-6), 0.3, 0.01),
        (Sinh(nonlinearity=3.0), (1e-6, 100e-6), 0.3, 0.03),
        # Other columns' share and rises of higher order are left out: a tenth at the worst read.
        (Sinh(nonlinearity=10.0), (1e-6, 100e-6), 0.2, 0.12),
        (PolynomialRead(), (50e-6, 225e-6), 0.3, 0.03),
    ],
    ids=lambda each: getattr(each, "model", None),
)
@pytest.mark.parametrize("kind", CONDUCTANCE_CLASSES)
def test_it_is_that_of_every_cell_by_itself(device, span, largest, within, kind) -> None:
    spec, generator = tile(device, 18, 14), np.random.default_rng(3)
    conductances = torch.as_tensor(draw_conductances(kind, 18, 14, span, generator))
    spread = torch.as_tensor(generator.uniform(0.0, 0.1, (18, 14)))
    voltages = torch.as_tensor(np.concatenate([draw_inputs(each, 2, 18, largest, generator) for each in INPUT_CLASSES]))
    found = CurrentNoise(spec, conductances, spread, largest)(voltages)
    exact = exact_noise(spec, conductances, spread, voltages)
    scale = exact.square().mean(-1, keepdim=True).sqrt()
    assert float(((found - exact) / scale).abs().max()) < within


def test_draws_of_the_cells_scatter_by_it() -> None:
    spec, generator = tile(Ohmic(), 9, 6, ends=200.0), torch.Generator().manual_seed(0)
    conductances = 1e-6 + 99e-6 * torch.rand(9, 6, dtype=torch.float64, generator=generator)
    voltages = 0.6 * torch.rand(4, 9, dtype=torch.float64, generator=generator) - 0.3
    drawn = conductances * (1 + 0.02 * torch.randn(4000, 9, 6, dtype=torch.float64, generator=generator))
    scatter = NodalTile(spec).program(drawn)(voltages).std(0)
    found = CurrentNoise(spec, conductances, 0.02, 0.3)(voltages)
    # 4000 draws know a standard deviation to 1.1 %.
    torch.testing.assert_close(found, scatter, rtol=0.045, atol=0)


def test_lines_that_differ() -> None:
    generator = np.random.default_rng(4)
    names = ("row_line_resistance", "column_line_resistance", "driver_resistance", "sense_resistance")
    each = {name: tuple(generator.uniform(0, 40, 6 if index % 2 else 9)) for index, name in enumerate(names)}
    spec = tile(Ohmic(), 9, 6).replace(**each)
    conductances = torch.as_tensor(draw_conductances("uniform", 9, 6, (1e-6, 100e-6), generator))
    spread = torch.as_tensor(generator.uniform(0.0, 0.1, (9, 6)))
    voltages = torch.as_tensor(generator.uniform(-0.3, 0.3, (4, 9)))
    found = CurrentNoise(spec, conductances, spread, 0.3)(voltages)
    exact = exact_noise(spec, conductances, spread, voltages)
    scale = exact.square().mean(-1, keepdim=True).sqrt()
    assert float(((found - exact) / scale).abs().max()) < 0.03


def test_an_amplifier_passes_its_share_of_the_noise() -> None:
    amplifier = TransimpedanceAmplifier(feedback_resistance=2e3, gain=9.0)
    spec = tile(Ohmic(), 5, 4, ends=20.0)
    conductances = 1e-6 + 99e-6 * torch.rand(5, 4, dtype=torch.float64)
    voltages = 0.3 * torch.rand(3, 5, dtype=torch.float64)
    # Its input is 2 kohm/(1 + 9), and of the column's current it tells 9 tenths.
    at_rest = CurrentNoise(spec.replace(sense_resistance=220.0), conductances, 0.05, 0.3)(voltages)
    found = CurrentNoise(spec.replace(amplifier=amplifier), conductances, 0.05, 0.3)(voltages)
    torch.testing.assert_close(found, 0.9 * at_rest, rtol=1e-12, atol=0)


def test_tiles_side_by_side_dtypes_and_no_spread() -> None:
    spec = tile(Sinh(nonlinearity=3.0), 5, 4)
    conductances = 1e-6 + 99e-6 * torch.rand(2, 3, 5, 4, dtype=torch.float64)
    voltages = 0.3 * torch.rand(2, 3, 7, 5, dtype=torch.float64)
    whole = CurrentNoise(spec, conductances, 0.05, 0.3)(voltages)
    assert whole.shape == (2, 3, 7, 4)
    single = CurrentNoise(spec, conductances[1, 2], 0.05, 0.3)(voltages[1, 2])
    torch.testing.assert_close(whole[1, 2], single)
    assert CurrentNoise(spec, conductances, 0.05, 0.3)(voltages.float()).dtype == torch.float32
    assert not CurrentNoise(spec, conductances, 0.0, 0.3)(voltages).any()
    for spread, largest in ((-0.1, 0.3), (float("nan"), 0.3), (0.1, 0.0)):
        with pytest.raises(InputError):
            CurrentNoise(spec, conductances, spread, largest)


def test_what_cannot_be_is_refused() -> None:
    spec = tile(Ohmic(), 5, 4)
    conductances = torch.full((5, 4), 5e-5, dtype=torch.float64)
    for wrong, said in (
        (conductances.mT, r"wrong shape.*\(4, 5\)"),
        (-conductances, "negative"),
        (conductances * torch.nan, "not finite"),
    ):
        with pytest.raises(InputError, match=said):
            CurrentNoise(spec, wrong, 0.05, 0.3)
    with pytest.raises(InputError, match="100 S"):
        CurrentNoise(tile(PolynomialRead(), 5, 4), conductances + 100.0, 0.05, 0.3)
    with pytest.raises(InputError, match=r"spread.*broadcast.*\(3,\)"):
        CurrentNoise(spec, conductances, torch.full((3,), 0.05), 0.3)
    noise = CurrentNoise(spec, conductances, 0.05, 0.3)
    for voltages, said in (
        (torch.zeros(5), "wrong shape"),
        (torch.zeros(2, 4), "wrong shape"),
        (torch.full((1, 5), torch.nan), "not finite"),
        (torch.full((1, 5), -0.31), r"beyond those.*0\.31 V.*allowed 0\.3 V"),
    ):
        with pytest.raises(InputError, match=said):
            noise(voltages)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):  # the largest itself, as each dtype has it
        assert noise(torch.full((1, 5), 0.3, dtype=dtype)).dtype == dtype
    assert noise(torch.zeros(0, 5)).shape == (0, 4)
