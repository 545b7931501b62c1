"""Layers of several matrices: each matrix on tiles of its own, the rest digital."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from mdls_cosim.analog.alterations import alteration, reparametrised
from mdls_cosim.analog.changes import fixed
from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.analog.linear import AnalogLinear
from mdls_cosim.analog.plain_attributes import plain_attributes, substituted
from mdls_cosim.analog.product import AnalogProduct, MatrixProduct
from mdls_cosim.errors import InputError


class Composite(nn.Module):
    """A torch module opened up: every matrix in it is a layer of its own, the rest is digital.

    Takes the arguments of `digital_kind` and gives its results. Gradients reach the inputs and the digital parameters,
    not the weights on tiles.

    Args:
        hardware: under every matrix; None: they stay digital, each an `nn.Linear` that `convert` may put on tiles.
        seed: draws the spread of the cells.
        digital: the module whose parts to take; None: a fresh one, drawn as torch draws it.
    """

    digital_kind: ClassVar[type[nn.Module]]
    kinds: ClassVar[dict[type[nn.Module], type[Composite]]] = {}
    """What becomes what."""
    _FIXED: ClassVar[tuple[str, ...]] = ()
    """Attributes of torch's module that its matrices were laid out for."""
    label: str = ""
    """Name in the converted model, for messages."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "digital_kind" in cls.__dict__:
            Composite.kinds[cls.digital_kind] = cls

    def __init__(
        self,
        *arguments: Any,
        hardware: Hardware | None,
        seed: int = 0,
        digital: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        digital = self.digital_kind(*arguments, **options) if digital is None else digital
        modes = {part: part.training for part in digital.modules()}
        self._take(digital)
        self.train(digital.training)
        for part, training in modes.items():
            part.training = training
        if hardware is not None:
            open_composites(self)
            makers: dict[type[nn.Module], Callable[[Any, Hardware, int], AnalogLayer]]
            makers = {nn.Linear: AnalogLinear.from_linear}
            if hardware.attention == "tiles":
                makers[MatrixProduct] = AnalogProduct.from_digital
            found = {part: name for name, part in self.named_modules() if type(part) in makers}
            replace_modules(
                self, {part: makers[type(part)](part, hardware, layer_seed(seed, name)) for part, name in found.items()}
            )

    @classmethod
    def from_digital(cls, digital: nn.Module, hardware: Hardware, seed: int = 0) -> Self:
        """The same weights on tiles; `digital` stays as it is."""
        return cls(hardware=hardware, seed=seed, digital=copy.deepcopy(digital))

    def _take(self, digital: Any) -> None:
        """Takes over options and parts; matrices as `nn.Linear`."""
        raise NotImplementedError

    def _parameter(self, name: str) -> tuple[nn.Module, str] | None:
        """The layer, and its parameter, that holds what torch's module calls `name`; None: there is none."""
        return None

    def __getattr__(self, name: str) -> Any:
        found = self._parameter(name) if not name.startswith("_") else None
        return super().__getattr__(name) if found is None else getattr(*found)

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name) if name in self._FIXED else None
        if before is not None and value != before:
            raise fixed(name, self.where, value, before)
        found = self._parameter(name) if "_modules" in self.__dict__ else None
        if found is None:
            super().__setattr__(name, value)
        else:
            setattr(*found, value)

    @property
    def where(self) -> str:
        """The module in a message: its name in the model, where it has one, and its class."""
        return f"{self.label} ({type(self).__name__})" if self.label else type(self).__name__

    def _check_tensor(self, inputs: Any) -> None:
        if not isinstance(inputs, Tensor):
            raise InputError("expected a torch tensor", where=self.where, value=type(inputs).__name__)

    @property
    def on_tiles(self) -> bool:
        """Whether any part of it is."""
        return any(isinstance(part, AnalogLayer) for part in self.modules())


def matrix(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """A layer that holds these parameters themselves."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=False, device="meta")
    layer.weight = weight
    layer.bias = bias  # pyright: ignore[reportAttributeAccessIssue]
    return layer


def open_composites(
    model: nn.Module, leave: Callable[[nn.Module], bool] = lambda _: False
) -> dict[Composite, nn.Module]:
    """Opens everything in `model` of the kinds of `Composite`, in place; what was there before, the outer ones first.

    `model` itself stays. What was altered in a way that would be lost, as by hooks, stays too, and so do all parts of
    the modules for which `leave` is true.
    """
    originals: dict[Composite, nn.Module] = {}
    left = {part for whole in model.modules() if leave(whole) for part in whole.modules()}
    while True:
        found = [part for part in model.modules() if part is not model and part not in left and openable(part)]
        if not found:
            return originals
        # One in another is there still when that is open: its turn comes then.
        inner = {part for whole in found for part in whole.modules() if part is not whole}
        new = {part: Composite.kinds[type(part)](hardware=None, digital=part) for part in found if part not in inner}
        originals |= {opened: part for part, opened in new.items()}
        replace_modules(model, new)


def openable(module: nn.Module) -> bool:
    """Whether `module` is one of the kinds of `Composite`, and nothing in it would be lost."""
    if type(module) not in Composite.kinds:
        return False
    return reparametrised(module) is None and alteration(module) is None


def replace_modules(model: nn.Module, new: dict[Any, Any]) -> None:
    """Puts what is new wherever in `model` the old was: among its parts, and in lists and other plain attributes."""
    if not new:
        return
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
        for name, value in plain_attributes(parent).items():
            held = substituted(value, new)
            if held is not value:
                object.__setattr__(parent, name, held)


def layer_seed(seed: int, name: str) -> int:
    """A seed for one layer: depends on the layer's name and on nothing else of the model or of its hardware."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
