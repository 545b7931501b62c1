"""The network and the data of a simulation: loaded or trained, and known by their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.errors import InputError, StoreError
from mdls_cosim.network.data import LabelledData
from mdls_cosim.network.evaluate import evaluate
from mdls_cosim.network.experiment.checks import check_asked, check_converts, check_takes
from mdls_cosim.network.experiment.made import (
    code_hashes,
    existing,
    labelled_data,
    network,
    running_modules,
    tensors_hash,
    user_function,
)
from mdls_cosim.network.experiment.plan import Plan
from mdls_cosim.network.experiment.simulation import Simulation
from mdls_cosim.network.scores import Metric, Output
from mdls_cosim.network.train import train
from mdls_cosim.network.weights import load_weights, save_weights
from mdls_cosim.network.zoo.factory import searched_first
from mdls_cosim.provenance import canonical_json, json_value, tool_versions

Stage = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Subject:
    """The network of a simulation and its data."""

    model: nn.Module
    """With its weights."""
    train: tuple[Tensor, Tensor]
    """Images and labels to calibrate converters on."""
    tested: tuple[Tensor, Tensor]
    """Images and labels to be classified."""
    hashes: dict[str, str]
    """Of the network with its weights, of the data and, of a network or metric of the user's, of the code."""
    about: dict[str, Any]
    """For a report."""
    folder: str | None
    """Where the network's own module lies."""
    code: str
    """Hash of the code of the network, the metric and the loss; of the zoo where the network is from there."""
    modules: tuple[str, ...] = ()
    """Names of the user's modules that a run needs."""
    metric: Metric | None = None
    """What is measured in place of the accuracy."""
    weights: Path | None = None
    """File of an earlier training that the weights are from; None: they are given, or were trained now."""

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
        data = labelled_data(simulation, where)
        hashes = {
            "data": tensors_hash(
                {
                    "train": data.train_inputs,
                    "labels": data.train_labels,
                    "test": data.test_inputs,
                    "test_labels": data.test_labels,
                }
            )
        }
        model = network(simulation, data.classes, data.shape, where)
        codes = code_hashes(simulation, model)
        asked = simulation.metric
        metric = None if asked is None else user_function(simulation, asked, f"{where}: metric")
        plan = simulation.plan(where)
        with searched_first(simulation.folder or "."):
            check_takes(model, data, metric, simulation, where)
        check_asked(model, simulation, plan, where)
        check_converts(model, plan, where)
        weights = None
        if simulation.model.weights is not None:
            load_weights(model, existing(simulation, simulation.model.weights, f"{where}: model.weights"))
        elif simulation.train is not None and folder is not None:
            recipe = _recipe(simulation, model, hashes["data"], codes["network"], torch_device)
            weights = _trained(simulation, model, data, recipe, folder, stage, torch_device, where)
        model.eval()
        hashes["model"] = tensors_hash(model.state_dict(), repr(model))
        about = {
            "model": simulation.model.name or simulation.model.factory,
            "parameters": sum(each.numel() for each in model.parameters()),
            "data": simulation.data.name,
            "classes": data.classes,
            "image": list(data.shape),
        }
        own = simulation.model.factory is not None or simulation.metric is not None
        if own:
            hashes["code"] = codes["code"]
        place = simulation.folder or "." if own else None
        modules = running_modules(simulation, model)
        return cls(model, data.train, data.test, hashes, about, place, codes["code"], modules, metric, weights)

    def test(self, images: int | None) -> tuple[Tensor, Tensor]:
        """The first test images."""
        return self.tested[0][:images], self.tested[1][:images]

    def float_accuracy(self, images: Tensor, labels: Tensor, batch_size: int, output: Output | None = None) -> float:
        """Accuracy, or the metric, of the network without hardware."""
        found = evaluate(self.model, (images, labels), 1, batch_size=batch_size, metric=self.metric, output=output)
        return found.mean

    def check(self, simulation: Simulation, plan: Plan, where: str) -> None:
        """ConfigError where a simulation asks for what the network does not have."""
        check_asked(self.model, simulation, plan, where)


def _recipe(
    simulation: Simulation, model: nn.Module, data_hash: str, code_hash: str, torch_device: str
) -> dict[str, Any]:
    """Everything that decides the weights of a training."""
    recipe: dict[str, Any] = {
        "train": simulation.train,
        "model": simulation.model,
        "layers": repr(model),
        "code": code_hash,
        "data": data_hash,
        "seed": simulation.seed,
        "torch": tool_versions()["torch"],
    }
    if simulation.output is not None:
        recipe["output"] = simulation.output
    if torch_device != "cpu":
        recipe["torch_device"] = torch.device(torch_device).type
    return recipe


def _trained(
    simulation: Simulation,
    model: nn.Module,
    data: LabelledData,
    recipe: dict[str, Any],
    folder: Path,
    stage: Stage,
    torch_device: str,
    where: str,
) -> Path | None:
    """Gives the model weights that were trained on the data: kept ones, whose file it returns, or trained now."""
    plan = simulation.train
    assert plan is not None
    key = hashlib.sha256(canonical_json(recipe).encode()).hexdigest()[:16]
    file = folder / f"weights-{key}.safetensors"
    if file.exists():
        try:
            load_weights(model, file)
        except (InputError, StoreError):
            stage(f"{file} is damaged and made again")
        else:
            stage(f"weights of an earlier training: {file}")
            return file
    stage(f"training for {plan.epochs} epochs on {len(data.train_inputs)} images")
    loss = None if plan.loss is None else user_function(simulation, plan.loss, f"{where}: train.loss")
    model.to(torch_device)
    with searched_first(simulation.folder or "."):
        train(
            model,
            data.train,
            plan.epochs,
            plan.learning_rate,
            simulation.seed,
            plan.batch_size,
            plan.weight_decay,
            loss=loss,
            output=simulation.output,
        )
    model.cpu()
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, file, config=json_value(recipe), seed=simulation.seed, parents=(recipe["data"],))
    return None
