"""Datasets: the same content has the same hash, and files give back what was saved."""

import dataclasses

import numpy as np
import pytest

from mdls_cosim import store
from mdls_cosim.dataset import Dataset
from mdls_cosim.errors import InputError, StoreError
from mdls_cosim.store import Array, Group


def experiments():
    generator = np.random.default_rng(5)
    return {
        "read": {
            "conductances": Array(generator.uniform(1e-6, 1e-4, (2, 3, 4)), "S", ("tile", "row", "col")),
            "voltages": Array(generator.uniform(0, 0.3, (2, 5, 3)), "V", ("tile", "vector", "row")),
            "conductance_class": Array(np.array([0, 1]), "", ("tile",)),
        },
        "iv": {"voltages": Array(np.linspace(-1, 1, 6).reshape(2, 3), "V", ("cell", "point"))},
    }


def make(**changes):
    given = {
        "experiments": experiments(),
        "config": {"tile": {"rows": 3, "cols": 4}, "classes": ("uniform", "clustered")},
        "seed": 5,
        "tools": {"ngspice": "46", "solver": "klu"},
    }
    return Dataset.create(**(given | changes))


def test_a_dataset_comes_back_from_its_file(tmp_path):
    dataset = make(parents=["sha256:0"])
    dataset.save(tmp_path / "data.h5")
    assert Dataset.load(tmp_path / "data.h5") == dataset
    assert dataset.config["classes"] == ["uniform", "clustered"]
    assert dataset.provenance.config == dataset.config
    assert dataset.provenance.parents == ("sha256:0",)
    assert dataset.provenance.tools["solver"] == "klu"
    assert "numpy" in dataset.provenance.tools


def test_same_inputs_and_seed_give_the_same_hash_whenever_and_wherever():
    dataset, later = make(), make(tools={"ngspice": "44"}, parents=["sha256:0"])
    assert dataset.content_hash == later.content_hash
    assert dataset.content_hash == dataset.provenance.content_hash
    assert make(config={"tile": {"rows": 3, "cols": 5}}).content_hash != dataset.content_hash
    other = experiments()
    other["read"]["voltages"].values[0, 0, 0] += 1e-12
    assert make(experiments=other).content_hash != dataset.content_hash


def test_one_axis_has_one_length_within_an_experiment():
    wrong = experiments()
    wrong["read"]["currents"] = Array(np.zeros((2, 5, 3)), "A", ("tile", "vector", "col"))
    with pytest.raises(InputError, match='axis "col" has two lengths at read/currents: got 3, allowed 4, as in cond'):
        make(experiments=wrong)


@pytest.mark.parametrize("name", ["a/b", "", ".."])
def test_names_that_no_file_can_hold_are_refused(name):
    with pytest.raises(InputError, match="not a name"):
        make(experiments={name: experiments()["iv"]})


def test_arrays_changed_after_creation_are_not_saved_under_the_old_hash(tmp_path):
    dataset = make()
    dataset.experiments["iv"]["voltages"].values[0, 0] = 9.0
    with pytest.raises(InputError, match="differ from the content hash"):
        dataset.save(tmp_path / "data.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_hash_is_not_its_own_is_refused(tmp_path):
    dataset = make()
    wrong = dataclasses.replace(dataset, provenance=dataset.provenance.replace(content_hash="sha256:0"))
    store.write(tmp_path / "data.h5", wrong._as_group())
    with pytest.raises(StoreError, match="not what its content hash says"):
        Dataset.load(tmp_path / "data.h5")


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (Group("mdls_cosim.surrogate", "1"), 'got "mdls_cosim.surrogate", allowed mdls_cosim.dataset'),
        (Group("mdls_cosim.dataset", "2"), "of a newer version"),
        (Group("mdls_cosim.dataset", "1"), "not laid out as a dataset"),
        (Group("mdls_cosim.dataset", "1", {"provenance": {"host": "x"}}), "not laid out as a dataset"),
        (Group("mdls_cosim.dataset", "1", {"provenance": 3}), "not laid out as a dataset"),
        (
            Group("mdls_cosim.dataset", "1", groups={"read": Group("mdls_cosim.experiment", "7")}),
            "mdls_cosim.experiment of a newer version",
        ),
    ],
)
def test_other_files_are_one_clear_error(tmp_path, group, said):
    path = tmp_path / "other.h5"
    store.write(path, group)
    with pytest.raises(StoreError) as caught:
        Dataset.load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_damaged_file_is_one_clear_error(tmp_path):
    path = tmp_path / "data.h5"
    make().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(StoreError, match="truncated"):
        Dataset.load(path)
    path.write_bytes(whole[:-100] + b"\x5a" * 100)
    with pytest.raises(StoreError, match="altered"):
        Dataset.load(path)
