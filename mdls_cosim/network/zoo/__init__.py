"""Well-known classifiers of images, in plain torch, by name; and a user's own by "module:function"."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from mdls_cosim.errors import ConfigError
from mdls_cosim.network.zoo.factory import factory
from mdls_cosim.network.zoo.googlenet import googlenet
from mdls_cosim.network.zoo.lenet import lenet5
from mdls_cosim.network.zoo.mlp import mlp
from mdls_cosim.network.zoo.mobilenet import mobilenet
from mdls_cosim.network.zoo.resnet import resnet18, resnet20
from mdls_cosim.network.zoo.transformer import transformer
from mdls_cosim.network.zoo.vgg import vgg8

__all__ = ["MODELS", "SMALLEST", "factory", "model"]

MODELS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        builder.__name__: builder
        for builder in (mlp, lenet5, vgg8, googlenet, resnet18, resnet20, mobilenet, transformer)
    }
)
"""Builder by name: `(classes, channels, size, *, own options)`; the docstring of each tells its structure."""

SMALLEST = 8
"""Pixels along an edge from which every model works."""


def model(
    name: str, classes: int = 10, channels: int = 3, size: int = 32, *, seed: int = 0, **options: Any
) -> nn.Module:
    """A classifier (batch, channels, size, size) -> (batch, classes), by its name in `MODELS`, not trained.

    Args:
        size: pixels along an edge of the square images, 8 or more.
        seed: draws the initial weights; torch's generator stays as it was.
        options: the model's own, see its docstring (`help(MODELS["vgg8"])`).

    Raises:
        ConfigError: no such model or option, or an impossible value.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(str(name).lower().replace("-", ""), MODELS, n=1)
        raise ConfigError(
            "no such model",
            where="model",
            value=name,
            limit=", ".join(MODELS),
            hint=f"Did you mean {near[0]}?" if near else 'A model of your own is named "module:function"',
        )
    for key, value, least in (("classes", classes, 1), ("channels", channels, 1), ("size", size, SMALLEST)):
        _check_count(key, value, least)
    _check_options(name, options)
    # On the CPU whatever torch's default device: weights of a seed are the same everywhere.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return MODELS[name](classes, channels, size, **options)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuses unknown options, and counts and switches that are none; the builder checks its other options."""
    parameters = inspect.signature(MODELS[name]).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    for key, value in options.items():
        if key not in defaults:
            raise ConfigError(
                f"no such option of {name}", where=key, limit=", ".join(defaults) or f"none: {name} has no options"
            )
        if isinstance(defaults[key], bool):
            if not isinstance(value, bool):
                raise ConfigError("neither true nor false", where=key, value=value)
        elif isinstance(defaults[key], int):
            _check_count(key, value, 1)


def _check_count(key: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError("an impossible number", where=key, value=value, limit=f"whole numbers from {least}")
