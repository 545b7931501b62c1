"""A unit of work of a simulation, the smallest part that is run and kept as a whole; solved in any process."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mdls_cosim.analog import Hardware
from mdls_cosim.characterize import Characterization, Outcome
from mdls_cosim.errors import ConfigError, DomainWarning, ExecutorError, InputError, MdlsError, NotAvailable
from mdls_cosim.network.chips import analog_layers, copied, evaluation_mode, kept_chips, kept_state
from mdls_cosim.network.compensate import calibrate_columns, compensate_drift, reestimate_batch_norm
from mdls_cosim.network.conversion import ConversionReport
from mdls_cosim.network.convert import convert
from mdls_cosim.network.evaluate import evaluate
from mdls_cosim.network.experiment.plan import Compensation, Reading
from mdls_cosim.network.experiment.results import COUNTS
from mdls_cosim.network.rungs import on_rung
from mdls_cosim.network.scores import Metric
from mdls_cosim.network.source import forget_changed, note_loaded, source_hash
from mdls_cosim.network.zoo.factory import searched_first
from mdls_cosim.surrogates import Surrogate, fit_to_exact

Results = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Bench:
    """What every unit needs: the network, the data, and how converters are calibrated. Sent once to a process."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    calibration: Tensor
    calibrate_on: str
    seed: int
    batch_size: int
    layer_images: int
    threads: int
    """Of torch, in each process: their number is in the last digits of sums, so it is the same everywhere."""
    torch_device: str
    """Where units are computed; the network and the data come from the CPU."""
    folder: str | None
    """Where the network's own module lies."""
    modules: tuple[str, ...] = ()
    """Names of the user's modules that a run needs."""
    metric: Metric | None = None
    """What is measured in place of the accuracy."""
    output: str | int | None = None
    """The network's output that counts."""

    def placed(self) -> Bench:
        """The same on its torch device."""
        if self.torch_device == "cpu":
            return self
        check_torch_device(self.torch_device)
        tensors = {name: getattr(self, name).to(self.torch_device) for name in ("images", "labels", "calibration")}
        return replace(self, model=copied(self.model).to(self.torch_device), **tensors)


def check_torch_device(name: str) -> None:
    """ConfigError where torch cannot compute in float64 on a device of this name."""
    try:
        torch.zeros(1, dtype=torch.float64, device=name).item()
    # torch says it in several ways: an unknown name, a build without CUDA, no driver, too high a number, no float64.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        raise ConfigError(
            "torch cannot compute here",
            where="--torch-device",
            value=name,
            limit=", ".join(["cpu", *cuda]),
            hint=f"torch says: {str(error).splitlines()[0][:130]}",
        ) from None


@dataclass(frozen=True, eq=False)
class Unit:
    """One chip at one point, or the errors of the layers there."""

    label: str
    key: str
    """Hash of everything that decides its numbers."""
    point: str
    """Key of its hardware and rules: units of one share a conversion."""
    hardware: Hardware
    rules: dict[str, Hardware | None]
    reading: Reading
    run: int | None
    """The chip's seed is `seed` + `run`; None: errors of the layers, on the chip of `seed`."""


@dataclass(eq=False)
class _Here:
    """What this process was given, and the last conversion of each of its threads."""

    benches: dict[str, Bench] = field(default_factory=dict)
    local: threading.local = field(default_factory=threading.local)


here = _Here()


def install(content: bytes, token: str) -> None:
    """Prepares a process that is started for a simulation."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that collects
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    bench_of(content, token)


def _leave_with_parent() -> None:
    """Ends this process when the one that started it is gone, killed or not: nobody takes its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def bench_of(content: bytes | None, token: str) -> Bench:
    bench = here.benches.get(token)
    if bench is None:
        assert content is not None
        folder, modules, code, packed = pickle.loads(content)
        with searched_first(folder):  # the class of the network is found there
            for name in modules:
                forget_changed(name)  # a worker elsewhere may have an earlier version
            if source_hash(modules) != code:
                raise ExecutorError(
                    "a worker finds other code than the process that started it",
                    where=folder,
                    value=", ".join(modules),
                    hint="Give every worker the same files",
                )
            bench = pickle.loads(packed)
            for name in modules:
                note_loaded(name)
        if folder is not None and folder not in sys.path:
            sys.path.append(folder)  # for what the network imports while it runs
        here.benches.clear()  # a worker elsewhere lives on from simulation to simulation
        bench = here.benches[token] = bench.placed()
    return bench


