"""Methods that torch.compile leaves as they are."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Method = TypeVar("Method", bound=Callable[..., Any])


def uncompiled(method: Method) -> Method:
    """`method`, never traced by torch.compile, nor anything that it calls: the graph breaks around it, once.

    A read of tiles is a few large products, from which a compiler gains nothing; what it keeps between reads, and what
    it asks of its values, would break the graph at every step.
    """
    disabled: Callable[..., Any] | None = None

    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal disabled
        # `torch.compiler.disable` imports the compiler, which takes a second: not before somebody else has.
        if "torch._dynamo" not in sys.modules:
            return method(*arguments, **named)
        if disabled is None:
            from torch._dynamo.decorators import skip

            disabled = torch.compiler.disable(method)
            skip(call)  # or it would be compiled anew for every layer and every shape of its inputs
        return disabled(*arguments, **named)

    return call  # pyright: ignore[reportReturnType]
