"""The network and the data of a simulation: loaded or trained, and known by their hashes."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.errors import ConfigError, InputError, StoreError
from mdls_cosim.network import data as datasets
from mdls_cosim.network import zoo
from mdls_cosim.network.compensate import batch_norms
from mdls_cosim.network.conversion_plan import check_rules
from mdls_cosim.network.evaluate import evaluate
from mdls_cosim.network.experiment.plan import Plan
from mdls_cosim.network.experiment.simulation import Simulation
from mdls_cosim.network.train import train
from mdls_cosim.network.weights import load_weights, save_weights
from mdls_cosim.provenance import canonical_json, json_value, tool_versions

Stage = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Subject:
    """What is put on hardware, and what it is shown."""

    model: nn.Module
    """With its weights."""
    train: tuple[Tensor, Tensor]
    """Images and labels to calibrate converters on."""
    tested: tuple[Tensor, Tensor]
    """Images and labels to be classified."""
    hashes: dict[str, str]
    """Of the network with its weights, and of the data."""
    about: dict[str, Any]
    """For a report."""
    folder: str | None
    """Where the network's own module lies."""

    @classmethod
    def load(
        cls,
        simulation: Simulation,
        folder: Path | None,
        where: str = "experiment",
        stage: Stage = lambda doing: None,
        torch_device: str = "cpu",
    ) -> Subject:
        """The network with its weights, and the data.

        Args:
            folder: where weights are kept that are trained here; None: an untrained network will do.
            where: the file of the experiment, for what errors name.
            stage: told what takes a while.
            torch_device: where a training runs; another one gives other weights. The network comes from there to the
                CPU.

        Raises:
            ConfigError: no such network, layer or option; a network that does not take the images.
            StoreError: data or weights that cannot be read.
        """
        stage("loading the data")
        data = _data(simulation, where)
        shown, labels = data.train
        tested, classes = data.test, data.classes
        hashes = {"data": _hash_of({"train": shown, "labels": labels, "test": tested[0], "test_labels": tested[1]})}
        model = _model(simulation, classes, tuple(shown.shape[1:]), where)
        _check_takes(model, shown[:2], classes, where)
        _check_asked(model, simulation, simulation.plan(where), where)
        if simulation.model.weights is not None:
            load_weights(model, _file(simulation, simulation.model.weights, f"{where}: model.weights"))
        elif simulation.train is not None and folder is not None:
            _trained(simulation, model, (shown, labels), hashes["data"], folder, stage, torch_device)
        model.eval()
        hashes["model"] = _hash_of(model.state_dict(), repr(model))
        plan = simulation.model
        about = {
            "model": plan.name or plan.factory,
            "parameters": sum(each.numel() for each in model.parameters()),
            "data": simulation.data.name,
            "classes": classes,
            "image": list(shown.shape[1:]),
        }
        return cls(
            model,
            (shown, labels),
            tested,
            hashes,
            about,
            simulation.folder or "." if plan.factory is not None else None,
        )

    def test(self, images: int | None) -> tuple[Tensor, Tensor]:
        """The first test images."""
        return self.tested[0][:images], self.tested[1][:images]

    def float_accuracy(self, images: Tensor, labels: Tensor, batch_size: int) -> float:
        """Of the network without hardware."""
        return evaluate(self.model, (images, labels), 1, batch_size=batch_size).mean

    def check(self, simulation: Simulation, plan: Plan, where: str) -> None:
        """ConfigError where a simulation asks for what the network does not have."""
        _check_asked(self.model, simulation, plan, where)


def _data(simulation: Simulation, where: str) -> datasets.LabelledData:
    plan = simulation.data
    loader = getattr(datasets, plan.name)
    place = [] if plan.path is None else [_file(simulation, plan.path, f"{where}: data.path")]
    _check_options(loader, len(place), plan.options, f"{where}: data.options")
    return _placed(lambda: loader(*place, **plan.options), f"{where}: data")


