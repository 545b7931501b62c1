"""A network of depthwise separable convolutions."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mdls_cosim.network.zoo.blocks import normalised_convolution

# (maps, in parts of the stem's; stride) of every separable convolution
BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *((16, 1),) * 5, (32, 2), (32, 1))


def mobilenet(classes: int, channels: int, size: int, *, width: int = 32) -> nn.Sequential:
    """MobileNet (first version) with a stem for small images: 13 depthwise separable convolutions.

    conv 3x3 width; each block a 3x3 convolution of every map on its own (groups = maps) and a 1x1 convolution that
    mixes the maps, both batch-normalised and rectified; mean; classes

    3 217 226 parameters at three channels and 10 classes, at any size.

    Args:
        width: maps of the stem; 32 is the paper's network, 16 its half ("width multiplier" 0.5).

    Source: Howard et al. 2017, doi:10.48550/arXiv.1704.04861.
    Left out: the stride of the stem, which is for images of 224x224.
    """
    del size  # the mean takes any
    layers: list[tuple[str, nn.Module]] = [("stem", normalised_convolution(channels, width, 3))]
    inputs = width
    for position, (factor, stride) in enumerate(BLOCKS, start=1):
        outputs = factor * width
        block = nn.Sequential(
            OrderedDict(
                depthwise=normalised_convolution(inputs, inputs, 3, stride, groups=inputs),
                pointwise=normalised_convolution(inputs, outputs, 1),
            )
        )
        layers.append((f"block{position}", block))
        inputs = outputs
    layers += [("mean", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("head", nn.Linear(inputs, classes))]
    return nn.Sequential(OrderedDict(layers))
