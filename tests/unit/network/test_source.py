"""The code of a user's function: what its hash covers, and that an edited module is imported anew."""

from __future__ import annotations

import sys

import pytest
from torch import nn

from mdls_cosim.network.source import model_modules, source_files, source_hash
from mdls_cosim.network.zoo.factory import factory, searched_first

FILES = {
    "top.py": "import beside\nfrom package import layers\ndef make():\n    return layers.net()\n",
    "beside.py": "import json, torch, numpy\nWIDTH = 3\n",
    "package/__init__.py": "",
    "package/layers.py": "from .deep.parts import build\nfrom . import names as n\ndef net():\n    return build()\n",
    "package/names.py": "A = 1\n",
    "package/late.py": "B = 1\n",
    "package/deep/__init__.py": "",
    "package/deep/parts.py": (
        "import importlib\nfrom torch import nn\nfrom ..names import A\n"
        "def build():\n    from package import late\n    importlib.import_module('dynamic')\n"
        "    return nn.Linear(2, 3)\n"
    ),
    "dynamic.py": "C = 1\n",
    "unrelated.py": "D = 1\n",
}
USED = {name for name in FILES if name != "unrelated.py"}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in ("top", "beside", "dynamic", *(each for each in sys.modules if each.split(".")[0] == "package")):
        sys.modules.pop(name, None)


def hashed(folder):
    with searched_first(folder):
        return source_hash(["top"])


def test_everything_that_is_imported_from_the_folder(folder):
    with searched_first(folder):
        found = source_files(["top"])
    assert {str(file.relative_to(folder)) for file in found.values()} == USED
    assert "top" not in sys.modules  # nothing is run


@pytest.mark.parametrize("name", FILES)
def test_an_edit_changes_the_hash(folder, name):
    before = hashed(folder)
    (folder / name).write_text(FILES[name] + "E = 2\n")
    assert (hashed(folder) != before) == (name in USED)


def test_comments_layout_and_place_do_not_count(folder, tmp_path_factory):
    before = hashed(folder)
    (folder / "beside.py").write_text("# a comment\nimport json, torch, numpy\n\nWIDTH = (3)  # wide\n")
    assert hashed(folder) == before
    moved = tmp_path_factory.mktemp("other") / "place"
    folder.rename(moved)
    assert hashed(moved) == before
    moved.rename(folder)


def test_what_cannot_be_parsed_counts_by_its_bytes(folder):
    (folder / "beside.py").write_text("print 'old'\n")
    before = hashed(folder)
    (folder / "beside.py").write_text("print 'older'\n")
    assert hashed(folder) != before


def test_installed_packages_count_without_their_imports():
    assert set(source_files(["torch.nn"])) == {"torch.nn"}
    assert source_hash(["torch.nn"]) == source_hash(["torch.nn"]) != source_hash(["torch.nn.functional"])
    zoo = source_files(["mdls_cosim.network.zoo.vgg"], package="mdls_cosim.network.zoo")
    assert {"mdls_cosim.network.zoo.vgg", "mdls_cosim.network.zoo.blocks"} <= set(zoo)
    assert all(name.startswith("mdls_cosim.network.zoo") for name in zoo)


def test_edited_modules_are_imported_anew(folder):
    assert factory("top:make", folder)().out_features == 3
    assert not list(folder.rglob("*.pyc"))
    for width in (4, 5):  # of the same length and second as the one before
        (folder / "package/deep/parts.py").write_text(FILES["package/deep/parts.py"].replace("2, 3", f"2, {width}"))
        assert factory("top:make", folder)().out_features == width
    module = sys.modules["top"]
    assert factory("top:make", folder)().out_features == 5
    assert sys.modules["top"] is module  # what has not changed stays


def test_the_same_name_in_another_folder_is_another_module(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "top.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 9)\n")
    assert factory("top:make", folder)().out_features == 3
    assert factory("top:make", other)().out_features == 9
    assert factory("top:make", folder)().out_features == 3


def test_modules_of_the_classes_of_a_model():
    class Own(nn.Module):
        pass

    assert model_modules(nn.Sequential(Own(), nn.Linear(2, 2))) == {Own.__module__}
