"""Layers of several matrices: each matrix on tiles of its own, the rest digital."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Callable
from typing import Any, ClassVar, Self

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.analog.linear import AnalogLinear
from mdls_cosim.analog.product import AnalogProduct, MatrixProduct


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


def open_composites(model: nn.Module) -> dict[Composite, nn.Module]:
    """Opens everything in `model` of the kinds of `Composite`, in place; what was there before, the outer ones first.

    `model` itself stays. What carries hooks or parametrisations, which would be lost, stays too.
    """
    originals: dict[Composite, nn.Module] = {}
    while True:
        found = [part for part in model.modules() if part is not model and openable(part)]
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
    return not has_hooks(module) and reparametrised(module) is None


_UNDONE_BY: dict[type, str] = {
    BasePruningMethod: "is pruned by a hook, which would be lost; torch's prune.remove makes plain weights of it",
    WeightNorm: "is normalised by a hook, which would be lost; torch's remove_weight_norm makes plain ones",
    SpectralNorm: "is normalised by a hook, which would be lost; torch's remove_spectral_norm makes plain ones",
}


def reparametrised(module: nn.Module) -> str | None:
    """How `module`, or a part of it, makes its weights anew at every call, and what ends that; None: it does not."""
    for part in module.modules():
        if parametrize.is_parametrized(part):
            return (
                "has parametrisations, which would be lost; torch's remove_parametrizations makes plain weights of them"
            )
        for hook, (kind, told) in itertools.product(part._forward_pre_hooks.values(), _UNDONE_BY.items()):
            if isinstance(hook, kind):
                return told
    return None


def has_hooks(module: nn.Module) -> bool:
    """Whether anything is called with `module`."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def replace_modules(model: nn.Module, new: dict[Any, Any]) -> None:
    """Puts what is new wherever in `model` the old was."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]


def layer_seed(seed: int, name: str) -> int:
    """A seed for one layer: depends on the layer's name and on nothing else of the model or of its hardware."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
