"""Data in the forms of torch programs: the model is called as its author meant, or the data are refused."""

from __future__ import annotations

import random
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.errors import InputError
from mdls_cosim.network import (
    analog_layers,
    audit,
    calibrate,
    calibrate_columns,
    convert,
    digits,
    evaluate,
    reestimate_batch_norm,
    train,
)
from mdls_cosim.network.batches import Batches
from mdls_cosim.tiles import TileSpec


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x):
        return self.a(x)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(4, 3)

    def forward(self, u, v):
        return self.a(u) + self.b(v)


class Tokens(nn.Module):
    """As of Hugging Face: everything by keyword, and outputs by name."""

    def __init__(self):
        super().__init__()
        self.e, self.f = nn.Embedding(20, 6), nn.Linear(6, 3)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        assert labels is None
        found = self.f((self.e(input_ids) * attention_mask[..., None]).mean(1))
        return OrderedDict(logits=found, hidden=found[:, :1])


@dataclass
class Inputs:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


Named = namedtuple("Named", ["u", "v", "target"])
Anonymous = namedtuple("Anonymous", ["picture", "kind"])
HARDWARE = Hardware(tile=TileSpec(rows=32, cols=32), rung="ideal")


@pytest.fixture
def x():
    return torch.randn(9, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def v():
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def y():
    return torch.arange(9) % 3


@pytest.fixture
def ids():
    return torch.randint(0, 20, (9, 5), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def mask():
    return (torch.arange(5) < 4).float().expand(9, 5)


def accuracy(outputs, y):
    return float((outputs.argmax(1) == y).double().mean())


class Items(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


class Stream(IterableDataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        yield from zip(self.x, self.y, strict=True)


def one_input(x, y):
    """The same labelled items in every form."""
    pairs = list(zip(x.split(4), y.split(4), strict=True))
    return {
        "tuple": (x, y),
        "list": [x, y],
        "arrays": (x.numpy(), y.numpy()),
        "float64 array": (x.double().numpy(), y.numpy()),
        "nested lists": (x.tolist(), y.tolist()),
        "read-only array": (np.broadcast_to(x.numpy(), x.shape), y.numpy()),
        "reversed array": (x.flip(0).numpy()[::-1], y.numpy().astype(">i4")),
        "column of labels": (x, y[:, None]),
        "loader": DataLoader(TensorDataset(x, y), 4),
        "shuffled": DataLoader(TensorDataset(x, y), 4, shuffle=True),
        "dataset": Items(x, y),
        "stream": Stream(x, y),
        "stream in a loader": DataLoader(Stream(x, y), 4),
        "batches": pairs,
        "tuple of batches": tuple(pairs),
        "generator": (each for each in pairs),
        "named tuples": [Anonymous(*each) for each in pairs],
        "image and label": [{"image": a, "label": b} for a, b in pairs],
        "whole mapping": {"x": x, "labels": y},
        "mapping and labels": ({"x": x}, y),
        "tuple of one": ((x,), y),
    }


@pytest.mark.parametrize("form", one_input(torch.zeros(1, 6), torch.zeros(1).long()))
def test_one_input_in_every_form(x, y, form):
    model, _ = convert(Plain(), HARDWARE)
    expected = accuracy(model(x), y)
    assert evaluate(model, one_input(x, y)[form], runs=2, batch_size=4).mean == expected
    calibrated, _ = convert(Plain(), HARDWARE.replace(dac=Dac(bits=6)), calibration=one_input(x, y)[form])
    assert float(calibrated.a.input_peak) == float(x.abs().max())


@pytest.mark.parametrize(
    "form", ["((u, v), y)", "tensors", "whole", "list", "mapping", "named tuple", "({u, v}, y)", "stream"]
)
def test_two_inputs_in_every_form(x, v, y, form):
    data = {
        "((u, v), y)": [((x, v), y)],
        "tensors": DataLoader(TensorDataset(x, v, y), 4),
        "whole": ((x, v), y),
        "list": [x, v, y],
        "mapping": [{"u": x, "v": v, "target": y}],
        "named tuple": [Named(x, v, y)],
        "({u, v}, y)": [({"u": x, "v": v}, y)],
        "stream": iter([[x[:5], v[:5], y[:5]], [x[5:], v[5:], y[5:]]]),
    }[form]
    model, report = convert(
        Pair(), HARDWARE.replace(dac=Dac(bits=12)), calibration=data if form != "stream" else (x, v)
    )
    assert report.calibrated
    assert [float(layer.input_peak) for layer in analog_layers(model).values()] == [
        float(each.abs().max()) for each in (x, v)
    ]
    assert evaluate(model, data, runs=1, batch_size=4).mean == accuracy(model(x, v), y)


@pytest.mark.parametrize("form", ["mapping", "user mapping", "dataclass", "whole", "lists", "loader"])
def test_batches_of_hugging_face(ids, mask, y, form):
    batch = {"input_ids": ids, "attention_mask": mask, "labels": y}
    data = {
        "mapping": [batch],
        "user mapping": [UserDict(batch)],
        "dataclass": [Inputs(**batch)],
        "whole": batch,
        "lists": {name: each.tolist() for name, each in batch.items()},
        "loader": DataLoader([{name: each[k] for name, each in batch.items()} for k in range(9)], 4),
    }[form]
    model, _ = convert(Tokens(), HARDWARE.replace(dac=Dac(bits=12)), calibration=data)
    expected = accuracy(model(ids, mask)["logits"], y)
    for output in ("logits", 0, lambda found: found["logits"]):
        assert evaluate(model, data, runs=1, batch_size=4, output=output).mean == expected
    with pytest.raises(InputError, match=r"several outputs.*keys logits, hidden.*Choose one"):
        evaluate(model, data, runs=1)
    reached = float((model.e(ids) * mask[..., None]).mean(1).detach().abs().max())
    assert float(model.f.input_peak) == pytest.approx(reached)


class TestUnlabelledBatches:
    """[first, second] of tensors is never taken for inputs and labels."""

    @pytest.mark.parametrize(
        "batches",
        [
            [torch.rand(8, 6), 10 * torch.rand(8, 6)],
            [torch.rand(8, 6), 10 * torch.rand(3, 6)],
            [torch.rand(8, 6).numpy(), 10 * torch.rand(8, 6).numpy()],
            [(torch.rand(8, 6),), (10 * torch.rand(8, 6),)],
            [torch.rand(8, 6), 10 * torch.rand(8, 6), torch.rand(8, 6)],
            torch.cat([torch.rand(8, 6), 10 * torch.rand(8, 6), torch.rand(8, 6)]).split(8),
        ],
    )
    def test_all_count(self, batches):
        largest = max(float(torch.as_tensor(b[0] if isinstance(b, tuple) else b).max()) for b in batches)
        model, _ = convert(Plain(), HARDWARE.replace(dac=Dac(bits=6)), calibration=batches)
        assert float(model.a.input_peak) == largest
        assert calibrate_columns(model, batches).keys() == {"a"}
        with pytest.raises(InputError, match="without labels"):
            evaluate(model, batches)

    def test_batch_norms_see_both(self):
        model, _ = convert(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)), HARDWARE)
        batches = [torch.rand(8, 6), 10 + torch.rand(8, 6)]
        reestimate_batch_norm(model, batches)
        assert torch.allclose(model[0].running_mean, torch.stack([each.mean(0) for each in batches]).mean(0))

    @pytest.mark.parametrize(
        "data",
        [
            (torch.rand(8, 6), torch.rand(8, 6)),
            [torch.rand(8, 6), torch.rand(8, 5)],
            [torch.rand(8), torch.rand(8)],
            [torch.zeros(8, 6).long(), torch.zeros(8, 6).long()],
        ],
    )
    def test_two_meanings_are_refused(self, data):
        model, _ = convert(Plain(), HARDWARE)
        with pytest.raises(InputError, match=r"two arrays in a .*which may be.*Give the inputs alone"):
            calibrate(model, data)

    def test_of_several_inputs(self, x, v):
        for data in ((x, v), [x, v], [(x, v)], {"u": x, "v": v}, [{"u": x, "v": v}]):
            model, _ = convert(Pair(), HARDWARE.replace(dac=Dac(bits=6)), calibration=data)
            assert float(model.b.input_peak) == float(v.abs().max())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "neither"),
        ("digits", "neither"),
        (3, "neither"),
        ([], "no data to evaluate on"),
        ((), "no data to evaluate on"),
        (iter(()), "no data.*read before"),
        ([None], "expected a batch"),
        (["text"], "expected a batch"),
        ([object()], 'expected inputs as tensors.*got "?object'),
        ([()], "an empty one"),
        ([{}], "an empty mapping"),
        ([{"x": torch.ones(2, 6), "label": torch.ones(2), "target": torch.ones(2)}], "several targets"),
        ([(torch.ones(2, 6), torch.ones(2), torch.ones(2))], r"a batch of 3 parts.*Group them"),
        ([(torch.ones(6), 1), (torch.ones(6), 2)], "single items.*DataLoader"),
        ([({"z": torch.ones(2, 6), "u": torch.ones(2, 6)}, torch.zeros(2))], r"does not take: z, u.*allowed x.*labels"),
        ([{"x": torch.ones(2, 6), "y": torch.ones(2)}], r"does not take: y.*Targets go under labels"),
        ([((torch.ones(2, 6), torch.ones(2, 6)), torch.zeros(2))], "the model raised TypeError"),
        (([torch.ones(2, 6).to_sparse(), torch.zeros(2)],), "expected dense tensors"),
        ((torch.ones(2, 5), torch.zeros(2).long()), r"the model raised RuntimeError.*inputs \(2, 5\)"),
        ((torch.ones(2, 6), torch.zeros(3).long()), "differ in number"),
        (([[1.0, 2.0], [3.0]], [0, 1]), "different lengths"),
        ((np.array([["a"]]), np.array([0])), "expected numbers"),
        ((torch.tensor([[1.0] * 6, [1.0, float("nan"), 1, 1, 1, 1]]), torch.zeros(2).long()), r"not finite.*item 1"),
        ((torch.full((2, 6), float("inf")), torch.zeros(2).long()), "not finite"),
        ((torch.ones(2, 6).to(torch.uint8), torch.zeros(2).long()), "RuntimeError|floating point"),
    ],
)
@pytest.mark.parametrize("analog", [False, True], ids=["float", "analog"])
def test_refused_in_one_sentence(data, message, analog):
    model = convert(Plain(), HARDWARE, rules=None if analog else {"a": None})[0]
    if isinstance(data, type(iter(()))):
        data = iter(())
    with pytest.raises(InputError) as refused:
        evaluate(model, data, runs=1)
    if analog and "RuntimeError" in message:
        return  # the layer itself names the sizes
    assert refused.match(message)
    assert len(str(refused.value)) <= 300


