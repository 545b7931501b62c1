"""Quantities: text with a unit on one side, plain SI floats on the other; and `describe`, a configuration as text.

In Python a quantity is a float in SI units, or text with a unit. In TOML and on the command line it is text with a
unit and nothing else: a bare number there is an error, because nobody can tell 25 uS from 25 S by looking at "25".
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, get_args

from mdls_cosim.config import Config
from mdls_cosim.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, ValidationInfo
    from pydantic_core import CoreSchema

_KINDS = {
    "ohm": ("a resistance", "2 ohm"),
    "siemens": ("a conductance", "25 uS"),
    "volt": ("a voltage", "0.3 V"),
    "ampere": ("a current", "10 nA"),
    "kelvin": ("a temperature", "300 K"),
    "1/volt": ("an inverse voltage", "3 / V"),
    "second": ("a time", "10 ns"),
    "hertz": ("a frequency", "1 MHz"),
    "farad": ("a capacitance", "1 fF"),
    "joule": ("an energy", "1 pJ"),
    "watt": ("a power", "1 mW"),
    "meter": ("a length", "5 nm"),
    "1/kelvin": ("a temperature coefficient", "0.0039 / K"),
    "1/second": ("a rate", "100 / s"),
    "ampere/volt**2": ("a transconductance parameter", "60 uA/V^2"),
    "volt**0.5": ("a body-effect coefficient", "0.45 V^0.5"),
    "m/s": ("a velocity", "10 m/s"),
    "V/m": ("an electric field", "1.4e9 V/m"),
    "K/W": ("a thermal resistance", "2.1e3 K/W"),
    "1/m^3": ("a concentration", "2e27 / m^3"),
    "m^2/(V s)": ("a mobility", "4e-6 m^2/V/s"),
    "meter**2/volt/second": ("a mobility", "1e-14 m^2/V/s"),
    "ohm/second": ("a rate of resistance", "700 ohm/s"),
    "1/ohm": ("an inverse resistance", "5e-4 / ohm"),
    "ohm/volt": ("a resistance a voltage", "20 kohm/V"),
    "volt/second": ("a ramp rate", "1 V/s"),
}
"""What to call a quantity in a message, and an example of it, by unit."""

_SYMBOLS = {
    "ohm": "ohm", "siemens": "S", "volt": "V", "ampere": "A", "kelvin": "K", "1/volt": "1/V", "second": "s",
    "hertz": "Hz", "farad": "F", "joule": "J", "watt": "W", "meter": "m",
    "1/kelvin": "1/K", "1/second": "1/s", "ampere/volt**2": "A/V^2", "volt**0.5": "V^0.5",
}  # fmt: skip
_UNITS = {symbol: unit for unit, symbol in _SYMBOLS.items()} | {"Ω": "ohm"}
_PREFIXED = frozenset({"ohm", "Ω", "S", "V", "A", "s", "Hz", "F", "J", "W", "m"})
_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*", re.DOTALL)
_LONGEST_UNIT, _LARGEST_POWER = 60, 99
_DIGITS = re.compile(r"[0-9]+")
# The same sign under several code points: minus, micro, ohm, kelvin.
_SAME_SIGN = str.maketrans(
    {"\u2212": "-", "\u00b5": "u", "\u03bc": "u", "\u2126": "ohm", "\u03a9": "ohm", "\u212a": "K"}
)


def parse_quantity(text: str, unit: str) -> float:
    """The SI value of `text`, a number with its unit, in `unit` ("siemens", "1/volt", or a symbol such as "S").

    parse_quantity("25 uS", "siemens") is exactly 2.5e-05. Errors: ConfigError for a number without unit, a unit of
    another dimension, text that is no quantity, and a value that no float holds.
    """
    unit = _UNITS.get(unit, unit)
    match = _NUMBER.fullmatch(text.translate(_SAME_SIGN))
    if match is None:
        raise ConfigError("not a quantity", value=text, limit=_allowed(unit))
    number, unit_text = match.groups()
    if not unit_text:
        raise ConfigError("a number without its unit", value=text, limit=_allowed(unit))
    if unit_text.startswith(("**", "^")):  # pint leaves it out: 1e3**2 V would be 1000 V
        raise ConfigError("not a quantity", value=text, limit=_allowed(unit))
    scale, offset = _conversion(unit_text, unit, text)
    try:
        # Decimal arithmetic gives the float nearest to what was written: 25 * 1e-6 is 2.4999999999999998e-05.
        value = float(Decimal(number) * scale + offset)
    except ArithmeticError:  # an exponent that even Decimal refuses
        value = math.inf
    if not math.isfinite(value):
        raise ConfigError("a value too large", value=text, limit=_allowed(unit))
    return value


def format_quantity(value: float, unit: str, digits: int = 6) -> str:
    """`value` [`unit`] with an SI prefix, in at most `digits` significant digits: 2.5e-05, "S" gives "25 µS"."""
    unit = _SYMBOLS.get(unit, unit)
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = 0
    if unit in _PREFIXED and rounded and math.isfinite(rounded):
        exponent = 3 * math.floor(math.floor(math.log10(abs(rounded)) + 1e-12) / 3)
        exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    return f"{float(Decimal(repr(rounded)).scaleb(-exponent)):.{digits}g} {_PREFIXES[exponent]}{unit}"


@dataclass(frozen=True)
class Quantity:
    """Marks a pydantic field as a quantity: `Annotated[float, Quantity("siemens", ge=0)]`.

    The field holds a finite SI float within the bounds (`ge`, `gt`, `le`, `lt`, in SI) and accepts a real number (SI)
    or text with a unit; where the validation context says {"text": True} (TOML, command line), text with a unit only.
    `several`: of a field `float | tuple[float, ...]`, which takes a list of such values too.
    """

    unit: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    several: bool = False

    def check(self, value: Any, *, text_only: bool = False) -> float:
        """`value` as an SI float within the bounds, else ConfigError."""
        unit = _UNITS.get(self.unit, self.unit)
        if isinstance(value, str):
            number = parse_quantity(value, unit)
        elif isinstance(value, bool) or not isinstance(value, Real):
            raise ConfigError("not a quantity", value=_named(value), limit=_allowed(unit))
        elif text_only:
            raise ConfigError("a number without its unit", value=value, limit=_allowed(unit))
        else:
            number = float(value)
        within = (
            math.isfinite(number)
            and (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )
        if not within:
            raise ConfigError("an impossible value", value=value, limit=self._bounds())
        return number

    def _bounds(self) -> str:
        bounds = (
            ("at least", self.ge),
            ("more than", self.gt),
            ("at most", self.le),
            ("less than", self.lt),
        )
        said = [f"{word} {format_quantity(bound, self.unit)}" for word, bound in bounds if bound is not None]
        return " and ".join(said) or f"a finite number [{_SYMBOLS.get(self.unit, self.unit)}]"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def validate(value: Any, info: ValidationInfo) -> float | tuple[float, ...]:
            text_only = bool(info.context and info.context.get("text"))
            if self.several and isinstance(value, list | tuple):
                return tuple(self.check(each, text_only=text_only) for each in value)
            return self.check(value, text_only=text_only)

        return core_schema.with_info_before_validator_function(validate, handler(source))


Resistance = Annotated[float, Quantity("ohm", ge=0)]
LineResistance = Annotated[float | tuple[float, ...], Quantity("ohm", ge=0, several=True)]
"""Of every line, or one for each."""
PositiveResistance = Annotated[float, Quantity("ohm", gt=0)]
Conductance = Annotated[float, Quantity("siemens", ge=0)]
Voltage = Annotated[float, Quantity("volt")]
Amplitude = Annotated[float, Quantity("volt", gt=0)]
Current = Annotated[float, Quantity("ampere")]
PositiveCurrent = Annotated[float, Quantity("ampere", gt=0)]
Temperature = Annotated[float, Quantity("kelvin", gt=0)]
InverseVoltage = Annotated[float, Quantity("1/volt", gt=0)]
Time = Annotated[float, Quantity("second", ge=0)]
Duration = Annotated[float, Quantity("second", gt=0)]
Frequency = Annotated[float, Quantity("hertz", gt=0)]
Capacitance = Annotated[float, Quantity("farad", ge=0)]
Energy = Annotated[float, Quantity("joule", ge=0)]
PerKelvin = Annotated[float, Quantity("1/kelvin")]
Rate = Annotated[float, Quantity("1/second", gt=0)]
Length = Annotated[float, Quantity("meter", gt=0)]
Transconductance = Annotated[float, Quantity("ampere/volt**2", gt=0)]
RootVoltage = Annotated[float, Quantity("volt**0.5", ge=0)]


@dataclass(frozen=True)
class Unit:
    """Marks a number of a configuration with the unit that `describe` shows; checks and converts nothing.

    `symbol` is a unit as in `Quantity` ("volt"), "%" for a fraction that is shown in percent, or a word ("steps").
    The empty symbol declares a number without dimension.
    """

    symbol: str


RATIO = Unit("")
"""Marks a dimensionless number."""
SHARE = Unit("%")
"""Marks a fraction of 1, shown in percent."""
UNIT_OF_ITS_OWN = Unit("its own")
"""Marks a number of which the unit is the user's, or stands in another field: `Config.extra_description` gives it."""

