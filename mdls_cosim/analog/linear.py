"""nn.Linear on tiles, and a weight matrix on its own."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.analog.uncompiled import uncompiled
from mdls_cosim.errors import InputError


class AnalogLinear(AnalogLayer):
    """y = x W^T + b on memristor tiles; arguments and shapes of `torch.nn.Linear`.

    Args:
        hardware: tiles, mapping and periphery.
        seed: draws the spread of the cells.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.
    """

    _FIXED = ("in_features", "out_features")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        hardware: Hardware,
        seed: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        digital: nn.Linear | None = None,
    ) -> None:
        if digital is None:
            digital = nn.Linear(in_features, out_features, bias, device, dtype)
        super().__init__(hardware, digital.weight, digital.bias)
        # Of the weights, which are all that torch's layer computes with: pruning may have put others in their place.
        self.out_features, self.in_features = digital.weight.shape
        self.program(seed)

    @classmethod
    def from_linear(cls, linear: nn.Linear, hardware: Hardware, seed: int = 0) -> AnalogLinear:
        """The same weights on tiles; `linear` stays as it is."""
        layer = cls(linear.in_features, linear.out_features, hardware=hardware, seed=seed, digital=linear)
        return layer.train(linear.training)

    @uncompiled
    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return self._run(self.items(input)).reshape(*input.shape[:-1], self.out_features)

    def items(self, inputs: Tensor) -> Tensor:
        self._check_tensor(inputs)
        if inputs.ndim == 0 or inputs.shape[-1] != self.in_features:
            raise self._wrong_shape(inputs, f"(*batch, {self.in_features})")
        return inputs.reshape(-1, self.in_features)

    def _vectors_per_item(self, items: Tensor) -> int:
        return 1

    def _images(self, drives: Tensor) -> Tensor:
        return drives

    def _vectors(self, images: Tensor) -> Tensor:
        return images[None]

    def _assemble(self, results: Tensor, items: Tensor) -> Tensor:
        return results.flatten(1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {super().extra_repr()}"


class AnalogMatrix(AnalogLinear):
    """A weight matrix on memristor tiles, without a network: `AnalogMatrix(weights, hardware) @ x`.

    Converters without a range of their own take it from the first `x`.

    Args:
        weights: (outputs, inputs), a tensor or an array.
        hardware: tiles, mapping and periphery.
        seed: draws the spread of the cells.

    Raises:
        InputError: weights that are no matrix of floating point numbers.
    """

    def __init__(self, weights: Any, hardware: Hardware, seed: int = 0) -> None:
        matrix = torch.as_tensor(weights)
        if matrix.ndim != 2 or not matrix.is_floating_point():
            raise InputError(
                "an analog matrix is made from floating point numbers (outputs, inputs)",
                value=f"{tuple(matrix.shape)} {matrix.dtype}",
            )
        outputs, inputs = matrix.shape
        digital = nn.Linear(inputs, outputs, bias=False, device="meta")
        digital.weight = nn.Parameter(matrix, requires_grad=False)
        super().__init__(inputs, outputs, hardware=hardware, seed=seed, digital=digital)

    def __matmul__(self, vectors: Any) -> Tensor:
        """W x of `vectors` (inputs,) or (*batch, inputs, vectors), a tensor or an array, as torch's own `@`."""
        vectors = torch.as_tensor(vectors, device=self.weight.device)
        if vectors.ndim < 2:
            return self(vectors)
        if vectors.shape[-2] != self.in_features:
            raise InputError(
                f"{type(self).__name__} @ x of the wrong shape",
                value=tuple(vectors.shape),
                limit=f"({self.in_features},) or (*batch, {self.in_features}, vectors)",
            )
        return self(vectors.mT).mT
