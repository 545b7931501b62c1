"""`quantities.describe`: every number of every configuration of the package with its unit."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdls_cosim
from mdls_cosim.analog import Adc, Dac, Hardware
from mdls_cosim.analog.accumulator import Accumulator
from mdls_cosim.calibrate.random_effects import ParameterSpread
from mdls_cosim.characterize import Characterization
from mdls_cosim.config import Config
from mdls_cosim.devices import JartVcm, Sinh
from mdls_cosim.devices.variability import DeviceToDevice, Drift, ProgrammingError, Stuck, Variability
from mdls_cosim.devices.variability.distributions import Lognormal
from mdls_cosim.quantities import (
    SHARE,
    UNIT_OF_ITS_OWN,
    Quantity,
    Unit,
    describe,
    number_text,
    parse_quantity,
    unit_of,
    units_in,
)
from mdls_cosim.tiles import SubcircuitCell, TileSpec
from mdls_cosim.tiles.cells import StateDeclaration

EXAMPLES = Path(__file__).parents[2] / "examples"


def configurations() -> list[type[Config]]:
    """Every subclass of Config in the package."""
    for module in pkgutil.walk_packages(mdls_cosim.__path__, "mdls_cosim."):
        if not module.name.endswith(("__main__", ".spice.worker")):  # programs
            importlib.import_module(module.name)

    def below(config: type[Config]) -> Iterator[type[Config]]:
        for each in config.__subclasses__():
            yield each
            yield from below(each)

    found = {each for each in below(Config) if each.__module__.startswith("mdls_cosim.")}
    return sorted(found, key=lambda each: (each.__module__, each.__name__))


def parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in get_args(annotation):
        yield from parts(each)


def float_fields() -> list[Any]:
    """Every field of a configuration that holds a float, or floats."""
    return [
        pytest.param(config, name, id=f"{config.__name__}.{name}")
        for config in configurations()
        for name, field in config.model_fields.items()
        if any(part is float for part in parts(field.annotation))
    ]


def sample(annotation: Any, value: float) -> Any:
    """A value of the first form of `annotation` that holds a float: alone, in a tuple or in a dictionary."""
    if annotation is float:
        return value
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return tuple(sample(each, value) for each in inside if each is not ...)
    if origin is dict:
        return {"key": sample(inside[1], value)}
    holding = next(each for each in inside if any(part is float for part in parts(each)))
    return sample(holding, value)


def numbers(text: Any) -> list[str]:
    """The texts of nested text."""
    return [text] if isinstance(text, str) else [leaf for each in text.values() for leaf in numbers(each)]


def test_the_walk_finds_the_package() -> None:
    names = {config.__name__ for config in configurations()}
    assert len(names) > 60
    assert {"TileSpec", "Hardware", "JartVcm", "Simulation", "Characterization", "ProgrammingError"} <= names


@pytest.mark.parametrize(("config", "name"), float_fields())
def test_every_number_of_a_configuration_has_its_unit(config: type[Config], name: str) -> None:
    field = config.model_fields[name]
    units = set(units_in((*field.metadata, field.annotation)))
    assert len(units) == 1, f"{config.__name__}.{name}: a number is a Quantity, or marked by Unit, RATIO or SHARE"
    unit = units.pop()
    if unit == UNIT_OF_ITS_OWN:
        # The parameters of a user's subcircuit are in units that the user alone knows.
        assert config is SubcircuitCell or config.extra_description is not Config.extra_description
        return
    if inspect.isabstract(config):  # its subclasses are built
        return
    built = config.model_construct(**{name: sample(field.annotation, 0.5)})
    object.__setattr__(built, "extra_description", dict)  # it may need other fields
    found = numbers(describe(built)[name])
    assert found
    assert all(number_text(0.5, unit) in text for text in found)
    symbol = number_text(0.5, unit).partition(" ")[2]
    assert bool(symbol) is (unit != Unit(""))


def test_a_number_without_its_unit_is_found() -> None:
    class Bare(Config):
        width: float
        widths: tuple[float, ...] = ()

    assert unit_of(Bare, "width") is unit_of(Bare, "widths") is None


@settings(deadline=None)  # the first call loads pint
@given(st.floats(1e-15, 1e12))
def test_a_described_quantity_reads_back(value: float) -> None:
    for unit in ("siemens", "1/kelvin", "K/W", "volt/second"):
        text = number_text(value, Quantity(unit))
        assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-5)


def test_the_units_that_were_guessed_from_names() -> None:
    tile = TileSpec(
        rows=8, cols=4, cell=Sinh(nonlinearity=3.0), row_line_capacitance=1e-15, wire_temperature_coefficient=0.0039
    )
    adc = Adc(bits=6, full_scale=1e-5, integral_nonlinearity=0.5, gain_error=0.01, noise=0.25, range=99.9)
    found: dict[str, Any] = describe(Hardware(tile=tile, rung="nodal", adc=adc, dac=Dac(bits=4), weight_clip=2.5))
    assert found["tile"]["wire_temperature_coefficient"] == "0.0039 1/K"
    assert found["tile"]["row_line_capacitance"] == "1 fF"
    assert found["tile"]["cell"]["nonlinearity"] == "3 1/V"
    assert found["adc"]["integral_nonlinearity"] == "0.5 steps"
    assert found["adc"]["full_scale"] == "10 µA"
    assert found["adc"]["gain_error"] == "1 %"
    assert found["adc"]["noise"] == "0.25 steps"
    assert found["adc"]["range"] == "99.9 % quantile"
    assert found["weight_clip"] == "2.5 root mean squares"
    assert found["conductance_range"] == "1 µS, 100 µS"
    assert "states" not in found  # None
    assert describe(JartVcm())["thermal_resistance"] == "1.572e+07 K/W"


def test_effects_are_named_by_their_kinds() -> None:
    effects = (
        ProgrammingError(relative=0.02),
        Stuck(on=0.001),
        Drift(exponent=0.05),
        DeviceToDevice(parameter="on_resistance", distribution=Lognormal(sigma=0.1)),
        DeviceToDevice(parameter="off_resistance", distribution=Lognormal(sigma=0.2)),
    )
    found: dict[str, Any] = describe(Variability(effects=effects))
    told = found["effects"]
    assert list(told) == ["programming_error", "stuck", "drift", "device_to_device", "device_to_device 2"]
    assert told["programming_error"]["relative"] == "2 %"
    assert told["stuck"]["on"] == "0.1 %"
    assert told["drift"]["exponent"] == "0.05"
    assert told["device_to_device 2"]["distribution"] == {"kind": "lognormal", "sigma": "0.2"}
    assert "{" not in "".join(numbers(found))


def test_lists_counts_and_long_lists() -> None:
    tile = TileSpec(rows=20, cols=4, row_line_resistance=tuple(float(k) for k in range(20)))
    assert describe(tile)["row_line_resistance"] == "0 ohm, 1 ohm, 2 ohm, …, 19 ohm (20 values)"
    found = describe(Characterization(tile=TileSpec(rows=4, cols=4), sizes=(8, (16, 32)), read={}))  # pyright: ignore[reportArgumentType]
    assert found["sizes"] == "8, 16x32"
    assert describe(Accumulator(bits=12))["bits"] == "12"
    assert number_text(0.05, SHARE) == "5 %"


@pytest.mark.parametrize("file", ["tile.toml", "campaign.toml"])
def test_the_description_of_an_example_holds_text_alone(file: str) -> None:
    found = describe(Characterization.load_toml(EXAMPLES / file))
    assert not re.search(r"[{}\[\]()]|None", " ".join(numbers(found)))
    assert found["seed"] == "0"
    assert isinstance(found["tile"], dict)
    assert re.fullmatch(r"[\d.]+ m?ohm", found["tile"]["row_line_resistance"])


class TestStateOfASubcircuit:
    def test_a_state_at_a_pin_is_in_volts(self) -> None:
        found = describe(StateDeclaration(lowest=0.5, highest=1.5))
        assert (found["lowest"], found["highest"]) == ("500 mV", "1.5 V")

    def test_a_parameter_has_a_unit_of_its_own(self) -> None:
        found = describe(StateDeclaration(parameter="gap", lowest=0.5, highest=1.5))
        assert (found["lowest"], found["highest"]) == ("0.5", "1.5")

    def test_a_resistance_has_no_range_of_a_state(self) -> None:
        assert not {"lowest", "highest"} & describe(StateDeclaration(parameter="r", quantity="resistance")).keys()


def test_the_center_of_a_spread_has_the_unit_of_its_parameter() -> None:
    found = describe(ParameterSpread(family="normal", center=2e3, unit="ohm"))
    assert found == {"family": "normal", "center": "2 kohm"}
    assert describe(ParameterSpread(family="normal", center=4.0))["center"] == "4"
