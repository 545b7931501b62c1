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
from mdls_cosim.surrogates import PulseSurrogate, RowResponses, SeriesSurrogate, Surrogate, load

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


@pytest.mark.parametrize("name", sorted(each.name for each in ARCHIVES.glob("*.h5")))
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
    assert (len(arrays) > 0) == name.startswith(("dataset", "pulse"))


def test_every_file_is_told_of() -> None:
    told = (ARCHIVES / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{each.name}` |" in told for each in ARCHIVES.glob("*.h5"))


def test_a_dataset_of_compressed_arrays() -> None:
    with h5py.File(ARCHIVES / "dataset-1.1-compressed.h5") as file:
        packed = {name: file[f"read/{name}"].compression for name in ("voltages", "currents", "conductances")}
    assert packed == {"voltages": "gzip", "currents": "gzip", "conductances": None}
    dataset = Dataset.load(ARCHIVES / "dataset-1.1-compressed.h5")
    assert dataset.content_hash == "sha256:e4378f7948d8045be4cb3c618dcdaf4d443b286e4a7c73f2733ee2c0886085d1"
    _, voltages, currents = reads(dataset)
    assert float(voltages.abs().max()) == pytest.approx(0.3, rel=1e-3)
    assert float(currents.square().mean().sqrt()) == pytest.approx(2.7725052850687798e-5, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "kind", "data", "missed"),
    [
        ("surrogate-1.1-series_2.h5", SeriesSurrogate, "dataset-1.1-compressed.h5", 1e-4),
        ("surrogate-1.1-row-responses.h5", RowResponses, "dataset-1.1-1s1r.h5", 1e-4),
    ],
)
def test_surrogates_predict_what_they_were_fitted_to(
    name: str, kind: type[Surrogate], data: str, missed: float
) -> None:
    surrogate, dataset = load(ARCHIVES / name, strict=True), Dataset.load(ARCHIVES / data)
    assert type(surrogate) is kind
    assert surrogate.provenance.parents == (dataset.content_hash,)
    assert surrogate.error is not None
    conductances, voltages, currents = reads(dataset)
    # Strict: all that the fit saw is inside.
    assert relative(surrogate.program(conductances)(voltages) - currents, currents) < missed


@pytest.mark.parametrize("name", sorted(path.name for path in ARCHIVES.glob("surrogate-*.h5")))
def test_a_surrogate_of_an_earlier_version_can_be_written_again(name: str, tmp_path: Path) -> None:
    loaded = load(ARCHIVES / name)
    whole, cols = loaded.spec.rows, loaded.spec.cols
    for saved, shape in ((loaded, (whole, cols)), (loaded.for_tile(rows=2), (2, cols))):
        path = tmp_path / f"{shape[0]}.h5"
        saved.save(path)
        again = load(path)
        assert (again.spec.rows, again.spec.cols) == shape
        assert again.domain == loaded.domain
        if shape[0] == 2:
            assert again.provenance.parents == (loaded.provenance.content_hash,)


def test_a_pulse_surrogate_does_to_a_cell_what_its_pulses_did() -> None:
    surrogate = PulseSurrogate.load(ARCHIVES / "pulse-surrogate-1.h5", strict=True)
    dataset = Dataset.load(ARCHIVES / "dataset-1.1-pulses.h5")
    assert surrogate.provenance.parents == (dataset.content_hash,)
    train = {name: torch.as_tensor(array.values) for name, array in dataset.experiments["pulse"].items()}
    # The strongest raising pulses of the longer width, one by one.
    seen = train["conductances"][-1, -1, 0, :9]
    found = [seen[0]]
    for _ in range(8):
        found.append(surrogate(found[-1], float(train["potentiation"][-1]), float(train["widths"][-1])))
    low, high = surrogate.domain.conductances
    assert float((torch.stack(found) - seen).abs().max()) < 0.02 * (high - low)
    assert float(seen[-1] - seen[0]) > 0.5 * (high - low)


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
