"""Ranges of DACs and ADCs, found on data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.errors import InputError
from mdls_cosim.network.batches import Batches, place_of
from mdls_cosim.network.chips import analog_layers, evaluation_mode


def calibrate(model: nn.Module, data: Any, batch_size: int = 256) -> None:
    """Sets the range of every converter whose hardware does not fix it to the largest value seen in `data`.

    Layers are calibrated in the order in which they run, each on what the layers before it really give. A layer that
    runs more than once, and every further batch, extends the ranges.

    Args:
        data: inputs, (inputs, labels) or an iterable of batches of those.

    Raises:
        InputError: no data.
    """
    layers = list(analog_layers(model).values())
    place = place_of(model)
    for layer in layers:
        layer.reset_calibration()
        layer.calibrating = True
    try:
        with evaluation_mode(model), torch.no_grad():
            batches = data.split(batch_size) if isinstance(data, Tensor) else Batches(data, batch_size).input_batches()
            seen = 0
            for inputs in batches:
                seen += len(inputs)
                model(inputs.to(place))
            if not seen:
                raise InputError("there is no data to calibrate on", where="calibration", value="0 items")
    finally:
        for layer in layers:
            layer.calibrating = False
