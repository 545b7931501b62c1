"""Surrogates of the tiles of a simulation, fitted to exact solutions of Kirchhoff's laws instead of to ngspice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mdls_cosim.analog import Hardware
from mdls_cosim.characterize import Characterization, ReadPlan, draw
from mdls_cosim.dataset import Array, Dataset
from mdls_cosim.errors import StoreError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.network.experiment import needs_fit
from mdls_cosim.provenance import canonical_json
from mdls_cosim.surrogates import Domain, SeriesSurrogate, Surrogate, load
from mdls_cosim.surrogates.fit import class_names, held_out_error
from mdls_cosim.surrogates.parameters import Reads
from mdls_cosim.surrogates.series_fit import fit_coefficients

_RESIDUAL = 1e-8  # of Kirchhoff's law in the labels
_TILES = 3  # of each class of conductances; the last is held out
_VECTORS = 3  # of each class of inputs, for every tile
_MARGIN = 0.2  # of the conductance range on either side: programming errors lead out of it
_CELL_VOLTAGE = 1.5  # of the read voltage: inputs of both signs put more than it over some cells


def label_plan(hardware: Hardware, seed: int) -> Characterization:
    """The tiles and inputs that a surrogate of the tile of `hardware` is fitted to and tested on."""
    spec = hardware.spec
    low, high = hardware.conductance_range
    span = max(0.0, low - _MARGIN * (high - low)), high + _MARGIN * (high - low)
    if spec.device is not None:
        lowest, highest = spec.device.conductance_range(spec.reference_voltage)
        span = max(span[0], float(lowest)), min(span[1], float(highest))
    plan = ReadPlan(voltage=hardware.read_voltage, tiles=_TILES, vectors=_VECTORS)
    return Characterization(tile=spec, conductance_range=span, read=plan, seed=seed)


def plan_key(plan: Characterization) -> str:
    """Names the surrogate of a plan among those that are kept."""
    return hashlib.sha256(f"series 1 {canonical_json(plan)}".encode()).hexdigest()[:16]


def fit_to_exact(plan: Characterization) -> Surrogate:
    """A surrogate fitted to NodalTile's currents; the electrical parameters are those of the tile itself.

    Of each class of conductances two tiles are fitted and one gives the stated error.
    """
    reads = plan.read
    assert reads is not None
    spec = plan.tile
    cases = draw(spec, reads, plan.conductance_range, np.random.default_rng(plan.seed))
    conductances, voltages = torch.as_tensor(cases.conductances), torch.as_tensor(cases.voltages)
    currents = NodalTile(spec, _RESIDUAL).program(conductances)(voltages)
    held = torch.arange(len(conductances)) % _TILES == _TILES - 1
    names = class_names(
        [reads.conductance_classes[code] for code in cases.conductance_class],
        [reads.input_classes[code] for code in cases.input_class],
    )
    kept = ~held
    codes = np.unique(names[kept.numpy()], return_inverse=True)[1].reshape(int(kept.sum()), -1)
    coefficients = fit_coefficients(
        spec, Reads(conductances[kept], voltages[kept], currents[kept]), torch.as_tensor(codes)
    )
    model = SeriesSurrogate(spec, coefficients=coefficients)
    labels = Dataset.create(
        {"read": {"currents": Array(currents.numpy(), "A", ("tile", "vector", "col"))}}, plan.as_dict(), plan.seed
    )
    return SeriesSurrogate(
        spec,
        reference_spec=spec,
        domain=Domain(
            rows=spec.rows,
            cols=spec.cols,
            conductances=plan.conductance_range,
            input_voltage=reads.voltage,
            cell_voltage=_CELL_VOLTAGE * reads.voltage,
            temperature=spec.temperature,
        ),
        error=held_out_error(model, conductances[held], voltages[held], currents[held], names[held.numpy()]),
        coefficients=coefficients,
        parents=(labels.content_hash,),
        seed=plan.seed,
    )


def kept_surrogate(folder: Path, key: str) -> Surrogate | None:
    """The one that an earlier run left in `folder`; None where there is none, or a damaged one."""
    try:
        return load(folder / f"{key}.h5")
    except StoreError:
        return None


def with_surrogate(hardware: Hardware | None, fitted: Mapping[str, Surrogate], seed: int) -> Hardware | None:
    """`hardware` with the surrogate of its tile, by `plan_key`, where it needs one."""
    if hardware is None or not needs_fit(hardware):
        return hardware
    return hardware.replace(tile=fitted[plan_key(label_plan(hardware, seed))])
