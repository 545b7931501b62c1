"""Ranges of DACs and ADCs, found on data."""

from __future__ import annotations

import torch
from torch import nn

from mdls_cosim.network.batches import Batches, Data, place_of
from mdls_cosim.network.chips import analog_layers, evaluation_mode, kept_state
from mdls_cosim.network.scores import forward


def calibrate(model: nn.Module, data: Data, batch_size: int = 256) -> None:
    """Sets the range of every converter whose hardware does not fix it to the largest value seen in `data`.

    Layers are calibrated in the order in which they run, each on the outputs of the layers before it. A layer that
    runs more than once, and every further batch, extends the ranges. State of the model (buffers, tensors in
    attributes) is afterwards as before.

    Args:
        data: inputs, (inputs, labels) or an iterable of batches of those; see `batches.Data`.

    Raises:
        InputError: no data, inputs that are not finite or that the model does not take.
    """
    layers = list(analog_layers(model).values())
    batches = Batches(data, batch_size, model, targets=False, use="calibrate on", where="calibration")
    place = place_of(model)
    for layer in layers:
        layer.reset_calibration()
        layer.calibrating = True
    try:
        with evaluation_mode(model), kept_state(model), torch.no_grad():
            for batch in batches:
                forward(model, batch.to(place))
    finally:
        for layer in layers:
            layer.calibrating = False
