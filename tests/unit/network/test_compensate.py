"""What corrections take back, and what they cannot."""

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Hardware
from mdls_cosim.devices.variability import Drift, ProgrammingError, Stuck, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.network import (
    analog_layers,
    at,
    calibrate_columns,
    compensate_drift,
    convert,
    evaluate,
    on_rung,
    program,
    reestimate_batch_norm,
    train,
)


@pytest.fixture
def trained(classifier, images):
    train(classifier, images, epochs=6, learning_rate=2e-2, batch_size=16)
    return classifier


def drifting(spread):
    return Variability(effects=(Drift(exponent=0.06, exponent_spread=spread, start_time=1.0),))


def error(model, reference, inputs):
    """RMS over that of the reference."""
    with torch.no_grad():
        expected = reference(inputs)
        return float((model(inputs) - expected).square().mean().sqrt() / expected.square().mean().sqrt())


class TestDrift:
    def test_what_all_cells_lose_is_taken_back(self, trained, images, wired):
        # Without wires the factor of the currents is the factor of the cells.
        spec = wired.replace(**dict.fromkeys(("row_line_resistance", "column_line_resistance"), 0.0))
        spec = spec.replace(driver_resistance=0.0, sense_resistance=0.0)
        model, _ = convert(trained, Hardware(tile=spec, variability=drifting(0.0)), calibration=images)
        expected = model(images[0])
        later = at(model, "1 day")
        assert error(later, model, images[0]) > 0.1
        factors = compensate_drift(later)
        assert factors == pytest.approx(dict.fromkeys(analog_layers(model), 86400.0**0.06))
        torch.testing.assert_close(later(images[0]), expected, rtol=0, atol=1e-5)
        # Once more changes nothing; and from there on it goes on.
        assert compensate_drift(later) == pytest.approx(dict.fromkeys(factors, 1.0))
        again = at(later, "30 day")
        assert compensate_drift(again) == pytest.approx(dict.fromkeys(factors, 30**0.06))
        torch.testing.assert_close(again(images[0]), expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("mapping", ["pair", "interleaved_pair", "offset_column", "digital_offset"])
    def test_the_digital_zero_fades_with_its_cells(self, ideal, mapping):
        torch.manual_seed(0)
        digital, x = nn.Linear(40, 20).double(), torch.randn(30, 40).double()
        fading = Variability(effects=(Drift(exponent=0.05, start_time=1.0),))
        model, _ = convert(digital, ideal.replace(mapping=mapping, variability=fading), calibration=x)
        later = at(model, "1 day")
        assert error(later, digital, x) > 0.2
        compensate_drift(later)
        assert error(later, digital, x) < 1e-12
        # It belongs to the chip: kept in its state and its copies, and forgotten by the next programming.
        fresh, _ = convert(digital, model.hardware, seed=3)
        fresh.load_state_dict(later.state_dict())
        assert error(at(fresh, "1 day"), digital, x) < 1e-12
        chip = later.chip()
        later.program(7)
        assert error(later, digital, x) < 1e-12
        later.restore(chip)
        assert error(later, digital, x) < 1e-12
        # From there on it goes on fading.
        again = at(later, "30 day")
        assert error(again, digital, x) > 0.05
        compensate_drift(again)
        assert error(again, digital, x) < 1e-12

    def test_cells_that_drift_apart_are_taken_back_in_part(self, trained, images, wired):
        model, _ = convert(trained, Hardware(tile=wired, variability=drifting(0.02)), calibration=images)
        later = at(model, "1 day")
        before = error(later, model, images[0])
        compensate_drift(later)
        assert 0.01 < error(later, model, images[0]) < 0.5 * before

    def test_programming_forgets_it(self, trained, images, wired):
        model, _ = convert(trained, Hardware(tile=wired, variability=drifting(0.0)), calibration=images)
        later = at(model, "1 day")
        compensate_drift(later)
        program(later, 5)
        program(model, 5)
        assert torch.equal(later(images[0]), model(images[0]))

    def test_every_chip_of_an_evaluation_is_prepared(self, trained, images, wired):
        model, _ = convert(trained, Hardware(tile=wired, variability=drifting(0.02)), calibration=images)
        later = at(model, "365 day")
        factors = []
        first = evaluate(later, images, 3, 1, prepare=lambda chip: factors.append(compensate_drift(chip)))
        assert len(factors) == 3
        assert len({found["head"] for found in factors}) == 3
        assert first == evaluate(later, images, 3, 1, prepare=compensate_drift)
        assert all(bool((layer.gain == 1).all()) for layer in analog_layers(later).values())

    def test_nothing_left_is_said(self, ideal):
        gone = Variability(effects=(Stuck(off=1.0, off_conductance=0.0),))
        with pytest.raises(InputError, match="no current"):
            compensate_drift(convert(nn.Linear(4, 3), ideal.replace(variability=gone))[0])


class TestColumns:
    def test_a_line_of_a_column_is_taken_back_exactly(self, trained, images, ideal):
        model, _ = convert(trained, ideal, calibration=images)
        with torch.no_grad():
            for layer in analog_layers(model).values():
                layer.gain.copy_(torch.linspace(0.5, 2.0, layer.gain.numel()).view_as(layer.gain))
                layer.shift.copy_(torch.linspace(-1.0, 1.0, layer.gain.numel()).view_as(layer.gain))
        assert error(model, trained, images[0]) > 0.3
        found = calibrate_columns(model, images)
        assert set(found) == set(analog_layers(model))
        assert all(correction.before > 0.1 and correction.after < 1e-5 for correction in found.values())
        assert error(model, trained, images[0]) < 1e-5

    def test_wires_cost_less_with_it(self, trained, images, ideal, wired):
        spec = wired.replace(row_line_resistance=50.0, column_line_resistance=50.0)
        model, _ = convert(trained, ideal, calibration=images)
        wired_model = on_rung(model, "surrogate", spec)
        fit, held_out = images[0][:45], images[0][45:]
        before = error(wired_model, trained, held_out)
        found = calibrate_columns(wired_model, fit)
        after = error(wired_model, trained, held_out)
        assert after < 0.5 * before
        assert all(correction.after < correction.before for correction in found.values())

    def test_it_is_the_least_squares_line(self, ideal):
        torch.manual_seed(0)
        digital = nn.Linear(12, 3).double()
        noisy = Variability(effects=(ProgrammingError(relative=0.3),))
        layer, _ = convert(digital, ideal.replace(variability=noisy))
        x = torch.randn(200, 12).double()
        with torch.no_grad():
            read, wished = layer(x), digital(x)
            calibrate_columns(layer, x, batch_size=33)
            corrected = layer(x)
        for output in range(3):
            lines = torch.stack([read[:, output], torch.ones(200).double()], 1)
            expected = lines @ torch.linalg.lstsq(lines, wished[:, output, None]).solution
            torch.testing.assert_close(corrected[:, output], expected[:, 0])

    def test_drift_after_it_counts_from_there(self, trained, images, ideal):
        model, _ = convert(trained, ideal.replace(variability=drifting(0.0)), calibration=images)
        later = at(model, "1 h")
        calibrate_columns(later, images)
        assert compensate_drift(later) == pytest.approx(dict.fromkeys(analog_layers(later), 1.0))
        much_later = at(later, "2 h")
        assert compensate_drift(much_later)["head"] == pytest.approx(2**0.06)
        assert error(much_later, trained, images[0]) < 1e-4

    def test_an_output_that_never_moves_and_a_layer_never_read(self, images, ideal):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.used = nn.Linear(36, 3).double()
                self.unused = nn.Linear(36, 3).double()

            def forward(self, x):
                return self.used(x.flatten(1).double())

        digital = Model()
        with torch.no_grad():
            digital.used.weight[1] = 0.0
        model, _ = convert(digital, ideal)
        with torch.no_grad():
            model.used.shift[..., 1] = 5.0
        assert set(calibrate_columns(model, images)) == {"used"}
        torch.testing.assert_close(model(images[0]), digital(images[0]))
        assert not model.unused.shift.any()

    def test_no_data_is_refused(self, trained, images, ideal):
        model, _ = convert(trained, ideal)
        with pytest.raises(InputError, match="no data"):
            calibrate_columns(model, images[0][:0])


class TestBatchNorm:
    def test_statistics_are_those_of_what_arrives(self, trained, images, wired):
        spec = wired.replace(row_line_resistance=100.0, column_line_resistance=100.0)
        model, _ = convert(trained, Hardware(tile=spec), calibration=images)
        before = error(model, trained, images[0])
        norm = model.features[1]
        momentum = norm.momentum
        reestimate_batch_norm(model, images[0])
        with torch.no_grad():
            arrives = model.features[0](images[0])
        torch.testing.assert_close(norm.running_mean, arrives.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, arrives.var((0, 2, 3)))
        assert norm.momentum == momentum
        assert not model.training
        assert not norm.training
        assert error(model, trained, images[0]) < before

    def test_a_scale_before_a_norm_does_no_harm(self, images, ideal):
        torch.manual_seed(0)
        digital = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)).eval()
        reestimate_batch_norm(digital, images[0])
        model, _ = convert(digital, ideal, calibration=images)
        with torch.no_grad():
            model[0].gain.mul_(0.3)
            model[0].shift.add_(2.0)
        assert error(model, digital, images[0]) > 0.3
        reestimate_batch_norm(model, images[0])
        # The norm adds 1e-5 to every variance, which weighs more in a smaller one.
        assert error(model, digital, images[0]) < 1e-2

    def test_evaluation_gives_the_statistics_back(self, trained, images, wired):
        model, _ = convert(trained, Hardware(tile=wired), calibration=images)
        before = {name: value.clone() for name, value in model.features[1].state_dict().items()}
        evaluate(model, images, 2, prepare=lambda chip: reestimate_batch_norm(chip, images))
        assert all(torch.equal(model.features[1].state_dict()[name], value) for name, value in before.items())

    def test_none_to_re_estimate(self, images, ideal):
        with pytest.raises(InputError, match="no batch norm"):
            reestimate_batch_norm(convert(nn.Linear(4, 3), ideal)[0], images)
