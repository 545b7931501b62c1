"""Accuracy over seeded runs."""

import statistics

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.devices.variability import ProgrammingError, Variability
from mdls_cosim.errors import InputError
from mdls_cosim.network import analog_layers, calibrate, calibrate_columns, convert, evaluate, train
from mdls_cosim.network.chips import copied


@pytest.fixture
def trained(classifier, images):
    train(classifier, images, epochs=6, learning_rate=2e-2, batch_size=16)
    return classifier


@pytest.fixture
def noisy(ohmic):
    return Hardware(
        tile=ohmic,
        rung="ideal",
        dac=Dac(bits=4),
        adc=Adc(bits=4),
        variability=Variability(effects=(ProgrammingError(relative=0.6),)),
    )


def test_accuracy_counts_right_answers():
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    inputs = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    result = evaluate(model, (inputs, torch.tensor([0, 1, 1, 1])), runs=3)
    assert result.runs == (0.75, 0.75, 0.75)
    assert (result.mean, result.std, result.images) == (0.75, 0.0, 4)
    assert result.counters == {}
    assert "75.00 ± 0.00 %" in str(result)


def test_runs_differ_by_seed_and_repeat(trained, images, noisy):
    model, _ = convert(trained, noisy)
    first = evaluate(model, images, runs=4, seed=10)
    assert first == evaluate(convert(trained, noisy, seed=77)[0], images, runs=4, seed=10)
    assert len(set(first.runs)) > 1
    assert first.mean == statistics.fmean(first.runs)
    assert first.std == statistics.stdev(first.runs)
    # Run k is the run of seed + k: with ranges of the converters as they are, windows overlap.
    shifted = evaluate(model, images, runs=4, seed=11)
    assert shifted.runs[:3] == first.runs[1:]
    assert evaluate(model, images, runs=1).std is None


def test_nothing_random_is_computed_once(trained, images, ideal):
    model, _ = convert(trained, ideal)
    result = evaluate(model, images, runs=5)
    assert len(result.runs) == 5
    assert result.std == 0
    assert result.counters["head"].reads == len(images[0])


def test_model_comes_back_as_it_was(trained, images, noisy):
    model, _ = convert(trained, noisy, seed=5, calibration=images)
    model.train()
    model.head.eval()
    chips = {name: layer.conductances.clone() for name, layer in analog_layers(model).items()}
    model.eval()
    expected = model(images[0])
    model.train()
    model.head.eval()
    evaluate(model, images, runs=2, seed=9)
    assert model.training
    assert model.hidden.training
    assert not model.head.training
    for name, layer in analog_layers(model).items():
        assert torch.equal(layer.conductances, chips[name])
    assert torch.equal(model.eval()(images[0]), expected)


def test_calibration_on_the_first_batch_is_recorded(trained, images, noisy):
    model, _ = convert(trained, noisy)
    first = evaluate(model, images, runs=1, batch_size=30)
    assert first.calibrated == ("features.0", "features.3", "hidden", "head")
    assert float(model.features[0].input_peak) == float(images[0][:30].abs().max())
    assert evaluate(model, images, runs=1).calibrated == ()


def test_counters_are_of_this_evaluation_only(trained, images, noisy):
    model, _ = convert(trained, noisy, calibration=images)
    model(images[0])
    result = evaluate(model, (5 * images[0], images[1]), runs=2)
    counters = result.counters["features.0"]
    assert counters.reads == 2 * 90 * 36
    assert counters.dac_conversions == 2 * 90 * 36
    peak = float(images[0].abs().max())
    # Codes of a 4-bit signed converter end at 7: half a step beyond is saturated.
    assert counters.dac_saturated == 2 * int((5 * images[0].abs() > peak * 7.5 / 7).sum())
    assert result.total.reads == sum(each.reads for each in result.counters.values())
    assert result.as_dict()["counters"]["head"]["outside"] == {}


def test_every_form_of_data_gives_the_same(trained, images, ideal):
    model, _ = convert(trained, ideal, calibration=images)
    expected = evaluate(model, images).mean
    loader = DataLoader(TensorDataset(*images), batch_size=17)
    assert evaluate(model, loader, runs=2).mean == expected
    assert evaluate(model, iter(list(loader)), runs=2).mean == expected
    assert evaluate(model, [part.numpy() for part in images], runs=2).mean == expected


def test_one_shot_data_serves_every_run(trained, images, noisy):
    model, _ = convert(trained, noisy, calibration=images)
    batches = list(zip(images[0].split(30), images[1].split(30), strict=True))
    assert evaluate(model, iter(batches), runs=3) == evaluate(model, batches, runs=3)


