"""What every effect is: a frozen configuration with a place in the order and a stream of draws of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from array_api_compat import array_namespace

from mdls_cosim.config import Config
from mdls_cosim.devices.base import BOLTZMANN, ROOM_TEMPERATURE, Array, exp
from mdls_cosim.devices.variability.randomness import Randomness

if TYPE_CHECKING:
    from mdls_cosim.devices.variability.population import Population


class Outcome(NamedTuple):
    """Conductances, and how many cells met with something on the way."""

    conductances: Array
    """[S], of the shape that was given."""
    counts: dict[str, int]
    """Cells by what happened to them; absent: it happened to none."""


@dataclass(frozen=True)
class Programming:
    """One write of an array."""

    span: tuple[float, float]
    """Least and largest conductance [S] that an unspoilt device shows."""
    cycles: Any
    """Switching cycles that the cells have behind them; a number, or an array of the cells' shape."""
    number: int
    """Which write it is: a spread that is drawn anew at every write depends on it."""
    population: Population | None = None
    """The devices in the cells; None where they are not known."""

    def held(self, conductances: Array, lowest: float, highest: float | None) -> Outcome:
        """`conductances` [S] within these bounds and those of the devices; cells beyond count once, as "clipped"."""
        xp = array_namespace(conductances)
        held = xp.clip(conductances, min=lowest, max=highest)
        if self.population is not None:
            held = self.population.held(held).conductances
        return Outcome(held, counted("clipped", held != conductances))


@dataclass(frozen=True)
class Reading:
    """One read of an array."""

    span: tuple[float, float]
    """Least and largest conductance [S]."""
    programmed: Array
    """What the cells held after the programming [S]."""
    time: float
    """Since the programming [s]."""
    temperature: float
    """[K]."""
    number: int | None
    """Which read it is: noise is drawn anew at every read; None: what reads scatter about."""
    population: Population | None = None
    """The devices in the cells; None where they are not known."""
    speed: Any = 1.0
    """Factor of the rate of the state: 1.0, or an array of the cells' shape."""


class Effect(Config, ABC):
    """Something that stands between a wished conductance and the one that a read finds."""

    stage: ClassVar[int]
    """Its place in the order of effects, whatever the order of the configuration."""
    single: ClassVar[bool] = False
    """True where two of the kind make no sense."""

    @property
    def stream_name(self) -> str:
        """Name of its draws: the kind of the effect."""
        return str(getattr(self, "effect", type(self).__name__))


class ProgrammingEffect(Effect):
    """An effect of writing."""

    @abstractmethod
    def program(self, conductances: Array, randomness: Randomness, programming: Programming) -> Outcome:
        """What becomes of `conductances` [S]."""


class ReadingEffect(Effect):
    """An effect of time or of reading."""

    @abstractmethod
    def read(self, conductances: Array, randomness: Randomness, reading: Reading) -> Array:
        """What becomes of `conductances` [S]; may be below zero, whoever composes the effects clips."""


def clipped(conductances: Array, lowest: float, highest: float | None, what: str) -> Outcome:
    """`conductances` held within bounds [S], and how many cells were not, under the name `what`."""
    xp = array_namespace(conductances)
    held = xp.clip(conductances, min=lowest, max=highest)
    return Outcome(held, counted(what, held != conductances))


def counted(what: str, cells: Array) -> dict[str, int]:
    """How many of `cells` (true or false) are true, under the name `what`; empty for none."""
    count = int(array_namespace(cells).count_nonzero(cells))
    return {what: count} if count else {}


def acceleration(activation_energy: float, temperature: float) -> float:
    """exp(-E_a/k (1/T - 1/300 K)): how much faster a process of E_a [J] runs at T [K] than at 300 K."""
    return exp(-activation_energy / BOLTZMANN * (1 / temperature - 1 / ROOM_TEMPERATURE))
