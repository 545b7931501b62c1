"""Changes made to a layer after it was programmed, which its reads would ignore."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from mdls_cosim.errors import ConfigError, IgnoredChangeWarning

SUMMED = 2**14
"""Weights up to this number are summed at every read; of larger ones only samples are looked at, until torch counts a
change."""
_SAMPLES = 256


class WeightRecord:
    """Weights as they were programmed: their sum and evenly spaced samples, to notice that they changed since.

    torch counts changes in place, but not those through `.data`: of matrices of more than `SUMMED` elements these are
    noticed where they touch a sample.
    """

    def __init__(self, weight: Tensor) -> None:
        self._state = _state(weight)
        self._sum, self._samples = _sum(weight), _samples(weight)

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightRecord:
        return self.__reduce__()[0](*self.__reduce__()[1])

    def __reduce__(self) -> Any:
        return _restored, (self._sum, self._samples.clone())

    @torch.no_grad()
    def changed(self, weight: Tensor) -> bool:
        """Whether `weight` differs from what was recorded."""
        state = _state(weight)
        moved = state != self._state
        samples = _samples(weight)
        if samples.shape != self._samples.shape or not torch.equal(samples, self._samples.to(samples.device)):
            return True
        if moved or weight.numel() <= SUMMED:
            # Another number of threads may add in another order.
            rounding = 1e-13 * weight.numel() * float(samples.abs().amax())
            if abs(_sum(weight) - self._sum) > rounding:
                return True
        self._state = state
        return False


def _restored(total: float, samples: Tensor) -> WeightRecord:
    record = WeightRecord.__new__(WeightRecord)
    record._state, record._sum, record._samples = None, total, samples
    return record


def _state(weight: Tensor) -> tuple[int, int, int] | None:
    """Place and version of the numbers; torch counts no versions in inference mode."""
    if weight.is_inference():
        return None
    return weight.data_ptr(), weight._version, weight.numel()


def _sum(weight: Tensor) -> float:
    return float(weight.detach().sum(dtype=torch.float64))


def _samples(weight: Tensor) -> Tensor:
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLES)].double()


def warn_of_change(where: str) -> None:
    """Warn that the weights of a layer are not those on its tiles."""
    warnings.warn(
        f"the weights of {where} changed since they were programmed: reads give the old ones. "
        "network.program(model, seed) or layer.program(seed) writes them to the tiles",
        IgnoredChangeWarning,
        stacklevel=2,
    )


def fixed(name: str, where: str, value: Any, before: Any) -> ConfigError:
    """The error for a change of an attribute that a chip was laid out for."""
    return ConfigError(
        f"{name} of a layer on tiles cannot be changed",
        where=where,
        value=value,
        limit=before,
        hint="change the float model and convert it anew",
    )


def without_gradient(outputs: Tensor, weight: Tensor) -> Tensor:
    """`outputs` as they are; a backward pass that is asked for the gradient of `weight` warns that there is none."""
    if not (torch.is_grad_enabled() and outputs.requires_grad and weight.requires_grad):
        return outputs
    return _Joined.apply(outputs, _Asked.apply(weight))  # pyright: ignore[reportReturnType]


class _Asked(torch.autograd.Function):
    """A zero whose backward pass runs only where the gradient of the weights is wanted."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor) -> Tensor:
        return weight.new_zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        warnings.warn(
            "weights on tiles get no gradient: an optimizer leaves them as they are. Train the float model, then "
            "convert it; requires_grad_(False) on the weights ends this warning",
            IgnoredChangeWarning,
            stacklevel=2,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> None:
        return None


class _Joined(torch.autograd.Function):
    """The outputs, and an edge to the zero of `_Asked`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(outputs: Tensor, asked: Tensor) -> Tensor:
        return outputs.view_as(outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        return gradient, gradient.new_zeros(())

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].view_as(tangents[0])