def _model(simulation: Simulation, classes: int, image: tuple[int, ...], where: str) -> nn.Module:
    plan = simulation.model
    place = f"{where}: model"
    if plan.factory is not None:
        build = _placed(lambda: zoo.factory(plan.factory or "", simulation.folder or "."), place)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(simulation.seed)
            return _placed(lambda: build(**plan.options), place)
    if len(image) != 3 or image[1] != image[2]:
        raise ConfigError(
            "the networks of the zoo take square images",
            where=place,
            value="x".join(map(str, image)),
            limit="(channels, size, size)",
            hint='Take one of your own: factory = "module:function"',
        )
    return _placed(
        lambda: zoo.model(plan.name or "", classes, image[0], image[1], seed=simulation.seed, **plan.options), place
    )


def _trained(
    simulation: Simulation,
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    data_hash: str,
    folder: Path,
    stage: Stage,
    torch_device: str,
) -> None:
    """Gives the model weights that were trained on the data: kept ones, or trained and kept now."""
    plan = simulation.train
    assert plan is not None
    recipe = {
        "train": plan,
        "model": simulation.model,
        "layers": repr(model),
        "data": data_hash,
        "seed": simulation.seed,
        "torch": tool_versions()["torch"],
    }
    if torch_device != "cpu":
        recipe["torch_device"] = torch.device(torch_device).type
    key = hashlib.sha256(canonical_json(recipe).encode()).hexdigest()[:16]
    file = folder / f"weights-{key}.safetensors"
    if file.exists():
        try:
            load_weights(model, file)
        except (InputError, StoreError):
            stage(f"{file} is damaged and made again")
        else:
            stage(f"weights of an earlier training: {file}")
            return
    stage(f"training for {plan.epochs} epochs on {len(data[0])} images")
    model.to(torch_device)
    train(model, data, plan.epochs, plan.learning_rate, simulation.seed, plan.batch_size, plan.weight_decay)
    model.cpu()
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, file, config=json_value(recipe), seed=simulation.seed, parents=(data_hash,))


def _check_takes(model: nn.Module, images: Tensor, classes: int, where: str) -> None:
    """ConfigError where a network does not take the images, or gives too few classes."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(
            f"the network does not take the images ({error})",
            where=f"{where}: model",
            value="images " + "x".join(map(str, images.shape[1:])),
        ) from error
    finally:
        model.train(training)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < classes:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ConfigError(
            "the network is no classifier of these data",
            where=f"{where}: model",
            value=f"outputs {shape} for 2 images",
            limit=f"(2, {classes}) or more classes",
        )


def _check_asked(model: nn.Module, simulation: Simulation, plan: Plan, where: str) -> None:
    """ConfigError where a rule matches no layer, or a point re-estimates the batch norms of a network without any."""
    try:
        check_rules(model, simulation.rules)
    except ConfigError as error:
        error.where = f"{where}: rules"
        raise
    for point in plan.points:
        if point.reading.compensation == "batch_norm" and not batch_norms(model):
            raise ConfigError(
                "the network has no batch norm to re-estimate",
                where=f"{where}: {'compensation' if point.label == 'base' else f'sweep {point.label}'}",
                value=point.reading.compensation,
                limit="none, drift, columns",
                hint='"columns" corrects every output of a layer by itself',
            )


def _file(simulation: Simulation, path: str, where: str) -> Path:
    found = simulation.resolve(path)
    if not found.exists():
        raise ConfigError("no such file or folder", where=where, value=str(found))
    return found


def _placed(make: Callable[[], Any], where: str) -> Any:
    """What `make` gives; its ConfigErrors say where in the experiment."""
    try:
        return make()
    except ConfigError as error:
        error.where = where if error.where in (None, "model") else f"{where}, {error.where}"
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


def _hash_of(tensors: Mapping[str, Tensor], more: str = "") -> str:
    """Of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(more.encode())
    for name, tensor in tensors.items():
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes: numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
