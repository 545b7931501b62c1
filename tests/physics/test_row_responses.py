"""Tiles of steep cells, row by row, against Kirchhoff's laws."""

import numpy as np
import pytest
import torch
from kirchhoff import Tile

from mdls_cosim.characterize import CONDUCTANCE_CLASSES, draw_conductances, draw_inputs
from mdls_cosim.devices import ExponentialSelector, Ohmic, Sinh
from mdls_cosim.errors import DomainWarning, InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.surrogates import Domain, RowResponses, SeriesSurrogate, load
from mdls_cosim.surrogates.series import START
from mdls_cosim.tiles import SelectorCell, TileSpec, TransimpedanceAmplifier

SPAN = (1e-6, 1e-4)
INPUTS = ("dense", "sparse", "half_on", "signed")
STEEP = SelectorCell(device=Ohmic(), selector=ExponentialSelector(saturation_current=1e-9, slope_voltage=0.08))
BENT = SelectorCell(
    device=Sinh(nonlinearity=3.0), selector=ExponentialSelector(saturation_current=1e-8, slope_voltage=0.15)
)


def tile(rows: int, cols: int, cell, **changes) -> TileSpec:
    # So that the lines of few cells lose as much as those of many at 1 ohm.
    wires = {
        "row_line_resistance": 4.0, "column_line_resistance": 5.0, "driver_resistance": 12.0, "sense_resistance": 20.0,
    }  # fmt: skip
    return TileSpec(rows=rows, cols=cols, cell=cell, **{**wires, **changes})


def rows_of(spec: TileSpec, amplitude: float, **arguments) -> RowResponses:
    limits = {"amplitude": (amplitude,), "conductances": SPAN}
    return RowResponses(spec, coefficients=limits, **arguments)


def drawn(spec: TileSpec, amplitude: float, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """A tile of every class, and inputs of every class."""
    generator = np.random.default_rng(seed)
    tiles = [draw_conductances(kind, spec.rows, spec.cols, SPAN, generator) for kind in CONDUCTANCE_CLASSES]
    inputs = [[draw_inputs(kind, 3, spec.rows, amplitude, generator) for kind in INPUTS] for _ in tiles]
    return torch.as_tensor(np.stack(tiles)), torch.as_tensor(np.stack([np.concatenate(each) for each in inputs]))


def worst_class(found: torch.Tensor, exact: torch.Tensor) -> float:
    missed, scale = (each.reshape(len(CONDUCTANCE_CLASSES), len(INPUTS), -1) for each in (found - exact, exact))
    return float((missed.square().mean(-1) / scale.square().mean(-1)).sqrt().max())


@pytest.mark.parametrize("cell", [STEEP, BENT], ids=["ohmic behind 0.08 V", "sinh behind 0.15 V"])
@pytest.mark.parametrize("shape", [(16, 12), (6, 20)], ids=str)
def test_selectors_far_up_their_curve(cell, shape):
    spec = tile(*shape, cell)
    conductances, voltages = drawn(spec, 1.0)
    exact = NodalTile(spec).program(conductances)(voltages)
    assert worst_class(rows_of(spec, 1.0).program(conductances)(voltages), exact) < 2e-3
    # A power series of the fifth order is not for them, and the lines are worth their modelling.
    series = SeriesSurrogate(spec, coefficients={**START, "amplitude": (1.0,)})
    assert worst_class(series.program(conductances)(voltages), exact) > 2e-2
    ideal = NodalTile(spec.bare(*shape)).program(conductances)(voltages)
    assert worst_class(ideal, exact) > 5e-3


def test_the_column_lines_second_order_counts():
    """Against the reference, lines that take a tenth: without phi'' it is not within the bound."""
    spec = tile(12, 6, Sinh(nonlinearity=8.0), row_line_resistance=0.0, sense_resistance=150.0)
    conductances, voltages = drawn(spec, 0.3)
    exact = torch.stack(
        [
            torch.as_tensor(Tile.of(spec).solve(each.numpy(), some.numpy()).currents)
            for each, some in zip(conductances, voltages, strict=True)
        ]
    )
    programmed = rows_of(spec, 0.3).program(conductances)
    assert worst_class(programmed(voltages), exact) < 4e-3
    third = programmed.matrices.powers[2]
    third.zero_()
    assert worst_class(programmed(voltages), exact) > 8e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"drive": "double", "driver_resistance": 200.0, "row_line_resistance": 300.0},
        {"amplifier": TransimpedanceAmplifier(feedback_resistance=5e3, gain=200.0)},
        {"row_line_resistance": 0.0, "driver_resistance": 0.0},
        {"column_line_resistance": 0.0, "sense_resistance": 0.0},
        {"drive": "double", "row_line_resistance": 0.0, "driver_resistance": 0.0},
    ],
    ids=["both ends", "amplifier", "ideal rows", "ideal columns", "ideal rows, both ends"],
)
def test_other_circuits(changes):
    spec = tile(7, 5, BENT, **changes)
    conductances, voltages = drawn(spec, 1.0)
    exact = NodalTile(spec).program(conductances)(voltages)
    assert worst_class(rows_of(spec, 1.0).program(conductances)(voltages), exact) < 1e-3


