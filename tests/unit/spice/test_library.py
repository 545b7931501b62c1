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
