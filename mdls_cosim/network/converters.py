"""Which layer becomes what on tiles: torch's layers, and users' own by `register_converter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mdls_cosim.analog import (
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv3d,
    AnalogConvTranspose1d,
    AnalogConvTranspose2d,
    AnalogConvTranspose3d,
    AnalogLayer,
    AnalogLinear,
    AnalogProduct,
    Composite,
    Hardware,
    MatrixProduct,
)
from mdls_cosim.analog.composite import layer_seed
from mdls_cosim.errors import ConfigError, InputError

Converter = Callable[[Any, Hardware, int], nn.Module]
"""From (layer, hardware, seed) to a module with the arguments and results of `layer`, with analog layers in it."""

CONVERTERS: dict[type[nn.Module], Callable[[Any, Hardware, int], AnalogLayer]] = {
    nn.Linear: AnalogLinear.from_linear,
    nn.Conv1d: AnalogConv1d.from_conv,
    nn.Conv2d: AnalogConv2d.from_conv,
    nn.Conv3d: AnalogConv3d.from_conv,
    nn.ConvTranspose1d: AnalogConvTranspose1d.from_conv,
    nn.ConvTranspose2d: AnalogConvTranspose2d.from_conv,
    nn.ConvTranspose3d: AnalogConvTranspose3d.from_conv,
    MatrixProduct: AnalogProduct.from_digital,
}
"""What becomes what, beside the kinds of `Composite`. Subclasses are left out: they may compute something else."""

_REGISTERED: dict[type[nn.Module], Converter] = {}


def register_converter(layer_class: type[nn.Module], converter: Converter, *, replace: bool = False) -> None:
    """Let `convert` put the layers of a class on tiles by a function of your own.

        converter(layer, hardware, seed) -> module

    The converter takes a layer of the copied model, the `Hardware` that the rules give it and a seed for its
    programming errors. It returns another module that takes the arguments of `layer` and gives its results: an
    `AnalogLayer`, as `AnalogLinear`, or a module with any number of analog layers in it. The class is matched exactly:
    its subclasses are refused, because they may compute something else. Layers inside a registered one are left to the
    converter.

    Register in the module that defines the class, so that every process that loads the model knows the converter.

    Args:
        layer_class: a subclass of `torch.nn.Module`.
        converter: the function.
        replace: whether it may take the place of another converter that was registered for the class.

    Raises:
        InputError: `layer_class` is not a class of modules; `converter` is not callable.
        ConfigError: a class with a built-in converter, or one on tiles already; another converter is registered for the
            class and `replace` is False.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, nn.Module)):
        raise InputError("expected a subclass of torch.nn.Module", where="layer_class", value=layer_class)
    if not callable(converter):
        raise InputError("expected a function (layer, hardware, seed)", where="converter", value=converter)
    name = layer_class.__qualname__
    if layer_class in built_in():
        raise ConfigError(
            "this class has a built-in converter, which cannot be replaced",
            where="layer_class",
            value=name,
            hint="Register a subclass of it, and use that in the model",
        )
    if layer_class is nn.Module or issubclass(layer_class, (AnalogLayer, Composite)):
        raise ConfigError("no converter can be registered for this class", where="layer_class", value=name)
    if _REGISTERED.get(layer_class, converter) is not converter and not replace:
        raise ConfigError(
            "another converter is registered for this class",
            where="layer_class",
            value=name,
            hint="Pass replace=True to take its place, or call unregister_converter first",
        )
    _REGISTERED[layer_class] = converter


def unregister_converter(layer_class: type[nn.Module]) -> None:
    """Remove the converter that was registered for a class.

    Raises:
        InputError: none is registered.
    """
    if layer_class not in _REGISTERED:
        name = getattr(layer_class, "__qualname__", layer_class)
        raise InputError("no converter is registered for this class", where="layer_class", value=name)
    del _REGISTERED[layer_class]


def built_in() -> tuple[type[nn.Module], ...]:
    """Classes of torch that can be put on tiles."""
    return (*CONVERTERS, *Composite.kinds)


def kinds() -> tuple[type[nn.Module], ...]:
    """Classes that can be put on tiles: built in and registered."""
    return (*built_in(), *_REGISTERED)


def registered(module: nn.Module) -> bool:
    """Whether a converter is registered for exactly the class of `module`."""
    return type(module) in _REGISTERED


def on_tiles(module: nn.Module, hardware: Hardware, seed: int, name: str) -> nn.Module:
    """What takes the place of `module`, whose name in the model is `name`; every layer in it has a seed of its own.

    Raises:
        InputError: a registered converter that returns no module with a layer on tiles.
    """
    if not registered(module):
        return CONVERTERS[type(module)](module, hardware, layer_seed(seed, name))
    made = _REGISTERED[type(module)](module, hardware, layer_seed(seed, name))
    if not isinstance(made, nn.Module) or made is module or not analog_parts(made, name):
        raise InputError(
            f"the converter of {type(module).__qualname__} must return a new module with an AnalogLayer in it",
            where=name or "(model)",
            value=type(made).__name__,
        )
    for part_name, part in analog_parts(made, name).items():
        if part is not made:  # one of several: the seed that `program(model, seed)` gives it
            part.program(layer_seed(seed, part_name))
    return made.train(module.training)


def analog_parts(made: nn.Module, name: str) -> dict[str, AnalogLayer]:
    """The analog layers in what a converter returned, by their names in the model."""
    named = {".".join(filter(None, (name, part))): module for part, module in made.named_modules()}
    return {part: module for part, module in named.items() if isinstance(module, AnalogLayer)}
