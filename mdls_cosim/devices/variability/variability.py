"""Effects together: what is programmed, and what a read finds later."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field, ModelWrapValidatorHandler, ValidationInfo, model_validator

from mdls_cosim.config import Config
from mdls_cosim.devices.base import ROOM_TEMPERATURE, Array, Device
from mdls_cosim.devices.parameter_files import read_parameter_file
from mdls_cosim.devices.variability.cycle_to_cycle import CycleToCycle
from mdls_cosim.devices.variability.device_to_device import CONDUCTANCE, DeviceToDevice
from mdls_cosim.devices.variability.drift import Drift
from mdls_cosim.devices.variability.effect import (
    Effect,
    Outcome,
    Programming,
    ProgrammingEffect,
    Reading,
    ReadingEffect,
    clipped,
)
from mdls_cosim.devices.variability.endurance import Endurance
from mdls_cosim.devices.variability.finite_states import FiniteStates
from mdls_cosim.devices.variability.own_motion import OwnMotion, OwnRetention, ReadDisturb
from mdls_cosim.devices.variability.population import Cells, Population
from mdls_cosim.devices.variability.programming_error import ProgrammingError
from mdls_cosim.devices.variability.randomness import Randomness, moved
from mdls_cosim.devices.variability.read_noise import ReadNoise
from mdls_cosim.devices.variability.retention import Retention
from mdls_cosim.devices.variability.stuck import Stuck
from mdls_cosim.devices.variability.telegraph import RandomTelegraphNoise
from mdls_cosim.errors import ConfigError, InputError

AnyEffect = Annotated[
    DeviceToDevice
    | CycleToCycle
    | FiniteStates
    | ProgrammingError
    | Endurance
    | Stuck
    | Drift
    | Retention
    | OwnRetention
    | ReadDisturb
    | RandomTelegraphNoise
    | ReadNoise,
    Field(discriminator="effect"),
]
"""Any effect, told apart in TOML by its `effect` key."""


WITHOUT_DEVICE = "without_device"
"""Cells whose device a spread of its parameters needs and does not know, in `Outcome.counts`."""
_FROM_SET = "_from_set"


class Variability(Config):
    """Spread and degradation of the cells of an array, from a seed.

    The order is fixed, whatever that of `effects`:

        programmed:  finite states, device-to-device, programming error, endurance, stuck cells
        at a time:   drift, retention, own retention, read disturb, telegraph noise, read noise, stuck cells as they are

    Rounding comes before the spread between devices, which it would swallow otherwise. Each effect draws from a stream
    of its own, named by its kind (and by the parameter that it spreads; by its place among those of the same name), so
    that adding or dropping another effect changes none of its draws. What belongs to a device is the same at every
    time, read and programming: its factors, whether it is stuck, its life, exponents, time constants and traps.

    In TOML the key `parameters` names a parameter set whose table [variability] gives effects; of effects of one name
    those in `effects` hold.
    """

    effects: tuple[AnyEffect, ...] = ()

    shorthands: ClassVar[tuple[str, ...]] = ("parameters",)

    @model_validator(mode="wrap")
    @classmethod
    def _read_parameters(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not (isinstance(data, Mapping) and "parameters" in data):
            return handler(data)
        own = handler({name: value for name, value in data.items() if name != "parameters"})
        named = {effect.stream_name for effect in own.effects}
        of_set = cls.from_parameters(data["parameters"], (info.context or {}).get("folder", "")).effects
        kept = [effect for effect in of_set if effect.stream_name not in named]
        # In place: `handler` has filled the object that is being constructed.
        object.__setattr__(own, "effects", (*kept, *own.effects))
        object.__setattr__(own, _FROM_SET, frozenset(effect.stream_name for effect in kept))
        return own

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = Counter(effect.stream_name for effect in self.effects if effect.single or _by_name(effect))
        for name, count in names.items():
            if count > 1:
                raise ConfigError("two effects of one kind", where="effects", value=name, limit="one")
        return self

    @classmethod
    def from_parameters(cls, name: str, folder: str = "") -> Self:
        """The table [variability] of a parameter set; as `Variability(parameters=name)`.

        Args:
            name: of a set that comes with the package, or the path of a TOML file.
            folder: where relative paths begin; the working folder if empty.

        Raises:
            ConfigError: there is no such set, or it has no such table.
        """
        table = read_parameter_file(name, folder).get("variability")
        if not isinstance(table, dict):
            raise ConfigError(
                "a parameter set without a table [variability]",
                where=name,
                hint="Sets of the package that have one are listed in docs/variability.md",
            )
        return cls.of_set(table, name, folder)

    @classmethod
    def of_set(cls, table: Mapping[str, Any], name: str, folder: str = "") -> Self:
        """The effects of `table`, the table [variability] of the parameter set `name`.

        Args:
            folder: where relative paths in it begin.

        Raises:
            ConfigError: a field is impossible.
        """
        found = cls.from_text_dict(table, f"{name}: variability", folder)
        object.__setattr__(found, _FROM_SET, frozenset(effect.stream_name for effect in found.effects))
        return found

    def lenient(self) -> Self:
        """The same effects as if they came from a parameter set: where one cannot act it is left out, not refused."""
        found = type(self)(effects=self.effects)
        object.__setattr__(found, _FROM_SET, frozenset(effect.stream_name for effect in self.effects))
        return found

    @property
    def from_set(self) -> frozenset[str]:
        """Names (`stream_name`) of the effects that come from a parameter set, not from the configuration itself."""
        return self.__dict__.get(_FROM_SET, frozenset())

    def programmed(
        self,
        targets: Array,
        span: tuple[float, float],
        seed: int,
        cycles: Any = 0,
        programming: int = 0,
        cells: Cells | None = None,
    ) -> Outcome:
        """The conductances [S] that cells hold after being programmed to `targets` [S] (*shape).

        With `cells` every draw is held within the range of the device in its cell; cells that it would have left are
        counted as "clipped". A spread of a device parameter is that of a write without verify: the state is chosen for
        the nominal device, the conductance is that of the actual one (`Population.open_loop`).

        Args:
            targets: of any shape; numpy or torch, float32 or float64.
            span: least and largest conductance [S] of an unspoilt device, as `Device.conductance_range` gives it.
            seed: of the chip; the same for `at`.
            cycles: switching cycles before this one, a number or an array of the targets' shape (`Endurance`).
            programming: which write of this chip it is; another number redraws the programming error alone.
            cells: the device in the cells; None: conductances without a device, any that are not negative. A spread
                of a device parameter then has nothing to act on, and all cells are counted as "without_device".

        Raises:
            InputError: targets that are negative, no floating-point numbers, or of no state of the device; an
                impossible span, count or seed.
        """
        _check_conductances(targets, "targets")
        _check_span(span)
        if not np.all(np.asarray(cycles) >= 0):
            raise InputError("cycles that are negative or no number", where="cycles", value=cycles, limit="at least 0")
        if cells is not None:
            cells.device.check_range(targets, cells.reference_voltage)
        population = self.population(cells, tuple(targets.shape), seed, targets)
        write = Programming(span, cycles, programming, population)
        found, counts = targets, Counter[str]()
        opened = False
        for effect, randomness in self._streams(seed):
            if population is not None and effect.stage >= DeviceToDevice.stage and not opened:
                found, opened = population.open_loop(found).conductances, True
            if isinstance(effect, ProgrammingEffect) and getattr(effect, "parameter", CONDUCTANCE) == CONDUCTANCE:
                found, more = effect.program(found, randomness, write)
                counts.update(more)
        if population is not None:
            found, more = population.held(found)
            counts.update(more)
        elif self._spread_parameters:
            counts[WITHOUT_DEVICE] = math.prod(targets.shape)
        return Outcome(found, dict(counts))

    def at(
        self,
        conductances: Array,
        span: tuple[float, float],
        seed: int,
        time: float = 0.0,
        temperature: float = ROOM_TEMPERATURE,
        read: int | None = 0,
        cells: Cells | None = None,
    ) -> Outcome:
        """What a read finds [S] of `conductances` [S] (*shape), those that `programmed` returned.

        Args:
            conductances: right after the programming.
            span: the one of `programmed`.
            seed: the one of `programmed`.
            time: since the programming [s].
            temperature: since the programming [K].
            read: which read at this time it is; another number redraws the read noise alone; None: without read noise.
            cells: the one of `programmed`.

        No conductance is negative, or beyond the range of the device in its cell where `cells` says which that is:
        those that drift or noise would have made so are held there and counted, "clipped".

        Raises:
            InputError: conductances that are negative or no floating-point numbers; an impossible time or temperature.
            ConfigError: a motion of the state without `cells`.
        """
        population = self.population(cells, tuple(conductances.shape), seed, conductances)
        speed: Any = 1.0
        if any(isinstance(effect, CycleToCycle) for effect in self.effects) and any(
            isinstance(effect, OwnMotion) for effect in self.effects
        ):
            speed = self.factors(tuple(conductances.shape), seed, like=conductances)
        reading = replace(_reading(conductances, span, time, temperature, read), population=population, speed=speed)
        found = conductances
        for effect, randomness in self._streams(seed):
            if isinstance(effect, ReadingEffect):
                found = effect.read(found, randomness, reading)
        found, counts = clipped(found, 0.0, None, "clipped") if population is None else population.held(found)
        for effect, randomness in self._streams(seed):
            if isinstance(effect, Stuck):
                found, more = effect.hold(found, randomness, span)
                counts = counts | more
        if population is not None:  # shorts and opens beyond what the device can show were counted at the programming
            found = population.held(found).conductances
        return Outcome(found, counts)

    def scatter(
        self,
        conductances: Array,
        span: tuple[float, float],
        seed: int,
        time: float = 0.0,
        temperature: float = ROOM_TEMPERATURE,
        cells: Cells | None = None,
    ) -> Array:
        """Standard deviation [S] of every cell from one read to the next, about what `at` finds with read=None.

        Arguments and errors of `at`. That noise is held above 0 S is left out.
        """
        about = self.at(conductances, span, seed, time, temperature, None, cells).conductances
        reading, variance = _reading(conductances, span, time, temperature, None), 0.0 * conductances
        for effect in self.effects:
            if isinstance(effect, ReadNoise):
                variance = variance + effect.variance(about, reading)
        for effect, randomness in self._streams(seed):
            if isinstance(effect, Stuck):
                off, on = effect.cells(variance, randomness)
                variance = array_namespace(variance).where(off | on, 0.0 * variance, variance)
        return variance**0.5

    def population(
        self, cells: Cells | None, shape: tuple[int, ...], seed: int, like: Array | None = None
    ) -> Population | None:
        """The devices of cells (*shape), their parameters drawn; None without `cells`.

        Raises:
            InputError: the device has no such parameter, or it is no number.
        """
        if cells is None:
            return None
        return Population(cells, self.parameters(cells.device, shape, seed, like) if self._spread_parameters else {})

    @property
    def _spread_parameters(self) -> list[str]:
        return [
            effect.parameter
            for effect in self.effects
            if isinstance(effect, DeviceToDevice) and effect.parameter != CONDUCTANCE
        ]

    def parameters(
        self, device: Device, shape: tuple[int, ...], seed: int, like: Array | None = None
    ) -> dict[str, Array]:
        """Arrays (*shape) of the device's parameters that spread, for `device.varied`; where `like` lives.

        Raises:
            InputError: the device has no such parameter, or it is no number.
        """
        spread = {
            effect.parameter: (effect, randomness)
            for effect, randomness in self._streams(seed)
            if isinstance(effect, DeviceToDevice) and effect.parameter != CONDUCTANCE
        }
        device.varied(dict.fromkeys(spread))  # refuses names that it does not have
        return {
            name: _placed(getattr(device, name) * effect.factors(randomness, shape), like)
            for name, (effect, randomness) in spread.items()
        }

    def factors(
        self,
        shape: tuple[int, ...],
        seed: int,
        cycle: int = 0,
        quantity: Literal["speed", "step"] = "speed",
        like: Array | None = None,
    ) -> Array:
        """Factors (*shape) of the cells' speed, or step, in cycle number `cycle`; ones without such an effect."""
        product = np.ones(shape)
        for effect, randomness in self._streams(seed):
            if isinstance(effect, CycleToCycle) and effect.quantity == quantity:
                product = product * effect.factors(randomness, shape, cycle)
        return _placed(product, like)

    def _streams(self, seed: int) -> Iterator[tuple[Effect, Randomness]]:
        """The effects in their order, each with its own draws."""
        root, seen = Randomness(seed), Counter[str]()
        for effect in sorted(self.effects, key=lambda own: own.stage):
            yield effect, root.stream(effect.stream_name, seen[effect.stream_name])
            seen[effect.stream_name] += 1


