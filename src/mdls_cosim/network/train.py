"""Training of a float model, before it is converted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.network.batches import Batches, Data, place_of
from mdls_cosim.network.chips import analog_layers


@dataclass(frozen=True)
class History:
    """How a training went, epoch by epoch."""

    losses: tuple[float, ...]
    """Mean cross entropy on the training data, while training."""
    accuracies: tuple[float, ...]
    """Part classified rightly, while training."""


def train(
    model: nn.Module,
    data: Data,
    epochs: int,
    learning_rate: float = 1e-3,
    seed: int = 0,
    batch_size: int = 64,
    weight_decay: float = 0.0,
) -> History:
    """Trains a classifier in place: Adam on the cross entropy, learning rate falling to zero along a half cosine.

    Args:
        data: (inputs, labels), shuffled from `seed` every epoch; or an iterable of batches, taken in its own order.
        seed: also draws what the model draws (dropout); torch's global generator stays as it was.

    Raises:
        NotAvailable: the model has analog layers.
    """
    if layers := analog_layers(model):
        raise NotAvailable(
            "training through analog layers",
            where=", ".join(name or "(model)" for name in layers),
            hint="train the float model, then convert it",
        )
    if epochs < 1:
        raise InputError("a training needs at least one epoch", where="epochs", value=epochs, limit="1 or more")
    batches = Batches(data, batch_size)
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    training = model.training
    losses, accuracies = [], []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train()
        for _ in range(epochs):
            loss, accuracy = _epoch(model, _shuffled(batches, order), optimiser)
            losses.append(loss)
            accuracies.append(accuracy)
            schedule.step()
    model.train(training)
    return History(tuple(losses), tuple(accuracies))


def _shuffled(batches: Batches, order: torch.Generator) -> Batches:
    if batches.whole is None:
        return batches
    inputs, labels = batches.whole
    permutation = torch.randperm(len(inputs), generator=order).to(inputs.device)
    return Batches((inputs[permutation], labels[permutation]), batches.batch_size)


def _epoch(model: nn.Module, batches: Batches, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
    place = place_of(model)
    total = torch.zeros((), device=place)
    right = torch.zeros((), device=place)
    count = 0
    for inputs, labels in batches:
        labels = labels.to(place)
        outputs: Tensor = model(inputs.to(place))
        loss = functional.cross_entropy(outputs, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(labels)
        right += (outputs.detach().argmax(1) == labels).sum()
        count += len(labels)
    return float(total) / count, float(right) / count
