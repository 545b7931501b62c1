"""What every device is: equations, parameters, and the name of its SPICE twin."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj
from pydantic import (
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from mdls_cosim.config import Config
from mdls_cosim.devices.parameter_files import read_origin, read_parameters
from mdls_cosim.devices.validity import ParameterOrigin
from mdls_cosim.errors import ConfigError, InputError
from mdls_cosim.quantities import Energy

Array = Any  # any array of the array API standard: numpy, torch

ROOM_TEMPERATURE = 300.0
"""Where parameters hold [K]."""

BOLTZMANN = 1.380649e-23
"""k [J/K], exact in the SI."""

_ORIGIN = "_origin"

_NUMPY = array_namespace(np.zeros(0))
_OF_NUMPY = (np.ndarray, np.generic, float, int)


def namespace(*values: Array) -> Any:
    """The array namespace of those that are arrays; numpy's where all are numbers."""
    # Numpy's own are told by a look: a calibration asks a million times, of small arrays.
    if all(isinstance(value, _OF_NUMPY) for value in values):
        return _NUMPY
    return array_namespace(*(value for value in values if not isinstance(value, float | int)))


def arrays(*values: Array) -> tuple[Array, ...]:
    """`values`, the numbers among them as arrays like the first array; float64 of numpy where all are numbers."""
    xp = namespace(*values)
    dtype = next((value.dtype for value in values if not isinstance(value, float | int)), xp.float64)
    return tuple(xp.asarray(value, dtype=dtype) if isinstance(value, float | int) else value for value in values)


def exp(value: Array) -> Array:
    """e^value of a number or an array: parameters may be either."""
    return math.exp(value) if isinstance(value, float | int) else namespace(value).exp(value)


def log(value: Array) -> Array:
    """The natural logarithm of a number or an array: parameters may be either."""
    return math.log(value) if isinstance(value, float | int) else namespace(value).log(value)


