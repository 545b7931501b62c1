"""How outputs of a model are compared with targets: the classes they name, or a metric of the user's."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mdls_cosim.errors import InputError
from mdls_cosim.network.batch_forms import Batch, joined, leaves, mapped
from mdls_cosim.network.batches import Batches, place_of
from mdls_cosim.network.user_code import call

Metric = Callable[[Any, Any], Any]
"""metric(outputs, targets) -> a number, of all items at once."""
Output = str | int | Callable[[Any], Any]
"""Which of a model's outputs counts: a key or attribute, an index, or a function of what the model returns."""

IGNORED = -100
"""Class of items and pixels that do not count, as of torch's cross entropy."""
_FEW = 4  # outputs among which all may lie between 0 and 1 by chance


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes of some items, of those pixels or items that count."""

    found: Tensor
    """As the model has them, int64 on the CPU."""
    right: Tensor
    """As the targets have them."""
    ignored: int
    """Targets of class `IGNORED`."""


@dataclass(frozen=True, eq=False)
class Score:
    """What a pass through the data gives."""

    value: float
    """The accuracy, or the metric."""
    items: int
    ignored: int = 0
    """Targets that do not count: of class -100."""
    classes: Tensor | None = None
    """Of every target that counts, as the model has it; None with a metric."""


@dataclass(frozen=True)
class Scoring:
    """Accuracy, or a metric, of the chosen output of a model.

    Raises:
        InputError: a metric that is no function.
    """

    metric: Metric | None = None
    output: Output | None = None

    def __post_init__(self) -> None:
        if self.metric is not None and not callable(self.metric):
            raise InputError(
                "expected a function of outputs and targets",
                where="metric",
                value=self.metric if isinstance(self.metric, str) else type(self.metric).__name__,
            )

    @property
    def name(self) -> str:
        """ "accuracy", or the name of the metric."""
        if self.metric is None:
            return "accuracy"
        return getattr(self.metric, "__name__", type(self.metric).__name__)

    def outputs(self, model: nn.Module, batch: Batch) -> Any:
        """The chosen output for a batch, which is on the model's device."""
        return chosen(forward(model, batch), self.output)

    def of(self, model: nn.Module, batches: Batches) -> Score:
        """The score of one pass through the data.

        Raises:
            InputError: outputs or targets that cannot be compared; a metric that gives no finite number.
        """
        return self._accuracy(model, batches) if self.metric is None else self._metric(model, batches)

    def _accuracy(self, model: nn.Module, batches: Batches) -> Score:
        place, items, found = place_of(model), 0, []
        span = _LogitSpan()
        for batch in batches:
            batch = batch.to(place)
            outputs = self.outputs(model, batch)
            compared = classes_of(outputs, batch.targets)
            span.add(outputs, compared)
            found.append(compared)
            items += len(batch.targets)
        span.check()
        classes, right = (torch.cat([getattr(each, name) for each in found]) for name in ("found", "right"))
        ignored = sum(each.ignored for each in found)
        if not len(right):
            raise InputError("no target counts", where="data", value=f"{ignored} of class {IGNORED}")
        return Score(int((classes == right).sum()) / len(right), items, ignored, classes)

    def _metric(self, model: nn.Module, batches: Batches) -> Score:
        assert self.metric is not None
        place, items, outputs, targets = place_of(model), 0, [], []
        for batch in batches:
            batch = batch.to(place)
            found = self.outputs(model, batch)
            outputs.append(mapped(found, lambda each: each.detach().cpu()))
            targets.append(mapped(batch.targets, lambda each: each.cpu()))
            items += batch.items
        whole = joined(outputs, "outputs"), joined(targets, "targets")
        value = call(self.metric, *whole, what=f"the metric {self.name}", where="metric")
        return Score(self._number(value), items)

    def _number(self, value: Any) -> float:
        plain = value.detach().cpu() if isinstance(value, Tensor) else value
        if isinstance(plain, Tensor | np.ndarray | np.generic) and math.prod(plain.shape) == 1:
            plain = plain.item()
        if not isinstance(plain, numbers.Real):
            shape = f" {tuple(plain.shape)}" if isinstance(plain, Tensor | np.ndarray) else ""
            raise InputError(
                f"the metric {self.name} gives no number", where="metric", value=f"{type(value).__name__}{shape}"
            )
        number = float(plain)
        if not math.isfinite(number):
            raise InputError(f"the metric {self.name} is not finite", where="metric", value=number)
        return number