def test_layers_that_are_never_called_are_told(images, ideal):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(36, 3)
            self.auxiliary = nn.Linear(36, 3)

        def forward(self, x):
            return self.used(x.flatten(1))

    model, _ = convert(Model(), ideal)
    assert evaluate(model, images).unread == ("auxiliary",)


def test_wrong_data_is_refused(trained, images):
    with pytest.raises(InputError, match="differ in number"):
        evaluate(trained, (images[0], images[1][:5]))
    with pytest.raises(InputError, match="neither"):
        evaluate(trained, images[0])
    with pytest.raises(InputError, match="no data"):
        evaluate(trained, (images[0][:0], images[1][:0]))
    with pytest.raises(InputError, match="no classifier"):
        evaluate(trained.features, images)
    with pytest.raises(InputError, match="runs"):
        evaluate(trained, images, runs=0)


def test_batches_without_labels_calibrate_but_do_not_evaluate(ohmic):
    model, _ = convert(nn.Sequential(nn.Linear(6, 3)), Hardware(tile=ohmic, rung="ideal", dac=Dac(bits=4)))
    batches = [torch.rand(2, 6, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3)]
    calibrate(model, batches)  # two rows a batch are no pair of inputs and labels
    assert float(analog_layers(model)["0"].input_peak) == max(float(batch.max()) for batch in batches)
    with pytest.raises(InputError, match="without labels"):
        evaluate(model, batches)


class Remembers(nn.Module):
    """Adds what it has seen before, kept in the ways that modules keep state."""

    def __init__(self, where):
        super().__init__()
        self.layer, self.where = nn.Linear(6, 3), where
        self.register_buffer("h", torch.zeros(3))
        self.register_buffer("late", None)
        self.seen, self.steps, self.count, self.table = [], [torch.zeros(3)], 0, {"h": torch.zeros(3)}

    def forward(self, x):
        y = self.layer(x)
        match self.where:
            case "buffer in place":
                self.h += y.mean(0)
                return y + self.h
            case "buffer anew":
                self.h = self.h + y.mean(0)
                return y + self.h
            case "buffer that was None":
                self.late = y.mean(0) if self.late is None else self.late + y.mean(0)
                return y + self.late
            case "new attribute":
                self.more = getattr(self, "more", 0) + y.mean(0)
                return y + self.more
            case "list":
                self.seen.append(y.mean(0))
                return y + sum(self.seen)
            case "tensor in a list":
                self.steps[0] += y.mean(0)
                return y + self.steps[0]
            case "dict":
                self.table["h"] = self.table["h"] + y.mean(0)
                return y + self.table["h"]
            case _:
                self.count += 1
                return y * self.count + torch.arange(3)


@pytest.mark.parametrize(
    "where",
    [
        *("buffer in place", "buffer anew", "buffer that was None"),
        *("new attribute", "list", "tensor in a list", "dict", "number"),
    ],
)
def test_every_run_starts_from_the_same_state(where, ohmic):
    """With programmings that are all alike, runs are alike too; afterwards the model is as it was."""
    tiny = Variability(effects=(ProgrammingError(relative=1e-12),))
    generator = torch.Generator().manual_seed(3)
    inputs, targets = torch.randn(40, 6, generator=generator), torch.zeros(40, 3)
    model, _ = convert(Remembers(where), Hardware(tile=ohmic, rung="ideal", variability=tiny), calibration=inputs)
    names, buffer = set(vars(model)), model.h
    with torch.no_grad():
        first = copied(model)(inputs)
    result = evaluate(model, (inputs, targets), 3, batch_size=10, metric=lambda found, _: found.double().norm())
    assert result.runs[1:] == pytest.approx([result.runs[0]] * 2, rel=1e-6)
    calibrate_columns(model, inputs)
    calibrate(model, inputs)
    assert set(vars(model)) == names
    assert model.h is buffer
    assert model.late is None
    assert model.seen == []
    assert model.count == 0
    for each in (model.h, model.steps[0], model.table["h"]):
        assert torch.equal(each, torch.zeros(3))
    with torch.no_grad():
        assert torch.allclose(model(inputs), first, rtol=1e-3, atol=1e-4)


def test_what_the_model_draws_follows_from_the_seed(ohmic):
    """Dropout that is always on: every run draws its own, repeatably, also without random hardware."""

    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            return nn.functional.dropout(self.layer(x), 0.5, training=True)

    data = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 3
    model, _ = convert(Dropping(), Hardware(tile=ohmic, rung="ideal"))
    state = torch.get_rng_state()
    first = evaluate(model, data, runs=4, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert evaluate(model, data, runs=4, seed=3).runs == first.runs
    assert evaluate(model, data, runs=3, seed=4).runs == first.runs[1:]
    assert len(set(first.runs)) > 1
