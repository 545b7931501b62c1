"""VGG-8."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def vgg8(classes: int, channels: int, size: int, *, width: int = 48, hidden: int = 384) -> nn.Sequential:
    """VGG-8: three pairs of 3x3 convolutions, each pair batch-normalised and pooled by 2, and two linear layers.

    [conv w, ReLU, conv w, norm, ReLU, max-pool] for w = width, 2 width, 3 width; hidden, ReLU; classes

    1 347 610 parameters at three channels of 32x32 and 10 classes, where 2304 numbers reach the linear layers; 517 306
    at one channel of 8x8. Every convolution has a bias, also before a normalisation.

    Args:
        width: maps of the first pair; the others have twice and three times as many.
        hidden: width of the first linear layer.

    Source: the network on which Lammie, Xiang, Rahimi Azghadi, "Modeling and simulating in-memory memristive deep
    learning systems: an overview of current efforts", Array, 2022, compare simulators; after Simonyan, Zisserman 2014,
    doi:10.48550/arXiv.1409.1556.
    """
    layers: list[tuple[str, nn.Module]] = []
    inputs = channels
    for pair in (1, 2, 3):
        maps = pair * width
        first, second = 2 * pair - 1, 2 * pair
        layers += [
            (f"conv{first}", nn.Conv2d(inputs, maps, 3, padding=1)),
            (f"relu{first}", nn.ReLU()),
            (f"conv{second}", nn.Conv2d(maps, maps, 3, padding=1)),
            (f"norm{second}", nn.BatchNorm2d(maps)),
            (f"relu{second}", nn.ReLU()),
            (f"pool{pair}", nn.MaxPool2d(2)),
        ]
        inputs = maps
    layers += [
        ("flatten", nn.Flatten()),
        ("hidden", nn.Linear(inputs * (size // 8) ** 2, hidden)),
        ("relu7", nn.ReLU()),
        ("head", nn.Linear(hidden, classes)),
    ]
    return nn.Sequential(OrderedDict(layers))