@pytest.mark.parametrize(
    "call",
    [
        lambda model, data: evaluate(None, data),
        lambda model, data: calibrate("model", data),
        lambda model, data: calibrate_columns(None, data),
        lambda model, data: audit(None, data),
        lambda model, data: train(None, data, epochs=1),
        lambda model, data: evaluate(model, data, runs=2.5),
        lambda model, data: evaluate(model, data, runs=True),
        lambda model, data: evaluate(model, data, batch_size=None),
        lambda model, data: evaluate(model, data, seed="a"),
        lambda model, data: evaluate(model, data, seed=-1),
        lambda model, data: evaluate(model, digits()),
    ],
)
def test_other_arguments_are_checked(call, x, y):
    with pytest.raises(InputError):
        call(Plain(), (x, y))


def test_packed_sequences_are_one_input(y):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, sequence):
            return self.head(self.lstm(sequence)[1][0][0])

    model, generator = Recurrent(), torch.Generator().manual_seed(2)
    rows = [torch.randn(3 + k % 3, 4, generator=generator) for k in range(9)]
    packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    assert evaluate(model, [(packed, y)], runs=1).mean == accuracy(model(packed), y)


def test_a_float_mask_may_be_minus_infinity(x, y):
    class Masked(Plain):
        def forward(self, x, attn_mask):
            return self.a(x) * attn_mask.exp()[:, None]

    mask = torch.tensor([0.0, -torch.inf] * 5)[:9]
    for data in (((x, mask), y), [(x, mask, y)], [{"x": x, "attn_mask": mask, "labels": y}]):
        assert evaluate(Masked(), data, runs=1).images == 9
    with pytest.raises(InputError, match=r"not finite.*item 0, attn_mask"):
        evaluate(Masked(), ((x, mask * torch.nan), y), runs=1)


