"""LeNet-5."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet5(classes: int, channels: int, size: int, *, bias: bool = True) -> nn.Sequential:
    """LeNet-5: two 5x5 convolutions, each with tanh and average pooling by 2, and three linear layers.

    32x32: 6 maps of 28x28 -> 14x14 -> 16 maps of 10x10 -> 5x5 -> 120 -> 84 -> classes

    61 706 parameters at one channel of 32x32 and 10 classes, 62 006 at three. Below 32 pixels the first convolution
    is padded by 2, below 28 the second one too: an image of 28x28 reaches the same 5x5, one of 8x8 ends at 2x2.

    Source: LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791.
    Left out: the trained gain and bias of its pooling, the table of which maps its second convolution reads (here it
    reads all), the scale of its tanh, and the radial basis functions of its output (here linear).
    """
    paddings = 2 if size < 32 else 0, 2 if size < 28 else 0
    last = size
    for padding in paddings:
        last = (last + 2 * padding - 4) // 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=paddings[0], bias=bias),
            tanh1=nn.Tanh(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(6, 16, 5, padding=paddings[1], bias=bias),
            tanh2=nn.Tanh(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            hidden1=nn.Linear(16 * last * last, 120, bias),
            tanh3=nn.Tanh(),
            hidden2=nn.Linear(120, 84, bias),
            tanh4=nn.Tanh(),
            head=nn.Linear(84, classes, bias),
        )
    )
