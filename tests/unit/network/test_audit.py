"""A network's tiles against the rung above."""

import numpy as np
import pytest
import torch

from mdls_cosim.analog import Adc, BitSerialDac, Dac, Hardware, Moment, PulseWidthDac
from mdls_cosim.devices import Sinh
from mdls_cosim.devices.variability import Drift, ProgrammingError, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import IdealTile, NodalTile, TileModel
from mdls_cosim.network import analog_layers, audit, convert, on_rung
from mdls_cosim.network.audit import truth_spec
from mdls_cosim.tiles import TileSpec
from mdls_cosim.tiles.spec import TransimpedanceAmplifier


class Scaled(TileModel):
    """A reference that is off by a known factor."""

    def __init__(self, spec, factor):
        self.spec, self.factor = spec, factor

    def _program(self, conductances):
        return IdealTile(self.spec).program(conductances / self.factor)


@pytest.fixture
def hardware(ohmic):
    return Hardware(
        tile=ohmic,
        rung="ideal",
        states=6,
        dac=Dac(bits=6),
        adc=Adc(bits=6),
        variability=Variability(effects=(ProgrammingError(relative=0.1),)),
    )


def test_known_error_is_found(classifier, images, hardware):
    model, _ = convert(classifier, hardware, calibration=images)
    report = audit(model, images, samples=20, reference=lambda spec: Scaled(spec, 1.1))
    assert [layer.name for layer in report.layers] == ["features.0", "features.3", "hidden", "head"]
    assert report.vectors == 20
    # own = 1.1 truth: the error is 0.1 of every current. Reads in single precision are 1e-7 off.
    assert report.rms == pytest.approx(0.1, rel=1e-5)
    for layer in report.layers:
        assert layer.error.rms == pytest.approx(0.1, rel=1e-5)
        assert layer.error.rms_interval == pytest.approx((0.1, 0.1), rel=1e-5)
        assert layer.error.converted_rms == pytest.approx(0.1, rel=1e-5)
        assert layer.error.p99 > layer.error.rms
    own, truth = report.pairs.T
    np.testing.assert_allclose(own, 1.1 * truth, rtol=1e-5, atol=1e-12)
    assert report.as_dict()["layers"] == 4


def test_agrees_with_itself_on_the_same_rung(classifier, images, hardware, wired):
    model, _ = convert(classifier, hardware.replace(tile=wired, rung="nodal"), calibration=images)
    report = audit(model, images, samples=5, reference=NodalTile)
    assert report.rms < 1e-6  # single precision
    assert report.reference == "NodalTile"


def test_ideal_tiles_are_found_out_by_the_exact_solution(classifier, images, hardware, wired):
    model, _ = convert(classifier, hardware.replace(tile=wired.replace(cell=Sinh())), calibration=images)
    report = audit(model, images, samples=5, reference=NodalTile)
    assert 0.01 < report.rms < 0.5
    assert all(layer.error.adc_steps is not None and layer.error.adc_steps > 0 for layer in report.layers)


def test_counts_every_occupied_column_of_both_arrays(classifier, images, hardware):
    model, _ = convert(classifier, hardware, calibration=images)
    layers = {layer.name: layer for layer in audit(model, images, samples=7, reference=IdealTile).layers}
    # pairs x groups x row tiles x vectors x outputs of a group
    assert layers["features.3"].currents == 2 * 2 * 2 * 7 * 2
    assert layers["hidden"].currents == 2 * 1 * 2 * 7 * 16


def test_vectors_are_drawn_by_seed_from_what_reaches_the_layer(classifier, images, hardware):
    model, _ = convert(classifier, hardware, calibration=images)
    seen = []

    class Recorder(IdealTile):
        def _program(self, conductances):
            programmed = super()._program(conductances)
            whole = programmed._currents
            programmed._currents = lambda voltages: (seen.append(voltages), whole(voltages))[1]
            return programmed

    first = audit(model, images, samples=6, seed=1, reference=Recorder)
    drawn = seen[:]
    seen.clear()
    assert audit(model, images, samples=6, seed=1, reference=Recorder).as_dict() == first.as_dict()
    assert all(torch.equal(one, two) for one, two in zip(drawn, seen, strict=True))
    seen.clear()
    audit(model, images, samples=6, seed=2, reference=Recorder)
    assert not torch.equal(drawn[0], seen[0])
    # Of every image one vector, of every layer.
    assert all(len(voltages.reshape(-1, 6, 10)[0].unique(dim=0)) > 3 for voltages in drawn)
    # What reached the first layer is among what all images give it.
    everything = model.features[0].row_voltages(images[0])[0, 0]
    for vector in drawn[0].reshape(-1, everything.shape[-1]):
        assert torch.any(torch.all(everything == vector.to(everything), -1))


