"""The variability of a parameter set, draws beyond the range of the device, and what is said of the cells."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mdls_cosim.analog import AnalogLinear, Hardware, Moment
from mdls_cosim.analog.cell_lines import cell_lines
from mdls_cosim.analog.layer import HELD
from mdls_cosim.devices import MetastableSwitch, Ohmic, PhaseChange, Sinh, Vteam
from mdls_cosim.devices.variability import (
    CycleToCycle,
    DeviceToDevice,
    Drift,
    Endurance,
    Lognormal,
    OwnRetention,
    ProgrammingError,
    ReadDisturb,
    ReadNoise,
    Stuck,
    Variability,
)
from mdls_cosim.errors import ConfigError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.network import analog_layers, convert, evaluate, on_rung
from mdls_cosim.network.experiment.units import Bench, converted
from mdls_cosim.surrogates.series import START, SeriesSurrogate
from mdls_cosim.tiles import SelectorCell, StateDeclaration, SubcircuitCell, TileSpec

SET = "phase_change_nandakumar"
YEAR = 3.2e7


def tile(cell, **more) -> TileSpec:
    return TileSpec(rows=6, cols=6, cell=cell, **more)


def effects(*several) -> Variability:
    return Variability(effects=several)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(40, 8, generator=generator), torch.arange(40) % 3


@pytest.fixture
def own_set(tmp_path):
    """A calibrated set, as `calibrate` writes it for cycles of a loop."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[device]\nmodel = "vteam"\non_resistance = "10 kohm"\noff_resistance = "1 Mohm"\n'
        '[[variability.effects]]\neffect = "cycle_to_cycle"\ndistribution = { kind = "lognormal", sigma = 0.1 }\n'
        '[[variability.effects]]\neffect = "read_noise"\nrelative = 0.05\n'
    )
    return path


class TestSets:
    cell = PhaseChange(parameters=SET)

    def test_it_is_the_default_of_a_cell_that_names_it(self, data):
        given = Hardware(tile=tile(self.cell), rung="ideal", conductance_range=(1e-6, 2.4e-5))
        assert given.variability == Variability.from_parameters(SET)
        model, report = convert(network(), given)
        assert f"effects of the parameter set {SET}: programming_error, drift, read_noise" in str(report)
        now, later = model(data[0]), model.at(time="1 year")(data[0])
        assert not torch.allclose(now, later, rtol=0.01)
        cells = analog_layers(model)["0"].conductances
        aged = analog_layers(model.at(time=YEAR))["0"].present_conductances()
        assert float((aged / cells).median()) == pytest.approx((YEAR / 20) ** -0.06, rel=0.1)

    def test_none_is_asked_for_by_name(self):
        given = Hardware(tile=tile(self.cell), conductance_range=(1e-6, 2.4e-5), variability=Variability())
        assert given.variability.effects == ()
        assert not given.random
        text = {"tile": given.tile, "conductance_range": ["1 uS", "24 uS"], "variability": {"effects": []}}
        assert Hardware.from_text_dict(text).variability.effects == ()

    def test_a_cell_without_a_set_has_none(self):
        assert not Hardware(tile=tile(PhaseChange()), conductance_range=(1e-6, 2.4e-5)).random

    def test_it_goes_with_its_tile(self):
        given = Hardware(tile=tile(self.cell), conductance_range=(1e-6, 2.4e-5))
        assert given.replace(tile=tile(Ohmic())).variability.effects == ()
        assert len(given.replace(rung="nodal").variability.effects) == 3
        assert len(given.replace(tile=tile(SelectorCell(device=self.cell)), rung="nodal").variability.effects) == 3
        fixed = given.replace(variability=given.variability)
        assert len(fixed.replace(tile=tile(Ohmic())).variability.effects) == 3

    def test_it_is_named_for_other_cells(self):
        table = {"parameters": SET, "effects": [{"effect": "drift", "exponent": 0.2}]}
        given = Hardware.from_text_dict({"tile": tile(Ohmic()), "variability": table})
        kinds = [effect.effect for effect in given.variability.effects]
        assert sorted(kinds) == ["drift", "programming_error", "read_noise"]
        assert next(each for each in given.variability.effects if isinstance(each, Drift)).exponent == 0.2
        assert "drift" not in given.variability.from_set

    def test_a_set_without_effects_or_no_set_is_refused(self):
        for name in ("vteam_example", "no_such_set"):
            with pytest.raises(ConfigError, match=name):
                Hardware(tile=tile(Ohmic()), variability={"parameters": name})  # pyright: ignore[reportArgumentType]

    def test_effects_of_a_set_that_cannot_act_are_left_out_and_said(self, own_set):
        cell = Vteam(parameters=str(own_set))
        given = Hardware(tile=tile(cell), conductance_range=(2e-6, 9e-5))
        assert [effect.effect for effect in given.acting.variability.effects] == ["read_noise"]
        _, report = convert(network(), given)
        assert "left out: cycle_to_cycle of speed" in str(report)
        json.dumps(report.as_dict())
        with pytest.raises(ConfigError, match="cycle_to_cycle of speed"):
            given.replace(variability=Variability(effects=given.variability.effects))

    def test_the_relative_path_of_a_file(self, own_set, monkeypatch):
        spec = TileSpec.from_text_dict(
            {"rows": 6, "cols": 6, "cell": {"model": "vteam", "parameters": "mine.toml"}}, folder=str(own_set.parent)
        )
        assert len(Hardware(tile=spec, conductance_range=(2e-6, 9e-5)).variability.effects) == 2


