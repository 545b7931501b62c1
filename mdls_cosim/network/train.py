"""Training of a float model, before it is converted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.network.batches import Batches, Data, place_of
from mdls_cosim.network.chips import analog_layers
from mdls_cosim.network.scores import IGNORED, Output, Scoring, classes_of
from mdls_cosim.network.user_code import call

Loss = Callable[[Any, Any], Tensor]
"""loss(outputs, targets) -> a number to be minimized, the mean over the items of a batch."""


@dataclass(frozen=True)
class History:
    """Losses and accuracies of a training, epoch by epoch."""

    losses: tuple[float, ...]
    """Mean loss on the training data, while training."""
    accuracies: tuple[float, ...]
    """Fraction classified correctly, while training; empty with a loss of the user's."""


def train(
    model: nn.Module,
    data: Data,
    epochs: int,
    learning_rate: float = 1e-3,
    seed: int = 0,
    batch_size: int = 64,
    weight_decay: float = 0.0,
    *,
    loss: Loss | None = None,
    output: Output | None = None,
) -> History:
    """Trains a model in place: Adam, learning rate falling to zero along a half cosine.

    Args:
        data: (inputs, labels), shuffled from `seed` every epoch; or an iterable of batches, taken in its own order.
        seed: also draws what the model draws (dropout); torch's global generator stays as it was.
        loss: loss(outputs, targets); None: the cross entropy of a classifier, binary for one logit.
        output: key, index or function that chooses the output of a model that returns several.

    Raises:
        InputError: no epochs, no data; labels that do not fit the outputs, see `evaluate`; a loss that is no number.
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
    batches = Batches(data, batch_size, model, same=False, use="train on")
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    training = model.training
    losses, accuracies = [], []
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.train()
            for _ in range(epochs):
                mean, accuracy = _epoch(model, _shuffled(batches, order), optimiser, loss, Scoring(output=output))
                losses.append(mean)
                if accuracy is not None:
                    accuracies.append(accuracy)
                schedule.step()
    finally:
        model.train(training)
    return History(tuple(losses), tuple(accuracies))


def _shuffled(batches: Batches, order: torch.Generator) -> Batches:
    if batches.whole is None:
        return batches
    return batches.permuted(torch.randperm(batches.whole.items, generator=order))


def _epoch(
    model: nn.Module, batches: Batches, optimiser: torch.optim.Optimizer, loss: Loss | None, scoring: Scoring
) -> tuple[float, float | None]:
    """Mean loss and accuracy."""
    place = place_of(model)
    total = torch.zeros((), device=place)
    right = compared = count = 0
    for batch in batches:
        batch = batch.to(place)
        outputs = scoring.outputs(model, batch)
        if loss is None:
            classes = classes_of(outputs, batch.targets)
            right += int((classes.found == classes.right).sum())
            compared += len(classes.right)
            if not len(classes.right):
                continue  # the cross entropy of nothing is not a number
            value = cross_entropy(outputs, batch.targets)
        else:
            value = _number(call(loss, outputs, batch.targets, what="the loss", where="loss"))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        total += value.detach() * batch.items
        count += batch.items
    if not count:
        raise InputError("no target counts", where="data", value=f"all are of class {IGNORED}")
    return float(total) / count, right / compared if compared else None


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of outputs with targets that `classes_of` takes; binary for one logit."""
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        logits, wanted = outputs.reshape(len(outputs), -1), targets.reshape(len(targets), -1)
        counts = wanted != IGNORED
        return functional.binary_cross_entropy_with_logits(logits[counts], wanted[counts].to(logits))
    if targets.shape == outputs.shape:
        classes = targets.to(torch.int64).argmax(1)
    else:
        classes = targets.to(torch.int64).reshape(len(outputs), *outputs.shape[2:])
    return functional.cross_entropy(outputs, classes, ignore_index=IGNORED)


def _number(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        shape = f" {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise InputError(
            "expected a loss that is a number with a gradient", where="loss", value=f"{type(value).__name__}{shape}"
        )
    return value.reshape(())