_MOST_SHOWN = 12  # numbers of a list; of a longer one the first and the last are shown, with their count
_ELECTRONVOLT = 1.602176634e-19  # [J], exact in the SI
_SHOWN = {
    "ohm/second": "ohm/s", "ohm/volt": "ohm/V", "volt/second": "V/s", "meter**2/volt/second": "m^2/(V s)",
    "siemens/kelvin": "S/K", "1/volt**2": "1/V^2", "1/siemens/volt**2": "1/(S V^2)", "siemens/volt**2": "S/V^2",
    "ampere/volt**3": "A/V^3",
}  # fmt: skip
"""Symbols of units that are printed, besides those of `_SYMBOLS`."""


def describe(config: Config) -> dict[str, str | dict[str, Any]]:
    """A configuration as nested text by the names of its fields, every number with the unit of its annotation.

    A nested configuration gives a dictionary. So does a list of configurations, by their kinds ("programming_error").
    Fields that are None or empty are left out, and so are fields declared with `repr=False`, which hold whole files.
    Energies are given in electronvolts: those of a configuration are activation energies.
    """
    extra = config.extra_description()
    found: dict[str, str | dict[str, Any]] = {}
    for name, field in type(config).model_fields.items():
        text = extra[name] if name in extra else _described(getattr(config, name, None), unit_of(type(config), name))
        if text and field.repr:
            found[name] = text
    return found | {name: text for name, text in extra.items() if text}


