from pathlib import Path

import pytest

from mdls_cosim.errors import DeckError
from mdls_cosim.spice import library, model_names, read_model


def test_every_model_is_a_subcircuit_of_its_own_name_with_its_pins_and_units_told():
    assert {"ohmic", "sinh"} <= set(model_names())
    for name in model_names():
        text = read_model(name)
        assert text.startswith("*")
        assert f".subckt {name} " in text
        assert "Pins:" in text


def test_an_unknown_model_names_the_folder_and_the_models_there():
    with pytest.raises(DeckError) as caught:
        read_model("shin")
    assert str(library.models_folder()) in str(caught.value)
    assert "sinh" in str(caught.value)


def test_the_wheel_folder_comes_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "src" / "mdls_cosim"
    (tmp_path / "spice_models").mkdir(parents=True)
    package.mkdir(parents=True)
    monkeypatch.setattr(library, "_PACKAGE", package)
    assert library.models_folder() == tmp_path / "spice_models"
    (package / "spice_models").mkdir()
    assert library.models_folder() == package / "spice_models"


def test_no_folder_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "_PACKAGE", tmp_path / "a" / "b")
    with pytest.raises(DeckError, match="folder of SPICE models is missing"):
        library.models_folder()