class TestPasses:
    @pytest.fixture
    def noisy(self, x):
        hardware = HARDWARE.replace(dac=Dac(bits=6), adc=Adc(bits=4, noise=1.0))
        return convert(Plain(), hardware, calibration=x)[0]

    def test_shuffled_data_are_the_same_in_every_run(self, noisy, x, y):
        """Two runs of one seed see the same items in the same order; the global random state is not touched."""
        seen: list[list[float]] = []

        def note(outputs, targets):
            seen.append(targets.tolist())
            return 0.0

        own = torch.Generator().manual_seed(4)
        for loader in (
            DataLoader(TensorDataset(x, torch.arange(9)), 2, shuffle=True),
            DataLoader(TensorDataset(x, torch.arange(9)), 2, shuffle=True, generator=own),
            DataLoader(TensorDataset(x, torch.arange(9)), 2, shuffle=True, num_workers=1, persistent_workers=True),
        ):
            before = torch.get_rng_state(), random.getstate()
            seen.clear()
            evaluate(noisy, loader, runs=3, metric=note)
            assert torch.equal(torch.get_rng_state(), before[0])
            assert random.getstate() == before[1]
            assert len(seen) == 3
            assert seen[0] == seen[1] == seen[2]
            assert sorted(seen[0]) == list(range(9))
        first = evaluate(noisy, DataLoader(TensorDataset(x, y), 2, shuffle=True), runs=1, seed=5)
        torch.rand(3)
        again = evaluate(noisy, DataLoader(TensorDataset(x, y), 9), runs=1, seed=5)
        assert first.images == again.images == 9

    def test_a_training_shuffles_anew(self, x, y):
        orders = []

        class Noting(Items):
            def __getitem__(self, index):
                orders.append(index)
                return super().__getitem__(index)

        train(Plain(), DataLoader(Noting(x, y), 3, shuffle=True), epochs=2)
        assert sorted(orders[:9]) == sorted(orders[9:]) == list(range(9))
        assert orders[:9] != orders[9:]

    def test_a_generator_serves_all_runs_and_the_audit(self, noisy, x, y):
        def batches():
            yield from zip(x.split(4), y.split(4), strict=True)

        assert evaluate(noisy, batches(), runs=3) == evaluate(noisy, list(batches()), runs=3)
        found = [
            audit(noisy, each, samples=3, reference=lambda spec: HARDWARE.replace(tile=spec).tile_model(), injections=2)
            for each in (batches(), list(batches()), (x, y))
        ]
        assert found[0].as_dict() == found[1].as_dict()
        assert found[0].accuracy is not None
        assert [each.rms for each in found] == [found[0].rms] * 3

    def test_other_items_in_a_later_run_are_refused(self, noisy, x, y):
        class Drifting:
            def __init__(self):
                self.passes = 0

            def __iter__(self):
                self.passes += 1
                yield x * self.passes, y

        class Once:
            def __init__(self):
                self.left = iter([(x, y)])

            def __iter__(self):
                return self.left

        with pytest.raises(InputError, match=r"other items in a later pass.*list\(data\)"):
            evaluate(noisy, Drifting(), runs=2)
        with pytest.raises(InputError, match=r"no data|other items"):
            evaluate(noisy, Once(), runs=2)  # held, were it an iterator itself
        with pytest.raises(InputError, match="other items"):
            evaluate(noisy, DataLoader(Shrinking(x, y), 3), runs=2)

    def test_an_error_in_the_data_names_its_line(self, noisy):
        class Broken(Items):
            def __getitem__(self, index):
                return {}["missing"]

        with pytest.raises(InputError, match=r"the data raised KeyError: 'missing' \(.*test_batches.py:\d+\)"):
            evaluate(noisy, DataLoader(Broken(torch.ones(3, 6), torch.ones(3)), 2), runs=1)

    def test_length_and_drawn_items(self, x, y):
        places = torch.tensor([7, 0, 3, 7])
        for data in ((x, y), DataLoader(TensorDataset(x, y), 4), iter(list(zip(x.split(2), y.split(2), strict=True)))):
            batches = Batches(data, 4)
            assert len(batches) == 9
            (taken,) = batches.take(places)
            assert torch.equal(taken.args[0], x[places])
            assert torch.equal(taken.targets, y[places])
        ragged = Batches([(torch.ones(2, 3), torch.zeros(2)), (torch.ones(2, 5), torch.ones(2))], 4)
        assert [each.args[0].shape for each in ragged.take(torch.tensor([3, 0, 1]))] == [(2, 3), (1, 5)]