def describe_value(config: type[Config], name: str, value: Any) -> str:
    """`value` of the field `name` of a class of configurations, as `describe` shows it; "–" for None."""
    text = _described(value, unit_of(config, name))
    return text if isinstance(text, str) and text else "–"


def unit_of(config: type[Config], name: str) -> Quantity | Unit | None:
    """What the annotation of the field `name` says of the unit of its numbers; None where it says nothing."""
    field = config.model_fields.get(name)
    return None if field is None else next(units_in((*field.metadata, field.annotation)), None)


def units_in(annotations: tuple[Any, ...]) -> Iterator[Quantity | Unit]:
    """All units among `annotations` and within them, as in tuple[Conductance, ...] | None."""
    for each in annotations:
        if isinstance(each, Quantity | Unit):
            yield each
        yield from units_in(get_args(each))


def number_text(value: float, unit: Quantity | Unit | None) -> str:
    """A number with its unit as `describe` shows it: "0.0039 1/K", "2 %", "0.5 steps"."""
    if unit is None or unit == RATIO:
        return f"{value:d}" if isinstance(value, int) else f"{value:.6g}"
    symbol = unit.unit if isinstance(unit, Quantity) else unit.symbol
    if symbol == "%":
        return f"{100 * value:.6g} %"
    if symbol == "joule":
        return f"{value / _ELECTRONVOLT:.6g} eV"
    if symbol == UNIT_OF_ITS_OWN.symbol:
        return f"{value:.6g}"
    return format_quantity(float(value), _SHOWN.get(symbol, symbol))


