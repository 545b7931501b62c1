"""Surrogates of the tiles of a simulation: which are needed, what they are fitted to, and where they are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mdls_cosim.analog import Hardware
from mdls_cosim.characterize import Characterization, ReadPlan
from mdls_cosim.errors import StoreError
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.provenance import canonical_json
from mdls_cosim.surrogates import Surrogate, load
from mdls_cosim.tiles import TileSpec

_TILES = 3  # of each class of conductances; the last is held out
_VECTORS = 3  # of each class of inputs, for every tile
_MARGIN = 0.2  # of the conductance range on either side: programming errors lead out of it


def needs_fit(hardware: Hardware) -> bool:
    """Whether a surrogate has to be fitted to the tile before it can be computed."""
    tile = hardware.tile
    return isinstance(tile, TileSpec) and hardware.rung == "surrogate" and not cell_law(tile).linear


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
    tile = fitted[plan_key(label_plan(hardware, seed))]
    # Its domain is wider by a margin than the range that weights are mapped to.
    return hardware.replace(tile=tile, conductance_range=hardware.conductance_range)