def solve(unit: Unit, token: str, content: bytes | None = None) -> Outcome:
    """The outcome of a unit; `content` is the bench, where the process may not have it."""
    bench = bench_of(content, token)
    torch.set_num_threads(bench.threads)
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainWarning)  # counted, and told in the report
            with _exact_floats(bench.torch_device):
                model, report = _converted(unit, bench, token)
                found = _layers(model, unit, bench) if unit.run is None else _run(model, report, unit, unit.run, bench)
    except (ConfigError, InputError, NotAvailable):
        raise  # wrong in every unit
    except MdlsError as error:
        return Outcome(unit.label, None, error, deck=getattr(error, "deck", None) or "", seconds=_since(began))
    return Outcome(unit.label, found, seconds=_since(began))


def _exact_floats(torch_device: str) -> AbstractContextManager[None]:
    """On a GPU, convolutions in whole float32: of its short multiplications the ADC would see the error."""
    if torch.device(torch_device).type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def _since(began: float) -> float:
    return time.perf_counter() - began


def fit(plan: Characterization, threads: int) -> Surrogate:
    """A fitted surrogate, by as many of torch's threads as units take."""
    torch.set_num_threads(threads)
    return fit_to_exact(plan)


def _converted(unit: Unit, bench: Bench, token: str) -> tuple[nn.Module, ConversionReport]:
    """The network on the unit's hardware, its converters calibrated; that of the last unit if it is the same."""
    kept = getattr(here.local, "converted", None)
    if kept is not None and kept[0] == (token, unit.point):
        return kept[1]
    here.local.converted = None  # two networks at once may not fit
    found = converted(bench, unit.hardware, unit.rules)
    here.local.converted = (token, unit.point), found
    return found


def converted(
    bench: Bench, hardware: Hardware, rules: dict[str, Hardware | None]
) -> tuple[nn.Module, ConversionReport]:
    """The network on `hardware`, its converters calibrated, with the chip of the simulation's own seed."""
    moved, target = bench.calibrate_on == "ideal", hardware.rung
    if moved:
        hardware = _ideal(hardware)
        rules = {pattern: None if each is None else _ideal(each) for pattern, each in rules.items()}
    model, report = convert(bench.model, hardware, rules, bench.seed, bench.calibration)
    if not report.converted:
        raise ConfigError(
            "no layer of the network is on tiles",
            hint="; ".join(f"{each.name}: {each.reason}" for each in report.skipped),
        )
    return (on_rung(model, target) if moved and target != "ideal" else model), report


def _ideal(hardware: Hardware) -> Hardware:
    """The same chip on ideal tiles; a spread of the shape of I-V curves, which they do not have, acts again behind."""
    return hardware.replace(rung="ideal", variability=hardware.variability.lenient())


def _compensate(model: nn.Module, compensation: Compensation, images: Tensor) -> None:
    match compensation:
        case "none":
            return
        case "drift":
            compensate_drift(model)
        case "columns":
            calibrate_columns(model, images)
        case "batch_norm":
            reestimate_batch_norm(model, images)