@pytest.mark.parametrize(
    ("spec", "amplitude"),
    [
        (tile(16, 12, STEEP), 1.0),
        (tile(6, 20, BENT), 1.0),
        (tile(7, 5, BENT, drive="double", driver_resistance=200.0, row_line_resistance=300.0), 1.0),
        (tile(7, 5, BENT, amplifier=TransimpedanceAmplifier(feedback_resistance=5e3, gain=200.0)), 1.0),
        (tile(7, 5, BENT, column_line_resistance=0.0, sense_resistance=0.0), 1.0),
        (tile(12, 6, Sinh(nonlinearity=8.0), sense_resistance=150.0), 0.3),
    ],
    ids=["steep", "bent", "both ends", "amplifier", "ideal columns", "strong columns"],
)
def test_the_power_that_drivers_deliver(spec, amplitude):
    conductances, voltages = drawn(spec, amplitude)
    exact = NodalTile(spec).program(conductances).power(voltages)
    programmed = rows_of(spec, amplitude).program(conductances)
    assert worst_class(programmed.power(voltages), exact) < 4e-3
    assert programmed.reads == voltages.shape[:2].numel()
    # What the column lines' rise takes off it counts.
    lines = rows_of(spec.replace(column_line_resistance=0.0, sense_resistance=0.0, amplifier=None), amplitude)
    if spec.sense_resistance > 100:
        assert worst_class(lines.program(conductances).power(voltages), exact) > 2e-2


def test_strong_lines_converge():
    spec = tile(6, 8, STEEP, row_line_resistance=2e3, column_line_resistance=10.0, driver_resistance=5e3)
    conductances, voltages = drawn(spec, 1.5)
    exact = NodalTile(spec).program(conductances)(voltages)
    assert worst_class(rows_of(spec, 1.5).program(conductances)(voltages), exact) < 1e-2


def test_gradients():
    spec = tile(2, 2, BENT, driver_resistance=20e3, sense_resistance=5e3)  # so that lines shape the gradient
    generator = torch.Generator().manual_seed(1)
    cells = (1 + 90 * torch.rand(2, 2, dtype=torch.float64, generator=generator)).requires_grad_()
    inputs = (1.6 * torch.rand(1, 2, dtype=torch.float64, generator=generator) - 0.8).requires_grad_()
    surrogate = rows_of(spec, 1.0)
    assert torch.autograd.gradcheck(lambda g, v: 1e6 * surrogate.program(1e-6 * g)(v), (cells, inputs), atol=1e-5)


def test_tiles_dtypes_and_files(tmp_path):
    spec = tile(6, 5, STEEP)
    conductances, voltages = drawn(spec, 1.0)
    surrogate = rows_of(spec, 1.0)
    surrogate.save(tmp_path / "rows.h5")
    loaded = load(tmp_path / "rows.h5")
    assert isinstance(loaded, RowResponses)
    together = loaded.program(conductances)
    found = together(voltages)
    assert worst_class(together(voltages.float()).double(), found) < 1e-5
    torch.testing.assert_close(together(voltages), found, rtol=0, atol=0)
    alone = torch.stack([surrogate.program(g)(v) for g, v in zip(conductances, voltages, strict=True)])
    torch.testing.assert_close(alone, found, rtol=1e-9, atol=1e-18)
    assert not together(torch.zeros(2, 6, dtype=torch.float64)).abs().gt(1e-4 * found.abs().max()).any()


def test_beyond_the_amplitude_it_goes_on_along_its_tangent():
    spec = tile(3, 2, BENT, driver_resistance=0.0, sense_resistance=0.0).bare(3, 2)
    surrogate = rows_of(spec, 1.0, domain=Domain(rows=3, cols=2, input_voltage=1.0))
    programmed = surrogate.program(torch.full((3, 2), 5e-5, dtype=torch.float64))
    at = torch.tensor([[0.999, 0.0, 0.0], [1.0, 0.0, 0.0], [1.2, 0.0, 0.0]], dtype=torch.float64)
    with pytest.warns(DomainWarning, match="input voltage"):
        below, edge, beyond = programmed(at)[:, 0].tolist()
    assert (beyond - edge) / 0.2 == pytest.approx((edge - below) / 1e-3, rel=2e-2)


def test_other_coefficients_are_refused():
    with pytest.raises(InputError, match=r"another form of surrogate.*fit the surrogate again"):
        RowResponses(tile(3, 3, STEEP), coefficients={"amplitude": (1.0,)})
