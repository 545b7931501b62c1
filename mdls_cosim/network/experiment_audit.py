"""The base point of a simulation, audited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from mdls_cosim.config import read_toml
from mdls_cosim.network.audit import AuditReport, audit
from mdls_cosim.network.experiment.run import Work
from mdls_cosim.network.experiment.surrogates import kept_surrogate, label_plan, needs_fit, plan_key, with_surrogate
from mdls_cosim.network.experiment.units import converted, read_at
from mdls_cosim.surrogates import fit_to_exact
from mdls_cosim.tiles import TileSpec

Stage = Callable[[str], None]


def base_model(work: Work, folder: Path, stage: Stage = lambda doing: None) -> nn.Module:
    """The network on the base hardware of a simulation, with the chip of its seed.

    Args:
        folder: where a simulation keeps its fitted surrogates; those there are taken, others are fitted and kept.
        stage: told what takes a while.
    """
    point, seed = work.plan.points[0], work.simulation.seed
    fitted = {}
    for hardware in (point.hardware, *point.rules.values()):
        if hardware is None or not needs_fit(hardware):
            continue
        plan = label_plan(hardware, seed)
        key = plan_key(plan)
        if key in fitted:
            continue
        kept = kept_surrogate(folder, key)
        if kept is None:
            stage("fitting a surrogate to exact solutions")
            kept = fit_to_exact(plan)
            folder.mkdir(parents=True, exist_ok=True)
            kept.save(folder / f"{key}.h5")
        fitted[key] = kept
    hardware = with_surrogate(point.hardware, fitted, seed)
    assert hardware is not None
    rules = {pattern: with_surrogate(each, fitted, seed) for pattern, each in point.rules.items()}
    stage("programming the network")
    model, _ = converted(work.bench, hardware, rules)
    read_at(model, point.reading, work.bench)
    return model


def audit_base(
    work: Work,
    folder: Path,
    *,
    samples: int = 50,
    tiles: int | None = None,
    reference_tile: TileSpec | None = None,
    read_time: float | None = None,
    injections: int = 5,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    stage: Stage = lambda doing: None,
) -> AuditReport:
    """The audit of a simulation's base point on its test images; see `audit` and `base_model`."""
    model = base_model(work, folder, stage)
    stage("auditing")
    return audit(
        model,
        (work.bench.images, work.bench.labels),
        samples,
        work.simulation.seed,
        reference_tile=reference_tile,
        read_time=read_time,
        tiles=tiles,
        injections=injections,
        workers=workers,
        progress=progress,
        metric=work.bench.metric,
        output=work.bench.output,
    )


def read_tile(path: Path) -> TileSpec:
    """The tile in a TOML file: a table [tile], as in a specification of `characterize`, or the whole file.

    Raises:
        ConfigError: it is none; the message names the field.
    """
    table = read_toml(path)
    inner = table.get("tile", table)
    return TileSpec.from_text_dict(
        inner if isinstance(inner, dict) else table, str(path), folder=str(path.resolve().parent)
    )