class Device(Config, ABC):
    """A two-terminal device: static equations written once against the array API standard.

    A Device holds scalar nominal parameters. State and, in a population (`varied`), parameters are arrays, so one
    object describes a million devices. Currents are positive from the first pin to the second.

    In TOML the key `parameters` names a parameter set (`calibration/NAME.toml`, or a file of one's own beside the
    TOML): its values hold where no key says otherwise.
    """

    activation_energy: Energy = 0.0
    """E_a of the conduction [J], in text "0.1 eV": at T the current is multiplied by exp(-E_a/k (1/T - 1/300 K)),
    thermally activated hopping. 0 eV: temperature has no effect on it."""
    reversed: bool = False
    """Mounted the other way round: the model's second pin is the first here, so that I(V) becomes -I(-V), and the
    voltages that raise and lower the conductance change their signs."""

    shorthands: ClassVar[tuple[str, ...]] = ("parameters", "origin")

    spice_model: ClassVar[str]
    """Name of the `.sub` file in `spice_models/` that holds the SPICE twin."""

    linear: ClassVar[bool] = False
    """True where the current is proportional to the voltage at every state."""

    thermal: ClassVar[bool] = False
    """True where the equations have a temperature of their own, besides `activation_energy`."""

    @property
    def kind(self) -> str:
        """Name of the model, as in TOML."""
        return str(getattr(self, "model", self.spice_model))

    def current(self, voltage: Array, state: Array, temperature: float = ROOM_TEMPERATURE) -> Array:
        """Static current [A] at `voltage` [V], `state` and `temperature` [K]; the arguments broadcast."""
        forward = self._current(self._own(voltage), state, temperature)
        return -forward if self.reversed else forward

    def conductance(self, state: Array, reference_voltage: float = 0.0) -> Array:
        """I/V [S] at `reference_voltage` [V] and 300 K; 0 V is the small-signal limit."""
        return self._conductance(state, self._own(reference_voltage))

    def state_for(self, conductance: Array, reference_voltage: float = 0.0) -> Array:
        """The exact inverse of `conductance`: the state whose I/V at `reference_voltage` is `conductance` [S]."""
        return self._state_for(conductance, self._own(reference_voltage))

    def conductance_range(self, reference_voltage: float = 0.0) -> tuple[float, float]:
        """Least and largest I/V [S] at `reference_voltage` [V] that a state of this device shows."""
        return self._conductance_range(self._own(reference_voltage))

    # What a model writes down: its equations, `voltage` being the one from its own first pin to its second.

    @abstractmethod
    def _current(self, voltage: Array, state: Array, temperature: float) -> Array: ...

    @abstractmethod
    def _conductance(self, state: Array, reference_voltage: float) -> Array: ...

    @abstractmethod
    def _state_for(self, conductance: Array, reference_voltage: float) -> Array: ...

    def _conductance_range(self, reference_voltage: float) -> tuple[float, float]:
        return 0.0, math.inf

    def _own(self, voltage: Array) -> Array:
        """The voltage [V] from the model's first pin to its second, as the device is mounted."""
        return -voltage if self.reversed else voltage

    def check_range(self, conductances: Array, reference_voltage: float = 0.0) -> None:
        """Refuses conductances that no state of this device shows, beyond rounding.

        Raises:
            InputError: naming the first of them and the range.
        """
        lowest, highest = self.conductance_range(reference_voltage)
        xp = array_namespace(conductances)
        conductances = xp.reshape(conductances, (1,)) if conductances.ndim == 0 else conductances
        rounding = max(1e-9, 4 * float(xp.finfo(conductances.dtype).eps))
        # So that what is no number is outside too.
        outside = ~((conductances >= lowest * (1 - rounding)) & (conductances <= highest * (1 + rounding)))
        if not bool(xp.any(outside)):
            return
        first = tuple(int(index[0]) for index in xp.nonzero(outside))
        raise InputError(
            f"{int(xp.sum(xp.astype(outside, xp.int64)))} conductances that no state of {self.kind} has",
            where=f"row {first[-2]}, column {first[-1]}" if len(first) > 1 else f"index {first}",
            value=f"{float(conductances[first]):.6g} S",
            limit=f"{lowest:.6g} to {highest:.6g} S",
            hint="Change conductance_range, or the parameters of the device.",
        )

    def _require_rise(self, lower: str, higher: str, unit: str) -> None:
        """ConfigError unless the parameter `higher` exceeds `lower`, both in `unit`; for validators."""
        low, high = getattr(self, lower), getattr(self, higher)
        if high <= low:
            raise ConfigError(
                "an impossible value",
                where=higher,
                value=f"{high:g} {unit}",
                limit=f"above {lower}, {low:g} {unit}",
            )

    @abstractmethod
    def spice_parameters(self, state: Array, temperature: float = ROOM_TEMPERATURE) -> dict[str, Any]:
        """Parameters of the SPICE twin for devices in `state`: a number where all share it, else an array of its shape.

        The state of a DynamicDevice is the voltage of the twin's third pin, and no parameter.
        """

    def varied(self, parameters: Mapping[str, Array]) -> Self:
        """A population: this device with arrays in place of some parameters; they broadcast with voltage and state.

        The equations hold element by element. Such an object serves `current`, `conductance`, `state_for` and
        `state_rate`; it is no configuration any more (no file, no SPICE twin), and its values are not checked.

        Raises:
            InputError: the device has no such parameter, or it is a choice or a whole number.
        """
        own = {name: getattr(self, name) for name in type(self).model_fields}
        numbers = [name for name, value in own.items() if isinstance(value, float) or is_array_api_obj(value)]
        for name in parameters:
            if name not in numbers:
                raise InputError(
                    f"{type(self).__name__} has no such parameter to vary", value=name, limit=", ".join(numbers)
                )
        return type(self).model_construct(**{**own, **parameters})

    def replace(self, **changes: Any) -> Self:
        if "parameters" in changes:
            raise ConfigError(
                "a parameter set fills a new device and changes none",
                where="parameters",
                value=changes["parameters"],
                hint=f"{type(self).__name__}(parameters=..., ...) makes one, with whatever is to differ from the set.",
            )
        changed = super().replace(**changes)
        if self.origin is None:
            return changed
        other = {name: None for name in changes if getattr(self, name) != getattr(changed, name)}
        return changed.with_origin(self.origin.with_changed(other))

    def thermal_factor(self, temperature: float) -> Array:
        """exp(-E_a/k (1/T - 1/300 K)), of the current at `temperature` [K]."""
        return exp(-self.activation_energy / BOLTZMANN * (1 / temperature - 1 / ROOM_TEMPERATURE))

    def activated(self, current: Array, temperature: float) -> Array:
        """`current` [A] at 300 K, as it is at `temperature` [K]."""
        return current if temperature == ROOM_TEMPERATURE else self.thermal_factor(temperature) * current

    @property
    def origin(self) -> ParameterOrigin | None:
        """The parameter set that this device was made of, with its error and its validity; None where it names none.

        A copy with changes (`replace`) has it too, with the names of what was changed. Not a field: devices of equal
        parameters are equal. Stored configurations hold it under the key "origin".
        """
        return self.__dict__.get(_ORIGIN)

    def with_origin(self, origin: ParameterOrigin | None) -> Self:
        """A copy of this device that is that of a parameter set, or of none."""
        copied = self.model_copy()
        if self.origin is not None:
            object.__delattr__(copied, _ORIGIN)
        if origin is not None:
            object.__setattr__(copied, _ORIGIN, origin)
        return copied

    @model_validator(mode="wrap")
    @classmethod
    def _keep_origin(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(data, Mapping) or not ("parameters" in data or "origin" in data):
            return handler(data)
        stored = data.get("origin")
        device = handler({name: value for name, value in data.items() if name != "origin"})
        if "parameters" in data:
            folder = (info.context or {}).get("folder", "")
            origin = read_origin(data["parameters"], folder)
            table = cls.from_text_dict(read_parameters(data["parameters"], folder))
            given = [name for name in data if name in cls.model_fields]
            other = {name: None for name in given if getattr(device, name) != getattr(table, name)}
            object.__setattr__(device, _ORIGIN, origin.with_changed(other))
        elif stored is not None:
            origin = stored if isinstance(stored, ParameterOrigin) else ParameterOrigin.model_validate(dict(stored))
            object.__setattr__(device, _ORIGIN, origin)
        return device

    def extra_description(self) -> dict[str, Any]:
        """The name of the parameter set that the device was made of."""
        return {} if self.origin is None else {"parameter set": self.origin.name}

    @model_serializer(mode="wrap")
    def _write_origin(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = handler(self)
        return written if self.origin is None else {**written, "origin": self.origin.as_dict()}

    @model_validator(mode="before")
    @classmethod
    def _read_parameters(cls, data: Any, info: ValidationInfo) -> Any:
        if not (isinstance(data, Mapping) and "parameters" in data):
            return data
        given = dict(data)
        name = given.pop("parameters")
        table = read_parameters(name, (info.context or {}).get("folder", ""))
        model = cls.model_fields["model"].default
        if table.get("model") != model:
            raise ConfigError(
                f"parameters of another model in {name}",
                where="parameters",
                value=table.get("model", "no model"),
                limit=model,
            )
        try:
            cls.from_text_dict(table)
        except ConfigError as error:
            raise ConfigError(
                f"{error.what} in the parameter set {name}",
                where=f"parameters.{error.where}",
                value=error.value,
                limit=error.limit,
                hint=error.hint,
            ) from None
        return table | given


class DynamicDevice(Device):
    """A device whose state moves under voltage: dx/dt = rate(V, x), x dimensionless within 0 - 1.

    Its SPICE twin has a parameter `speed`, a factor of the rate, and a third pin at the voltage x; the current that the
    twin drives into that pin is 1 nA for a dx/dt of 1/s. Whoever builds the circuit holds the state there by a voltage
    source (a read at a frozen state), or lets it move by a capacitor of 1 nF from the pin to ground, its `ic=` the
    first state.
    """

    @property
    def raising_sign(self) -> int:
        """Sign of the voltage that raises the conductance: 1 or -1."""
        return -self._raising_sign if self.reversed else self._raising_sign

    def state_rate(self, voltage: Array, state: Array, temperature: float = ROOM_TEMPERATURE) -> Array:
        """dx/dt [1/s] at `voltage` [V], `state` and `temperature` [K]; the arguments broadcast.

        Never leads out of 0 - 1: at 0 it is zero or positive, at 1 zero or negative.
        """
        return self._state_rate(self._own(voltage), state, temperature)

    def state_after(
        self, voltage: Array, state: Array, duration: Array, temperature: float = ROOM_TEMPERATURE
    ) -> Array | None:
        """The state after `duration` [s] at constant `voltage`, where the rate equation has a closed solution.

        None where it has none: `devices.evolve` integrates it.
        """
        return self._state_after(self._own(voltage), state, duration, temperature)

    @property
    @abstractmethod
    def _raising_sign(self) -> int: ...

    @abstractmethod
    def _state_rate(self, voltage: Array, state: Array, temperature: float) -> Array: ...

    def _state_after(self, voltage: Array, state: Array, duration: Array, temperature: float) -> Array | None:
        return None

    def _conductance_range(self, reference_voltage: float) -> tuple[float, float]:
        ends = [float(self._conductance(np.asarray(end), reference_voltage)) for end in (0.0, 1.0)]
        return min(ends), max(ends)
