"""Configurations: frozen, checked, and refused by field, value and what is allowed."""

import copy
import math
import pickle
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, field_validator, model_validator

from mdls_cosim.config import LARGEST_TOML, Config, load_toml
from mdls_cosim.errors import ConfigError
from mdls_cosim.quantities import InverseVoltage, Resistance


class Plain(Config):
    model: Literal["plain"] = "plain"


class Curved(Config):
    model: Literal["curved"] = "curved"
    nonlinearity: InverseVoltage = 3.0


class Tile(Config):
    rows: Annotated[int, Field(ge=1, strict=True)]
    cols: Annotated[int, Field(ge=1, strict=True)] = 4
    cell: Annotated[Plain | Curved, Field(discriminator="model")] = Plain()
    row_line_resistance: Resistance = 0.0
    shape: Literal["flat", "stacked"] = "flat"
    gain: float = 1.0
    levels: int | Literal["auto"] = "auto"

    @field_validator("gain")
    @classmethod
    def _no_unit_gain(cls, gain: float) -> float:
        if gain == 13:
            raise ConfigError("an unlucky gain", value=gain, limit="any other")
        if gain == 14:
            raise ValueError("plain text")
        return gain

    @model_validator(mode="after")
    def _fits(self) -> "Tile":
        if self.rows == 99 and self.cols == 99:
            raise ConfigError("too large together", where="rows", value=99, limit="98")
        return self


class Experiment(Config):
    tile: Tile
    spares: tuple[Tile, ...] = ()
    named: dict[str, Tile] = Field(default_factory=dict)


def refused(make):
    with pytest.raises(ConfigError) as caught:
        make()
    error = caught.value
    assert "\n" not in str(error)
    return error


def test_values_are_kept_and_frozen():
    tile = Tile(rows=2, row_line_resistance=1)
    assert (tile.rows, tile.cols, tile.row_line_resistance) == (2, 4, 1.0)
    with pytest.raises(ValidationError, match="frozen"):
        tile.rows = 3
    assert tile == Tile(rows=2, row_line_resistance="1 ohm")
    assert hash(tile) == hash(Tile(rows=2, row_line_resistance="1 ohm"))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_and_pickles_are_equal(again):
    tile = Tile(rows=2, cell=Curved(nonlinearity=2.0))
    assert again(tile) == tile


@pytest.mark.parametrize(
    ("values", "where", "said"),
    [
        ({"rows": 0}, "Tile.rows", "got 0, allowed greater than or equal to 1"),
        ({"rows": 2.5}, "Tile.rows", "got 2.5, allowed a valid integer"),
        ({"rows": None}, "Tile.rows", 'got "nothing", allowed a valid integer'),
        ({}, "Tile.rows", "missing key at Tile.rows"),
        ({"rows": 2, "row_line_resistance": -1}, "Tile.row_line_resistance", "got -1, allowed at least 0 ohm"),
        ({"rows": 2, "row_line_resistance": math.nan}, "Tile.row_line_resistance", "got nan, allowed at least 0 ohm"),
        ({"rows": 2, "row_line_resistance": "25 V"}, "Tile.row_line_resistance", 'got "25 V", allowed a resistance'),
        ({"rows": 2, "gain": math.inf}, "Tile.gain", "got inf, allowed a finite number"),
        ({"rows": 2, "gain": 13}, "Tile.gain", "an unlucky gain at Tile.gain: got 13.0, allowed any other"),
        ({"rows": 2, "gain": 14}, "Tile.gain", "plain text at Tile.gain: got 14"),
        ({"rows": 99, "cols": 99}, "Tile.rows", "too large together at Tile.rows: got 99, allowed 98"),
        ({"rows": 2, "shape": "stackt"}, "Tile.shape", 'allowed "flat" or "stacked". Did you mean stacked?'),
        ({"rows": 2, "levels": "much"}, "Tile.levels", 'or "auto"'),
        ({"rows": 2, "cell": "curved"}, "Tile.cell", "allowed a table of keys"),
        ({"rows": 2, "cell": {"model": "curvy"}}, "Tile.cell.model", 'allowed "plain", "curved". Did you mean curved?'),
        ({"rows": 2, "cell": {"nonlinearity": 3}}, "Tile.cell.model", "missing key at Tile.cell.model"),
        ({"rows": 2, "cell": {"model": "curved", "nonlinearity": 0}}, "Tile.cell.nonlinearity", "more than 0 1/V"),
        ({"rows": 0, "cols": 0}, "Tile.rows", "Also wrong: cols"),
        ({"cols": 0}, "Tile.rows", "It has no default, so it must be given. Also wrong: cols"),
    ],
)
def test_construction_says_field_value_and_what_is_allowed(values, where, said):
    error = refused(lambda: Tile(**values))
    assert error.where == where
    assert said in str(error)


