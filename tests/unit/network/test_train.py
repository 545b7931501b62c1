"""Training of the float model."""

import copy

import pytest
import torch

from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.network import convert, evaluate, train


def test_learns_and_is_reproducible(classifier, images):
    twin = copy.deepcopy(classifier)
    before = evaluate(classifier, images).mean
    state = torch.random.get_rng_state()
    history = train(classifier, images, epochs=8, learning_rate=2e-2, seed=4, batch_size=16)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(history.losses) == len(history.accuracies) == 8
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert evaluate(classifier, images).mean > max(before, 0.9)
    assert not classifier.training
    assert train(twin, images, epochs=8, learning_rate=2e-2, seed=4, batch_size=16) == history
    assert torch.equal(twin.head.weight, classifier.head.weight)


def test_takes_batches_in_their_order(classifier, images):
    batches = list(zip(images[0].split(30), images[1].split(30), strict=True))
    assert len(train(classifier, iter(batches), epochs=2).losses) == 2


def test_analog_layers_cannot_be_trained_yet(classifier, images, ideal):
    model, _ = convert(classifier, ideal)
    with pytest.raises(NotAvailable, match=r"features\.0.*train the float model"):
        train(model, images, epochs=1)


def test_no_epochs(classifier, images):
    with pytest.raises(InputError, match="epochs"):
        train(classifier, images, epochs=0)
