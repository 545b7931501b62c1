"""The names that `import mdls_cosim as mc` offers."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mdls_cosim as mc


@pytest.mark.parametrize("name", mc.__all__)
def test_every_exported_name_is_the_object_of_its_module(name):
    module = importlib.import_module(f"mdls_cosim.{mc._MODULE_OF[name]}")
    assert getattr(mc, name) is getattr(module, name)
    assert name in module.__all__ if hasattr(module, "__all__") else getattr(mc, name).__module__ == module.__name__


def test_the_lists_for_users_type_checkers_and_imports_agree():
    assert sorted(mc.__all__) == sorted(mc._MODULE_OF)
    assert len(set(mc.__all__)) == len(mc.__all__)
    tree = ast.parse(Path(mc.__file__).read_text())
    block = next(each for each in tree.body if isinstance(each, ast.If))
    imported: dict[str, list[str]] = {}
    for each in block.body:
        imported.setdefault(each.module, []).extend(alias.name for alias in each.names)
    imported = {module: sorted(names) for module, names in imported.items()}
    assert imported.pop("mdls_cosim") == sorted(mc._SUBPACKAGES)
    assert imported == {f"mdls_cosim.{module}": sorted(names) for module, names in mc._EXPORTS.items()}


def test_no_exported_name_is_that_of_a_module_which_its_import_would_put_in_its_place():
    folder = Path(mc.__file__).parent
    modules = {each.stem for each in folder.iterdir()}
    assert not modules & set(mc.__all__)
    assert set(mc._SUBPACKAGES) <= modules


@pytest.mark.parametrize("name", mc._SUBPACKAGES)
def test_subpackages_are_attributes(name):
    assert getattr(mc, name) is importlib.import_module(f"mdls_cosim.{name}")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("hardware", "Hardware"), ("evalute", "evaluate"), ("TileSpecs", "TileSpec"), ("tile", "tiles")],
)
def test_an_unknown_name_gives_an_attribute_error_with_a_close_match(wrong, right):
    with pytest.raises(
        AttributeError, match=f"'mdls_cosim' has no attribute '{wrong}'. Did you mean '{right}'"
    ) as info:
        getattr(mc, wrong)
    assert info.value.name == wrong


def test_a_name_that_resembles_nothing_has_no_suggestion():
    assert not hasattr(mc, "xyzzy")
    with pytest.raises(AttributeError, match=r"has no attribute 'xyzzy'$"):
        mc.xyzzy  # noqa: B018
    with pytest.raises(ImportError, match="xyzzy"):
        exec("from mdls_cosim import xyzzy")


def test_dir_lists_every_name():
    assert {*mc.__all__, *mc._SUBPACKAGES, "__version__"} <= set(dir(mc))


IN_A_NEW_PROCESS = """
import sys
import mdls_cosim as mc
heavy = {"torch", "PySpice", "numpy", "pydantic", "h5py"}
dir(mc), hasattr(mc, "no_such_name"), mc.__version__
assert not heavy & set(sys.modules), heavy & set(sys.modules)
mc.TileSpec, mc.Sinh, mc.Dataset, mc.MdlsError
assert not {"torch", "PySpice"} & set(sys.modules)
assert mc.NodalTile.__name__ == "NodalTile" and "torch" in sys.modules
assert "PySpice" not in sys.modules
from mdls_cosim import characterize
assert mc.characterize is characterize and mc.convert.__name__ == "convert"
"""


def test_the_import_loads_neither_torch_nor_pyspice():
    done = subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
