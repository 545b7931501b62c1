"""The network and the data that an experiment names: a user's functions, the zoo, and the hashes of their code."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mdls_cosim.analog.plain_attributes import plain_attributes
from mdls_cosim.errors import ConfigError
from mdls_cosim.network import data as datasets
from mdls_cosim.network import zoo
from mdls_cosim.network.batch_forms import tensor_of
from mdls_cosim.network.experiment.simulation import Simulation
from mdls_cosim.network.source import model_modules, source_hash
from mdls_cosim.network.user_code import call
from mdls_cosim.network.zoo.factory import named_function, searched_first


def labelled_data(simulation: Simulation, where: str) -> datasets.LabelledData:
    """The data of an experiment."""
    plan, place = simulation.data, f"{where}: data"
    if plan.factory is not None:
        name = plan.factory
        make = user_function(simulation, name, place)
        found = call(make, what=f"the function {name}", where=place, error=ConfigError, **plan.options)
        return placed(lambda: datasets.labelled(found, name), place)
    loader = getattr(datasets, plan.name)
    paths = [] if plan.path is None else [existing(simulation, plan.path, f"{where}: data.path")]
    _check_options(loader, len(paths), plan.options, f"{where}: data.options")
    return placed(lambda: loader(*paths, **plan.options), place)


def network(simulation: Simulation, classes: int, image: tuple[int, ...], where: str) -> nn.Module:
    """The network of an experiment, without the weights that it names or trains."""
    plan = simulation.model
    place = f"{where}: model"
    if plan.factory is not None:
        name = plan.factory
        build = user_function(simulation, name, place, zoo.factory)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(simulation.seed)
            return placed(
                lambda: call(build, what=f"the factory {name}", where=place, error=ConfigError, **plan.options), place
            )
    if len(image) != 3 or image[1] != image[2]:
        raise ConfigError(
            "the networks of the zoo take square images",
            where=place,
            value="x".join(map(str, image)),
            limit="(channels, size, size)",
            hint='Take one of your own: factory = "module:function"',
        )
    return placed(
        lambda: zoo.model(plan.name or "", classes, image[0], image[1], seed=simulation.seed, **plan.options), place
    )


def user_function(simulation: Simulation, reference: str, where: str, find: Any = named_function) -> Any:
    """The function "module:function" of an experiment; an error in its module is one sentence."""

    def found() -> Any:
        what = f"the module of {reference}"
        return call(find, reference, simulation.folder or ".", what=what, where=where, error=ConfigError)

    return placed(found, where)


def existing(simulation: Simulation, path: str, where: str) -> Path:
    """A path of the experiment that is there."""
    found = simulation.resolve(path)
    if not found.exists():
        raise ConfigError("no such file or folder", where=where, value=str(found))
    return found


def placed(make: Callable[[], Any], where: str) -> Any:
    """What `make` gives; its ConfigErrors say where in the experiment."""
    try:
        return make()
    except ConfigError as error:
        error.where = where if error.where in (None, "model", where) else f"{where}, {error.where}"
        raise


def _check_options(function: Callable[..., Any], given: int, options: Mapping[str, Any], where: str) -> None:
    names = list(inspect.signature(function).parameters)[given:]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(
                "no such option",
                where=where,
                value=name,
                limit=", ".join(names) or "none",
                hint=f"Did you mean {near[0]}?" if near else None,
            )


def code_hashes(simulation: Simulation, model: nn.Module) -> dict[str, str]:
    """Hashes of the code of the network ("network") and of everything that shapes a run ("code").

    Of a network of the user's: its modules and what they import, and plain values in the network's attributes. Of the
    zoo: its modules.
    """
    plan, loss = simulation.model, None if simulation.train is None else simulation.train.loss
    if plan.factory is None:
        network = source_hash([zoo.MODELS[plan.name or ""].__module__], package=zoo.__name__)
    else:
        network = _attributes_hash(model)
    with searched_first(simulation.folder or "."):
        network += source_hash(_modules(plan.factory, loss) | _own_modules(simulation, model))
        code = network + source_hash(_modules(simulation.metric))
    return {
        name: f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        for name, text in (("network", network), ("code", code))
    }


def running_modules(simulation: Simulation, model: nn.Module) -> tuple[str, ...]:
    """Names of the user's modules that a run needs."""
    names = _modules(simulation.model.factory, simulation.metric) | _own_modules(simulation, model)
    return tuple(sorted(names))


def _modules(*references: str | None) -> set[str]:
    return {reference.partition(":")[0] for reference in references if reference is not None}


def _own_modules(simulation: Simulation, model: nn.Module) -> set[str]:
    return model_modules(model) if simulation.model.factory is not None else set()


def _attributes_hash(model: nn.Module) -> str:
    """Of numbers, texts and tensors that modules hold as attributes, which no state_dict has."""
    texts, tensors = [], {}
    for name, module in model.named_modules():
        for key, value in plain_attributes(module).items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
                value = tensor_of(value)
            if isinstance(value, Tensor):
                tensors[f"{name}.{key}"] = value
            elif isinstance(value, int | float | complex | str | bytes | tuple | list | dict | type(None)):
                texts.append(f"{name}.{key} = {value!r}")
    return tensors_hash(tensors, "\n".join(text for text in texts if " at 0x" not in text))


def tensors_hash(tensors: Mapping[str, Tensor], more: str = "") -> str:
    """Of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(more.encode())
    for name, tensor in tensors.items():
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes: numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
