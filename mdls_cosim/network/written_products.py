"""Products of two activations in the `forward` of users' modules, found by torch.fx and put where rules reach them."""

from __future__ import annotations

import copy
import inspect
import operator
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mdls_cosim.analog import AnalogLayer, Composite, MatrixProduct
from mdls_cosim.analog.uncompiled import uncompiled
from mdls_cosim.network import product_forms

Site = tuple[str, int, int]
"""A place in users' code: function, its first line, and the instruction in it."""

_TORCH = os.path.join(os.path.dirname(torch.__file__), "")

_FORMS: dict[Any, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    **dict.fromkeys(
        (torch.matmul, torch.bmm, torch.mm, torch.linalg.matmul, operator.matmul, "matmul", "bmm", "mm"),
        (("matmul",), product_forms.matmul),
    ),
    **dict.fromkeys((Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.__matmul__), (("matmul",), product_forms.matmul)),
    **dict.fromkeys((torch.baddbmm, Tensor.baddbmm, "baddbmm"), (("matmul",), product_forms.baddbmm)),
    torch.einsum: (("einsum",), product_forms.einsum),
    functional.scaled_dot_product_attention: (("scores", "mixture"), product_forms.scaled_dot_product_attention),
}
"""Functions of torch, and names of methods, with the names of their products and what computes them by these."""


def open_products(model: nn.Module, leave: Callable[[nn.Module], bool] = lambda _: False) -> dict[str, str]:
    """Gives users' modules a `MatrixProduct` for every product of two activations in their `forward`.

    The module keeps its class, its attributes and its code: while its `forward` runs, calls at the places that torch.fx
    saw are computed by these parts. In place. Modules for which `leave` is true stay as they are, with all their parts.

    Returns:
        Modules that torch.fx cannot trace, and why.
    """
    untraced: dict[str, str] = {}
    left = {part for whole in model.modules() if leave(whole) for part in whole.modules()}
    for name, module in list(model.named_modules()):
        if module in left or not _is_users(module):
            continue
        if "forward" in vars(module):
            untraced[name] = "its forward was replaced on the instance"
            continue
        sites, failure = _find(module)
        if failure is not None:
            untraced[name] = failure
        if sites:
            _open(module, sites)
    return untraced


def _is_users(module: nn.Module) -> bool:
    kind = type(module)
    if isinstance(module, AnalogLayer | Composite | MatrixProduct | torch.jit.ScriptModule):
        return False
    if kind.__module__.partition(".")[0] == "torch" and not isinstance(module, fx.GraphModule):
        return False
    return kind.forward is not nn.Module.forward


def _open(module: nn.Module, sites: dict[Site, Any]) -> None:
    """Adds the parts and routes the calls at `sites` to them."""
    parts: dict[Site, tuple[str, ...]] = {}
    for site, target in sites.items():
        wanted = _FORMS[target][0]
        number = next(n for n in range(len(dir(module))) if not any(hasattr(module, _numbered(w, n)) for w in wanted))
        parts[site] = tuple(_numbered(name, number) for name in wanted)
        for name in parts[site]:
            module.add_module(name, MatrixProduct().train(module.training))
    object.__setattr__(module, "forward", RoutedForward(module, parts))


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


class RoutedForward:
    """`forward` of a module, its products at `parts` computed by the submodules named there."""

    def __init__(self, module: nn.Module, parts: dict[Site, tuple[str, ...]]) -> None:
        self.module = module
        self.parts = parts

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(type(self.module).forward.__get__(self.module))

    @uncompiled
    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with _Routing(self.module, self.parts):
            return type(self.module).forward(self.module, *arguments, **named)


def product_parts(module: nn.Module) -> list[str]:
    """Names of the parts that `open_products` gave a module."""
    forward = vars(module).get("forward")
    return [name for names in forward.parts.values() for name in names] if isinstance(forward, RoutedForward) else []


class _Routing(TorchFunctionMode):
    def __init__(self, module: nn.Module, parts: dict[Site, tuple[str, ...]]) -> None:
        super().__init__()
        self._module, self._parts = module, parts

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        form = _FORMS.get(func)
        names = None if form is None else self._parts.get(_site(2))
        if form is None or names is None:
            return func(*args, **(kwargs or {}))
        parts = [self._module.get_submodule(name) for name in names]
        return form[1](*parts, *args, **(kwargs or {}))


def _site(depth: int) -> Site:
    """The innermost place outside of torch and of this file; `depth`: frames to leave out."""
    frame: Any = sys._getframe(depth)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_TORCH, __file__)):
        frame = frame.f_back
    code = frame.f_code
    return code.co_qualname, code.co_firstlineno, frame.f_lasti


class _Tracer(fx.Tracer):
    """Traces one module alone: all its parts are opaque, its parameters and buffers are no data."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_proxy(self, *arguments: Any, **named: Any) -> fx.Proxy:
        proxy = super().create_proxy(*arguments, **named)
        proxy.node.meta["site"] = _site(1)
        return proxy


def _find(module: nn.Module) -> tuple[dict[Site, Any], str | None]:
    """Where the module multiplies two activations, and by what; why it could not be traced at all, if so."""
    sites: dict[Site, Any] = {}
    failures: list[str] = []
    traced = False
    for training in (module.training, not module.training):
        for concrete in _choices(module):
            try:
                with torch.random.fork_rng(devices=[]), torch.no_grad():
                    graph = _Tracer(autowrap_functions=_opaque()).trace(_probe(module, training), concrete)
            except Exception as error:  # users' code, run on stand-ins for its inputs
                failures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:80]}")
            else:
                traced = True
                sites |= dict(_products(graph))
    return sites, None if traced else failures[0]


def _choices(module: nn.Module) -> Iterator[dict[str, Any] | None]:
    """All arguments open; then those with defaults at their defaults, by which code may branch."""
    yield None
    parameters = inspect.signature(module.forward).parameters.values()
    plain = (type(None), bool, int, float, str)
    if defaults := {each.name: each.default for each in parameters if isinstance(each.default, plain)}:
        yield defaults


def _probe(module: nn.Module, training: bool) -> nn.Module:
    """A shallow copy, on which code may put what it likes."""
    probe = copy.copy(module)
    for name, value in vars(module).items():
        if isinstance(value, list | dict):
            probe.__dict__[name] = copy.copy(value)
    probe.__dict__["training"] = training
    return probe


def _opaque() -> tuple[Callable[..., Any], ...]:
    """Functions of other packages that torch.fx must not look into."""
    einops = sys.modules.get("einops")
    return tuple(getattr(einops, name) for name in ("rearrange", "reduce", "repeat") if hasattr(einops, name))


def _products(graph: fx.Graph) -> Iterator[tuple[Site, Any]]:
    moving: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op in ("placeholder", "call_module") or any(each in moving for each in node.all_input_nodes):
            moving.add(node)
        if node.op not in ("call_function", "call_method") or node.target not in _FORMS:
            continue
        factors = [*node.args, *(node.kwargs.get(name) for name in ("mat2", "other", "batch1", "batch2", "key"))]
        if _FORMS[node.target][1] is product_forms.baddbmm:
            factors = factors[1:]
        if node.target is torch.einsum and not product_forms.takes(*node.args):
            continue
        flat = [part for each in factors for part in (each if isinstance(each, list | tuple) else [each])]
        if sum(isinstance(each, fx.Node) and each in moving for each in flat) > 1:
            yield node.meta["site"], node.target
