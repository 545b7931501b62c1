"""Weights of a model, to and from files; reading one never runs code."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from mdls_cosim.errors import InputError, NotAvailable, StoreError, brief
from mdls_cosim.provenance import Provenance, content_hash, parse_json
from mdls_cosim.store import Array

_PROVENANCE = "mdls_cosim.provenance"
_SHOWN = 5
_MAKE_ANOTHER = "Save model.state_dict(), or better write safetensors"


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    parents: Sequence[str] = (),
) -> Provenance:
    """Writes the state of a model (parameters and buffers) as safetensors, whole or not at all; returns its provenance.

    Weights that a model has under several names are written under each.

    Args:
        config: how the model was made and trained, in JSON types; it goes into the provenance, with `seed` and
            `parents` (the content hash of the training data).

    Raises:
        NotAvailable: state that is no tensor. StoreError: the file cannot be written.
    """
    where = os.fspath(path)
    # Copies: safetensors refuses tensors that share memory, as two names of one layer do.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in _state(model).items()
    }
    tools = {"safetensors": version("safetensors")}
    provenance = Provenance.create(_arrays(tensors), config or {}, seed=seed, tools=tools, parents=parents)
    content = safetensors.torch.save(tensors, {_PROVENANCE: json.dumps(provenance.as_dict(), sort_keys=True)})
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(f"cannot be written ({error.strerror})", where=where) from error
    finally:
        temporary.unlink(missing_ok=True)
    return provenance


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> Provenance | None:
    """Puts the weights in a file into a model, all of them or none; returns where they came from, if the file says so.

    Takes safetensors, and a state_dict that torch saved; which of the two is read off the content. Neither can run
    code: of pickles only tensors are taken. Weights keep the model's dtype and device. The content of a file of
    `save_weights` is checked against its hash.

    Raises:
        StoreError: no such file, damaged or altered, another kind of file, or one that asks to run code.
        InputError: names or shapes that are not the model's (all are told), or numbers that are not finite.
    """
    where = os.fspath(path)
    if not Path(path).is_file():
        raise StoreError(
            "not a file" if Path(path).exists() else "no such file", where=where, limit="a file of weights"
        )
    state, provenance = _safetensors(path, where) if _is_safetensors(path) else (_state_dict(path, where), None)
    _check_fit(_state(model), state, where)
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError("weights that are NaN or infinite", where=where, value=", ".join(broken[:_SHOWN]))
    model.load_state_dict(state)
    return provenance


def _state(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise NotAvailable("a file of weights for state that is no tensor", where=", ".join(odd[:_SHOWN]))
    return state


def _is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether the file opens as safetensors do: the length of a JSON header (8 bytes, little-endian), then that."""
    with open(path, "rb") as file:
        opening = file.read(9)
    return len(opening) == 9 and opening[8:] == b"{" and int.from_bytes(opening[:8], "little") < 2**32


def _safetensors(path: str | os.PathLike[str], where: str) -> tuple[dict[str, Tensor], Provenance | None]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
            told = (file.metadata() or {}).get(_PROVENANCE)
    except Exception as error:  # of the library's own kind, of torch's and of Python's
        raise StoreError(f"cannot be read ({brief(error)})", where=where, hint="Take a copy that is whole") from error
    if told is None:
        return state, None
    try:
        provenance = Provenance(**parse_json(told))
    except (TypeError, ValueError) as error:
        raise StoreError(f"provenance that cannot be read ({brief(error)})", where=where) from error
    if content_hash(_arrays(state), provenance.config) != provenance.content_hash:
        raise StoreError(
            "altered since it was written (its content hash does not match)",
            where=where,
            hint="Write it again, or take a copy that is whole",
        )
    return state, provenance


def _state_dict(path: str | os.PathLike[str], where: str) -> dict[str, Tensor]:
    """What torch saved, as long as it is a plain state_dict."""
    try:
        with warnings.catch_warnings():
            # That a pickle is of another protocol than torch writes: what of it cannot be read is an error anyway.
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StoreError(
            f"no weights only: torch refuses to unpickle it, as it may run code ({brief(error)})",
            where=where,
            hint=_MAKE_ANOTHER,
        ) from None
    except Exception as error:  # torch lets those of its unpickler, of struct and of zipfile through
        raise StoreError(
            f"cannot be read ({brief(error)})",
            where=where,
            limit="safetensors, or a state_dict saved by torch",
            hint=_MAKE_ANOTHER,
        ) from None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        keys = ", ".join(map(str, list(found)[:_SHOWN])) if isinstance(found, Mapping) else type(found).__name__
        raise StoreError(
            "no state_dict but something around it",
            where=where,
            value=keys,
            limit="tensors by name",
            hint=_MAKE_ANOTHER,
        )
    return {str(name): tensor for name, tensor in found.items()}


def _check_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    """InputError that tells everything that does not fit."""
    common = [name for name in wanted if name in given]
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in common
        if given[name].shape != wanted[name].shape
    ]
    kinds = [
        f"{name} {given[name].dtype} for {wanted[name].dtype}"
        for name in common
        if _kind(given[name]) != _kind(wanted[name])
    ]
    problems = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "of another shape": shapes,
        "of another kind": kinds,
    }
    told = [f"{len(names)} {problem}: {_listed(names)}" for problem, names in problems.items() if names]
    if told:
        raise InputError(
            f"the weights are not this model's: {'; '.join(told)}",
            where=where,
            hint="Build the model with the options that it was trained with",
        )


def _kind(tensor: Tensor) -> str:
    return "complex" if tensor.is_complex() else "floating" if tensor.is_floating_point() else "whole"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """The tensors as they are hashed; kinds that numpy does not know (bfloat16) as their bytes."""
    arrays = {}
    for name, tensor in tensors.items():
        known = tensor.dtype in _NUMPY_KNOWS
        values = (tensor if known else tensor.reshape(-1).view(torch.uint8)).numpy()
        arrays[name] = Array(values, "", tuple(f"axis{axis}" for axis in range(values.ndim)))
    return arrays


_NUMPY_KNOWS = frozenset(
    {
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128),
    }
)