class TestHeldWithinTheDevice:
    """No draw is fatal, and every cell that one would have led out is counted."""

    device = Vteam(on_resistance=10e3, off_resistance=500e3)
    span = (2e-6, 1e-4)

    @pytest.mark.parametrize("rung", ["ideal", "surrogate", "nodal"])
    @pytest.mark.parametrize(
        "wild",
        [
            ProgrammingError(absolute=3e-5),
            DeviceToDevice(distribution=Lognormal(sigma=1.0)),
            DeviceToDevice(parameter="on_resistance", distribution=Lognormal(sigma=2.0)),
            Stuck(on=0.2, off=0.2, on_conductance=1e-3, off_conductance=0.0),
            Endurance(lifetime=10.0),
        ],
        ids=lambda each: each.stream_name,
    )
    def test_at_the_programming(self, rung: str, wild, data):
        given = Hardware(
            tile=tile(self.device, row_line_resistance=2.0),
            rung=rung,
            conductance_range=self.span,
            variability=effects(wild),
            cycles=10.0,
        )
        model, report = convert(network(), given, calibration=data)
        found = evaluate(model, data, 2)
        cells = torch.cat([layer.conductances.flatten() for layer in analog_layers(model).values()])
        if not given.spreads_parameters:
            assert float(cells.min()) >= self.span[0]
            assert float(cells.max()) <= self.span[1]
        if not isinstance(wild, Endurance) and not given.spreads_parameters:
            assert report.clipped > 0
            assert all(sum(cells for _, cells in run.values()) > 0 for run in found.clipped)

    @pytest.mark.parametrize("rung", ["ideal", "nodal"])
    def test_every_cell_counts_once(self, rung: str):
        given = Hardware(
            tile=tile(self.device),
            rung=rung,
            conductance_range=self.span,
            variability=effects(ProgrammingError(absolute=3e-5)),
        )
        layer = AnalogLinear(8, 6, hardware=given, seed=2, dtype=torch.float64)
        cells = layer.conductances
        at_ends = int(((cells == self.span[0]) | (cells == self.span[1])).sum())
        assert layer.clipped_conductances == pytest.approx(at_ends, abs=2)
        assert layer.clipped_conductances > 10

    @pytest.mark.parametrize("rung", ["ideal", "surrogate", "nodal"])
    @pytest.mark.parametrize("frozen", [False, True])
    def test_after_drift(self, rung: str, frozen: bool, data):
        aging = effects(Drift(exponent=0.1, exponent_spread=0.1, start_time=1.0), ReadNoise(relative=0.3))
        given = Hardware(
            tile=tile(self.device, row_line_resistance=2.0),
            rung=rung,
            conductance_range=self.span,
            variability=aging,
            read_noise="frozen" if frozen else "every read",
        )
        model, _ = convert(network(), given, calibration=data)
        for time in (49.0, 86400.0):
            found = evaluate(model, data, 2, moment=Moment(time))
            held = found.total.outside[HELD]
            assert held > 100
            later = model.at(time=time)
            for layer in analog_layers(later).values():
                cells = layer.present_conductances()
                assert self.span[0] * (1 - 1e-9) <= float(cells.min())
                assert float(cells.max()) <= self.span[1] * (1 + 1e-9)
                assert layer.held > 0

    @pytest.mark.filterwarnings("ignore:.*beyond the measurements:mdls_cosim.errors.DomainWarning")
    def test_float32_chips_end_where_the_device_does(self):
        device = MetastableSwitch(parameters="knowm_sdc_m1_5k")
        given = Hardware(
            tile=tile(device),
            rung="nodal",
            conductance_range=device.conductance_range(),
            variability=effects(ProgrammingError(relative=2.0)),
        )
        layer = AnalogLinear(8, 6, hardware=given)
        assert layer.conductances.dtype == torch.float32
        layer(torch.ones(1, 8))
        assert layer.clipped_conductances > 10

    def test_cells_of_a_resistance_are_opened_no_further_than_it_can_say(self):
        text = ".subckt mine a b r=1k\nR1 a b {r}\n.ends\n"
        state = StateDeclaration(parameter="r", quantity="resistance")
        cell = SubcircuitCell(subcircuit="mine", pins=("row", "column"), state=state, text=text)
        wild = effects(ProgrammingError(absolute=1e-4), Drift(exponent=0.5, exponent_spread=0.5))
        layer = AnalogLinear(8, 6, hardware=Hardware(tile=tile(cell), rung="spice", variability=wild))
        assert layer.clipped_conductances > 10
        assert bool(torch.isfinite(layer(torch.ones(1, 8))).all())
        layer.read_at(Moment(1e6))
        assert bool(torch.isfinite(layer(torch.ones(1, 8))).all())

    def test_ohmic_cells_have_no_upper_end(self):
        given = Hardware(tile=tile(Ohmic()), variability=effects(ProgrammingError(relative=5.0)))
        layer = AnalogLinear(8, 6, hardware=given)
        assert float(layer.conductances.max()) > 2e-4
        assert layer.clipped_conductances == int((layer.conductances == 0).sum())