def _run(model: nn.Module, report: ConversionReport, unit: Unit, run: int, bench: Bench) -> Results:
    """One chip: its accuracy or metric, and what every layer counted."""
    found = evaluate(
        model,
        (bench.images, bench.labels),
        1,
        bench.seed + run,
        bench.batch_size,
        moment=unit.reading.moment,
        prepare=lambda chip: _compensate(chip, unit.reading.compensation, bench.calibration),
        metric=bench.metric,
        output=bench.output,
    )
    counters, (clipped,) = found.counters, found.clipped
    limits = sorted({limit for each in counters.values() for limit in each.outside})
    skipped = [json.dumps([layer.name, layer.kind, layer.reason]) for layer in report.skipped]
    skipped += [json.dumps([name, "weights", "multiplied by past any layer"]) for name in report.digital_products]
    skipped += [json.dumps([name, "forward", f"not traced: {why}"]) for name, why in report.untraced.items()]
    return {
        "value": np.array(found.mean),
        "images": np.array(found.images),
        "layers": np.array(list(counters), dtype=np.str_),
        "counts": np.array([[getattr(each, name) for name in COUNTS] for each in counters.values()], dtype=np.int64),
        "clipped": np.array([clipped[name] for name in counters], dtype=np.int64),
        "limits": np.array(limits, dtype=np.str_),
        "outside": np.array(
            [[each.outside.get(limit, 0) for limit in limits] for each in counters.values()], dtype=np.int64
        ).reshape(len(counters), len(limits)),
        "skipped": np.array(skipped, dtype=np.str_),
    }


def _layers(model: nn.Module, unit: Unit, bench: Bench) -> Results:
    """Errors of every layer's outputs, as shares of the float outputs' RMS, on the chip and the read of run 0.

    `layer_error`: on the inputs that reach the layer in the float network. `layer_error_in_network`: on those that
    reach it in this one, errors of the layers before it included.
    """
    with kept_chips(model), kept_state(model):
        read_at(model, unit.reading, bench)
        return _compared(model, bench)


def read_at(model: nn.Module, reading: Reading, bench: Bench) -> None:
    """Brings a model of `converted` to the reading of a point: as run 0 finds it, in place."""
    for layer in analog_layers(model).values():
        layer.read_at(replace(reading.moment, read=bench.seed))
    _compensate(model, reading.compensation, bench.calibration)


def _compared(model: nn.Module, bench: Bench) -> Results:
    """The outputs of every layer beside those of the float network."""
    images = bench.images[: bench.layer_images]
    layers = analog_layers(model)
    network = copied(bench.model)  # hooks: other threads may be converting it
    float_layers = {name: layer for name, layer in network.named_modules() if name in layers}
    reference = _watched(network, float_layers, images)
    found = _watched(model, layers, images)
    names, errors = [], []
    for name, calls in reference.items():
        with evaluation_mode(model), torch.no_grad():
            own = [_tensor(layers[name](*args, **named)) for args, named, _ in calls]
        truth = [output for _, _, output in calls]
        in_network = [output for _, _, output in found.get(name, ())]
        names.append(name)
        errors.append([_error(own, truth), _error(in_network, truth)])
    table = np.array(errors, dtype=np.float64).reshape(len(names), 2)
    return {
        "layers": np.array(names, dtype=np.str_),
        "layer_error": table[:, 0],
        "layer_error_in_network": table[:, 1],
    }


Calls = list[tuple[tuple[Any, ...], dict[str, Any], Tensor]]


def _watched(model: nn.Module, layers: Mapping[str, nn.Module], images: Tensor) -> dict[str, Calls]:
    """Inputs and output of every call of `layers`."""
    calls: dict[str, Calls] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            calls.setdefault(name, []).append((args, named, _tensor(output).detach().clone()))

        return hook

    handles = [layer.register_forward_hook(keep(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with evaluation_mode(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _tensor(output: Any) -> Tensor:
    """Of layers that give several tensors (recurrent ones, attention), the first."""
    while isinstance(output, tuple | list):
        output = output[0]
    return output


def _error(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """RMS of the difference over RMS of the truth; NaN where calls do not match or nothing was given out."""
    if len(found) != len(truth) or any(own.shape != true.shape for own, true in zip(found, truth, strict=False)):
        return float("nan")
    missed = sum(float((own - true).double().square().sum()) for own, true in zip(found, truth, strict=True))
    whole = sum(float(true.double().square().sum()) for true in truth)
    return float("nan") if not whole else float(np.sqrt(missed / whole))