def forward(model: nn.Module, batch: Batch) -> Any:
    """What the model returns for a batch.

    Raises:
        InputError: the model does not take it, or its own code raised something.
    """
    shapes = ", ".join(str(tuple(each.shape)) for each in leaves((batch.args, batch.kwargs)))
    return call(model, *batch.args, what="the model", where=f"inputs {shapes}", **batch.kwargs)


def chosen(returned: Any, output: Output | None) -> Any:
    """The output that counts of what a model returns.

    Raises:
        InputError: several outputs and no choice, or a choice that is not there.
    """
    if callable(output):
        return call(output, returned, what="the function that chooses an output", where="output")
    if isinstance(output, bool) or not isinstance(output, str | int | None):
        raise InputError("expected a key, an index or a function", where="output", value=type(output).__name__)
    if isinstance(output, str):
        found = returned.get(output) if isinstance(returned, Mapping) else getattr(returned, output, None)
        if found is None or isinstance(returned, Tensor):
            raise InputError("the model has no such output", where="output", value=output, limit=_outputs(returned))
        return found
    if isinstance(output, int):
        parts = list(returned.values()) if isinstance(returned, Mapping) else returned
        if isinstance(parts, tuple | list) and -len(parts) <= output < len(parts):
            return parts[output]
        raise InputError("the model has no such output", where="output", value=output, limit=_outputs(returned))
    if isinstance(returned, Tensor):
        return returned
    parts = list(returned.values()) if isinstance(returned, Mapping) else returned
    if isinstance(parts, tuple | list) and len(parts) == 1 and isinstance(parts[0], Tensor):
        return parts[0]
    raise InputError(
        "the model has several outputs, or none that is a tensor",
        where="output",
        value=_outputs(returned),
        hint='Choose one: output="logits", output=0, or a function of what the model returns',
    )


def _outputs(returned: Any) -> str:
    if isinstance(returned, Mapping):
        return f"keys {', '.join(map(str, returned))}"
    if isinstance(returned, tuple | list):
        return f"indices 0 to {len(returned) - 1}" if returned else "an empty tuple"
    return "a single tensor" if isinstance(returned, Tensor) else type(returned).__name__


def classes_of(outputs: Any, targets: Any) -> Classes:
    """The class that every item or pixel has in the outputs, and in the targets.

    Outputs are scores (items, classes, ...) with targets (items, ...), or the same with an axis of length 1 in second
    place; the targets may be one-hot, shaped as the outputs. Of one logit, (items), (items, 1) or (items, 1, ...), the
    class is 1 where it is above 0. Targets are whole numbers; of one logit floats 0 and 1 too. -100 does not count.

    Raises:
        InputError: other shapes, dtypes or values, and scores that are NaN.
    """
    _check_kinds(outputs, targets)
    if not targets.is_floating_point():
        signed = targets.to(torch.int64)
        if targets.dtype == torch.uint64 and bool((signed < 0).any()):
            raise InputError("a label that is no class of the model", where="labels", value="above 2^63")
        targets = signed
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return _of_logits(outputs, targets)
    return _of_scores(outputs, targets)


def _check_kinds(outputs: Any, targets: Any) -> None:
    if not isinstance(outputs, Tensor) or outputs.is_complex() or outputs.dtype == torch.bool or outputs.ndim == 0:
        told = f"{outputs.dtype} {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(
            "the model is no classifier",
            where="outputs",
            value=told,
            limit="scores (items, classes)",
            hint="For other tasks give a metric",
        )
    if not isinstance(targets, Tensor):
        raise InputError(
            "expected labels as a tensor",
            where="labels",
            value=type(targets).__name__,
            hint="For other targets give a metric",
        )
    if targets.is_complex():
        raise InputError("expected labels that are whole numbers", where="labels", value=str(targets.dtype))
    if targets.ndim == 0 or len(targets) != len(outputs):
        raise _shapes_differ(outputs, targets)
    if outputs.is_floating_point() and bool(torch.isnan(outputs).any()):
        raise InputError("the model gives NaN", where="outputs", value=f"{int(torch.isnan(outputs).sum())} scores")


