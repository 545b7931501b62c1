"""Programming and reading a network of depthwise convolutions, whose groups share tiles or have tiles of their own.

A keyword spotter (DS-CNN, 4 x 64 channels, 23,180 parameters; Zhang et al., arXiv:1711.07128) on 128x128 tiles of exact
IR drop. Prints the number of arrays, the time to program one chip, and the time of a batch of 8 inputs.

    python benchmarks/grouped.py [--json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import nn

from mdls_cosim.analog import Hardware
from mdls_cosim.network import convert, program
from mdls_cosim.tiles import TileSpec


def keyword_spotter(channels: int = 64, blocks: int = 4, classes: int = 12) -> nn.Sequential:
    """DS-CNN for (batch, 1, 49, 10) features."""
    layers: list[nn.Module] = [nn.Conv2d(1, channels, (10, 4), (2, 2), (5, 1)), nn.BatchNorm2d(channels), nn.ReLU()]
    for _ in range(blocks):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def measure(group_tiles: str, blocks: int) -> dict[str, float]:
    torch.manual_seed(0)
    model, inputs = keyword_spotter(blocks=blocks).eval(), torch.rand(8, 1, 49, 10)
    tile = TileSpec(rows=128, cols=128, row_line_resistance=1.0, column_line_resistance=1.0)
    tiles, report = convert(model, Hardware(tile=tile, group_tiles=group_tiles), calibration=inputs)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        began = time.perf_counter()
        program(tiles, seed=1)
        tiles(inputs)
        programmed = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(5):
            tiles(inputs)
        read = (time.perf_counter() - began) / 5
    return {"arrays": sum(layer.arrays for layer in report.converted), "program_s": programmed, "read_s": read}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="one depthwise block instead of four")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measure(name, 1 if arguments.quick else 4) for name in ("shared", "separate")}
    print(f"{'groups':10} {'arrays':>7} {'program':>10} {'read 8':>10}")
    for name, each in found.items():
        print(f"{name:10} {each['arrays']:7.0f} {each['program_s']:8.2f} s {each['read_s'] * 1e3:7.1f} ms")
    ratio = found["separate"]["program_s"] / found["shared"]["program_s"]
    print(f"shared tiles are programmed {ratio:.0f} times as fast")
    if arguments.json:
        print(json.dumps({**found, "program_speedup": ratio}))


if __name__ == "__main__":
    main()
