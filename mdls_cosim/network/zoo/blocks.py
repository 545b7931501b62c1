"""What several networks are built from."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def normalised_convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, rectified: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation and (where `rectified`) ReLU: conv, norm, relu.

    Padded so that stride 1 keeps the size of an image. The convolution has no bias: the normalisation that follows
    would subtract it again. Its weights are drawn for signals to keep their size through ReLU also where nothing is
    normalised yet (evaluation of a model that was not trained): He et al. 2015, doi:10.1109/ICCV.2015.123.
    """
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    layers: list[tuple[str, nn.Module]] = [
        ("conv", conv),
        ("norm", nn.BatchNorm2d(outputs)),
    ]
    if rectified:
        layers.append(("relu", nn.ReLU()))
    return nn.Sequential(OrderedDict(layers))
