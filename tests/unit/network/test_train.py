"""Training of the float model."""

import copy

import pytest
import torch
from torch import nn

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


def test_targets_of_every_kind_train_alike(images):
    """Columns, one-hot and ignored labels give the weights of plain ones."""
    inputs, labels = images[0].flatten(1), images[1]

    def trained(targets, batches=None):
        torch.manual_seed(0)
        model = nn.Linear(36, 3)
        train(model, batches or (inputs, targets), epochs=2, batch_size=30)
        return model.weight

    plain = trained(labels)
    assert torch.equal(trained(labels[:, None]), plain)
    assert torch.equal(trained(nn.functional.one_hot(labels)), plain)
    assert torch.equal(trained(nn.functional.one_hot(labels).float()), plain)
    ignored = torch.cat([inputs[:30], inputs[:30]]), torch.cat([labels[:30], torch.full((30,), -100)])
    assert torch.equal(trained(None, [ignored]), trained(None, [(inputs[:30], labels[:30])]))


def test_a_binary_head_and_a_loss_of_the_user(images):
    inputs, labels = images[0].flatten(1), images[1] == 0
    for targets in (labels, labels.float()[:, None], labels.long()):
        torch.manual_seed(0)
        model = nn.Linear(36, 1)
        history = train(model, (inputs, targets), epochs=20, learning_rate=5e-2)
        assert history.accuracies[-1] > 0.95
        assert evaluate(model, (inputs, targets)).mean > 0.95

    class Two(nn.Linear):
        def forward(self, x):
            return {"value": super().forward(x), "rest": x}

    torch.manual_seed(1)
    model = Two(36, 1)
    wanted = inputs.mean(1, keepdim=True)
    history = train(model, (inputs, wanted), epochs=30, learning_rate=1e-2, loss=nn.functional.mse_loss, output="value")
    assert history.accuracies == ()
    assert history.losses[-1] < 0.2 * history.losses[0]
    for loss, message in (
        (lambda found, right: 0.0, "a number with a gradient.*float"),
        (lambda found, right: found - right, r"a number with a gradient.*Tensor \(64, 1\)"),
        (lambda found, right: {}["loss"], "the loss raised KeyError"),
    ):
        with pytest.raises(InputError, match=message):
            train(model, (inputs, wanted), epochs=1, loss=loss, output="value")


@pytest.mark.parametrize(
    ("targets", "message"),
    [(torch.zeros(90), "whole numbers"), (torch.full((90,), 3), "no class"), (torch.full((90,), -100), "no target")],
)
def test_labels_that_do_not_fit(images, targets, message):
    with pytest.raises(InputError, match=message):
        train(nn.Linear(36, 3), (images[0].flatten(1), targets), epochs=1)
