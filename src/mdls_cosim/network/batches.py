"""Labelled data as batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mdls_cosim.errors import InputError

Data = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
"""Inputs and labels, or an iterable of such batches (a DataLoader)."""


class Batches:
    """Data that can be walked through any number of times."""

    def __init__(self, data: Any, batch_size: int) -> None:
        if batch_size < 1:
            raise InputError("a batch holds at least one item", where="batch_size", value=batch_size, limit="1 or more")
        self.whole: tuple[Tensor, Tensor] | None = None
        """Inputs and labels, where the data came as such."""
        self.batch_size = batch_size
        if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(p, Tensor | np.ndarray) for p in data):
            inputs, labels = (torch.as_tensor(part) for part in data)
            if len(inputs) != len(labels):
                raise InputError(
                    "inputs and labels differ in number", value=f"{len(inputs)} inputs, {len(labels)} labels"
                )
            self.whole = inputs, labels
        elif isinstance(data, Tensor | np.ndarray) or not isinstance(data, Iterable):
            raise InputError(
                "data is neither (inputs, labels) nor an iterable of such batches", value=type(data).__name__
            )
        else:
            # An iterator can be walked through only once: hold what it gives.
            self._batches = list(data) if isinstance(data, Iterator) else data

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.whole is not None:
            inputs, labels = self.whole
            yield from zip(inputs.split(self.batch_size), labels.split(self.batch_size), strict=True)
            return
        for batch in self._batches:
            if isinstance(batch, Tensor | np.ndarray):
                raise InputError(
                    "batches without labels", value=f"a batch {tuple(batch.shape)}", limit="(inputs, labels)"
                )
            inputs, labels = batch
            yield torch.as_tensor(inputs), torch.as_tensor(labels)

    def input_batches(self) -> Iterator[Tensor]:
        """The inputs alone, of batches with labels or without."""
        if self.whole is not None:
            yield from self.whole[0].split(self.batch_size)
            return
        for batch in self._batches:
            yield torch.as_tensor(batch if isinstance(batch, Tensor | np.ndarray) else batch[0])

    def inputs(self) -> Tensor:
        """All inputs."""
        return self.whole[0] if self.whole is not None else torch.cat(list(self.input_batches()))


def place_of(model: nn.Module) -> torch.device:
    """Where the model computes."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