class Shrinking(Dataset):
    """Gives fewer items in every later pass."""

    def __init__(self, x, y):
        self.x, self.y, self.passes = x, y, 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.passes += index == 0
        return self.x[index] + self.passes, self.y[index]


class TestTensorsWithoutDimensions:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x, temperature):
            return self.linear(x) * temperature

    @pytest.mark.parametrize("form", ["mapping", "first", "tuple"])
    def test_an_input_belongs_to_every_batch(self, form):
        torch.manual_seed(0)
        x, labels, temperature = torch.randn(9, 6), torch.randint(0, 3, (9,)), torch.tensor(2.0)
        data = {
            "mapping": {"x": x, "temperature": temperature, "labels": labels},
            "first": {"temperature": temperature, "x": x, "labels": labels},
            "tuple": ((x, temperature), labels),
        }[form]
        tiles, _ = convert(self.Scaled(), Hardware(tile=TileSpec(rows=8, cols=8), rung="ideal"), calibration=data)
        expected = float((tiles(x, temperature).argmax(1) == labels).float().mean())
        assert evaluate(tiles, data, runs=1, batch_size=4).mean == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("labels", "message"), [(torch.tensor(1), "one label"), (torch.eye(3).to_sparse(), "dense tensors")]
    )
    def test_labels_that_cannot_be_cut(self, labels, message):
        tiles, _ = convert(nn.Linear(6, 3), Hardware(tile=TileSpec(rows=8, cols=8), rung="ideal"))
        with pytest.raises(InputError, match=message):
            evaluate(tiles, (torch.randn(3, 6), labels), runs=1)
