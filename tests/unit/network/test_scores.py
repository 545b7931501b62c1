"""Outputs against targets: every pair of shapes and dtypes is scored as NumPy does it, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mdls_cosim.errors import InputError
from mdls_cosim.network import evaluate
from mdls_cosim.network.scores import chosen, classes_of


class Constant(nn.Module):
    """Gives stored outputs for the indices that it is called with."""

    def __init__(self, outputs):
        super().__init__()
        self.register_buffer("outputs", outputs)

    def forward(self, index):
        return self.outputs[index]


def scored(outputs, targets, batch_size=256, **options):
    index = torch.arange(len(outputs))
    return evaluate(Constant(outputs), (index, targets), runs=1, batch_size=batch_size, **options)


def reference(outputs: np.ndarray, targets: np.ndarray) -> float | None:
    """Accuracy in plain NumPy, of the pairs that have a meaning; None for others."""
    n = len(outputs)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        logits = outputs if outputs.ndim == 1 else outputs[:, 0]
        if targets.shape not in (logits.shape, (n, 1, *logits.shape[1:])):
            return None
        right = targets.reshape(logits.shape)
        counts = right != -100
        if not np.isin(right[counts], (0, 1)).all() or (targets.dtype.kind == "f" and not counts.all()):
            return None
        found = logits > 0
    else:
        pixels = outputs.shape[2:]
        found = np.moveaxis(outputs, 1, -1).reshape(-1, outputs.shape[1]).argmax(-1).reshape(n, *pixels)
        if targets.shape == outputs.shape:
            flat = np.moveaxis(targets, 1, -1).reshape(-1, outputs.shape[1])
            if not all(sorted(row.tolist()) == [0] * (len(row) - 1) + [1] for row in flat):
                return None
            right = flat.argmax(-1).reshape(n, *pixels)
        elif targets.dtype.kind != "f" and targets.shape in ((n, *pixels), (n, 1, *pixels)):
            right = targets.reshape(n, *pixels)
        else:
            return None
        counts = right != -100
        if ((right[counts] < 0) | (right[counts] >= outputs.shape[1])).any():
            return None
    return None if not counts.any() else float((found[counts] == right[counts]).mean())


@st.composite
def cases(draw):
    n, classes = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    pixels = draw(st.sampled_from([(), (), (1,), (2,), (3,), (2, 3)]))
    shape = draw(st.sampled_from([(n, classes, *pixels), (n, classes), (n,)]))
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    outputs = random.normal(size=shape).astype(draw(st.sampled_from(["f4", "f8"])))
    like = draw(st.sampled_from([(n,), (n, 1), (n, *pixels), (n, 1, *pixels), shape, (n, *pixels, classes), (n + 1,)]))
    dtype = draw(st.sampled_from(["i8", "i4", "u1", "?", "f4"]))
    kind = draw(st.sampled_from(["classes", "beyond", "ignored", "one-hot", "soft"]))
    top = max(2, classes)
    targets = random.integers(0, top, like)
    if kind == "beyond":
        targets = targets + random.integers(0, 2, like) * draw(st.sampled_from([top, -1]))
    if kind == "ignored":
        targets = np.where(random.random(like) < 0.4, -100, targets)
    if kind == "one-hot" and len(like) > 1:
        targets = np.moveaxis(np.eye(like[1])[random.integers(0, like[1], (like[0], *like[2:]))], -1, 1)
    if kind == "soft" and dtype == "f4":
        targets = random.random(like)
    return outputs, targets.astype(dtype)


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from([2, 5, 256]))
def test_equals_numpy_or_is_refused(case, batch_size):
    outputs, targets = case
    expected = reference(outputs, targets)
    found, refusal = None, ""
    try:
        found = scored(torch.from_numpy(outputs), torch.from_numpy(targets), batch_size).mean
    except InputError as error:
        refusal = str(error)
    if found is None:
        # Refused although it has a meaning: probabilities in place of logits, and classes on either of two axes.
        ambiguous = outputs.ndim == 3 and outputs.shape[1] == outputs.shape[2]
        assert expected is None or ambiguous or "between 0 and 1" in refusal
        assert len(refusal) <= 300
    else:
        assert expected is not None
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_same_targets_in_every_shape_and_dtype():
    """Each of these forms of the same labels gives the same accuracy."""
    generator = torch.Generator().manual_seed(1)
    outputs, labels = torch.randn(40, 5, generator=generator), torch.arange(40) % 5
    expected = float((outputs.argmax(1) == labels).double().mean())
    for each in (labels, labels[:, None], labels.to(torch.uint8), labels.int(), nn.functional.one_hot(labels)):
        assert scored(outputs, each, 7).mean == expected
    assert scored(outputs, nn.functional.one_hot(labels).float()).mean == expected
    logits, binary = outputs[:, :1], labels > 2
    expected = float(((logits[:, 0] > 0) == binary).double().mean())
    for found in (logits, logits[:, 0]):
        for each in (binary, binary.long()[:, None], binary.float(), binary.double()[:, None]):
            assert scored(found, each, 7).mean == expected


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (torch.randn(8, 3), torch.full((8,), 3), r"no class of the model.*got 3, allowed 0 to 2"),
        (torch.randn(8, 3), torch.full((8,), -1), "no class of the model"),
        (torch.randn(8, 3), torch.zeros(8), r"whole numbers.*labels\.long\(\)"),
        (torch.randn(8, 3), torch.full((8, 3), 1 / 3), "one-hot"),
        (torch.randn(8, 3), torch.ones(8, 3).long(), "one-hot"),
        (torch.randn(8, 3), torch.zeros(8, 2).long(), r"do not fit outputs of shape \(8, 3\).*allowed \(8,\)"),
        (torch.randn(8, 6, 3), torch.zeros(8, 6).long(), r"movedim\(-1, 1\)"),
        (torch.randn(8, 3, 3), torch.zeros(8, 3).long(), "do not fit.*axis 1 or axis 2.*one-hot"),
        (torch.full((8, 3), float("nan")), torch.zeros(8).long(), "the model gives NaN"),
        (torch.randn(8), torch.rand(8), "0 and 1 for a single logit.*metric"),
        (torch.randn(8, 1), torch.full((8,), 2), "no class of the model"),
        (torch.rand(8, 1), torch.arange(8) % 2, "as probabilities do"),
        (torch.randint(0, 3, (8,)), torch.zeros(8).long(), "logits"),
        (torch.randn(8, 3) > 0, torch.zeros(8).long(), "no classifier"),
        (torch.randn(8, 3), torch.full((8,), -100), "no target counts"),
    ],
)
def test_targets_that_do_not_fit(outputs, targets, message):
    with pytest.raises(InputError, match=message):
        scored(outputs, targets)


def test_ignored_targets_are_counted():
    outputs = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    found = scored(outputs, torch.tensor([0, 0, 2, -100]))
    assert (found.mean, found.ignored, found.images) == (2 / 3, 1, 4)
    assert "1 targets ignored" in str(found)


def test_segmentation_counts_pixels():
    generator = torch.Generator().manual_seed(2)
    outputs, labels = torch.randn(5, 3, 4, 6, generator=generator), torch.randint(0, 3, (5, 4, 6), generator=generator)
    labels[0, 0, :3] = -100
    counts = labels != -100
    expected = float((outputs.argmax(1) == labels)[counts].double().mean())
    for size in (2, 256):
        found = scored(outputs, labels, size)
        assert found.mean == pytest.approx(expected, abs=1e-12)
        assert found.ignored == 3


class TestMetric:
    def test_is_of_all_items_at_once(self):
        generator = torch.Generator().manual_seed(3)
        outputs, targets = torch.randn(10, 2, generator=generator), torch.randn(10, 2, generator=generator)

        def rmse(found, right):
            return (found - right).square().mean().sqrt()

        expected = float(rmse(outputs, targets))
        for size in (3, 4, 256):
            found = scored(outputs, targets, size, metric=rmse)
            assert found.mean == expected
        assert found.metric == "rmse"
        assert str(found).startswith(f"rmse {expected:.4g} (1 runs")

    def test_perplexity_of_dense_outputs(self):
        generator = torch.Generator().manual_seed(4)
        outputs, targets = torch.randn(6, 5, 7, generator=generator), torch.randint(0, 7, (6, 5), generator=generator)

        def perplexity(found, right):
            return nn.functional.cross_entropy(found.flatten(0, 1), right.flatten()).exp().item()

        logs = outputs.double().log_softmax(-1).gather(-1, targets[..., None])
        assert scored(outputs, targets, 4, metric=perplexity).mean == pytest.approx(float((-logs.mean()).exp()), 1e-5)

    def test_targets_in_containers(self):
        class Boxes(Constant):
            def forward(self, index):
                return {"box": self.outputs[index], "score": self.outputs[index, 0]}

        data = [(torch.arange(4), {"box": torch.ones(4, 3)}), (torch.arange(2), {"box": torch.zeros(2, 3)})]
        found = evaluate(
            Boxes(torch.ones(4, 3)), data, 1, metric=lambda o, t: (o["box"] - t["box"]).abs().mean(), output=dict
        )
        assert found.mean == pytest.approx(2 / 6)

    @pytest.mark.parametrize(
        ("metric", "message"),
        [
            ("accuracy", "expected a function"),
            (lambda found, right: found, r"gives no number.*Tensor \(4, 2\)"),
            (lambda found, right: None, "gives no number.*NoneType"),
            (lambda found, right: float("nan"), "not finite"),
            (lambda found, right: {}["f1"], r"the metric <lambda> raised KeyError: 'f1' \(.*test_scores.py:\d+\)"),
            (lambda found: 0.0, r"raised TypeError"),
        ],
    )
    def test_is_a_function_that_gives_a_number(self, metric, message):
        with pytest.raises(InputError, match=message):
            scored(torch.zeros(4, 2), torch.zeros(4).long(), metric=metric)


RETURNED = {"logits": torch.ones(2, 3), "hidden": torch.zeros(2, 5)}


class TestOutput:
    def test_is_chosen_by_key_index_or_function(self):
        first = RETURNED["logits"]
        assert chosen(RETURNED, "logits") is first
        assert chosen(RETURNED, 0) is first
        assert chosen(tuple(RETURNED.values()), -2) is first
        assert chosen(RETURNED, lambda found: found["logits"]) is first
        assert chosen((first,), None) is first

    @pytest.mark.parametrize(
        ("returned", "output", "message"),
        [
            (RETURNED, None, r'several outputs.*keys logits, hidden.*output="logits"'),
            (RETURNED, "scores", "no such output.*keys logits, hidden"),
            ((torch.ones(2), torch.ones(2)), 2, "indices 0 to 1"),
            (torch.ones(2), "logits", "a single tensor"),
            (torch.ones(2), 1.5, "expected a key"),
            (RETURNED, lambda found: found["none"], "raised KeyError"),
            (None, None, "NoneType"),
        ],
    )
    def test_that_is_not_there(self, returned, output, message):
        with pytest.raises(InputError, match=message):
            chosen(returned, output)


def test_classes_of_unsigned_labels():
    assert classes_of(torch.eye(3), torch.arange(3).to(torch.uint16)).right.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="no class"):
        classes_of(torch.eye(3), torch.full((3,), 2**64 - 100, dtype=torch.uint64))
