"""Files that earlier versions wrote are read, and say what they said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import Ohmic
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.surrogates import Surrogate, load

ARCHIVES = Path(__file__).parents[1] / "archives"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.load(ARCHIVES / "dataset-1.1-sinh.h5")


def reads(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    arrays = dataset.experiments["read"]
    conductances, voltages, currents = (
        torch.as_tensor(arrays[name].values) for name in ("conductances", "voltages", "currents")
    )
    return conductances, voltages, currents


def relative(missed: torch.Tensor, currents: torch.Tensor) -> float:
    return float(missed.square().mean().sqrt() / currents.square().mean().sqrt())


def test_a_dataset_of_uncompressed_arrays(dataset: Dataset) -> None:
    assert dataset.content_hash == "sha256:4d61adc20158ffb7e3925a02e790e147538be0d88709e73142ce178a7d17bcd3"
    arrays = dataset.experiments["read"]
    assert arrays["currents"].values.shape == (30, 8, 3)
    assert np.isfinite(arrays["currents"].values).all()
    assert arrays["currents"].units == "A"


@pytest.mark.parametrize("name", ["dataset-1.1-sinh.h5", "surrogate-1-series.h5", "surrogate-1-linear.h5"])
def test_the_format_is_as_its_specification_says(name: str) -> None:
    """docs/format.md word by word, with h5py, json and hashlib alone."""
    whole = (ARCHIVES / name).read_bytes()
    header, body = whole[:512], whole[512:]
    lines = f"mdls_cosim store 1\nbytes {len(body)}\nsha256 {hashlib.sha256(body).hexdigest()}\n".encode()
    assert header == lines + b"\n" * (512 - len(lines))
    arrays: dict[str, h5py.Dataset] = {}
    with h5py.File(ARCHIVES / name) as file:
        groups: list[h5py.Group] = [file]

        def see(path: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                arrays[path] = item
            else:
                groups.append(item)

        file.visititems(see)
        for group in groups:
            assert {"encoding-type", "encoding-version", "attributes"} <= set(group.attrs)
        origin = json.loads(str(file.attrs["attributes"]))["provenance"]
        index = [
            {
                "name": path,
                "dtype": item.dtype.str,
                "shape": item.shape,
                "units": item.attrs["units"],
                "dims": item.attrs["dims"].tolist(),
            }
            for path, item in sorted(arrays.items())
        ]
        content = {"arrays": index, "config": origin["config"]}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
        for _, item in sorted(arrays.items()):
            digest.update(item[()].tobytes())
    assert origin["content_hash"] == f"sha256:{digest.hexdigest()}"
    assert (len(arrays) > 0) == name.startswith("dataset")


def test_a_series_of_eight_coefficients_predicts_what_it_was_fitted_to(dataset: Dataset) -> None:
    surrogate = load(ARCHIVES / "surrogate-1-series.h5")
    assert surrogate.error is not None
    assert surrogate.provenance.parents == (dataset.content_hash,)
    conductances, voltages, currents = reads(dataset)
    missed = surrogate.program(conductances)(voltages) - currents
    assert relative(missed, currents) <= surrogate.error.bound
    # Its numbers, not only their size: the linear part alone misses ten times as much.
    ohmic = NodalTile(surrogate.spec.replace(cell=Ohmic())).program(conductances)
    linear = ohmic(voltages)
    assert relative(missed, currents) < 0.1 * relative(linear - currents, currents)


def test_a_linear_surrogate() -> None:
    surrogate: Surrogate = load(ARCHIVES / "surrogate-1-linear.h5")
    spec = surrogate.spec
    assert (spec.rows, spec.cols) == (4, 3)
    found = [spec.row_line_resistance, spec.column_line_resistance, spec.driver_resistance, spec.sense_resistance]
    assert found == pytest.approx([2.0, 3.0, 10.0, 20.0], rel=1e-6)
