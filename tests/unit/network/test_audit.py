"""A network's tiles against the rung above."""

import numpy as np
import pytest
import torch

from mdls_cosim.analog import Adc, Dac, Hardware, ProgrammingError
from mdls_cosim.devices import Sinh
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import IdealTile, NodalTile, TileModel
from mdls_cosim.network import analog_layers, audit, convert
from mdls_cosim.network.audit import truth_spec


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
        programming_error=ProgrammingError(relative=0.1),
    )


def test_known_error_is_found(classifier, images, hardware):
    model, _ = convert(classifier, hardware, calibration=images)
    report = audit(model, images, samples=20, reference=lambda spec: Scaled(spec, 1.1))
    assert [layer.name for layer in report.layers] == ["features.0", "features.3", "hidden", "head"]
    assert report.vectors == 20
    # own = 1.1 truth: the error is 0.1 of every current. Reads in single precision are 1e-7 off.
    assert report.rms == pytest.approx(0.1, rel=1e-5)
    for layer in report.layers:
        assert layer.rms == pytest.approx(0.1, rel=1e-5)
        assert layer.difference_rms == pytest.approx(0.1, rel=1e-5)
        assert layer.p99 > layer.rms
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
    assert all(layer.adc_steps is not None and layer.adc_steps > 0 for layer in report.layers)


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
