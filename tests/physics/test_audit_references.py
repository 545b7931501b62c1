"""Audits against richer circuits in ngspice: the error told apart is what the richer circuit has more, by hand."""

import math

import pytest
import torch
from torch import nn

from mdls_cosim.analog import BitSerialDac, Hardware, PulseWidthDac
from mdls_cosim.errors import ConfigError, InputError, NotAvailable
from mdls_cosim.fidelity import IdealTile, NodalTile
from mdls_cosim.network import audit, convert
from mdls_cosim.network.experiment_audit import read_tile
from mdls_cosim.tiles import TileSpec

LOWEST, HIGHEST = 1e-6, 100e-6
SERIES = 1e4
ONE = TileSpec(rows=1, cols=1, driver_resistance=SERIES)
INPUTS = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64)[:, None]


def one_weight(spec=ONE, **changes):
    """A network of one weight: a pair of cells of the highest and the lowest conductance."""
    layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(layer.weight)
    return convert(nn.Sequential(layer), Hardware(tile=spec, **changes), calibration=INPUTS)[0]


def relative(own, reference):
    """RMS error of a pair's currents, of their RMS."""
    missed = sum((one - other) ** 2 for one, other in zip(own, reference, strict=True))
    return math.sqrt(missed / sum(other**2 for other in reference))


def test_a_subcircuit_of_ones_own(tmp_path):
    (tmp_path / "own.sub").write_text(".subckt own p n g=1u\nRown p n {1/g+1000}\n.ends own\n")
    (tmp_path / "own.toml").write_text('pins = ["row", "column"]\n[state]\nparameter = "g"\nquantity = "conductance"\n')
    (tmp_path / "richer.toml").write_text(
        '[tile]\nrows = 1\ncols = 1\ndriver_resistance = "10 kohm"\n'
        '[tile.cell]\nmodel = "subcircuit"\nfile = "own.sub"\n'
    )
    report = audit(one_weight(), INPUTS, samples=5, reference_tile=read_tile(tmp_path / "richer.toml"), workers=1)
    (layer,) = report.layers
    assert layer.fit.rms < 1e-9
    series = [1 / (1 / g + SERIES) for g in (HIGHEST, LOWEST)]
    richer = [1 / (1 / g + SERIES + 1000) for g in (HIGHEST, LOWEST)]
    assert layer.model.rms == pytest.approx(relative(series, richer), rel=1e-6)
    assert layer.error.rms == pytest.approx(layer.model.rms, rel=1e-6)
    assert not report.settling_left_out


def test_transistors(tmp_path):
    path = tmp_path / "richer.toml"
    path.write_text(
        "rows = 4\ncols = 3\n"
        'row_line_resistance = "5 ohm"\ncolumn_line_resistance = "5 ohm"\n'
        '[cell]\nmodel = "transistor"\ngate_voltage = "1.8 V"\ndevice = { model = "ohmic" }\n'
        '[cell.transistor]\nthreshold_voltage = "0.5 V"\ntransconductance = "200 uA / V^2"\n'
    )
    richer = read_tile(path)
    own = TileSpec(rows=4, cols=3, row_line_resistance=5.0, column_line_resistance=5.0)
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 6, generator=generator))
    inputs = torch.rand(12, 6, generator=generator, dtype=torch.float64)
    model, _ = convert(nn.Sequential(layer), Hardware(tile=own), calibration=inputs)
    (found,) = audit(model, inputs, samples=5, reference_tile=richer, workers=1).layers
    (expected,) = audit(model, inputs, samples=5, reference_tile=richer, reference=NodalTile).layers
    assert found.fit.rms < 1e-9
    assert found.model.rms == pytest.approx(expected.model.rms, abs=2e-6)  # ngspice's own tolerance of 1T1R
    assert found.model.rms > 1e-3


def test_capacitances_show_at_a_time_and_not_at_rest():
    """A driver R charges the row's C beside the cell: I(t) = I (1 - exp(-t/tau)), tau = C/(1/R + G)."""
    capacitance, when = 100e-15, 1e-9
    richer = ONE.replace(row_line_capacitance=capacitance)
    model = one_weight()
    (layer,) = audit(model, INPUTS, samples=5, reference_tile=richer, read_time=when, workers=1).layers
    rest = [1 / (1 / g + SERIES) for g in (HIGHEST, LOWEST)]
    risen = [1 - math.exp(-when * (1 / SERIES + g) / capacitance) for g in (HIGHEST, LOWEST)]
    expected = relative(rest, [each * share for each, share in zip(rest, risen, strict=True)])
    assert expected > 0.1
    assert layer.model.rms == pytest.approx(expected, rel=0.02)  # the rows take 10 ps to rise
    assert layer.fit.rms < 1e-9
    # The layer's own circuit has them as well: what is left is that it is read at rest.
    report = audit(one_weight(richer), INPUTS, samples=5, read_time=when, workers=1)
    assert report.layers[0].model.rms == pytest.approx(layer.model.rms, rel=1e-6)
    assert report.read_time == when
    assert not report.settling_left_out
    report = audit(model, INPUTS, samples=5, reference_tile=richer, workers=1)
    assert report.settling_left_out
    assert report.layers[0].model.rms < 1e-9
    (late,) = audit(model, INPUTS, samples=2, reference_tile=richer, read_time=50e-9, workers=1).layers
    assert late.model.rms < 1e-6


def test_bits_are_read_at_their_time_and_pulses_are_refused():
    richer = ONE.replace(row_line_capacitance=100e-15)
    (bits,) = audit(
        one_weight(dac=BitSerialDac(bits=3)), INPUTS, samples=5, reference_tile=richer, read_time=1e-9, workers=1
    ).layers
    (plain,) = audit(one_weight(), INPUTS, samples=5, reference_tile=richer, read_time=1e-9, workers=1).layers
    assert bits.model.rms == pytest.approx(plain.model.rms, rel=1e-3)
    with pytest.raises(NotAvailable, match="PulseWidthDac"):
        audit(one_weight(dac=PulseWidthDac(bits=3)), INPUTS, samples=5, reference_tile=richer, read_time=1e-9)


def test_a_time_needs_something_that_settles_and_ngspice():
    with pytest.raises(ConfigError, match="settles at once"):
        audit(one_weight(), INPUTS, samples=2, read_time=1e-9)
    with pytest.raises(InputError, match="read_time"):
        audit(one_weight(), INPUTS, samples=2, read_time=1e-9, reference=IdealTile)