def test_leaves_the_model_as_it_was(classifier, images, hardware):
    model, _ = convert(classifier, hardware, calibration=images)
    model.train()
    counters = {name: layer.counters.copy() for name, layer in analog_layers(model).items()}
    audit(model, images, samples=3, reference=IdealTile)
    assert model.training
    assert {name: layer.counters for name, layer in analog_layers(model).items()} == counters
    assert not any(layer._forward_hooks for layer in analog_layers(model).values())


def test_more_vectors_than_images_are_drawn_with_repetition(classifier, images, hardware):
    model, _ = convert(classifier, hardware, calibration=images)
    assert audit(model, images[0][:3], samples=8, reference=IdealTile).layers[0].vectors == 8


def test_the_truth_is_the_circuit_behind_a_surrogate(ohmic, wired):
    class Fitted(IdealTile):
        reference_spec = wired

    from mdls_cosim.analog import AnalogLinear

    assert truth_spec(AnalogLinear(3, 3, hardware=Hardware(tile=Fitted(ohmic)))) == wired
    assert truth_spec(AnalogLinear(3, 3, hardware=Hardware(tile=ohmic))) == ohmic


def test_nothing_to_audit(classifier, images):
    with pytest.raises(InputError, match="no analog layers"):
        audit(classifier, images)


