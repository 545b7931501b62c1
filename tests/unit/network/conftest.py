"""A small classifier and data that it can learn."""

import pytest
import torch
from torch import nn

from mdls_cosim.analog import Hardware
from mdls_cosim.tiles import TileSpec


class Classifier(nn.Module):
    """Two convolutions and two linear layers; the second linear layer is used twice."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, groups=2), nn.ReLU()
        )
        self.hidden = nn.Linear(16, 16)
        self.again = self.hidden
        self.head = nn.Linear(16, 3)

    def forward(self, images):
        x = self.features(images).flatten(1)
        return self.head(torch.relu(self.again(torch.relu(self.hidden(x)))))


@pytest.fixture
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier().eval()


@pytest.fixture
def images():
    """Three classes of 6x6 images: a bright band at the top, in the middle or at the bottom, in noise."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(90) % 3
    pictures = 0.3 * torch.randn(90, 1, 6, 6, generator=generator)
    for index, label in enumerate(labels):
        pictures[index, :, 2 * label : 2 * label + 2] += 1.0
    return pictures, labels


@pytest.fixture
def ohmic():
    return TileSpec(rows=10, cols=6)


@pytest.fixture
def wired(ohmic):
    return ohmic.replace(
        row_line_resistance=5.0, column_line_resistance=5.0, driver_resistance=50.0, sense_resistance=50.0
    )


@pytest.fixture
def ideal(ohmic):
    return Hardware(tile=ohmic, rung="ideal")