class TestShapes:
    """A spread of the shape of I-V curves, through layers."""

    given = Hardware(
        tile=TileSpec(rows=6, cols=6, cell=Sinh(nonlinearity=4.0), row_line_resistance=1.0),
        rung="nodal",
        variability=effects(DeviceToDevice(parameter="nonlinearity", distribution=Lognormal(sigma=0.5))),
    )

    def test_it_is_that_of_every_cell(self):
        layer = AnalogLinear(5, 2, bias=False, hardware=self.given, seed=3, dtype=torch.float64)
        devices = layer.devices()
        assert devices is not None
        inputs = torch.tensor([[1.0, -1.0, 0.5, 0.2, -0.4]], dtype=torch.float64)
        plain = AnalogLinear(
            5, 2, bias=False, hardware=self.given.replace(variability=Variability()), dtype=torch.float64
        )
        with torch.no_grad():
            plain.weight.copy_(layer.weight)
        plain.program(3)
        assert torch.equal(plain.conductances, layer.conductances)  # of the small signal
        plain(inputs)
        layer(inputs)
        assert not torch.allclose(plain(inputs), layer(inputs), rtol=1e-3)
        same = NodalTile(self.given.spec).program(layer.conductances, Sinh(nonlinearity=4.0).varied({}))
        rows = layer.row_voltages(inputs)[0]
        torch.testing.assert_close(same(rows), plain.programmed()(rows), rtol=1e-8, atol=0)

    def test_converters_are_calibrated_on_ideal_tiles_that_have_none(self, data):
        with pytest.raises(ConfigError, match=r"nonlinearity.*ideal"):
            self.given.replace(rung="ideal")
        inputs, labels = data
        bench = Bench(network(), inputs, labels, inputs, "ideal", 0, 40, 8, 1, "cpu", None)
        model, _ = converted(bench, self.given, {})
        assert all(layer.hardware.rung == "nodal" for layer in analog_layers(model).values())
        assert all(layer.devices() is not None for layer in analog_layers(model).values())

    def test_series_surrogates_compute_them(self):
        """Against exact tiles; the coefficients are those of perturbation theory, no fit."""
        spec = self.given.spec.replace(column_line_resistance=1.0)
        surrogate = SeriesSurrogate(spec, coefficients={**START, "amplitude": (0.2,)})
        generator = np.random.default_rng(2)
        cells = torch.as_tensor(generator.uniform(1e-6, 1e-4, (2, 6, 6)))
        devices = Sinh(nonlinearity=4.0).varied(
            {"nonlinearity": torch.as_tensor(4 * np.exp(0.5 * generator.standard_normal((2, 6, 6))))}
        )
        voltages = torch.as_tensor(generator.uniform(-0.2, 0.2, (2, 9, 6)))
        exact = NodalTile(spec).program(cells, devices)
        found, plain = surrogate.program(cells, devices), surrogate.program(cells)
        scale = exact(voltages).square().mean().sqrt()
        assert float((found(voltages) - exact(voltages)).square().mean().sqrt() / scale) < 1e-3
        assert float((plain(voltages) - exact(voltages)).square().mean().sqrt() / scale) > 3e-2
        torch.testing.assert_close(found.power(voltages), exact.power(voltages), rtol=2e-3, atol=0)

    def test_noise_of_the_reads_goes_with_it(self):
        noisy = self.given.replace(variability=effects(*self.given.variability.effects, ReadNoise(relative=0.05)))
        layer = AnalogLinear(5, 2, hardware=noisy, dtype=torch.float64)
        inputs = torch.ones(1, 5, dtype=torch.float64)
        assert not torch.equal(layer(inputs), layer(inputs))

    def test_ohmic_devices_compute_on_every_rung(self, data):
        spread = effects(DeviceToDevice(parameter="on_resistance", distribution=Lognormal(sigma=2.0)))
        given = Hardware(
            tile=tile(Vteam(on_resistance=10e3, off_resistance=500e3), row_line_resistance=2.0),
            conductance_range=(2e-6, 1e-4),
            variability=spread,
        )
        model, _ = convert(network(), given, calibration=data)
        cells = torch.cat([layer.conductances.flatten() for layer in analog_layers(model).values()])
        assert float(cells.max()) > 2e-4  # beyond the nominal device
        torch.testing.assert_close(model(data[0]), on_rung(model, "nodal")(data[0]), rtol=1e-5, atol=1e-6)
        few = data[0][:1]
        torch.testing.assert_close(on_rung(model, "spice")(few), model(few), rtol=1e-4, atol=1e-5)


