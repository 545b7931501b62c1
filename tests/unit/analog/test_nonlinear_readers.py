"""Tiles of non-linear cells, read as products or convolutions of functions of the voltages, against the tiles."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mdls_cosim.analog import Accumulator, Adc, AnalogConv1d, AnalogConv2d, AnalogLinear, Hardware, PulseWidthDac
from mdls_cosim.analog.readers import ConvolutionReader, MatrixReader, TapReader, TileReader
from mdls_cosim.devices import PolynomialRead, Sinh
from mdls_cosim.devices.variability import ReadNoise, Variability
from mdls_cosim.errors import DomainWarning
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.fidelity.products import Products, Term
from mdls_cosim.surrogates import Domain, HeldOutError, SeriesSurrogate
from mdls_cosim.surrogates.series import START
from mdls_cosim.tiles import TileSpec

READ = 0.2
WIRES = {
    "row_line_resistance": 8.0,
    "column_line_resistance": 5.0,
    "driver_resistance": 60.0,
    "sense_resistance": 40.0,
}
CELLS = {"odd": (Sinh(nonlinearity=9.0), (1e-6, 1e-4)), "even": (PolynomialRead(), (5e-5, 2.25e-4))}
READERS = {
    "channels": (ConvolutionReader, {"rows": 9}),
    "taps": (TapReader, {"rows": 3}),
    "dense": (MatrixReader, {"rows": 5}),
    "linear": (MatrixReader, {"rows": 5}),
}


def series(rows, cols, cell, error=None, amplitude=READ):
    spec = TileSpec(rows=rows, cols=cols, cell=cell, **WIRES)
    told = None if error is None else HeldOutError(rms=error, p99=3 * error, classes={"all": error}, bound=3 * error)
    return SeriesSurrogate(spec, coefficients={**START, "amplitude": (amplitude,)}, error=told)


def layer_of(kind, cells="odd", error=None, groups=1, **changes):
    cell, span = CELLS[cells]
    surrogate = series(READERS[kind][1]["rows"], 4, cell, error)
    hardware = Hardware(
        tile=surrogate, conductance_range=span, row_order="auto" if kind == "linear" else kind, read_voltage=READ
    ).replace(**changes)
    torch.manual_seed(1)
    if kind == "linear":
        digital, shape = nn.Linear(12, 5), (6, 12)
    else:
        digital, shape = nn.Conv2d(4, 6, 2, padding=1, groups=groups), (3, 4, 4, 3)
    digital = digital.double()
    made = (AnalogLinear.from_linear if kind == "linear" else AnalogConv2d.from_conv)(digital, hardware, seed=3)
    return made, torch.randn(shape, dtype=torch.float64)


def through_tiles(layer):
    """The same layer, whose tiles are read one by one."""
    programmed = layer.hardware.tile_model().program(layer.conductances.clone())

    class Whole:
        matrix = products = None
        largest_voltage = math.inf
        conductances = layer.conductances

        def __call__(self, voltages):
            return programmed(voltages)

    whole = Whole()
    layer.programmed = lambda: whole
    return layer


@torch.no_grad()
@pytest.mark.parametrize("mapping", ["pair", "interleaved_pair", "offset_column", "digital_offset"])
@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("kind", READERS)
def test_they_are_the_tiles(kind, cells, mapping):
    for subtraction in ("analog", "digital"):
        if mapping == "digital_offset" and subtraction == "analog":
            continue
        changes = {"mapping": mapping, "subtraction": subtraction, "slices": 2, "states": 4}
        layer, x = layer_of(kind, cells, **changes)
        tiles = through_tiles(layer_of(kind, cells, **changes)[0])
        found, expected = layer(x), tiles(x)
        assert type(layer._reading.reader) is READERS[kind][0]
        assert type(tiles._reading.reader) is TileReader
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("kind", READERS)
def test_with_converters_time_slices_and_groups(kind):
    """Pulses of different width drive other rows in every time slice, and no mean voltage stands for them."""
    changes = {
        "dac": PulseWidthDac(bits=3),
        "adc": Adc(bits=6, offset=1.0, gain_error=0.05),
        "accumulator": Accumulator(bits=9),
    }
    layer, x = layer_of(kind, groups=1 if kind == "linear" else 2, **changes)
    tiles = through_tiles(layer_of(kind, groups=1 if kind == "linear" else 2, **changes)[0])
    layer(x), tiles(x)
    layer.current_peak.mul_(1.0137)  # no current is halfway between codes by construction
    tiles.current_peak.copy_(layer.current_peak)
    found, expected = layer(x), tiles(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
    assert layer.counters == tiles.counters


@pytest.mark.filterwarnings("ignore:weights on tiles get no gradient")  # backward() asks all leaves
def test_gradients_are_those_through_the_tiles():
    for kind in READERS:
        layer, x = layer_of(kind)
        tiles = through_tiles(layer_of(kind)[0])
        gradients = []
        for each in (layer, tiles):
            given = x.clone().requires_grad_()
            each(given).square().sum().backward()
            gradients.append(given.grad)
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-8 * float(gradients[1].abs().max()))


@torch.no_grad()
def test_one_axis_in_single_precision():
    cell, span = CELLS["odd"]
    hardware = Hardware(tile=series(6, 4, cell), conductance_range=span, read_voltage=READ)
    digital = nn.Conv1d(4, 3, 3, stride=2)
    layer, tiles = (AnalogConv1d.from_conv(digital, hardware) for _ in range(2))
    x = torch.randn(2, 4, 11)
    expected = through_tiles(tiles)(x)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert type(layer._reading.reader) is ConvolutionReader


@torch.no_grad()
def test_beyond_the_domain_tiles_are_read_and_counted():
    """Products count nothing, so they serve within the domain alone."""
    cell, span = CELLS["odd"]
    spec = TileSpec(rows=5, cols=4, cell=cell, **WIRES)
    narrow = SeriesSurrogate(
        spec, coefficients={**START, "amplitude": (READ,)}, domain=Domain(rows=5, cols=4, input_voltage=0.5 * READ)
    )
    layer = AnalogLinear(12, 5, hardware=Hardware(tile=narrow, conductance_range=span, read_voltage=READ))
    with pytest.warns(DomainWarning, match="voltage"):
        layer(torch.randn(3, 12))
    assert type(layer._reading.reader) is TileReader
    assert layer.counters.outside["input voltage"] > 0


@torch.no_grad()
def test_noise_of_non_linear_cells_is_drawn_from_their_tiles():
    noisy = Variability(effects=(ReadNoise(relative=0.01),))
    layer, x = layer_of("linear", variability=noisy)
    first, second = layer(x), layer(x)
    assert type(layer._reading.reader) is TileReader
    assert not torch.equal(first, second)


@torch.no_grad()
@pytest.mark.parametrize("cells", CELLS)
def test_few_functions_leave_out_what_they_may(cells):
    """As few functions as leave a tenth of the surrogate's own error, on inputs of every kind."""
    cell, span = CELLS[cells]
    generator = torch.Generator().manual_seed(0)
    conductances = span[0] + (span[1] - span[0]) * torch.rand((3, 24, 16), generator=generator, dtype=torch.float64)
    exact = series(24, 16, cell).program(conductances)
    counts = []
    for error in (1e-2, 1e-3, 1e-5, None):
        products = series(24, 16, cell, error).program(conductances).products
        counts.append([len(each.polynomials) for each in (products.direct, products.rise, products.slope)])
        for name, draw in {
            "dense": lambda shape: torch.rand(shape, generator=generator, dtype=torch.float64),
            "signed": lambda shape: 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1,
            "one": lambda shape: torch.eye(shape[-1], dtype=torch.float64)[: shape[1]].expand(shape),
        }.items():
            voltages = READ * draw((3, 20, 24))
            expected = exact(voltages)
            missed = (products.currents(voltages) - expected).square().mean().sqrt()
            limit = 1e-9 if error is None else 0.1 * error
            assert float(missed / expected.square().mean().sqrt()) < 2 * limit, (name, error)
    assert counts[0] < counts[-1]
    assert counts == sorted(counts)


