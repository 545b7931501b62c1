"""A converted model at a moment: hours after its programming, or at another temperature."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from mdls_cosim.analog import Moment
from mdls_cosim.network.chips import analog_layers, copied


def at(model: nn.Module, time: float | str = 0.0, temperature: float | str | None = None, read: int = 0) -> nn.Module:
    """A copy of a converted model whose chips are read at this moment; ranges and corrections stay as they are.

    Args:
        model: converted; stays as it is. It also has this as a method, `model.at(time="1 day")`.
        time: since the programming, "1 day" or [s].
        temperature: since the programming, "350 K" or [K]; None: that of the tiles.
        read: another number redraws the noise of the reads.

    Raises:
        ConfigError: no such time or temperature.
        NotAvailable: a tile model that knows no other temperature.
    """
    moment = Moment.of(time, temperature, read)
    moved = copied(model)
    for layer in analog_layers(moved).values():
        layer.moved_to(moment)
    return moved


class _AtOf:
    """`at` of one model: an attribute that does not keep its model alive, and goes with it into copies and files."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)

    def __call__(self, time: float | str = 0.0, temperature: float | str | None = None, read: int = 0) -> nn.Module:
        model = self._model()
        if model is None:
            raise ReferenceError("the model is gone")
        return at(model, time, temperature, read)

    def __reduce__(self) -> Any:
        return _AtOf, (self._model(),)


def give_method(model: nn.Module) -> None:
    """Gives a model, which stays of its own class, the method `at`, unless it has something of that name."""
    if not hasattr(model, "at"):
        object.__setattr__(model, "at", _AtOf(model))


def remove_method(model: nn.Module) -> None:
    """Remove what `give_method` gave."""
    if isinstance(vars(model).get("at"), _AtOf):
        object.__delattr__(model, "at")
