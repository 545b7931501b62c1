"""nn.Linear on tiles."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdls_cosim.analog.hardware import Hardware
from mdls_cosim.analog.layer import AnalogLayer
from mdls_cosim.errors import InputError


class AnalogLinear(AnalogLayer):
    """y = x W^T + b on memristor tiles; arguments and shapes of `torch.nn.Linear`.

    Args:
        hardware: tiles, mapping and periphery.
        seed: draws the programming error.
        digital: the layer whose weights to take; None: fresh ones, drawn as torch draws them.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        hardware: Hardware,
        seed: int | torch.Generator = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        digital: nn.Linear | None = None,
    ) -> None:
        if digital is None:
            digital = nn.Linear(in_features, out_features, bias, device, dtype)
        super().__init__(hardware, digital, groups=1)
        self.in_features = in_features
        self.out_features = out_features
        self.program(seed)

    @classmethod
    def from_linear(cls, linear: nn.Linear, hardware: Hardware, seed: int | torch.Generator = 0) -> AnalogLinear:
        """The same weights on tiles; `linear` stays as it is."""
        layer = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            hardware=hardware,
            seed=seed,
            digital=linear,
        )
        return layer.train(linear.training)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return self._run(self.items(inputs)).reshape(*inputs.shape[:-1], self.out_features)

    def items(self, inputs: Tensor) -> Tensor:
        if inputs.ndim == 0 or inputs.shape[-1] != self.in_features:
            raise InputError(
                "the input of AnalogLinear has the wrong shape",
                value=tuple(inputs.shape),
                limit=f"(*batch, {self.in_features})",
            )
        return inputs.reshape(-1, self.in_features)

    def _vectors_per_item(self, items: Tensor) -> int:
        return 1

    def _vectors(self, items: Tensor) -> Tensor:
        return items[None]

    def _assemble(self, results: Tensor, items: Tensor) -> Tensor:
        outputs = results[0]
        return outputs if self.bias is None else outputs + self.bias.to(outputs.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {super().extra_repr()}"
