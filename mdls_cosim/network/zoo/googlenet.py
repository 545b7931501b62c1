"""GoogLeNet for small images."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from mdls_cosim.network.zoo.blocks import normalised_convolution

STEM = 192

# name: maps of the 1x1 branch, of the 3x3 branch (reduced, then convolved), of the 5x5 branch, of the pooled branch
BLOCKS: dict[str, tuple[int, tuple[int, int], tuple[int, int], int]] = {
    "a3": (64, (96, 128), (16, 32), 32),
    "b3": (128, (128, 192), (32, 96), 64),
    "a4": (192, (96, 208), (16, 48), 64),
    "b4": (160, (112, 224), (24, 64), 64),
    "c4": (128, (128, 256), (24, 64), 64),
    "d4": (112, (144, 288), (32, 64), 64),
    "e4": (256, (160, 320), (32, 128), 128),
    "a5": (256, (160, 320), (32, 128), 128),
    "b5": (384, (192, 384), (48, 128), 128),
}
POOLED_AFTER = ("b3", "e4")


class Inception(nn.Module):
    """Four branches side by side, their maps stacked.

    y = [conv1(x), conv3(conv1(x)), conv3(conv3(conv1(x))), conv1(max-pool(x))]

    Every convolution is batch-normalised and rectified. Two of 3x3 see what one of 5x5 sees.
    """

    def __init__(self, inputs: int, direct: int, middle: tuple[int, int], wide: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.direct = normalised_convolution(inputs, direct, 1)
        self.middle = nn.Sequential(
            OrderedDict(
                reduce=normalised_convolution(inputs, middle[0], 1), convolve=normalised_convolution(*middle, 3)
            )
        )
        self.wide = nn.Sequential(
            OrderedDict(
                reduce=normalised_convolution(inputs, wide[0], 1),
                convolve1=normalised_convolution(*wide, 3),
                convolve2=normalised_convolution(wide[1], wide[1], 3),
            )
        )
        self.pooled = nn.Sequential(
            OrderedDict(pool=nn.MaxPool2d(3, stride=1, padding=1), reduce=normalised_convolution(inputs, pooled, 1))
        )
        self.maps = direct + middle[1] + wide[1] + pooled

    def forward(self, images: Tensor) -> Tensor:
        branches = self.direct(images), self.middle(images), self.wide(images), self.pooled(images)
        return torch.cat(branches, dim=1)


def googlenet(classes: int, channels: int, size: int) -> nn.Sequential:
    """GoogLeNet in its form for CIFAR: a 3x3 stem, nine inception blocks, the mean over the image, one linear layer.

    stem 192, a3, b3, pool, a4 … e4, pool, a5, b5, mean, classes

    6 158 346 parameters at three channels and 10 classes, at any size.

    Source: Szegedy et al. 2015, doi:10.1109/CVPR.2015.7298594; batch normalisation and the two 3x3 convolutions in
    place of one of 5x5: Ioffe, Szegedy 2015, doi:10.48550/arXiv.1502.03167.
    Left out: the strided stem (images here are small), the auxiliary classifiers and dropout.
    """
    del size  # the mean takes any
    layers: list[tuple[str, nn.Module]] = [("stem", normalised_convolution(channels, STEM, 3))]
    maps = STEM
    for name, widths in BLOCKS.items():
        block = Inception(maps, *widths)
        maps = block.maps
        layers.append((name, block))
        if name in POOLED_AFTER:
            layers.append((f"pool_{name}", nn.MaxPool2d(3, stride=2, padding=1)))
    layers += [("mean", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("head", nn.Linear(maps, classes))]
    return nn.Sequential(OrderedDict(layers))