def _by_name(effect: Effect) -> bool:
    """Whether its name says all of its draws, so that a second one of the name would be the same thing twice."""
    return isinstance(effect, DeviceToDevice | CycleToCycle)


def _placed(values: np.ndarray, like: Array | None) -> Array:
    return values if like is None else moved(values, like)


def _check_conductances(conductances: Array, where: str) -> None:
    xp = array_namespace(conductances)
    if not xp.isdtype(conductances.dtype, "real floating"):
        raise InputError("conductances that are no floating-point numbers", where=where, value=str(conductances.dtype))
    if not bool(xp.all((conductances >= 0) & xp.isfinite(conductances))):
        raise InputError("impossible conductances", where=where, limit="finite, at least 0 S")


def _reading(
    conductances: Array, span: tuple[float, float], time: float, temperature: float, number: int | None
) -> Reading:
    _check_conductances(conductances, "conductances")
    _check_span(span)
    if not (math.isfinite(time) and time >= 0):
        raise InputError("an impossible time", where="time", value=time, limit="at least 0 s")
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError("an impossible temperature", where="temperature", value=temperature, limit="above 0 K")
    return Reading(span, conductances, time, temperature, number)


def _check_span(span: tuple[float, float]) -> None:
    lowest, highest = span
    if not 0 <= lowest <= highest < math.inf:
        raise InputError("an impossible span", where="span", value=span, limit="0 S <= lowest <= highest, finite")