class TestSaid:
    @pytest.mark.filterwarnings("ignore:.*beyond the measurements:mdls_cosim.errors.DomainWarning")
    def test_lifetimes_and_warnings(self):
        cell = MetastableSwitch(parameters="knowm_sdc_m1_47k")
        given = Hardware(tile=tile(cell), rung="nodal")
        lines = cell_lines(given, time=YEAR)
        assert any("at 0 V the state moves from 1 to 0.9 in 192 µs" in line for line in lines)
        warnings = [line for line in lines if line.startswith("warning")]
        assert any("forgets" in line for line in warnings)
        assert any("disturb" in line for line in warnings)
        assert any("no effect of time" in line for line in warnings)
        both = given.replace(variability=effects(OwnRetention(), ReadDisturb(reads=1.0, read_time=1e-7)))
        assert not [line for line in cell_lines(both, time=YEAR) if line.startswith("warning")]

    @pytest.mark.parametrize(
        ("cell", "rung", "several", "acts"),
        [
            (Ohmic(), "nodal", (), False),
            (Ohmic(activation_energy=1e-20), "nodal", (), True),
            (Ohmic(activation_energy=1e-20), "ideal", (), False),
            (MetastableSwitch(), "ideal", (), False),
            (MetastableSwitch(), "ideal", (OwnRetention(),), True),
            (Ohmic(), "ideal", (Drift(exponent=0.1, activation_energy=1e-20, start_time=1e-4),), True),
        ],
        ids=str,
    )
    def test_a_temperature_that_changes_nothing(self, cell, rung, several, acts):
        given = Hardware(tile=tile(cell), rung=rung, variability=effects(*several))
        told = [line for line in cell_lines(given, temperature=600.0) if "600 K nothing has changed" in line]
        assert bool(told) != acts
        layer = AnalogLinear(8, 6, hardware=given, seed=2, dtype=torch.float64)
        inputs = torch.ones(1, 8, dtype=torch.float64)
        layer.read_at(Moment(1e-2, 300.0))
        cold = layer(inputs)
        layer.read_at(Moment(1e-2, 600.0))
        assert torch.equal(cold, layer(inputs)) != acts

    def test_new_cells_are_said_to_be_new(self):
        worn = Hardware(tile=tile(Ohmic()), variability=effects(Endurance(closing=0.1)))
        assert any("endurance" in line and "new" in line for line in cell_lines(worn))
        assert cell_lines(worn.replace(cycles=1e4)) == []

    def test_nothing_is_said_of_plain_cells(self):
        assert cell_lines(Hardware(tile=tile(Ohmic()))) == []

    def test_a_spread_of_speed_needs_motion(self):
        with pytest.raises(ConfigError, match="cycle_to_cycle of speed"):
            Hardware(
                tile=tile(Vteam()),
                variability=effects(CycleToCycle(distribution=Lognormal(sigma=0.1))),
            )
