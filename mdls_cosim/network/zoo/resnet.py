"""Residual networks for small images."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from mdls_cosim.errors import ConfigError
from mdls_cosim.network.zoo.blocks import normalised_convolution


class PaddedShortcut(nn.Module):
    """Every `stride`-th pixel, and maps of zeros for those that the input does not have: no parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.added = outputs - inputs
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        kept = images[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.added))


class ResidualBlock(nn.Module):
    """y = max(0, shortcut(x) + norm(conv(max(0, norm(conv(x)))))), convolutions 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.first = normalised_convolution(inputs, outputs, 3, stride)
        self.second = normalised_convolution(outputs, outputs, 3, rectified=False)
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.relu(self.second(self.first(images)) + self.shortcut(images))


def resnet18(classes: int, channels: int, size: int, *, width: int = 64) -> nn.Sequential:
    """ResNet-18 with a stem for small images: four stages of two blocks, of 1, 2, 4 and 8 times `width` maps.

    conv 3x3 width; per stage, blocks of y = max(0, shortcut(x) + F(x)), halving the image from the second stage on;
    mean; classes. Where maps or size change, the shortcut is a 1x1 convolution with batch normalisation.

    11 173 962 parameters at three channels and 10 classes, at any size.

    Source: He, Zhang, Ren, Sun 2016, doi:10.1109/CVPR.2016.90.
    Left out: the strided 7x7 convolution and the pooling of its stem, which are for images of 224x224.
    """
    del size  # the mean takes any
    return _resnet(classes, channels, [width, 2 * width, 4 * width, 8 * width], blocks=2, projected=True)


def resnet20(classes: int, channels: int, size: int, *, width: int = 16, depth: int = 20) -> nn.Sequential:
    """ResNet-20 of the paper's CIFAR experiments: three stages of three blocks, of 1, 2 and 4 times `width` maps.

    conv 3x3 width; per stage, blocks of y = max(0, shortcut(x) + F(x)), halving the image from the second stage on;
    mean; classes. Shortcuts have no parameters: where maps are added, zeros are ("option A").

    269 722 parameters at three channels and 10 classes, at any size.

    Args:
        depth: 6 n + 2 layers, for n blocks a stage (20, 32, 44, 56, 110).

    Source: He, Zhang, Ren, Sun 2016, section 4.2, doi:10.1109/CVPR.2016.90.
    """
    del size  # the mean takes any
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ConfigError("no such depth", where="depth", value=depth, limit="6 n + 2: 8, 14, 20, 26, 32 …")
    return _resnet(classes, channels, [width, 2 * width, 4 * width], blocks, projected=False)


def _resnet(classes: int, channels: int, widths: list[int], blocks: int, projected: bool) -> nn.Sequential:
    """Stages of `blocks` residual blocks each; `projected`: shortcuts of 1x1 convolutions where the shape changes."""
    layers: list[tuple[str, nn.Module]] = [("stem", normalised_convolution(channels, widths[0], 3))]
    inputs = widths[0]
    for stage, outputs in enumerate(widths, start=1):
        for position in range(1, blocks + 1):
            stride = 2 if stage > 1 and position == 1 else 1
            shortcut = nn.Identity()
            if stride > 1:
                shortcut = (
                    normalised_convolution(inputs, outputs, 1, stride, rectified=False)
                    if projected
                    else PaddedShortcut(inputs, outputs, stride)
                )
            layers.append((f"stage{stage}_{position}", ResidualBlock(inputs, outputs, stride, shortcut)))
            inputs = outputs
    layers += [("mean", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("head", nn.Linear(inputs, classes))]
    return nn.Sequential(OrderedDict(layers))