def test_a_term_is_its_polynomials():
    generator = torch.Generator().manual_seed(0)
    matrices = {power: torch.randn((2, 5, 3), generator=generator, dtype=torch.float64) for power in (1, 3, 4)}
    term, voltages = Term.powers(matrices), torch.randn((2, 7, 5), generator=generator, dtype=torch.float64)
    expected = sum(voltages**power @ matrix for power, matrix in matrices.items())
    torch.testing.assert_close(Products(term).currents(voltages), expected)
    whole = term.shortened(0.7, 0.0)
    assert len(whole.polynomials) <= 4
    torch.testing.assert_close(Products(whole).currents(voltages), expected)
    scaled = term.scaled(0.3, 1e6)
    torch.testing.assert_close(1e-6 * Products(scaled).currents(voltages / 0.3), expected)


def test_the_form_keeps_its_units():
    """A + R (S + R^2) in other units of voltage and current is the same current."""
    cell, span = CELLS["odd"]
    conductances = torch.as_tensor(np.random.default_rng(0).uniform(*span, (6, 5)))
    products = series(6, 5, cell).program(conductances).products
    voltages = READ * torch.rand((4, 6), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = products.scaled(READ, 3e5).currents(voltages / READ) / 3e5
    torch.testing.assert_close(found, products.currents(voltages), rtol=1e-9, atol=0)


@torch.no_grad()
def test_the_network_reads_what_circuits_would():
    """Against Kirchhoff's laws at every cell: the surrogate's error stays that of the unfitted series."""
    layer, x = layer_of("channels")
    exact = AnalogConv2d.from_conv(
        nn.Conv2d(4, 6, 2, padding=1).double(), layer.hardware.replace(tile=layer.hardware.spec, rung="nodal")
    )
    exact.weight.copy_(layer.weight)
    exact.bias.copy_(layer.bias)
    exact.program(3)
    assert isinstance(exact.hardware.tile_model(), NodalTile)
    expected = exact(x)
    missed = (layer(x) - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < float(missed) < 5e-3
