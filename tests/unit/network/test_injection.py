"""Audited errors, put into a running network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mdls_cosim.analog import Adc, AnalogLinear, BitSerialDac, Dac, Hardware, PulseWidthDac
from mdls_cosim.devices import Sinh
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import IdealTile, NodalTile
from mdls_cosim.network import analog_layers, audit, convert
from mdls_cosim.network.injection import ResampledErrors, Residuals, accuracy_effect, injected
from mdls_cosim.tiles import TileSpec


def converted(classifier, images, tile, **changes):
    hardware = Hardware(tile=tile, rung="ideal", dac=Dac(bits=6), **{"adc": Adc(bits=8), **changes})
    return convert(classifier, hardware, calibration=images)[0]


def outputs(model, images):
    with torch.no_grad():
        return model(images[0])


def changed(residuals, factor):
    return {name: replace(each, currents=factor * each.currents) for name, each in residuals.items()}


def test_no_error_changes_nothing(classifier, images, ohmic):
    model = converted(classifier, images, ohmic, adc=Adc(bits=5, noise=0.3))
    residuals = changed(audit(model, images[0], samples=4, reference=IdealTile).residuals, 0.0)
    for layer in analog_layers(model).values():
        layer.read_at(layer.moment)
    before = outputs(model, images)
    for layer in analog_layers(model).values():
        layer.read_at(layer.moment)
    with injected(model, residuals):
        assert torch.equal(outputs(model, images), before)
    effect = accuracy_effect(model, images, residuals, runs=2)
    assert effect.runs == (effect.as_is,) * 2
    assert effect.changed == 0
    assert effect.std == 0


def test_the_layer_is_as_before_afterwards(classifier, images, ohmic, wired):
    model = converted(classifier, images, ohmic)
    report = audit(model, images, samples=4, reference=lambda spec: NodalTile(wired))
    before = outputs(model, images)
    with injected(model, report.residuals):
        assert not torch.equal(outputs(model, images), before)
    assert torch.equal(outputs(model, images), before)
    assert not any(layer.disturbance for layer in analog_layers(model).values())


@pytest.mark.parametrize("mapping", ["pair", "interleaved_pair", "offset_column", "digital_offset"])
@pytest.mark.parametrize("subtraction", ["analog", "digital"])
@pytest.mark.parametrize("kernel", [None, 2])
def test_the_errors_of_the_one_audited_read_give_the_reference_itself(mapping, subtraction, kernel, wired):
    # Injected into the same read, the residual of every column leads from the layer to the reference.
    hardware = Hardware(tile=wired, rung="ideal", mapping=mapping, subtraction=subtraction)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        digital = nn.Linear(24, 9) if kernel is None else nn.Conv2d(6, 9, kernel)
        inputs = torch.randn(1, 24) if kernel is None else torch.randn(1, 6, kernel, kernel)
    model = nn.Sequential(digital.double())
    inputs = inputs.double()
    ideal, _ = convert(model, hardware, calibration=inputs)
    exact, _ = convert(model, hardware.replace(rung="nodal"), calibration=inputs)
    report = audit(ideal, inputs, samples=1, reference=NodalTile)
    with torch.no_grad(), injected(ideal, report.residuals):
        found = ideal(inputs)
    with torch.no_grad():
        torch.testing.assert_close(found, exact(inputs), rtol=1e-6, atol=1e-8)
        assert (ideal(inputs) - exact(inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("dac", [PulseWidthDac(bits=4), BitSerialDac(bits=4)])
def test_what_is_injected_has_the_mean_and_spread_of_what_was_audited(dac):
    # Cells that are not linear: slices of time and bits are reads of their own.
    spec = TileSpec(rows=8, cols=4, cell=Sinh(), row_line_resistance=20.0, column_line_resistance=20.0)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(8, 4, bias=False)).double()
        inputs = torch.rand(400, 8).double()
    ideal, _ = convert(model, Hardware(tile=spec, rung="ideal", dac=dac), calibration=inputs)
    layer = analog_layers(ideal)["0"]
    report = audit(ideal, inputs, samples=300, reference=NodalTile)
    residuals = report.residuals["0"]
    errors = ResampledErrors(layer, residuals, seed=3)
    for weight in residuals.weights.unique().tolist():
        read = next(each for each in layer.reads(layer.vectors(inputs)) if each.weight == weight)
        drawn = errors(read, torch.zeros((1, 1, 20000, 1, 4)).double(), slice(None), 1)[0, 0, :, 0]
        # Where no current flows there is nothing but the rest.
        audited = (residuals.currents - errors.gain * residuals.own)[0, 0, residuals.weights == weight]
        spread = audited.std(0)
        # 20000 draws: 5 standard errors of a mean are 3.5 % of the spread.
        assert torch.all((drawn.mean(0) - audited.mean(0)).abs() < 0.036 * spread + 1e-15)
        torch.testing.assert_close(drawn.std(0), spread, rtol=0.1, atol=1e-15)


def test_a_gain_is_injected_as_a_gain(images, ohmic):
    # All currents of the reference are 0.9 of the network's: nothing is random about such an error.
    class Weaker(IdealTile):
        def _program(self, conductances):
            return super()._program(0.9 * conductances)

    with torch.random.fork_rng():
        torch.manual_seed(6)
        digital = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False)).double()
    pictures = images[0].double()
    model, _ = convert(digital, Hardware(tile=ohmic, rung="ideal"), calibration=pictures)
    report = audit(model, pictures, samples=5, reference=Weaker)
    with torch.no_grad():
        plain = model(pictures)
        with injected(model, report.residuals):
            torch.testing.assert_close(model(pictures), 0.9 * plain)


def test_tiles_without_an_audit_take_the_errors_of_others_in_another_order(ohmic):
    layer = AnalogLinear(30, 10, hardware=Hardware(tile=ohmic, rung="ideal"))
    assert layer.partition.tiles == (1, 3, 2)
    currents = torch.arange(40.0).reshape(1, 1, 8, 5)
    errors = ResampledErrors(
        layer, Residuals(currents, 0 * currents, torch.tensor([[0, 1, 0]]), torch.ones(8), layer.partition), seed=0
    )._errors
    assert errors.shape == (8, 1, 3, 1, 10)
    audited = currents[0, 0]
    assert torch.equal(errors[:, 0, 1, 0, :5], audited)
    for row, columns in ((0, slice(0, 5)), (2, slice(0, 5)), (1, slice(5, 10))):
        other = errors[:, 0, row, 0, columns]
        assert torch.equal(other.sort(0).values, audited)
        assert not torch.equal(other, audited)


def test_large_errors_cost_accuracy_and_their_seeds_differ(classifier, images, ohmic, wired):
    from mdls_cosim.network import train

    train(classifier, images, epochs=15, learning_rate=0.01)
    model = converted(classifier, images, ohmic)
    report = audit(model, images, samples=30, reference=lambda spec: NodalTile(wired), injections=3)
    assert report.accuracy is not None
    assert report.accuracy.as_is > 0.9
    assert report.accuracy.images == 90
    large = accuracy_effect(model, images, changed(report.residuals, 100.0), runs=3)
    assert large.mean < report.accuracy.as_is - 0.1
    assert large.changed > 0.1
    assert len(set(large.runs)) > 1
    assert large.std == pytest.approx(np.std(large.runs, ddof=1))
    assert large == accuracy_effect(model, images, changed(report.residuals, 100.0), runs=3)


def test_no_runs_are_refused(classifier, images, ohmic):
    with pytest.raises(InputError, match="at least one run"):
        accuracy_effect(converted(classifier, images, ohmic), images, {}, runs=0)