def _of_logits(outputs: Tensor, targets: Tensor) -> Classes:
    """Of one logit an item or pixel."""
    if not outputs.is_floating_point():
        raise InputError("expected floating point logits", where="outputs", value=str(outputs.dtype))
    logits = outputs[:, 0] if outputs.ndim > 1 else outputs
    if targets.shape == (len(outputs), 1, *logits.shape[1:]):
        targets = targets[:, 0]
    if targets.shape != logits.shape:
        raise _shapes_differ(outputs, targets)
    if targets.is_floating_point() and not bool(((targets == 0) | (targets == 1)).all()):
        raise InputError(
            "expected labels 0 and 1 for a single logit",
            where="labels",
            value=f"{targets.dtype} from {float(targets.min()):g} to {float(targets.max()):g}",
            hint="For regression give a metric",
        )
    return _counted((logits > 0).to(torch.int64), targets.to(torch.int64), 2)


def _of_scores(outputs: Tensor, targets: Tensor) -> Classes:
    """Of one score a class."""
    classes, pixels = outputs.shape[1], outputs.shape[2:]
    first, last = (len(outputs), *pixels), outputs.shape[:-1]
    if targets.shape == outputs.shape:
        return _counted(outputs.argmax(1), _from_one_hot(targets), classes)
    if targets.shape == (len(outputs), 1, *pixels):
        targets = targets[:, 0]
    # (items, k, k): classes may be either axis.
    if targets.shape != first or (outputs.ndim == 3 and targets.shape == last):
        raise _shapes_differ(outputs, targets)
    if targets.is_floating_point():
        raise InputError(
            "expected labels that are whole numbers",
            where="labels",
            value=str(targets.dtype),
            hint="Use labels.long() for classes; for regression give a metric",
        )
    return _counted(outputs.argmax(1), targets, classes)


def _from_one_hot(targets: Tensor) -> Tensor:
    ones = (targets == 1).sum(1)
    if not bool((((targets == 0) | (targets == 1)).all(1) & (ones == 1)).all()):
        raise InputError(
            "labels shaped as the outputs that are not one-hot",
            where="labels",
            value=f"{targets.dtype} {tuple(targets.shape)}",
            limit="a single 1 among zeros for each item",
            hint="Use labels.argmax(1), or give a metric for soft and multiple labels",
        )
    return targets.to(torch.int64).argmax(1)


def _counted(found: Tensor, right: Tensor, classes: int) -> Classes:
    """The pairs that count; InputError for a label beyond the classes."""
    counts = right != IGNORED
    wrong = counts & ((right < 0) | (right >= classes))
    if bool(wrong.any()):
        raise InputError(
            "a label that is no class of the model",
            where="labels",
            value=int(right[wrong][0]),
            limit=f"0 to {classes - 1}, or {IGNORED} for what does not count",
        )
    return Classes(found[counts].cpu(), right[counts].cpu(), int((~counts).sum()))


def _shapes_differ(outputs: Tensor, targets: Tensor) -> InputError:
    shape, found = tuple(outputs.shape), tuple(targets.shape)
    hint = None
    if outputs.ndim == 3 and found == shape[:-1] and shape[1] == shape[2]:
        return InputError(
            "labels do not fit outputs of which axis 1 or axis 2 may be the classes",
            where="labels",
            value=f"outputs {shape}, labels {found}",
            hint="Give one-hot labels in the layout of the outputs, or a metric",
        )
    if outputs.ndim > 2 and found == shape[:-1]:
        hint = "Classes are axis 1 of the outputs: output=lambda found: found.movedim(-1, 1), or give a metric"
    expected = (len(outputs), *shape[2:])
    what = "the model is no classifier: " if outputs.ndim > 2 and len(found) < 2 else ""
    return InputError(
        f"{what}labels do not fit outputs of shape {shape}", where="labels", value=found, limit=f"{expected}", hint=hint
    )


class _LogitSpan:
    """Whether single logits all lie between 0 and 1: then they are probabilities, whose threshold is not 0."""

    def __init__(self) -> None:
        self._low, self._high, self._count, self._negatives = math.inf, -math.inf, 0, 0

    def add(self, outputs: Tensor, compared: Classes) -> None:
        if (outputs.ndim == 1 or outputs.shape[1] == 1) and outputs.numel():
            self._low = min(self._low, float(outputs.min()))
            self._high = max(self._high, float(outputs.max()))
            self._count += outputs.numel()
            self._negatives += int((compared.right == 0).sum())

    def check(self) -> None:
        if self._count >= _FEW and self._negatives and 0 <= self._low < self._high <= 1:
            raise InputError(
                "single outputs that all lie between 0 and 1, as probabilities do",
                where="outputs",
                value=f"{self._low:.3g} to {self._high:.3g}",
                limit="logits: class 1 above 0",
                hint="Give the logits, output=torch.logit, or a metric",
            )