def test_an_unknown_key_is_answered_with_the_allowed_ones_and_the_closest():
    error = refused(lambda: Tile(rows=2, row_line_resistence=1))
    assert error.where == "Tile.row_line_resistence"
    assert error.limit == "rows, cols, cell, row_line_resistance, shape, gain, levels"
    assert error.hint == "Did you mean row_line_resistance?"
    assert refused(lambda: Tile(rows=2, xyzzy=1)).hint is None


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"tile": {"rows": 2, "row_line_resistance": 2.0}}, "tile.row_line_resistance"),
        ({"tile": {"rows": 2, "cell": {"model": "curved", "nonlinearity": 3}}}, "tile.cell.nonlinearity"),
        ({"tile": {"rows": 2}, "spares": [{"rows": 2}, {"rows": 2, "bogus": 1}]}, "spares[1].bogus"),
        ({"tile": {"rows": 2}, "named": {"a": {"rows": 2, "row_line_resistance": 1}}}, "named.a.row_line_resistance"),
        ({"tile": {}}, "tile.rows"),
        ({}, "tile"),
        ({"tilt": {}}, "tilt"),
    ],
)
def test_the_path_leads_to_the_field(data, where):
    assert refused(lambda: Experiment.from_text_dict(data)).where == where
    assert refused(lambda: Experiment.from_text_dict(data, "spec.toml")).where == f"spec.toml: {where}"


def test_nested_models_see_python_numbers_in_python_and_text_in_text():
    data = {"tile": {"rows": 2, "row_line_resistance": 2.0}}
    assert Experiment(**data).tile.row_line_resistance == 2.0
    data["tile"]["row_line_resistance"] = "2 ohm"
    assert Experiment.from_text_dict(data).tile.row_line_resistance == 2.0


def test_replace_is_a_checked_copy():
    tile = Tile(rows=2, cell=Curved())
    other = tile.replace(cols=7)
    assert (tile.cols, other.cols, other.cell, type(other)) == (4, 7, Curved(), Tile)
    assert refused(lambda: tile.replace(cols=0)).where == "Tile.cols"
    assert "unknown key" in str(refused(lambda: tile.replace(columns=1)))


def test_as_dict_is_plain_si_and_makes_an_equal_configuration():
    experiment = Experiment(tile=Tile(rows=2, cell=Curved(), row_line_resistance="2 kohm"), spares=(Tile(rows=1),))
    plain = experiment.as_dict()
    assert plain["tile"]["row_line_resistance"] == 2000.0
    assert plain["tile"]["cell"] == {"model": "curved", "nonlinearity": 3.0}
    assert isinstance(plain["spares"], list)
    assert Experiment(**plain) == experiment


def toml(tmp_path, text):
    path = tmp_path / "spec.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_toml_file_loads(tmp_path):
    path = toml(tmp_path, '[tile]\nrows = 2\nrow_line_resistance = "2 Ω"\ncell = {model = "curved"}\n')
    loaded = Experiment.load_toml(path)
    assert loaded == Experiment(tile=Tile(rows=2, row_line_resistance=2.0, cell=Curved()))
    assert load_toml(str(path), Experiment) == loaded


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("[tile]\nrows = 2\nrow_line_resistance = 2\n", ": tile.row_line_resistance", "without its unit"),
        ('[tile]\nrows = 2\nrow_line_resistance = "-2 ohm"\n', ": tile.row_line_resistance", "at least 0 ohm"),
        ("[tile]\nrows = 2\nrow_line_resistance = nan\n", ": tile.row_line_resistance", "without its unit"),
        ("[tile]\nrows = 2\nbogus = 1\n", ": tile.bogus", "allowed rows, cols"),
        ("[tile]\nrows = \n", ", line 2", "TOML syntax: Invalid value"),
        ("[tile]\nrows = 1\nrows = 2\n", ", line 3", "TOML syntax: Cannot overwrite a value"),
        ("[tile]\n\nrows = [1,\n", ", line 4", "TOML syntax"),
        (b"\x89HDF\r\n\x1a\n\0", "", "not a text file"),
        ("tile = " + "[" * 5000, "", "too deeply nested"),
        ("tile = " + "9" * 5000, "", "a number that is too long"),
        ("[tile]\nrows = 9223372036854775808\n", ": tile.rows", "an integer of more than 64 bits"),
        ("[[tile.some]]\nrows = [[-9223372036854775809]]\n", ": tile.some.rows", "an integer of more than 64 bits"),
        ("\n" + ".".join(["tile"] * 100_000) + " = 1", ", line 2", "a key of too many parts"),
        ("# " + "x" * LARGEST_TOML, "", "too large"),
    ],
)
def test_an_error_in_a_toml_file_names_the_file_and_the_place(tmp_path, text, where, said):
    path = toml(tmp_path, text)
    error = refused(lambda: Experiment.load_toml(path))
    assert error.where == f"{path}{where}"
    assert said in str(error)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_toml_of_other_systems_is_read(tmp_path, encoding, end):
    text = end.join(["# 20 µS", "[tile]", "rows = 3", 'row_line_resistance = "2 ohm"', ""])
    assert Experiment.load_toml(toml(tmp_path, text.encode(encoding))).tile == Tile(rows=3, row_line_resistance=2.0)


def test_what_is_no_toml_file_is_refused(tmp_path):
    assert "no such file" in str(refused(lambda: Experiment.load_toml(tmp_path / "none.toml")))
    assert "cannot be read" in str(refused(lambda: Experiment.load_toml(tmp_path)))