def _described(value: Any, unit: Quantity | Unit | None) -> str | dict[str, Any]:
    """A value as text, or nested text; empty where there is nothing to show."""
    match value:
        case None:
            return ""
        case Config():
            return describe(value)
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number_text(value, unit)
        case Mapping():
            found = {str(name): _described(each, unit) for name, each in value.items()}
            return {name: text for name, text in found.items() if text}
        case tuple() | list() if any(isinstance(each, Config) for each in value):
            return _by_kind(value)
        case tuple() | list():
            return _listed(value, unit)
    return str(value)


def _by_kind(configs: tuple[Any, ...] | list[Any]) -> dict[str, Any]:
    """Descriptions by kind ("programming_error"); those of one kind are numbered from the second on."""
    found: dict[str, Any] = {}
    for place, each in enumerate(configs, 1):
        tag = next((tag for tag in ("effect", "model", "kind") if isinstance(getattr(each, tag, None), str)), None)
        name = key = f"number {place}" if tag is None else str(getattr(each, tag))
        count = 1
        while key in found:
            count += 1
            key = f"{name} {count}"
        own = {name: text for name, text in describe(each).items() if name != tag}
        found[key] = own or "yes"
    return found


def _listed(values: tuple[Any, ...] | list[Any], unit: Quantity | Unit | None) -> str:
    """Numbers and words of a list, a pair of whole numbers as "8x16", inner lists by semicolons."""
    texts = [_inner(each, unit) for each in values]
    between = "; " if any(", " in text for text in texts) else ", "
    if len(texts) > _MOST_SHOWN:
        return f"{between.join(texts[:3])}{between}…{between}{texts[-1]} ({len(texts)} values)"
    return between.join(texts)


def _inner(value: Any, unit: Quantity | Unit | None) -> str:
    if isinstance(value, tuple | list):
        whole = unit is None and all(isinstance(each, int) for each in value)
        return "x".join(map(str, value)) if whole else _listed(value, unit)
    return _line(_described(value, unit))


def _line(text: str | dict[str, Any]) -> str:
    """Nested text in one line: "kind normal, sigma 0.1, bounds (low 1 V, high 2 V)"."""
    if isinstance(text, str):
        return text
    return ", ".join(
        f"{name} {each}" if isinstance(each, str) else f"{name} ({_line(each)})" for name, each in text.items()
    )


def _allowed(unit: str) -> str:
    noun, example = _KINDS.get(unit, (f"a quantity in {unit}", f"1 {unit}"))
    return f'{noun} with its unit, such as "{example}"'


def _named(value: Any) -> Any:
    """None is said by name: an error without a value has None there."""
    return "nothing" if value is None else value


@functools.cache
def _registry() -> Any:
    # Built at first use: pint and its definitions cost more than the rest of the package's imports.
    import pint

    decimal: Any = Decimal  # pint's annotation knows float only; its documentation names Decimal
    return pint.UnitRegistry(non_int_type=decimal)


@functools.lru_cache(maxsize=1024)
def _scale_and_offset(unit_text: str, unit: str) -> tuple[Decimal, Decimal] | str:
    """Scale and offset from `unit_text` to `unit`, or what is wrong with `unit_text`."""
    # pint evaluates expressions: "V**9999999" is a number of as many digits.
    if len(unit_text) > _LONGEST_UNIT or any(int(number) > _LARGEST_POWER for number in _DIGITS.findall(unit_text)):
        return "an unknown unit"
    registry = _registry()
    written = f"1 {unit_text}" if unit_text.startswith(("/", "*")) else unit_text
    try:
        # `unit` too may come from a file, as of a parameter set.
        source, target = registry.parse_units(written), registry.parse_units(unit)
        if source.dimensionality != target.dimensionality:
            return "a unit of the wrong dimension"
        zero, one = (registry.Quantity(Decimal(n), source).to(target).magnitude for n in (0, 1))
        return one - zero, zero
    except Exception:
        # pint lets errors of tokenize, of Python's parser and of arithmetic through, besides its own; logarithmic units
        # have no scale and offset
        return "an unknown unit"


def _conversion(unit_text: str, unit: str, text: str) -> tuple[Decimal, Decimal]:
    found = _scale_and_offset(unit_text, unit)
    if isinstance(found, str):
        raise ConfigError(found, value=text, limit=_allowed(unit))
    return found
