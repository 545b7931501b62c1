"""Specifications and the Datasets that they become."""

import numpy as np
import pytest
from kirchhoff import Tile

from mdls_cosim.characterize import Characterization, IvPlan, ReadPlan, characterize
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import Vteam
from mdls_cosim.errors import ConfigError
from mdls_cosim.tiles import TileSpec

PLAN = ReadPlan(
    conductance_classes=("uniform", "clustered"), input_classes=("sparse", "dense", "signed"), tiles=2, vectors=3
)


@pytest.fixture
def spec(tile_spec) -> Characterization:
    return Characterization(
        tile=tile_spec(4, 3, nonlinearity=3.0), iv=IvPlan(points=5, cells=3, voltage=0.2), read=PLAN, seed=5
    )


def test_the_conductance_range_follows_from_the_devices_of_all_corners():
    def tile(on: float, off: float) -> TileSpec:
        return TileSpec(rows=2, cols=2, cell=Vteam(on_resistance=on, off_resistance=off))

    assert Characterization(tile=TileSpec(rows=2, cols=2), read=PLAN).conductance_range == (1e-6, 100e-6)
    one = Characterization(tile=tile(1e3, 100e3), read=PLAN)
    assert one.conductance_range == pytest.approx((10e-6, 1e-3), rel=1e-12)
    both = one.replace(corners={"a": tile(1e3, 50e3), "b": tile(2e3, 100e3)})
    assert both.conductance_range == pytest.approx((20e-6, 500e-6), rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conductance_range": (1e-4, 1e-6)}, "conductance_range must rise"),
        ({"conductance_range": (1e-5, 1e-5)}, "conductance_range must rise"),
        ({"conductance_range": (-1e-6, 1e-4)}, "conductance_range"),
        ({"read": None}, r"add a table \[iv\], \[read\], .* or \["),
        ({"read": {"tiles": 0}}, "tiles"),
        ({"read": {"vectors": -1}}, "vectors"),
        ({"read": {"conductance_classes": ()}}, "conductance_classes"),
        ({"read": {"conductance_classes": ("lumpy",)}}, "conductance_classes"),
        ({"read": {"input_classes": ("loud",)}}, "input_classes"),
        ({"read": {"amplitude": 0.3}}, "amplitude"),
        ({"iv": {"points": 2}}, "points"),
        ({"iv": {"cells": 0}}, "cells"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),  # a Dataset of such a seed could not be read
        ({"sed": 1}, "seed"),
    ],
    ids=str,
)
def test_impossible_specifications_are_refused(tile_spec, changes, message):
    with pytest.raises(ConfigError, match=message):
        Characterization(**{"tile": tile_spec(4, 3), "read": {}, **changes})


@pytest.mark.ngspice
def test_the_dataset(spec, engine):
    calls = []
    dataset = characterize(spec, progress=lambda finished, planned: calls.append((finished, planned)), engine=engine)
    read, iv = dataset.experiments["read"], dataset.experiments["iv"]
    described = {name: (array.values.shape, array.units, array.dims) for name, array in read.items()}
    assert described == {
        "conductances": ((4, 4, 3), "S", ("tile", "row", "col")),
        "voltages": ((4, 9, 4), "V", ("tile", "vector", "row")),
        "currents": ((4, 9, 3), "A", ("tile", "vector", "col")),
        "column_error": ((4, 3), "1", ("tile", "col")),
        "conductance_class": ((4,), "1", ("tile",)),
        "input_class": ((9,), "1", ("vector",)),
    }
    assert {name: (array.values.shape, array.units, array.dims) for name, array in iv.items()} == {
        "conductances": ((3,), "S", ("cell",)),
        "voltages": ((3, 5), "V", ("cell", "point")),
        "currents": ((3, 5), "A", ("cell", "point")),
    }
    # Progress counts operating points, 3 cells of 5 points and 4 tiles of 9 inputs, and never goes back.
    assert calls[-1] == (51, 51)
    assert calls == sorted(calls)
    # The numbers are the circuit's.
    for tile in range(4):
        expected = Tile.of(spec.tile).solve(read["conductances"].values[tile], read["voltages"].values[tile]).currents
        np.testing.assert_allclose(read["currents"].values[tile], expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    grid, sweep = np.array([[1e-6], [50.5e-6], [100e-6]]), np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    np.testing.assert_allclose(iv["conductances"].values, grid[:, 0])
    np.testing.assert_allclose(iv["voltages"].values, np.tile(sweep, (3, 1)), atol=1e-17)
    np.testing.assert_allclose(iv["currents"].values, grid * np.sinh(3.0 * sweep) / 3.0, rtol=1e-9, atol=1e-18)
    # Codes name the classes in the recorded configuration.
    assert read["conductance_class"].values.tolist() == [0, 0, 1, 1]
    assert read["input_class"].values.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.config["read"]["input_classes"] == ["sparse", "dense", "signed"]
    assert dataset.config["tile"]["sense_resistance"] == 7.0
    assert Characterization(**dataset.config) == spec
    assert dataset.provenance.seed == 5
    assert {"ngspice", "solver", "python", "numpy"} <= set(dataset.provenance.tools)


@pytest.mark.ngspice
def test_only_what_was_asked_for(spec, engine):
    assert set(characterize(spec.replace(iv=None), engine=engine).experiments) == {"read"}
    assert set(characterize(spec.replace(read=None), engine=engine).experiments) == {"iv"}


@pytest.mark.ngspice
def test_the_same_seed_gives_the_same_content_on_any_number_of_workers(spec):
    one = characterize(spec, workers=1)
    for again in (characterize(spec, workers=2), characterize(spec, workers=2)):
        for name, arrays in one.experiments.items():
            for key, array in arrays.items():
                np.testing.assert_array_equal(again.experiments[name][key].values, array.values, f"{name}/{key}")
        assert again.content_hash == one.content_hash


@pytest.mark.ngspice
def test_the_engines_past_does_not_show(spec, engine):
    first = characterize(spec, engine=engine)
    characterize(spec.replace(seed=8, iv=None), engine=engine)
    assert characterize(spec, engine=engine).content_hash == first.content_hash


@pytest.mark.ngspice
def test_another_seed_gives_another_content(spec, engine):
    other = characterize(spec.replace(seed=6), engine=engine)
    assert other.content_hash != characterize(spec, engine=engine).content_hash


@pytest.mark.ngspice
def test_the_dataset_survives_the_disk(spec, engine, tmp_path):
    dataset = characterize(spec, engine=engine)
    dataset.save(tmp_path / "data.h5")
    loaded = Dataset.load(tmp_path / "data.h5")
    assert loaded.content_hash == dataset.content_hash
    np.testing.assert_array_equal(
        loaded.experiments["read"]["currents"].values, dataset.experiments["read"]["currents"].values
    )


@pytest.mark.parametrize("plan", [IvPlan, ReadPlan])
@pytest.mark.parametrize("voltage", [0.0, -0.1, float("nan")])
def test_an_amplitude_is_positive(plan, voltage):
    with pytest.raises(ConfigError, match="voltage"):
        plan(voltage=voltage)
