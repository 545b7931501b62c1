"""Models at a moment, the effects of the cells through layers, and noise that is new at every read."""

import copy
import io

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, AnalogLinear, AnalogMatrix, Hardware, Moment
from mdls_cosim.analog.conv import AnalogConv2d
from mdls_cosim.devices import Sinh
from mdls_cosim.devices.variability import (
    DeviceToDevice,
    Drift,
    Endurance,
    FiniteStates,
    Lognormal,
    RandomTelegraphNoise,
    ReadNoise,
    Retention,
    Stuck,
    Variability,
)
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.network import analog_layers, at, convert, evaluate
from mdls_cosim.tiles import TileSpec

LOWEST, HIGHEST = 1e-6, 100e-6
DAY = 86400.0
STUCK = 80e-6


def effects(*several):
    return Variability(effects=several)


def linear(hardware, inputs=20, outputs=5, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AnalogLinear(inputs, outputs, hardware=hardware, seed=seed, dtype=torch.float64)


class TestMoments:
    drifting = effects(Drift(exponent=0.05, start_time=10.0))

    def test_drift_follows_its_power_of_time(self, ideal, classifier, images):
        model, _ = convert(classifier, ideal.replace(variability=self.drifting), calibration=images)
        later = at(model, "1 day")
        factor = (DAY / 10) ** -0.05
        for name, layer in analog_layers(later).items():
            programmed = analog_layers(model)[name].conductances
            torch.testing.assert_close(layer.present_conductances(), factor * programmed.double())
            assert torch.equal(layer.conductances, programmed)
        hidden = images[0].flatten(1)[:, :16]
        # Both cells of every pair drift alike: a read loses the factor, and no bias.
        weightless = model.hidden.bias
        torch.testing.assert_close(later.hidden(hidden) - weightless, factor * (model.hidden(hidden) - weightless))
        assert all(layer.moment == Moment() for layer in analog_layers(model).values())

    def test_units_and_numbers_are_the_same_moment(self):
        assert Moment.of("1 day", "350 K", 3) == Moment.of(DAY, 350.0, 3) == Moment(DAY, 350.0, 3)
        for time, temperature in (("1 km", None), (-1.0, None), ("1", None), (0.0, "0 K")):
            with pytest.raises(ConfigError):
                Moment.of(time, temperature)

    def test_heat_hastens_retention(self, ideal):
        energy = 1.1 * 1.602176634e-19
        lossy = effects(Retention(time_constant=1e6, activation_energy=energy))
        layer = linear(ideal.replace(variability=lossy))
        layer.read_at(Moment.of("1 day", "350 K"))
        constant = 1e6 * torch.tensor(energy / 1.380649e-23 * (1 / 350 - 1 / 300), dtype=torch.float64).exp()
        expected = LOWEST + (layer.conductances - LOWEST) * torch.exp(-DAY / constant)
        torch.testing.assert_close(layer.present_conductances(), expected)
        # Left alone, a tile is as warm as its TileSpec says.
        hot = linear(ideal.replace(variability=lossy, tile=ideal.tile.replace(temperature=350.0)))
        hot.read_at(Moment.of("1 day"))
        torch.testing.assert_close(hot.present_conductances(), expected)

    def test_heat_reaches_the_wires(self, wired):
        spec = wired.replace(wire_temperature_coefficient=0.004)
        layer = linear(Hardware(tile=spec))
        layer.read_at(Moment(temperature=400.0))
        exact = NodalTile(spec.replace(temperature=400.0)).program(layer.conductances)
        torch.testing.assert_close(layer.programmed().matrix, exact.effective_conductances)

    def test_the_method_goes_with_the_model(self, ideal, classifier, images):
        model, _ = convert(classifier, ideal.replace(variability=self.drifting), calibration=images)
        assert type(model) is type(classifier)
        expected = at(model, "1 day")(images[0])
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        fresh, _ = convert(classifier, ideal.replace(variability=self.drifting), seed=9)
        fresh.load_state_dict(model.state_dict())
        for twin in (model, copy.deepcopy(model), loaded, fresh):
            assert torch.equal(twin.at(time="1 day")(images[0]), expected)
        # Its own model, not the one that it was copied from.
        changed = copy.deepcopy(model)
        with torch.no_grad():
            changed.head.gain.mul_(2.0)
        assert torch.equal(changed.at().head.gain, 2 * model.head.gain)
        assert "at" not in dict(model.named_modules())
        later = model.at("1 day")
        assert torch.equal(copy.deepcopy(later)(images[0]), expected)

    def test_a_single_layer_has_the_method_of_a_model(self, ideal):
        fading = ideal.replace(variability=self.drifting)
        x = torch.rand(3, 4)
        for digital in (nn.Linear(4, 3), nn.Conv1d(4, 2, 2), nn.LSTM(4, 3)):
            inputs = x[:, :, None].expand(3, 4, 5).contiguous() if isinstance(digital, nn.Conv1d) else x
            model, _ = convert(digital, fading)
            model(inputs)  # finds the ranges
            earlier = [layer.moment for layer in analog_layers(model).values()]
            later = model.at(time="1 day", read=3)
            assert type(later) is type(model)
            assert {layer.moment for layer in analog_layers(later).values()} == {Moment(DAY, None, 3)}
            assert [layer.moment for layer in analog_layers(model).values()] == earlier
            torch.testing.assert_close(later(inputs), at(model, "1 day", read=3)(inputs), rtol=0, atol=0)
        matrix = AnalogMatrix(torch.eye(3), fading)
        hot = matrix.at(temperature="350 K")
        assert (hot.moment, matrix.moment) == (Moment(temperature=350.0), Moment())
        assert isinstance(hot, AnalogMatrix)
        with pytest.raises(ConfigError):
            matrix.at(time="1 km")

    def test_text_is_no_moment(self, ideal, classifier, images):
        model, _ = convert(classifier, ideal.replace(attention="tiles"))
        attention, _ = convert(nn.MultiheadAttention(4, 2), ideal.replace(attention="tiles"))
        for layer in (model.head, attention.scores):
            with pytest.raises(InputError, match=r'no moment: got "1 day".*Moment\.of\("1 day"\)'):
                layer.read_at("1 day")
        with pytest.raises(InputError, match="no moment"):
            evaluate(model, images, 1, moment="1 day")

    def test_evaluation_keeps_the_moment(self, ideal, classifier, images):
        model, _ = convert(classifier, ideal.replace(variability=self.drifting), calibration=images)
        at_moment = []
        later = at(model, "1 day", read=2)
        evaluate(later, images, 3, 5, prepare=lambda m: at_moment.append(m.head.moment))
        assert at_moment == [Moment(DAY, None, 2 + 5 + run) for run in range(3)]
        given = Moment.of("1 h")
        evaluate(later, images, 1, moment=given, prepare=lambda m: at_moment.append(m.head.moment))
        assert at_moment[-1] == given
        assert later.head.moment == Moment(DAY, None, 2)


class TestEffects:
    """Every effect acts through a layer, and its cells are counted."""

    def test_stuck_cells_are_there_and_counted(self, ideal, classifier):
        rules = {"hidden": {"variability": effects(Stuck(on=0.1, off=0.2, off_conductance=0.0))}}
        model, report = convert(classifier, ideal, rules=rules)
        found = {layer.name: layer.outcome for layer in report.converted}
        assert found["hidden"] == {
            "stuck_on": int((model.hidden.conductances == HIGHEST).sum()) - _at_top(classifier, ideal, model),
            "stuck_off": int((model.hidden.conductances == 0).sum()),
        }
        assert all(not outcome for name, outcome in found.items() if name != "hidden")
        assert "stuck off" in str(report)

    def test_worn_cells_lose_their_window(self, ideal):
        worn = effects(Endurance(closing=0.25, onset=1.0))
        fresh = linear(ideal.replace(variability=worn))
        assert fresh.outcome == {}
        layer = linear(ideal.replace(variability=worn, cycles=99.0))
        lost = 0.25 * 2 * (HIGHEST - LOWEST) / 2  # two decades, closing to the middle
        assert float(layer.conductances.min()) == pytest.approx(LOWEST + lost)
        assert float(layer.conductances.max()) == pytest.approx(HIGHEST - lost)
        held = (layer.conductances != fresh.conductances).sum()
        assert layer.outcome == {"worn": int(held)}
        failed = linear(ideal.replace(variability=effects(Endurance(lifetime=10.0)), cycles=1e6))
        assert failed.outcome == {"failed": failed.conductances.numel()}
        assert bool((failed.conductances == HIGHEST).all())

    def test_measured_levels_are_all_that_is_written(self, ideal):
        levels = (5e-6, 20e-6, 90e-6)
        layer = linear(ideal.replace(variability=effects(FiniteStates(levels=levels))))
        assert set(layer.conductances.unique().tolist()) == set(levels)
        exact = linear(ideal).conductances
        assert layer.outcome == {"outside": int(((exact < 5e-6) | (exact > 90e-6)).sum())}

    def test_spread_between_devices_scales_the_cells(self, ideal):
        layer = linear(ideal.replace(variability=effects(DeviceToDevice(distribution=Lognormal(sigma=0.1)))))
        logs = (layer.conductances / linear(ideal).conductances).log()
        # 600 cells know a standard deviation to 3 %.
        assert float(logs.std()) == pytest.approx(0.1, rel=0.12)

    def test_traps_are_full_or_empty_and_remember(self, ideal):
        trap = RandomTelegraphNoise(amplitude=0.2, capture_time=1.0, emission_time=3.0)
        layer = linear(ideal.replace(variability=effects(trap)))
        found = []
        for time in (0.0, 1e-6, 1e3):
            layer.read_at(Moment(time=time))
            found.append(layer.present_conductances() / layer.conductances)
        assert torch.isclose(found[0][..., None], torch.tensor([0.95, 1.15]).double()).any(-1).all()
        assert float((found[0] == found[1]).double().mean()) > 0.99
        assert 0.2 < float((found[0] == found[2]).double().mean()) < 0.9


def _at_top(classifier, hardware, model):
    """Cells of the hidden layer that hold the highest conductance by themselves and are not stuck off."""
    exact, _ = convert(classifier, hardware)
    return int(((exact.hidden.conductances == HIGHEST) & (model.hidden.conductances == HIGHEST)).sum())


WIRES = {
    "row_line_resistance": 8.0,
    "column_line_resistance": 8.0,
    "driver_resistance": 100.0,
    "sense_resistance": 100.0,
}


def brute_force(layer, voltages, draws):
    """Currents of the pairs of a single tile under draws of all cells, (draws, batch, outputs), by Kirchhoff."""
    noise, span = effects(layer.hardware.variability.effects[0]), layer.hardware.conductance_range
    held = layer.conductances.expand(draws, *layer.conductances.shape)
    cells = torch.where(held == STUCK, held, noise.at(held, span, 7).conductances)
    currents = NodalTile(layer.hardware.spec).program(cells)(voltages)
    return layer.layout.currents(currents.movedim(0, -3).flatten(-3, -2))[0, 0, 0].unflatten(0, (draws, -1))


class TestReadNoise:
    spread = effects(ReadNoise(relative=0.06, absolute=0.5e-6), Stuck(on=0.1, on_conductance=STUCK))

    @pytest.mark.parametrize(
        ("mapping", "wires"), [("pair", {}), ("pair", WIRES), ("interleaved_pair", WIRES), ("offset_column", WIRES)]
    )
    def test_it_scatters_as_draws_of_all_cells(self, mapping, wires):
        spec = TileSpec(rows=22, cols=10, **wires)
        layer = linear(Hardware(tile=spec, variability=self.spread, mapping=mapping))
        x = torch.stack([torch.ones(20), torch.linspace(-1, 1, 20), torch.rand(20)]).double()
        with torch.no_grad():
            layer(x)
            fresh = (layer(x.repeat(2000, 1)) - layer.bias).unflatten(0, (2000, 3))
        # One read of the layer is linear in the drawn conductances' currents.
        drawn = brute_force(layer, layer.row_voltages(x)[0, 0], 1000)
        per_ampere = layer.weight_scale[0, 0] / (99e-6 * 0.2 * layer.hardware.weight_mapping.unit)
        drawn = drawn * per_ampere * float(layer.input_peak)
        # 1000 draws know a standard deviation to 2.2 %; the rest is for what is of second order.
        torch.testing.assert_close(fresh.std(0), drawn.std(0), rtol=0.12, atol=0)
        torch.testing.assert_close(fresh.std(0).mean(), drawn.std(0).mean(), rtol=0.035, atol=0)
        # On average it is the read without noise: within five standard errors.
        quiet = linear(layer.hardware.replace(read_noise="off"))
        quiet.load_state_dict(layer.state_dict())
        off = (fresh.mean(0) - (quiet(x) - quiet.bias).detach()).abs() / fresh.std(0)
        assert float(off.max()) < 5 / 2000**0.5
        if mapping == "offset_column":
            # What outputs of a tile share is correlated, as in the draws.
            assert float((_correlation(fresh) - _correlation(drawn)).abs().max()) < 0.15
            assert float(_correlation(drawn).mean()) > 0.3

    @pytest.mark.parametrize("order", ["channels", "taps", "dense"])
    def test_convolutions_scatter_as_their_windows_do(self, order):
        spec = TileSpec(rows={"channels": 10, "taps": 5, "dense": 7}[order], cols=4, **WIRES)
        hardware = Hardware(tile=spec, variability=self.spread, row_order=order)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            conv = AnalogConv2d(4, 3, (2, 2), padding=1, hardware=hardware).double()
            image = torch.rand(1, 4, 3, 3).double()
        with torch.no_grad():
            conv(image)
            fresh = conv(image.repeat(2000, 1, 1, 1)).std(0)
        assert conv.partition.order == order
        noise = conv.hardware.variability
        args = conv.conductances, hardware.conductance_range, int(conv.chip_seed)
        exact = NodalTile(spec).program(noise.at(*args, read=None).conductances)
        volts = conv.row_voltages(image)
        # Source by source: what a small change of every cell does to its column, by differences of the exact solution.
        sigma, variance = noise.scatter(*args), 0.0
        base = exact(volts.unsqueeze(-3))
        for row in range(spec.rows):
            for col in range(spec.cols):
                bumped = noise.at(*args, read=None).conductances.clone()
                bumped[..., row, col] += 1e-10
                slope = (NodalTile(spec).program(bumped)(volts.unsqueeze(-3)) - base) / 1e-10
                variance = variance + (slope * sigma[..., row, col, None, None]) ** 2
        planes = conv.hardware.weight_mapping.take(variance, conv.partition.outputs_per_tile).sum(1)
        total = conv.partition.to_outputs(planes, conv.columns_at)[0, 0].sum(0)  # (vectors, outputs)
        expected = total.sqrt() * conv.weight_scale[0, 0] / (99e-6 * 0.2) * float(conv.input_peak)
        # 2000 draws know a standard deviation to 1.6 %.
        torch.testing.assert_close(fresh.flatten(1).mT, expected, rtol=0.07, atol=0)

    def test_cells_that_bend_scatter_too(self):
        spec = TileSpec(rows=8, cols=4, cell=Sinh(nonlinearity=3.0), **WIRES)
        layer = linear(Hardware(tile=spec, rung="nodal", variability=self.spread), 8, 3)
        x = torch.stack([torch.ones(8), torch.linspace(-1, 1, 8)]).double()
        with torch.no_grad():
            layer(x)
            fresh = layer(x.repeat(500, 1)).unflatten(0, (500, 2)).std(0)
        drawn = brute_force(layer, layer.row_voltages(x)[0, 0], 400).std(0)
        drawn = drawn * layer.weight_scale[0, 0] / (99e-6 * 0.2) * float(layer.input_peak)
        # 400 draws know a standard deviation to 3.5 %.
        torch.testing.assert_close(fresh, drawn, rtol=0.2, atol=0)
        torch.testing.assert_close(fresh.mean(), drawn.mean(), rtol=0.08, atol=0)

    def test_it_is_new_at_every_read_and_the_same_again(self, ohmic):
        layer = linear(Hardware(tile=ohmic, variability=self.spread))
        x = torch.ones(4, 20).double()
        first, second = layer(x), layer(x)
        assert len(first.unique(dim=0)) == 4
        assert not torch.isclose(first, second).any()
        layer.read_at(Moment())
        assert torch.equal(layer(x), first)
        layer.read_at(Moment(read=1))
        assert not torch.isclose(layer(x), first).any()
        assert not torch.isclose(linear(layer.hardware, seed=1)(x), first).any()

    def test_its_switch(self, ohmic):
        x = torch.ones(2, 20).double()
        frozen = linear(Hardware(tile=ohmic, variability=self.spread, read_noise="frozen"))
        first = frozen(x)
        assert torch.equal(first[0], first[1])
        frozen.read_at(Moment(read=1))
        assert not torch.isclose(frozen(x), first).any()
        off = linear(frozen.hardware.replace(read_noise="off"))
        stuck = linear(frozen.hardware.replace(variability=effects(self.spread.effects[1])))
        assert torch.equal(off(x), stuck(x))

    def test_gradients_and_converters_stay(self, ohmic):
        quiet = linear(Hardware(tile=ohmic, adc=Adc(bits=8), read_noise="off", variability=self.spread))
        x = torch.rand(6, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        quiet(x)
        quiet.current_peak.mul_(2)  # no current may saturate: there the gradient ends
        layer = linear(quiet.hardware.replace(read_noise="every read"))
        layer.load_state_dict(quiet.state_dict())
        first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(quiet(first).sum(), first)
        (found,) = torch.autograd.grad(layer(second).sum(), second)
        # Noise has no slope of its own.
        torch.testing.assert_close(found, expected)


def _correlation(reads):
    """Of the outputs under the first vector."""
    return torch.corrcoef(reads[:, 0].mT)
