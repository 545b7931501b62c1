from pathlib import Path

import pytest

from mdls_cosim import resources
from mdls_cosim.errors import StoreError


@pytest.mark.parametrize("name", ["spice_models", "calibration"])
def test_the_wheel_folder_comes_before_the_checkout(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "mdls_cosim"
    (tmp_path / name).mkdir(parents=True)
    package.mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.resource_folder(name) == tmp_path / name
    (package / name).mkdir()
    assert resources.resource_folder(name) == package / name


def test_no_folder_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "a" / "b")
    with pytest.raises(StoreError, match="folder spice_models is missing"):
        resources.resource_folder("spice_models")
