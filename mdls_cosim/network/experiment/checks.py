"""Checks of a network against its data and its hardware, before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdls_cosim.analog import Hardware
from mdls_cosim.errors import ConfigError, InputError, MdlsError
from mdls_cosim.network.chips import evaluation_mode, kept_state
from mdls_cosim.network.compensate import batch_norms
from mdls_cosim.network.conversion_plan import ConversionPlan, check_rules
from mdls_cosim.network.data import LabelledData
from mdls_cosim.network.experiment.plan import Plan, Point
from mdls_cosim.network.experiment.simulation import Simulation
from mdls_cosim.network.experiment.surrogates import needs_fit
from mdls_cosim.network.scores import Metric, chosen, classes_of
from mdls_cosim.network.user_code import call

_ITEMS = 32
"""Test items that a metric is tried on."""


def check_takes(
    model: nn.Module, data: LabelledData, metric: Metric | None, simulation: Simulation, where: str
) -> None:
    """ConfigError where a network does not take the images, or gives what cannot be compared with the labels."""
    plan = simulation.model
    place = f"{where}: model" if plan.factory is None else f"{where}: model, {plan.factory}"
    count = 2 if metric is None else _ITEMS
    images, labels = data.test_inputs[:count], data.test_labels[:count]
    outputs = _outputs(model, images, place)
    try:
        outputs = chosen(outputs, simulation.output)
        if metric is not None:
            call(metric, outputs, labels, what=f"the metric {simulation.metric}", where=f"{where}: metric")
            return
        classes_of(outputs, labels)
        classes = 2 if outputs.ndim == 1 or outputs.shape[1] == 1 else outputs.shape[1]
        if classes >= data.classes:
            return
        reason = f"{classes} classes"
    except InputError as error:
        if metric is not None or error.where == "output":
            error.where = f"{where}: {error.where}" if error.where == "output" else error.where
            raise
        reason = str(error)
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    raise ConfigError(
        "the network is no classifier of these data",
        where=place,
        value=f"outputs {shape} for {len(images)} images",
        limit=f"({len(images)}, {data.classes}) or more classes",
        hint=reason,
    )


def _outputs(model: nn.Module, images: Tensor, where: str) -> object:
    """What an untrained network returns for some images; its state is afterwards as before."""
    shape = "x".join(map(str, images.shape[1:]))
    with evaluation_mode(model), kept_state(model), torch.no_grad():
        return call(
            model,
            images,
            what="the network does not take the images: it",
            where=where,
            hint=f"They are {shape}",
            error=ConfigError,
        )


def check_asked(model: nn.Module, simulation: Simulation, plan: Plan, where: str) -> None:
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


def check_converts(model: nn.Module, plan: Plan, where: str) -> None:
    """What `convert` would raise for a point of the plan, and ConfigError where nothing of the network is on tiles."""
    seen = set()
    for point in plan.points:
        # Points were checked to have possible hardware; what a layer asks of it beyond that:
        key = (point.hardware.attention, *((name, each and each.attention) for name, each in point.rules.items()))
        if key in seen:
            continue
        seen.add(key)
        try:
            found = ConversionPlan.of(model, *_computable(point))
        except MdlsError as error:
            error.where = f"{where}: model" if error.where is None else f"{where}: model, {error.where}"
            raise
        if not found.chosen:
            reasons = "; ".join(f"{found.layers[layer][0]}: {reason}" for layer, reason in found.kept.items())
            raise ConfigError(
                "no layer of the network is on tiles", where=f"{where}: model", hint=reasons[:150] or None
            )


def _computable(point: Point) -> tuple[Hardware, dict[str, Hardware | None]]:
    """Hardware and rules of a point, on exact tiles where a surrogate is yet to be fitted."""

    def moved(hardware: Hardware) -> Hardware:
        return hardware.replace(rung="nodal") if needs_fit(hardware) else hardware

    rules = {name: None if each is None else moved(each) for name, each in point.rules.items()}
    return moved(point.hardware), rules
