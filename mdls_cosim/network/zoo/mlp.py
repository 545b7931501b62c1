"""A multilayer perceptron."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from mdls_cosim.errors import ConfigError


def mlp(
    classes: int, channels: int, size: int, *, hidden: Sequence[int] = (128, 64), bias: bool = True
) -> nn.Sequential:
    """A multilayer perceptron with ReLU.

    h_0 = pixels, h_k = max(0, W_k h_(k-1) + b_k), logits = W h_K + b

    402 250 parameters at three channels of 32x32 and 10 classes, 17 226 at one channel of 8x8.

    Args:
        hidden: widths of the hidden layers, from the input on; none of them leaves a linear classifier.

    Source: Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0 (there with sigmoids).
    """
    if isinstance(hidden, str) or not isinstance(hidden, Sequence) or not all(_is_width(width) for width in hidden):
        raise ConfigError("no widths of layers", where="hidden", value=hidden, limit="whole numbers from 1")
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    inputs = channels * size * size
    for position, width in enumerate(hidden, start=1):
        layers += [(f"hidden{position}", nn.Linear(inputs, width, bias)), (f"relu{position}", nn.ReLU())]
        inputs = width
    layers.append(("head", nn.Linear(inputs, classes, bias)))
    return nn.Sequential(OrderedDict(layers))


def _is_width(width: object) -> bool:
    return isinstance(width, int) and not isinstance(width, bool) and width >= 1