@pytest.fixture
def matrix():
    """One layer, on three row tiles and two column tiles, and 400 inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return torch.nn.Sequential(torch.nn.Linear(24, 9)).double(), torch.rand(400, 24).double()


def test_the_interval_holds_what_all_inputs_give(matrix, wired):
    model, inputs = matrix
    spec = wired.replace(cell=Sinh())
    ideal, _ = convert(model, Hardware(tile=spec, rung="ideal", adc=Adc(bits=6)), calibration=inputs)

    def found(samples, seed, tiles=None):
        return audit(ideal, inputs, samples, seed, NodalTile, tiles=tiles, progress=None).layers[0].error

    every = found(400, 0)
    held = np.zeros((20, 3), dtype=bool)
    for seed in range(20):
        error = found(20, seed)
        for place, name in enumerate(("rms", "p99", "adc_steps")):
            low, high = getattr(error, f"{name}_interval")
            assert low <= getattr(error, name) <= high
            held[seed, place] = low <= getattr(every, name) <= high
    # Of 20 intervals of 95 % three or more miss in 8 of 100 cases, five or more in 1 of 400.
    assert held.sum(0).min() >= 16
    # And they are no wider than needed: of the order of the spread of the 20 samples.
    low, high = found(20, 0).rms_interval
    assert high - low < 0.5 * every.rms
    assert found(1, 0).rms_interval is None
    few = found(20, 0, tiles=4).rms_interval
    assert few[0] <= every.rms <= few[1]
    assert few[1] - few[0] > high - low


def test_only_some_tiles_are_audited(matrix, wired):
    model, inputs = matrix
    ideal, _ = convert(model, Hardware(tile=wired, rung="ideal"), calibration=inputs)
    layer = audit(ideal, inputs, 5, reference=NodalTile, tiles=4).layers[0]
    assert (layer.tiles, layer.tiles_of) == (4, 6)
    assert audit(ideal, inputs, 5, reference=NodalTile, tiles=9).layers[0].tiles == 6


def test_pulses_are_charged_slot_by_slot(matrix, ohmic):
    model, inputs = matrix
    spec = ohmic.replace(cell=Sinh(), row_line_resistance=20.0)
    hardware = Hardware(tile=spec, rung="ideal", dac=PulseWidthDac(bits=3))
    ideal, _ = convert(model, hardware, calibration=inputs)
    report = audit(ideal, inputs[:1], 1, reference=NodalTile)
    layer = analog_layers(ideal)["0"]
    lengths = (inputs[:1] / inputs.max() * 7).round()
    exact = NodalTile(spec).program(layer.conductances)
    charge = torch.zeros(())
    for slot in range(7):
        rows = layer.partition.to_rows((lengths > slot).double()[None] * hardware.read_voltage, layer.rows_at)
        charge = charge + exact(rows.unsqueeze(-3)) / 7
    # Of both arrays: (2, 1, row_tiles, 1, outputs).
    planes = layer.partition.to_outputs(charge[..., : layer.partition.outputs_per_tile], layer.columns_at)
    truth = np.sort(report.pairs[:, 1])
    np.testing.assert_allclose(truth, np.sort(planes.flatten().numpy()), rtol=1e-6, atol=1e-15)
    # At the mean voltage, cells that are not linear would give another current.
    mean = exact(layer.row_voltages(inputs[:1]).unsqueeze(-3))
    assert (mean - charge).abs().max() > 1e-2 * charge.abs().max()


def test_every_bit_is_a_read_of_its_own(matrix, wired):
    model, inputs = matrix
    ideal, _ = convert(model, Hardware(tile=wired, rung="ideal", dac=BitSerialDac(bits=4)), calibration=inputs)
    report = audit(ideal, inputs, 40, reference=NodalTile)
    assert set((15 * report.residuals["0"].weights).tolist()) == {1.0, 2.0, 4.0, 8.0}


def test_errors_of_fit_and_model_add_up(matrix, ohmic, wired):
    model, inputs = matrix
    rich = wired.replace(cell=Sinh())

    class Fitted(IdealTile):
        reference_spec = wired

    ideal, _ = convert(model, Hardware(tile=Fitted(ohmic), rung="surrogate", adc=Adc(bits=6)), calibration=inputs)
    whole = audit(ideal, inputs, 15, reference=NodalTile, reference_tile=rich)
    fit = audit(ideal, inputs, 15, reference=NodalTile)
    model_only = audit(on_rung(ideal, "nodal", wired), inputs, 15, reference=lambda _: NodalTile(rich))
    parts = [each.residuals["0"].currents for each in (fit, model_only, whole)]
    # Each run solves again: what separates them is the last digits of single solutions.
    torch.testing.assert_close(parts[0] + parts[1], parts[2], rtol=0, atol=1e-9 * float(parts[2].abs().max()))
    layer = whole.layers[0]
    assert layer.fit is not None
    assert layer.model is not None
    for size, alone in ((layer.fit, fit), (layer.model, model_only)):
        assert size.rms * layer.rms_current == pytest.approx(alone.layers[0].error.rms * alone.layers[0].rms_current)
        assert size.adc_steps == pytest.approx(alone.layers[0].error.adc_steps)
    assert layer.error.rms <= layer.fit.rms + layer.model.rms
    assert whole.reference_tile == rich
    assert fit.layers[0].fit is None


def test_the_chip_is_read_when_the_layer_reads_it(matrix, wired):
    model, inputs = matrix
    hardware = Hardware(tile=wired, rung="nodal", variability=Variability(effects=(Drift(exponent=0.1),)))
    aged, _ = convert(model, hardware, calibration=inputs)
    fresh = audit(aged, inputs, 5, reference=NodalTile).layers[0]
    analog_layers(aged)["0"].read_at(Moment(time=1e6, temperature=350.0))
    later = audit(aged, inputs, 5, reference=NodalTile).layers[0]
    assert later.error.rms < 1e-6
    assert later.rms_current < 0.5 * fresh.rms_current


def test_without_labels_the_accuracy_stays_unknown(classifier, images, hardware):
    model, _ = convert(classifier, hardware, calibration=images)
    assert audit(model, images[0], 3, reference=IdealTile).accuracy is None
    assert audit(model, images, 3, reference=IdealTile, injections=0).accuracy is None
    told = audit(model, images, 3, reference=IdealTile, injections=2)
    assert told.accuracy is not None
    assert told.accuracy.images == 90
    assert told.as_dict()["accuracy"]["runs"] == told.accuracy.runs


@pytest.mark.ngspice
def test_the_gain_of_a_real_amplifier_is_a_model_error(matrix):
    model, inputs = matrix
    spec = TileSpec(rows=24, cols=9)
    ideal, _ = convert(model, Hardware(tile=spec), calibration=inputs)
    # An input resistance of nearly nothing: what is left is the sensed share A/(1 + A) of every current.
    amplifier = TransimpedanceAmplifier(feedback_resistance=1e-3, gain=99.0)
    layer = audit(ideal, inputs, 4, reference_tile=spec.replace(amplifier=amplifier), workers=2).layers[0]
    assert layer.fit is not None
    assert layer.model is not None
    assert layer.fit.rms < 1e-6
    assert layer.model.rms == pytest.approx(1 / 99, rel=1e-4)
    assert layer.error.rms == pytest.approx(1 / 99, rel=1e-4)


@pytest.mark.ngspice
def test_ngspice_is_the_default_reference(classifier, images, hardware, wired):
    model, _ = convert(
        classifier,
        hardware.replace(tile=wired.replace(cell=Sinh()), rung="nodal"),
        rules={"f*": None},
        calibration=images,
    )
    report = audit(model, images, samples=3)
    assert report.reference == "SpiceTile"
    assert report.rms < 1e-6  # single precision
